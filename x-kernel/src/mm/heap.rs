//! The X-Kernel's heap: the `talc` allocator, growing by whole blocks from the frame allocator.
//!
//! What it has grown by it keeps. So large allocations, which are few and short-lived (a decompressor's window may have
//! 64 MiB), get frames of their own, which are given back with them.
//!
//! On guest paths allocation must be allowed to fail: use `try_reserve` and the like there.

// UNSAFETY: implements the global allocator.
#![expect(unsafe_code, reason = "the global allocator")]

use core::alloc::{GlobalAlloc, Layout};
use core::ptr::NonNull;

use talc::{OomHandler, Span, Talc};

use super::layout::{FRAME_SIZE, to_usize};
use super::{frame_alloc, hyp_pt};
use crate::sync::{SpinLock, level};

/// The least that the heap grows by: 2^6 frames, 256 KiB.
const CHUNK_ORDER: u32 = 6;

/// From this size on an allocation gets frames of its own.
const LARGE: usize = 1 << 20;

/// The frames of an allocation that gets its own. The answer depends on the layout alone, so it is the same when the
/// allocation is given back.
fn own_frames(layout: Layout) -> Option<u64> {
    let large = layout.size() >= LARGE && layout.align() <= to_usize(FRAME_SIZE);
    large.then(|| (layout.size() as u64).div_ceil(FRAME_SIZE))
}

struct Grow;

impl OomHandler for Grow {
    fn handle_oom(talc: &mut Talc<Self>, layout: Layout) -> Result<(), ()> {
        // Room for the allocation, its alignment and the allocator's own words.
        let bytes = layout.size().checked_add(layout.align()).and_then(|b| b.checked_add(256)).ok_or(())?;
        let frames = bytes.div_ceil(to_usize(FRAME_SIZE)).checked_next_power_of_two().ok_or(())?;
        let order = frames.ilog2().max(CHUNK_ORDER);
        let mfn = frame_alloc::alloc_private(order).ok_or(())?;
        let start = core::ptr::with_exposed_provenance_mut::<u8>(to_usize(hyp_pt::direct_map_va(mfn)));
        let span = Span::from_base_size(start, to_usize(FRAME_SIZE) << order);
        // SAFETY: the block is private, in the direct map for ever, and nobody else's.
        unsafe { talc.claim(span) }.map(|_| ())
    }
}

struct Heap(SpinLock<Talc<Grow>, level::Heap>);

#[global_allocator]
static HEAP: Heap = Heap(SpinLock::new(Talc::new(Grow)));

// SAFETY: `Talc` hands out disjoint blocks of the spans that it has claimed, and the lock serialises it. It does
// not unwind: panics abort.
unsafe impl GlobalAlloc for Heap {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        if let Some(frames) = own_frames(layout) {
            let start = frame_alloc::alloc_run(frames).map(hyp_pt::direct_map_va);
            return start.map_or(core::ptr::null_mut(), |va| core::ptr::with_exposed_provenance_mut(to_usize(va)));
        }
        // SAFETY: the caller promises a layout that is not empty, which is all that `malloc` asks for.
        unsafe { self.0.lock().malloc(layout) }.map_or(core::ptr::null_mut(), NonNull::as_ptr)
    }

    unsafe fn dealloc(&self, ptr: *mut u8, layout: Layout) {
        if let Some(frames) = own_frames(layout) {
            if let Some(start) = hyp_pt::direct_map_mfn(ptr.expose_provenance() as u64) {
                frame_alloc::free_run(start, frames);
            }
            return;
        }
        let Some(ptr) = NonNull::new(ptr) else { return };
        // SAFETY: the caller promises that `ptr` came from `alloc` with this layout.
        unsafe { self.0.lock().free(ptr, layout) };
    }
}

/// How the heap stands.
#[derive(Clone, Copy, Debug, Default)]
pub struct Stats {
    /// Bytes in use.
    pub used_bytes: usize,
    /// Allocations alive.
    pub allocations: usize,
}

/// How the heap stands now.
pub fn stats() -> Stats {
    let heap = HEAP.0.lock();
    let counters = heap.get_counters();
    Stats { used_bytes: counters.allocated_bytes, allocations: counters.allocation_count }
}
