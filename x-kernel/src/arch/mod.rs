//! The processor architecture. There is one.

pub mod x86_64;
