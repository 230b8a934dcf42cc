//! Global translations: what outlives a load of CR3, and what must not.

use ptk::check::{equal, one_of};
use ptk::memory::{self, PAGE, RW};
use ptk::table::{extended, new_base};
use ptk::{hypercall, instr, start};
use xen_abi::hypercall::__HYPERVISOR_update_va_mapping;
use xen_abi::mmu::*;

/// A page of the kernel's that the TLB knows, mapped to another frame without a flush. Its address, and how to put it
/// back.
fn remapped() -> (u64, impl Fn()) {
    let (va, other) = (memory::page(), memory::page());
    // Written again, it is global.
    memory::unprotect(va);
    instr::store64(va, 1);
    instr::store64(other, 2);
    equal("it is remapped", memory::set_va_unflushed(va, memory::mfn(other) * PAGE | RW), 0);
    (va, move || {
        memory::unprotect(va);
    })
}

fn reload() {
    equal("CR3 is loaded", new_base(memory::mfn(start::start_info().pt_base)), 0);
}

pub fn run() {
    let (va, back) = remapped();
    reload();
    // A CPU keeps it; an emulator may not.
    let kept = instr::load64(va);
    one_of("a load of CR3", kept, &[1, 2]);
    ptk::println!("stale: global translations outlive a load of CR3: {}", if kept == 1 { "yes" } else { "no" });
    equal("a flush of everything", extended(MMUEXT_TLB_FLUSH_ALL, 0, 0), 0);
    equal("makes it fresh", instr::load64(va), 2);
    back();

    let (va, back) = remapped();
    equal("a flush of its page", extended(MMUEXT_INVLPG_LOCAL, va, 0), 0);
    equal("makes it fresh", instr::load64(va), 2);
    back();

    let (va, back) = remapped();
    equal("a flush of its page on every vCPU", extended(MMUEXT_INVLPG_ALL, va, 0), 0);
    equal("makes it fresh", instr::load64(va), 2);
    back();

    // As Linux flushes what it has pinned: an entry of the kernel's with a flush of the TLB.
    let (va, back) = remapped();
    let spare = memory::page();
    equal("an update with a flush", hypercall(__HYPERVISOR_update_va_mapping, &[spare, memory::mfn(spare) * PAGE | RW, UVMF_TLB_FLUSH]), 0);
    equal("makes it fresh", instr::load64(va), 2);
    back();

    let (va, back) = remapped();
    equal(
        "an update with a flush for all",
        hypercall(__HYPERVISOR_update_va_mapping, &[spare, memory::mfn(spare) * PAGE | RW, UVMF_TLB_FLUSH | UVMF_ALL]),
        0,
    );
    equal("makes it fresh", instr::load64(va), 2);
    back();
}
