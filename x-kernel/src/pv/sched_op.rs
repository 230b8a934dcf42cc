//! `sched_op`: yield, block, poll, shutdown. Answers to Xen's xen/common/sched/core.c.

use core::sync::atomic::Ordering;

use arrayvec::ArrayVec;
use pv_core::sched::{Sleeper, wait};
use xen_abi::errno::Errno;
use xen_abi::sched::{
    SCHEDOP_block, SCHEDOP_poll, SCHEDOP_shutdown, SCHEDOP_shutdown_code, SCHEDOP_yield, SHUTDOWN_crash, SHUTDOWN_poweroff,
    SHUTDOWN_reboot, SHUTDOWN_suspend, SchedPoll, SchedShutdown,
};

use super::hypercall::{Args, HcCx, HcResult, OK};
use super::{evtchn, vcpu_info};
use crate::arch::x86_64::tsc;
use crate::domain::vcpu::{POLL_ANY, Vcpu};
use crate::domain::{Domain, StopReason};
use crate::mm::guest_access::GuestPtr;
use crate::sched;

/// The most ports of one poll, as in the reference.
const MAX_POLL_PORTS: usize = 128;

/// `sched_op(cmd, arg)`.
///
/// # Errors
/// `-EFAULT`, `-EINVAL` for a bad port or too many, `-ENOSYS` for an unknown command.
pub fn sched_op(cx: &mut HcCx<'_>, args: &mut Args) -> HcResult {
    match args.u32::<0>() {
        c if c == SCHEDOP_yield => sched::yield_now(),
        c if c == SCHEDOP_block => block(cx),
        c if c == SCHEDOP_shutdown => {
            let shutdown = args.ptr::<SchedShutdown, 1>().read()?;
            stop(cx, shutdown.reason);
        }
        c if c == SCHEDOP_shutdown_code => {
            args.ptr::<SchedShutdown, 1>().read()?;
        }
        c if c == SCHEDOP_poll => {
            let poll = args.ptr::<SchedPoll, 1>().read()?;
            return self::poll(cx, &poll);
        }
        _ => return Err(Errno::ENOSYS),
    }
    OK
}

/// `sched_op_compat(cmd, arg)`: the first version of the call, where the reason is an immediate.
///
/// # Errors
/// `-ENOSYS` for an unknown command.
pub fn sched_op_compat(cx: &mut HcCx<'_>, args: &mut Args) -> HcResult {
    match args.u32::<0>() {
        c if c == SCHEDOP_yield => sched::yield_now(),
        c if c == SCHEDOP_block => block(cx),
        c if c == SCHEDOP_shutdown => stop(cx, args.u32::<1>()),
        _ => return Err(Errno::ENOSYS),
    }
    OK
}

/// A vCPU that waits for any event.
struct ForEvent<'a>(&'a Vcpu);

impl Sleeper for ForEvent<'_> {
    fn block(&self) {
        sched::block(self.0);
    }
    fn is_due(&self) -> bool {
        vcpu_info::upcall_pending(self.0) || self.0.nmi_pending.load(Ordering::SeqCst)
    }
    fn wake(&self) {
        sched::wake(self.0);
    }
}

/// Unmasks events and waits for one.
fn block(cx: &HcCx<'_>) {
    vcpu_info::set_upcall_mask(cx.vcpu, 0);
    wait(&ForEvent(cx.vcpu));
}

/// Ends the domain as its guest asks.
fn stop(cx: &HcCx<'_>, reason: u32) {
    let reason = match reason {
        r if r == SHUTDOWN_poweroff => StopReason::Poweroff,
        r if r == SHUTDOWN_reboot => StopReason::Reboot,
        r if r == SHUTDOWN_suspend => StopReason::Suspend,
        r if r == SHUTDOWN_crash => {
            cx.domain.crash(format_args!("its kernel says so"));
            return;
        }
        r => {
            cx.domain.crash(format_args!("shutdown for unknown reason {r}"));
            return;
        }
    };
    if cx.domain.stop(reason) {
        log::info!("domain {} ({}): {reason:?}", cx.domain.id.raw(), cx.domain.name);
    }
}

/// A vCPU that waits for one of some ports, for a time, or for an upcall.
struct ForPorts<'a> {
    vcpu: &'a Vcpu,
    domain: &'a Domain,
    ports: &'a [u32],
    /// ns since boot; 0 for no end.
    until_ns: u64,
}

impl Sleeper for ForPorts<'_> {
    fn block(&self) {
        // From here on senders and the timer see that it polls, and end the poll by clearing this.
        let which = if let [only] = self.ports { *only } else { POLL_ANY };
        self.vcpu.poll_ns.store(self.until_ns, Ordering::Relaxed);
        self.vcpu.polling.store(which, Ordering::SeqCst);
        sched::timers_changed(self.vcpu);
        sched::block(self.vcpu);
    }
    fn is_due(&self) -> bool {
        self.ports.iter().any(|&port| evtchn::is_pending(self.domain, port).unwrap_or(true))
            || vcpu_info::upcall_due(self.vcpu)
            || self.vcpu.nmi_pending.load(Ordering::SeqCst)
            || self.until_ns != 0 && self.until_ns <= tsc::now_ns()
    }
    fn wake(&self) {
        self.vcpu.polling.store(0, Ordering::SeqCst);
        self.vcpu.poll_ns.store(0, Ordering::Relaxed);
        sched::wake(self.vcpu);
    }
}

/// Waits until one of the ports is pending or the time has come, with events left masked as they are.
fn poll(cx: &HcCx<'_>, poll: &SchedPoll) -> HcResult {
    let mut ports = ArrayVec::<u32, MAX_POLL_PORTS>::new();
    let list = GuestPtr::<u32>::new(poll.ports);
    for i in 0..poll.nr_ports {
        let port = if ports.is_full() { return Err(Errno::EINVAL) } else { list.add(u64::from(i))?.read()? };
        evtchn::is_pending(cx.domain, port).ok_or(Errno::EINVAL)?;
        ports.push(port);
    }
    wait(&ForPorts { vcpu: cx.vcpu, domain: cx.domain, ports: &ports, until_ns: poll.timeout });
    OK
}
