//! What the plugin counts (tests/bench/crossings).

use std::path::Path;

use anyhow::Result;
use serde::Deserialize;

/// When the plugin writes a line.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq)]
#[serde(rename_all = "lowercase")]
pub enum At {
    /// The first code of ring 0: the hypervisor's, or Linux's without one.
    Entry,
    /// The first hypercall.
    Hypercall,
    /// The first system call that enters ring 0.
    Syscall,
    /// A system call `times`, which is a mark.
    Mark,
    /// The machine's end.
    End,
}

/// What the plugin has counted from the start to one moment.
#[derive(Clone, Debug, Deserialize)]
pub struct Counts {
    pub at: At,
    pub kernel: u64,
    pub user: u64,
    pub ring0: u64,
    pub string_steps: u64,
    pub guest_string_steps: u64,
    pub cr3: u64,
    pub cr4: u64,
    pub invlpg: u64,
    pub port_io: u64,
    /// Page-table entries that hypercalls were asked to write.
    pub table_writes: u64,
    pub syscalls: u64,
    pub unexplained: u64,
    pub hypercalls: Vec<u64>,
    pub vectors: Vec<u64>,
}

impl Counts {
    /// The lines of the plugin's file.
    ///
    /// # Errors
    /// If it cannot be read, or is not the plugin's.
    pub fn read(from: &Path) -> Result<Vec<Self>> {
        let text = std::fs::read_to_string(from)?;
        Ok(text.lines().map(serde_json::from_str).collect::<Result<_, _>>()?)
    }

    /// Those of `lines` that were written at one of `moments`, in their order.
    pub fn at(lines: &[Self], moments: &[At]) -> Vec<Self> {
        lines.iter().filter(|l| moments.contains(&l.at)).cloned().collect()
    }

    /// Instructions, wherever they were executed, but for the steps of repeated string instructions.
    pub fn instructions(&self) -> u64 {
        self.kernel + self.user + self.ring0
    }

    /// What was done since `earlier`.
    pub fn since(&self, earlier: &Self) -> Self {
        self.each(earlier, |now, before| now - before)
    }

    /// What this work took beyond `less` of the same. None if it took less in what all work takes; of all else there may be
    /// next to nothing, and some more by chance.
    pub fn beyond(&self, less: &Self) -> Option<Self> {
        let more = self.user > less.user && self.kernel + self.ring0 > less.kernel + less.ring0;
        more.then(|| self.each(less, u64::saturating_sub))
    }

    fn each(&self, other: &Self, of: impl Fn(u64, u64) -> u64) -> Self {
        let list = |a: &[u64], b: &[u64]| a.iter().zip(b).map(|(a, b)| of(*a, *b)).collect();
        Self {
            at: self.at,
            kernel: of(self.kernel, other.kernel),
            user: of(self.user, other.user),
            ring0: of(self.ring0, other.ring0),
            string_steps: of(self.string_steps, other.string_steps),
            guest_string_steps: of(self.guest_string_steps, other.guest_string_steps),
            cr3: of(self.cr3, other.cr3),
            cr4: of(self.cr4, other.cr4),
            invlpg: of(self.invlpg, other.invlpg),
            port_io: of(self.port_io, other.port_io),
            table_writes: of(self.table_writes, other.table_writes),
            syscalls: of(self.syscalls, other.syscalls),
            unexplained: of(self.unexplained, other.unexplained),
            hypercalls: list(&self.hypercalls, &other.hypercalls),
            vectors: list(&self.vectors, &other.vectors),
        }
    }

    pub fn vectors(&self, which: impl Fn(usize) -> bool) -> u64 {
        self.vectors.iter().enumerate().filter(|(vector, _)| which(*vector)).map(|(_, n)| n).sum()
    }

    pub fn page_faults(&self) -> u64 {
        self.vectors(|v| v == 14)
    }

    pub fn interrupts(&self) -> u64 {
        self.vectors(|v| v >= 32)
    }

    pub fn hypercalls(&self) -> u64 {
        self.hypercalls.iter().sum()
    }

    /// Entries to ring 0 from a guest.
    pub fn crossings(&self) -> u64 {
        self.syscalls + self.hypercalls() + self.vectors(|_| true)
    }

    /// The lines of a table.
    pub fn rows(&self) -> Vec<(String, u64)> {
        let mut rows = vec![
            ("crossings".to_string(), self.crossings()),
            ("  system calls".to_string(), self.syscalls),
            ("  page faults".to_string(), self.page_faults()),
            ("  other exceptions".to_string(), self.vectors(|v| v < 32 && v != 14)),
            ("  interrupts".to_string(), self.interrupts()),
            ("  hypercalls".to_string(), self.hypercalls()),
        ];
        rows.extend(self.hypercalls.iter().enumerate().map(|(nr, &n)| (format!("    {}", xen_abi::hypercall::name(nr as u64)), n)));
        rows.extend([
            ("loads of CR3".to_string(), self.cr3),
            ("loads of CR4".to_string(), self.cr4),
            ("invlpg".to_string(), self.invlpg),
            ("page-table entries by hypercall".to_string(), self.table_writes),
            ("in, out".to_string(), self.port_io),
            ("instructions: ring 0".to_string(), self.ring0),
            ("  guest kernel".to_string(), self.kernel),
            ("  processes".to_string(), self.user),
            ("ring 0 per crossing".to_string(), self.ring0 / self.crossings().max(1)),
        ]);
        rows
    }
}
