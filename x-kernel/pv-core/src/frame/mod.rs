//! Typed frames: the boundary between guests, and between a guest and the X-Kernel.
//!
//! Each frame of RAM has an owner, a count of references, and a type with a count of its own: page table of level
//! 1 to 4, segment descriptors, or writable memory. A frame is page table or writable, never both, so what was
//! checked when it became a page table stays true. The mechanism is that of Xen's xen/arch/x86/mm.c.
//!
//! | module | owns |
//! |---|---|
//! | `addr` | frame numbers, addresses, domain numbers |
//! | `info` | the record of a frame: its words and their meaning |
//! | `refs` | taking and dropping references and types |
//! | `mm` | a domain's page tables: whose, and those on their way out, undone in bounded steps |
//! | `pin` | pins, and taking a dead domain's frames back |
//!
//! The caller holds the owner's mm lock for everything that makes or unmakes a page table; plain references and the
//! writable type may be taken by others meanwhile (a grant's user), which is why every word is an atomic.

mod addr;
mod info;
#[cfg(all(test, loom))]
mod loom_tests;
mod mm;
mod pin;
mod refs;

pub use addr::{DomId, Maddr, Mfn, Pfn};
pub use info::{FrameInfo, FrameKind, Level};
pub use mm::{Mm, settle};
pub use pin::{Relinquish, pin, relinquish, unpin};
pub use refs::{assign, get_ref, get_table, get_typed, put_ref, put_table, put_typed, share, steal, unshare};

pub(crate) use mm::defer;

use crate::pt::Slot;
use xen_abi::errno::Errno;

/// Entries that are read together.
pub type Batch = [u64; Slot::BATCH as usize];

/// What the frame and page-table logic needs of the machine.
pub trait Machine {
    /// The record of `mfn`; None if it is not RAM that guests may have.
    fn frame(&self, mfn: Mfn) -> Option<&FrameInfo>;
    /// The frame number after the last one.
    fn max_mfn(&self) -> u64;
    /// Reads an entry of a page table. One atomic access.
    fn read_entry(&self, table: Mfn, slot: Slot) -> u64;
    /// Reads the entries of `slot`'s [`Slot::batch`], each by one atomic access. Bit `n` of the answer says that the entry `n`
    /// of them is not empty; others may be left out of `entries`.
    fn read_batch(&self, table: Mfn, slot: Slot, entries: &mut Batch) -> u64 {
        let mut occupied = 0_u64;
        for ((entry, slot), bit) in entries.iter_mut().zip(slot.batch()).zip(0..) {
            *entry = self.read_entry(table, slot);
            occupied |= u64::from(*entry != 0).unbounded_shl(bit);
        }
        occupied
    }
    /// Replaces an entry if it is `old`; else answers what it is. One atomic access.
    ///
    /// # Errors
    /// The value found.
    fn cmpxchg_entry(&self, table: Mfn, slot: Slot, old: u64, new: u64) -> Result<(), u64>;
    /// Writes the X-Kernel's own slots into an L4 table of `dom`.
    fn install_hypervisor_slots(&self, l4: Mfn, dom: DomId);
    /// Clears them again, before the frame may be read by a guest.
    fn clear_hypervisor_slots(&self, l4: Mfn);
    /// Flushes every translation, global ones and paging-structure caches included, on every CPU that may hold one
    /// through which a guest reaches frames of `dom`. Returns when that is done.
    fn flush_stale(&self, dom: DomId);
    /// Whether to stop at the next safe point.
    fn preempt(&self) -> bool;
    /// The last reference to a frame of `dom` is gone: flush, scrub, and let it be allocated again.
    fn freed(&self, mfn: Mfn, dom: DomId);
}

/// Why an operation on a frame or a table was refused.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum FrameError {
    /// Not RAM.
    NotRam,
    /// Not this domain's, or nobody's.
    NotOwner,
    /// In use as something else.
    WrongType,
    /// An entry or a descriptor that a guest may not have.
    BadEntry(u64),
    /// Changed by somebody else at the same time, or too many references.
    Busy,
    /// Stopped on the way: pay what is pending (see [`settle`]) and do the same again.
    Preempted,
    /// Pinned already, or not pinned.
    WrongPin,
}

impl From<FrameError> for Errno {
    fn from(error: FrameError) -> Self {
        match error {
            FrameError::NotRam | FrameError::NotOwner => Self::EPERM,
            FrameError::WrongType | FrameError::BadEntry(_) | FrameError::WrongPin => Self::EINVAL,
            FrameError::Busy => Self::EBUSY,
            FrameError::Preempted => Self::ERESTART,
        }
    }
}
