//! Grants to oneself: what was not granted is not mapped, what is mapped stays counted, no copy leaves its page, and a
//! mapping ends once (XSA-18, XSA-224, XSA-226, XSA-227, XSA-234, XSA-255, XSA-318, XSA-382, XSA-523).
#![no_std]
#![no_main]
#![expect(clippy::arithmetic_side_effects, reason = "a mistake here is a failed experiment")]

use ptk::check::{equal, holds};
use ptk::grant::{End, Table, copy, op, unmap};
use ptk::memory::{self, PAGE};
use ptk::table::pin;
use ptk::{call, instr, trap};
use xen_abi::domid::DOMID_SELF;
use xen_abi::grant_table::*;
use xen_abi::hypercall::__HYPERVISOR_grant_table_op;

/// The grants that are used here: writable, and read-only.
const WRITABLE: u32 = 20;
const READ_ONLY: u32 = 21;

/// The first domain's number.
const DOMID_SELF_ID: u16 = 1;

fn map(gref: u32, flags: u32, host_addr: u64) -> GnttabMapGrantRef {
    ptk::grant::map(DOMID_SELF, gref, flags, host_addr)
}

fn main() {
    let table = Table::new();
    let page = memory::page();
    table.grant(WRITABLE, DOMID_SELF_ID, page, GTF_permit_access);
    table.grant(READ_ONLY, DOMID_SELF_ID, page, GTF_permit_access | GTF_readonly);
    mapping(&table, page);
    refusals();
    copies(page);
    versions();
}

fn mapping(table: &Table, page: u64) {
    let window = memory::page();
    let mapped = map(WRITABLE, GNTMAP_host_map, window);
    equal("a grant is mapped", mapped.status, GNTST_okay);
    instr::store64(page, 0x5eed);
    equal("it shows the page", instr::load64(window), 0x5eed);
    equal("it is marked in use", table.in_use(WRITABLE), (true, true));
    holds("XSA-234 a granted frame that is mapped writable is no page table", pin(1, memory::mfn(page)) < 0);
    equal("XSA-227 unmapped at another address", unmap(mapped.handle, window + PAGE), GNTST_bad_virt_addr);
    equal("it is still mapped", instr::load64(window), 0x5eed);
    equal("unmapped", unmap(mapped.handle, window), GNTST_okay);
    equal("XSA-224 unmapped a second time", unmap(mapped.handle, window), GNTST_bad_handle);
    equal(
        "the mapping is gone",
        trap::fault_of(|| {
            instr::load64(window);
        })
        .map(|f| f.0),
        Some(14),
    );
    equal("it is no longer in use", table.in_use(WRITABLE), (false, false));

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
    let by_gref = |(from, to): (u16, u16), len| copy((End::Grant(DOMID_SELF, READ_ONLY), from), (End::Page(own), to), len);
    let by_frame = |domid, mfn| copy((End::Frame(domid, mfn), 0), (End::Page(own), 0), 8);
    instr::store64(page + 4088, 0xc0de);
    equal("the last word is copied", by_gref((4088, 0), 8), GNTST_okay);
    equal("it arrived", instr::load64(own), 0xc0de);
    for (offsets, len) in [((4088, 0), 9), ((0, 4095), 2), ((0, 0), 4097), ((0xffff, 0), 1), ((1, 0), 0xffff), ((0, 0xffff), 0xffff)] {
        equal("XSA-523 a copy that leaves its page", by_gref(offsets, len), GNTST_bad_copy_arg);
    }
    for frame in [0x100u64, 1 << 39, u64::MAX] {
        equal("a copy from a frame that is not one's own", by_frame(DOMID_SELF, frame), GNTST_bad_page);
    }
    equal("a frame of another domain by number", by_frame(0, memory::mfn(page)), GNTST_permission_denied);
    equal("nothing more arrived", instr::load64(own), 0xc0de);
}

fn versions() {
    let size = GnttabQuerySize { dom: DOMID_SELF, ..Default::default() };
    let max = op(GNTTABOP_query_size, size).1.max_nr_frames;
    for nr_frames in [max + 1, u32::MAX] {
        let request = GnttabSetupTable { dom: DOMID_SELF, nr_frames, ..Default::default() };
        holds("a table past the limit", op(GNTTABOP_setup_table, request).1.status < 0);
    }
    // XSA-382: a list of frames that ends where memory does.
    let [list, behind] = [memory::page(), memory::page()];
    equal("a page behind the list is taken away", memory::set_va(behind, 0), 0);
    for (room, nr_frames, want) in [(8u64, 1u32, GNTST_okay), (8, 2, GNTST_bad_virt_addr), (0, 1, GNTST_bad_virt_addr), (16, 2, GNTST_okay)]
    {
        let frame_list = list + PAGE - room;
        let request = GnttabSetupTable { dom: DOMID_SELF, nr_frames, frame_list, ..Default::default() };
        equal("XSA-382 a list with less room than frames", op(GNTTABOP_setup_table, request).1.status, want);
    }
    let mut version = GnttabSetVersion { version: 2 };
    holds("XSA-255 version 2 is not offered", call(__HYPERVISOR_grant_table_op, GNTTABOP_set_version, &mut version) < 0);
    let (bad, _) = op(GNTTABOP_copy + 1000, GnttabSetVersion { version: 0 });
    equal("XSA-318 a command that is none", bad, -38);
}

ptk::guest!(main);
