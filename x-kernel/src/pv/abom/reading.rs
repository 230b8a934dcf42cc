//! What a page of code was read as: where instructions begin, and gaps. Kept for the next site of the page, since reading it
//! is most of a plan.
//!
//! It is found again by a hash of the bytes, wherever they are mapped. Who makes two pages with one hash has wrong plans made
//! for a page of its own, and patches are written only over the bytes that they were planned for.

use alloc::vec::Vec;
use core::ops::Range;

use abom::Code;
use abom::gaps::{self, Gaps};
use arrayvec::ArrayVec;

/// Readings that a domain has at most.
const KEPT: usize = 8;

/// What was read, and from where on.
#[derive(Clone, Copy, Eq, PartialEq)]
pub struct Key {
    hash: u64,
    len: usize,
    from: u64,
}

impl Key {
    /// Of these bytes, read from that offset on.
    pub fn new(bytes: &[u8], from: u64) -> Self {
        let (words, rest) = bytes.as_chunks::<8>();
        let mut hash = 0_u64;
        for word in words.iter().map(|w| u64::from_le_bytes(*w)).chain(rest.iter().map(|b| u64::from(*b))) {
            hash = (hash.rotate_left(23) ^ word).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        }
        Self { hash, len: bytes.len(), from }
    }
}

/// Offsets in the bytes that were read.
pub struct Reading {
    key: Key,
    starts: Vec<u16>,
    gaps: Vec<Range<u16>>,
}

impl Reading {
    /// Reads the code from `key`'s offset on; None if memory is short.
    pub fn new(key: Key, code: &Code<'_>) -> Option<Self> {
        let base = code.start();
        let offset = |at: u64| u16::try_from(at.wrapping_sub(base)).ok();
        let mut all = Vec::new();
        for at in code.starts(base.wrapping_add(key.from)) {
            all.try_reserve(1).ok()?;
            all.push(at);
        }
        let (mut starts, mut gaps) = (Vec::new(), Vec::new());
        starts.try_reserve_exact(all.len()).ok()?;
        starts.extend(all.iter().map_while(|&at| offset(at)));
        let found = gaps::find(code, &all);
        gaps.try_reserve_exact(found.len()).ok()?;
        gaps.extend(found.iter().map_while(|gap| Some(offset(gap.start)?..offset(gap.end)?)));
        Some(Self { key, starts, gaps })
    }

    /// Where instructions begin in bytes that lie at `base`, if one does at `site`.
    pub fn starts(&self, base: u64, site: u64) -> Option<Vec<u64>> {
        let at = u16::try_from(site.wrapping_sub(base)).ok()?;
        self.starts.binary_search(&at).ok()?;
        let mut starts = Vec::new();
        starts.try_reserve_exact(self.starts.len()).ok()?;
        starts.extend(self.starts.iter().map(|&at| base.wrapping_add(u64::from(at))));
        Some(starts)
    }

    /// The gaps there.
    pub fn gaps(&self, base: u64) -> Gaps {
        let at = |offset: u16| base.wrapping_add(u64::from(offset));
        self.gaps.iter().take(gaps::MOST).map(|gap| at(gap.start)..at(gap.end)).collect()
    }
}

/// A domain's last readings, the oldest first.
#[derive(Default)]
pub struct Readings(ArrayVec<Reading, KEPT>);

impl Readings {
    /// Takes one out.
    pub fn take(&mut self, key: &Key) -> Option<Reading> {
        let at = self.0.iter().position(|reading| reading.key == *key)?;
        Some(self.0.remove(at))
    }

    /// Puts one in. Returns the one that had its place.
    pub fn put(&mut self, reading: Reading) -> Option<Reading> {
        let oldest = if self.0.is_full() { self.0.pop_at(0) } else { None };
        self.0.push(reading);
        oldest
    }
}
