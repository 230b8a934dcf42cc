//! Page tables of the guest's own making.

use xen_abi::domid::DOMID_SELF;
use xen_abi::hypercall::{__HYPERVISOR_mmu_update, __HYPERVISOR_mmuext_op};
use xen_abi::mmu::{MMUEXT_NEW_BASEPTR, MMUEXT_PIN_L1_TABLE, MMUEXT_UNPIN_TABLE, MmuUpdate, MmuextOp};

use crate::memory::{self, PAGE, TABLE};
use crate::{hypercall, instr};

/// One `mmu_update` request. `ptr` carries the command in its low bits.
pub fn update(ptr: u64, val: u64) -> i64 {
    let request = MmuUpdate { ptr, val };
    let mut done = 0u32;
    hypercall(__HYPERVISOR_mmu_update, &[core::ptr::from_ref(&request) as u64, 1, core::ptr::from_mut(&mut done) as u64, DOMID_SELF.into()])
}

/// One `mmuext_op`.
pub fn extended(cmd: u32, arg1: u64, arg2: u64) -> i64 {
    let op = MmuextOp { cmd, _pad0: 0, arg1, arg2 };
    hypercall(__HYPERVISOR_mmuext_op, &[core::ptr::from_ref(&op) as u64, 1, 0, DOMID_SELF.into()])
}

/// Pins a frame as a table of `level`.
pub fn pin(level: u32, mfn: u64) -> i64 {
    extended(MMUEXT_PIN_L1_TABLE + level - 1, mfn, 0)
}

/// Unpins it.
pub fn unpin(mfn: u64) -> i64 {
    extended(MMUEXT_UNPIN_TABLE, mfn, 0)
}

/// Loads a root.
pub fn new_base(mfn: u64) -> i64 {
    extended(MMUEXT_NEW_BASEPTR, mfn, 0)
}

/// A page of `entries`, write-protected so that it can become a table. Its address.
pub fn fresh(entries: &[(usize, u64)]) -> u64 {
    let va = memory::page();
    for &(slot, value) in entries {
        instr::store64(va + slot as u64 * 8, value);
    }
    memory::write_protect(va);
    va
}

/// A copy of the current root, write-protected, with `entries` changed: a root that the guest can run on.
pub fn fresh_root(entries: &[(usize, u64)]) -> u64 {
    let (va, now) = (memory::page(), crate::start::start_info().pt_base);
    for slot in 0..512u64 {
        // The hypervisor's own slots are its to fill in.
        if !(256..272).contains(&slot) {
            instr::store64(va + slot * 8, instr::load64(now + slot * 8));
        }
    }
    for &(slot, value) in entries {
        instr::store64(va + slot as u64 * 8, value);
    }
    memory::write_protect(va);
    va
}

/// The entry that makes the page at `va` a table below another.
pub fn link(va: u64) -> u64 {
    memory::mfn(va) * PAGE | TABLE
}
