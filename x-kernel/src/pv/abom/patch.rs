//! Writing a patch, when the kernel has made the page ready.

use alloc::vec::Vec;

use abom::steps::{Others, Step};
use abom::{How, Patch, Refusal};
use xen_abi::errno::Errno;
use xen_abi::xmode::{XMODE_PATCH_AHEAD, XmodePatch};

use super::plan::{self, Place, Trouble, Writes};
use super::written::Written;
use super::{NX, PAGE, PRESENT, USER, WRITE, mapped, refused};
use crate::arch::x86_64::tlb;
use crate::domain::Domain;
use crate::mm::guest_access;
use crate::pv::hypercall::HcCx;
use crate::trace;

/// A site this near to its page's beginning may be reached from the page before.
const AHEAD: u64 = 32;

/// Patches the site that the kernel was told of last. Returns in how many other places of the page something was written.
///
/// # Errors
/// `-EINVAL` for flags that are unknown, or if the two addresses are not one place that the process may execute and not
/// write and the kernel may write; `-EAGAIN` if another site was told of since; `-EFAULT` if `missing` must be mapped
/// first; `-EXDEV` if only the page before may have room; `-EPERM` if it cannot be patched as it is now; `-ENOSPC` for too many
/// patches.
pub fn patch(cx: &mut HcCx<'_>, wish: &mut XmodePatch) -> Result<usize, Errno> {
    let (site, alias) = (wish.site, wish.alias);
    let ahead = if wish.flags & XMODE_PATCH_AHEAD == 0 { 0 } else { PAGE };
    let (Some(at), Some(writable)) = (site.checked_sub(ahead), alias.checked_sub(ahead)) else { return Err(Errno::EINVAL) };
    if wish.flags & !XMODE_PATCH_AHEAD != 0 || (site ^ alias) & (PAGE - 1) != 0 || writable >> 63 == 0 || site >> 63 != 0 {
        return Err(Errno::EINVAL);
    }
    let (_, key, seen) = cx.state.wishes.last.take().filter(|(told, ..)| *told == site).ok_or(Errno::EAGAIN)?;
    let frame = mapped(cx.state, at, PRESENT | USER, WRITE | NX).ok_or(Errno::EINVAL)?;
    if mapped(cx.state, writable, PRESENT | WRITE, 0) != Some(frame) {
        return Err(Errno::EINVAL);
    }
    let place = Place { domain: cx.domain, state: cx.state, site, module: wish.module, page: at & !(PAGE - 1), seen };
    let mut writes = Writes::new();
    let planned = match plan::into(&mut writes, &place) {
        Ok(planned) => planned,
        Err(Trouble::Missing(address)) => {
            wish.missing = address;
            cx.state.wishes.last = Some((site, key, seen));
            return Err(Errno::EFAULT);
        }
        Err(Trouble::Errno(errno)) => return Err(errno),
    };
    if ahead == 0 && site & (PAGE - 1) < AHEAD && matches!(planned, Err(refusal) if !refusal.is_final()) {
        cx.state.wishes.last = Some((site, key, seen));
        return Err(Errno::EXDEV);
    }
    // It may have been patched since it trapped: for another process.
    let stays = !matches!(planned, Ok(_) | Err(Refusal::Taken | Refusal::NoSyscall));
    if let Some(abom) = cx.domain.sites.lock().as_mut() {
        abom.sites.settle(key, !stays);
    }
    planned.map_err(|refusal| {
        if stays {
            refused(cx.domain, site, key.bytes(), seen.rax, refusal);
        }
        Errno::EPERM
    })?;
    let (others, how) = (writes.len().saturating_sub(1), writes.last().map(Patch::how));
    for patch in writes {
        // Before the first byte is written: a thread may meet it.
        let kept = remember(cx.domain, Written::new(frame, patch.clone()))?;
        let written = write(cx.domain, &patch, alias.wrapping_sub(site));
        if let Some(abom) = cx.domain.sites.lock().as_mut() {
            abom.patches.finish(kept);
        }
        written.map_err(|()| Errno::EINVAL)?;
    }
    let Some(How { pattern, .. }) = how else { return Err(Errno::EINVAL) };
    if let Some(counter) = cx.domain.abom_counters.patched.get(pattern.index()) {
        counter.bump();
    }
    trace::record(trace::Id::SitePatched, site, pattern.index() as u64, seen.rax);
    Ok(others)
}

/// Keeps the patch for [`super::invalid_opcode`], instead of one that was at its place before. Nothing is allocated or freed
/// under the lock. Returns what the patches know it by.
fn remember(domain: &Domain, new: Written) -> Result<u16, Errno> {
    let wanted = domain.sites.lock().as_ref().and_then(|abom| abom.patches.wanted_room());
    if let Some(room) = wanted {
        let mut larger = Vec::new();
        larger.try_reserve_exact(room).map_err(|_| Errno::ENOMEM)?;
        if let Some(abom) = domain.sites.lock().as_mut() {
            abom.patches.move_to(&mut larger);
        }
    }
    domain.sites.lock().as_mut().ok_or(Errno::EINVAL)?.patches.keep(new).ok_or(Errno::ENOSPC)
}

/// Writes the patch, `delta` from where it is executed.
fn write(domain: &Domain, patch: &Patch, delta: u64) -> Result<(), ()> {
    let alone = domain.vcpus().len() == 1;
    for step in patch.apply(if alone { Others::None } else { Others::Any }) {
        match step {
            Step::Store { address, bytes } => guest_access::copy_out(address.wrapping_add(delta), &bytes).map_err(drop)?,
            // Whoever is interrupted has serialised when it goes on.
            Step::Serialise => tlb::flush_mask(domain.dirty_mask(), tlb::Scope::NonGlobal),
        }
    }
    if alone {
        // This CPU may have fetched what was there; INVLPG serialises (SDM vol. 3, 8.3), as whatever brings the vCPU to another does.
        tlb::flush_page(patch.address().wrapping_add(delta));
    }
    Ok(())
}
