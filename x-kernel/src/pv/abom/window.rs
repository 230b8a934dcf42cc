//! The bytes of a program that a plan is made from.

use alloc::vec::Vec;
use core::ops::Range;

use abom::after::{self, Ask};
use abom::code::{Reader, SYSCALL};
use abom::{Code, Patch};
use smallvec::SmallVec;

use super::PAGE;
use super::reading::Key;
use crate::mm::guest_access;

/// Bytes that are looked at before a site, and from it on.
const BEFORE: u64 = 64;
/// See [`BEFORE`].
const AFTER: u64 = 320;
/// The most of a function that is read to find where its instructions begin.
const FUNCTION: u64 = 16384;

/// The most of a function that is read to find what it does below its stack pointer: that is three times the work of decoding it.
const WHOLE: u64 = 6144;

/// Bytes that are looked at where a jump leads out of the others.
const ELSEWHERE: usize = 64;

/// So many bytes, and so many beginnings of instructions, need no heap: what most sites need.
const FEW: usize = 512;
const FEW_STARTS: usize = 64;

/// Bytes of a program around a site.
pub struct Window {
    bytes: SmallVec<[u8; FEW]>,
    start: u64,
    /// Those where the code behind the site leads, if it leads out of them, and their address.
    elsewhere: Option<([u8; ELSEWHERE], u64)>,
}

impl Window {
    /// As many as there are from `start`, or [`BEFORE`] without, to [`AFTER`] behind the site: not those of a
    /// neighbouring page that is missing.
    pub fn read(site: u64, start: Option<u64>) -> Option<Self> {
        let page = site & !(PAGE - 1);
        let low = start.filter(|s| *s <= site && site.abs_diff(*s) <= FUNCTION).unwrap_or(site.saturating_sub(BEFORE));
        let (high, last) = (site.checked_add(AFTER)?, page.checked_add(PAGE)?);
        [low..high, low.max(page)..high, low..high.min(last), low.max(page)..high.min(last)].into_iter().find_map(Self::of)
    }

    /// All of a page, and of a site in it or in the next, and what is ahead of it from `first` on, if that is there and not too far.
    pub fn read_page(page: u64, site: u64, first: u64) -> Option<Self> {
        let behind = if site ^ page < PAGE { SYSCALL.len() as u64 } else { AFTER };
        let low = if page.saturating_sub(first) > FUNCTION { page } else { first.min(page) };
        let end = page.checked_add(PAGE)?.max(site.checked_add(behind)?);
        Self::of(low..end).or_else(|| Self::of(page..end))
    }

    /// All of a function.
    ///
    /// # Errors
    /// The page of it that is not mapped; None if it is too long, or memory is short.
    pub fn read_function(function: &Range<u64>) -> Result<Self, Option<u64>> {
        if function.end.checked_sub(function.start).is_none_or(|length| length > WHOLE) {
            return Err(None);
        }
        Self::of(function.clone()).ok_or_else(|| {
            let pages = core::iter::successors(Some(function.start), |at| (at & !(PAGE - 1)).checked_add(PAGE));
            pages.take_while(|at| *at < function.end).find(|at| guest_access::copy_in(*at, &mut [0]).is_err())
        })
    }

    fn of(range: Range<u64>) -> Option<Self> {
        let len = usize::try_from(range.end.checked_sub(range.start)?).ok()?;
        let mut bytes = if len <= FEW {
            SmallVec::from_buf_and_len([0; FEW], len)
        } else {
            let mut many = Vec::new();
            many.try_reserve_exact(len).ok()?;
            many.resize(len, 0);
            SmallVec::from_vec(many)
        };
        guest_access::copy_in(range.start, &mut bytes).ok()?;
        Some(Self { bytes, start: range.start, elsewhere: None })
    }

    /// Reads on where the code at `behind` leads, if that decides what is read there. Whether there was more.
    pub fn follow(&mut self, behind: u64) -> bool {
        let Some(left) = after::scan(&self.code(), behind, Ask::Flags).left else { return false };
        let mut bytes = [0; ELSEWHERE];
        let is_processes = left.checked_add(ELSEWHERE as u64).is_some_and(|end| end >> 63 == 0);
        let is_there = is_processes && guest_access::copy_in(left, &mut bytes).is_ok();
        if is_there {
            self.elsewhere = Some((bytes, left));
        }
        is_there
    }

    /// Where instructions begin as far as the site, if one begins at `start` and they lead to it.
    pub fn starts(&self, start: u64, site: u64) -> Option<SmallVec<[u64; FEW_STARTS]>> {
        let (mut starts, mut reader, mut at) = (SmallVec::new(), Reader::new(self.alone()), start);
        loop {
            starts.try_reserve(1).ok()?;
            starts.push(at);
            if at >= site {
                return (at == site).then_some(starts);
            }
            at = reader.behind(at)?;
        }
    }

    /// By what a reading of these bytes from `from` on is known, if that is in them.
    pub fn key(&self, from: u64) -> Option<Key> {
        let offset = from.checked_sub(self.start)?;
        (offset < self.bytes.len() as u64).then(|| Key::new(&self.bytes, offset))
    }

    /// The bytes without those from elsewhere, which `key` knows nothing of.
    pub fn alone(&self) -> Code<'_> {
        Code::new(&self.bytes, self.start)
    }

    /// The pages that the bytes are in, and which offsets of each.
    pub fn pages(&self) -> impl Iterator<Item = (u64, Range<u64>)> + use<> {
        let (start, end) = (self.start, self.start.saturating_add(self.bytes.len() as u64));
        let pages = core::iter::successors(Some(start & !(PAGE - 1)), |page| page.checked_add(PAGE)).take_while(move |page| *page < end);
        pages.map(move |page| (page, start.saturating_sub(page)..end.saturating_sub(page).min(PAGE)))
    }

    /// Takes `patch`, which is `delta` further on than when it was written, out of the bytes. Returns its place.
    pub fn forget(&mut self, patch: &Patch, delta: u64) -> Option<Range<u64>> {
        let at = usize::try_from(patch.address().wrapping_add(delta).checked_sub(self.start)?).ok()?;
        let bytes = self.bytes.get_mut(at..at.checked_add(patch.old().len())?)?;
        if bytes != patch.new_bytes() {
            return None;
        }
        bytes.copy_from_slice(patch.old());
        let region = patch.region();
        Some(region.start.wrapping_add(delta)..region.end.wrapping_add(delta))
    }

    pub fn code(&self) -> Code<'_> {
        let code = self.alone();
        self.elsewhere.as_ref().map_or(code, |(bytes, at)| code.and(bytes, *at))
    }
}
