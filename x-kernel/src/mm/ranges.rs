//! Sets of frame numbers as sorted, disjoint ranges: the machine's RAM, and what of it is taken.
//!
//! Used while there is no allocator yet, so the room is fixed; a firmware map with more pieces loses the smallest
//! difference it can: the piece that does not fit is left out, and [`RangeSet::insert`] says so.

use arrayvec::ArrayVec;

/// Frames from `start` up to but not including `end`.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct FrameRange {
    /// The first frame.
    pub start: u64,
    /// The frame after the last.
    pub end: u64,
}

impl FrameRange {
    /// Frames from `start` up to but not including `end`.
    pub const fn new(start: u64, end: u64) -> Self {
        Self { start, end }
    }

    /// The frames that lie wholly in `len` bytes from `addr`.
    pub const fn inside(addr: u64, len: u64) -> Self {
        let end = addr.saturating_add(len) >> 12;
        let start = addr.saturating_add(4095) >> 12;
        Self { start, end: if end > start { end } else { start } }
    }

    /// The frames that any of `len` bytes from `addr` lie in.
    pub const fn around(addr: u64, len: u64) -> Self {
        if len == 0 {
            return Self { start: addr >> 12, end: addr >> 12 };
        }
        Self { start: addr >> 12, end: addr.saturating_add(len).saturating_add(4095) >> 12 }
    }

    /// Number of frames.
    pub const fn len(&self) -> u64 {
        self.end.saturating_sub(self.start)
    }

    /// Whether it has none.
    pub const fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Whether `frame` is in it.
    pub const fn contains(&self, frame: u64) -> bool {
        self.start <= frame && frame < self.end
    }

    /// What both have.
    pub fn and(&self, other: &Self) -> Self {
        let start = self.start.max(other.start);
        Self { start, end: self.end.min(other.end).max(start) }
    }
}

/// Room for ranges in a set.
const ROOM: usize = 320;

/// A set of frames.
#[derive(Clone, Debug, Default)]
pub struct RangeSet(ArrayVec<FrameRange, ROOM>);

impl RangeSet {
    /// The empty set.
    pub const fn new() -> Self {
        Self(ArrayVec::new_const())
    }

    /// The ranges, ascending and not touching.
    pub fn as_slice(&self) -> &[FrameRange] {
        &self.0
    }

    /// The frame after the last in the set.
    pub fn end(&self) -> u64 {
        self.0.last().map_or(0, |range| range.end)
    }

    /// Number of frames in the set.
    pub fn frames(&self) -> u64 {
        self.0.iter().fold(0, |sum, range| sum.saturating_add(range.len()))
    }

    /// Adds `new`, joined with what it touches. False if the set is full.
    #[must_use]
    pub fn insert(&mut self, mut new: FrameRange) -> bool {
        if new.is_empty() {
            return true;
        }
        self.0.retain(|old| {
            let apart = old.end < new.start || new.end < old.start;
            if !apart {
                new.start = new.start.min(old.start);
                new.end = new.end.max(old.end);
            }
            apart
        });
        let at = self.0.iter().take_while(|old| old.start < new.start).count();
        self.0.try_insert(at, new).is_ok()
    }

    /// Takes `gone` out. False if the set is full and keeps some of it.
    #[must_use]
    pub fn remove(&mut self, gone: FrameRange) -> bool {
        if gone.is_empty() {
            return true;
        }
        let old = core::mem::take(&mut self.0);
        let mut all = true;
        for range in old {
            for rest in [FrameRange::new(range.start, range.end.min(gone.start)), FrameRange::new(range.start.max(gone.end), range.end)] {
                if !rest.is_empty() {
                    all &= self.0.try_push(rest).is_ok();
                }
            }
        }
        all
    }

    /// The last place for `frames` consecutive frames, beginning at a multiple of `align` (a power of two), below `limit`.
    pub fn last_fit(&self, frames: u64, align: u64, limit: u64) -> Option<FrameRange> {
        self.0.iter().rev().find_map(|range| {
            let start = range.end.min(limit).checked_sub(frames)? & !align.wrapping_sub(1);
            (start >= range.start).then(|| FrameRange::new(start, start.saturating_add(frames)))
        })
    }
}
