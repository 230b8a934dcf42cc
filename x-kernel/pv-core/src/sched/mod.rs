//! Which vCPU runs next, for how long, on which pCPU: policy only.
//!
//! The mechanism (timer, context switch, locks, runstates) is the caller's; it tells what happened by
//! [`Scheduler::wake`], [`Scheduler::block`], [`Scheduler::yield_now`], and asks [`Scheduler::pick_next`].
//! vCPUs are named by small machine-wide keys, times are nanoseconds since boot. Memory is taken at creation only.
//!
//! Answers to Xen's common/sched/credit.c; the accounting is by time that was run, not by tick samples, so a guest
//! that sleeps just before each tick gains nothing.

mod credit;
mod queue;
#[cfg(test)]
mod tests;
mod wait;

pub use credit::{DEFAULT_WEIGHT, MAX_SLICE_NS, MAX_WEIGHT, SLICE_NS};
pub use queue::{Choice, SchedError, Scheduler, VcpuParams, Woken};
pub use wait::{Sleeper, wait};
