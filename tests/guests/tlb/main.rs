//! Stale translations: a guest that takes a mapping away and asks for no flush keeps it in the TLB. That is its own
//! affair until the frame becomes something else; by then the hypervisor has flushed (XSA-401, XSA-511, XSA-214).
#![no_std]
#![no_main]

use ptk::check::{equal, holds};
use ptk::memory::{self, PAGE, RO, RW};
use ptk::table::{pin, unpin};
use ptk::trap::fault_of;
use ptk::{call, hypercall, instr, start, xmode};
use xen_abi::domid::DOMID_SELF;
use xen_abi::hypercall::{__HYPERVISOR_memory_op, __HYPERVISOR_set_gdt};
use xen_abi::memory::{XENMEM_decrease_reservation, XENMEM_populate_physmap, XenMemoryReservation};

/// An entry for a frame of the hypervisor's, and a descriptor of ring 0: what must not get in.
const FORBIDDEN_ENTRY: u64 = 0x100 * PAGE | RW;
const FORBIDDEN_DESCRIPTOR: u64 = 0x00af_9a00_0000_ffff;

/// A frame that the TLB knows as writable at `va`, and nowhere else.
struct Writable {
    va: u64,
    mfn: u64,
    pfn: u64,
}

/// Bits of a page's number that choose its place in a TLB whose places take one page each.
const PLACES: u64 = 0xff;

/// A page, which is written to last here.
///
/// The hypervisor reads the frame by its number. If that has the place of the address, it drives the translation out: then
/// the frame is mapped a page further on.
fn writable() -> Writable {
    let (mut va, further) = (memory::page(), memory::page());
    let (mfn, pfn) = (memory::mfn(va), memory::pfn(va));
    if (va / PAGE ^ mfn) & PLACES == 0 {
        equal("its mapping is taken away", memory::set_va(va, 0), 0);
        va = further;
    }
    equal("it is mapped", memory::set_va(va, mfn * PAGE | RW), 0);
    instr::store64(va, 0);
    Writable { va, mfn, pfn }
}

fn main() {
    if start::option("xmode") == Some(1) {
        // The same with global pages: written again, a kernel's are.
        equal("X-mode is on", xmode::enable(), 0);
    }
    for _ in 0..100 {
        page_table();
    }
    for _ in 0..20 {
        descriptors();
    }
    for _ in 0..20 {
        freed();
    }
}

/// Writable, then a page table.
fn page_table() {
    let Writable { va, mfn, .. } = writable();
    holds("a mapping made read-only, without a flush", memory::set_va_unflushed(va, mfn * PAGE | RO) == 0);
    // It still goes through, unless the hypervisor has flushed for a reason of its own.
    let _ = fault_of(|| instr::store64(va + 16, 0));
    equal("its frame becomes a page table", pin(1, mfn), 0);
    equal("stale-tlb-retype: a write by the old mapping", fault_of(|| instr::store64(va + 8, FORBIDDEN_ENTRY)).map(|f| f.0), Some(14));
    equal("the table is as it was", instr::load64(va + 8), 0);
    equal("it is let go", unpin(mfn), 0);
}

/// Writable, then a descriptor table.
fn descriptors() {
    let Writable { va, mfn, .. } = writable();
    holds("a mapping made read-only, without a flush", memory::set_va_unflushed(va, mfn * PAGE | RO) == 0);
    // It still goes through, unless the hypervisor has flushed for a reason of its own.
    let _ = fault_of(|| instr::store64(va + 16, 0));
    equal("its frame becomes a descriptor table", hypercall(__HYPERVISOR_set_gdt, &[core::ptr::from_ref(&mfn) as u64, 512]), 0);
    equal("stale-tlb-gdt: a write by the old mapping", fault_of(|| instr::store64(va + 8, FORBIDDEN_DESCRIPTOR)).map(|f| f.0), Some(14));
    equal("it is let go", hypercall(__HYPERVISOR_set_gdt, &[0, 0]), 0);
}

/// Writable, then somebody else's.
fn freed() {
    let Writable { va, mut mfn, pfn } = writable();
    holds("a mapping taken away, without a flush", memory::set_va_unflushed(va, 0) == 0);
    let one = |at: &mut u64| XenMemoryReservation {
        extent_start: core::ptr::from_mut(at) as u64,
        nr_extents: 1,
        domid: DOMID_SELF,
        ..XenMemoryReservation::default()
    };
    equal("its frame is given back", call(__HYPERVISOR_memory_op, XENMEM_decrease_reservation, &mut one(&mut mfn)), 1);
    equal("stale-tlb-free: a write by the old mapping", fault_of(|| instr::store64(va, 1)).map(|f| f.0), Some(14));
    equal("stale-tlb-free: a read by the old mapping", fault_of(|| _ = instr::load64(va)).map(|f| f.0), Some(14));
    let mut place = pfn;
    equal("a frame comes back", call(__HYPERVISOR_memory_op, XENMEM_populate_physmap, &mut one(&mut place)), 1);
    equal("and is mapped", memory::set_va(va, place * PAGE | RW), 0);
    equal("XSA-100 with nothing in it", instr::load64(va), 0);
}

ptk::guest!(main);
