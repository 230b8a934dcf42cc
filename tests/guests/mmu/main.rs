//! Page tables: whatever a guest writes into them, it reaches its own memory, never a table for writing, and nothing of
//! the hypervisor's or a neighbour's. (Rows of the list of attacks by their Xen security advisory.)
#![no_std]
#![no_main]
#![expect(clippy::indexing_slicing, reason = "a mistake here is a failed experiment")]

mod arguments;
mod descriptors;
mod entries;
mod frames;
mod types;
mod validation;

/// The errors that calls answer, as they come.
pub const EPERM: i64 = -1;
/// See [`EPERM`].
pub const EFAULT: i64 = -14;
/// See [`EPERM`].
pub const EBUSY: i64 = -16;
/// See [`EPERM`].
pub const EINVAL: i64 = -22;
/// See [`EPERM`].
pub const ENOSYS: i64 = -38;

fn main() {
    entries::run();
    types::run();
    validation::run();
    descriptors::run();
    arguments::run();
    frames::run();
}

ptk::guest!(main);
