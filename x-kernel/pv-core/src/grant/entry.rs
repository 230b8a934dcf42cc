//! The shared entry: its words, and the only way to it.

use crate::frame::{DomId, Mfn};

/// Bits of the type in an entry's flags.
pub(super) const TYPE_MASK: u16 = 3;
/// The type of an entry that grants access.
pub(super) const PERMIT_ACCESS: u16 = 1;
/// The granting domain's: reading only.
pub(super) const READONLY: u16 = 1 << 2;
/// Ours: in use for reading.
pub(super) const READING: u16 = 1 << 3;
/// Ours: in use for writing.
pub(super) const WRITING: u16 = 1 << 4;
/// Version 2's; a version 1 entry with it is not a whole-page grant.
pub(super) const SUB_PAGE: u16 = 1 << 8;

/// Bytes in an entry.
pub(super) const ENTRY_BYTES: u16 = 8;
/// Entries in a shared frame.
pub(super) const ENTRIES_PER_FRAME: u32 = 512;

/// Where an entry is.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct EntryPlace {
    /// The shared frame.
    pub frame: Mfn,
    /// Offset in it: a multiple of 8 below 4096.
    pub offset: u16,
}

/// The half of an entry that is compared and exchanged.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Header {
    /// `GTF_*`.
    pub flags: u16,
    /// The domain that is granted access, as the guest wrote it.
    pub domid: u16,
}

impl Header {
    /// The header as the 32-bit word in memory.
    pub fn to_word(self) -> u32 {
        u32::from(self.flags) | (u32::from(self.domid) << 16)
    }

    /// The header that a 32-bit word holds.
    pub fn from_word(word: u32) -> Self {
        let [f0, f1, d0, d1] = word.to_le_bytes();
        Self { flags: u16::from_le_bytes([f0, f1]), domid: u16::from_le_bytes([d0, d1]) }
    }

    /// Whether this entry lets `by` use a whole page.
    pub(super) fn permits(self, by: DomId) -> bool {
        self.flags & (TYPE_MASK | SUB_PAGE) == PERMIT_ACCESS && self.domid == by.raw()
    }
}

/// A snapshot of an entry.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Entry {
    /// Flags and domain.
    pub header: Header,
    /// The frame number that the guest wrote.
    pub frame: u32,
}

/// Access to shared entries, which are guest memory. Implemented over frame windows.
pub trait SharedEntries {
    /// Reads the entry: either all eight bytes in one access, or the header (acquire) before the frame.
    fn read(&self, at: EntryPlace) -> Entry;
    /// Replaces the header if it is `old`; else answers what it is. One atomic access.
    fn compare_exchange(&self, at: EntryPlace, old: Header, new: Header) -> Result<(), Header>;
    /// Clears `bits` of the flags. One atomic access.
    fn clear_flags(&self, at: EntryPlace, bits: u16);
    /// Writes the whole entry.
    fn write(&self, at: EntryPlace, entry: Entry);
}
