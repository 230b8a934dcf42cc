//! A binary min-heap of (key, id) that knows where each id is, so a key can be changed or taken out.
//!
//! Owns the order, nothing else. Ids are below the capacity given at creation and each is present at most once,
//! so no operation allocates: inserting past the capacity is impossible rather than refused late. Ties go to the
//! lower id, which makes every run repeatable.

use alloc::vec::Vec;

/// Where an id is not in the heap.
const ABSENT: u32 = u32::MAX;

/// See the module.
#[derive(Debug)]
pub struct KeyedHeap<K> {
    /// The heap: each element is not greater than its two children.
    heap: Vec<(K, u32)>,
    /// Index in `heap` by id, or [`ABSENT`].
    places: Vec<u32>,
}

impl<K: Copy + Ord> KeyedHeap<K> {
    /// A heap for ids below `capacity`; None when memory is short.
    pub fn new(capacity: u32) -> Option<Self> {
        let wanted = usize::try_from(capacity).ok()?;
        let mut heap = Vec::new();
        heap.try_reserve_exact(wanted).ok()?;
        let mut places = Vec::new();
        places.try_reserve_exact(wanted).ok()?;
        places.resize(wanted, ABSENT);
        Some(Self { heap, places })
    }

    /// How many ids are in it.
    pub fn len(&self) -> usize {
        self.heap.len()
    }

    /// Whether it is empty.
    pub fn is_empty(&self) -> bool {
        self.heap.is_empty()
    }

    /// The least key and its id.
    pub fn first(&self) -> Option<(K, u32)> {
        self.heap.first().copied()
    }

    /// The key of `id`, if present.
    pub fn key(&self, id: u32) -> Option<K> {
        self.heap.get(self.place(id)?).map(|&(key, _)| key)
    }

    /// All (key, id) pairs, in no order.
    pub fn iter(&self) -> impl Iterator<Item = (K, u32)> + '_ {
        self.heap.iter().copied()
    }

    /// Inserts `id` or changes its key; false if `id` is not below the capacity.
    #[must_use]
    pub fn set(&mut self, id: u32, key: K) -> bool {
        let Some(known) = usize::try_from(id).ok().and_then(|i| self.places.get(i)).copied() else { return false };
        let at = if known == ABSENT {
            // Never past the capacity: there are as many places as reserved elements.
            self.heap.push((key, id));
            let at = self.heap.len().saturating_sub(1);
            self.note(at);
            at
        } else {
            let Ok(at) = usize::try_from(known) else { return false };
            let Some(element) = self.heap.get_mut(at) else { return false };
            element.0 = key;
            at
        };
        let at = self.sift_up(at);
        self.sift_down(at);
        true
    }

    /// Takes `id` out; its key, if it was present.
    pub fn remove(&mut self, id: u32) -> Option<K> {
        let at = self.place(id)?;
        let last = self.heap.len().checked_sub(1)?;
        self.swap(at, last);
        let (key, _) = self.heap.pop()?;
        if let Some(place) = usize::try_from(id).ok().and_then(|i| self.places.get_mut(i)) {
            *place = ABSENT;
        }
        if at < last {
            let at = self.sift_up(at);
            self.sift_down(at);
        }
        Some(key)
    }

    /// Takes the least element out.
    pub fn pop(&mut self) -> Option<(K, u32)> {
        let (key, id) = self.first()?;
        self.remove(id);
        Some((key, id))
    }

    fn place(&self, id: u32) -> Option<usize> {
        let place = *self.places.get(usize::try_from(id).ok()?)?;
        if place == ABSENT { None } else { usize::try_from(place).ok() }
    }

    /// Records where the element at `at` is.
    fn note(&mut self, at: usize) {
        let Some(&(_, id)) = self.heap.get(at) else { return };
        if let (Some(place), Ok(at)) = (usize::try_from(id).ok().and_then(|i| self.places.get_mut(i)), u32::try_from(at)) {
            *place = at;
        }
    }

    fn swap(&mut self, a: usize, b: usize) {
        if a < self.heap.len() && b < self.heap.len() {
            self.heap.swap(a, b);
            self.note(a);
            self.note(b);
        }
    }

    fn less(&self, a: usize, b: usize) -> bool {
        matches!((self.heap.get(a), self.heap.get(b)), (Some(a), Some(b)) if a < b)
    }

    fn sift_up(&mut self, mut at: usize) -> usize {
        while let Some(parent) = at.checked_sub(1).map(|n| n / 2) {
            if !self.less(at, parent) {
                break;
            }
            self.swap(at, parent);
            at = parent;
        }
        at
    }

    fn sift_down(&mut self, mut at: usize) {
        loop {
            let left = at.saturating_mul(2).saturating_add(1);
            let right = left.saturating_add(1);
            let mut least = at;
            if self.less(left, least) {
                least = left;
            }
            if self.less(right, least) {
                least = right;
            }
            if least == at {
                return;
            }
            self.swap(at, least);
            at = least;
        }
    }
}
