//! A set of small integers that finds its lowest member fast: a bitmap with summary bitmaps above it.
//!
//! Bit `i` of a level is set when word `i` of the level below is not zero, so a search reads one word per level.
//! The words lie apart from the memory that they describe: nothing that happens to a free frame can damage them.

use arrayvec::ArrayVec;

/// Levels that the largest set needs: 64^6 members.
const LEVELS: usize = 6;

/// A set of integers below a bound, in words that it was given.
#[derive(Debug)]
pub struct BitTree {
    words: &'static mut [u64],
    /// Where each level begins in `words`; the members themselves come first.
    starts: ArrayVec<usize, LEVELS>,
}

/// Words of each level for `bits` members, from the members up to the single word at the top.
fn level_sizes(bits: usize) -> impl Iterator<Item = usize> {
    let first = bits.div_ceil(64).max(1);
    core::iter::successors(Some(first), |&below| (below > 1).then(|| below.div_ceil(64)))
}

impl BitTree {
    /// The number of words that a set of integers below `bits` needs.
    pub fn words_needed(bits: usize) -> usize {
        level_sizes(bits).sum()
    }

    /// The empty set of integers below `bits`, in `words`, which are zero and as many as needed. None if they are
    /// not, or if `bits` is out of all proportion.
    pub fn new(bits: usize, words: &'static mut [u64]) -> Option<Self> {
        if words.len() != Self::words_needed(bits) {
            return None;
        }
        let mut starts = ArrayVec::new();
        let mut next = 0usize;
        for size in level_sizes(bits) {
            starts.try_push(next).ok()?;
            next = next.checked_add(size)?;
        }
        Some(Self { words, starts })
    }

    fn word(&self, level: usize, index: usize) -> u64 {
        let at = self.starts.get(level).and_then(|start| start.checked_add(index));
        at.and_then(|at| self.words.get(at)).copied().unwrap_or(0)
    }

    fn word_mut(&mut self, level: usize, index: usize) -> Option<&mut u64> {
        let at = self.starts.get(level)?.checked_add(index)?;
        self.words.get_mut(at)
    }

    /// Whether `member` is in the set.
    pub fn contains(&self, member: usize) -> bool {
        member >> 6 < self.level_len(0) && self.word(0, member >> 6) & 1 << (member & 63) != 0
    }

    fn level_len(&self, level: usize) -> usize {
        let end = self.starts.get(level.wrapping_add(1)).copied().unwrap_or(self.words.len());
        self.starts.get(level).map_or(0, |start| end.saturating_sub(*start))
    }

    /// Adds `member`, which must be below the bound.
    pub fn insert(&mut self, mut member: usize) {
        debug_assert!(member >> 6 < self.level_len(0), "member {member} above the bound");
        for level in 0..self.starts.len() {
            let Some(word) = self.word_mut(level, member >> 6) else { return };
            let was_empty = *word == 0;
            *word |= 1 << (member & 63);
            if !was_empty {
                return;
            }
            member >>= 6;
        }
    }

    /// Takes `member` out.
    pub fn remove(&mut self, mut member: usize) {
        if member >> 6 >= self.level_len(0) {
            return;
        }
        for level in 0..self.starts.len() {
            let Some(word) = self.word_mut(level, member >> 6) else { return };
            *word &= !(1 << (member & 63));
            if *word != 0 {
                return;
            }
            member >>= 6;
        }
    }

    /// The lowest member.
    pub fn first(&self) -> Option<usize> {
        let mut index = 0usize;
        for level in (0..self.starts.len()).rev() {
            let word = self.word(level, index);
            if word == 0 {
                return None;
            }
            index = index << 6 | word.trailing_zeros() as usize;
        }
        Some(index)
    }
}
