//! The boot modules: kernels and initial RAM disks as the boot loader has left them in RAM.
//!
//! Their frames are held back from the allocator. Whoever builds a domain takes its module, reads it, and drops it;
//! the frames are then scrubbed and become ordinary free memory (XSA-372), except where they are shared with a
//! module that is still there.

// UNSAFETY: lends a module's memory as a slice.
#![expect(unsafe_code, reason = "lends a module's memory as a slice")]

use arrayvec::ArrayVec;

use super::frame_alloc;
use super::layout::{DIRECT_MAP_BASE, to_usize};
use super::ranges::{FrameRange, RangeSet};
use crate::sync::{InitOnce, SpinLock, level};

/// The most modules that are kept.
pub const MAX_MODULES: usize = 256;

#[derive(Clone, Copy, Debug)]
struct Held {
    start: u64,
    len: u64,
    taken: bool,
}

static HELD: SpinLock<ArrayVec<Held, MAX_MODULES>, level::PageList> = SpinLock::new(ArrayVec::new_const());

/// Frames that are never given to the allocator, even where a module reaches into them.
#[unsafe(link_section = ".ro_after_init")]
static KEEP: InitOnce<RangeSet> = InitOnce::new();

/// Sets what is never given away. Once, at boot.
pub(super) fn keep_for_ever(frames: RangeSet) {
    let _ = KEEP.set(frames);
}

/// Remembers a module whose frames have been kept out of the allocator. False if there is no room.
#[must_use]
pub(super) fn register(start: u64, len: u64) -> bool {
    HELD.lock().try_push(Held { start, len, taken: false }).is_ok()
}

/// A boot module. Dropping it gives its memory to the allocator.
#[derive(Debug)]
pub struct BootModule {
    start: u64,
    len: u64,
}

impl BootModule {
    /// Takes the module of `len` bytes at machine address `start`, as the boot information names it. None if
    /// there is no such module, or it has been taken.
    pub fn take(start: u64, len: u64) -> Option<Self> {
        let mut held = HELD.lock();
        let module = held.iter_mut().find(|m| m.start == start && m.len == len && !m.taken)?;
        module.taken = true;
        Some(Self { start, len })
    }

    /// Its content.
    pub fn bytes(&self) -> &[u8] {
        let at = core::ptr::with_exposed_provenance::<u8>(to_usize(DIRECT_MAP_BASE.wrapping_add(self.start)));
        // SAFETY:
        // 1. `register` has seen that the range is RAM, which the direct map has, and its frames were never given
        //    to the allocator: no window opens on them, and nothing writes them while any module there is held.
        // 2. They are given up only by `drop` of the last holder, so not while `self` is borrowed.
        unsafe { core::slice::from_raw_parts(at, to_usize(self.len)) }
    }
}

impl Drop for BootModule {
    fn drop(&mut self) {
        let mut gone = RangeSet::new();
        let mut held = HELD.lock();
        if let Some(at) = held.iter().position(|m| m.start == self.start && m.len == self.len && m.taken) {
            held.remove(at);
            let mut known = gone.insert(FrameRange::around(self.start, self.len));
            for range in KEEP.get().map_or(&[][..], RangeSet::as_slice) {
                known &= gone.remove(*range);
            }
            for other in held.iter() {
                known &= gone.remove(FrameRange::around(other.start, other.len));
            }
            if !known {
                // Too many pieces to keep apart: the memory stays lost rather than be given away too early.
                gone = RangeSet::new();
            }
        }
        drop(held);
        for range in gone.as_slice() {
            frame_alloc::release(*range);
        }
    }
}
