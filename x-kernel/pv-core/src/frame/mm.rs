//! A domain's page tables: whose they are, and which are not in use any more but still hold counts of what they point
//! to.
//!
//! Undoing a table can free another, up to all of a domain's memory, so it is never done in one go: a table whose last
//! use ends goes on a list, and [`settle`] works the list off, entry by entry, stopping when it is asked to. There is
//! no recursion, whatever the tables look like (XSA-240, 264). Every operation on page tables pays the list first, so
//! that between two of them it is empty or the caller is going to come back.

use super::info::TypeWord;
use super::{DomId, FrameError, Machine, Mfn, put_ref};
use crate::pt::{self, KernelPages, Slot};

/// The page tables of one domain. The caller keeps it under the domain's mm lock.
#[derive(Debug)]
pub struct Mm {
    dom: DomId,
    kernel_pages: KernelPages,
    /// First frame of the list of tables that are to be undone, plus one.
    head: u64,
}

impl Mm {
    /// Those of `dom`, which has none yet.
    pub const fn new(dom: DomId) -> Self {
        Self { dom, kernel_pages: KernelPages::Local, head: 0 }
    }

    /// The domain.
    pub const fn dom(&self) -> DomId {
        self.dom
    }

    /// Whether its kernel's pages are global.
    pub const fn kernel_pages(&self) -> KernelPages {
        self.kernel_pages
    }

    /// Says so for entries that are written from now on.
    pub const fn set_kernel_pages(&mut self, kernel_pages: KernelPages) {
        self.kernel_pages = kernel_pages;
    }

    /// Whether nothing is to be undone.
    pub const fn is_settled(&self) -> bool {
        self.head == 0
    }

    fn first(&self) -> Option<Mfn> {
        self.head.checked_sub(1).and_then(Mfn::new)
    }
}

/// Puts a table that is parked (PARTIAL, count 0) on the list.
pub(crate) fn defer(m: &impl Machine, mm: &mut Mm, mfn: Mfn) {
    let Some(info) = m.frame(mfn) else { return };
    let word = info.load();
    if word.pending() {
        return;
    }
    info.store(TypeWord::parked(word.kind(), true));
    info.set_next(mm.head);
    mm.head = mfn.raw().saturating_add(1);
}

/// Undoes what is pending.
///
/// # Errors
/// [`FrameError::Preempted`] when it was asked to stop with some left.
pub fn settle(m: &impl Machine, mm: &mut Mm) -> Result<(), FrameError> {
    while let Some(mfn) = mm.first() {
        let Some(info) = m.frame(mfn) else { return Ok(()) };
        let Some(level) = info.load().kind().level() else { return Ok(()) };
        // Taken off first: undoing an entry may put tables in front of it.
        mm.head = info.next();
        let start = info.progress();
        let mut left = start;
        let mut entries = [0; Slot::BATCH as usize];
        while let Some(last) = left.checked_sub(1).and_then(Slot::new) {
            if left < start && m.preempt() {
                info.set_progress(left);
                info.set_next(mm.head);
                mm.head = mfn.raw().saturating_add(1);
                return Err(FrameError::Preempted);
            }
            // Nobody can write to the table, and the marks of a page walk do not matter here.
            let occupied = m.read_batch(mfn, last, &mut entries);
            for (slot, entry) in last.occupied(&entries, occupied).rev().filter(|(slot, _)| *slot <= last) {
                pt::release(m, mm, level, entry, slot);
            }
            left = last.batch().next().map_or(0, Slot::number);
        }
        if level == super::Level::L4 {
            m.clear_hypervisor_slots(mfn);
        }
        info.set_progress(0);
        info.store(TypeWord::idle(level.kind()));
        put_ref(m, mfn);
    }
    Ok(())
}
