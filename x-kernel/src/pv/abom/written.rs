//! The patches of a domain, found by the frame that they are in, and the part of it.

use alloc::vec::Vec;
use core::ops::Range;

use abom::Patch;
use pv_core::frame::Mfn;

use super::PAGE;

/// The most patches of a domain.
pub const MOST: usize = 4096;
/// For how many there is room at first.
const FEWEST: usize = 32;
/// Lists that patches are on, by where they begin: a power of two.
const LISTS: usize = 256;
/// Bytes of a frame that have a list together. A wrapper of a C library has 32 or 64.
const PART: u64 = 256;

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

    /// The list of those that begin in the part of `frame` that has `offset`.
    fn list(frame: Mfn, offset: u64) -> usize {
        let parts = frame.raw().wrapping_mul(const { PAGE / PART }).wrapping_add(offset / PART);
        usize::try_from(parts & const { LISTS as u64 - 1 }).unwrap_or(0)
    }

    fn at(&self, link: u16) -> Option<&Written> {
        self.all.get(usize::from(link).checked_sub(1)?)
    }

    /// Those in `frame` that begin in one of these parts of it: offsets in the frame. Each once, if they are no more than a frame.
    pub fn of(&self, frame: Mfn, within: Range<u64>) -> impl Iterator<Item = &Written> {
        let (first, last) = (within.start / PART, within.end.div_ceil(PART).min(const { PAGE / PART }));
        (first..last).flat_map(move |part| {
            let list = self.first.get(Self::list(frame, part.wrapping_mul(PART))).copied().unwrap_or(0);
            let all = core::iter::successors(self.at(list), |written| self.at(written.next));
            all.filter(move |written| written.frame == frame && written.place() / PART == part)
        })
    }

    /// What was being written, as [`Self::keep`] has it, has been.
    pub fn finish(&mut self, kept: u16) {
        if let Some(written) = usize::from(kept).checked_sub(1).and_then(|index| self.all.get_mut(index)) {
            written.writing = false;
        }
    }

    /// Keeps one, instead of one that was at its place before, and returns what [`Self::finish`] knows it by. None if there is no
    /// room. Nothing is allocated.
    pub fn keep(&mut self, new: Written) -> Option<u16> {
        let list = Self::list(new.frame, new.place());
        let first = *self.first.get(list)?;
        let mut link = first;
        while let Some(old) = usize::from(link).checked_sub(1).and_then(|index| self.all.get_mut(index)) {
            if old.frame == new.frame && old.place() == new.place() {
                *old = Written { next: old.next, ..new };
                return Some(link);
            }
            link = old.next;
        }
        if self.all.len() >= self.all.capacity().min(MOST) {
            return None;
        }
        self.all.push(Written { next: first, ..new });
        let kept = u16::try_from(self.all.len()).ok()?;
        *self.first.get_mut(list)? = kept;
        Some(kept)
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
