//! From a site that is wanted to what is to be written for it.
//!
//! A call at the site comes first. Where there is no room for one, a gap of the code takes it: of the site's own function,
//! or between two functions, as the program's unwind table has them.

use core::ops::Range;

use abom::hop::{Gaps, add_gaps, hop};
use abom::{Facts, Patch, Plan, Refusal, Seen, plan, unwind};
use arrayvec::ArrayVec;
use pv_core::frame::Mfn;
use xen_abi::errno::Errno;

use super::window::{FUNCTION, Window};
use super::{NEAR, PAGE, WAYS, moved, near};
use crate::domain::Domain;
use crate::mm::guest_access;

/// What is written, in this order.
pub type Writes = ArrayVec<Patch, 3>;
/// What other patches have taken.
type Taken = ArrayVec<Range<u64>, NEAR>;

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

/// Plans for the site, from its bytes as they are now.
///
/// # Errors
/// [`Trouble`]: what is missing; `-EINVAL` if the bytes cannot be read, `-ENOSPC` for too many patches around.
pub fn writes(domain: &Domain, frame: Mfn, site: u64, module: u64, seen: Seen) -> Result<Result<Writes, Refusal>, Trouble> {
    let function = function(module, site)?;
    let start = function.map(|(start, _)| start);
    let mut window = Window::read(site, start).ok_or(Errno::EINVAL)?;
    let taken = forget(domain, frame, site, &mut window)?;
    let starts = start.and_then(|start| window.starts(start, site));
    let facts = Facts { starts: starts.as_deref(), ..Facts::trapped(seen, &taken) };
    match plan(&window.code(), site, &WAYS, &facts) {
        Ok(Plan::Call(patch)) if is_in_page(&patch, site) => Ok(Ok(Writes::from_iter([patch]))),
        Ok(_) | Err(Refusal::NoRoom) => match function {
            Some(own) => beside(domain, frame, site, module, own, seen),
            None => Ok(Err(Refusal::NoRoom)),
        },
        Err(refusal) => Ok(Err(refusal)),
    }
}

/// The same by a gap, for a site in the function `own`: from where it begins to where the next one does.
fn beside(
    domain: &Domain,
    frame: Mfn,
    site: u64,
    module: u64,
    own: (u64, Option<u64>),
    seen: Seen,
) -> Result<Result<Writes, Refusal>, Trouble> {
    const NONE: Result<Result<Writes, Refusal>, Trouble> = Ok(Err(Refusal::NoRoom));
    let page = site & !(PAGE - 1);
    let first = function(module, page)?.map_or(own.0, |(start, _)| start);
    let Some(mut window) = Window::read_page(site, first) else { return NONE };
    let taken = forget(domain, frame, site, &mut window)?;
    let Some(starts) = window.starts(first, site) else { return NONE };
    let index = |at: u64| starts.partition_point(|&s| s < at);
    let mine = index(own.0)..own.1.map_or(starts.len(), index);
    if starts.get(mine.start) != Some(&own.0) {
        return NONE;
    }
    let code = window.code();
    let (mut gaps, mut others) = (Gaps::new(), Gaps::new());
    add_gaps(&mut gaps, &code, starts.get(mine).unwrap_or(&[]));
    gaps.retain(|g| own.1.is_none_or(|next| g.end <= next));
    add_gaps(&mut others, &code, &starts);
    for gap in others {
        // What lies between two functions has a function's beginning behind it.
        let known = gaps.contains(&gap);
        if !known && function(module, gap.end)?.is_some_and(|(start, _)| start == gap.end) && gaps.try_push(gap).is_err() {
            break;
        }
    }
    gaps.retain(|g| g.start ^ page < PAGE && g.end.wrapping_sub(1) ^ page < PAGE);
    let facts = Facts { starts: Some(&starts), ..Facts::trapped(seen, &taken) };
    Ok(hop(&code, site, &WAYS, &facts, &gaps).and_then(|hop| {
        let writes: Writes = hop.gaps.into_iter().chain([hop.site]).collect();
        if writes.iter().all(|patch| is_in_page(patch, site)) { Ok(writes) } else { Err(Refusal::NoRoom) }
    }))
}

/// Takes the patches around the site out of the window's bytes. Returns what they have taken.
fn forget(domain: &Domain, frame: Mfn, site: u64, window: &mut Window) -> Result<Taken, Errno> {
    let mut taken = Taken::new();
    for written in near(domain, frame, site, FUNCTION)? {
        if let Some(region) = window.forget(&written.patch, moved(&written.patch, site)) {
            taken.try_push(region).map_err(|_| Errno::ENOSPC)?;
        }
    }
    Ok(taken)
}

/// The function that `address` is in, by what its module says of itself: where it begins, and where the next one does.
///
/// # Errors
/// The address of what is not mapped.
fn function(module: u64, address: u64) -> Result<Option<(u64, Option<u64>)>, Trouble> {
    let mut missing = None;
    let mut read = |at: u64, buf: &mut [u8]| {
        let is_processes = at.checked_add(buf.len() as u64).is_some_and(|end| end >> 63 == 0);
        let done = is_processes && guest_access::copy_in(at, buf).is_ok();
        if is_processes && !done {
            missing = Some(at);
        }
        done
    };
    let found = if module == 0 { None } else { unwind::function(&mut read, module, address) };
    missing.map_or(Ok(found), |at| Err(Trouble::Missing(at)))
}

/// Whether all of the patch is in the page of its site.
pub fn is_in_page(patch: &Patch, site: u64) -> bool {
    let last = patch.address().saturating_add(patch.old().len().saturating_sub(1) as u64);
    [patch.address(), last].iter().all(|a| a ^ site < PAGE)
}
