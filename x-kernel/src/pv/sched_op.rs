//! `sched_op`: yield, block, poll, shutdown. Answers to Xen's xen/common/sched/core.c.

use core::sync::atomic::Ordering;

use xen_abi::errno::Errno;
use xen_abi::sched::{
    SCHEDOP_block, SCHEDOP_poll, SCHEDOP_shutdown, SCHEDOP_shutdown_code, SCHEDOP_yield, SHUTDOWN_crash, SHUTDOWN_poweroff,
    SHUTDOWN_reboot, SHUTDOWN_suspend, SchedPoll, SchedShutdown,
};

use super::hypercall::{Args, HcCx, HcResult, OK};
use super::{evtchn, vcpu_info};
use crate::arch::x86_64::tsc;
use crate::domain::StopReason;
use crate::domain::vcpu::POLL_ANY;
use crate::mm::guest_access::GuestPtr;
use crate::sched;

/// The most ports of one poll, as in the reference.
const MAX_POLL_PORTS: u32 = 128;

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

/// Unmasks events and waits for one.
fn block(cx: &HcCx<'_>) {
    vcpu_info::set_upcall_mask(cx.vcpu, 0);
    cx.vcpu.blocked.store(true, Ordering::SeqCst);
    // An event between the two lines above has not seen the vCPU blocked: look again.
    if vcpu_info::upcall_pending(cx.vcpu) {
        cx.vcpu.blocked.store(false, Ordering::SeqCst);
    } else {
        sched::sleep(cx.vcpu);
    }
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

/// Waits until one of the ports is pending or the time has come, with events left masked as they are.
fn poll(cx: &HcCx<'_>, poll: &SchedPoll) -> HcResult {
    if poll.nr_ports > MAX_POLL_PORTS {
        return Err(Errno::EINVAL);
    }
    let ports = GuestPtr::<u32>::new(poll.ports);
    let mut only = 0;
    cx.vcpu.polling.store(POLL_ANY, Ordering::SeqCst);
    for i in 0..poll.nr_ports {
        let checked = ports.add(u64::from(i)).and_then(|p| p.read()).map_err(Errno::from);
        let pending = checked.and_then(|port| {
            only = port;
            evtchn::is_pending(cx.domain, port).ok_or(Errno::EINVAL)
        });
        match pending {
            Ok(false) => {}
            Ok(true) => {
                cx.vcpu.polling.store(0, Ordering::SeqCst);
                return OK;
            }
            Err(errno) => {
                cx.vcpu.polling.store(0, Ordering::SeqCst);
                return Err(errno);
            }
        }
    }
    if poll.nr_ports == 1 {
        cx.vcpu.polling.store(only, Ordering::SeqCst);
    }
    if poll.timeout != 0 && poll.timeout <= tsc::now_ns() {
        cx.vcpu.polling.store(0, Ordering::SeqCst);
        return OK;
    }
    cx.vcpu.poll_ns.store(poll.timeout, Ordering::Relaxed);
    sched::timers_changed(cx.vcpu);
    cx.vcpu.blocked.store(true, Ordering::SeqCst);
    // A sender that came before the line above has ended the poll without seeing the vCPU blocked.
    if poll.nr_ports > 0 && cx.vcpu.polling.load(Ordering::SeqCst) == 0 {
        cx.vcpu.blocked.store(false, Ordering::SeqCst);
    } else {
        sched::sleep(cx.vcpu);
    }
    OK
}
