//! A page of the kernel's that its processes execute, with stubs that sites call which have no room for more.
//!
//! It is the kernel's own memory, written through its own mapping, and what is remembered of it is only what was written:
//! a kernel that puts it to another use breaks its own processes.

use abom::annex::{CELL, SLOT, Stubs};
use abom::table::displacement;
use arrayvec::ArrayVec;
use xen_abi::errno::Errno;
use xen_abi::xmode::XmodeAnnex;

use super::{NX, PAGE, PRESENT, is_writable, mapped};
use crate::domain::Domain;
use crate::mm::guest_access;
use crate::pv::hypercall::HcCx;

/// A domain's.
pub struct Annex {
    /// Where processes execute it.
    at: u64,
    /// Where the kernel may write it.
    alias: u64,
    stubs: Stubs,
}

/// Uses a page for stubs, from now on and instead of another.
///
/// # Errors
/// `-EINVAL` for flags that are unknown, outside X-mode, or if the two addresses are not one page that may be executed at the first
/// and written at the second, or no displacement names it; `-ENOSYS` if no sites are kept; `-ENOMEM`.
pub fn offer(cx: &mut HcCx<'_>, offer: &XmodeAnnex) -> Result<(), Errno> {
    let &XmodeAnnex { at, alias, flags } = offer;
    let is_reached = at >> 63 != 0 && displacement(at).is_some();
    if flags != 0 || cx.state.xmode.is_none() || !is_reached || alias >> 63 == 0 || (at | alias) & (PAGE - 1) != 0 {
        return Err(Errno::EINVAL);
    }
    let frame = mapped(cx.state, at, PRESENT, NX).ok_or(Errno::EINVAL)?;
    if !is_writable(cx.state, alias, frame) {
        return Err(Errno::EINVAL);
    }
    let fresh = Annex { at, alias, stubs: Stubs::new().ok_or(Errno::ENOMEM)? };
    let replaced = cx.domain.sites.lock().as_mut().ok_or(Errno::ENOSYS)?.annex.replace(fresh);
    // Freed when the lock has been given up.
    drop(replaced);
    Ok(())
}

/// Puts a stub into the domain's annex, if it has one with room, or finds it there. Returns its slot's address.
pub fn place(domain: &Domain, stub: &[u8]) -> Option<u64> {
    let (slot, alias) = {
        let mut sites = domain.sites.lock();
        let Annex { at, alias, stubs } = sites.as_mut()?.annex.as_mut()?;
        let cell = stubs.cell(stub)?;
        (at.checked_add(cell)?, alias.checked_add(cell)?)
    };
    let mut cell: ArrayVec<u8, CELL> = ArrayVec::new();
    cell.try_extend_from_slice(&slot.checked_add(SLOT as u64)?.to_le_bytes()).ok()?;
    cell.try_extend_from_slice(stub).ok()?;
    // What was found is written again: another CPU may not have come so far.
    if guest_access::copy_out(alias, &cell).is_err() {
        let lost = domain.sites.lock().as_mut().and_then(|abom| abom.annex.take());
        drop(lost);
        return None;
    }
    Some(slot)
}
