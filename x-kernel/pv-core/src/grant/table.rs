//! The granting domain's half: its shared frames and the entries in use.
//!
//! Invariant, per entry: it is in use by one domain at most; GTF_reading is set in the shared entry while it is in
//! use, GTF_writing while it is in use for writing, unless the guest, to its own harm, clears them; the frame and the
//! domain noted at the first use stay until the last is given back.

use alloc::vec::Vec;

use xen_abi::grant_table::{GTF_reading, GTF_readonly, GTF_writing};

use super::entry::{ENTRIES_PER_FRAME, ENTRY_BYTES, EntryPlace, Header, SharedEntries};
use super::pins::{Pins, Use};
use super::{GrantError, Parts};
use crate::frame::{DomId, Mfn};

/// Attempts at an entry that keeps changing before the caller is told so.
const ATTEMPTS: u32 = 5;
/// The most shared frames that any domain may be allowed.
pub const MAX_FRAMES: u32 = 64;

/// A grant reference as a guest alleges it; a table checks it on each use.
#[derive(Clone, Copy, Debug, Eq, PartialEq, Ord, PartialOrd, Hash)]
pub struct GrantRef(pub u32);

/// An entry in use.
#[derive(Clone, Copy, Debug, Default)]
struct Active {
    pins: Pins,
    /// Who and what, while `pins` is not empty.
    noted: Option<(DomId, Mfn)>,
}

/// A frame that may be used now. The frame number is the guest's word: take a reference from the granting domain.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[must_use = "the use is to be recorded or given back"]
pub struct GrantedFrame {
    /// The frame.
    pub frame: Mfn,
    /// Whether it may be written.
    pub writable: bool,
    /// Whether this is the only use.
    pub first: bool,
}

/// A use that was given back.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Released {
    /// The frame whose reference is to be dropped.
    pub frame: Mfn,
    /// Whether the entry is not in use any more.
    pub last: bool,
}

/// See the module.
#[derive(Debug)]
pub struct GrantTable {
    domain: DomId,
    max_frames: u32,
    frames: Vec<Mfn>,
    /// One block of [`ENTRIES_PER_FRAME`] per shared frame, so that growth moves nothing.
    active: Vec<Vec<Active>>,
    /// Uses of all entries.
    pinned: u64,
}

impl GrantTable {
    /// The empty table of `domain`, of up to `max_frames` frames (at most [`MAX_FRAMES`]).
    ///
    /// # Errors
    /// [`GrantError::NoSpace`].
    pub fn new(domain: DomId, max_frames: u32) -> Result<Self, GrantError> {
        let max_frames = max_frames.min(MAX_FRAMES);
        let wanted = usize::try_from(max_frames).map_err(|_| GrantError::NoSpace)?;
        let mut frames = Vec::new();
        frames.try_reserve_exact(wanted).map_err(|_| GrantError::NoSpace)?;
        let mut active = Vec::new();
        active.try_reserve_exact(wanted).map_err(|_| GrantError::NoSpace)?;
        Ok(Self { domain, max_frames, frames, active, pinned: 0 })
    }

    /// The granting domain.
    pub fn domain(&self) -> DomId {
        self.domain
    }

    /// `GNTTABOP_query_size`: frames now.
    pub fn nr_frames(&self) -> u32 {
        u32::try_from(self.frames.len()).unwrap_or(MAX_FRAMES)
    }

    /// `GNTTABOP_query_size`: frames at most.
    pub fn max_frames(&self) -> u32 {
        self.max_frames
    }

    /// The shared frames, in order.
    pub fn frames(&self) -> &[Mfn] {
        &self.frames
    }

    /// `GNTTABOP_setup_table`: how many frames are to be added for there to be `wanted`.
    ///
    /// # Errors
    /// [`GrantError::Invalid`] if `wanted` is above the maximum.
    pub fn missing_frames(&self, wanted: u32) -> Result<u32, GrantError> {
        if wanted > self.max_frames {
            return Err(GrantError::Invalid);
        }
        Ok(wanted.saturating_sub(self.nr_frames()))
    }

    /// Adds a shared frame, which the caller has zeroed and keeps allocated until [`Self::take_frame`].
    ///
    /// # Errors
    /// [`GrantError::NoSpace`]: then the frame is the caller's still.
    pub fn add_frame(&mut self, frame: Mfn) -> Result<(), GrantError> {
        if self.nr_frames() >= self.max_frames {
            return Err(GrantError::NoSpace);
        }
        let count = usize::try_from(ENTRIES_PER_FRAME).map_err(|_| GrantError::NoSpace)?;
        let mut block = Vec::new();
        block.try_reserve_exact(count).map_err(|_| GrantError::NoSpace)?;
        block.resize(count, Active::default());
        self.active.push(block);
        self.frames.push(frame);
        Ok(())
    }

    /// Takes the last shared frame out, at teardown.
    ///
    /// # Errors
    /// [`GrantError::Again`] while any entry is in use.
    pub fn take_frame(&mut self) -> Result<Option<Mfn>, GrantError> {
        if self.pinned != 0 {
            return Err(GrantError::Again);
        }
        self.active.pop();
        Ok(self.frames.pop())
    }

    /// Uses of all entries: 0 after teardown of every mapper.
    pub fn pinned(&self) -> u64 {
        self.pinned
    }

    /// Where the shared entry of `gref` is.
    ///
    /// # Errors
    /// [`GrantError::BadRef`].
    pub fn place(&self, gref: GrantRef) -> Result<EntryPlace, GrantError> {
        let (block, slot) = Self::split(gref)?;
        let frame = *self.frames.get(block).ok_or(GrantError::BadRef)?;
        let offset = u16::try_from(slot).ok().and_then(|s| s.checked_mul(ENTRY_BYTES)).ok_or(GrantError::BadRef)?;
        Ok(EntryPlace { frame, offset })
    }

    /// Starts a use of `gref` by `by`: a mapping, or one side of a copy.
    ///
    /// On success the entry is marked as in use. While the lock is held the caller takes its reference to the
    /// frame, requiring that the granting domain owns it, and calls [`Self::end_use`] if it cannot.
    ///
    /// # Errors
    /// [`GrantError::BadRef`], [`GrantError::NotGranted`], [`GrantError::ReadOnly`], [`GrantError::Unstable`],
    /// [`GrantError::Busy`], [`GrantError::BadPage`].
    pub fn begin_use(&mut self, shared: &impl SharedEntries, gref: GrantRef, by: DomId, how: Use) -> Result<GrantedFrame, GrantError> {
        let place = self.place(gref)?;
        let active = *self.active(gref)?;
        let pins = active.pins.with(how)?;
        let total = self.pinned.checked_add(1).ok_or(GrantError::Busy)?;
        let frame = match active.noted {
            Some((user, _)) if user != by => return Err(GrantError::Busy),
            // Already marked as far as this use needs: the guest's entry is not looked at again.
            Some((_, frame)) if !how.writable || active.pins.writes() => frame,
            // Marked for reading, now for writing: the entry must say so, but the frame stays the noted one.
            Some((_, frame)) => mark(shared, place, by, how).map(|_| frame)?,
            None => match Mfn::new(u64::from(mark(shared, place, by, how)?)) {
                Some(frame) => frame,
                // Not while entries have 32-bit frame numbers.
                None => {
                    shared.clear_flags(place, GTF_reading | GTF_writing);
                    return Err(GrantError::BadPage);
                }
            },
        };
        *self.active_mut(gref)? = Active { pins, noted: Some((by, frame)) };
        self.pinned = total;
        Ok(GrantedFrame { frame, writable: how.writable, first: active.pins.none() })
    }

    /// `GNTTABOP_map_grant_ref`, the granting side: a use for a CPU's mapping, a device's, or both at once.
    ///
    /// # Errors
    /// As [`Self::begin_use`]; [`GrantError::BadFlags`] if `host` and `device` are both false.
    pub fn begin_map(&mut self, shared: &impl SharedEntries, gref: GrantRef, by: DomId, parts: Parts) -> Result<GrantedFrame, GrantError> {
        let mut granted: Option<(Use, GrantedFrame)> = None;
        for how in parts.uses() {
            match (self.begin_use(shared, gref, by, how), granted) {
                (Ok(frame), None) => granted = Some((how, frame)),
                (Ok(_), Some(_)) => {}
                (Err(error), None) => return Err(error),
                // Only a count that is full gets here: the entry has been marked by the first.
                (Err(error), Some((first, _))) => {
                    self.end_use(shared, gref, by, first)?;
                    return Err(error);
                }
            }
        }
        granted.map(|(_, frame)| frame).ok_or(GrantError::BadFlags)
    }

    /// Gives a use back.
    ///
    /// # Errors
    /// [`GrantError::BadRef`]; [`GrantError::BadHandle`] if `by` has no such use: nothing is changed then.
    pub fn end_use(&mut self, shared: &impl SharedEntries, gref: GrantRef, by: DomId, how: Use) -> Result<Released, GrantError> {
        let place = self.place(gref)?;
        let active = *self.active(gref)?;
        let frame = match active.noted {
            Some((user, frame)) if user == by => frame,
            _ => return Err(GrantError::BadHandle),
        };
        let pins = active.pins.without(how)?;
        let last = pins.none();
        *self.active_mut(gref)? = Active { pins, noted: if last { None } else { active.noted } };
        self.pinned = self.pinned.saturating_sub(1);
        // Only what no remaining use needs (XSA-230).
        let mut clear = 0;
        if active.pins.writes() && !pins.writes() {
            clear |= GTF_writing;
        }
        if last {
            clear |= GTF_reading;
        }
        if clear != 0 {
            shared.clear_flags(place, clear);
        }
        Ok(Released { frame, last })
    }

    /// `GNTTABOP_swap_grant_ref`: exchanges two shared entries that nobody uses.
    ///
    /// # Errors
    /// [`GrantError::BadRef`], [`GrantError::Again`].
    pub fn swap(&mut self, shared: &impl SharedEntries, a: GrantRef, b: GrantRef) -> Result<(), GrantError> {
        let (place_a, place_b) = (self.place(a)?, self.place(b)?);
        if !self.active(a)?.pins.none() || !self.active(b)?.pins.none() {
            return Err(GrantError::Again);
        }
        if a != b {
            let (entry_a, entry_b) = (shared.read(place_a), shared.read(place_b));
            shared.write(place_a, entry_b);
            shared.write(place_b, entry_a);
        }
        Ok(())
    }

    /// Gives back the uses of `parts` of a mapping that a [`MapTrack`](super::MapTrack) has let go; one reference to
    /// the frame is to be dropped per part.
    ///
    /// # Errors
    /// As [`Self::end_use`]; nothing here has a fault that a guest can cause.
    pub fn end_map(&mut self, shared: &impl SharedEntries, gref: GrantRef, by: DomId, parts: Parts) -> Result<Released, GrantError> {
        let mut released = Err(GrantError::BadFlags);
        for how in parts.uses() {
            released = Ok(self.end_use(shared, gref, by, how)?);
        }
        released
    }

    fn split(gref: GrantRef) -> Result<(usize, usize), GrantError> {
        let block = gref.0.checked_div(ENTRIES_PER_FRAME).and_then(|n| usize::try_from(n).ok());
        let slot = gref.0.checked_rem(ENTRIES_PER_FRAME).and_then(|n| usize::try_from(n).ok());
        block.zip(slot).ok_or(GrantError::BadRef)
    }

    fn active(&self, gref: GrantRef) -> Result<&Active, GrantError> {
        let (block, slot) = Self::split(gref)?;
        self.active.get(block).and_then(|b| b.get(slot)).ok_or(GrantError::BadRef)
    }

    fn active_mut(&mut self, gref: GrantRef) -> Result<&mut Active, GrantError> {
        let (block, slot) = Self::split(gref)?;
        self.active.get_mut(block).and_then(|b| b.get_mut(slot)).ok_or(GrantError::BadRef)
    }
}

/// Marks a shared entry as in use by `by`; the frame number of the very snapshot that was marked.
fn mark(shared: &impl SharedEntries, place: EntryPlace, by: DomId, how: Use) -> Result<u32, GrantError> {
    for _ in 0..ATTEMPTS {
        let entry = shared.read(place);
        if !entry.header.permits(by) {
            return Err(GrantError::NotGranted);
        }
        if how.writable && entry.header.flags & GTF_readonly != 0 {
            return Err(GrantError::ReadOnly);
        }
        let bits = if how.writable { GTF_reading | GTF_writing } else { GTF_reading };
        let marked = Header { flags: entry.header.flags | bits, ..entry.header };
        if shared.compare_exchange(place, entry.header, marked).is_ok() {
            return Ok(entry.frame);
        }
    }
    Err(GrantError::Unstable)
}
