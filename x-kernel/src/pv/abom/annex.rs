//! A page of the kernel's that its processes execute, with stubs that sites call which have no room for more.
//!
//! It is the kernel's own memory, written through its own mapping, and what is remembered of it is only what was written:
//! a kernel that puts it to another use breaks its own processes.

use alloc::vec::Vec;

use abom::annex::{CELL, SLOT, STUBS, Stub};
use arrayvec::ArrayVec;
use xen_abi::errno::Errno;
use xen_abi::xmode::XmodeAnnex;

use super::{NX, PAGE, PRESENT, WRITE, mapped};
use crate::domain::Domain;
use crate::mm::guest_access;
use crate::pv::hypercall::HcCx;

/// What an address must not be below for a displacement to name it.
const REACHED: u64 = 0xffff_ffff_8000_0000;

/// A domain's.
pub struct Annex {
    /// Where processes execute it.
    at: u64,
    /// Where the kernel may write it.
    alias: u64,
    /// What has been put there, each once.
    stubs: Vec<Stub>,
}

/// Uses a page for stubs, from now on and instead of another.
///
/// # Errors
/// `-EINVAL` for flags that are unknown, outside X-mode, or if the two addresses are not one page that may be executed at the first
/// and written at the second, or no displacement names it; `-ENOSYS` if no sites are kept; `-ENOMEM`.
pub fn offer(cx: &mut HcCx<'_>, offer: &XmodeAnnex) -> Result<(), Errno> {
    let &XmodeAnnex { at, alias, flags } = offer;
    if flags != 0 || cx.state.xmode.is_none() || at < REACHED || alias >> 63 == 0 || (at | alias) & (PAGE - 1) != 0 {
        return Err(Errno::EINVAL);
    }
    let frame = mapped(cx.state, at, PRESENT, NX).ok_or(Errno::EINVAL)?;
    if mapped(cx.state, alias, PRESENT | WRITE, 0) != Some(frame) {
        return Err(Errno::EINVAL);
    }
    let mut stubs = Vec::new();
    stubs.try_reserve_exact(STUBS).map_err(|_| Errno::ENOMEM)?;
    let fresh = Annex { at, alias, stubs };
    let replaced = cx.domain.sites.lock().as_mut().ok_or(Errno::ENOSYS)?.annex.replace(fresh);
    // Freed when the lock has been given up.
    drop(replaced);
    Ok(())
}

/// Puts a stub into the domain's annex, if it has one with room, or finds it there. Returns its slot's address.
pub fn place(domain: &Domain, stub: &[u8]) -> Option<u64> {
    let (slot, alias) = domain.sites.lock().as_mut()?.annex.as_mut()?.cell(stub)?;
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

impl Annex {
    /// The stub's cell: where it is executed, and where it is written.
    fn cell(&mut self, stub: &[u8]) -> Option<(u64, u64)> {
        let known = self.stubs.iter().position(|s| **s == *stub);
        let index = known.unwrap_or(self.stubs.len());
        if known.is_none() {
            if index >= STUBS {
                return None;
            }
            // There is room for all that the page has.
            self.stubs.push(Stub::try_from(stub).ok()?);
        }
        let offset = index.checked_mul(CELL)? as u64;
        Some((self.at.checked_add(offset)?, self.alias.checked_add(offset)?))
    }
}
