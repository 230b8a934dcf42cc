//! Writing a patch, when the kernel has made the page ready.

use alloc::vec::Vec;

use abom::hop::AHEAD;
use abom::steps::{Others, Step, Steps};
use abom::{How, Patch, Refusal, Seen};
use pv_core::sites::Site;
use xen_abi::errno::Errno;
use xen_abi::xmode::{XMODE_PATCH_AHEAD, XMODE_PATCH_MORE, XmodeDrop, XmodePatch};

use super::plan::{self, Place, Trouble, Writes};
use super::ready::ReadyPage;
use super::written::Written;
use super::{NX, PAGE, PRESENT, USER, WRITE, is_writable, mapped, refused};
use crate::arch::x86_64::tlb;
use crate::domain::Domain;
use crate::domain::vcpu::VcpuState;
use crate::mm::guest_access;
use crate::pv::hypercall::HcCx;
use crate::trace;

/// Patches the site that the kernel was told of last. Returns in how many other places of the page something was written.
///
/// # Errors
/// `-EINVAL` for flags that are unknown, or if the two addresses are not one place that the process may execute and not
/// write and the kernel may write; `-EAGAIN` if another site was told of since; `-EFAULT` if `missing` must be mapped
/// first; `-EXDEV` if only the page before may have room; `-EPERM` if it cannot be patched as it is now; `-ENOSPC` for too many
/// patches.
pub fn patch(cx: &mut HcCx<'_>, wish: &mut XmodePatch) -> Result<usize, Errno> {
    let (site, alias) = (wish.site, wish.alias);
    let unknown = !(XMODE_PATCH_AHEAD | XMODE_PATCH_MORE);
    let ahead = if wish.flags & XMODE_PATCH_AHEAD == 0 { 0 } else { PAGE };
    let (Some(at), Some(writable)) = (site.checked_sub(ahead), alias.checked_sub(ahead)) else { return Err(Errno::EINVAL) };
    if wish.flags & unknown != 0 || (site ^ alias) & (PAGE - 1) != 0 || writable >> 63 == 0 || site >> 63 != 0 {
        return Err(Errno::EINVAL);
    }
    let (_, key, seen) = cx.state.wishes.last.take().filter(|(told, ..)| *told == site).ok_or(Errno::EAGAIN)?;
    let frame = mapped(cx.state, at, PRESENT | USER, WRITE | NX).ok_or(Errno::EINVAL)?;
    if !is_writable(cx.state, writable, frame) {
        return Err(Errno::EINVAL);
    }
    let page = at & !(PAGE - 1);
    let done = plan::functions_of(wish.module).and_then(|functions| {
        let place = Place { domain: cx.domain, state: cx.state, site, functions, page, frame, seen };
        let others = carry_out(&place, key, alias.wrapping_sub(site))?;
        if wish.flags & XMODE_PATCH_MORE != 0 {
            let ready = ReadyPage::new(&place, writable, wish.module);
            if let Some(abom) = cx.domain.sites.lock().as_mut() {
                abom.ready.put(ready);
            }
        }
        Ok(others)
    });
    done.map_err(|trouble| {
        let again = match trouble {
            Trouble::Missing(address) => {
                wish.missing = address;
                Errno::EFAULT
            }
            Trouble::Errno(errno) => errno,
        };
        if matches!(again, Errno::EFAULT | Errno::EXDEV) {
            cx.state.wishes.last = Some((site, key, seen));
        }
        again
    })
}

/// Patches a site that has just trapped, if its page is ready. False if the kernel has to be asked.
pub fn at_once(domain: &Domain, state: &VcpuState, (site, key, seen): (u64, Site, Seen)) -> bool {
    // The kernel might take the page away meanwhile, on another CPU.
    if !has_one_vcpu(domain) {
        return false;
    }
    let page = site & !(PAGE - 1);
    let Some(frame) = mapped(state, page, PRESENT | USER, WRITE | NX) else { return false };
    let ready = domain.sites.lock().as_ref().and_then(|abom| abom.ready.of(frame));
    let Some((alias, functions)) = ready.and_then(|ready| ready.at(state, page)) else { return false };
    let place = Place { domain, state, site, functions, page, frame, seen };
    // Refused is settled, too.
    matches!(carry_out(&place, key, alias.wrapping_sub(page)), Ok(_) | Err(Trouble::Errno(Errno::EPERM)))
}

/// Plans, and writes to the place's page, `delta` from where it is executed. Returns in how many other places of the page something
/// was written.
///
/// # Errors
/// [`Trouble`]: what is missing; `-EXDEV`, `-EPERM` and `-ENOSPC` as of [`patch`].
fn carry_out(place: &Place<'_>, key: Site, delta: u64) -> Result<usize, Trouble> {
    let &Place { domain, site, page, frame, seen, .. } = place;
    let mut writes = Writes::new();
    let planned = plan::into(&mut writes, place)?;
    if site ^ page < AHEAD && matches!(planned, Err(refusal) if !refusal.is_final()) {
        return Err(Errno::EXDEV.into());
    }
    // It may have been patched since it trapped: for another process.
    let stays = !matches!(planned, Ok(()) | Err(Refusal::Taken | Refusal::NoSyscall));
    if let Some(abom) = domain.sites.lock().as_mut() {
        abom.sites.settle(key, !stays);
    }
    planned.map_err(|refusal| {
        if stays {
            refused(domain, site, key.bytes(), seen.rax, refusal);
        }
        Errno::EPERM
    })?;
    let (others, how) = (writes.len().saturating_sub(1), writes.last().map(Patch::how));
    let alone = has_one_vcpu(domain);
    for patch in writes {
        let address = patch.address();
        let steps = patch.apply(if alone { Others::None } else { Others::Any });
        // Before the first byte is written: a thread may meet it.
        let kept = remember(domain, Written::new(frame, patch))?;
        let written = write(domain, &steps, delta);
        if alone {
            // This CPU may have fetched what was there; INVLPG serialises (SDM vol. 3, 8.3), as whatever brings the vCPU to another
            // does.
            tlb::flush_page(address.wrapping_add(delta));
        }
        if let Some(abom) = domain.sites.lock().as_mut() {
            abom.patches.finish(kept);
        }
        written.map_err(|()| Errno::EINVAL)?;
    }
    let Some(How { pattern, .. }) = how else { return Err(Errno::EINVAL.into()) };
    if let Some(counter) = domain.abom_counters.patched.get(pattern.index()) {
        counter.bump();
    }
    trace::record(trace::Id::SitePatched, site, pattern.index() as u64, seen.rax);
    Ok(others)
}

/// Patches no more of the page that the kernel has at `alias`, but when it asks for it.
///
/// # Errors
/// `-EINVAL` for flags that are unknown.
pub fn drop_page(domain: &Domain, dropped: &XmodeDrop) -> Result<(), Errno> {
    if dropped.flags != 0 {
        return Err(Errno::EINVAL);
    }
    if let Some(abom) = domain.sites.lock().as_mut() {
        abom.ready.drop(dropped.alias);
    }
    Ok(())
}

/// Whether nobody executes the domain's programs meanwhile.
fn has_one_vcpu(domain: &Domain) -> bool {
    domain.vcpus().len() == 1
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

/// Writes a patch, `delta` from where it is executed.
fn write(domain: &Domain, steps: &Steps, delta: u64) -> Result<(), ()> {
    for step in steps {
        match step {
            Step::Store { address, bytes } => guest_access::copy_out(address.wrapping_add(delta), bytes).map_err(drop)?,
            // Whoever is interrupted has serialised when it goes on.
            Step::Serialise => tlb::flush_mask(domain.dirty_mask(), tlb::Scope::NonGlobal),
        }
    }
    Ok(())
}
