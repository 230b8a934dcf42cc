//! The lock order, as types: a lock may be taken only while every lock already held has a lower rank.
//!
//! Debug builds keep a mask of the ranks that each CPU holds and panic on the first violation, whether or not it
//! would have deadlocked that time. Release builds keep nothing.

use core::sync::atomic::{AtomicBool, AtomicU32, Ordering};

use crate::percpu;

/// A place in the lock order.
pub trait Level {
    /// Higher is taken later; 0 is outside the order and never checked. Below 32.
    const RANK: u32;
    /// For the message that reports a violation.
    const NAME: &'static str;
}

macro_rules! levels {
    ($($(#[$doc:meta])* $name:ident = $rank:literal, $text:literal;)*) => {
        $(
            $(#[$doc])*
            #[derive(Debug)]
            pub enum $name {}
            impl Level for $name {
                const RANK: u32 = { assert!($rank < 32); $rank };
                const NAME: &'static str = $text;
            }
        )*
    };
}

levels! {
    /// Outside the order: taken and given up with no other lock between.
    Unranked = 0, "unranked";
    /// A vCPU's private state; the entry door holds it while it serves the vCPU.
    VcpuState = 1, "vcpu state";
    /// What a domain has mapped of others' grants.
    MapTrack = 2, "maptrack";
    /// A domain: its page tables and descriptor tables.
    Domain = 3, "domain";
    /// A domain's event-channel table.
    Evtchn = 4, "event channels";
    /// A domain's grant table.
    Grant = 5, "grant table";
    /// How far taking a domain's frames back has come.
    Relinquish = 6, "relinquish";
    /// A list of pages: a domain's that are about to be free, the boot modules'.
    PageList = 7, "page list";
    /// The list of all domains.
    DomainList = 8, "domain list";
    /// The scheduler's queues.
    RunQueue = 9, "run queue";
    /// A vCPU's account of its time.
    Runstate = 10, "runstate";
    /// The records of dead domains.
    Records = 11, "records";
    /// A domain's own area of the address space.
    Area = 12, "area";
    /// The X-Kernel's own page tables.
    HypPt = 13, "x-kernel page tables";
    /// The heap: almost anything allocates.
    Heap = 14, "heap";
    /// The frame allocator: the heap grows from it.
    FrameAlloc = 15, "frame allocator";
    /// A guest's console.
    GuestConsole = 16, "guest console";
    /// The console: anything may print.
    Console = 17, "console";
}

/// The ranks that each CPU holds, as a mask.
static HELD: [AtomicU32; percpu::MAX_CPUS] = [const { AtomicU32::new(0) }; percpu::MAX_CPUS];

/// Whether per-CPU data can be read. Before, only the boot CPU runs.
static PERCPU_READY: AtomicBool = AtomicBool::new(false);

/// Says that [`percpu::this`] works from here on.
pub fn percpu_ready() {
    PERCPU_READY.store(true, Ordering::Release);
}

fn held() -> Option<&'static AtomicU32> {
    let cpu = if PERCPU_READY.load(Ordering::Acquire) { percpu::this().id } else { 0 };
    HELD.get(usize::try_from(cpu).ok()?)
}

/// Whether a lock of rank `rank` may be taken while the ranks in `mask` are held.
pub const fn may_take(mask: u32, rank: u32, nested: bool) -> bool {
    let lowest_forbidden = if nested { rank.saturating_add(1) } else { rank };
    match mask.checked_shr(lowest_forbidden) {
        Some(above) => above == 0,
        None => true,
    }
}

/// Records that this CPU takes a lock of level `L`, and returns whether giving it up must clear the record.
/// `nested` allows a second lock of the same level, whose order the caller decides.
///
/// # Panics
/// If a lock of the same or a later level is held.
pub(super) fn enter<L: Level>(nested: bool) -> bool {
    if !cfg!(debug_assertions) || L::RANK == 0 {
        return false;
    }
    let Some(held) = held() else { return false };
    let mask = held.load(Ordering::Relaxed);
    assert!(may_take(mask, L::RANK, nested), "lock order: {} taken with mask {mask:#x} held", L::NAME);
    note::<L>()
}

/// Records a lock that was taken without waiting, which cannot deadlock and so is not checked.
pub(super) fn note<L: Level>() -> bool {
    if !cfg!(debug_assertions) || L::RANK == 0 {
        return false;
    }
    let Some(held) = held() else { return false };
    let bit = 1 << L::RANK;
    held.fetch_or(bit, Ordering::Relaxed) & bit == 0
}

/// Records that the lock is given up.
pub(super) fn leave<L: Level>() {
    if let Some(held) = held() {
        held.fetch_and(!(1 << L::RANK), Ordering::Relaxed);
    }
}

/// Whether this CPU holds any ranked lock but that of the vCPU which it serves: then it must not touch guest
/// memory. Always false in release builds.
pub fn any_held() -> bool {
    held().is_some_and(|held| held.load(Ordering::Relaxed) & !(1 << VcpuState::RANK) != 0)
}
