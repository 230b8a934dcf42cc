//! Grant tables, version 1: which frames a domain lets which other domain use, and who uses them.
//!
//! Two halves, each with its own lock. [`GrantTable`] is the granting domain's: its shared frames and, per entry,
//! how often it is in use. [`MapTrack`] is the mapping domain's: a handle per mapping. **Lock order:** a caller
//! never needs both at once; where it takes two grant tables (a copy from one to another) it takes the one of the
//! lower domain id first, and a maptrack before any grant table (XSA-411 was two orders).
//!
//! The shared entry is guest memory and changes at any moment. It is read once per attempt, through
//! [`SharedEntries`], and the attempt stands only if the compare-and-exchange finds the header unchanged; once an
//! entry is in use, its frame is the one noted at the first use, whatever the guest writes there later (XSA-236).
//! Nothing here owns a frame: for each use the caller takes a reference to the frame **from the granting domain**
//! while it holds the grant table's lock, and gives the use back if that fails.
//!
//! Refused: version 2 and with it sub-page and transitive grants, transfer, cache_flush (XSA-26, 226, 255, 379,
//! 384 have no ground here). Answers to Xen's common/grant_table.c.

mod entry;
mod maptrack;
mod pins;
mod range;
mod table;
#[cfg(test)]
mod tests;

pub use entry::{Entry, EntryPlace, Header, SharedEntries};
pub use maptrack::{Handle, MAX_MAPPINGS, MapFlags, MapTrack, Mapping, Parts, Unmap};
pub use pins::Use;
pub use range::{CopyEnd, CopyRange, set_version};
pub use table::{GrantRef, GrantTable, GrantedFrame, MAX_FRAMES, Released};

use xen_abi::errno::Errno;
use xen_abi::grant_table::{
    GNTST_bad_copy_arg, GNTST_bad_dev_addr, GNTST_bad_domain, GNTST_bad_gntref, GNTST_bad_handle, GNTST_bad_page, GNTST_bad_virt_addr,
    GNTST_eagain, GNTST_general_error, GNTST_no_space, GNTST_permission_denied,
};

/// Why a grant operation was refused.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum GrantError {
    /// No such domain.
    BadDomain,
    /// The reference is past the table.
    BadRef,
    /// The entry does not grant this to the caller.
    NotGranted,
    /// The entry grants reading only.
    ReadOnly,
    /// The entry kept changing.
    Unstable,
    /// The entry is in use by another domain, or more often than can be counted.
    Busy,
    /// No such mapping.
    BadHandle,
    /// The host address is not the one that was mapped.
    BadAddress,
    /// The device address is not the one that was mapped.
    BadDevAddress,
    /// Flags without meaning.
    BadFlags,
    /// Only the domain itself may be named here.
    Permission,
    /// The entry or the request names a frame that cannot be used.
    BadPage,
    /// The copy leaves a page.
    BadCopy,
    /// In use now, may work later.
    Again,
    /// No handle, no frame or no memory left.
    NoSpace,
    /// A number that no version of the ABI knows.
    Invalid,
    /// Not offered.
    Unsupported,
}

impl GrantError {
    /// The `GNTST_*` for the guest: always negative (XSA-316).
    pub fn status(self) -> i16 {
        match self {
            Self::NotGranted | Self::ReadOnly | Self::Unstable | Self::Busy | Self::Invalid | Self::Unsupported => GNTST_general_error,
            Self::BadDomain => GNTST_bad_domain,
            Self::BadRef | Self::BadFlags => GNTST_bad_gntref,
            Self::BadHandle => GNTST_bad_handle,
            Self::BadAddress => GNTST_bad_virt_addr,
            Self::BadDevAddress => GNTST_bad_dev_addr,
            Self::Permission => GNTST_permission_denied,
            Self::BadPage => GNTST_bad_page,
            Self::BadCopy => GNTST_bad_copy_arg,
            Self::Again => GNTST_eagain,
            Self::NoSpace => GNTST_no_space,
        }
    }
}

impl From<GrantError> for Errno {
    fn from(error: GrantError) -> Self {
        match error {
            GrantError::BadDomain => Self::ESRCH,
            GrantError::Permission => Self::EPERM,
            GrantError::Again | GrantError::Busy => Self::EBUSY,
            GrantError::NoSpace => Self::ENOMEM,
            GrantError::Unsupported => Self::ENOSYS,
            GrantError::BadRef
            | GrantError::NotGranted
            | GrantError::ReadOnly
            | GrantError::Unstable
            | GrantError::BadHandle
            | GrantError::BadAddress
            | GrantError::BadDevAddress
            | GrantError::BadFlags
            | GrantError::BadPage
            | GrantError::BadCopy
            | GrantError::Invalid => Self::EINVAL,
        }
    }
}
