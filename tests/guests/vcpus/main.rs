//! A second vCPU's first state, the vCPUs' timers and shared structures, and the console ring: numbers, addresses and
//! frames that a guest may not have (XSA-7, XSA-12, XSA-193, XSA-20, XSA-38). Needs `vcpus=2`, and not to be the first
//! domain, which has no ring.
#![no_std]
#![no_main]
#![expect(clippy::arithmetic_side_effects, reason = "a mistake here is a failed experiment")]

mod ring;
mod state;
mod timers;

use ptk::{hypercall, instr};
use xen_abi::hypercall::__HYPERVISOR_vcpu_op;

/// `-ENOENT`
pub const ENOENT: i64 = -2;
/// `-EFAULT`
pub const EFAULT: i64 = -14;
/// `-EEXIST`
pub const EEXIST: i64 = -17;
/// `-EINVAL`
pub const EINVAL: i64 = -22;

/// An operation on a vCPU.
pub fn vcpu_op<T>(command: u32, vcpu: u64, argument: &T) -> i64 {
    hypercall(__HYPERVISOR_vcpu_op, &[command.into(), vcpu, core::ptr::from_ref(argument) as u64])
}

fn main() {
    state::run();
    timers::run();
    ring::run();
    ptk::check::holds("the guest is still there", instr::rdtsc() != 0);
}

ptk::guest!(main);
