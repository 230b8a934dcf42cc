//! The X-Kernel's decisions, apart from its mechanism: pure logic that runs on any host.
//!
//! Nothing here touches hardware, takes a lock, or turns interrupts off: callers lock and pass `&mut`, or share
//! atomics. No value that a guest chooses may panic this crate: arithmetic on such values is checked, and nothing
//! is indexed by them.
#![no_std]
#![forbid(unsafe_code)]

extern crate alloc;
#[cfg(test)]
extern crate std;

pub mod bootline;
pub mod cmos;
pub mod debugreg;
pub mod descriptor;
pub mod evtchn;
pub mod frame;
pub mod grant;
pub mod mb2;
pub mod operator;
pub mod pt;
pub mod s5;
pub mod sched;
pub mod sites;
pub mod timerq;
pub mod tokens;
