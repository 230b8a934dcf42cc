//! What `pv-core` asks of the machine: records, table entries, flushes, and whether to stop for a while.
//!
//! The typed-frame rules in `pv_core::frame` and `pv_core::pt` decide; here is how their steps are done. Table entries
//! are reached through frame windows, never through the guest's own mapping of its tables (XSA-286).

use core::sync::atomic::Ordering;

use pv_core::frame::{self, DomId, FrameInfo, Mfn};
use pv_core::pt::Slot;

use super::window::FrameWindow;
use super::{frame_alloc, frame_table, hyp_pt, m2p};
use crate::arch::x86_64::tlb::{self, CpuMask, Scope};
use crate::domain::{self, Domain};
use crate::sched;

/// This machine.
#[derive(Debug)]
pub struct XMachine(());

static MACHINE: XMachine = XMachine(());

/// This machine, for the functions of `pv-core`.
pub fn machine() -> &'static XMachine {
    &MACHINE
}

/// Forgets, on every CPU that may remember, what it knows of `domain`'s address spaces, global entries included.
pub fn flush_domain(domain: &Domain) {
    tlb::flush_mask(CpuMask::from_bits(domain.dirty_cpus.load(Ordering::SeqCst)), Scope::Global);
}

/// Where the entry in `slot` is in its table.
fn offset(slot: Slot) -> usize {
    usize::from(slot.index()).wrapping_mul(8)
}

impl frame::Machine for XMachine {
    fn frame(&self, mfn: Mfn) -> Option<&FrameInfo> {
        frame_table::info(mfn)
    }

    /// An entry of a frame that cannot be reached reads as not present. `pv-core` holds a count on the frame, so that
    /// happens only to frames that are no guest's.
    fn read_entry(&self, table: Mfn, slot: Slot) -> u64 {
        FrameWindow::new(table).map_or(0, |window| window.read_u64_at(offset(slot)))
    }

    fn cmpxchg_entry(&self, table: Mfn, slot: Slot, old: u64, new: u64) -> Result<(), u64> {
        let Some(window) = FrameWindow::new(table) else { return Err(!old) };
        window.cmpxchg_u64_at(offset(slot), old, new).map(|_| ())
    }

    fn install_hypervisor_slots(&self, l4: Mfn, owner: DomId) {
        // A domain that is being built is not in the list yet: its builder installs the area when it is.
        let area = domain::find(owner).and_then(|domain| domain.area.lock().table());
        let installed = hyp_pt::install_hypervisor_slots(l4, area);
        debug_assert!(installed, "an L4 table of a guest cannot be reached");
    }

    /// A frame of `owner` is about to be relied on as another type (XSA-401: its count has moved already): every CPU
    /// that may hold writable translations of it forgets them. A domain that is not found is flushed everywhere.
    fn flush_stale(&self, owner: DomId) {
        match domain::find(owner) {
            Some(domain) => flush_domain(&domain),
            None => tlb::flush_mask(tlb::online_mask(), Scope::Global),
        }
    }

    fn preempt(&self) -> bool {
        sched::preempt_pending()
    }

    /// The last count of a frame that its owner has given up is gone: nothing maps it any more.
    fn freed(&self, mfn: Mfn, owner: DomId) {
        self.flush_stale(owner);
        m2p::invalidate(mfn);
        frame_alloc::free(mfn, 0);
    }

    fn max_mfn(&self) -> u64 {
        frame_table::max_mfn()
    }
}
