//! `event_channel_op`, and raising events from within the X-Kernel.
//!
//! States and transitions are `pv_core::evtchn`; here they meet the shared pages, the locks (one table at a time,
//! or two in the order of their domids) and the scheduler. Answers to Xen's xen/common/event_channel.c.

use alloc::sync::Arc;
use core::sync::atomic::Ordering;

use pv_core::evtchn::{self, Closed, Consumer, EventPage, EvtchnError, EvtchnTable, MAX_PORTS, Notify, Port, PortState, Sent, Wake};
use pv_core::frame::DomId;
use xen_abi::errno::Errno;
use xen_abi::event_channel::{
    EVTCHNOP_alloc_unbound, EVTCHNOP_bind_interdomain, EVTCHNOP_bind_ipi, EVTCHNOP_bind_vcpu, EVTCHNOP_bind_virq, EVTCHNOP_close,
    EVTCHNOP_reset, EVTCHNOP_send, EVTCHNOP_status, EVTCHNOP_unmask, EVTCHNSTAT_closed, EVTCHNSTAT_interdomain, EVTCHNSTAT_ipi,
    EVTCHNSTAT_unbound, EVTCHNSTAT_virq, EvtchnAllocUnbound, EvtchnBindInterdomain, EvtchnBindIpi, EvtchnBindVcpu, EvtchnBindVirq,
    EvtchnClose, EvtchnReset, EvtchnSend, EvtchnStatus, EvtchnUnmask, VIRQ_CONSOLE,
};
use xen_abi::shared_info::offset;

use super::hypercall::{Args, HcCx, HcResult, OK, Outcome};
use super::vcpu_info;
use crate::domain::vcpu::{POLL_ANY, Vcpu};
use crate::domain::{self, Domain, console};
use crate::mm::window::FrameWindow;
use crate::sched;

/// Ports closed between two preemption points.
const CLOSE_BUDGET: u32 = 64;

/// A domain's shared pages, as the delivery protocol sees them.
struct Page<'a> {
    domain: &'a Domain,
    window: FrameWindow,
}

impl<'a> Page<'a> {
    fn of(domain: &'a Domain) -> Option<Self> {
        Some(Self { domain, window: FrameWindow::new(domain.shared_info)? })
    }
}

/// Byte offset of the word of `port` in the bitmap at `base`.
fn word_at(base: usize, port: Port) -> usize {
    base.wrapping_add((port.word() as usize).wrapping_mul(8))
}

impl EventPage for Page<'_> {
    fn test_and_set_pending(&self, port: Port) -> bool {
        self.window.test_and_set_bit(word_at(offset::EVTCHN_PENDING, port), port.bit())
    }

    fn is_pending(&self, port: Port) -> bool {
        self.window.test_bit(word_at(offset::EVTCHN_PENDING, port), port.bit())
    }

    fn clear_pending(&self, port: Port) {
        self.window.test_and_clear_bit(word_at(offset::EVTCHN_PENDING, port), port.bit());
    }

    fn is_masked(&self, port: Port) -> bool {
        self.window.test_bit(word_at(offset::EVTCHN_MASK, port), port.bit())
    }

    fn test_and_clear_mask(&self, port: Port) -> bool {
        self.window.test_and_clear_bit(word_at(offset::EVTCHN_MASK, port), port.bit())
    }

    fn test_and_set_selector(&self, vcpu: u32, word: u32) -> bool {
        self.domain.vcpu(vcpu).is_some_and(|v| vcpu_info::test_and_set_selector(v, word))
    }

    fn set_upcall_pending(&self, vcpu: u32) -> bool {
        self.domain.vcpu(vcpu).is_some_and(|v| vcpu_info::test_and_set_upcall_pending(v))
    }
}

/// Wakes whom an event on `port` concerns.
fn act(domain: &Domain, port: u32, vcpu: u32, wake: Wake) {
    if wake == Wake::No {
        return;
    }
    for v in domain.vcpus() {
        let polled = v.polling.load(Ordering::SeqCst);
        if polled == POLL_ANY || (polled != 0 && polled == port) {
            v.polling.store(0, Ordering::SeqCst);
            v.poll_ns.store(0, Ordering::Relaxed);
            sched::wake(v);
        }
    }
    if wake == Wake::Upcall
        && let Some(v) = domain.vcpu(vcpu)
    {
        // An upcall ends a poll for another port, too.
        v.polling.store(0, Ordering::SeqCst);
        v.poll_ns.store(0, Ordering::Relaxed);
        sched::wake(v);
    }
}

/// Delivers an event.
fn deliver(domain: &Domain, notify: Notify) {
    if let Some(page) = Page::of(domain) {
        let wake = evtchn::deliver(&page, notify.port, notify.vcpu);
        act(domain, notify.port.raw(), notify.vcpu, wake);
    }
}

/// Raises a VIRQ of a vCPU, if it is bound.
pub fn raise_virq(vcpu: &Vcpu, virq: u32) {
    let Some(domain) = vcpu.domain() else { return };
    let id = if evtchn::virq_is_global(virq) { 0 } else { vcpu.id };
    let notify = domain.events.lock().raise_virq(virq, id);
    if let Some(notify) = notify {
        deliver(&domain, notify);
    }
}

/// Tells the initial domain that console input waits.
pub fn raise_console(domain: &Domain) {
    let notify = domain.events.lock().raise_virq(VIRQ_CONSOLE, 0);
    if let Some(notify) = notify {
        deliver(domain, notify);
    }
}

/// Notifies a guest on a port whose peer is the X-Kernel.
pub fn notify_guest(domain: &Domain, port: u32) {
    let notify = Port::new(port).and_then(|p| domain.events.lock().notify(p));
    if let Some(notify) = notify {
        deliver(domain, notify);
    }
}

/// Marks every port's word pending again for a vCPU whose `vcpu_info` has just moved.
pub fn raise_all_again(vcpu: &Vcpu) {
    for word in 0..64 {
        vcpu_info::test_and_set_selector(vcpu, word);
    }
    vcpu_info::test_and_set_upcall_pending(vcpu);
}

/// Whether `port` is pending; None if there is no such port.
pub fn is_pending(domain: &Domain, port: u32) -> Option<bool> {
    Some(Page::of(domain)?.is_pending(Port::new(port)?))
}

/// Reads a structure, lets `f` work on it, writes it back.
macro_rules! in_out {
    ($args:ident, $ty:ty, |$op:ident| $body:expr) => {{
        let pointer = $args.ptr::<$ty, 1>();
        let mut $op = pointer.read()?;
        $body;
        pointer.write(&$op)?;
        OK
    }};
}

/// `event_channel_op(cmd, arg)`.
///
/// # Errors
/// Those of `pv_core::evtchn`, `-EFAULT`, `-ESRCH` for a domain that does not exist, `-EPERM` for another domain's
/// table, `-ENOSYS` for FIFO channels, physical interrupts and unknown commands.
pub fn event_channel_op(cx: &mut HcCx<'_>, args: &mut Args) -> HcResult {
    let domain = cx.domain;
    match args.u32::<0>() {
        c if c == EVTCHNOP_alloc_unbound => in_out!(args, EvtchnAllocUnbound, |op| {
            own_table(domain, op.dom)?;
            let remote = if op.remote_dom == DomId::SELF.raw() { domain.id } else { DomId::new(op.remote_dom) };
            op.port = domain.events.lock().alloc_unbound(remote)?.raw();
        }),
        c if c == EVTCHNOP_bind_interdomain => in_out!(args, EvtchnBindInterdomain, |op| {
            op.local_port = bind_interdomain(domain, op.remote_dom, op.remote_port)?;
        }),
        c if c == EVTCHNOP_bind_virq => in_out!(args, EvtchnBindVirq, |op| {
            op.port = domain.events.lock().bind_virq(op.virq, op.vcpu)?.raw();
        }),
        c if c == EVTCHNOP_bind_ipi => in_out!(args, EvtchnBindIpi, |op| {
            op.port = domain.events.lock().bind_ipi(op.vcpu)?.raw();
        }),
        c if c == EVTCHNOP_close => {
            let close = args.ptr::<EvtchnClose, 1>().read()?;
            let port = Port::new(close.port).ok_or(Errno::EINVAL)?;
            let closed = {
                let mut table = domain.events.lock();
                let closed = table.close(port)?;
                clear_pending(domain, port);
                closed
            };
            tell_peer(domain, closed);
            OK
        }
        c if c == EVTCHNOP_send => {
            let send = args.ptr::<EvtchnSend, 1>().read()?;
            self::send(domain, Port::new(send.port).ok_or(Errno::EINVAL)?)?;
            OK
        }
        c if c == EVTCHNOP_status => in_out!(args, EvtchnStatus, |op| status(domain, &mut op)?),
        c if c == EVTCHNOP_bind_vcpu => {
            let bind = args.ptr::<EvtchnBindVcpu, 1>().read()?;
            let port = Port::new(bind.port).ok_or(Errno::EINVAL)?;
            domain.events.lock().bind_vcpu(port, bind.vcpu)?;
            OK
        }
        c if c == EVTCHNOP_unmask => {
            let unmask = args.ptr::<EvtchnUnmask, 1>().read()?;
            let port = Port::new(unmask.port).ok_or(Errno::EINVAL)?;
            let vcpu = domain.events.lock().notify_vcpu(port)?;
            if let Some(page) = Page::of(domain) {
                act(domain, port.raw(), vcpu, evtchn::unmask(&page, port, vcpu));
            }
            OK
        }
        c if c == EVTCHNOP_reset => {
            let reset = args.ptr::<EvtchnReset, 1>().read()?;
            own_table(domain, reset.dom)?;
            while !close_some(domain, CLOSE_BUDGET) {
                if sched::preempt_pending() {
                    return Ok(Outcome::Preempted);
                }
            }
            OK
        }
        _ => Err(Errno::ENOSYS),
    }
}

/// Refuses an operation on another domain's ports.
fn own_table(domain: &Domain, alleged: u16) -> Result<(), Errno> {
    let id = DomId::new(alleged);
    if id == DomId::SELF || id == domain.id { Ok(()) } else { Err(Errno::EPERM) }
}

fn clear_pending(domain: &Domain, port: Port) {
    if let Some(page) = Page::of(domain) {
        page.clear_pending(port);
    }
}

/// Binds a new port to `remote_port` of another domain, or of its own.
fn bind_interdomain(domain: &Arc<Domain>, remote_dom: u16, remote_port: u32) -> Result<u32, Errno> {
    let remote = domain::find_for(domain, remote_dom).ok_or(Errno::ESRCH)?;
    let port = Port::new(remote_port).ok_or(Errno::EINVAL)?;
    let bound = if Arc::ptr_eq(domain, &remote) {
        EvtchnTable::bind_interdomain(&mut domain.events.lock(), None, port)?
    } else if domain.id.raw() < remote.id.raw() {
        let mut local = domain.events.lock();
        EvtchnTable::bind_interdomain(&mut local, Some(&mut remote.events.lock_nested()), port)?
    } else {
        let mut theirs = remote.events.lock();
        EvtchnTable::bind_interdomain(&mut domain.events.lock_nested(), Some(&mut theirs), port)?
    };
    deliver(domain, bound.notify);
    Ok(bound.port.raw())
}

/// Sends an event through `port`.
fn send(domain: &Arc<Domain>, port: Port) -> Result<(), EvtchnError> {
    let sent = domain.events.lock().send(port)?;
    match sent {
        Sent::Local(notify) => deliver(domain, notify),
        Sent::Peer { domain: remote, port: theirs } => {
            let peer = if remote == domain.id { Some(domain.clone()) } else { domain::find(remote) };
            if let Some(peer) = peer {
                let notify = peer.events.lock().arrive(theirs, domain.id, port);
                if let Some(notify) = notify {
                    deliver(&peer, notify);
                }
            }
        }
        Sent::Kernel(Consumer::Console) => console::drain_ring(domain),
        Sent::Kernel(Consumer::Store) | Sent::Nowhere => {}
    }
    Ok(())
}

/// Tells the peer of a port that was just closed.
fn tell_peer(domain: &Arc<Domain>, closed: Closed) {
    if let PortState::Interdomain { remote, port } = closed.was {
        let peer = if remote == domain.id { Some(domain.clone()) } else { domain::find(remote) };
        if let Some(peer) = peer {
            peer.events.lock().peer_closed(port, domain.id, closed.port);
        }
    }
}

/// Closes up to `budget` ports; whether none is left.
pub fn close_some(domain: &Arc<Domain>, budget: u32) -> bool {
    let mut batch = arrayvec::ArrayVec::<Closed, { CLOSE_BUDGET as usize }>::new();
    let done = {
        let mut table = domain.events.lock();
        table.close_some(budget.min(CLOSE_BUDGET), |closed| {
            clear_pending(domain, closed.port);
            let _ = batch.try_push(closed);
        })
    };
    for closed in batch {
        tell_peer(domain, closed);
    }
    done
}

/// Fills in what `EVTCHNOP_status` tells.
fn status(domain: &Domain, op: &mut EvtchnStatus) -> Result<(), Errno> {
    own_table(domain, op.dom)?;
    if op.port >= MAX_PORTS {
        return Err(Errno::EINVAL);
    }
    let Some(port) = Port::new(op.port) else {
        op.status = EVTCHNSTAT_closed;
        return Ok(());
    };
    let status = domain.events.lock().status(port);
    op.vcpu = status.vcpu;
    match status.state {
        PortState::Free => op.status = EVTCHNSTAT_closed,
        PortState::Unbound { remote } => {
            op.status = EVTCHNSTAT_unbound;
            op.u0 = u32::from(remote.raw());
        }
        PortState::Interdomain { remote, port } => {
            op.status = EVTCHNSTAT_interdomain;
            (op.u0, op.u1) = (u32::from(remote.raw()), port.raw());
        }
        PortState::Kernel { .. } => {
            op.status = EVTCHNSTAT_interdomain;
            (op.u0, op.u1) = (0, 0);
        }
        PortState::Virq { virq, .. } => {
            op.status = EVTCHNSTAT_virq;
            op.u0 = virq;
        }
        PortState::Ipi => op.status = EVTCHNSTAT_ipi,
    }
    Ok(())
}
