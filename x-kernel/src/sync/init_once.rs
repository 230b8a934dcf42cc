//! A cell that is written once, at boot, and only read afterwards. Replaces `static mut`.

use ::spin::once::Once;

use super::spin::ServeShootdowns;

/// A value that appears once.
#[derive(Debug)]
pub struct InitOnce<T>(Once<T, ServeShootdowns>);

impl<T> InitOnce<T> {
    /// An empty cell.
    pub const fn new() -> Self {
        Self(Once::new())
    }

    /// Fills the cell.
    ///
    /// # Errors
    /// Gives `value` back if the cell is already full.
    pub fn set(&self, value: T) -> Result<(), T> {
        let mut value = Some(value);
        let _ = self.0.try_call_once(|| value.take().ok_or(()));
        value.map_or(Ok(()), Err)
    }

    /// The value, if there is one yet.
    pub fn get(&self) -> Option<&T> {
        self.0.get()
    }

    /// The value, made by `make` if there is none yet. Other CPUs wait for `make`, which therefore must not
    /// come back here.
    pub fn get_or_init(&self, make: impl FnOnce() -> T) -> &T {
        self.0.call_once(make)
    }
}

impl<T> Default for InitOnce<T> {
    fn default() -> Self {
        Self::new()
    }
}
