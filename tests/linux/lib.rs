//! What the programs share.

// UNSAFETY: raw system calls.
#![expect(unsafe_code, reason = "system calls, in the form that is looked at")]

pub mod child;
pub mod gs;
pub mod report;
pub mod seccomp;
pub mod traced;
pub mod way;
