//! Page-table entries: what a guest may write, and the counts that an entry holds.
//!
//! | module | owns |
//! |---|---|
//! | `entry` | bits, and from an alleged entry to a checked one; changes nothing |
//! | `counts` | taking and releasing what an entry points to |
//! | `update` | changing an entry of a table in use |

mod counts;
mod entry;
#[cfg(all(test, not(loom)))]
mod tests;
mod update;

pub use counts::each_held;
pub use entry::{KernelPages, Slot, bits, target};
pub use update::update;

pub(crate) use counts::{adopt, release};

/// What the bits of a present entry become, for tests.
#[cfg(all(test, not(loom)))]
fn check_for_tests(level: crate::frame::Level, entry: u64) -> Result<u64, crate::frame::FrameError> {
    match entry::check(level, entry, KernelPages::Local)? {
        entry::Checked::Present { entry, .. } | entry::Checked::Absent(entry) => Ok(entry),
    }
}
