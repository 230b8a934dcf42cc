//! The patches of a domain, found by the frame that they are in.

use alloc::vec::Vec;

use abom::Patch;
use pv_core::frame::Mfn;

use super::PAGE;

/// The most patches of a domain.
pub const MOST: usize = 4096;
/// For how many there is room at first.
const FEWEST: usize = 32;
/// Lists that patches are on, by their frame: a power of two.
const LISTS: usize = 64;

/// A patch that was written, at the address that its page had then.
#[derive(Clone)]
pub struct Written {
    pub frame: Mfn,
    pub patch: Patch,
    /// Its bytes are being written: another CPU may meet any of them.
    pub writing: bool,
    /// The next one on its list, as [`Patches::first`] has them.
    next: u16,
}

impl Written {
    /// A patch that is about to be written.
    pub const fn new(frame: Mfn, patch: Patch) -> Self {
        Self { frame, patch, writing: true, next: 0 }
    }

    const fn place(&self) -> u64 {
        self.patch.address() & (PAGE - 1)
    }
}

/// All patches of a domain.
pub struct Patches {
    all: Vec<Written>,
    /// The first patch of each list: its index and one, or 0.
    first: [u16; LISTS],
}

impl Patches {
    pub const fn new() -> Self {
        Self { all: Vec::new(), first: [0; LISTS] }
    }

    fn list(frame: Mfn) -> usize {
        usize::try_from(frame.raw()).unwrap_or(0) & const { LISTS - 1 }
    }

    /// Those in `frame`.
    pub fn of(&self, frame: Mfn) -> impl Iterator<Item = &Written> {
        let at = |link: u16| self.all.get(usize::from(link).checked_sub(1)?);
        let first = self.first.get(Self::list(frame)).and_then(|link| at(*link));
        core::iter::successors(first, move |written| at(written.next)).filter(move |written| written.frame == frame)
    }

    /// The one in `frame` that is at `address` in its page.
    fn at(&mut self, frame: Mfn, address: u64) -> Option<&mut Written> {
        let mut link = *self.first.get(Self::list(frame))?;
        loop {
            let index = usize::from(link).checked_sub(1)?;
            let written = self.all.get(index)?;
            if written.frame == frame && written.place() == address & (PAGE - 1) {
                return self.all.get_mut(index);
            }
            link = written.next;
        }
    }

    /// What was being written there has been.
    pub fn finish(&mut self, frame: Mfn, address: u64) {
        if let Some(written) = self.at(frame, address) {
            written.writing = false;
        }
    }

    /// Keeps one, instead of one that was at its place before. False if there is no room. Nothing is allocated.
    pub fn keep(&mut self, new: Written) -> bool {
        if let Some(old) = self.at(new.frame, new.patch.address()) {
            *old = Written { next: old.next, ..new };
            return true;
        }
        let list = Self::list(new.frame);
        let Some(first) = self.first.get_mut(list) else { return false };
        let index = self.all.len().saturating_add(1);
        if self.all.len() >= self.all.capacity() || index > MOST {
            return false;
        }
        self.all.push(Written { next: *first, ..new });
        *first = u16::try_from(index).unwrap_or(0);
        true
    }

    /// How much room there should be, if there is none left.
    pub fn wanted_room(&self) -> Option<usize> {
        let is_full = self.all.len() == self.all.capacity();
        is_full.then(|| self.all.len().saturating_mul(2).clamp(FEWEST, MOST))
    }

    /// Moves all to `larger`, if there is room in it. What is left is to be freed by the caller.
    pub fn move_to(&mut self, larger: &mut Vec<Written>) {
        if self.all.len() <= larger.capacity() {
            larger.append(&mut self.all);
            core::mem::swap(larger, &mut self.all);
        }
    }
}
