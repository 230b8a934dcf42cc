//! Writing a patch, when the kernel has made the page ready.

use alloc::vec::Vec;

use abom::steps::{Others, Step};
use abom::{Patch, Refusal};
use xen_abi::errno::Errno;
use xen_abi::xmode::XmodePatch;

use super::plan::{self, Place, Trouble};
use super::{NX, PAGE, PRESENT, USER, WRITE, Written, mapped, refused};
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
    let place = Place { domain: cx.domain, state: cx.state, site, module: wish.module, seen };
    let planned = match plan::writes(&place) {
        Ok(planned) => planned,
        Err(Trouble::Missing(address)) => {
            wish.missing = address;
            cx.state.wishes.last = Some((site, key, seen));
            return Err(Errno::EFAULT);
        }
        Err(Trouble::Errno(errno)) => return Err(errno),
    };
    // It may have been patched since it trapped: for another process.
    let stays = !matches!(planned, Ok(_) | Err(Refusal::Taken | Refusal::NoSyscall));
    if let Some(abom) = cx.domain.sites.lock().as_mut() {
        abom.sites.settle(key, !stays);
    }
    let writes = planned.map_err(|refusal| {
        if stays {
            refused(cx.domain, site, key.bytes(), seen.rax, refusal);
        }
        Errno::EPERM
    })?;
    for patch in &writes {
        // Before the first byte is written: a thread may meet it.
        remember(cx.domain, Written { frame, patch: patch.clone(), writing: true })?;
        let written = write(cx.domain, patch, alias.wrapping_sub(site)).map_err(|()| Errno::EINVAL);
        remember(cx.domain, Written { frame, patch: patch.clone(), writing: false })?;
        written?;
    }
    let Some(how) = writes.last().map(Patch::how) else { return Err(Errno::EINVAL) };
    let pattern = how.pattern;
    if let Some(counter) = cx.domain.abom_counters.patched.get(pattern.index()) {
        counter.bump();
    }
    trace::record(trace::Id::SitePatched, site, pattern.index() as u64, seen.rax);
    Ok(())
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
