//! The guest's memory: pages to play with, machine frames of addresses, shared_info.

use core::sync::atomic::{AtomicU8, AtomicU64, AtomicUsize, Ordering};

use xen_abi::arch_x86::MACH2PHYS_VIRT_START;
use xen_abi::hypercall::__HYPERVISOR_update_va_mapping;
use xen_abi::mmu::{UVMF_INVLPG, UVMF_NONE};
use xen_abi::shared_info::offset;

use crate::start::start_info;
use crate::{hypercall, instr};

/// Where pseudo-physical memory is mapped.
pub const VIRT_BASE: u64 = 0xffff_ffff_8000_0000;
/// Bytes of a page.
pub const PAGE: u64 = 4096;
/// A kernel's data page: present, writable, accessed, dirty.
pub const RW: u64 = 0x63;
/// The same without the permission to write.
pub const RO: u64 = 0x61;
/// A table's entry: present, writable, user, accessed.
pub const TABLE: u64 = 0x67;

const POOL_PAGES: usize = 512;

/// Pages of the guest's own.
#[repr(C, align(4096))]
struct Pool([[AtomicU8; 4096]; POOL_PAGES]);

static POOL: Pool = Pool([const { [const { AtomicU8::new(0) }; 4096] }; POOL_PAGES]);
static USED: AtomicUsize = AtomicUsize::new(1);

/// A page of the pool, zeroed at the start: its address. They are not given back. The first one shows shared_info.
pub fn page() -> u64 {
    let n = USED.fetch_add(1, Ordering::Relaxed);
    POOL.0[n].as_ptr() as u64
}

/// Pages of the pool that are left.
pub fn pages_left() -> usize {
    POOL_PAGES - USED.load(Ordering::Relaxed)
}

/// Pages of the domain.
pub fn total_pages() -> u64 {
    start_info().nr_pages
}

/// The pseudo-physical frame at a mapped address.
pub fn pfn(va: u64) -> u64 {
    (va - VIRT_BASE) / PAGE
}

/// The machine frame of a pseudo-physical one, as the p2m list says.
pub fn p2m(pfn: u64) -> u64 {
    instr::load64(start_info().mfn_list + pfn * 8)
}

/// The machine frame behind the initial mapping of `va`.
pub fn mfn(va: u64) -> u64 {
    p2m(pfn(va))
}

/// The pseudo-physical frame of a machine frame, as the machine-to-physical table says.
pub fn m2p(mfn: u64) -> u64 {
    instr::load64(MACH2PHYS_VIRT_START + mfn * 8)
}

/// The machine address of the entry that maps `va` at `level` (1 to 4), and its value; None where a table is missing.
pub fn entry(va: u64, level: u32) -> Option<(u64, u64)> {
    let mut table = start_info().pt_base;
    for at in (level..=4).rev() {
        let slot = va >> (12 + 9 * (at - 1)) & 511;
        let value = instr::load64(table + slot * 8);
        if at == level {
            return Some((mfn(table) * PAGE + slot * 8, value));
        }
        if value & 1 == 0 {
            return None;
        }
        table = VIRT_BASE + m2p(value >> 12 & 0xff_ffff_ffff) * PAGE;
    }
    None
}

/// Sets the level-1 entry of `va`, and flushes it.
pub fn set_va(va: u64, value: u64) -> i64 {
    hypercall(__HYPERVISOR_update_va_mapping, &[va, value, UVMF_INVLPG])
}

/// Sets the level-1 entry of `va` without asking for a flush.
pub fn set_va_unflushed(va: u64, value: u64) -> i64 {
    hypercall(__HYPERVISOR_update_va_mapping, &[va, value, UVMF_NONE])
}

/// Makes a page read-only where it is mapped.
pub fn write_protect(va: u64) -> i64 {
    set_va(va, mfn(va) * PAGE | RO)
}

/// Makes a page writable again.
pub fn unprotect(va: u64) -> i64 {
    set_va(va, mfn(va) * PAGE | RW)
}

fn shared_va() -> u64 {
    POOL.0[0].as_ptr() as u64
}

/// Maps shared_info over the pool's first page.
pub fn map_shared_info() {
    set_va(shared_va(), start_info().shared_info | RW);
}

/// A word of shared_info.
pub fn shared_word(at: usize) -> &'static AtomicU64 {
    // SAFETY: an aligned word of the mapped page, only ever used by atomics.
    unsafe { AtomicU64::from_ptr((shared_va() + at as u64) as *mut u64) }
}

/// A word of vCPU 0's part.
pub fn vcpu_info_word(at: usize) -> u64 {
    shared_word(offset::VCPU_INFO + at).load(Ordering::SeqCst)
}

/// Sets a byte of vCPU 0's part.
pub fn set_vcpu_info_byte(at: usize, value: u8) {
    instr::store(shared_va() + (offset::VCPU_INFO + at) as u64, value);
}

/// System time in ns, coarse: as of the last update plus what the counter has advanced.
pub fn now_ns() -> u64 {
    let base = offset::VCPU_INFO + xen_abi::shared_info::vcpu_info_offset::TIME;
    loop {
        let version = shared_word(base).load(Ordering::SeqCst) as u32;
        let tsc = shared_word(base + 8).load(Ordering::SeqCst);
        let system = shared_word(base + 16).load(Ordering::SeqCst);
        let scale = shared_word(base + 24).load(Ordering::SeqCst);
        let now = instr::rdtsc();
        if version & 1 != 0 || version != shared_word(base).load(Ordering::SeqCst) as u32 {
            continue;
        }
        let (mul, shift) = (scale as u32, (scale >> 32) as i8);
        let delta = now.wrapping_sub(tsc);
        let delta = if shift >= 0 { delta << shift } else { delta >> -shift };
        return system.wrapping_add(((u128::from(delta) * u128::from(mul)) >> 32) as u64);
    }
}
