//! What `pv-core` asks of the machine: records, table entries, flushes, and whether to stop for a while.
//!
//! The typed-frame rules in `pv_core::frame` and `pv_core::pt` decide; here is how their steps are done. Table entries
//! are reached through frame windows, never through the guest's own mapping of its tables (XSA-286).

use core::sync::atomic::Ordering;

use pv_core::bootline::Flush;
use pv_core::frame::{self, DomId, FrameInfo, Mfn};
use pv_core::pt::Slot;

use super::window::FrameWindow;
use super::{frame_table, hyp_pt};
use crate::arch::x86_64::tlb::{self, CpuMask, Scope};
use crate::cmdline;
use crate::domain::{self, Domain, reap};
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
    slot.index().wrapping_mul(8)
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

    fn read_batch(&self, table: Mfn, slot: Slot, entries: &mut frame::Batch) -> u64 {
        let first = slot.batch().next().map_or(0, offset);
        FrameWindow::new(table).map_or(0, |window| window.read_words(first, entries))
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

    /// A frame is about to be relied on as another type (XSA-401: its count has moved already): every CPU that may hold
    /// writable translations of it forgets them. Not only the owner's: a neighbour that had the frame by a grant may
    /// have dropped its entry without a flush.
    fn flush_stale(&self, _owner: DomId) {
        if !cmdline::leaves_out(Flush::Retype) {
            tlb::flush_mask(tlb::online_mask(), Scope::Global);
        }
    }

    fn preempt(&self) -> bool {
        sched::preempt_pending()
    }

    fn clear_hypervisor_slots(&self, l4: Mfn) {
        let cleared = hyp_pt::clear_hypervisor_slots(l4);
        debug_assert!(cleared, "an L4 table of a guest cannot be reached");
    }

    /// The last reference to a frame of a domain that is being taken apart is gone. It waits for a flush of every CPU,
    /// because a neighbour that had it mapped may still remember it, and one flush serves many frames.
    fn freed(&self, mfn: Mfn, owner: DomId) {
        let Some(domain) = domain::find(owner) else {
            log::error!("mfn {:#x} of domain {}, which is gone, is lost", mfn.raw(), owner.raw());
            return;
        };
        let full = domain.freeing.lock().is_full();
        if full {
            reap::free_batch(&domain);
        }
        let _ = domain.freeing.lock().try_push(mfn);
    }

    fn max_mfn(&self) -> u64 {
        frame_table::max_mfn()
    }
}
