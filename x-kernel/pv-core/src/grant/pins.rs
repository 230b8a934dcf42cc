//! How often an entry is in use, and how.

use super::GrantError;

/// One way in which an entry is used.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Use {
    /// By a device's address (else by a CPU's, or a copy).
    pub device: bool,
    /// For writing too.
    pub writable: bool,
}

impl Use {
    /// Mapped, or copied from, by a CPU for reading.
    pub const HOST_READ: Self = Self { device: false, writable: false };
    /// Mapped, or copied to, by a CPU for writing.
    pub const HOST_WRITE: Self = Self { device: false, writable: true };

    /// The CPU's use with or without writing.
    pub fn host(writable: bool) -> Self {
        Self { device: false, writable }
    }

    /// The device's use with or without writing.
    pub fn device(writable: bool) -> Self {
        Self { device: true, writable }
    }
}

/// Counts of uses by kind.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub(super) struct Pins {
    device_read: u32,
    device_write: u32,
    host_read: u32,
    host_write: u32,
}

impl Pins {
    pub(super) fn none(self) -> bool {
        self == Self::default()
    }

    pub(super) fn writes(self) -> bool {
        self.device_write != 0 || self.host_write != 0
    }

    /// These and one more.
    pub(super) fn with(self, how: Use) -> Result<Self, GrantError> {
        let mut new = self;
        let count = new.count(how);
        *count = count.checked_add(1).ok_or(GrantError::Busy)?;
        Ok(new)
    }

    /// These less one.
    pub(super) fn without(self, how: Use) -> Result<Self, GrantError> {
        let mut new = self;
        let count = new.count(how);
        *count = count.checked_sub(1).ok_or(GrantError::BadHandle)?;
        Ok(new)
    }

    fn count(&mut self, how: Use) -> &mut u32 {
        match (how.device, how.writable) {
            (true, false) => &mut self.device_read,
            (true, true) => &mut self.device_write,
            (false, false) => &mut self.host_read,
            (false, true) => &mut self.host_write,
        }
    }
}
