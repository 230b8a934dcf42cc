//! Periods and deadlines at the edges (XSA-20): an answer at once, and other timers go on.

use ptk::check::{equal, holds, one_of};
use ptk::{event, memory};
use xen_abi::event_channel::VIRQ_TIMER;
use xen_abi::vcpu::*;

use crate::{EINVAL, vcpu_op};

const ETIME: i64 = -62;

pub fn run() {
    let Ok(port) = event::bind_virq(VIRQ_TIMER, 0) else { return holds("a timer", false) };
    for period_ns in [0u64, 1, 999_999, 1 << 63, u64::MAX] {
        equal("XSA-20 a period that is none", vcpu_op(VCPUOP_set_periodic_timer, 0, &VcpuSetPeriodicTimer { period_ns }), EINVAL);
    }
    for timeout_abs_ns in [0u64, 1, 1000, (1 << 63) - 1, 1 << 63, u64::MAX] {
        for flags in [0, VCPU_SSHOTTMR_future, u32::MAX] {
            let timer = VcpuSetSingleshotTimer { timeout_abs_ns, flags, _pad0: 0 };
            one_of("XSA-20 a deadline at the edge", vcpu_op(VCPUOP_set_singleshot_timer, 0, &timer), &[0, ETIME]);
            equal("XSA-20 another vCPU's deadline", vcpu_op(VCPUOP_set_singleshot_timer, 1, &timer), EINVAL);
        }
    }
    equal("it is stopped", vcpu_op(VCPUOP_stop_singleshot_timer, 0, &0u64), 0);
    let longest = VcpuSetPeriodicTimer { period_ns: (1 << 63) - 1 };
    equal("XSA-20 the longest period", vcpu_op(VCPUOP_set_periodic_timer, 0, &longest), 0);
    let period = VcpuSetPeriodicTimer { period_ns: 1_000_000 };
    // The clock is read first: a neighbour may run between the two, and a tick wait when this goes on.
    let (start, mut ticks) = (memory::now_ns(), 0);
    equal("the shortest period", vcpu_op(VCPUOP_set_periodic_timer, 0, &period), 0);
    while ticks < 5 && memory::now_ns() - start < 5_000_000_000 {
        ticks += u32::from(event::take(port));
    }
    holds("XSA-20 it ticks, and leaves time between", ticks == 5 && memory::now_ns() - start >= 4_000_000);
    equal("it is stopped", vcpu_op(VCPUOP_stop_periodic_timer, 0, &0u64), 0);
    equal("its port is closed", event::close(port), 0);
}
