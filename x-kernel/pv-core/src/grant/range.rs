//! Arguments of a grant copy, and of `set_version`.

use xen_abi::grant_table::{GNTCOPY_dest_gref, GNTCOPY_source_gref};

use super::GrantError;
use crate::frame::DomId;

const PAGE_BYTES: u16 = 4096;

/// One end of a copy as alleged.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct CopyEnd {
    /// The domain named.
    pub domain: DomId,
    /// Where in the page.
    pub offset: u16,
}

/// A copy whose arguments fit: both ends stay within their page.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct CopyRange {
    /// Whether the source is a grant reference (else a frame of the caller).
    pub source_is_gref: bool,
    /// Whether the destination is a grant reference (else a frame of the caller).
    pub dest_is_gref: bool,
    /// Offset in the source page.
    pub source_offset: u16,
    /// Offset in the destination page.
    pub dest_offset: u16,
    /// Bytes, which may be 0.
    pub len: u16,
}

impl CopyRange {
    /// Checks `GNTTABOP_copy`: a frame may be named only of `DOMID_SELF`, and no end leaves its page (XSA-523).
    ///
    /// # Errors
    /// [`GrantError::Permission`], [`GrantError::BadCopy`].
    pub fn decode(flags: u16, source: CopyEnd, dest: CopyEnd, len: u16) -> Result<Self, GrantError> {
        let range = Self {
            source_is_gref: flags & GNTCOPY_source_gref != 0,
            dest_is_gref: flags & GNTCOPY_dest_gref != 0,
            source_offset: source.offset,
            dest_offset: dest.offset,
            len,
        };
        for (by_gref, end) in [(range.source_is_gref, source), (range.dest_is_gref, dest)] {
            if !by_gref && end.domain != DomId::SELF {
                return Err(GrantError::Permission);
            }
            match end.offset.checked_add(len) {
                Some(stop) if stop <= PAGE_BYTES => {}
                _ => return Err(GrantError::BadCopy),
            }
        }
        Ok(range)
    }
}

/// `GNTTABOP_set_version`: the version in force afterwards.
///
/// # Errors
/// [`GrantError::Unsupported`] for version 2, [`GrantError::Invalid`] for any other but 1.
pub fn set_version(requested: u32) -> Result<u32, GrantError> {
    match requested {
        1 => Ok(1),
        2 => Err(GrantError::Unsupported),
        _ => Err(GrantError::Invalid),
    }
}
