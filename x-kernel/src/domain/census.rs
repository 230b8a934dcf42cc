//! The census: what the frame table says of every owner, and the proof that a dead domain has left nothing.

use pv_core::frame::DomId;

use super::Domain;
use crate::mm::frame_table;
use core::sync::atomic::Ordering;

/// Frames of one owner, by what they serve as.
#[derive(Clone, Copy, Debug, Default)]
pub struct Census {
    /// Frames owned.
    pub owned: u64,
    /// Of those, with a type in use, by kind: L1 to L4, descriptors, writable.
    pub typed: [u64; 6],
    /// Of those, pinned.
    pub pinned: u64,
}

/// Counts the frames of `domain`.
pub fn of(domain: DomId) -> Census {
    let mut census = Census::default();
    frame_table::for_each(|_, info| {
        if info.owner() != Some(domain) {
            return;
        }
        census.owned = census.owned.saturating_add(1);
        census.pinned = census.pinned.saturating_add(u64::from(info.pinned()));
        if info.type_count() > 0
            && let Some(n) = (info.kind() as usize).checked_sub(1).and_then(|i| census.typed.get_mut(i))
        {
            *n = n.saturating_add(1);
        }
    });
    census
}

/// Prints the census of every domain.
pub fn print() {
    super::for_each(|d| {
        let c = of(d.id);
        log::info!(
            "domain {}: {} frames, L1–L4 {:?}, descriptors {}, writable {}, pinned {}",
            d.id.raw(),
            c.owned,
            &c.typed[..4],
            c.typed[4],
            c.typed[5],
            c.pinned
        );
    });
}

/// Checks that a domain that was taken apart has left nothing. A leak is an error line that tests look for.
pub fn of_dead(domain: &Domain) {
    let census = of(domain.id);
    let pages = domain.pages.load(Ordering::Acquire);
    let ports = domain.events.lock().used();
    let mappings = domain.maptrack.lock().live();
    let pins = domain.grants.lock().pinned();
    // The shared_info frame is the X-Kernel's to free, and is freed next.
    if census.owned > 1 || pages != 0 || ports != 0 || mappings != 0 || pins != 0 {
        log::error!(
            "census: domain {} leaks {} frames ({census:?}), {pages} pages accounted, {ports} ports, {mappings} mappings, {pins} grant uses",
            domain.id.raw(),
            census.owned.saturating_sub(1),
        );
    } else {
        log::info!("census: domain {} has given everything back", domain.id.raw());
    }
}
