#![no_std]
#![forbid(unsafe_code)]
#[cfg(test)]
extern crate std;
pub mod after; pub mod before; pub mod code; pub mod effect; pub mod facts; pub mod refusal; pub mod table;
#[cfg(test)] use std::vec::Vec;
