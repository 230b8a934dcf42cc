//! Event channels: every operation on every port, errno as the ABI has them, two domains against each other.

use std::collections::BTreeSet;
use std::vec::Vec;

use proptest::prelude::*;
use xen_abi::errno::Errno;
use xen_abi::event_channel::{NR_VIRQS, VIRQ_CONSOLE, VIRQ_TIMER};

use super::{Consumer, EvtchnError, EvtchnTable, MAX_PORTS, Notify, Port, PortState, Sent};
use crate::frame::DomId;

const A: DomId = DomId::new(1);
const B: DomId = DomId::new(2);

fn port(n: u32) -> Port {
    Port::new(n).unwrap()
}

fn table(domain: DomId) -> EvtchnTable {
    EvtchnTable::new(domain, 4).unwrap()
}

/// A pair of tables with one link: (A, its port, B, its port).
fn linked() -> (EvtchnTable, Port, EvtchnTable, Port) {
    let (mut a, mut b) = (table(A), table(B));
    let pa = a.alloc_unbound(B).unwrap();
    let bound = EvtchnTable::bind_interdomain(&mut b, Some(&mut a), pa).unwrap();
    (a, pa, b, bound.port)
}

#[test]
fn port_numbers_end_where_the_shared_page_does() {
    assert_eq!(Port::new(0), None);
    assert_eq!(Port::new(4095).map(Port::raw), Some(4095));
    for bad in [4096, 4097, 65_535, 65_536, 65_537, 1 << 17, u32::MAX] {
        assert_eq!(Port::new(bad), None);
    }
    assert_eq!((port(4095).word(), port(4095).bit()), (63, 63));
    assert_eq!((port(64).word(), port(64).bit()), (1, 0));
}

#[test]
fn xsa_317_342_allocation_stops_at_the_last_port_and_goes_on_after_a_close() {
    let mut a = table(A);
    for n in 1..MAX_PORTS {
        assert_eq!(a.alloc_unbound(B), Ok(port(n)));
    }
    assert_eq!(a.alloc_unbound(B), Err(EvtchnError::NoSpace));
    assert_eq!(a.bind_ipi(0), Err(EvtchnError::NoSpace));
    let _closed = a.close(port(1024)).unwrap();
    assert_eq!(a.bind_ipi(0), Ok(port(1024)));
    assert_eq!(a.bind_virq(VIRQ_TIMER, 0), Err(EvtchnError::NoSpace));
    assert_eq!(a.virq_port(VIRQ_TIMER, 0), None);
}

#[test]
fn xsa_221_a_free_port_is_refused_by_each_operation() {
    let mut a = table(A);
    for n in 1..MAX_PORTS {
        let p = port(n);
        assert_eq!(a.send(p), Err(EvtchnError::BadPort));
        assert_eq!(a.close(p), Err(EvtchnError::BadPort));
        assert_eq!(a.bind_vcpu(p, 0), Err(EvtchnError::BadPort));
        assert_eq!(a.notify_vcpu(p), Err(EvtchnError::BadPort));
        assert_eq!(a.arrive(p, A, p), None);
        assert_eq!(a.status(p).state, PortState::Free);
        a.peer_closed(p, B, p);
        assert_eq!(a.status(p).state, PortState::Free);
    }
}

#[test]
fn interdomain_links_send_both_ways() {
    let (mut a, pa, mut b, pb) = linked();
    assert_eq!(b.send(pb), Ok(Sent::Peer { domain: A, port: pa }));
    assert_eq!(a.arrive(pa, B, pb), Some(Notify { domain: A, vcpu: 0, port: pa }));
    assert_eq!(a.send(pa), Ok(Sent::Peer { domain: B, port: pb }));
    a.bind_vcpu(pa, 3).unwrap();
    assert_eq!(a.arrive(pa, B, pb), Some(Notify { domain: A, vcpu: 3, port: pa }));
    assert_eq!(a.bind_vcpu(pa, 4), Err(EvtchnError::NoVcpu));
    let closed = b.close(pb).unwrap();
    assert_eq!(closed.was, PortState::Interdomain { remote: A, port: pa });
    // Between the two locks, an event through the dead link goes nowhere.
    assert_eq!(b.arrive(pb, A, pa), None);
    a.peer_closed(pa, B, pb);
    assert_eq!(a.status(pa).state, PortState::Unbound { remote: B });
    assert_eq!(a.send(pa), Ok(Sent::Nowhere));
}

#[test]
fn a_port_waits_only_for_the_domain_it_was_allocated_for() {
    let (mut a, mut b) = (table(A), table(B));
    let for_a = a.alloc_unbound(A).unwrap();
    let refused = EvtchnTable::bind_interdomain(&mut b, Some(&mut a), for_a);
    assert_eq!(refused, Err(EvtchnError::RemoteRefuses));
    assert_eq!(b.used(), 0);
    // Its own domain may.
    let bound = EvtchnTable::bind_interdomain(&mut a, None, for_a).unwrap();
    assert_eq!(a.send(bound.port), Ok(Sent::Peer { domain: A, port: for_a }));
    assert!(a.arrive(for_a, A, bound.port).is_some());
    // Bound once, it waits no more.
    assert_eq!(EvtchnTable::bind_interdomain(&mut a, None, for_a), Err(EvtchnError::RemoteRefuses));
    assert_eq!(EvtchnTable::bind_interdomain(&mut a, None, port(9)), Err(EvtchnError::BadPort));
    let ipi = a.bind_ipi(0).unwrap();
    assert_eq!(EvtchnTable::bind_interdomain(&mut b, Some(&mut a), ipi), Err(EvtchnError::RemoteRefuses));
}

#[test]
fn a_full_table_leaves_the_remote_port_waiting() {
    let (mut a, mut b) = (table(A), table(B));
    let pa = a.alloc_unbound(B).unwrap();
    while b.bind_ipi(0).is_ok() {}
    assert_eq!(EvtchnTable::bind_interdomain(&mut b, Some(&mut a), pa), Err(EvtchnError::NoSpace));
    assert_eq!(a.status(pa).state, PortState::Unbound { remote: B });
}

#[test]
fn virqs_are_per_vcpu_or_per_domain() {
    let mut a = table(A);
    let timers: Vec<_> = (0..4).map(|vcpu| a.bind_virq(VIRQ_TIMER, vcpu).unwrap()).collect();
    assert_eq!(a.bind_virq(VIRQ_TIMER, 2), Err(EvtchnError::Exists));
    assert_eq!(a.raise_virq(VIRQ_TIMER, 2), Some(Notify { domain: A, vcpu: 2, port: timers[2] }));
    assert_eq!(a.bind_vcpu(timers[2], 0), Err(EvtchnError::WrongState));
    assert_eq!(a.send(timers[2]), Err(EvtchnError::WrongState));
    let console = a.bind_virq(VIRQ_CONSOLE, 0).unwrap();
    assert_eq!(a.bind_virq(VIRQ_CONSOLE, 1), Err(EvtchnError::BadVirq));
    assert_eq!(a.bind_virq(VIRQ_CONSOLE, 0), Err(EvtchnError::Exists));
    a.bind_vcpu(console, 3).unwrap();
    assert_eq!(a.raise_virq(VIRQ_CONSOLE, 0), Some(Notify { domain: A, vcpu: 3, port: console }));
    for virq in [NR_VIRQS, NR_VIRQS + 1, u32::MAX] {
        assert_eq!(a.bind_virq(virq, 0), Err(EvtchnError::BadVirq));
        assert_eq!(a.virq_port(virq, u32::MAX), None);
    }
    for vcpu in [4, u32::MAX] {
        assert_eq!(a.bind_virq(VIRQ_TIMER, vcpu), Err(EvtchnError::NoVcpu));
        assert_eq!(a.bind_ipi(vcpu), Err(EvtchnError::NoVcpu));
        assert_eq!(a.raise_virq(VIRQ_TIMER, vcpu), None);
    }
    let _closed = a.close(timers[2]).unwrap();
    assert_eq!(a.raise_virq(VIRQ_TIMER, 2), None);
    assert_eq!(a.bind_virq(VIRQ_TIMER, 2), Ok(timers[2]));
}

#[test]
fn an_ipi_stays_on_its_vcpu() {
    let mut a = table(A);
    let ipi = a.bind_ipi(3).unwrap();
    assert_eq!(a.send(ipi), Ok(Sent::Local(Notify { domain: A, vcpu: 3, port: ipi })));
    assert_eq!(a.bind_vcpu(ipi, 0), Err(EvtchnError::WrongState));
}

#[test]
fn the_x_kernel_is_a_peer_like_any() {
    let mut a = table(A);
    let console = a.alloc_kernel(Consumer::Console).unwrap();
    assert_eq!(a.alloc_kernel(Consumer::Console), Err(EvtchnError::Exists));
    assert_eq!(a.send(console), Ok(Sent::Kernel(Consumer::Console)));
    assert_eq!(a.raise_kernel(Consumer::Console), Some(Notify { domain: A, vcpu: 0, port: console }));
    assert_eq!(a.raise_kernel(Consumer::Store), None);
    // No domain can bind to it, nor claim to be its peer.
    let mut b = table(B);
    assert_eq!(EvtchnTable::bind_interdomain(&mut b, Some(&mut a), console), Err(EvtchnError::RemoteRefuses));
    assert_eq!(a.arrive(console, B, port(1)), None);
    let _closed = a.close(console).unwrap();
    assert_eq!(a.kernel_port(Consumer::Console), None);
}

#[test]
fn xsa_344_closing_everything_is_cut_into_bounded_steps() {
    let mut a = table(A);
    while a.alloc_unbound(B).is_ok() {}
    let _full = a.close(port(7)).unwrap();
    let timer = a.bind_virq(VIRQ_TIMER, 1).unwrap();
    let (mut steps, mut seen) = (0, BTreeSet::new());
    loop {
        let mut here = 0;
        let done = a.close_some(100, |closed| {
            here += 1;
            assert!(seen.insert(closed.port));
        });
        assert!(here <= 100);
        steps += 1;
        if done {
            break;
        }
    }
    assert_eq!((steps, seen.len()), (41, 4095));
    assert!(seen.contains(&timer));
    assert_eq!((a.used(), a.virq_port(VIRQ_TIMER, 1)), (0, None));
    assert!(!table_with_one().close_some(0, |_| ()));
    assert!(table(A).close_some(0, |_| ()));
    // All of it can be used again.
    assert_eq!(a.alloc_unbound(B), Ok(port(1)));
}

fn table_with_one() -> EvtchnTable {
    let mut a = table(A);
    a.bind_ipi(0).unwrap();
    a
}

#[test]
fn a_late_word_of_a_closed_peer_does_not_cut_another_link() {
    let (mut a, pa, mut b, pb) = linked();
    let _closed = b.close(pb).unwrap();
    // Before A is told, the port of B is used for something else, and A's for a new link.
    let _closed = a.close(pa).unwrap();
    let other = b.bind_ipi(0).unwrap();
    assert_eq!(other, pb);
    let again = a.alloc_unbound(B).unwrap();
    let bound = EvtchnTable::bind_interdomain(&mut b, Some(&mut a), again).unwrap();
    a.peer_closed(pa, B, pb);
    assert_eq!(a.status(again).state, PortState::Interdomain { remote: B, port: bound.port });
    b.peer_closed(pb, A, pa);
    assert_eq!(b.status(other).state, PortState::Ipi);
}

#[test]
fn errno_is_what_the_abi_says() {
    let expected = [
        (EvtchnError::BadPort, Errno::EINVAL),
        (EvtchnError::WrongState, Errno::EINVAL),
        (EvtchnError::RemoteRefuses, Errno::EINVAL),
        (EvtchnError::BadVirq, Errno::EINVAL),
        (EvtchnError::NoSpace, Errno::ENOSPC),
        (EvtchnError::NoVcpu, Errno::ENOENT),
        (EvtchnError::Exists, Errno::EEXIST),
        (EvtchnError::NoDomain, Errno::ESRCH),
        (EvtchnError::NoMemory, Errno::ENOMEM),
    ];
    for (error, errno) in expected {
        assert_eq!(Errno::from(error), errno);
    }
}

#[derive(Clone, Debug)]
enum Op {
    AllocUnbound(bool, bool),
    Bind(bool, bool, u32),
    Virq(bool, u32, u32),
    Ipi(bool, u32),
    Kernel(bool),
    Close(bool, u32),
    BindVcpu(bool, u32, u32),
    Reset(bool, u32),
}

fn op() -> impl Strategy<Value = Op> {
    let p = 1u32..12;
    prop_oneof![
        3 => any::<(bool, bool)>().prop_map(|(d, r)| Op::AllocUnbound(d, r)),
        4 => (any::<bool>(), any::<bool>(), p.clone()).prop_map(|(d, r, p)| Op::Bind(d, r, p)),
        1 => (any::<bool>(), 0u32..26, 0u32..6).prop_map(|(d, v, c)| Op::Virq(d, v, c)),
        1 => (any::<bool>(), 0u32..6).prop_map(|(d, c)| Op::Ipi(d, c)),
        1 => any::<bool>().prop_map(Op::Kernel),
        3 => (any::<bool>(), p.clone()).prop_map(|(d, p)| Op::Close(d, p)),
        1 => (any::<bool>(), p, 0u32..6).prop_map(|(d, p, c)| Op::BindVcpu(d, p, c)),
        1 => (any::<bool>(), 0u32..8).prop_map(|(d, n)| Op::Reset(d, n)),
    ]
}

/// Every link has two ends that name each other, and the reverse tables say what the ports say.
fn check(tables: &[EvtchnTable; 2]) {
    for (own, other) in [(&tables[0], &tables[1]), (&tables[1], &tables[0])] {
        assert_eq!(own.iter().count(), usize::try_from(own.used()).unwrap());
        for (p, status) in own.iter() {
            match status.state {
                PortState::Interdomain { remote, port } => {
                    let peer = if remote == own.domain() { own } else { other };
                    assert_eq!(peer.status(port).state, PortState::Interdomain { remote: own.domain(), port: p });
                    assert!(peer.arrive(port, own.domain(), p).is_some());
                }
                PortState::Virq { virq, vcpu } => assert_eq!(own.virq_port(virq, vcpu), Some(p)),
                PortState::Kernel { consumer } => assert_eq!(own.kernel_port(consumer), Some(p)),
                PortState::Unbound { .. } | PortState::Ipi => {}
                PortState::Free => unreachable!("iter shows ports in use"),
            }
        }
        for virq in 0..NR_VIRQS {
            for vcpu in 0..4 {
                if let Some(p) = own.virq_port(virq, vcpu) {
                    assert_eq!(own.status(p).state, PortState::Virq { virq, vcpu });
                }
            }
        }
    }
}

proptest! {
    #[test]
    fn two_domains_keep_their_links_consistent(ops in proptest::collection::vec(op(), 0..120)) {
        let mut tables = [table(A), table(B)];
        let id = |second: bool| if second { B } else { A };
        for op in ops {
            let [a, b] = &mut tables;
            match op {
                Op::AllocUnbound(d, r) => { let _ = (if d { b } else { a }).alloc_unbound(id(r)); }
                Op::Bind(d, r, p) => {
                    let (local, remote) = if d { (b, a) } else { (a, b) };
                    let _ = EvtchnTable::bind_interdomain(local, if r { Some(remote) } else { None }, port(p));
                }
                Op::Virq(d, v, c) => { let _ = (if d { b } else { a }).bind_virq(v, c); }
                Op::Ipi(d, c) => { let _ = (if d { b } else { a }).bind_ipi(c); }
                Op::Kernel(d) => { let _ = (if d { b } else { a }).alloc_kernel(Consumer::Console); }
                Op::BindVcpu(d, p, c) => { let _ = (if d { b } else { a }).bind_vcpu(port(p), c); }
                Op::Close(d, p) => {
                    let (local, remote) = if d { (b, a) } else { (a, b) };
                    if let Ok(closed) = local.close(port(p)) {
                        tell(local, remote, closed);
                    }
                }
                Op::Reset(d, budget) => {
                    let (local, remote) = if d { (b, a) } else { (a, b) };
                    let mut all = Vec::new();
                    let _done = local.close_some(budget, |closed| all.push(closed));
                    for closed in all {
                        tell(local, remote, closed);
                    }
                }
            }
            check(&tables);
        }
    }
}

fn tell(local: &mut EvtchnTable, remote: &mut EvtchnTable, closed: super::Closed) {
    if let PortState::Interdomain { remote: domain, port } = closed.was {
        let from = local.domain();
        let peer = if domain == from { local } else { remote };
        peer.peer_closed(port, from, closed.port);
    }
}
