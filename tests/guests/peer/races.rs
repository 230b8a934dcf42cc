//! Both at once: entries that change while they are used, and copies across each other.

use ptk::check::{equal, holds};
use ptk::grant::{End, copy, map, unmap};
use ptk::memory::{self, PAGE};
use ptk::rng::Rng;
use ptk::table::{pin, unpin};
use ptk::{event, hypercall, instr};
use xen_abi::domid::DOMID_SELF;
use xen_abi::event_channel::{EVTCHNOP_reset, EVTCHNSTAT_closed, EvtchnReset};
use xen_abi::grant_table::*;
use xen_abi::hypercall::__HYPERVISOR_sched_op;

use crate::meeting::{Me, OPEN, Role};
use Role::{Granter, Mapper};

const ROUNDS: u64 = 2000;
/// What each of the two pages begins with.
const MARKS: [u64; 2] = [0x5eed, 0x5eee];

fn give_way(round: u64) {
    if round % 4 == 0 {
        hypercall(__HYPERVISOR_sched_op, &[0]);
    }
}

pub fn run(me: &Me) {
    let second = memory::page();
    let mut noise = Rng::new(me.role as u64 + 1);
    me.act(Granter, || {
        instr::store64(me.open, MARKS[0]);
        instr::store64(second, MARKS[1]);
    });
    me.together(|| if me.role == Granter { rewrite(me, second, &mut noise) } else { use_it(me, &mut noise) });
    me.act(Granter, || {
        me.table.revoke(OPEN);
        for page in [me.open, second] {
            // The content has to make a table.
            for n in 0..512 {
                instr::store64(page + n * 8, 0);
            }
            memory::write_protect(page);
            let answers = (pin(1, memory::mfn(page)), unpin(memory::mfn(page)), memory::unprotect(page));
            equal("XSA-236 no use of either page is left", answers, (0, 0, 0));
        }
        me.table.grant(OPEN, me.other, me.open, GTF_permit_access);
    });
    across(me);
    resets(me);
}

/// XSA-236, XSA-155: an entry that names one page, another, none, or somebody else's, from one moment to the next.
fn rewrite(me: &Me, second: u64, noise: &mut Rng) {
    for round in 0..ROUNDS {
        let mfn = noise.one_of(&[memory::mfn(me.open), memory::mfn(second), 0x100]);
        let flags = noise.one_of(&[GTF_permit_access, GTF_permit_access, GTF_permit_access | GTF_readonly, 0]);
        me.table.grant_frame(OPEN, me.other, mfn, flags);
        give_way(round);
    }
}

/// Whatever it is, it is mapped as one of the two pages, or not at all.
fn use_it(me: &Me, noise: &mut Rng) {
    let (window, own) = (memory::page(), memory::page());
    let (mut mapped, mut copied, mut wrong) = (0, 0, 0);
    for round in 0..ROUNDS {
        let flags = noise.one_of(&[GNTMAP_host_map, GNTMAP_host_map | GNTMAP_readonly]);
        let got = map(me.other, OPEN, flags, window);
        give_way(round + 1);
        if got.status == GNTST_okay {
            mapped += 1;
            wrong += u32::from(!MARKS.contains(&instr::load64(window)));
            wrong += u32::from(unmap(got.handle, window) != GNTST_okay);
        } else {
            wrong += u32::from(got.status > 0);
        }
        instr::store64(own, MARKS[0]);
        if copy((End::Grant(me.other, OPEN), 0), (End::Page(own), 0), 8) == GNTST_okay {
            copied += 1;
        }
        wrong += u32::from(!MARKS.contains(&instr::load64(own)));
    }
    ptk::println!("races: {mapped} mappings, {copied} copies in {ROUNDS} rounds");
    equal("XSA-236 what is used is what was granted", wrong, 0);
    holds("XSA-236 some were", mapped > 100 && copied > 100);
    let _ = memory::set_va(window, memory::mfn(window) * PAGE | memory::RW);
}

/// XSA-411: each copies from its own grant to the other's, and back, at the same time.
fn across(me: &Me) {
    let own = memory::page();
    me.act(Mapper, || me.table.grant(OPEN, me.other, own, GTF_permit_access));
    me.act(Granter, || me.table.grant(OPEN, me.other, me.open, GTF_permit_access));
    let page = if me.role == Granter { me.open } else { own };
    me.together(|| {
        let mut bad = 0;
        for round in 0..ROUNDS {
            let (a, b) = (End::Grant(me.other, OPEN), End::Page(page));
            bad += u32::from(copy((a, 0), (b, 2048), 1024) != GNTST_okay);
            bad += u32::from(copy((b, 2048), (a, 1024), 1024) != GNTST_okay);
            give_way(round);
        }
        equal("XSA-411 copies across each other", bad, 0);
    });
    me.together(|| equal("XSA-411 nothing is in use after it", me.table.in_use(OPEN), (false, false)));
}

/// XSA-343, XSA-505: one resets all its ports, again and again, while the other binds, sends and closes.
fn resets(me: &Me) {
    me.together(|| {
        let (mut bound, mut wrong) = (0, 0);
        for round in 0..ROUNDS {
            if me.role == Granter {
                for _ in 0..3 {
                    wrong += u32::from(event::alloc_unbound(me.other).is_err());
                }
                give_way(round);
                wrong += u32::from(event::op_of(EVTCHNOP_reset, &mut EvtchnReset { dom: DOMID_SELF }) != 0);
            } else {
                let port = (1..8).find_map(|theirs| event::bind_interdomain(me.other, theirs).ok());
                give_way(round);
                if let Some(port) = port {
                    bound += 1;
                    wrong += u32::from(event::send(port) != 0 || event::close(port) != 0);
                }
            }
        }
        holds("XSA-343 channels were made", me.role == Granter || bound > 10);
        equal("XSA-343 channels that the other resets", wrong, 0);
    });
    me.together(|| equal("XSA-505 no port of either is left", (1..4096).filter(|&p| open(p)).count(), 0));
}

fn open(port: u32) -> bool {
    event::status(DOMID_SELF, port).is_ok_and(|s| s.status != EVTCHNSTAT_closed)
}
