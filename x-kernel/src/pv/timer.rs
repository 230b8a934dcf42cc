//! Timers of a vCPU: `set_timer_op` and what happens when any of its deadlines passes.

use core::sync::atomic::Ordering;

use xen_abi::event_channel::VIRQ_TIMER;

use super::evtchn;
use super::hypercall::{Args, HcCx, HcResult, OK};
use crate::arch::x86_64::tsc;
use crate::domain::vcpu::Vcpu;
use crate::sched;

/// `set_timer_op(deadline)`: VIRQ_TIMER at `deadline` ns of system time; 0 switches it off; the past is now.
///
/// # Errors
/// None.
pub fn set_timer_op(cx: &mut HcCx<'_>, args: &mut Args) -> HcResult {
    arm(cx.vcpu, args.u64::<0>());
    OK
}

/// Sets the one-shot deadline of `set_timer_op`.
fn arm(vcpu: &Vcpu, deadline: u64) {
    vcpu.timer_ns.store(deadline, Ordering::Relaxed);
    sched::timers_changed(vcpu);
}

/// Clears `cell` if its deadline has passed.
fn take_if_due(cell: &core::sync::atomic::AtomicU64, now: u64) -> bool {
    let due = cell.load(Ordering::Relaxed);
    due != 0 && due <= now && cell.compare_exchange(due, 0, Ordering::Relaxed, Ordering::Relaxed).is_ok()
}

/// Fires the timers of `vcpu` whose deadline has passed.
pub fn expire(vcpu: &Vcpu) {
    let now = tsc::now_ns();
    let mut fire = take_if_due(&vcpu.timer_ns, now);
    fire |= take_if_due(&vcpu.singleshot_ns, now);
    let period = vcpu.period_ns.load(Ordering::Relaxed);
    if period != 0 && vcpu.period_next_ns.load(Ordering::Relaxed) <= now {
        // Ticks that were missed are not made up for, so nothing here loops (XSA-20).
        vcpu.period_next_ns.store(now.saturating_add(period), Ordering::Relaxed);
        fire = true;
    }
    if fire {
        evtchn::raise_virq(vcpu, VIRQ_TIMER);
    }
    if take_if_due(&vcpu.poll_ns, now) {
        vcpu.polling.store(0, Ordering::Release);
        sched::wake(vcpu);
    }
}
