//! Exception tables and descriptor tables: set_trap_table, set_gdt, update_descriptor, the LDT.
//!
//! Descriptor frames are typed: while a frame serves as GDT or LDT no mapping of it is writable, so what was
//! checked stays true. Answers to Xen's pv/descriptor-tables.c.

use alloc::sync::Arc;

use pv_core::descriptor::descriptor_allowed;
use pv_core::frame::{self, FrameKind, Mfn};
use xen_abi::arch_x86::{TrapInfo, trap_info_dpl, trap_info_masks_events};
use xen_abi::errno::Errno;

use super::hypercall::{Args, HcCx, HcResult, OK, Outcome};
use crate::arch::x86_64::context;
use crate::domain::Domain;
use crate::domain::vcpu::{GDT_FRAMES, MAX_GDT_ENTRIES, TrapGate, Vcpu, VcpuState};
use crate::mm::layout::{self, is_canonical};
use crate::mm::machine::machine;
use crate::mm::window::FrameWindow;
use crate::sched;

/// Descriptors in a frame.
const PER_FRAME: u32 = 512;
/// The most entries of an LDT.
const MAX_LDT_ENTRIES: u32 = 8192;

/// `set_trap_table(table)`: entries up to one with address 0; a null table clears all.
///
/// # Errors
/// `-EFAULT`, `-EINVAL` for a non-canonical handler (XSA-7).
pub fn set_trap_table(cx: &mut HcCx<'_>, args: &mut Args) -> HcResult {
    let mut table = args.ptr::<TrapInfo, 0>();
    if table.raw() == 0 {
        cx.state.traps.fill(TrapGate::default());
        return OK;
    }
    // A table cannot name a vector twice to any effect, so 257 entries are more than any guest needs.
    for _ in 0..=256 {
        if sched::preempt_pending() {
            args.set::<0>(table.raw());
            return Ok(Outcome::Preempted);
        }
        let info = table.read()?;
        if info.address == 0 {
            return OK;
        }
        set_trap(cx.state, &info)?;
        table = table.add(1)?;
    }
    Err(Errno::EINVAL)
}

/// Registers one handler.
///
/// # Errors
/// `-EINVAL` for a non-canonical address.
pub fn set_trap(state: &mut VcpuState, info: &TrapInfo) -> Result<(), Errno> {
    if !is_canonical(info.address) {
        return Err(Errno::EINVAL);
    }
    let gate = state.traps.get_mut(usize::from(info.vector)).ok_or(Errno::EINVAL)?;
    *gate = TrapGate { address: info.address, dpl: trap_info_dpl(info), masks_events: trap_info_masks_events(info) };
    Ok(())
}

/// `set_gdt(frames, entries)`.
///
/// # Errors
/// `-EINVAL` for too many entries or a frame that is not this domain's or holds a descriptor that it may not
/// have; the old table stays then. `-EFAULT`.
pub fn set_gdt(cx: &mut HcCx<'_>, args: &mut Args) -> HcResult {
    let (list, entries) = (args.ptr::<u64, 0>(), args.u32::<1>());
    if entries > MAX_GDT_ENTRIES {
        return Err(Errno::EINVAL);
    }
    let frames = entries.div_ceil(PER_FRAME);
    let mut mfns = [None; GDT_FRAMES];
    for (i, slot) in (0..frames).zip(mfns.iter_mut()) {
        *slot = Some(Mfn::new(list.add(u64::from(i))?.read()?).ok_or(Errno::EINVAL)?);
    }
    install_gdt(cx.domain, cx.vcpu, cx.state, mfns, entries)?;
    context::load_descriptor_tables(cx.vcpu.id, cx.state);
    OK
}

/// Takes the frames as descriptor frames and maps them as the vCPU's GDT; the old ones are given back.
///
/// # Errors
/// `-EINVAL`; nothing has changed then.
pub fn install_gdt(
    domain: &Arc<Domain>,
    vcpu: &Vcpu,
    state: &mut VcpuState,
    mfns: [Option<Mfn>; GDT_FRAMES],
    entries: u32,
) -> Result<(), Errno> {
    let _mm = domain.mm.lock();
    for (taken, mfn) in mfns.iter().flatten().enumerate() {
        if frame::get_typed(machine(), *mfn, domain.id, FrameKind::SegDesc).is_err() {
            for back in mfns.iter().flatten().take(taken) {
                frame::put_typed(machine(), *back);
            }
            return Err(Errno::EINVAL);
        }
    }
    release_gdt(domain, vcpu, state);
    let area = domain.area.lock();
    for (page, mfn) in (0u64..).zip(mfns.iter()) {
        if let Some(mfn) = mfn {
            area.map_page(layout::guest_gdt_page(vcpu.id, page), *mfn, true);
        }
    }
    state.gdt = mfns;
    state.gdt_entries = entries;
    Ok(())
}

/// Unmaps the vCPU's GDT and gives its frames back. The caller holds the domain's mm lock.
pub fn release_gdt(domain: &Arc<Domain>, vcpu: &Vcpu, state: &mut VcpuState) {
    let old = core::mem::replace(&mut state.gdt, [None; GDT_FRAMES]);
    state.gdt_entries = 0;
    {
        let area = domain.area.lock();
        for (page, mfn) in (0u64..).zip(old.iter()) {
            if mfn.is_some() {
                area.unmap_page(layout::guest_gdt_page(vcpu.id, page));
            }
        }
    }
    // The frames may become writable once the counts are gone, so no CPU may keep the old translation.
    crate::mm::machine::flush_domain(domain);
    for mfn in old.into_iter().flatten() {
        frame::put_typed(machine(), mfn);
    }
}

/// Installs the LDT at linear address `base` with `entries` entries (MMUEXT_SET_LDT).
///
/// # Errors
/// `-EINVAL` for a bad address or size.
pub fn set_ldt(domain: &Arc<Domain>, vcpu: &Vcpu, state: &mut VcpuState, base: u64, entries: u64) -> Result<(), Errno> {
    let entries = u32::try_from(entries).ok().filter(|&n| n <= MAX_LDT_ENTRIES).ok_or(Errno::EINVAL)?;
    let bytes = u64::from(entries) * 8;
    let last = base.checked_add(bytes).ok_or(Errno::EINVAL)?;
    if base & 0xfff != 0 || (entries != 0 && !(layout::is_guest_address(base) && layout::is_guest_address(last.wrapping_sub(1)))) {
        return Err(Errno::EINVAL);
    }
    let _mm = domain.mm.lock();
    release_ldt(domain, vcpu, state);
    state.ldt_base = base;
    state.ldt_entries = entries;
    let root = state.kernel_root;
    for (page, slot) in (0..u64::from(entries.div_ceil(PER_FRAME))).zip(state.ldt.iter_mut()) {
        // A page that is missing or not fit for descriptors stays unmapped: its selectors fault.
        let entry = root.and_then(|root| super::mmu::walk(root, base.saturating_add(page << layout::FRAME_SHIFT)));
        let Some(mfn) = entry.filter(|e| e & 1 != 0).and_then(|e| Mfn::new((e >> 12) & 0xff_ffff_ffff)) else { continue };
        if frame::get_typed(machine(), mfn, domain.id, FrameKind::SegDesc).is_ok() {
            domain.area.lock().map_page(layout::guest_ldt_page(vcpu.id, page), mfn, true);
            *slot = Some(mfn);
        }
    }
    context::load_descriptor_tables(vcpu.id, state);
    Ok(())
}

/// Unmaps the vCPU's LDT and gives its frames back. The caller holds the domain's mm lock.
pub fn release_ldt(domain: &Arc<Domain>, vcpu: &Vcpu, state: &mut VcpuState) {
    state.ldt_entries = 0;
    let old = core::mem::take(&mut state.ldt);
    if old.iter().all(Option::is_none) {
        return;
    }
    {
        let area = domain.area.lock();
        for (page, mfn) in (0u64..).zip(old.iter()) {
            if mfn.is_some() {
                area.unmap_page(layout::guest_ldt_page(vcpu.id, page));
            }
        }
    }
    crate::mm::machine::flush_domain(domain);
    for mfn in old.into_iter().flatten() {
        frame::put_typed(machine(), mfn);
    }
}

/// `update_descriptor(maddr, descriptor)`: writes one descriptor, checked, into one of the domain's frames.
///
/// # Errors
/// `-EINVAL` for a misaligned address, a frame that is not the domain's or serves as a page table, or a
/// descriptor that a guest may not have.
pub fn update_descriptor(cx: &mut HcCx<'_>, args: &mut Args) -> HcResult {
    let (maddr, descriptor) = (args.u64::<0>(), args.u64::<1>());
    let offset = (maddr & 0xfff) as usize;
    let mfn = Mfn::new(maddr >> 12).ok_or(Errno::EINVAL)?;
    let checked = descriptor_allowed(descriptor).ok_or(Errno::EINVAL)?;
    if !offset.is_multiple_of(8) {
        return Err(Errno::EINVAL);
    }
    let _mm = cx.domain.mm.lock();
    // As a descriptor frame if it can serve as one, else as plain memory of the guest's.
    let typed =
        [FrameKind::SegDesc, FrameKind::Writable].into_iter().any(|kind| frame::get_typed(machine(), mfn, cx.domain.id, kind).is_ok());
    if !typed {
        return Err(Errno::EINVAL);
    }
    let done = FrameWindow::new(mfn).map(|w| w.write_u64_at(offset, checked));
    frame::put_typed(machine(), mfn);
    done.map(|()| Outcome::Done(0)).ok_or(Errno::EINVAL)
}
