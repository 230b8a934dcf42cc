//! What is made of the plugin's counts.

use super::super::counts::Counts;

/// What values are for, where work is done again and again.
pub const ONCE: &str = "each time";

/// Iret, by its number: how a PV guest returns from an event.
const IRET: u64 = 23;

/// A quantity: its name, and its value in counts.
pub type Quantity = (&'static str, fn(&Counts) -> f64);

/// All, in the order of the tables.
pub const ALL: &[Quantity] = &[
    ("crossings", |c| c.crossings() as f64),
    ("loads of CR3", |c| c.cr3 as f64),
    (TABLE_WRITES, |c| c.table_writes as f64),
    ("hypercalls", |c| c.hypercalls() as f64),
    ("instructions outside the processes", |c| (c.kernel + c.ring0) as f64),
    ("instructions in ring 0", |c| c.ring0 as f64),
    ("instructions", |c| c.instructions() as f64),
    ("steps of repeated string instructions", |c| (c.string_steps + c.guest_string_steps) as f64),
];

/// The one that a native kernel has none of.
pub const TABLE_WRITES: &str = "page-table entries by hypercall";

/// Hypercalls by name, those that there were any of, and iret in any case.
pub fn hypercalls(all: &[&Counts]) -> Vec<(String, usize)> {
    let count = all.iter().map(|c| c.hypercalls.len()).max().unwrap_or(0);
    let some = |nr: &usize| *nr as u64 == IRET || all.iter().any(|c| c.hypercalls.get(*nr).is_some_and(|n| *n > 0));
    (0..count).filter(some).map(|nr| (format!("hypercall {}", xen_abi::hypercall::name(nr as u64)), nr)).collect()
}
