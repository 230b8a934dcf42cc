//! The `vcpu_info` structure that guest and X-Kernel share: event mask and pending bits, CR2, time.
//!
//! Every access is a single volatile or atomic operation through a frame window: the guest, or another vCPU of
//! it, may write the same bytes at any moment, and nothing read here is trusted beyond its own meaning.

use core::sync::atomic::Ordering;

use pv_core::frame::Mfn;
use xen_abi::shared_info::{VcpuInfo, VcpuTimeInfo, XEN_PVCLOCK_TSC_STABLE_BIT, vcpu_info_offset as offset};

use crate::arch::x86_64::{tlb, tsc};
use crate::domain::vcpu::Vcpu;
use crate::mm::guest_access::{self, GuestPtr};
use crate::mm::window::FrameWindow;

/// Bytes of `struct vcpu_info`.
pub const SIZE: usize = size_of::<VcpuInfo>();

/// The frame that holds the structure, and where in it `field` is.
fn place(vcpu: &Vcpu, field: usize) -> Option<(FrameWindow, usize)> {
    let maddr = vcpu.info_maddr.load(Ordering::Acquire);
    let window = FrameWindow::new(Mfn::new(maddr >> 12)?)?;
    Some((window, ((maddr & 0xfff) as usize).checked_add(field)?))
}

/// Whether events are masked: the guest's byte. If `mask`, they are from now on.
pub fn upcall_mask(vcpu: &Vcpu, mask: bool) -> u8 {
    let Some((window, at)) = place(vcpu, offset::UPCALL_MASK) else { return 0 };
    let before = window.read_u8(at);
    if mask && before == 0 {
        window.write_u8(at, 1);
    }
    before
}

/// Sets the event mask.
pub fn set_upcall_mask(vcpu: &Vcpu, value: u8) {
    if let Some((w, at)) = place(vcpu, offset::UPCALL_MASK) {
        w.write_u8(at, value);
    }
}

/// Whether an event waits and is not masked.
pub fn upcall_due(vcpu: &Vcpu) -> bool {
    place(vcpu, 0).is_some_and(|(w, at)| {
        let byte = |field: usize| w.read_u8(at.wrapping_add(field));
        byte(offset::UPCALL_PENDING) != 0 && byte(offset::UPCALL_MASK) == 0
    })
}

/// Whether an event waits, masked or not.
pub fn upcall_pending(vcpu: &Vcpu) -> bool {
    place(vcpu, offset::UPCALL_PENDING).is_some_and(|(w, at)| w.read_u8(at) != 0)
}

/// Sets the upcall flag; returns whether it was set before.
pub fn test_and_set_upcall_pending(vcpu: &Vcpu) -> bool {
    place(vcpu, offset::UPCALL_PENDING).is_some_and(|(w, at)| w.swap_u8(at, 1) != 0)
}

/// Sets selector bit `word`; returns whether it was set before.
pub fn test_and_set_selector(vcpu: &Vcpu, word: u32) -> bool {
    place(vcpu, offset::PENDING_SEL).is_some_and(|(w, at)| w.test_and_set_bit(at, word & 63))
}

/// The address of the last page fault, for the guest.
pub fn cr2(vcpu: &Vcpu) -> u64 {
    place(vcpu, offset::CR2).map_or(0, |(w, at)| w.read_u64_at(at))
}

/// Stores the address of a page fault.
pub fn set_cr2(vcpu: &Vcpu, value: u64) {
    if let Some((w, at)) = place(vcpu, offset::CR2) {
        w.write_u64_at(at, value);
    }
}

/// The time: system time at a TSC value, and the TSC's scale.
fn time(version: u32) -> VcpuTimeInfo {
    let (tsc_timestamp, system_time) = tsc::now_pair();
    let (tsc_to_system_mul, tsc_shift) = tsc::scale();
    // Where one CPU runs all guests, whoever computes the time from any of these finds the same.
    let flags = if tlb::online_mask().iter().count() == 1 { XEN_PVCLOCK_TSC_STABLE_BIT } else { 0 };
    VcpuTimeInfo { version, tsc_timestamp, system_time, tsc_to_system_mul, tsc_shift, flags, ..VcpuTimeInfo::default() }
}

/// Writes the time to a place of the guest's own. Once is enough: the scale never changes, so a later pair of TSC and
/// system time would say the same.
///
/// # Errors
/// [`guest_access::Fault`] if the place cannot be written.
pub fn write_time(area: u64) -> Result<(), guest_access::Fault> {
    GuestPtr::<VcpuTimeInfo>::new(area).write(&time(0))
}

/// Publishes the time. The version is odd while it changes.
pub fn update_time(vcpu: &Vcpu) {
    let Some((w, version_at)) = place(vcpu, offset::TIME_VERSION) else { return };
    let version = w.read_u32(version_at) | 1;
    w.write_u32(version_at, version);
    core::sync::atomic::fence(Ordering::SeqCst);
    let info = time(version);
    // The version stands first and is written by itself.
    let (_, rest) = zerocopy::IntoBytes::as_bytes(&info).split_at(const { size_of::<u32>() });
    w.copy_out(version_at.saturating_add(const { size_of::<u32>() }), rest);
    core::sync::atomic::fence(Ordering::SeqCst);
    w.write_u32(version_at, version.wrapping_add(1));
}
