//! Copies between two domains: only what was granted, only within a page, and into nothing that is not plain memory.

use ptk::check::equal;
use ptk::grant::{End, copy, map, unmap};
use ptk::memory;
use ptk::table::{fresh, pin, unpin};
use ptk::{instr, start};
use xen_abi::domid::DOMID_SELF;
use xen_abi::grant_table::*;

use crate::meeting::{Me, NOTHING, OPEN, READ, Role, STRANGER, STRANGERS};
use Role::{Granter, Mapper};

/// What a page is filled with where nothing may arrive.
const FILL: u64 = 0xa5a5_a5a5_a5a5_a5a5;

pub fn run(me: &Me) {
    let own = memory::page();
    both_directions(me, own);
    refusals(me, own);
    me.act(Mapper, || edges(me, own));
    tables(me, own);
    while_mapped(me, own);
}

fn both_directions(me: &Me, own: u64) {
    me.act(Mapper, || {
        instr::store64(own, 0);
        equal("a copy from the other's page", copy((End::Grant(me.other, READ), 0), (End::Page(own), 0), 8), GNTST_okay);
        equal("it arrived", instr::load64(own), 0xbeef);
        equal("a copy to the other's page", copy((End::Page(own), 0), (End::Grant(me.other, OPEN), 512), 8), GNTST_okay);
        let both = copy((End::Grant(me.other, READ), 0), (End::Grant(me.other, OPEN), 1024), 16);
        equal("a copy from one grant to another", both, GNTST_okay);
        let within = copy((End::Grant(me.other, OPEN), 1024), (End::Grant(me.other, OPEN), 2048), 8);
        equal("a copy within a grant", within, GNTST_okay);
    });
    me.act(Granter, || {
        let word = |at| instr::load64(me.open + at);
        equal("all of it arrived", (word(512), word(1024), word(1032), word(2048)), (0xbeef, 0xbeef, 0, 0xbeef));
        equal("and nothing else", (word(504), word(520), word(1040), word(2056)), (0, 0, 0, 0));
        equal("the grants are not in use any more", (me.table.in_use(OPEN), me.table.in_use(READ).1), ((false, false), false));
    });
}

fn refusals(me: &Me, own: u64) {
    me.act(Mapper, || {
        let from = |end| copy((end, 0), (End::Page(own), 0), 8);
        let to = |end| copy((End::Page(own), 0), (end, 0), 8);
        instr::store64(own, FILL);
        equal("XSA-234 a copy to a read-only grant", to(End::Grant(me.other, READ)), GNTST_general_error);
        for gref in [STRANGERS, NOTHING] {
            equal("XSA-226 a copy from what was not granted", from(End::Grant(me.other, gref)), GNTST_general_error);
            equal("XSA-226 a copy to what was not granted", to(End::Grant(me.other, gref)), GNTST_general_error);
        }
        equal("XSA-18 a copy past the table", from(End::Grant(me.other, 4096)), GNTST_bad_gntref);
        equal("XSA-232 a copy from nobody", from(End::Grant(STRANGER, OPEN)), GNTST_bad_domain);
        equal("a copy by the other's frame number", from(End::Frame(me.other, 0x1000)), GNTST_permission_denied);
        equal("a copy to the other's frame number", to(End::Frame(me.other, 0x1000)), GNTST_permission_denied);
        equal("nothing arrived", instr::load64(own), FILL);
    });
}

/// XSA-523: every combination of places at the edges, against what it should do.
fn edges(me: &Me, own: u64) {
    let places = [0u16, 1, 7, 8, 2047, 4088, 4095, 4096, 4097, 0x8000, 0xfff8, 0xffff];
    let mut wrong = 0;
    for &from in &places {
        for &to in &places {
            for &len in &places {
                let fits = |at: u16| u32::from(at) + u32::from(len) <= 4096;
                let want = if fits(from) && fits(to) { GNTST_okay } else { GNTST_bad_copy_arg };
                let first = u64::from(to.min(4095));
                instr::store(own + first, 0xa5);
                let status = copy((End::Grant(me.other, READ), from), (End::Page(own), to), len);
                let byte = instr::load(own + first);
                // The other's page has two bytes that are not 0.
                let arrived = match from {
                    0 => 0xef,
                    1 => 0xbe,
                    _ => 0,
                };
                let right = if status == GNTST_okay && len > 0 { arrived } else { 0xa5 };
                wrong += u32::from(status != want || byte != right);
            }
        }
    }
    equal("XSA-523 copies at all edges", wrong, 0);
    for n in 0..512 {
        instr::store64(own + n * 8, FILL);
    }
    equal("a copy to the middle", copy((End::Grant(me.other, READ), 8), (End::Page(own), 8), 4080), GNTST_okay);
    equal("XSA-523 what lies before and behind", (instr::load64(own), instr::load64(own + 4088)), (FILL, FILL));
}

/// A copy never goes into a page table, one's own or the other's.
fn tables(me: &Me, own: u64) {
    me.act(Granter, || {
        for n in 0..512 {
            instr::store64(me.open + n * 8, 0);
        }
        memory::write_protect(me.open);
        equal("the granted page is a table", pin(1, memory::mfn(me.open)), 0);
    });
    me.act(Mapper, || {
        let to = |end| copy((End::Page(own), 0), (end, 0), 8);
        equal("XSA-523 a copy to the other's page table", to(End::Grant(me.other, OPEN)), GNTST_bad_page);
        let table = fresh(&[]);
        equal("a table of one's own", pin(1, memory::mfn(table)), 0);
        equal("XSA-523 a copy to one's own page table", to(End::Page(table)), GNTST_bad_page);
        equal("XSA-523 a copy to the root", to(End::Page(start::start_info().pt_base)), GNTST_bad_page);
        equal("its entries are as they were", instr::load64(table), 0);
        equal("it is let go", unpin(memory::mfn(table)), 0);
        for frame in [0u64, 0x100, 0xfee00, 1 << 39] {
            equal("XSA-523 a copy to the hypervisor's memory", to(End::Frame(DOMID_SELF, frame)), GNTST_bad_page);
        }
    });
    me.act(Granter, || {
        equal("the other's table is as it was", instr::load64(me.open), 0);
        equal("it is let go", (unpin(memory::mfn(me.open)), memory::unprotect(me.open)), (0, 0));
        instr::store64(me.open, 0x5eed);
    });
}

/// XSA-230: a copy does not end the use by a mapping.
fn while_mapped(me: &Me, own: u64) {
    let window = memory::page();
    let handle = me.turn(Mapper, || {
        let mapped = map(me.other, OPEN, GNTMAP_host_map, window);
        equal("a mapping", mapped.status, GNTST_okay);
        equal("a copy beside it", copy((End::Grant(me.other, OPEN), 0), (End::Page(own), 0), 8), GNTST_okay);
        equal("and one to it", copy((End::Page(own), 0), (End::Grant(me.other, OPEN), 8), 8), GNTST_okay);
        mapped.handle.into()
    }) as u32;
    me.act(Granter, || equal("XSA-230 the mapping is still in use", me.table.in_use(OPEN), (true, true)));
    let handle = me.turn(Mapper, || {
        equal("unmapped", unmap(handle, window), GNTST_okay);
        let reading = map(me.other, OPEN, GNTMAP_host_map | GNTMAP_readonly, window);
        equal("a mapping for reading", reading.status, GNTST_okay);
        equal("a copy to it", copy((End::Page(own), 0), (End::Grant(me.other, OPEN), 8), 8), GNTST_okay);
        reading.handle.into()
    }) as u32;
    me.act(Granter, || equal("XSA-230 in use for reading only", me.table.in_use(OPEN), (true, false)));
    me.act(Mapper, || equal("unmapped", unmap(handle, window), GNTST_okay));
    me.act(Granter, || equal("XSA-230 not in use any more", me.table.in_use(OPEN), (false, false)));
}
