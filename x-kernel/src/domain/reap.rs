//! Taking a dead domain apart, in bounded steps between other domains' turns.
//!
//! Order matters: vCPUs first (nothing of the domain runs), then event channels and grants (nobody else points at it),
//! then page tables and frames, and last what the X-Kernel holds for it. The census at the end must find nothing.

use alloc::sync::Arc;

use core::sync::atomic::{AtomicU64, Ordering};

use pv_core::frame::{self, FrameError};

use super::{Domain, StopReason, audit, census, console};
use crate::arch::x86_64::{power, tlb, tsc};
use crate::mm::machine::machine;
use crate::mm::{frame_alloc, m2p};
use crate::percpu::PerCpu;
use crate::pv::{evtchn, grant, vcpu_context};
use crate::{sched, stats};

/// Ports or mappings handled in one step.
const BUDGET: u32 = 64;

/// How long a domain waits whose frames others still use. Each look at them is a walk over all that it had, and how long
/// they keep them is a guest's choice: it must cost the others next to nothing.
const WAIT_NS: u64 = 100_000_000;

/// When there is something to do, ns since boot; [`NEVER`] while no domain waits to be taken apart, so that the way to
/// a guest costs one load then.
static WORK_AT: AtomicU64 = AtomicU64::new(NEVER);
const NEVER: u64 = u64::MAX;

/// A domain has died.
pub fn announce() {
    WORK_AT.store(0, Ordering::Release);
}

/// Whether there is anything to do at `now`.
#[inline]
pub fn is_due(now: u64) -> bool {
    WORK_AT.load(Ordering::Acquire) <= now
}

/// Does a bounded part of the work. Returns whether the scheduler should run, because the current vCPU's domain is
/// the one that goes.
#[cold]
pub fn step(cpu: &PerCpu) -> bool {
    // Nothing between here and the list can be missed: a domain that dies later announces itself later.
    WORK_AT.store(NEVER, Ordering::Release);
    let Some((at, domain)) = super::next_dying() else { return false };
    WORK_AT.fetch_min(at, Ordering::AcqRel);
    if at > tsc::now_ns() {
        return false;
    }
    if cpu.running().is_some_and(|on| Arc::ptr_eq(&on.domain, &domain)) {
        return true;
    }
    if domain.vcpus().iter().any(|v| v.on_cpu.load(Ordering::Acquire)) {
        // Another CPU has been told, but has not left it yet.
        return false;
    }
    if cfg!(debug_assertions) && !domain.audited.swap(true, Ordering::Relaxed) {
        audit::run();
    }
    advance(&domain);
    false
}

/// The next bounded part of taking `domain` apart.
fn advance(domain: &Arc<Domain>) {
    for vcpu in domain.vcpus() {
        vcpu_context::tear_down(domain, vcpu);
    }
    console::release_ring(domain);
    if !evtchn::close_some(domain, BUDGET) || !release_mappings(domain) {
        return;
    }
    // Others may still have this domain's frames mapped: those frames stay until they let go.
    let relinquished = frame::relinquish(machine(), &mut domain.mm.lock(), &mut domain.relinquish.lock(), &domain.span.range());
    free_batch(domain);
    match relinquished {
        Ok(()) => finish(domain),
        Err(FrameError::Preempted) => {}
        Err(_) => wait(domain),
    }
}

/// Others have to let go first.
fn wait(domain: &Domain) {
    domain.reap_after_ns.store(tsc::now_ns().saturating_add(WAIT_NS), Ordering::Relaxed);
}

/// Frees the frames that were waiting for a flush: nothing maps them any more, but a CPU may remember them.
pub fn free_batch(domain: &Domain) {
    let batch = core::mem::take(&mut *domain.freeing.lock());
    if batch.is_empty() {
        return;
    }
    tlb::flush_mask(tlb::online_mask(), tlb::Scope::Global);
    for mfn in batch {
        m2p::invalidate(mfn);
        domain.pages.fetch_sub(1, Ordering::AcqRel);
        frame_alloc::free(mfn, 0);
    }
}

/// Gives back some of what the domain has mapped of others; whether none is left.
fn release_mappings(domain: &Arc<Domain>) -> bool {
    let mut batch = arrayvec::ArrayVec::<_, { BUDGET as usize }>::new();
    let done = domain.maptrack.lock().release_some(BUDGET, |mapping| {
        let _ = batch.try_push(mapping);
    });
    for mapping in batch {
        grant::release(domain.id, &mapping, mapping.parts);
    }
    done
}

/// Everything is given back: frees the last frames, takes the census, forgets the domain.
fn finish(domain: &Arc<Domain>) {
    console::flush(domain);
    loop {
        let frame = match domain.grants.lock().take_frame() {
            Ok(Some(frame)) => frame,
            Ok(None) => break,
            // Still in use by a neighbour that has mapped through it.
            Err(_) => return wait(domain),
        };
        frame::unshare(machine(), frame);
        frame_alloc::free(frame, 0);
    }
    tlb::flush_mask(tlb::online_mask(), tlb::Scope::Global);
    for vcpu in domain.vcpus() {
        sched::remove(vcpu);
    }
    stats::record(domain);
    census::of_dead(domain);
    let reason = domain.stop_reason();
    frame::unshare(machine(), domain.shared_info);
    frame_alloc::free(domain.shared_info, 0);
    super::remove(domain.id);
    match domain.exit_status() {
        Some(status) => log::info!("domain {} ({}): gone, exit status {status}", domain.id.raw(), domain.name),
        None => log::info!("domain {} ({}): gone", domain.id.raw(), domain.name),
    }
    if super::count() == 0 {
        stats::print();
        match reason {
            Some(StopReason::Reboot) => power::reboot(),
            _ => power::off(),
        }
    }
}
