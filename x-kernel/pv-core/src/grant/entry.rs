//! The shared entry: its words, and the only way to it.

use xen_abi::grant_table::{GTF_permit_access, GTF_sub_page, GTF_type_mask};

use crate::frame::{DomId, Mfn};

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
        // A sub-page grant is version 2's: in version 1 the bit has no meaning, and no guest sets it.
        self.flags & (GTF_type_mask | GTF_sub_page) == GTF_permit_access && self.domid == by.raw()
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
