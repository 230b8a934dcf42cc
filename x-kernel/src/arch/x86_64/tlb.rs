//! TLB maintenance: local flushes, and shootdowns on other CPUs.
//!
//! A flush must come after the change that it is for, and before anyone relies on the change: the callers in
//! `pv-core` say when. Each function here is complete when it returns: no CPU named in the mask keeps a
//! translation of the kind that was older than the call. Answers to Xen's `arch/x86/flushtlb.c` and `smp.c`.

// UNSAFETY: executes the instructions that flush.
#![expect(unsafe_code, reason = "INVLPG, INVPCID and control registers")]

use core::arch::asm;
use core::sync::atomic::{AtomicU8, AtomicU64, Ordering};

use crate::percpu;
use crate::sync::InitOnce;

/// What to forget.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Scope {
    /// Translations without the G bit.
    NonGlobal,
    /// Everything.
    Global,
}

impl Scope {
    const fn bit(self) -> u8 {
        match self {
            Self::NonGlobal => 1,
            Self::Global => 2,
        }
    }
}

/// A set of CPUs.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct CpuMask(u64);

impl CpuMask {
    /// No CPU.
    pub const EMPTY: Self = Self(0);

    /// The set with these bits.
    pub const fn from_bits(bits: u64) -> Self {
        Self(bits)
    }

    /// Its bits.
    pub const fn bits(self) -> u64 {
        self.0
    }

    /// The set of one CPU.
    pub const fn only(cpu: u32) -> Self {
        Self(match 1u64.checked_shl(cpu) {
            Some(bit) => bit,
            None => 0,
        })
    }

    /// Whether the set holds `cpu`.
    pub const fn contains(self, cpu: u32) -> bool {
        self.0 & Self::only(cpu).0 != 0
    }

    /// The set without `cpu`.
    #[must_use]
    pub const fn without(self, cpu: u32) -> Self {
        Self(self.0 & !Self::only(cpu).0)
    }

    /// The CPUs that are in both.
    #[must_use]
    pub const fn and(self, other: Self) -> Self {
        Self(self.0 & other.0)
    }

    /// The CPUs of the set, in order.
    pub fn iter(self) -> impl Iterator<Item = u32> {
        (0..u64::BITS).filter(move |&cpu| self.contains(cpu))
    }
}

const _: () = assert!(percpu::MAX_CPUS <= u64::BITS as usize);

/// Flushes done by this machine, by kind.
#[derive(Debug, Default)]
pub struct Counters {
    /// Local flushes that kept global entries.
    pub non_global: AtomicU64,
    /// Local flushes of everything.
    pub global: AtomicU64,
    /// Single pages.
    pub page: AtomicU64,
    /// Shootdowns sent to other CPUs.
    pub remote: AtomicU64,
}

/// The counters.
pub static COUNTERS: Counters =
    Counters { non_global: AtomicU64::new(0), global: AtomicU64::new(0), page: AtomicU64::new(0), remote: AtomicU64::new(0) };

/// CR4.PGE
const CR4_PGE: u64 = 1 << 7;
/// CPUID.7.0:EBX.INVPCID
const CPUID_INVPCID: u32 = 1 << 10;

static HAS_INVPCID: InitOnce<bool> = InitOnce::new();

fn has_invpcid() -> bool {
    *HAS_INVPCID.get_or_init(|| {
        let most = core::arch::x86_64::__cpuid(0).eax;
        most >= 7 && core::arch::x86_64::__cpuid_count(7, 0).ebx & CPUID_INVPCID != 0
    })
}

/// Forgets this CPU's non-global translations.
pub fn flush_local() {
    COUNTERS.non_global.fetch_add(1, Ordering::Relaxed);
    // SAFETY: writing CR3 with its own value changes no mapping. PCIDs are not in use, so it flushes all that is
    // not global (SDM vol. 3, 4.10.4.1).
    unsafe { asm!("mov {0}, cr3", "mov cr3, {0}", out(reg) _, options(nostack, preserves_flags)) };
}

/// Forgets all translations of this CPU, global ones included.
pub fn flush_local_global() {
    COUNTERS.global.fetch_add(1, Ordering::Relaxed);
    if has_invpcid() {
        let descriptor = [0u64; 2];
        // SAFETY: INVPCID exists; type 2 flushes everything and looks at no field of the descriptor but reserved
        // zeroes.
        unsafe { asm!("invpcid {0}, [{1}]", in(reg) 2u64, in(reg) &descriptor, options(nostack, preserves_flags)) };
        return;
    }
    let cr4: u64;
    // SAFETY: reads a register.
    unsafe { asm!("mov {}, cr4", out(reg) cr4, options(nomem, nostack, preserves_flags)) };
    // SAFETY: changing CR4.PGE flushes everything; its old value comes back at once, with interrupts off between.
    unsafe {
        asm!("mov cr4, {0}", "mov cr4, {1}", in(reg) cr4 ^ CR4_PGE, in(reg) cr4, options(nostack, preserves_flags));
    }
}

/// Forgets this CPU's translation of the page at `va`, global or not. The address is canonical and a guest's by
/// the caller's type; INVLPG itself ignores a non-canonical one.
pub fn flush_page(va: u64) {
    COUNTERS.page.fetch_add(1, Ordering::Relaxed);
    // SAFETY: INVLPG only forgets.
    unsafe { asm!("invlpg [{}]", in(reg) va, options(nostack, preserves_flags)) };
}

/// Flushes by scope.
pub fn flush_local_scope(scope: Scope) {
    match scope {
        Scope::NonGlobal => flush_local(),
        Scope::Global => flush_local_global(),
    }
}

/// What other CPUs ask of one.
struct Mailbox {
    /// Scopes wanted, as [`Scope::bit`]s.
    wanted: AtomicU8,
    /// Number of requests made.
    asked: AtomicU64,
    /// Number of requests served. Written by the owner alone.
    served: AtomicU64,
}

static MAILBOXES: [Mailbox; percpu::MAX_CPUS] =
    [const { Mailbox { wanted: AtomicU8::new(0), asked: AtomicU64::new(0), served: AtomicU64::new(0) } }; percpu::MAX_CPUS];

/// The CPUs that take part in shootdowns.
static ONLINE: AtomicU64 = AtomicU64::new(1);

/// Sends the shootdown interrupt to a CPU.
static SEND_IPI: InitOnce<fn(u32)> = InitOnce::new();

/// Says how the shootdown interrupt is sent; its handler calls [`serve_shootdowns`]. Needed before a second CPU
/// is brought [`online`].
pub fn set_ipi_sender(send: fn(u32)) {
    let _ = SEND_IPI.set(send);
}

/// Makes `cpu` take part in shootdowns.
///
/// # Panics
/// If nothing can interrupt it yet.
#[expect(dead_code, reason = "the other CPUs are parked; the one that starts them calls this for each")]
pub fn online(cpu: u32) {
    assert!(SEND_IPI.get().is_some(), "a CPU comes online before shootdowns can reach it");
    ONLINE.fetch_or(CpuMask::only(cpu).bits(), Ordering::SeqCst);
}

/// The CPUs that take part in shootdowns.
pub fn online_mask() -> CpuMask {
    CpuMask(ONLINE.load(Ordering::SeqCst))
}

/// Flushes on every CPU in `mask` that is online, and returns when all of them have.
pub fn flush_mask(mask: CpuMask, scope: Scope) {
    let here = percpu::this().id;
    if mask.contains(here) {
        flush_local_scope(scope);
    }
    let others = mask.and(online_mask()).without(here);
    if others == CpuMask::EMPTY {
        return;
    }
    let mut tickets = [0u64; percpu::MAX_CPUS];
    for cpu in others.iter() {
        let index = cpu as usize;
        let (Some(mailbox), Some(ticket)) = (MAILBOXES.get(index), tickets.get_mut(index)) else { continue };
        mailbox.wanted.fetch_or(scope.bit(), Ordering::Relaxed);
        // Release: whoever sees the new count sees the scope, and every table change made before the call.
        *ticket = mailbox.asked.fetch_add(1, Ordering::AcqRel).wrapping_add(1);
        COUNTERS.remote.fetch_add(1, Ordering::Relaxed);
        if let Some(send) = SEND_IPI.get() {
            send(cpu);
        }
    }
    for cpu in others.iter() {
        let index = cpu as usize;
        let (Some(mailbox), Some(&ticket)) = (MAILBOXES.get(index), tickets.get(index)) else { continue };
        // Acquire: pairs with the Release in `serve_shootdowns`, so what follows happens after the flush there.
        while mailbox.served.load(Ordering::Acquire) < ticket {
            // The target may be waiting for us in the same way.
            serve_shootdowns();
            core::hint::spin_loop();
        }
    }
}

/// Does what other CPUs have asked of this one. Called by the shootdown interrupt and by everything that spins.
pub fn serve_shootdowns() {
    if ONLINE.load(Ordering::Relaxed) & !1 == 0 {
        return;
    }
    let Some(mailbox) = MAILBOXES.get(percpu::this().id as usize) else { return };
    // Acquire: pairs with the Release in `flush_mask`.
    let asked = mailbox.asked.load(Ordering::Acquire);
    if asked == mailbox.served.load(Ordering::Relaxed) {
        return;
    }
    // A request up to `asked` put its scope in before it counted itself: it is in this swap, or was in an earlier
    // one that has been flushed for already.
    let wanted = mailbox.wanted.swap(0, Ordering::AcqRel);
    if wanted & Scope::Global.bit() != 0 {
        flush_local_global();
    } else if wanted & Scope::NonGlobal.bit() != 0 {
        flush_local();
    }
    mailbox.served.store(asked, Ordering::Release);
}
