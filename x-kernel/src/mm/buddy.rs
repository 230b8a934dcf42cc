//! The buddy system's arithmetic: free blocks of 2^order frames, split and joined. Pure; locks and memory are
//! [`super::frame_alloc`]'s.

use arrayvec::ArrayVec;

use super::bit_tree::BitTree;

/// The largest block: 2^18 frames, 1 GiB.
pub const MAX_ORDER: u32 = 18;
const ORDERS: usize = MAX_ORDER as usize + 1;

/// Free blocks by order. A block of order `k` is known by its first frame's number shifted right by `k`.
#[derive(Debug)]
pub struct Buddy {
    free: ArrayVec<BitTree, ORDERS>,
    /// Number of free frames.
    frames: u64,
}

/// Blocks of order `order` that frames below `end` reach into.
fn blocks(end: usize, order: u32) -> usize {
    (end >> order).saturating_add(1)
}

impl Buddy {
    /// Words of storage for frames below `end`.
    pub fn words_needed(end: usize) -> usize {
        (0..=MAX_ORDER).map(|order| BitTree::words_needed(blocks(end, order))).sum()
    }

    /// No free frames yet, of frames below `end`; `words` are zero and as many as needed.
    pub fn new(end: usize, mut words: &'static mut [u64]) -> Option<Self> {
        let mut free = ArrayVec::new();
        for order in 0..=MAX_ORDER {
            let bits = blocks(end, order);
            let (mine, rest) = words.split_at_mut_checked(BitTree::words_needed(bits))?;
            words = rest;
            free.try_push(BitTree::new(bits, mine)?).ok()?;
        }
        Some(Self { free, frames: 0 })
    }

    /// Number of free frames.
    pub const fn free_frames(&self) -> u64 {
        self.frames
    }

    fn tree(&mut self, order: u32) -> Option<&mut BitTree> {
        self.free.get_mut(order as usize)
    }

    /// Takes the lowest block that ends at or below frame `limit`, among the smallest that are large enough; the rest
    /// of a larger one stays free.
    pub fn alloc_below(&mut self, order: u32, limit: usize) -> Option<usize> {
        let fits = |o: u32, block: usize| (block << o).checked_add(1 << order).is_some_and(|end| end <= limit);
        let lowest = |o: u32| self.free.get(o as usize)?.first().filter(|&block| fits(o, block));
        let (mut from, mut block) = (order..=MAX_ORDER).find_map(|o| Some((o, lowest(o)?)))?;
        self.tree(from)?.remove(block);
        while from > order {
            from = from.wrapping_sub(1);
            block <<= 1;
            self.tree(from)?.insert(block | 1);
        }
        self.frames = self.frames.saturating_sub(1 << order);
        block.checked_shl(order)
    }

    /// Whether `frame` lies in a free block of order `order` or larger.
    pub fn is_free(&self, frame: usize, order: u32) -> bool {
        (order..=MAX_ORDER).any(|o| self.free.get(o as usize).is_some_and(|tree| tree.contains(frame >> o)))
    }

    /// Gives back the block of 2^`order` frames at `frame`, joined with its free buddies. False if it is not
    /// aligned or was free already, which leaves everything as it was.
    #[must_use]
    pub fn free(&mut self, frame: usize, order: u32) -> bool {
        if order > MAX_ORDER || frame & (1usize << order).wrapping_sub(1) != 0 || self.is_free(frame, order) {
            return false;
        }
        self.frames = self.frames.saturating_add(1 << order);
        let mut block = frame >> order;
        let mut order = order;
        while order < MAX_ORDER {
            let Some(tree) = self.tree(order) else { return false };
            if !tree.contains(block ^ 1) {
                break;
            }
            tree.remove(block ^ 1);
            block >>= 1;
            order = order.wrapping_add(1);
        }
        if let Some(tree) = self.tree(order) {
            tree.insert(block);
        }
        true
    }

    /// Gives back the frames from `start` up to `end`, in the largest blocks that fit. False if any was free.
    #[must_use]
    pub fn free_range(&mut self, start: usize, end: usize) -> bool {
        let mut at = start;
        let mut all = true;
        while at < end {
            let left = end.saturating_sub(at);
            let order = at.trailing_zeros().min(left.ilog2()).min(MAX_ORDER);
            all &= self.free(at, order);
            at = at.saturating_add(1 << order);
        }
        all
    }
}
