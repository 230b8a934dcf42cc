//! The trace ring: the last things that each CPU did, always on, shown by a panic and by a debug key.
//!
//! A record is five words; recording is a few stores to memory that only the own CPU writes. Readers of another CPU's
//! ring may see a record half-overwritten, which is good enough for diagnosis.

#![expect(clippy::cast_possible_truncation, reason = "indexes are taken modulo the ring")]

use core::sync::atomic::{AtomicU64, Ordering};

use crate::arch::x86_64::tsc;
use crate::percpu::{self, MAX_CPUS};

/// Records per CPU; a power of two.
const RECORDS: usize = 256;

macro_rules! ids {
    ($($(#[$doc:meta])* $name:ident($($arg:literal),*);)*) => {
        /// What a record is about.
        #[derive(Clone, Copy, Debug, Eq, PartialEq)]
        #[repr(u16)]
        pub enum Id {
            $($(#[$doc])* $name,)*
        }

        /// Each kind's name and the names of its arguments, by number.
        const NAMES: &[(&str, &[&str])] = &[$((stringify!($name), &[$($arg),*]),)*];
    };
}

ids! {
    /// An empty place of the ring.
    Nothing();
    /// A vCPU is switched in.
    Switch("domain", "vcpu");
    /// A hypercall is entered.
    Hypercall("number", "arg0", "arg1");
    /// A hypercall returns an error.
    HypercallError("number", "error", "arg0");
    /// An exception is bounced to its guest.
    Bounce("vector", "rip", "error");
    /// An event is delivered.
    Upcall("domain", "vcpu");
    /// A domain stops.
    DomainStop("domain", "reason");
    /// An NMI.
    Nmi();
    /// A system call of a process is a function call from now on.
    SitePatched("site", "pattern", "number");
    /// A system call of a process stays as it is.
    SiteRefused("site", "refusal", "number");
}

const _: () = assert!(Id::Nothing as u16 == 0, "zeroed memory is an empty ring");

struct Record([AtomicU64; 5]);

struct Ring {
    next: AtomicU64,
    records: [Record; RECORDS],
}

static RINGS: [Ring; MAX_CPUS] =
    [const { Ring { next: AtomicU64::new(0), records: [const { Record([const { AtomicU64::new(0) }; 5]) }; RECORDS] } }; MAX_CPUS];

/// Adds a record to this CPU's ring.
pub fn record(id: Id, a: u64, b: u64, c: u64) {
    let Some(ring) = RINGS.get(percpu::this().id as usize) else { return };
    let at = ring.next.load(Ordering::Relaxed);
    ring.next.store(at.wrapping_add(1), Ordering::Relaxed);
    let Some(Record([when, what, first, second, third])) = ring.records.get(at as usize % RECORDS) else { return };
    when.store(tsc::read(), Ordering::Relaxed);
    what.store(id as u64, Ordering::Relaxed);
    first.store(a, Ordering::Relaxed);
    second.store(b, Ordering::Relaxed);
    third.store(c, Ordering::Relaxed);
}

/// Shows the last `most` records of every CPU's ring, oldest first, a line each.
pub fn show(most: usize, mut line: impl FnMut(core::fmt::Arguments<'_>)) {
    for (cpu, ring) in RINGS.iter().enumerate() {
        let next = ring.next.load(Ordering::Relaxed);
        let first = next.saturating_sub(most.min(RECORDS) as u64);
        for at in first..next {
            let Some(Record(words)) = ring.records.get(at as usize % RECORDS) else { continue };
            let [tsc, id, args @ ..] = words.each_ref().map(|word| word.load(Ordering::Relaxed));
            if let Some((name, labels)) = NAMES.get(id as usize) {
                line(format_args!("trace: cpu {cpu} {tsc:#018x} {name}{}", Args(labels, args)));
            }
        }
    }
}

struct Args(&'static [&'static str], [u64; 3]);

impl core::fmt::Display for Args {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        self.0.iter().zip(self.1).try_for_each(|(label, value)| write!(f, " {label}={value:#x}"))
    }
}

/// Logs the newest records of every CPU.
pub fn dump() {
    show(RECORDS, |line| log::info!("{line}"));
}
