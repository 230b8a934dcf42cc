//! Event channels: every port number, every state, none of it another domain's or past the table (XSA-107, XSA-317,
//! XSA-338, XSA-344), and deadlines that make no sense (XSA-20).
#![no_std]
#![no_main]

use ptk::check::{equal, holds};
use ptk::{event, hypercall, memory};
use xen_abi::domid::DOMID_SELF;
use xen_abi::event_channel::*;
use xen_abi::hypercall::__HYPERVISOR_set_timer_op;

const EINVAL: i64 = -22;
const ENOSPC: i64 = -28;
const ENOSYS: i64 = -38;
const ENOENT: i64 = -2;
const ESRCH: i64 = -3;
const EEXIST: i64 = -17;

fn main() {
    ports();
    refusals();
    timers();
    every_port();
}

/// A channel to oneself, from its start to its end.
fn ports() {
    let Ok(one) = event::alloc_unbound(DOMID_SELF) else { return holds("a port", false) };
    let Ok(two) = event::bind_interdomain(DOMID_SELF, one) else { return holds("its peer", false) };
    let _ = (event::take(one), event::take(two));
    equal("an event is sent", event::send(one), 0);
    holds("it arrives at the peer", event::take(two) && !event::take(one));
    equal("a port that is taken is not bound again", event::bind_interdomain(DOMID_SELF, one), Err(EINVAL));
    equal("XSA-338 closed while it is bound", event::close(one), 0);
    equal("closed twice", event::close(one), EINVAL);
    equal("XSA-338 its peer is unbound", event::status(DOMID_SELF, two).map(|s| s.status), Ok(EVTCHNSTAT_unbound));
    let _ = event::send(two);
    equal("the peer is closed", event::close(two), 0);
}

/// Numbers of ports, vCPUs, virtual interrupts and domains that are none.
fn refusals() {
    for port in [0u32, 4095, 4096, 4097, 131_072, 0x7fff_ffff, u32::MAX] {
        equal("XSA-317 send", event::send(port), EINVAL);
        equal("XSA-317 close", event::close(port), EINVAL);
        equal("XSA-317 bind_interdomain", event::bind_interdomain(DOMID_SELF, port), Err(EINVAL));
        holds("XSA-317 unmask", event::unmask(port) <= 0);
        holds("XSA-317 bind_vcpu", event::op_of(EVTCHNOP_bind_vcpu, &mut EvtchnBindVcpu { port, vcpu: 0 }) < 0);
    }
    for vcpu in [1u32, 64, 8192, u32::MAX] {
        equal("an IPI of a vCPU that is none", event::bind_ipi(vcpu), Err(ENOENT));
        holds("a timer of a vCPU that is none", event::bind_virq(VIRQ_TIMER, vcpu).is_err());
    }
    for virq in [NR_VIRQS, 31, 32, 0x8000_0000, u32::MAX] {
        equal("a virtual interrupt that is none", event::bind_virq(virq, 0), Err(EINVAL));
    }
    equal("a domain that is none", event::bind_interdomain(999, 1), Err(ESRCH));
    for command in [EVTCHNOP_init_control, EVTCHNOP_expand_array, EVTCHNOP_set_priority, 14, u32::MAX] {
        equal("XSA-107 commands that are not offered", event::op_of(command, &mut EvtchnInitControl::default()), ENOSYS);
    }
}

/// XSA-20: deadlines at the edges; an ordinary one still comes.
fn timers() {
    let Ok(port) = event::bind_virq(VIRQ_TIMER, 0) else { return holds("a timer", false) };
    equal("it is bound once", event::bind_virq(VIRQ_TIMER, 0), Err(EEXIST));
    for deadline in [u64::MAX, 1 << 63, (1 << 63) - 1, 1, 0] {
        equal("XSA-20 a deadline", hypercall(__HYPERVISOR_set_timer_op, &[deadline]), 0);
    }
    let _ = event::take(port);
    let start = memory::now_ns();
    equal("a deadline soon", hypercall(__HYPERVISOR_set_timer_op, &[start.saturating_add(5_000_000)]), 0);
    let mut came = false;
    while !came && memory::now_ns().saturating_sub(start) < 2_000_000_000 {
        came = event::take(port);
    }
    holds("it comes, and not before", came && memory::now_ns().saturating_sub(start) >= 5_000_000);
    equal("the timer's port is closed", event::close(port), 0);
}

/// XSA-344: all ports taken, then all closed at once.
fn every_port() {
    let mut taken = 0u32;
    let end = loop {
        match event::alloc_unbound(DOMID_SELF) {
            Ok(port) if port < 4096 => taken = taken.saturating_add(1),
            Ok(_) => break 0,
            Err(error) => break error,
        }
    };
    equal("XSA-344 ports end with an error", end, ENOSPC);
    holds("there were many", taken > 4000);
    equal("reset closes all", event::op_of(EVTCHNOP_reset, &mut EvtchnReset { dom: DOMID_SELF }), 0);
    holds("after it there are ports", event::alloc_unbound(DOMID_SELF).is_ok());
}

ptk::guest!(main);
