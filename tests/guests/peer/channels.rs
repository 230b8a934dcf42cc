//! An event channel between two domains, from its start to its end, and what else the one tries on the other's ports.

use ptk::check::{equal, holds};
use ptk::event::{self, take};
use ptk::{hypercall, memory};
use xen_abi::domid::DOMID_SELF;
use xen_abi::event_channel::*;
use xen_abi::hypercall::__HYPERVISOR_set_timer_op;

use crate::meeting::{Me, Role, STRANGER, wait};
use crate::{EINVAL, EPERM};
use Role::{Granter, Mapper};

/// A port that must be had: 0 is none.
fn port_of(name: &str, answer: Result<u32, i64>) -> u64 {
    holds(name, answer.is_ok());
    answer.unwrap_or(0).into()
}

/// What a port is, and of which domain's which port.
fn state(port: u32) -> (u32, u32, u32) {
    event::status(DOMID_SELF, port).map_or((u32::MAX, 0, 0), |s| (s.status, s.u0, s.u1))
}

pub fn run(me: &Me) {
    let port = me.turn(Granter, || port_of("a port that waits for the mapper", event::alloc_unbound(me.other))) as u32;
    not_ones_own(me, port);
    let theirs = me.turn(Mapper, || port_of("it is bound", event::bind_interdomain(me.other, port))) as u32;
    let own = if me.role == Granter { port } else { theirs };
    let peer = if me.role == Granter { theirs } else { port };
    me.together(|| {
        equal("each end names the other", state(own), (EVTCHNSTAT_interdomain, me.other.into(), peer));
        // What was sent before it was bound may have been lost, so the binding itself is an event to the one who binds.
        equal("only the one who binds is told", take(own), me.role == Mapper);
    });
    me.act(Mapper, || equal("XSA-47 a port that is bound already", event::bind_interdomain(me.other, port), Err(EINVAL)));
    both_ways(me, own);
    upcall(me, own);
    let theirs = close(me, port, theirs);
    reset(me, port, theirs);
}

/// XSA-221, XSA-317: no port of the other's but the one that waits, and none of its operations.
fn not_ones_own(me: &Me, port: u32) {
    let third = me.turn(Granter, || port_of("a port that waits for a third", event::alloc_unbound(STRANGER))) as u32;
    let timer = me.turn(Granter, || port_of("a timer", event::bind_virq(VIRQ_TIMER, 0))) as u32;
    let ipi = me.turn(Granter, || port_of("an IPI", event::bind_ipi(0))) as u32;
    me.act(Mapper, || {
        equal("XSA-221 a port that waits for a third is bound", event::bind_interdomain(me.other, third), Err(EINVAL));
        equal("XSA-221 another's timer is bound", event::bind_interdomain(me.other, timer), Err(EINVAL));
        equal("XSA-221 another's IPI is bound", event::bind_interdomain(me.other, ipi), Err(EINVAL));
        let open = (0..=4096).filter(|&p| p != port && event::bind_interdomain(me.other, p) != Err(EINVAL)).count();
        equal("XSA-317 any other port of another's is bound", open, 0);
        let mut alloc = EvtchnAllocUnbound { dom: me.other, remote_dom: DOMID_SELF, port: 0 };
        equal("a port in another's table", event::op_of(EVTCHNOP_alloc_unbound, &mut alloc), EPERM);
        equal("the state of another's port", event::status(me.other, port).map(|s| s.status), Err(EPERM));
        equal("XSA-343 another's ports reset", event::op_of(EVTCHNOP_reset, &mut EvtchnReset { dom: me.other }), EPERM);
    });
    me.act(Granter, || {
        equal("nothing came of it", state(port), (EVTCHNSTAT_unbound, me.other.into(), 0));
        for port in [third, timer, ipi] {
            holds("no event came of it", !take(port));
            equal("it is closed", event::close(port), 0);
        }
    });
}

fn both_ways(me: &Me, own: u32) {
    for from in [Granter, Mapper, Granter, Mapper] {
        me.act(from, || equal("an event is sent", event::send(own), 0));
        me.together(|| equal("it arrives at the other one only", take(own), me.role != from));
    }
    me.act(Mapper, || holds("many events", (0..5000).all(|_| event::send(own) == 0)));
    me.act(Granter, || equal("a storm is one event", (take(own), take(own)), (true, false)));
}

/// An event wakes a domain that sleeps, by its handler; one that is masked does not come in.
fn upcall(me: &Me, own: u32) {
    let mask = memory::shared_word(xen_abi::shared_info::offset::EVTCHN_MASK + (own / 64) as usize * 8);
    let bit = 1u64 << (own % 64);
    let before = me.turn(Granter, || {
        mask.fetch_or(bit, core::sync::atomic::Ordering::SeqCst);
        event::mask_upcalls(false);
        // What was held back until now comes in on the way out of this call.
        hypercall(xen_abi::hypercall::__HYPERVISOR_sched_op, &[0]);
        event::upcalls()
    });
    me.act(Mapper, || equal("an event to a masked port", event::send(own), 0));
    me.act(Granter, || {
        equal("it does not come in", event::upcalls(), before);
        equal("the port is unmasked", event::unmask(own), 0);
        equal("it comes in", event::upcalls(), before + 1);
    });
    me.together(|| {
        if me.role == Granter {
            hypercall(xen_abi::hypercall::__HYPERVISOR_sched_op, &[xen_abi::sched::SCHEDOP_block.into()]);
            wait("a sleeper is woken", || event::upcalls() > before + 1);
        } else {
            pause();
            equal("an event to a sleeper", event::send(own), 0);
        }
    });
    me.act(Granter, || event::mask_upcalls(true));
}

/// Long enough for the other one to sleep; nothing depends on it.
fn pause() {
    let until = memory::now_ns() + 20_000_000;
    hypercall(__HYPERVISOR_set_timer_op, &[0]);
    wait("time passes", || memory::now_ns() > until);
}

/// XSA-188: one end is closed while the other is in use. The mapper's port at the end.
fn close(me: &Me, port: u32, theirs: u32) -> u32 {
    me.act(Mapper, || {
        equal("XSA-188 closed while it is bound", event::close(theirs), 0);
        equal("XSA-188 send on a port that was closed", event::send(theirs), EINVAL);
        equal("XSA-188 close of a port that was closed", event::close(theirs), EINVAL);
        equal("XSA-188 unmask of a port that was closed", event::unmask(theirs), EINVAL);
        equal("its state", state(theirs).0, EVTCHNSTAT_closed);
    });
    me.act(Granter, || {
        equal("the other end waits again", state(port), (EVTCHNSTAT_unbound, me.other.into(), 0));
        equal("XSA-188 an event to nobody", event::send(port), 0);
    });
    let again = me.turn(Mapper, || {
        holds("nothing arrives on a port that was closed", !take(theirs));
        port_of("it is bound again", event::bind_interdomain(me.other, port))
    }) as u32;
    me.act(Granter, || equal("XSA-188 the other end is closed", event::close(port), 0));
    me.act(Mapper, || {
        equal("this one waits then", state(again), (EVTCHNSTAT_unbound, me.other.into(), 0));
        let _ = take(again);
        equal("XSA-188 an event to nobody", event::send(again), 0);
        equal("XSA-47 a port that is free is bound", event::bind_interdomain(me.other, port), Err(EINVAL));
    });
    again
}

/// XSA-344: the roles turned around, and an end by reset.
fn reset(me: &Me, port: u32, theirs: u32) {
    let bound = me.turn(Granter, || port_of("the granter binds to the mapper", event::bind_interdomain(me.other, theirs))) as u32;
    me.act(Mapper, || {
        equal("the link holds", state(theirs), (EVTCHNSTAT_interdomain, me.other.into(), bound));
        equal("XSA-344 all ports are reset", event::op_of(EVTCHNOP_reset, &mut EvtchnReset { dom: DOMID_SELF }), 0);
        equal("no port is left", (1..4096).filter(|&p| state(p).0 != EVTCHNSTAT_closed).count(), 0);
    });
    me.act(Granter, || {
        equal("the other end waits", state(bound), (EVTCHNSTAT_unbound, me.other.into(), 0));
        equal("an event to nobody", event::send(bound), 0);
        equal("it is closed", event::close(bound), 0);
        holds("the first one is free", state(port).0 == EVTCHNSTAT_closed || port == bound);
    });
}
