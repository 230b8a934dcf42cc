//! ABOM: system calls of unmodified programs become function calls.
//!
//! In an X-Container the kernel can be called ([`x_calls`]). This crate looks at a `syscall` instruction, at the bytes
//! around it and at what else is known of it ([`Facts`]), and says what to write there instead ([`plan()`]), or why it has
//! to stay ([`Refusal`]). It is pure: it writes no memory, keeps nothing, and answers whatever the bytes are.
//!
//! Two use it. The X-Kernel does when a system call traps: only bytes are known, threads may be anywhere, and it catches
//! those that meet an overwritten instruction ([`Patch::fixup`]); it writes by [`steps`]. The offline tool knows whole
//! functions, and has nobody to catch anything.
//!
//! `docs/ABOM.md` has the shapes, the forms and the argument why they are safe.

#![no_std]
#![forbid(unsafe_code)]

extern crate alloc;
#[cfg(test)]
extern crate std;

pub mod after;
pub mod annex;
pub mod before;
mod chain;
pub mod code;
mod effect;
pub mod facts;
mod filling;
pub mod gaps;
pub mod hop;
mod length;
mod moved;
pub mod patch;
pub mod pattern;
mod plain;
pub mod plan;
pub mod redzone;
pub mod refusal;
pub mod steps;
pub mod stub;
pub mod table;
#[cfg(test)]
mod trial;
pub mod unwind;

pub use code::Code;
pub use effect::falls_through;
pub use facts::{Facts, Inside, RedZone, Seen};
pub use patch::{Fixup, Form, How, Patch};
pub use pattern::Pattern;
pub use plan::{Plan, Ways, plan};
pub use refusal::Refusal;
pub use stub::{Placed, Reach, StubPlan};
pub use table::Table;
