//! Reservations: sizes, orders and lists of frames that make no sense, limits, and what new memory holds (XSA-31,
//! XSA-159, XSA-385, XSA-252, XSA-100, XSA-122).
#![no_std]
#![no_main]
#![expect(clippy::indexing_slicing, reason = "a mistake here is a failed experiment")]

use ptk::check::{equal, holds, one_of};
use ptk::memory::{self, PAGE, RW};
use ptk::table::{fresh, pin, unpin};
use ptk::{call, hypercall, instr};
use xen_abi::domid::DOMID_SELF;
use xen_abi::hypercall::{__HYPERVISOR_memory_op, __HYPERVISOR_xen_version};
use xen_abi::memory::*;
use xen_abi::version::*;

const EPERM: i64 = -1;
const EFAULT: i64 = -14;
const EINVAL: i64 = -22;

fn reservation(list: &mut [u64], order: u32) -> XenMemoryReservation {
    XenMemoryReservation {
        extent_start: list.as_mut_ptr() as u64,
        nr_extents: list.len() as u64,
        extent_order: order,
        domid: DOMID_SELF,
        ..XenMemoryReservation::default()
    }
}

fn op(command: u32, argument: &mut XenMemoryReservation) -> i64 {
    call(__HYPERVISOR_memory_op, command, argument)
}

fn current() -> i64 {
    let mut who = XenMemoryDomain { domid: DOMID_SELF };
    call(__HYPERVISOR_memory_op, XENMEM_current_reservation, &mut who)
}

/// Gives the frame at `va` back, and returns what the call said.
fn give_back(va: u64) -> i64 {
    let mut list = [memory::mfn(va)];
    op(XENMEM_decrease_reservation, &mut reservation(&mut list, 0))
}

fn main() {
    let total = memory::total_pages() as i64;
    equal("the reservation is what start_info says", current(), total);
    at_the_limit(total);
    orders();
    in_use();
    exchange();
    lists();
    outputs();
    equal("and so at the end", current(), total);
}

/// XSA-385: not one frame more than the limit.
fn at_the_limit(total: i64) {
    let mut list = [5u64; 4];
    for (command, order) in [XENMEM_populate_physmap, XENMEM_increase_reservation].into_iter().flat_map(|c| [0, 1, 9, 18].map(|o| (c, o))) {
        one_of("XSA-385 memory past the limit", op(command, &mut reservation(&mut list, order)), &[0, -12, EINVAL, EPERM]);
        equal("it was not given", current(), total);
    }
    let va = memory::page();
    instr::store64(va, 0x5ec7e7);
    holds("unmapped", memory::set_va(va, 0) == 0);
    equal("one given back", give_back(va), 1);
    equal("the reservation is less", current(), total - 1);
    let mut two = [memory::pfn(va), memory::pfn(va)];
    equal("of two asked for one comes", op(XENMEM_populate_physmap, &mut reservation(&mut two, 0)), 1);
    equal("the reservation is as before", current(), total);
    equal("it can be mapped", memory::set_va(va, two[0] * PAGE | RW), 0);
    holds("XSA-372 it holds nothing", (0..512).all(|n| instr::load64(va + n * 8) == 0));
    equal("the frame knows its number", memory::m2p(two[0]), memory::pfn(va));
}

/// XSA-31: orders without bound.
fn orders() {
    let before = current();
    for order in [10u32, 19, 20, 30, 31, 32, 40, 52, 63, 64, 127, 128, 255, u32::MAX] {
        for command in [XENMEM_increase_reservation, XENMEM_decrease_reservation, XENMEM_populate_physmap] {
            let mut list = [memory::p2m(0), 0];
            let answer = op(command, &mut reservation(&mut list, order));
            holds("XSA-31 an order out of bounds", answer <= 0);
        }
    }
    equal("nothing came of it", current(), before);
}

/// XSA-252: frames that are mapped, pinned, or not one's own are not given back.
fn in_use() {
    let va = memory::page();
    equal("a mapped frame", give_back(va), 0);
    let table = fresh(&[]);
    equal("a table is pinned", pin(1, memory::mfn(table)), 0);
    equal("XSA-252 a pinned frame", give_back(table), 0);
    equal("it is pinned still", unpin(memory::mfn(table)), 0);
    for mfn in [0x100u64, 0xfee00, 1 << 39, 1 << 40, u64::MAX, ptk::start::start_info().shared_info / PAGE] {
        let mut list = [mfn];
        equal("another's frame", op(XENMEM_decrease_reservation, &mut reservation(&mut list, 0)), 0);
    }
}

fn exchange() {
    let va = memory::page();
    let mut old = [memory::mfn(va)];
    let mut new = [memory::pfn(va)];
    let mut request = XenMemoryExchange { r#in: reservation(&mut old, 0), out: reservation(&mut new, 0), nr_exchanged: 0 };
    one_of("XSA-159 a mapped frame exchanged", call(__HYPERVISOR_memory_op, XENMEM_exchange, &mut request), &[EINVAL, 0]);
    equal("it was not", request.nr_exchanged, 0);
    holds("unmapped", memory::set_va(va, 0) == 0);
    old = [memory::mfn(va)];
    new = [memory::pfn(va)];
    let mut request = XenMemoryExchange { r#in: reservation(&mut old, 0), out: reservation(&mut new, 0), nr_exchanged: 0 };
    let answer = call(__HYPERVISOR_memory_op, XENMEM_exchange, &mut request);
    equal("an exchange", (answer, request.nr_exchanged), (0, 1));
    equal("the new frame can be mapped", memory::set_va(va, new[0] * PAGE | RW), 0);
    holds("XSA-100 it holds nothing", (0..512).all(|n| instr::load64(va + n * 8) == 0));
    // Sizes that do not match, orders out of bounds, progress that was never made (XSA-29).
    for (order_in, order_out, count_in, count_out, done) in [
        (0u32, 1u32, 1u64, 1u64, 0u64),
        (9, 0, 1, 1, 0),
        (64, 64, 1, 1, 0),
        (0, 0, u64::MAX, u64::MAX, 0),
        (0, 0, 1, 1, 2),
        (0, 0, 1, 1, u64::MAX),
        (31, 31, 1 << 40, 1 << 40, 0),
    ] {
        let mut a = [memory::mfn(va)];
        let mut b = [memory::pfn(va)];
        let mut request = XenMemoryExchange {
            r#in: XenMemoryReservation { nr_extents: count_in, ..reservation(&mut a, order_in) },
            out: XenMemoryReservation { nr_extents: count_out, ..reservation(&mut b, order_out) },
            nr_exchanged: done,
        };
        holds("XSA-29 an exchange that does not add up", call(__HYPERVISOR_memory_op, XENMEM_exchange, &mut request) < 0);
    }
}

/// Lists in forbidden memory, counts without bound, other domains.
fn lists() {
    for at in [0xffff_8080_0010_0000u64, 0xffff_8000_0000_0000, 0x8000_0000_0000_0000, u64::MAX - 7] {
        for command in [XENMEM_increase_reservation, XENMEM_decrease_reservation, XENMEM_populate_physmap] {
            let mut request =
                XenMemoryReservation { extent_start: at, nr_extents: 4, domid: DOMID_SELF, ..XenMemoryReservation::default() };
            one_of("a list in forbidden memory", op(command, &mut request), &[0, EFAULT, EINVAL]);
        }
        equal("a request in forbidden memory", hypercall(__HYPERVISOR_memory_op, &[XENMEM_populate_physmap.into(), at]), EFAULT);
        equal("an answer in forbidden memory", hypercall(__HYPERVISOR_xen_version, &[XENVER_capabilities.into(), at]), EFAULT);
    }
    for domid in [0u16, 2, 1000, 0x7ff1, 0x7ff2, 0x7ff4, 0xffff] {
        let mut list = [memory::p2m(0)];
        let mut request = XenMemoryReservation { domid, ..reservation(&mut list, 0) };
        one_of("the memory of another domain", op(XENMEM_decrease_reservation, &mut request), &[EPERM, -3]);
        let mut who = XenMemoryDomain { domid };
        one_of("the size of another domain", call(__HYPERVISOR_memory_op, XENMEM_current_reservation, &mut who), &[EPERM, -3]);
    }
    let mut none = [];
    one_of("an empty list", op(XENMEM_populate_physmap, &mut reservation(&mut none, 0)), &[0]);
    for command in [17u32, 20, 21, 22, 28, 33, 63] {
        one_of("an operation that is not offered", hypercall(__HYPERVISOR_memory_op, &[command.into(), 0]), &[-38, EINVAL, EPERM, EFAULT]);
    }
}

/// XSA-122: what comes back is all written by the hypervisor, or not touched.
fn outputs() {
    let mut map = [0xa5u8; 20 * 16];
    let mut request = XenMemoryMap { nr_entries: 16, buffer: map.as_mut_ptr() as u64, ..XenMemoryMap::default() };
    equal("the memory map", call(__HYPERVISOR_memory_op, XENMEM_memory_map, &mut request), 0);
    holds("XSA-122 what lies behind it is untouched", map[request.nr_entries as usize * 20..].iter().all(|&b| b == 0xa5));
    let mut request = XenMemoryMap { nr_entries: 0, buffer: map.as_mut_ptr() as u64, ..XenMemoryMap::default() };
    one_of("a memory map into nothing", call(__HYPERVISOR_memory_op, XENMEM_memory_map, &mut request), &[0, EINVAL, -105]);
    let mut text = [0xa5u8; 2048];
    for (command, len) in [(XENVER_extraversion, 16), (XENVER_capabilities, 1024), (XENVER_changeset, 64)] {
        text.fill(0xa5);
        let answer = hypercall(__HYPERVISOR_xen_version, &[command.into(), text.as_mut_ptr() as u64]);
        let end = text.iter().position(|&b| b == 0).unwrap_or(text.len());
        holds(
            "XSA-122 a text ends, and nothing follows it but zeroes",
            answer >= 0 && end < len && text[end..len].iter().all(|&b| b == 0 || b == 0xa5),
        );
        holds("XSA-122 nothing is written past it", text[len..].iter().all(|&b| b == 0xa5));
    }
    let mut features = [0xa5u8; 16];
    features[..4].copy_from_slice(&0u32.to_le_bytes());
    equal("the features", hypercall(__HYPERVISOR_xen_version, &[XENVER_get_features.into(), features.as_mut_ptr() as u64]), 0);
    holds("XSA-122 nothing is written past them", features[8..].iter().all(|&b| b == 0xa5));
}

ptk::guest!(main);
