//! A domain's frames: giving it some, taking them back.

use alloc::sync::Arc;
use core::ops::Range;
use core::sync::atomic::{AtomicU64, Ordering};

use pv_core::bootline::Flush;
use pv_core::frame::{self, Mfn};
use xen_abi::errno::Errno;

use super::Domain;
use crate::cmdline;
use crate::mm::machine::{flush_domain, machine};
use crate::mm::{frame_alloc, m2p};

/// Where in the machine's memory all frames lie that a domain has ever had.
pub struct Span {
    first: AtomicU64,
    end: AtomicU64,
}

impl Span {
    /// Nowhere.
    pub const fn new() -> Self {
        Self { first: AtomicU64::new(u64::MAX), end: AtomicU64::new(0) }
    }

    fn add(&self, mfn: Mfn, frames: u64) {
        self.first.fetch_min(mfn.raw(), Ordering::Relaxed);
        self.end.fetch_max(mfn.raw().saturating_add(frames), Ordering::Relaxed);
    }

    /// From the first to behind the last.
    pub fn range(&self) -> Range<u64> {
        self.first.load(Ordering::Relaxed)..self.end.load(Ordering::Relaxed)
    }
}

/// Accounts for `n` more pages, or refuses.
fn charge(domain: &Domain, n: u64) -> Result<(), Errno> {
    let max = domain.max_pages.load(Ordering::Relaxed);
    domain
        .pages
        .fetch_update(Ordering::AcqRel, Ordering::Acquire, |now| now.checked_add(n).filter(|&sum| sum <= max))
        .map(|_| ())
        .map_err(|_| Errno::ENOMEM)
}

/// Makes `2^order` frames from `mfn`, which nobody owns, the domain's. They have been accounted for.
fn enlist(domain: &Domain, mfn: Mfn, order: u32) {
    domain.span.add(mfn, 1 << order);
    for k in 0..1u64 << order {
        if let Some(m) = mfn.checked_add(k) {
            frame::assign(machine(), m, domain.id);
        }
    }
}

/// Allocates `2^order` zeroed frames for the domain and returns the first.
///
/// # Errors
/// `-ENOMEM` over its limit or when the machine has none.
pub fn take_more(domain: &Domain, order: u32) -> Result<Mfn, Errno> {
    let n = 1u64 << order;
    charge(domain, n)?;
    let Some(mfn) = frame_alloc::alloc_zeroed(order) else {
        domain.pages.fetch_sub(n, Ordering::AcqRel);
        return Err(Errno::ENOMEM);
    };
    enlist(domain, mfn, order);
    Ok(mfn)
}

/// Makes an extent that the caller has allocated the domain's.
///
/// # Errors
/// `-ENOMEM` over its limit; the extent is freed then.
pub fn adopt(domain: &Domain, mfn: Mfn, order: u32) -> Result<(), Errno> {
    if let Err(errno) = charge(domain, 1 << order) {
        frame_alloc::free(mfn, order);
        return Err(errno);
    }
    enlist(domain, mfn, order);
    Ok(())
}

/// Keeps the first `keep` frames of an extent for the domain and frees the others.
pub fn keep_part(domain: &Domain, mfn: Mfn, keep: u64, order: u32) {
    for k in 0..1u64 << order {
        let Some(m) = mfn.checked_add(k) else { return };
        if k >= keep {
            frame_alloc::free(m, 0);
        } else {
            // Over the domain's limit it is freed there.
            let _ = adopt(domain, m, 0);
        }
    }
}

/// Takes one frame from the domain: it must own it and nothing may use it (XSA-252: no implicit unpin).
///
/// # Errors
/// `-EINVAL`.
pub fn give_back(domain: &Arc<Domain>, mfn: Mfn) -> Result<(), Errno> {
    frame::steal(machine(), mfn, domain.id).map_err(|_| Errno::EINVAL)?;
    // Nobody else may have the frame while a CPU can still reach it.
    if !cmdline::leaves_out(Flush::Free) {
        flush_domain(domain);
    }
    domain.pages.fetch_sub(1, Ordering::AcqRel);
    m2p::invalidate(mfn);
    frame_alloc::free(mfn, 0);
    Ok(())
}
