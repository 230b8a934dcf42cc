//! The audit: counts again what every frame is used for, from the page tables and from what the X-Kernel holds, and
//! compares that with the frame table.
//!
//! If a count were too low, a frame could become a page table while it can still be written, or another domain's while
//! it is mapped: the boundary between guests is that this never finds anything. It takes as long as there are page
//! tables and sees one moment only while nobody changes them: one CPU runs, and no hypercall is under way. A debug key,
//! and in debug builds the end of every domain.

use alloc::vec::Vec;
use core::sync::atomic::Ordering;

use pv_core::frame::{DomId, FrameInfo, FrameKind, Mfn};
use pv_core::pt;

use super::Domain;
use crate::mm::frame_table;
use crate::mm::machine::machine;

/// Findings that are printed; the others are counted.
const SHOWN: u64 = 8;

/// How often a frame was found in use.
#[derive(Clone, Copy, Default)]
struct Uses {
    refs: u64,
    types: u64,
}

struct Audit {
    uses: Vec<Uses>,
    findings: u64,
}

impl Audit {
    /// None when memory is short.
    fn new() -> Option<Self> {
        let frames = usize::try_from(frame_table::max_mfn()).ok()?;
        let mut uses = Vec::new();
        uses.try_reserve_exact(frames).ok()?;
        uses.resize(frames, Uses::default());
        Some(Self { uses, findings: 0 })
    }

    fn finding(&mut self, what: core::fmt::Arguments<'_>) {
        self.findings = self.findings.saturating_add(1);
        if self.findings <= SHOWN {
            log::error!("audit: {what}");
        }
    }

    /// A use of `mfn`, as `kind` or for a reference alone.
    fn used(&mut self, mfn: Mfn, kind: Option<FrameKind>) {
        if let Some(kind) = kind
            && let Some(found) = frame_table::info(mfn).map(FrameInfo::kind)
            && found != kind
        {
            self.finding(format_args!("mfn {:#x} is used as {kind:?} and is {found:?}", mfn.raw()));
        }
        if let Some(uses) = usize::try_from(mfn.raw()).ok().and_then(|i| self.uses.get_mut(i)) {
            uses.refs = uses.refs.saturating_add(1);
            uses.types = uses.types.saturating_add(u64::from(kind.is_some()));
        }
    }

    /// What the X-Kernel holds for a domain.
    fn holdings(&mut self, domain: &Domain) {
        let writable = Some(FrameKind::Writable);
        // Shared frames are writable without a reference but their allocation's.
        let shared = |audit: &mut Self, mfn: Mfn| {
            audit.used(mfn, writable);
            if let Some(uses) = usize::try_from(mfn.raw()).ok().and_then(|i| audit.uses.get_mut(i)) {
                uses.refs = uses.refs.saturating_sub(1);
            }
        };
        shared(self, domain.shared_info);
        for &mfn in domain.grants.lock().frames() {
            shared(self, mfn);
        }
        for mapping in domain.maptrack.lock().iter() {
            for _ in mapping.parts.uses() {
                self.used(mapping.frame, mapping.parts.writable.then_some(FrameKind::Writable));
            }
        }
        if let Some(ring) = domain.console.lock().ring_frame() {
            self.used(ring, writable);
        }
        for vcpu in domain.vcpus() {
            let state = vcpu.state.lock();
            for root in [state.kernel_root, state.user_root].into_iter().flatten() {
                self.used(root, Some(FrameKind::L4));
            }
            for &mfn in state.gdt.iter().chain(state.ldt.iter()).flatten() {
                self.used(mfn, Some(FrameKind::SegDesc));
            }
            let info = Mfn::new(vcpu.info_maddr.load(Ordering::Acquire) >> 12);
            if let Some(mfn) = info.filter(|&mfn| mfn.raw() != 0 && mfn != domain.shared_info) {
                self.used(mfn, writable);
            }
        }
    }

    /// What a page table's entries hold.
    fn table(&mut self, table: Mfn, info: &FrameInfo) {
        if let Some(kind) = Some(info.kind()).filter(|_| info.pinned()) {
            self.used(table, Some(kind));
        }
        if info.is_partial() {
            self.used(table, None);
        }
        let owner = info.owner();
        pt::each_held(machine(), table, |to, kind| {
            self.used(to, kind);
            let target = frame_table::info(to).and_then(FrameInfo::owner);
            if target != owner && !granted(owner, to) {
                self.finding(format_args!("mfn {:#x} of {owner:?} maps mfn {:#x} of {target:?}", table.raw(), to.raw()));
            }
        });
    }

    /// Compares a record with what was found.
    fn compare(&mut self, mfn: Mfn, info: &FrameInfo) {
        let Some(uses) = usize::try_from(mfn.raw()).ok().and_then(|i| self.uses.get(i)).copied() else { return };
        let refs = uses.refs.saturating_add(u64::from(info.owner().is_some()));
        if (info.refs(), info.type_count()) != (refs, uses.types) {
            self.finding(format_args!(
                "mfn {:#x} of {:?} ({:?}): {} references and {} types counted, {refs} and {} found",
                mfn.raw(),
                info.owner(),
                info.kind(),
                info.refs(),
                info.type_count(),
                uses.types
            ));
        }
    }
}

/// Whether `mapper` has `mfn` by a grant. A dead domain has given its grants back before its page tables.
fn granted(mapper: Option<DomId>, mfn: Mfn) -> bool {
    let Some(domain) = mapper.and_then(super::find) else { return false };
    domain.is_dying() || domain.maptrack.lock().iter().any(|mapping| mapping.frame == mfn)
}

/// Counts everything again. Findings are errors in the log. No lock of a domain's may be held.
pub fn run() {
    let Some(mut audit) = Audit::new() else {
        log::info!("audit: no memory for it");
        return;
    };
    super::for_each(|domain| audit.holdings(domain));
    let (mut frames, mut tables) = (0u64, 0u64);
    frame_table::for_each(|mfn, info| {
        frames = frames.saturating_add(u64::from(info.owner().is_some()));
        if info.held_entries() > 0 || info.is_partial() || info.pinned() {
            tables = tables.saturating_add(1);
            audit.table(mfn, info);
        }
    });
    frame_table::for_each(|mfn, info| audit.compare(mfn, info));
    if audit.findings == 0 {
        log::info!("audit: {frames} frames and {tables} page tables are as they are counted");
    } else {
        // In the words that tests look for.
        log::error!("census: the audit finds {} wrong counts: the frame table leaks, or worse", audit.findings);
    }
}
