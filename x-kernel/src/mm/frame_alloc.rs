//! The frame allocator: all RAM that nothing else has, in blocks of 2^order frames, lowest first.
//!
//! Every allocated frame is of one of two kinds, kept in a bitmap beside the free blocks. *Windowed* frames are
//! reached only through [`super::window::FrameWindow`] and may be given to guests; *private* frames hold things
//! that Rust has references to (heap, tables, scratch space), and no window opens on them. Memory is scrubbed when
//! it is given back, so nothing a guest or the X-Kernel has left behind reaches the next owner (XSA-100, XSA-372).
//! Answers to Xen's `common/page_alloc.c`.

// UNSAFETY: scrubs frames through the direct map; borrows the bitmap's storage.
#![expect(unsafe_code, reason = "storage of the allocator, and scrubbing")]

use core::sync::atomic::{AtomicU64, Ordering};

use pv_core::frame::Mfn;

use super::buddy::{self, Buddy};
use super::layout::{FRAME_SHIFT, FRAME_SIZE, to_usize};
use super::ranges::{FrameRange, RangeSet};
use super::{hyp_pt, window};
use crate::sync::{InitOnce, SpinLock, level};

pub use super::buddy::MAX_ORDER;

/// What debug builds leave in frames that the X-Kernel itself gives back.
const POISON: u8 = 0xdb;

static BUDDY: SpinLock<Option<Buddy>, level::FrameAlloc> = SpinLock::new(None);

/// One bit per frame: set while a window may open on it.
#[unsafe(link_section = ".ro_after_init")]
static WINDOWED: InitOnce<&'static [AtomicU64]> = InitOnce::new();

/// Frames that the allocator began with or was given since.
static TOTAL: AtomicU64 = AtomicU64::new(0);

/// Allocations left until one is made to fail; 0 when none is. Debug builds only.
static FAIL_AFTER: AtomicU64 = AtomicU64::new(0);

/// What a block is for.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Kind {
    Windowed,
    Private,
}

/// The bytes of storage that [`init`] needs for frames below `end`.
pub(super) fn storage_bytes(end: u64) -> u64 {
    let end = usize::try_from(end).unwrap_or(usize::MAX);
    let words = Buddy::words_needed(end).saturating_add(windowed_words(end));
    (words as u64).saturating_mul(8)
}

fn windowed_words(end: usize) -> usize {
    end.div_ceil(64)
}

/// Starts with the frames in `free`, all below `end`.
///
/// # Panics
/// If `storage` is too small, or on a second call.
pub(super) fn init(storage: &'static mut [u64], end: u64, free: &RangeSet) {
    let end = usize::try_from(end).unwrap_or(usize::MAX);
    let (bitmap, rest) = storage.split_at_mut(windowed_words(end));
    let (trees, _) = rest.split_at_mut(Buddy::words_needed(end));
    // SAFETY: `AtomicU64` has the layout of `u64`, and this exclusive borrow lasts for ever.
    let bitmap: &'static [AtomicU64] = unsafe { core::slice::from_raw_parts(bitmap.as_mut_ptr().cast::<AtomicU64>(), bitmap.len()) };
    assert!(WINDOWED.set(bitmap).is_ok(), "the frame allocator starts once");
    let mut buddy = Buddy::new(end, trees);
    let Some(b) = buddy.as_mut() else { panic!("the frame allocator's storage does not fit its frames") };
    for range in free.as_slice() {
        assert!(b.free_range(to_usize(range.start), to_usize(range.end)), "free memory overlaps itself");
    }
    TOTAL.store(b.free_frames(), Ordering::Relaxed);
    *BUDDY.lock() = buddy;
}

/// Whether a window may open on `mfn`: it is allocated, and not the X-Kernel's own memory.
#[inline]
pub fn is_windowed(mfn: Mfn) -> bool {
    let Ok(frame) = usize::try_from(mfn.raw()) else { return false };
    let word = WINDOWED.get().and_then(|map| map.get(frame >> 6));
    word.is_some_and(|word| word.load(Ordering::Acquire) & 1 << (frame & 63) != 0)
}

/// Marks 2^`order` frames as windowed or not. Returns whether all of them were before.
fn set_windowed(frame: usize, order: u32, windowed: bool) -> bool {
    let Some(map) = WINDOWED.get() else { return false };
    let mut before = true;
    for at in frame..frame.saturating_add(1 << order) {
        let Some(word) = map.get(at >> 6) else { return false };
        let bit = 1 << (at & 63);
        let old = if windowed { word.fetch_or(bit, Ordering::AcqRel) } else { word.fetch_and(!bit, Ordering::AcqRel) };
        before &= old & bit != 0;
    }
    before
}

fn take(order: u32, kind: Kind, limit: usize) -> Option<Mfn> {
    if order > MAX_ORDER || injected_failure() {
        return None;
    }
    let frame = BUDDY.lock().as_mut()?.alloc_below(order, limit)?;
    if kind == Kind::Windowed {
        set_windowed(frame, order, true);
    }
    Mfn::new(frame as u64)
}

/// Allocates 2^`order` frames that windows may open on. Their content is unspecified, but no guest's.
pub fn alloc(order: u32) -> Option<Mfn> {
    take(order, Kind::Windowed, usize::MAX)
}

/// As [`alloc`], filled with zeroes: what guests must be given.
pub fn alloc_zeroed(order: u32) -> Option<Mfn> {
    let mfn = take(order, Kind::Windowed, usize::MAX)?;
    fill(mfn, order, 0);
    Some(mfn)
}

/// As [`alloc_zeroed`], of memory whose machine addresses have at most `bits` bits: for devices that reach no more.
pub fn alloc_below(order: u32, bits: u32) -> Option<Mfn> {
    let limit = 1u64.checked_shl(bits).map_or(usize::MAX, |end| to_usize(end >> FRAME_SHIFT));
    let mfn = take(order, Kind::Windowed, limit)?;
    fill(mfn, order, 0);
    Some(mfn)
}

/// Allocates 2^`order` zeroed frames for the X-Kernel's own objects. No window opens on them.
pub(super) fn alloc_private(order: u32) -> Option<Mfn> {
    let mfn = take(order, Kind::Private, usize::MAX)?;
    fill(mfn, order, 0);
    Some(mfn)
}

/// Allocates `frames` consecutive private frames, not zeroed. They are given back by [`free_run`].
pub(super) fn alloc_run(frames: u64) -> Option<Mfn> {
    let order = frames.checked_next_power_of_two()?.ilog2();
    let mfn = take(order, Kind::Private, usize::MAX)?;
    let start = usize::try_from(mfn.raw()).ok()?;
    let used = start.checked_add(usize::try_from(frames).ok()?)?;
    let freed = BUDDY.lock().as_mut()?.free_range(used, start.checked_add(1 << order)?);
    assert!(freed, "the rest of a fresh block was free");
    Some(mfn)
}

/// Gives back what [`alloc_run`] gave.
pub(super) fn free_run(mfn: Mfn, frames: u64) {
    give_back(FrameRange::new(mfn.raw(), mfn.raw().saturating_add(frames)), 0);
}

/// Gives back 2^`order` windowed frames. They must be what [`alloc`] returned, or an aligned part of it; nothing
/// may map them, and every CPU that has mapped them must have flushed.
///
/// # Panics
/// If any of them is not allocated, or private: going on would give one frame to two owners.
pub fn free(mfn: Mfn, order: u32) {
    assert!(order <= MAX_ORDER, "no block has order {order}");
    let was_windowed = set_windowed(to_usize(mfn.raw()), order, false);
    assert!(was_windowed, "mfn {:#x} order {order} freed but not allocated", mfn.raw());
    fill(mfn, order, 0);
    put(mfn, order);
}

/// Gives back what [`alloc_private`] gave. No reference into it may be left.
pub(super) fn free_private(mfn: Mfn, order: u32) {
    fill(mfn, order, if cfg!(debug_assertions) { POISON } else { 0 });
    put(mfn, order);
}

fn put(mfn: Mfn, order: u32) {
    let freed = BUDDY.lock().as_mut().is_some_and(|buddy| buddy.free(to_usize(mfn.raw()), order));
    assert!(freed, "mfn {:#x} order {order} freed twice", mfn.raw());
}

/// Scrubs frames that were held back at boot and lets the allocator have them.
pub(super) fn release(range: FrameRange) {
    give_back(range, 0);
    TOTAL.fetch_add(range.len(), Ordering::Relaxed);
}

fn give_back(range: FrameRange, byte: u8) {
    for frame in range.start..range.end {
        if let Some(mfn) = Mfn::new(frame) {
            fill(mfn, 0, byte);
        }
    }
    let freed = BUDDY.lock().as_mut().is_some_and(|buddy| buddy.free_range(to_usize(range.start), to_usize(range.end)));
    assert!(freed, "frames {:#x}..{:#x} freed twice", range.start, range.end);
}

/// Blocks of this order (1 MiB) and above are zeroed past the caches.
const STREAMING_ORDER: u32 = 8;

/// Overwrites 2^`order` frames. They belong to nobody while this runs.
fn fill(mfn: Mfn, order: u32, byte: u8) {
    let (to, len) = (to_usize(hyp_pt::direct_map_va(mfn)), to_usize(FRAME_SIZE) << order);
    if byte == 0 && order >= STREAMING_ORDER {
        // SAFETY: as below.
        unsafe { window::zero_streaming(to, len) };
        return;
    }
    // SAFETY: the block is RAM in the direct map that has just been taken out of the free blocks, or is about to
    // be put there: no reference into it exists, and no window opens on it.
    unsafe { window::fill_bytes(to, byte, len) };
}

/// Number of free frames.
pub fn free_frames() -> u64 {
    BUDDY.lock().as_ref().map_or(0, Buddy::free_frames)
}

/// Number of frames that the allocator has, free or not.
pub fn total_frames() -> u64 {
    TOTAL.load(Ordering::Relaxed)
}

/// Makes the `n`-th allocation from now fail (1 is the next), once; 0 calls it off. For tests of error paths; does
/// nothing in release builds.
pub fn fail_after(n: u64) {
    FAIL_AFTER.store(n, Ordering::Relaxed);
}

fn injected_failure() -> bool {
    if !cfg!(debug_assertions) {
        return false;
    }
    let step = |left: u64| left.checked_sub(1);
    FAIL_AFTER.fetch_update(Ordering::Relaxed, Ordering::Relaxed, step) == Ok(1)
}

const _: () = assert!(FRAME_SIZE == 1 << FRAME_SHIFT && buddy::MAX_ORDER == 18);

/// Whether any of `range` is RAM, which only this allocator may hand out.
pub(super) fn manages(range: &FrameRange) -> bool {
    super::frame_table::overlaps_ram(range)
}
