//! What a guest looks at, and its verdict.

use core::fmt::Debug;
use core::sync::atomic::{AtomicU32, Ordering};

use xen_abi::hypercall::__HYPERVISOR_sched_op;
use xen_abi::sched::{SCHEDOP_shutdown, SHUTDOWN_poweroff};

use crate::{hypercall, println};

static DONE: AtomicU32 = AtomicU32::new(0);
static FAILED: AtomicU32 = AtomicU32::new(0);

/// Checks that `got` is `want`.
pub fn equal<T: PartialEq + Debug>(name: &str, got: T, want: T) {
    judge(name, got == want, format_args!("got {got:?}, want {want:?}"));
}

/// Checks that `got` is one of `want`.
pub fn one_of<T: PartialEq + Debug>(name: &str, got: T, want: &[T]) {
    judge(name, want.contains(&got), format_args!("got {got:?}, want one of {want:?}"));
}

/// Checks a condition.
pub fn holds(name: &str, condition: bool) {
    judge(name, condition, format_args!("it does not hold"));
}

/// Records a check; `what` says what is wrong if it is.
pub fn judge(name: &str, good: bool, what: core::fmt::Arguments<'_>) {
    DONE.fetch_add(1, Ordering::Relaxed);
    if good {
        println!("CHECK {name} ok");
    } else {
        FAILED.fetch_add(1, Ordering::Relaxed);
        println!("CHECK {name} FAIL: {what}");
    }
}

/// Prints the verdict and powers off.
pub fn finish() -> ! {
    let (done, failed) = (DONE.load(Ordering::Relaxed), FAILED.load(Ordering::Relaxed));
    println!("{done} checks, {failed} failed");
    // A guest that has looked at nothing has shown nothing.
    println!("VERDICT {}", if failed == 0 && done > 0 { "SUCCESS" } else { "FAILURE" });
    power_off()
}

/// Powers off.
pub fn power_off() -> ! {
    shutdown(SHUTDOWN_poweroff)
}

/// Ends the domain for `reason`.
pub fn shutdown(reason: u32) -> ! {
    let mut argument = xen_abi::sched::SchedShutdown { reason };
    loop {
        crate::call(__HYPERVISOR_sched_op, SCHEDOP_shutdown, &mut argument);
        hypercall(__HYPERVISOR_sched_op, &[0]);
    }
}
