//! From a site that is wanted to what is to be written for it.
//!
//! A call at the site comes first. Where there can be none, a gap of the code takes one, or a stub in the kernel's annex does, or
//! several gaps take a call or a way to the jump entry: gaps of functions that are known as a whole, or ahead of one, as the
//! program's unwind table has them; without that table, those behind the site.

use alloc::vec::Vec;
use core::ops::Range;

use abom::gaps::{self, Extent, Gaps};
use abom::hop::{MOST_GAPS, hop};
use abom::unwind::{Functions, from_beginning};
use abom::{Facts, Patch, RedZone, Refusal, Seen, plan, redzone};
use arrayvec::ArrayVec;
use pv_core::frame::Mfn;
use xen_abi::errno::Errno;

use super::annex;
use super::reading::Reading;
use super::window::Window;
use super::{PAGE, PRESENT, USER, WAYS, mapped, moved};
use crate::domain::Domain;
use crate::domain::vcpu::VcpuState;
use crate::mm::guest_access;

/// What is written, in this order.
pub type Writes = ArrayVec<Patch, { MOST_GAPS + 1 }>;
/// The most patches of a page.
const NEAR: usize = 128;
/// What is known of other patches.
#[derive(Default)]
struct Taken {
    /// What they have taken.
    regions: ArrayVec<Range<u64>, NEAR>,
    /// A jump in the page that other sites can call.
    tail: Option<u64>,
}

/// Why there is no answer.
pub enum Trouble {
    /// An address is needed and not mapped.
    Missing(u64),
    /// What the guest is told.
    Errno(Errno),
}

impl From<Errno> for Trouble {
    fn from(errno: Errno) -> Self {
        Self::Errno(errno)
    }
}

/// A site, and whose it is.
pub struct Place<'a> {
    pub domain: &'a Domain,
    pub state: &'a VcpuState,
    pub site: u64,
    /// Those of its module, if it has a table of them.
    pub functions: Option<Functions>,
    /// The page that may be written: its own, or the one before.
    pub page: u64,
    pub frame: Mfn,
    pub seen: Seen,
}

/// Plans for the site, from its bytes as they are now: what is to be written goes to `writes`.
///
/// # Errors
/// [`Trouble`]: what is missing; `-EINVAL` if the bytes cannot be read, `-ENOSPC` for too many patches around.
pub fn into(writes: &mut Writes, place: &Place<'_>) -> Result<Result<(), Refusal>, Trouble> {
    let &Place { site, functions, seen, .. } = place;
    let own = function_at(functions, site)?;
    let start = own.map(|(start, _)| start);
    let mut window = Window::read(site, start).ok_or(Errno::EINVAL)?;
    let mut taken = Taken::default();
    forget(place, &mut window, &mut taken)?;
    let starts = start.and_then(|start| window.starts(start, site));
    let facts = Facts { starts: starts.as_deref(), page: Some(place.page), ..Facts::trapped(seen, &taken.regions) };
    let mut planned = plan::call(&window.code(), site, WAYS.table, &facts);
    if matches!(planned, Err(Refusal::AfterUnknown)) && window.follow(site.wrapping_add(2)) {
        planned = plan::call(&window.code(), site, WAYS.table, &facts);
    }
    let mut red_zone = RedZone::Unknown;
    if matches!(planned, Err(Refusal::RedZoneLive)) {
        red_zone = below_stack(place, own)?;
        if red_zone == RedZone::Unused {
            planned = plan::call(&window.code(), site, WAYS.table, &Facts { red_zone, ..facts });
        }
    }
    match planned {
        Ok(patch) => {
            writes.push(patch);
            return Ok(Ok(()));
        }
        Err(refusal) if refusal.is_final() => return Ok(Err(refusal)),
        _ => {}
    }
    if red_zone == RedZone::Unknown {
        red_zone = below_stack(place, own)?;
    }
    beside(writes, place, own, red_zone)
}

/// What the function `own` does below its stack pointer, if all of it can be read, and it is no part of another.
///
/// # Errors
/// The address of what is not mapped.
fn below_stack(place: &Place<'_>, own: Option<Extent>) -> Result<RedZone, Trouble> {
    let Some((start, Some(next))) = own else { return Ok(RedZone::Unknown) };
    let function = start..next;
    let mut window = match Window::read_function(&function) {
        Ok(window) => window,
        Err(missing) => return missing.map_or(Ok(RedZone::Unknown), |page| Err(Trouble::Missing(page))),
    };
    forget(place, &mut window, &mut Taken::default())?;
    redzone::of_whole(&window.alone(), &function, |at| Ok(function_at(place.functions, at)?.is_some_and(|(start, _)| start == at)))
}

/// The same by gaps of the page; the site is in the function `own`, if that is known.
fn beside(writes: &mut Writes, place: &Place<'_>, own: Option<Extent>, red_zone: RedZone) -> Result<Result<(), Refusal>, Trouble> {
    let &Place { site, page, functions, seen, .. } = place;
    let first = function_at(functions, page)?.or(own).map_or(page, |(start, _)| start);
    let Some(mut window) = Window::read_page(page, site, first) else { return Ok(Err(Refusal::NoRoom)) };
    let mut taken = Taken::default();
    forget(place, &mut window, &mut taken)?;
    let behind = site.wrapping_add(2);
    window.follow(behind);
    // What is between functions may be no code: then from the site's own on.
    let known = own.and_then(|own| {
        let (starts, gaps) = [first, own.0].into_iter().find_map(|from| read(place, &window, from, own.0))?;
        Some((own, starts, gaps))
    });
    let code = window.code();
    let (starts, gaps) = match known {
        Some((own, starts, found)) => {
            let gaps = gaps::around(&starts, found, own, |at| function_at(functions, at))?;
            (Some(starts), gaps)
        }
        None => (None, gaps::behind(&code, behind)),
    };
    // Of the site's own function: what is ahead of it may be no code.
    let own = starts.as_deref().zip(own).and_then(|(starts, (start, _))| from_beginning(starts, start));
    let facts = Facts { starts: own, red_zone, tail: taken.tail, page: Some(page), ..Facts::trapped(seen, &taken.regions) };
    Ok(hop(&code, site, &WAYS, &facts, &gaps, &mut |stub| annex::place(place.domain, stub))
        .map(|hop| writes.extend(hop.gaps.into_iter().chain([hop.site]))))
}

/// Where instructions begin in the window, if one does at `from` and they lead to the function that begins at `start`, and to the
/// site; and the gaps of the code.
fn read(place: &Place<'_>, window: &Window, from: u64, start: u64) -> Option<(Vec<u64>, Gaps)> {
    let key = window.key(from)?;
    let kept = place.domain.sites.lock().as_mut().and_then(|abom| abom.readings.take(&key));
    let code = window.alone();
    let reading = kept.or_else(|| Reading::new(key, &code))?;
    let starts = reading.starts(code.start(), place.site).filter(|starts| from_beginning(starts, start).is_some());
    let found = starts.map(|starts| (starts, reading.gaps(code.start())));
    // What it replaces is freed when the lock has been given up.
    let replaced = place.domain.sites.lock().as_mut().and_then(|abom| abom.readings.put(reading));
    drop(replaced);
    found
}

/// Takes patches out of the window's bytes, and tells of those of the page and the site's what they have `taken`.
fn forget(place: &Place<'_>, window: &mut Window, taken: &mut Taken) -> Result<(), Errno> {
    for (page, within) in window.pages() {
        let own = page == place.page;
        let frame = if own { Some(place.frame) } else { mapped(place.state, page, PRESENT | USER, 0) };
        let Some(frame) = frame else { continue };
        let sites = place.domain.sites.lock();
        for written in sites.iter().flat_map(|abom| abom.patches.of(frame, within.clone())) {
            let delta = moved(&written.patch, page);
            if let Some(region) = window.forget(&written.patch, delta).filter(|_| own || page == place.site & !(PAGE - 1)) {
                taken.regions.try_push(region).map_err(|_| Errno::ENOSPC)?;
                let tail = written.patch.tail(&WAYS.table).filter(|_| own);
                taken.tail = taken.tail.or(tail.map(|at| at.wrapping_add(delta)));
            }
        }
    }
    Ok(())
}

/// The functions of the module that begins at `module`, if it has a table of them.
///
/// # Errors
/// The address of what is not mapped.
pub fn functions_of(module: u64) -> Result<Option<Functions>, Trouble> {
    if module == 0 { Ok(None) } else { believe(|memory| Functions::of(memory, module)) }
}

/// The function that `address` is in, by what its module says of itself: where it begins, and where the next one does.
///
/// # Errors
/// The address of what is not mapped.
fn function_at(functions: Option<Functions>, address: u64) -> Result<Option<Extent>, Trouble> {
    functions.map_or(Ok(None), |functions| believe(|memory| functions.around(memory, address)))
}

/// What `ask` finds in the process's memory.
///
/// # Errors
/// The address of what is not mapped.
fn believe<T>(ask: impl FnOnce(&mut dyn FnMut(u64, &mut [u8]) -> bool) -> Option<T>) -> Result<Option<T>, Trouble> {
    let mut missing = None;
    let found = ask(&mut |at, buf| {
        let Some(end) = at.checked_add(buf.len() as u64).filter(|end| end >> 63 == 0) else { return false };
        let done = match <&mut [u8; 8]>::try_from(&mut *buf) {
            Ok(word) => guest_access::read_word(at).map(|read| *word = read.to_le_bytes()).is_ok(),
            Err(_) => guest_access::copy_in(at, buf).is_ok(),
        };
        if !done {
            // Of the page that it ends in, if it begins in another.
            let begins = guest_access::copy_in(at, &mut [0]).is_ok();
            missing = Some(if begins { end.saturating_sub(1) } else { at });
        }
        done
    });
    missing.map_or(Ok(found), |at| Err(Trouble::Missing(at)))
}
