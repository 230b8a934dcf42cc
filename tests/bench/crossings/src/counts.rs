//! The counters, and how they are written out.

use std::fmt::Write;
use std::sync::atomic::{AtomicU64, Ordering};

/// Hypercall numbers that are told apart.
pub const HYPERCALLS: usize = 64;

/// What is counted. QEMU adds to most of these itself, from translated code.
pub struct Counts {
    /// Instructions begun in the upper half outside the hypervisor's range, but for repeated string instructions: the guest
    /// kernel. None without a hypervisor: there they are ring 0's.
    pub kernel: AtomicU64,
    /// Instructions begun in the lower half, but for repeated string instructions: processes, and before there are any, firmware and boot loader.
    pub user: AtomicU64,
    /// Instructions begun in ring 0, but for repeated string instructions.
    pub ring0: AtomicU64,
    /// Steps of repeated string instructions in ring 0: an emulator begins the instruction anew for each.
    pub string_steps: AtomicU64,
    /// The same of guests.
    pub guest_string_steps: AtomicU64,
    /// Loads of CR3.
    pub cr3: AtomicU64,
    /// Loads of CR4: hypervisors flush global translations so.
    pub cr4: AtomicU64,
    /// `invlpg`.
    pub invlpg: AtomicU64,
    /// `in` and `out`.
    pub port_io: AtomicU64,
    /// Page-table entries that hypercalls were asked to write.
    pub table_writes: AtomicU64,
    /// System calls of processes that entered ring 0.
    pub syscalls: AtomicU64,
    /// Hypercalls by number; those above go to the last.
    pub hypercalls: [AtomicU64; HYPERCALLS],
    /// Exceptions and interrupts taken from a guest, by vector.
    pub vectors: [AtomicU64; 256],
    /// Entries that were neither.
    pub unexplained: AtomicU64,
}

impl Counts {
    /// All zero.
    pub const fn new() -> Self {
        Self {
            kernel: AtomicU64::new(0),
            user: AtomicU64::new(0),
            ring0: AtomicU64::new(0),
            string_steps: AtomicU64::new(0),
            guest_string_steps: AtomicU64::new(0),
            cr3: AtomicU64::new(0),
            cr4: AtomicU64::new(0),
            invlpg: AtomicU64::new(0),
            port_io: AtomicU64::new(0),
            table_writes: AtomicU64::new(0),
            syscalls: AtomicU64::new(0),
            hypercalls: [const { AtomicU64::new(0) }; HYPERCALLS],
            vectors: [const { AtomicU64::new(0) }; 256],
            unexplained: AtomicU64::new(0),
        }
    }

    /// All of them as one line of JSON, with the moment that they are written `at`.
    pub fn line(&self, at: &str) -> String {
        let get = |c: &AtomicU64| c.load(Ordering::Relaxed);
        let named = [
            ("kernel", &self.kernel),
            ("user", &self.user),
            ("ring0", &self.ring0),
            ("string_steps", &self.string_steps),
            ("guest_string_steps", &self.guest_string_steps),
            ("cr3", &self.cr3),
            ("cr4", &self.cr4),
            ("invlpg", &self.invlpg),
            ("port_io", &self.port_io),
            ("table_writes", &self.table_writes),
            ("syscalls", &self.syscalls),
            ("unexplained", &self.unexplained),
        ];
        let mut out = format!("{{\"at\":\"{at}\",");
        for (name, counter) in named {
            // Writing to a String cannot fail.
            let _ = write!(out, "\"{name}\":{},", get(counter));
        }
        for (name, counters) in [("hypercalls", &self.hypercalls[..]), ("vectors", &self.vectors[..])] {
            let list: Vec<_> = counters.iter().map(|c| get(c).to_string()).collect();
            let _ = write!(out, "\"{name}\":[{}],", list.join(","));
        }
        out.pop();
        out.push('}');
        out
    }
}
