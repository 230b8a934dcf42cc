//! Grants to oneself: what was not granted is not mapped, what is mapped stays counted, no copy leaves its page, and a
//! mapping ends once (XSA-18, XSA-224, XSA-226, XSA-227, XSA-234, XSA-318, XSA-382, XSA-523).
#![no_std]
#![no_main]
#![expect(clippy::arithmetic_side_effects, reason = "a mistake here is a failed experiment")]

use ptk::check::{equal, holds};
use ptk::hypercall::{FromBytes, IntoBytes, call_many};
use ptk::memory::{self, PAGE, RW};
use ptk::table::pin;
use ptk::{call, instr, trap};
use xen_abi::domid::DOMID_SELF;
use xen_abi::grant_table::*;
use xen_abi::hypercall::__HYPERVISOR_grant_table_op;

/// The grants that are used here: writable, and read-only.
const WRITABLE: u32 = 20;
const READ_ONLY: u32 = 21;

fn op<T: FromBytes + IntoBytes>(command: u32, op: T) -> (i64, T) {
    let mut list = [op];
    let answer = call_many(__HYPERVISOR_grant_table_op, command, &mut list);
    let [op] = list;
    (answer, op)
}

fn map(gref: u32, flags: u32, host_addr: u64) -> GnttabMapGrantRef {
    let request = GnttabMapGrantRef { host_addr, flags, r#ref: gref, dom: DOMID_SELF, ..Default::default() };
    op(GNTTABOP_map_grant_ref, request).1
}

fn unmap(handle: u32, host_addr: u64) -> i16 {
    op(GNTTABOP_unmap_grant_ref, GnttabUnmapGrantRef { host_addr, handle, ..Default::default() }).1.status
}

/// Makes the first grant frame visible: its address.
fn table() -> u64 {
    let mut frame = 0u64;
    let frame_list = core::ptr::from_mut(&mut frame) as u64;
    let (answer, done) = op(GNTTABOP_setup_table, GnttabSetupTable { dom: DOMID_SELF, nr_frames: 1, frame_list, ..Default::default() });
    equal("a grant table", (answer, done.status), (0, GNTST_okay));
    let va = memory::page();
    equal("it can be mapped", memory::set_va(va, instr::load64(frame_list) * PAGE | RW), 0);
    va
}

/// Grants the page at `va` to this domain.
fn grant(table: u64, gref: u32, va: u64, flags: u16) {
    instr::store64(table + u64::from(gref) * 8, u64::from(flags) | u64::from(DOMID_SELF_ID) << 16 | memory::mfn(va) << 32);
}

/// The first domain's number.
const DOMID_SELF_ID: u16 = 1;

fn main() {
    let table = table();
    let page = memory::page();
    grant(table, WRITABLE, page, GTF_permit_access);
    grant(table, READ_ONLY, page, GTF_permit_access | GTF_readonly);
    mapping(table, page);
    refusals();
    copies(page);
    versions();
}

fn mapping(table: u64, page: u64) {
    let window = memory::page();
    let flags_of = |gref: u32| instr::load64(table + u64::from(gref) * 8) as u16;
    let mapped = map(WRITABLE, GNTMAP_host_map, window);
    equal("a grant is mapped", mapped.status, GNTST_okay);
    instr::store64(page, 0x5eed);
    equal("it shows the page", instr::load64(window), 0x5eed);
    holds("it is marked in use", flags_of(WRITABLE) & (GTF_reading | GTF_writing) == GTF_reading | GTF_writing);
    holds("XSA-234 a granted frame that is mapped writable is no page table", pin(1, memory::mfn(page)) < 0);
    equal("XSA-227 unmapped at another address", unmap(mapped.handle, window + PAGE), GNTST_bad_virt_addr);
    equal("it is still mapped", instr::load64(window), 0x5eed);
    equal("unmapped", unmap(mapped.handle, window), GNTST_okay);
    equal("XSA-224 unmapped a second time", unmap(mapped.handle, window), GNTST_bad_handle);
    equal(
        "the mapping is gone",
        trap::fault_of(|| {
            let _ = instr::load64(window);
        })
        .map(|f| f.0),
        Some(14),
    );
    equal("XSA-382 it is no longer in use", flags_of(WRITABLE) & (GTF_reading | GTF_writing), 0);

    let mapped = map(READ_ONLY, GNTMAP_host_map | GNTMAP_readonly, window);
    equal("a read-only grant is mapped read-only", mapped.status, GNTST_okay);
    equal("a write through it", trap::fault_of(|| instr::store64(window, 1)).map(|f| f.0), Some(14));
    equal("it is unmapped", unmap(mapped.handle, window), GNTST_okay);
}

fn refusals() {
    let window = memory::page();
    holds("a read-only grant mapped writable", map(READ_ONLY, GNTMAP_host_map, window).status < 0);
    holds("XSA-226 a grant that is none", map(30, GNTMAP_host_map, window).status < 0);
    for gref in [512, 0xffff, 0x7fff_ffff, u32::MAX] {
        equal("a reference past the table", map(gref, GNTMAP_host_map, window).status, GNTST_bad_gntref);
    }
    holds("neither host nor device", map(WRITABLE, 0, window).status < 0);
    for va in [0xffff_8080_0020_0000u64, 0x8000_0000_0000] {
        holds("a mapping at an address that is not the guest's", map(WRITABLE, GNTMAP_host_map, va).status < 0);
    }
    for handle in [0x1000, 0x7fff_ffff, u32::MAX] {
        equal("XSA-18 a handle that is none", unmap(handle, window), GNTST_bad_handle);
    }
    let nobody = GnttabMapGrantRef { host_addr: window, flags: GNTMAP_host_map, r#ref: WRITABLE, dom: 999, ..Default::default() };
    equal("a domain that is none", op(GNTTABOP_map_grant_ref, nobody).1.status, GNTST_bad_domain);
}

fn copies(page: u64) {
    let own = memory::page();
    let copy = |number: u64, flags: u16, offsets: (u16, u16), len: u16, domid: u16| {
        let source = GnttabCopyPtr { u: number, domid, offset: offsets.0, ..Default::default() };
        let dest = GnttabCopyPtr { u: memory::mfn(own), domid: DOMID_SELF, offset: offsets.1, ..Default::default() };
        op(GNTTABOP_copy, GnttabCopy { source, dest, len, flags, ..Default::default() }).1.status
    };
    let by_gref = |offsets, len| copy(READ_ONLY.into(), GNTCOPY_source_gref, offsets, len, DOMID_SELF);
    instr::store64(page + 4088, 0xc0de);
    equal("the last word is copied", by_gref((4088, 0), 8), GNTST_okay);
    equal("it arrived", instr::load64(own), 0xc0de);
    for (offsets, len) in [((4088, 0), 9), ((0, 4095), 2), ((0, 0), 4097), ((0xffff, 0), 1), ((1, 0), 0xffff), ((0, 0xffff), 0xffff)] {
        equal("XSA-523 a copy that leaves its page", by_gref(offsets, len), GNTST_bad_copy_arg);
    }
    for frame in [0x100u64, 1 << 39, u64::MAX] {
        equal("a copy from a frame that is not one's own", copy(frame, 0, (0, 0), 8, DOMID_SELF), GNTST_bad_page);
    }
    equal("a frame of another domain by number", copy(memory::mfn(page), 0, (0, 0), 8, 0), GNTST_permission_denied);
    equal("nothing more arrived", instr::load64(own), 0xc0de);
}

fn versions() {
    let size = GnttabQuerySize { dom: DOMID_SELF, ..Default::default() };
    let max = op(GNTTABOP_query_size, size).1.max_nr_frames;
    for nr_frames in [max + 1, u32::MAX] {
        let request = GnttabSetupTable { dom: DOMID_SELF, nr_frames, ..Default::default() };
        holds("a table past the limit", op(GNTTABOP_setup_table, request).1.status < 0);
    }
    let mut version = GnttabSetVersion { version: 2 };
    holds("XSA-382 version 2 is not offered", call(__HYPERVISOR_grant_table_op, GNTTABOP_set_version, &mut version) < 0);
    let (bad, _) = op(GNTTABOP_copy + 1000, GnttabSetVersion { version: 0 });
    equal("XSA-318 a command that is none", bad, -38);
}

ptk::guest!(main);
