//! Counters of what the X-Kernel does: per CPU and per domain.
//!
//! Counting is the instrument by which speed is judged here, so these are always on. A CPU's own counters are
//! plain cells; a domain's are relaxed atomics, because any CPU may run it.

use core::cell::Cell;
use core::sync::atomic::{AtomicU64, Ordering};

/// How many hypercall numbers are counted.
pub const HYPERCALLS: usize = 64;

/// A domain's counter.
#[derive(Debug, Default)]
pub struct Counter(AtomicU64);

impl Counter {
    /// A counter at zero.
    pub const fn new() -> Self {
        Self(AtomicU64::new(0))
    }

    /// Adds one.
    pub fn bump(&self) {
        self.add(1);
    }

    /// Adds `n`.
    pub fn add(&self, n: u64) {
        self.0.fetch_add(n, Ordering::Relaxed);
    }

    /// The count so far.
    pub fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// One CPU's counters.
#[derive(Debug, Default)]
pub struct CpuCounters {
    /// Loads of CR3.
    pub cr3_loads: Cell<u64>,
    /// Switches from one vCPU to another.
    pub switches: Cell<u64>,
    /// Interrupts taken, from a guest or in the X-Kernel.
    pub interrupts: Cell<u64>,
}

impl CpuCounters {
    /// All zero.
    pub const fn new() -> Self {
        Self { cr3_loads: Cell::new(0), switches: Cell::new(0), interrupts: Cell::new(0) }
    }
}

/// Adds one to a CPU's counter.
pub fn bump(cell: &Cell<u64>) {
    cell.set(cell.get().wrapping_add(1));
}

macro_rules! dom_counters {
    ($($(#[$doc:meta])* $name:ident,)*) => {
        /// One domain's counters.
        #[derive(Debug)]
        pub struct DomCounters {
            /// Hypercalls by number.
            pub hypercalls: [Counter; HYPERCALLS],
            $($(#[$doc])* pub $name: Counter,)*
        }

        impl DomCounters {
            /// All zero.
            pub const fn new() -> Self {
                Self {
                    hypercalls: [const { Counter::new() }; HYPERCALLS],
                    $($name: Counter::new(),)*
                }
            }

            /// Every counter but the hypercalls', by name.
            pub fn each(&self, mut f: impl FnMut(&'static str, u64)) {
                $(f(stringify!($name), self.$name.get());)*
            }
        }
    };
}

dom_counters! {
    /// Entries to ring 0, whatever the reason.
    crossings,
    /// System calls of user mode that trapped and were bounced to the guest kernel.
    syscalls_trap,
    /// System calls of user mode by function call, as the guest kernel has counted them; known when the domain ends.
    syscalls_call,
    /// Page faults taken, of either mode.
    page_faults,
    /// Exceptions bounced to the guest kernel, page faults included.
    exceptions_bounced,
    /// Upcalls delivered.
    upcalls,
    /// Page-table writes of the guest kernel that faulted and were emulated.
    pt_writes_emulated,
    /// Privileged instructions emulated.
    instructions_emulated,
    /// Switches between the guest's kernel and user page tables.
    mode_switches,
    /// CR3 loads made for this domain.
    cr3_loads,
    /// TLB flushes that the domain asked for.
    flushes_asked,
    /// Page-table entries changed by hypercall.
    pt_entries_updated,
    /// Hypercalls that came in a multicall: they are counted by number, and crossed nothing.
    multicall_calls,
    /// Hypercalls that were preempted and went on later.
    continuations,
    /// Device and timer interrupts that arrived while the domain ran.
    interrupts,
    /// Nanoseconds that the domain ran.
    ran_ns,
}
