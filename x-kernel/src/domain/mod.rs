//! Domains: the unit of ownership and accounting.
//!
//! The domain list owns every domain; everything else holds a reference for as long as one call, or a weak one.
//! A domain dies in two steps: `kill` makes it unrunnable at once, and the reaper (see `reap`) gives back its
//! frames, ports and grants in bounded steps from the idle address space, then takes the census.

use alloc::sync::Arc;
use core::fmt;
use core::sync::atomic::{AtomicBool, AtomicU8, AtomicU32, AtomicU64, Ordering};

use arrayvec::{ArrayString, ArrayVec};
use pv_core::evtchn::EvtchnTable;
use pv_core::frame::{DomId, Mfn, Mm, Relinquish};
use pv_core::grant::{GrantTable, MapTrack};

use crate::arch::x86_64::serial;
use crate::arch::x86_64::tlb::CpuMask;
use crate::mm::hyp_pt::PerDomain;
use crate::perf::DomCounters;
use crate::pv::abom::{Abom, AbomCounters};
use crate::sync::{InitOnce, SpinLock, level};
use crate::trace;

pub mod audit;
pub mod build;
pub mod census;
pub mod console;
pub mod files;
pub mod layout;
pub mod memory;
pub mod reap;
pub mod start_info;
pub mod vcpu;

use console::GuestConsole;
use vcpu::Vcpu;

/// The most domains at once.
pub const MAX_DOMAINS: usize = 1024;

/// Why a domain has stopped (`SHUTDOWN_*` of xen/sched.h, and our own reasons).
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum StopReason {
    /// The guest switched itself off.
    Poweroff,
    /// The guest asked for a reboot.
    Reboot,
    /// The guest suspended itself; nothing here resumes it.
    Suspend,
    /// The guest crashed or was crashed.
    Crash,
    /// The operator ended it.
    Killed,
}

/// A domain.
pub struct Domain {
    /// Its number.
    pub id: DomId,
    /// Its name, for people.
    pub name: ArrayString<32>,
    /// SIF_INITDOMAIN and `console_io`.
    pub initial: bool,
    /// Whether its guest may switch X-mode on.
    pub xmode: bool,
    /// Whether system calls of its programs may become function calls.
    pub abom: bool,
    /// Their sites, once its kernel wants to hear of them.
    pub sites: SpinLock<Option<Abom>>,
    /// What was done about sites.
    pub abom_counters: AbomCounters,
    /// The most frames that it may own.
    pub max_pages: AtomicU64,
    /// The frames that it owns.
    pub pages: AtomicU64,
    /// Where they lie, and all that it had before.
    pub span: memory::Span,
    /// Its page tables; also serialises changes of its descriptor tables.
    pub mm: SpinLock<Mm, level::Domain>,
    /// How far taking its frames back has come.
    pub relinquish: SpinLock<Relinquish, level::Relinquish>,
    /// When taking it apart goes on, ns since boot: others may have to let go of its frames first.
    pub reap_after_ns: AtomicU64,
    /// The audit of its end has been made.
    pub audited: AtomicBool,
    /// Frames that are free once every CPU has forgotten them.
    pub freeing: SpinLock<ArrayVec<Mfn, 256>, level::PageList>,
    /// Its vCPUs, by number.
    pub vcpus: InitOnce<ArrayVec<Arc<Vcpu>, { vcpu::MAX_VCPUS as usize }>>,
    /// The frame of `shared_info`.
    pub shared_info: Mfn,
    /// Its own area of the address space: descriptor tables.
    pub area: SpinLock<PerDomain, level::Area>,
    /// Its event channels.
    pub events: SpinLock<EvtchnTable, level::Evtchn>,
    /// Its grant table.
    pub grants: SpinLock<GrantTable, level::Grant>,
    /// What it has mapped of other domains' grants.
    pub maptrack: SpinLock<MapTrack, level::MapTrack>,
    /// Its console.
    pub console: SpinLock<GuestConsole, level::GuestConsole>,
    /// What it did.
    pub counters: DomCounters,
    /// CPUs that may hold translations of it.
    pub dirty_cpus: AtomicU64,
    /// `VMASST_TYPE_*` that are on, by bit.
    pub assists: AtomicU64,
    /// Which byte of the clock its kernel has chosen, if it is shown one.
    pub cmos_index: AtomicU8,
    /// Scheduling weight.
    pub weight: u32,
    /// Set once it must not run any more.
    dying: AtomicBool,
    /// Why (index of `StopReason` plus one), 0 while it lives.
    stop: AtomicU32,
    /// What it says that its work ended with, [`NO_STATUS`] until then.
    pub exit_status: AtomicU32,
    /// When it was created, ns since boot.
    pub created_ns: u64,
}

/// No exit status.
const NO_STATUS: u32 = u32::MAX;

static DOMAINS: SpinLock<ArrayVec<Arc<Domain>, MAX_DOMAINS>, level::DomainList> = SpinLock::new(ArrayVec::new_const());

/// What a domain is made from, besides its memory.
pub struct NewDomain {
    /// See [`Domain::id`].
    pub id: DomId,
    /// See [`Domain::name`].
    pub name: ArrayString<32>,
    /// See [`Domain::initial`].
    pub initial: bool,
    /// See [`Domain::xmode`].
    pub xmode: bool,
    /// See [`Domain::abom`].
    pub abom: bool,
    /// See [`Domain::max_pages`].
    pub max_pages: u64,
    /// See [`Domain::weight`].
    pub weight: u32,
    /// See [`Domain::shared_info`].
    pub shared_info: Mfn,
    /// See [`Domain::area`].
    pub area: PerDomain,
    /// See [`Domain::events`].
    pub events: EvtchnTable,
    /// See [`Domain::grants`].
    pub grants: GrantTable,
    /// See [`Domain::maptrack`].
    pub maptrack: MapTrack,
}

impl Domain {
    /// A domain that owns nothing yet.
    pub fn new(new: NewDomain) -> Self {
        Self {
            id: new.id,
            name: new.name,
            initial: new.initial,
            xmode: new.xmode,
            abom: new.abom,
            sites: SpinLock::new(None),
            abom_counters: AbomCounters::new(),
            max_pages: AtomicU64::new(new.max_pages),
            pages: AtomicU64::new(0),
            span: memory::Span::new(),
            mm: SpinLock::new(Mm::new(new.id)),
            relinquish: SpinLock::new(Relinquish::new()),
            reap_after_ns: AtomicU64::new(0),
            audited: AtomicBool::new(false),
            freeing: SpinLock::new(ArrayVec::new()),
            vcpus: InitOnce::new(),
            shared_info: new.shared_info,
            area: SpinLock::new(new.area),
            events: SpinLock::new(new.events),
            grants: SpinLock::new(new.grants),
            maptrack: SpinLock::new(new.maptrack),
            console: SpinLock::new(GuestConsole::new()),
            counters: DomCounters::new(),
            dirty_cpus: AtomicU64::new(0),
            assists: AtomicU64::new(0),
            cmos_index: AtomicU8::new(0),
            weight: new.weight,
            dying: AtomicBool::new(false),
            stop: AtomicU32::new(0),
            exit_status: AtomicU32::new(NO_STATUS),
            created_ns: crate::arch::x86_64::tsc::now_ns(),
        }
    }

    /// vCPU `id`.
    pub fn vcpu(&self, id: u32) -> Option<&Arc<Vcpu>> {
        self.vcpus().get(usize::try_from(id).ok()?)
    }

    /// Every vCPU.
    pub fn vcpus(&self) -> &[Arc<Vcpu>] {
        self.vcpus.get().map_or(&[], |v| v.as_slice())
    }

    /// Whether `VMASST_TYPE_*` number `assist` is on.
    pub fn has_assist(&self, assist: u32) -> bool {
        self.assists.load(Ordering::Relaxed) >> (assist & 63) & 1 != 0
    }

    /// The CPUs that may hold translations of it.
    pub fn dirty_mask(&self) -> CpuMask {
        CpuMask::from_bits(self.dirty_cpus.load(Ordering::Acquire))
    }

    /// Whether it is being taken apart.
    pub fn is_dying(&self) -> bool {
        self.dying.load(Ordering::Acquire)
    }

    /// Ends the domain because its guest broke a rule that no errno can tell it of.
    pub fn crash(&self, why: fmt::Arguments<'_>) {
        if self.stop(StopReason::Crash) {
            // The line that operators look for: the guest's error, not ours, so without our mark.
            log::error!(target: serial::GUEST, "domain {} crashed: {why}", self.id.raw());
        }
    }

    /// Stops the domain; the first reason stands. Returns whether this call was the first.
    pub fn stop(&self, reason: StopReason) -> bool {
        let code = match reason {
            StopReason::Poweroff => 1,
            StopReason::Reboot => 2,
            StopReason::Suspend => 3,
            StopReason::Crash => 4,
            StopReason::Killed => 5,
        };
        let first = self.stop.compare_exchange(0, code, Ordering::AcqRel, Ordering::Acquire).is_ok();
        self.dying.store(true, Ordering::Release);
        trace::record(trace::Id::DomainStop, u64::from(self.id.raw()), u64::from(code), 0);
        reap::announce();
        crate::sched::kick_all(self);
        first
    }

    /// What it said that its work ended with: 0 to 255.
    pub fn exit_status(&self) -> Option<u32> {
        Some(self.exit_status.load(Ordering::Relaxed)).filter(|status| *status != NO_STATUS)
    }

    /// Why it stopped.
    pub fn stop_reason(&self) -> Option<StopReason> {
        match self.stop.load(Ordering::Acquire) {
            1 => Some(StopReason::Poweroff),
            2 => Some(StopReason::Reboot),
            3 => Some(StopReason::Suspend),
            4 => Some(StopReason::Crash),
            5 => Some(StopReason::Killed),
            _ => None,
        }
    }
}

/// Enters a domain into the list. False when the list is full.
pub fn insert(domain: Arc<Domain>) -> bool {
    DOMAINS.lock().try_push(domain).is_ok()
}

/// The domain numbered `id`.
pub fn find(id: DomId) -> Option<Arc<Domain>> {
    DOMAINS.lock().iter().find(|d| d.id == id).cloned()
}

/// The domain that an operator calls `name`: the only one of that name, or, if none has it, the one of that number.
pub fn called(name: &str) -> Option<Arc<Domain>> {
    let list = DOMAINS.lock();
    let alive = || list.iter().filter(|d| !d.is_dying());
    let mut named = alive().filter(|d| d.name.as_str() == name);
    match (named.next(), named.next()) {
        (Some(only), None) => Some(only.clone()),
        (Some(_), Some(_)) => None,
        (None, _) => alive().find(|d| name.parse() == Ok(d.id.raw())).cloned(),
    }
}

/// The domain that `alleged` names to a caller: itself, for `DOMID_SELF`.
pub fn find_for(caller: &Arc<Domain>, alleged: u16) -> Option<Arc<Domain>> {
    let id = DomId::new(alleged);
    if id == DomId::SELF || id == caller.id { Some(caller.clone()) } else { find(id).filter(|d| !d.is_dying()) }
}

/// Of the domains that must be taken apart, the one to go on with first, and when: one that waits for others lets
/// those pass that do not.
fn next_dying() -> Option<(u64, Arc<Domain>)> {
    let due = |d: &Arc<Domain>| (d.reap_after_ns.load(Ordering::Relaxed), d.clone());
    DOMAINS.lock().iter().filter(|d| d.is_dying()).map(due).min_by_key(|(at, _)| *at)
}

/// Takes a domain off the list.
fn remove(id: DomId) {
    DOMAINS.lock().retain(|d| d.id != id);
}

/// How many domains there are.
pub fn count() -> usize {
    DOMAINS.lock().len()
}

/// Calls `f` for each domain, with no lock held.
pub fn for_each(mut f: impl FnMut(&Arc<Domain>)) {
    let mut after = None;
    while let Some(domain) = next(after) {
        f(&domain);
        after = Some(domain.id.raw());
    }
}

/// The domain of the lowest number above `after`, or of all.
pub fn next(after: Option<u16>) -> Option<Arc<Domain>> {
    DOMAINS.lock().iter().filter(|d| after.is_none_or(|id| d.id.raw() > id)).min_by_key(|d| d.id.raw()).cloned()
}

/// One line about a domain.
pub struct Summary<'a>(pub &'a Domain);

impl fmt::Display for Summary<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let d = self.0;
        write!(
            f,
            "domain {} ({}): {} of {} pages, {} vcpus, weight {}, ran {} ms, {} crossings{}",
            d.id.raw(),
            d.name,
            d.pages.load(Ordering::Relaxed),
            d.max_pages.load(Ordering::Relaxed),
            d.vcpus().len(),
            d.weight,
            d.counters.ran_ns.get() / 1_000_000,
            d.counters.crossings.get(),
            if d.is_dying() { ", dying" } else { "" },
        )
    }
}
