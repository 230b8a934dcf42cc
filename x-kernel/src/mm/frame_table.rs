//! One record per frame of RAM, and the machine-to-physical table.
//!
//! Both are arrays over all frame numbers, backed by memory only where there is RAM; [`info`] answers only there,
//! so a frame number from a guest can be looked up as it comes (XSA-167). The machine-to-physical table is mapped
//! twice: for guests, read-only, at its fixed address, and for us.

// UNSAFETY: the arrays live at fixed addresses; references into them are made here.
#![expect(unsafe_code, reason = "storage of the frame table")]

use core::ptr::with_exposed_provenance_mut;
use core::sync::atomic::{AtomicU64, Ordering};

use pv_core::frame::{FrameInfo, Mfn, Pfn};

use super::layout::{FRAME_SHIFT, FRAME_SIZE, FRAME_TABLE_BASE, M2P_ALIAS_BASE, M2P_BASE, SIZE_2M, to_usize};
use super::page_table::bits;
use super::ranges::{FrameRange, RangeSet};
use super::{boot_alloc::BootAlloc, hyp_pt};
use crate::sync::InitOnce;

/// The machine's RAM.
#[unsafe(link_section = ".ro_after_init")]
static RAM: InitOnce<RangeSet> = InitOnce::new();
/// The range of it that nearly every frame is in: there may be dozens, and every hypercall on page tables asks.
#[unsafe(link_section = ".ro_after_init")]
static LARGEST: InitOnce<FrameRange> = InitOnce::new();

/// Bytes of a record.
const INFO_SIZE: u64 = size_of::<FrameInfo>() as u64;
/// Bytes of an entry of the machine-to-physical table.
const M2P_ENTRY: u64 = 8;
/// What the machine-to-physical table says of a frame that has no place in a guest.
pub const INVALID_M2P: u64 = u64::MAX;

const _: () = assert!(INFO_SIZE == 32);

/// Gives both arrays their memory, fills them in, and makes them known.
///
/// None when memory is short.
pub(super) fn init(ram: &RangeSet, from: &mut BootAlloc) -> Option<()> {
    // Ranges of either array that touch in one page are backed once.
    let mut backed_info = 0;
    let mut backed_m2p = 0;
    for range in ram.as_slice() {
        backed_info = back(range, INFO_SIZE, &[(FRAME_TABLE_BASE, bits::DATA)], backed_info, from)?;
        backed_m2p = back(range, M2P_ENTRY, &[(M2P_ALIAS_BASE, bits::DATA), (M2P_BASE, bits::GUEST_RO)], backed_m2p, from)?;
        for frame in range.start..range.end {
            // SAFETY: the place has just been backed and nothing refers to it yet.
            unsafe { info_place(frame).write(FrameInfo::new()) };
        }
    }
    // Whole pages of the table are visible to guests: the entries of holes say "invalid" as well.
    for range in ram.as_slice() {
        let per_page = FRAME_SIZE / M2P_ENTRY;
        for frame in range.start & !(per_page - 1)..range.end.next_multiple_of(per_page) {
            // SAFETY: the page has been backed, and nothing refers to it yet.
            unsafe { m2p_place(frame).write(INVALID_M2P) };
        }
    }
    let largest = ram.as_slice().iter().max_by_key(|range| range.end.saturating_sub(range.start))?;
    LARGEST.set(*largest).ok()?;
    RAM.set(ram.clone()).ok()
}

/// Backs `size` bytes for each frame of `range` at each of the places, beginning at offset `backed` at the
/// earliest, and returns the offset up to which there is memory now.
fn back(range: &FrameRange, size: u64, places: &[(u64, u64)], backed: u64, from: &mut BootAlloc) -> Option<u64> {
    let start = (range.start.checked_mul(size)? & !(FRAME_SIZE - 1)).max(backed);
    let end = range.end.checked_mul(size)?.checked_next_multiple_of(FRAME_SIZE)?;
    let mut at = start;
    while at < end {
        let whole = at.is_multiple_of(SIZE_2M) && end.checked_sub(at)? >= SIZE_2M;
        let big = if whole { from.take(SIZE_2M >> FRAME_SHIFT, SIZE_2M >> FRAME_SHIFT) } else { None };
        let (maddr, len) = match big {
            Some(maddr) => (maddr, SIZE_2M),
            None => (from.take(1, 1)?, FRAME_SIZE),
        };
        for &(base, flags) in places {
            hyp_pt::map_at_boot(base.checked_add(at)?, maddr, len, flags, &mut || from.take_zeroed())?;
        }
        at = at.checked_add(len)?;
    }
    Some(end.max(backed))
}

fn info_place(frame: u64) -> *mut FrameInfo {
    with_exposed_provenance_mut(to_usize(FRAME_TABLE_BASE.wrapping_add(frame.wrapping_mul(INFO_SIZE))))
}

fn m2p_place(frame: u64) -> *mut u64 {
    with_exposed_provenance_mut(to_usize(M2P_ALIAS_BASE.wrapping_add(frame.wrapping_mul(M2P_ENTRY))))
}

/// The machine's RAM, as ranges of frames.
pub fn ram() -> &'static [FrameRange] {
    RAM.get().map_or(&[], RangeSet::as_slice)
}

/// Whether `frame` is RAM.
fn is_ram(frame: u64) -> bool {
    LARGEST.get().is_some_and(|range| range.contains(frame)) || ram().iter().any(|range| range.contains(frame))
}

/// Whether any of `range` is RAM.
pub(super) fn overlaps_ram(range: &FrameRange) -> bool {
    ram().iter().any(|ram| !ram.and(range).is_empty())
}

/// The frame after the last one of RAM.
pub fn max_mfn() -> u64 {
    RAM.get().map_or(0, RangeSet::end)
}

/// The record of `mfn`, if it is RAM.
pub fn info(mfn: Mfn) -> Option<&'static FrameInfo> {
    if !is_ram(mfn.raw()) {
        return None;
    }
    // SAFETY: frames of RAM have had a record written by `init`, which stays for ever; `FrameInfo` is made of
    // atomics, so shared references are all that is ever needed.
    Some(unsafe { &*info_place(mfn.raw()) })
}

/// Shows the record of every frame of RAM to `visit`. Not for guests' paths: it takes as long as there is memory.
pub fn for_each(mut visit: impl FnMut(Mfn, &FrameInfo)) {
    for range in ram() {
        for mfn in (range.start..range.end).filter_map(Mfn::new) {
            // SAFETY: as in `info`: it is RAM.
            visit(mfn, unsafe { &*info_place(mfn.raw()) });
        }
    }
}

/// The frame that `info` is the record of. None for a record that is not in the table.
pub fn mfn_of(info: &FrameInfo) -> Option<Mfn> {
    let offset = (core::ptr::from_ref(info) as u64).checked_sub(FRAME_TABLE_BASE)?;
    let mfn = Mfn::new(offset / INFO_SIZE)?;
    is_ram(mfn.raw()).then_some(mfn)
}

fn m2p_entry(mfn: Mfn) -> Option<&'static AtomicU64> {
    if !is_ram(mfn.raw()) {
        return None;
    }
    // SAFETY: frames of RAM have an entry, written by `init`, which stays for ever; it is accessed by atomics
    // here and read by guests.
    Some(unsafe { AtomicU64::from_ptr(m2p_place(mfn.raw())) })
}

/// The machine-to-physical table: where each frame is in its owner's pseudo-physical memory.
pub mod m2p {
    use super::{Mfn, Ordering, Pfn, m2p_entry};

    pub use super::super::layout::M2P_BASE as GUEST_BASE;
    pub use super::INVALID_M2P;

    /// Says that `mfn` is its owner's `pfn`. A value a guest may choose: we never rely on it. False if the frame
    /// is not RAM.
    pub fn set(mfn: Mfn, pfn: Pfn) -> bool {
        set_raw(mfn, pfn.raw())
    }

    /// Says that `mfn` has no place.
    pub fn invalidate(mfn: Mfn) {
        set_raw(mfn, INVALID_M2P);
    }

    /// Writes any value. False if the frame is not RAM.
    pub fn set_raw(mfn: Mfn, value: u64) -> bool {
        m2p_entry(mfn).map(|entry| entry.store(value, Ordering::Relaxed)).is_some()
    }

    /// What the table says of `mfn`; [`INVALID_M2P`] if it is not RAM.
    pub fn get(mfn: Mfn) -> u64 {
        m2p_entry(mfn).map_or(INVALID_M2P, |entry| entry.load(Ordering::Relaxed))
    }
}
