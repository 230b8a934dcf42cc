//! One of the two dies while the other uses what it had.

use ptk::check::{equal, holds, shutdown};
use ptk::event::{self, take};
use ptk::grant::{End, copy, map, unmap, unmap_parts};
use ptk::instr;
use ptk::memory::{self, PAGE};
use ptk::table::{pin, unpin};
use xen_abi::domid::DOMID_SELF;
use xen_abi::event_channel::EVTCHNSTAT_unbound;
use xen_abi::grant_table::*;
use xen_abi::sched::SHUTDOWN_crash;

use crate::ESRCH;
use crate::meeting::{MEETING, Me, OPEN, READ, Role, wait};
use Role::{Granter, Mapper};

/// A channel between the two: one's own end.
fn channel(me: &Me) -> u32 {
    let port = me.turn(Granter, || event::alloc_unbound(me.other).unwrap_or(0).into()) as u32;
    let bound = me.turn(Mapper, || event::bind_interdomain(me.other, port).unwrap_or(0).into()) as u32;
    holds("a channel", port != 0 && bound != 0);
    let own = if me.role == Granter { port } else { bound };
    let _ = take(own);
    own
}

/// Waits until the other one is gone, and looks at the channel then.
fn survive(me: &Me, own: u32) {
    wait("the other one dies", || event::bind_interdomain(me.other, 1) == Err(ESRCH));
    wait("its ports are closed", || event::status(DOMID_SELF, own).is_ok_and(|s| s.status == EVTCHNSTAT_unbound));
    equal("an event to the dead", event::send(own), 0);
    equal("its channel is closed", event::close(own), 0);
    equal("a grant of the dead", map(me.other, OPEN, GNTMAP_host_map, memory::page()).status, GNTST_bad_domain);
    let page = memory::page();
    equal("a copy from the dead", copy((End::Grant(me.other, READ), 0), (End::Page(page), 0), 8), GNTST_bad_domain);
}

/// Its frames stay as long as they are mapped, and no longer.
pub fn of_granter(me: &Me) {
    let own = channel(me);
    let windows = [(); 4].map(|()| memory::page());
    let mut handles = [0; 4];
    me.act(Mapper, || {
        let flags = [GNTMAP_host_map, GNTMAP_host_map, GNTMAP_host_map | GNTMAP_device_map, GNTMAP_host_map];
        for ((handle, &window), flags) in handles.iter_mut().zip(&windows).zip(flags) {
            let mapped = map(me.other, OPEN, flags, window);
            equal("mapped", mapped.status, GNTST_okay);
            *handle = mapped.handle;
        }
    });
    if me.role == Granter {
        // With the other's mappings in place.
        return;
    }
    survive(me, own);
    let device = memory::entry(windows[0], 1).map_or(0, |e| e.1 & 0x000f_ffff_ffff_f000);
    for round in 0..50 {
        holds("the dead one's page is as it was", windows.iter().all(|&w| instr::load64(w) == 0x5eed + round));
        instr::store64(windows[0], 0x5eed + round + 1);
        wait("time passes", {
            let until = memory::now_ns() + 4_000_000;
            move || memory::now_ns() > until
        });
    }
    equal("unmapped after its death", unmap(handles[0], windows[0]), GNTST_okay);
    equal("both parts after its death", unmap_parts(handles[2], windows[2], device), GNTST_okay);
    equal("unmapped twice", unmap(handles[0], windows[0]), GNTST_bad_handle);
    // The rest, and the meeting page, go with this domain.
}

/// Everything that it had mapped is given back, and nothing of it is left.
pub fn of_mapper(me: &Me) {
    let own = channel(me);
    me.act(Mapper, || {
        let window = memory::page();
        equal("mapped", map(me.other, OPEN, GNTMAP_host_map, window).status, GNTST_okay);
        equal("mapped for reading", map(me.other, READ, GNTMAP_host_map | GNTMAP_readonly, memory::page()).status, GNTST_okay);
        // XSA-228: a number for each, none twice; XSA-380: as many as there can be.
        let seen = memory::page();
        let (mut count, mut twice) = (0u32, 0);
        let end = loop {
            let mapped = map(me.other, OPEN, GNTMAP_device_map, 0);
            if mapped.status != GNTST_okay {
                break mapped.status;
            }
            let at = seen + u64::from(mapped.handle / 8) % PAGE;
            let bit = 1 << (mapped.handle % 8);
            twice += u32::from(instr::load(at) & bit != 0);
            instr::store(at, instr::load(at) | bit);
            count += 1;
        };
        equal("XSA-380 mappings end with an answer", end, GNTST_no_space);
        holds("XSA-380 there were many", count > 4000);
        equal("XSA-228 no handle is given twice", twice, 0);
        equal("XSA-228 a full table maps nothing more", map(me.other, READ, GNTMAP_host_map, window).status, GNTST_no_space);
    });
    if me.role == Mapper {
        shutdown(SHUTDOWN_crash);
    }
    survive(me, own);
    wait("all its mappings are given back", || [MEETING, OPEN, READ].iter().all(|&g| me.table.in_use(g) == (false, false)));
    for page in [me.open, me.read] {
        instr::store64(page, 0);
        memory::write_protect(page);
        // It dies in steps: its page tables, which have the page mapped, go behind its grants.
        wait("its page tables are gone", || pin(1, memory::mfn(page)) == 0 && unpin(memory::mfn(page)) == 0);
        let answers = (pin(1, memory::mfn(page)), unpin(memory::mfn(page)), memory::unprotect(page));
        equal("XSA-380 no use of it is left", answers, (0, 0, 0));
    }
}
