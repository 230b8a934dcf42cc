//! Checks that a system call through the table is what the `syscall` instruction is: `calls [GROUP…]`.
//!
//! Most checks do the same thing in both ways and compare. Where the two differ by contract (x-calls/include/x-calls.h),
//! the contract is what is wanted. Wherever something may die or hang, a child does it.

#![expect(unsafe_code, reason = "system calls, and what becomes of registers, stacks and memory in them")]
// UNSAFETY: raw system calls and their registers are what is checked.

mod creation;
mod filters;
mod kernel_log;
mod legacy;
mod numbers;
mod registers;
mod restarts;
mod segments;
mod signals;
mod sites;
mod stacks;
mod stepping;
mod tracing;

use std::process::ExitCode;

use linux_programs::{child, report, way};
use report::Report;
use way::Ways;

/// Checks of one concept.
type Group = fn(&mut Report, Ways);

/// What is checked, in this order: what is most likely to end the kernel comes last.
const GROUPS: &[(&str, Group)] = &[
    ("registers", registers::check),
    ("restarts", restarts::check),
    ("signals", signals::check),
    ("creation", creation::check),
    ("stepping", stepping::check),
    ("tracing", tracing::check),
    ("stacks", stacks::check),
    ("legacy", legacy::check),
    ("segments", segments::check),
    ("filters", filters::check),
    ("numbers", numbers::check),
    ("kernel-log", kernel_log::check),
];

fn main() -> ExitCode {
    let wanted: Vec<String> = std::env::args().skip(1).collect();
    if let [word, status] = wanted.as_slice()
        && word == creation::EXIT
    {
        return ExitCode::from(status.parse::<u8>().unwrap_or(1));
    }
    let mut report = Report::default();
    match Ways::find() {
        Some(ways) => {
            for (name, check) in GROUPS.iter().filter(|(name, _)| wanted.is_empty() || wanted.iter().any(|w| w == name)) {
                report.group(name, |report| check(report, ways));
            }
        }
        None => report.check("table", "there is none", "bit 31 of AT_HWCAP2"),
    }
    report.verdict()
}
