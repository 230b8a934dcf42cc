//! Memory for the tables that must exist before the frame allocator: from the top of what nothing else has, so that
//! memory with short addresses stays for those who need it.

// UNSAFETY: zeroes fresh frames through the direct map.
#![expect(unsafe_code, reason = "zeroes fresh frames")]

use super::layout::{DIRECT_MAP_BASE, FRAME_SHIFT, FRAME_SIZE, to_usize};
use super::ranges::{FrameRange, RangeSet};
use super::window;

/// RAM that is still free, at boot.
pub(super) struct BootAlloc {
    free: RangeSet,
    /// Frames at or above are not mapped yet.
    limit: u64,
}

impl BootAlloc {
    /// Hands out frames of `free` below frame `limit`.
    pub(super) fn new(free: RangeSet, limit: u64) -> Self {
        Self { free, limit }
    }

    /// Says that all RAM is mapped.
    pub(super) fn lift_limit(&mut self) {
        self.limit = u64::MAX;
    }

    /// Takes `frames` consecutive frames at a multiple of `align` frames; their machine address.
    pub(super) fn take(&mut self, frames: u64, align: u64) -> Option<u64> {
        let found: FrameRange = self.free.last_fit(frames, align, self.limit)?;
        self.free.remove(found).then_some(found.start << FRAME_SHIFT)
    }

    /// Takes one frame and zeroes it.
    pub(super) fn take_zeroed(&mut self) -> Option<u64> {
        let maddr = self.take(1, 1)?;
        // SAFETY: the frame is mapped (below the limit) and has just been taken: nothing refers to it.
        unsafe { window::fill_bytes(to_usize(DIRECT_MAP_BASE.wrapping_add(maddr)), 0, to_usize(FRAME_SIZE)) };
        Some(maddr)
    }

    /// Takes zeroed storage of at least `bytes` bytes for ever.
    pub(super) fn take_words(&mut self, bytes: u64) -> Option<&'static mut [u64]> {
        let frames = bytes.div_ceil(FRAME_SIZE);
        let maddr = self.take(frames, 1)?;
        let at = to_usize(DIRECT_MAP_BASE.wrapping_add(maddr));
        let len = usize::try_from(frames << FRAME_SHIFT).ok()?;
        // SAFETY: as in `take_zeroed`.
        unsafe { window::fill_bytes(at, 0, len) };
        // SAFETY: the frames have just been taken, are mapped for ever, aligned and initialised; nothing else
        // refers to them, and they are never given back.
        Some(unsafe { core::slice::from_raw_parts_mut(core::ptr::with_exposed_provenance_mut(at), len / 8) })
    }

    /// How many frames are left.
    pub(super) fn left(&self) -> u64 {
        self.free.frames()
    }

    /// What is left.
    pub(super) fn into_free(self) -> RangeSet {
        self.free
    }
}
