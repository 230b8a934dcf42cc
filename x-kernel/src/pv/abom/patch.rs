//! Writing a patch, when the kernel has made the page ready.

use alloc::vec::Vec;
use core::ops::Range;

use abom::steps::{Others, Step};
use abom::{Facts, Patch, Plan, Refusal, Seen, plan, unwind};
use arrayvec::ArrayVec;
use pv_core::frame::Mfn;
use xen_abi::errno::Errno;
use xen_abi::xmode::XmodePatch;

use super::window::{FUNCTION, Window};
use super::{NEAR, NX, PAGE, PRESENT, USER, WAYS, WRITE, Written, mapped, moved, near, refused};
use crate::arch::x86_64::tlb;
use crate::domain::Domain;
use crate::mm::guest_access;
use crate::pv::hypercall::HcCx;
use crate::trace;

/// The most patches of a domain, and for how many there is room at first.
const MOST_PATCHES: usize = 4096;
/// See [`MOST_PATCHES`].
const FEWEST_PATCHES: usize = 32;

/// Patches the site that the kernel was told of last.
///
/// # Errors
/// `-EINVAL` for flags that are unknown, or if the two addresses are not one place that the process may execute and not
/// write and the kernel may write; `-EAGAIN` if another site was told of since; `-EFAULT` if `missing` must be mapped
/// first; `-EPERM` if it cannot be patched as it is now; `-ENOSPC` for too many patches.
pub fn patch(cx: &mut HcCx<'_>, wish: &mut XmodePatch) -> Result<(), Errno> {
    let (site, alias) = (wish.site, wish.alias);
    if wish.flags != 0 || (site ^ alias) & (PAGE - 1) != 0 || alias >> 63 == 0 || site >> 63 != 0 {
        return Err(Errno::EINVAL);
    }
    let (_, key, seen) = cx.state.wishes.last.take().filter(|(told, ..)| *told == site).ok_or(Errno::EAGAIN)?;
    let frame = mapped(cx.state, site, PRESENT | USER, WRITE | NX).ok_or(Errno::EINVAL)?;
    if mapped(cx.state, alias, PRESENT | WRITE, 0) != Some(frame) {
        return Err(Errno::EINVAL);
    }
    let start = function(wish.module, site).map_err(|missing| {
        wish.missing = missing;
        cx.state.wishes.last = Some((site, key, seen));
        Errno::EFAULT
    })?;
    let planned = planned(cx.domain, frame, site, start, seen)?;
    // It may have been patched since it trapped: for another process.
    let stays = !matches!(planned, Ok(_) | Err(Refusal::Taken | Refusal::NoSyscall));
    if let Some(abom) = cx.domain.sites.lock().as_mut() {
        abom.sites.settle(key, !stays);
    }
    let patch = planned.map_err(|refusal| {
        if stays {
            refused(cx.domain, site, key.bytes(), seen.rax, refusal);
        }
        Errno::EPERM
    })?;
    // Before the first byte is written: a thread may meet it.
    remember(cx.domain, Written { frame, patch: patch.clone() })?;
    write(cx.domain, &patch, alias.wrapping_sub(site)).map_err(|()| Errno::EINVAL)?;
    let pattern = patch.how().pattern;
    if let Some(counter) = cx.domain.abom_counters.patched.get(pattern.index()) {
        counter.bump();
    }
    trace::record(trace::Id::SitePatched, site, pattern.index() as u64, seen.rax);
    Ok(())
}

/// The patch for the site, as its bytes are now, in a function that begins at `start`.
///
/// # Errors
/// `-EINVAL` if the bytes cannot be read, `-ENOSPC` for too many patches around.
fn planned(domain: &Domain, frame: Mfn, site: u64, start: Option<u64>, seen: Seen) -> Result<Result<Patch, Refusal>, Errno> {
    let mut window = Window::read(site, start).ok_or(Errno::EINVAL)?;
    let mut taken: ArrayVec<Range<u64>, NEAR> = ArrayVec::new();
    for written in near(domain, frame, site, FUNCTION)? {
        if let Some(region) = window.forget(&written.patch, moved(&written.patch, site)) {
            taken.try_push(region).map_err(|_| Errno::ENOSPC)?;
        }
    }
    let starts = start.and_then(|start| window.starts(start, site));
    let facts = Facts { starts: starts.as_deref(), ..Facts::trapped(seen, &taken) };
    Ok(match plan(&window.code(), site, &WAYS, &facts) {
        Ok(Plan::Call(patch)) if is_in_page(&patch, site) => Ok(patch),
        Ok(_) => Err(Refusal::NoRoom),
        Err(refusal) => Err(refusal),
    })
}

/// Keeps the patch for [`invalid_opcode`], instead of one that was at its place before.
fn remember(domain: &Domain, new: Written) -> Result<(), Errno> {
    make_room(domain)?;
    let mut sites = domain.sites.lock();
    let written = &mut sites.as_mut().ok_or(Errno::EINVAL)?.written;
    let place = new.patch.address() & (PAGE - 1);
    if let Some(old) = written.iter_mut().find(|w| w.frame == new.frame && w.patch.address() & (PAGE - 1) == place) {
        *old = new;
        return Ok(());
    }
    if written.len() >= written.capacity() {
        return Err(Errno::ENOSPC);
    }
    written.push(new);
    Ok(())
}

/// Sees that one more patch can be kept, if there are not too many. Nothing is allocated or freed under the lock.
fn make_room(domain: &Domain) -> Result<(), Errno> {
    let full = domain.sites.lock().as_ref().filter(|a| a.written.len() == a.written.capacity()).map(|a| a.written.len());
    let Some(len) = full else { return Ok(()) };
    let more = len.saturating_mul(2).clamp(FEWEST_PATCHES, MOST_PATCHES);
    let mut larger = Vec::new();
    larger.try_reserve_exact(more).map_err(|_| Errno::ENOMEM)?;
    if let Some(abom) = domain.sites.lock().as_mut()
        && abom.written.len() <= larger.capacity()
    {
        larger.append(&mut abom.written);
        core::mem::swap(&mut larger, &mut abom.written);
    }
    Ok(())
}

/// Writes the patch, `delta` from where it is executed.
fn write(domain: &Domain, patch: &Patch, delta: u64) -> Result<(), ()> {
    for step in patch.apply(Others::Any) {
        match step {
            Step::Store { address, bytes } => guest_access::copy_out(address.wrapping_add(delta), &bytes).map_err(drop)?,
            // Whoever is interrupted has serialised when it goes on.
            Step::Serialise => tlb::flush_mask(domain.dirty_mask(), tlb::Scope::NonGlobal),
        }
    }
    Ok(())
}

/// Where the function begins that the site is in, by what its module says of itself.
///
/// # Errors
/// The address of what is not mapped.
fn function(module: u64, site: u64) -> Result<Option<u64>, u64> {
    let mut missing = None;
    let mut read = |address: u64, buf: &mut [u8]| {
        let is_processes = address.checked_add(buf.len() as u64).is_some_and(|end| end >> 63 == 0);
        let done = is_processes && guest_access::copy_in(address, buf).is_ok();
        if is_processes && !done {
            missing = Some(address);
        }
        done
    };
    let found = if module == 0 { None } else { unwind::function_start(&mut read, module, site) };
    missing.map_or(Ok(found), Err)
}

/// Whether all of the patch is in the page of its site.
pub fn is_in_page(patch: &Patch, site: u64) -> bool {
    let last = patch.address().saturating_add(patch.old().len().saturating_sub(1) as u64);
    [patch.address(), last].iter().all(|a| a ^ site < PAGE)
}
