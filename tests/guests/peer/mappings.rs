//! The mapper maps what the granter grants: as it may and as it may not, and for how long.

use ptk::check::{equal, holds, one_of};
use ptk::grant::{map, unmap, unmap_parts};
use ptk::memory::{self, PAGE, RO, RW};
use ptk::table::{fresh, pin, unpin, update};
use ptk::trap::fault_of;
use ptk::{call, hypercall, instr};
use xen_abi::domid::DOMID_SELF;
use xen_abi::grant_table::*;
use xen_abi::hypercall::{__HYPERVISOR_grant_table_op, __HYPERVISOR_memory_op};
use xen_abi::memory::{XENMEM_decrease_reservation, XenMemoryReservation};

use crate::meeting::{Me, NOTHING, OPEN, READ, Role, STRANGER, STRANGERS};
use crate::{EINVAL, EPERM};
use Role::{Granter, Mapper};

const HOST: u32 = GNTMAP_host_map;
const HOST_RO: u32 = GNTMAP_host_map | GNTMAP_readonly;

pub fn run(me: &Me) {
    refusals(me);
    writable(me);
    read_only(me);
    by_entry(me);
    parts(me);
    batch(me);
}

fn refusals(me: &Me) {
    me.act(Mapper, || {
        let window = memory::page();
        let status = |dom, gref, flags| map(dom, gref, flags, window).status;
        equal("XSA-234 a read-only grant is mapped writable", status(me.other, READ, HOST), GNTST_general_error);
        equal("XSA-226 a third domain's grant is mapped", status(me.other, STRANGERS, HOST_RO), GNTST_general_error);
        equal("an entry that grants nothing is mapped", status(me.other, NOTHING, HOST_RO), GNTST_general_error);
        for gref in [512, 1 << 16, 0x7fff_ffff, u32::MAX] {
            equal("XSA-18 a reference past the other's table", status(me.other, gref, HOST), GNTST_bad_gntref);
        }
        equal("a grant of nobody's", status(STRANGER, OPEN, HOST), GNTST_bad_domain);
        equal("the other's grant by one's own number", status(DOMID_SELF, OPEN, HOST), GNTST_general_error);
        for dom in [0u16, 0x7ff1, 0x7ff2, 0x7ff4, 0xffff] {
            equal("XSA-232 a grant of a domain that is none", status(dom, OPEN, HOST), GNTST_bad_domain);
        }
    });
    me.act(Granter, || {
        let used = [OPEN, READ, STRANGERS, NOTHING].map(|gref| me.table.in_use(gref));
        equal("what was refused is not in use", used, [(false, false); 4]);
    });
}

/// A frame in use, its grant taken back meanwhile, and what its owner can do with it then.
fn writable(me: &Me) {
    let window = memory::page();
    let handle = me.turn(Mapper, || {
        let mapped = map(me.other, OPEN, HOST, window);
        equal("a grant is mapped", mapped.status, GNTST_okay);
        equal("the other's page is there", instr::load64(window), 0x5eed);
        instr::store64(window + 8, 0xc11e);
        mapped.handle.into()
    }) as u32;
    me.act(Granter, || {
        equal("what the other wrote is there", instr::load64(me.open + 8), 0xc11e);
        equal("the grant is in use", me.table.in_use(OPEN), (true, true));
        equal("XSA-18 the other's handle is not one's own", unmap(handle, me.open), GNTST_bad_handle);
        let mut swap = [GnttabSwapGrantRef { ref_a: OPEN, ref_b: NOTHING, ..Default::default() }];
        let answer = ptk::hypercall::call_many(__HYPERVISOR_grant_table_op, GNTTABOP_swap_grant_ref, &mut swap);
        equal("XSA-18 a grant in use is swapped", (answer, swap[0].status), (0, GNTST_eagain));
        me.table.revoke(OPEN);
        memory::write_protect(me.open);
        equal("XSA-401 a page that another can write becomes a table", pin(1, memory::mfn(me.open)), EINVAL);
        let mut list = [memory::mfn(me.open)];
        equal("XSA-252 unmapped here", memory::set_va(me.open, 0), 0);
        let mut request =
            XenMemoryReservation { extent_start: list.as_mut_ptr() as u64, nr_extents: 1, domid: DOMID_SELF, ..Default::default() };
        equal("XSA-252 it is given back while another maps it", call(__HYPERVISOR_memory_op, XENMEM_decrease_reservation, &mut request), 0);
        equal("it is mapped here again", memory::write_protect(me.open), 0);
    });
    me.act(Mapper, || {
        equal("a grant that was taken back goes on while it is mapped", instr::load64(window), 0x5eed);
        instr::store64(window + 8, 0xc12e);
        equal("unmapped", unmap(handle, window), GNTST_okay);
        equal("XSA-224 unmapped a second time", unmap(handle, window), GNTST_bad_handle);
        closed(window);
        equal("a grant that was taken back is mapped", map(me.other, OPEN, HOST, window).status, GNTST_general_error);
    });
    me.act(Granter, || {
        equal("what the other wrote last is there", instr::load64(me.open + 8), 0xc12e);
        equal("it is one's own page again", memory::unprotect(me.open), 0);
        instr::store64(me.open, 0);
        instr::store64(me.open + 8, 0);
        memory::write_protect(me.open);
        equal("XSA-234 let go, it can be a table", pin(1, memory::mfn(me.open)), 0);
        equal("and nobody's writable page", memory::unprotect(me.open), EINVAL);
        // The grant is renewed while the page is a table.
        me.table.grant(OPEN, me.other, me.open, GTF_permit_access);
    });
    me.act(Mapper, || {
        equal("XSA-234 a grant of a page table is mapped writable", map(me.other, OPEN, HOST, window).status, GNTST_bad_page);
        let mapped = map(me.other, OPEN, HOST_RO, window);
        equal("it is mapped read-only", mapped.status, GNTST_okay);
        equal("a write to another's page table", fault_of(|| instr::store64(window, 0xe7)).map(|f| f.0), Some(14));
        equal("unmapped", unmap(mapped.handle, window), GNTST_okay);
    });
    me.act(Granter, || {
        equal("nothing is left of what was refused", me.table.in_use(OPEN), (false, false));
        equal("the table is let go", (unpin(memory::mfn(me.open)), memory::unprotect(me.open)), (0, 0));
        instr::store64(me.open, 0x5eed);
    });
}

fn read_only(me: &Me) {
    me.act(Mapper, || {
        let window = memory::page();
        let mapped = map(me.other, READ, HOST_RO, window);
        equal("a read-only grant", (mapped.status, instr::load64(window)), (GNTST_okay, 0xbeef));
        equal("a write to it", fault_of(|| instr::store64(window, 1)).map(|f| f.0), Some(14));
        let (at, entry) = memory::entry(window, 1).unwrap_or_default();
        let frame = entry & 0x000f_ffff_ffff_f000;
        for (name, answer) in [
            ("XSA-234 its entry made writable by mmu_update", update(at, entry | 2)),
            ("XSA-234 its entry made writable by update_va_mapping", memory::set_va(window, frame | RW)),
            ("XSA-234 its frame in another entry", memory::set_va(memory::page(), frame | RO)),
        ] {
            one_of(name, answer, &[EINVAL, EPERM]);
        }
        holds("XSA-234 its entry made writable by a plain store", {
            let table = memory::VIRT_BASE + memory::m2p(at / PAGE) * PAGE + at % PAGE;
            fault_of(|| instr::store64(table, entry | 2)).is_some()
        });
        equal("a write to it, after all that", fault_of(|| instr::store64(window, 1)).map(|f| f.0), Some(14));
        // The entry is replaced behind the mapping's back: there is nothing to unmap, and the use stays counted.
        equal("its entry is cleared", memory::set_va(window, 0), 0);
        equal("XSA-234 unmapped where nothing is mapped", unmap(mapped.handle, window), GNTST_bad_virt_addr);
        equal("one's own page there", memory::unprotect(window), 0);
        equal("XSA-234 unmapped where another page is", unmap(mapped.handle, window), GNTST_bad_virt_addr);
        // By another mapping of the same grant the entry is as it was.
        let second = map(me.other, READ, HOST_RO, window);
        equal("mapped again", second.status, GNTST_okay);
        equal("XSA-224 unmapped by the older handle", unmap(mapped.handle, window), GNTST_okay);
        // One use is left without an entry, and goes with the domain.
        equal("XSA-394 there is no second time", unmap(second.handle, window), GNTST_bad_virt_addr);
    });
}

/// XSA-227: mappings by the address of an entry.
fn by_entry(me: &Me) {
    const AT_ENTRY: u32 = HOST | GNTMAP_contains_pte;
    me.act(Mapper, || {
        let window = memory::page();
        let (at, _) = memory::entry(window, 1).unwrap_or_default();
        let status = |at| map(me.other, OPEN, AT_ENTRY, at).status;
        for offset in 1..8 {
            equal("XSA-227 an entry off its place", status(at + offset), GNTST_bad_virt_addr);
        }
        equal("XSA-227 the end of a table", status((at & !0xfff) + 4095), GNTST_bad_virt_addr);
        let own = memory::page();
        equal("XSA-227 a page that is no table", status(memory::mfn(own) * PAGE), GNTST_bad_virt_addr);
        for level in 2..=4 {
            let (higher, _) = memory::entry(window, level).unwrap_or_default();
            // The next one, so that a success would not take this guest's own memory away.
            equal("XSA-227 an entry of a higher level", status(higher ^ 8), GNTST_bad_virt_addr);
        }
        let loose = fresh(&[]);
        equal("XSA-227 a page that is a table no more", status(memory::mfn(loose) * PAGE), GNTST_bad_virt_addr);
        for frame in [0x100u64, 0xfee00, 1 << 39, u64::MAX >> 12] {
            equal("XSA-227 a frame that is not one's own", status(frame * PAGE), GNTST_bad_virt_addr);
        }
        let theirs = map(me.other, OPEN, HOST, memory::page());
        equal("XSA-227 another's frame", status(theirs.dev_bus_addr), GNTST_bad_virt_addr);
        equal("that one is unmapped", unmap(theirs.handle, theirs.host_addr), GNTST_okay);
        let mapped = map(me.other, OPEN, AT_ENTRY, at);
        equal("by an entry as it should be", (mapped.status, instr::load64(window)), (GNTST_okay, 0x5eed));
        equal("unmapped by the address instead", unmap(mapped.handle, window), GNTST_bad_virt_addr);
        equal("unmapped by the entry", unmap(mapped.handle, at), GNTST_okay);
        closed(window);
    });
    me.act(Granter, || equal("XSA-291 nothing is left of all that", me.table.in_use(OPEN), (false, false)));
}

/// XSA-394, XSA-224: a mapping of two parts is let go part by part.
fn parts(me: &Me) {
    let window = memory::page();
    let mapped = me.turn(Mapper, || {
        let mapped = map(me.other, OPEN, HOST | GNTMAP_device_map, window);
        equal("for processors and devices", mapped.status, GNTST_okay);
        equal("XSA-224 neither part unmapped", unmap_parts(mapped.handle, 0, 0), GNTST_bad_virt_addr);
        equal("XSA-224 at another device address", unmap_parts(mapped.handle, 0, mapped.dev_bus_addr ^ PAGE), GNTST_bad_dev_addr);
        equal("XSA-224 one part right, one wrong", unmap_parts(mapped.handle, window + PAGE, mapped.dev_bus_addr), GNTST_bad_virt_addr);
        equal("the processor's part", unmap_parts(mapped.handle, window, 0), GNTST_okay);
        equal("XSA-394 the same part again", unmap_parts(mapped.handle, window, 0), GNTST_bad_virt_addr);
        u64::from(mapped.handle) << 40 | mapped.dev_bus_addr >> 12
    });
    me.act(Granter, || equal("XSA-394 the device's part is still counted", me.table.in_use(OPEN), (true, true)));
    me.act(Mapper, || {
        let (handle, device) = ((mapped >> 40) as u32, (mapped & 0xff_ffff_ffff) << 12);
        equal("the device's part", unmap_parts(handle, 0, device), GNTST_okay);
        equal("XSA-394 the same part again", unmap_parts(handle, 0, device), GNTST_bad_handle);
    });
    me.act(Granter, || equal("XSA-394 nothing is counted any more", me.table.in_use(OPEN), (false, false)));
}

/// XSA-316, XSA-318: in a list of requests each has its own answer, and the call none.
fn batch(me: &Me) {
    me.act(Mapper, || {
        let window = memory::page();
        let request =
            |gref, dom| GnttabMapGrantRef { host_addr: window, flags: HOST, r#ref: gref, dom, status: 0x55, ..Default::default() };
        let mut list = [request(OPEN, me.other), request(9999, me.other), request(OPEN, STRANGER), request(READ, me.other)];
        let answer = ptk::hypercall::call_many(__HYPERVISOR_grant_table_op, GNTTABOP_map_grant_ref, &mut list);
        let want = [GNTST_okay, GNTST_bad_gntref, GNTST_bad_domain, GNTST_general_error];
        equal("XSA-318 each request has its answer", (answer, list.each_ref().map(|r| r.status)), (0, want));
        equal("unmapped", unmap(list[0].handle, window), GNTST_okay);
        let mut many = [(); 300].map(|()| request(9999, me.other));
        let answer = ptk::hypercall::call_many(__HYPERVISOR_grant_table_op, GNTTABOP_map_grant_ref, &mut many);
        holds("XSA-318 in a long list too", answer == 0 && many.iter().all(|r| r.status == GNTST_bad_gntref));
        for at in [0xffff_8080_0010_0000u64, 0x8000_0000_0000_0000, 0x5000_0000_0000] {
            let answer = hypercall(__HYPERVISOR_grant_table_op, &[GNTTABOP_map_grant_ref.into(), at, 2]);
            equal("XSA-316 a list in forbidden memory", answer, -14);
        }
    });
}

/// Checks that nothing is mapped at `window`.
fn closed(window: u64) {
    let fault = fault_of(|| {
        instr::load64(window);
    });
    equal("the window is closed", fault.map(|f| f.0), Some(14));
}
