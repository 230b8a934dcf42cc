//! Spins for a while without ever giving way, then looks at how much of the processor it was given: `percent=`, when
//! others want the rest.
#![no_std]
#![no_main]
#![expect(clippy::arithmetic_side_effects, clippy::indexing_slicing, reason = "a mistake here is a failed experiment")]

use ptk::check::judge;
use ptk::{hypercall, memory, println, start};
use xen_abi::hypercall::__HYPERVISOR_vcpu_op;
use xen_abi::vcpu::{RUNSTATE_runnable, RUNSTATE_running, VCPUOP_get_runstate_info, VcpuRunstateInfo};

/// How long it spins.
const SPIN_NS: u64 = 4_000_000_000;
/// By how many percent of the whole its share may be off.
const SLACK: u64 = 5;

/// Time spent running, and waiting for others to stop running.
fn times() -> (u64, u64) {
    let mut info = VcpuRunstateInfo::default();
    hypercall(__HYPERVISOR_vcpu_op, &[VCPUOP_get_runstate_info.into(), 0, core::ptr::from_mut(&mut info) as u64]);
    (info.time[RUNSTATE_running as usize], info.time[RUNSTATE_runnable as usize])
}

fn main() {
    let want = start::option("percent").unwrap_or(100);
    let before = times();
    let until = memory::now_ns() + SPIN_NS;
    while memory::now_ns() < until {}
    let after = times();
    let (ran, waited) = (after.0 - before.0, after.1 - before.1);
    let got = ran * 100 / (ran + waited).max(1);
    println!("share: ran {} ms and waited {} ms: {got} %", ran / 1_000_000, waited / 1_000_000);
    judge("the share of the processor", got.abs_diff(want) <= SLACK, format_args!("got {got} %, want {want} %"));
}

ptk::guest!(main);
