//! The goals that counts decide, by their numbers in the project's list of goals, and what came of each.

use super::document::{Cell, Document, Goal};

/// The column of X-Containers as they come.
pub const OURS: &str = "ABOM";
/// That of system calls before they are patched.
const TRAP: &str = "trap";

/// How a goal's count is made of rows.
enum Count {
    /// A quantity of some work.
    Of(&'static str, &'static str),
    /// The same, divided.
    Part(&'static str, &'static str, f64),
    /// A quantity of one work for each of another's.
    Ratio(&'static str, &'static str, &'static str),
    /// What is more than natively, in per cent.
    BeyondNative(&'static str, &'static str),
    /// What is more than in the column of system calls that trap.
    BeyondTrap(&'static str, &'static str),
    /// The smallest of all works that have it.
    Least(&'static str),
}

/// On which side of its limit a count is to be.
enum Limit {
    AtMost(f64),
    AtLeast(f64),
}

/// A goal: its number, what is counted, in which column it counts for us, and its limit.
struct Aim(u32, &'static str, &'static str, Count, Limit);

use Count::{BeyondNative, BeyondTrap, Least, Of, Part, Ratio};
use Limit::{AtLeast, AtMost};

const AIMS: &[Aim] = &[
    Aim(1, "null system call, patched: crossings", OURS, Of("getpid", "crossings"), AtMost(0.0)),
    Aim(1, "  instructions outside the body", "table", Of("getpid, a million", "instructions outside the body"), AtMost(45.0)),
    Aim(2, "system call that is not patched: crossings", TRAP, Of("getpid", "crossings"), AtMost(1.0)),
    Aim(2, "  loads of CR3", TRAP, Of("getpid", "loads of CR3"), AtMost(0.0)),
    Aim(2, "  instructions in ring 0", TRAP, Of("getpid", "instructions in ring 0"), AtMost(250.0)),
    Aim(
        2,
        "  instructions of a patch, at the first system call",
        OURS,
        BeyondTrap("first-call", "instructions outside the processes"),
        AtMost(5000.0),
    ),
    Aim(3, "system calls by call, %, the worst program", OURS, Least("system calls by call, %"), AtLeast(99.9)),
    Aim(5, "event: hypercalls to return from it", OURS, Of("timer-tick", "hypercall iret"), AtMost(0.0)),
    Aim(5, "  instructions of the way in and out", OURS, Of("timer-tick", "instructions of entry and exit"), AtMost(90.0)),
    Aim(6, "page fault: crossings", OURS, Of("page-fault", "crossings"), AtMost(2.0)),
    Aim(6, "  for each page, one after the other", OURS, Of("page-fault-sequential", "crossings"), AtMost(0.2)),
    Aim(7, "fork, exit, wait: crossings", OURS, Of("fork-exit-wait", "crossings"), AtMost(64.0)),
    Aim(7, "  of 64 MiB for each of little memory", OURS, Ratio("fork-exit-wait-64m", "fork-exit-wait", "crossings"), AtMost(2.0)),
    Aim(8, "fork, exec, wait: crossings", OURS, Of("fork-exec-wait", "crossings"), AtMost(150.0)),
    Aim(9, "switch between processes: crossings", OURS, Part("switch-processes", "crossings", 2.0), AtMost(1.0)),
    Aim(9, "  between threads", OURS, Part("switch-threads", "crossings", 2.0), AtMost(0.0)),
    Aim(10, "mmap, touch, munmap: crossings", OURS, Of("mmap-touch-munmap", "crossings"), AtMost(3.0)),
    Aim(11, "start: millions of instructions", OURS, Part("start", "instructions", 1e6), AtMost(40.0)),
    Aim(13, "memory of an idle container, MiB", OURS, Part("100 containers", "KiB that an idle container takes", 1024.0), AtMost(6.0)),
    Aim(20, "arithmetic: instructions beyond native, %", OURS, BeyondNative("compute", "instructions"), AtMost(0.5)),
];

/// What the clock's ticks during an operation add to its crossings, which is no part of it.
const TICKS: f64 = 0.005;

impl Count {
    fn in_column(&self, document: &Document, column: &str) -> Cell {
        let scaled = |cell: Cell, by: f64| match cell {
            Cell::Measured { value, spread } => Cell::Measured { value: value / by, spread },
            none @ Cell::NotMeasured { .. } => none,
        };
        match *self {
            Self::Of(work, what) => document.cell(work, what, column),
            Self::Part(work, what, by) => scaled(document.cell(work, what, column), by),
            Self::Ratio(work, of, what) => match document.cell(of, what, column) {
                Cell::Measured { value, .. } if value > 0.0 => scaled(document.cell(work, what, column), value),
                _ => Cell::none("nothing to compare with"),
            },
            Self::BeyondNative(work, what) => {
                match (document.cell(work, what, column).value(), document.cell(work, what, "native").value()) {
                    (Some(value), Some(native)) if native > 0.0 => Cell::of(&[(value / native - 1.0) * 100.0]),
                    _ => Cell::none("it was not measured natively"),
                }
            }
            Self::BeyondTrap(work, what) => {
                let trap = document.cell(work, what, TRAP);
                match (document.cell(work, what, column).value(), trap.value()) {
                    (Some(value), Some(trap)) if column == OURS => Cell::of(&[value - trap]),
                    _ => Cell::none("nothing is patched there"),
                }
            }
            Self::Least(what) => {
                let cells = document.rows.iter().filter(|r| r.what == what).map(|r| document.cell(&r.work, what, column));
                let least = cells.filter_map(|c| c.value()).reduce(f64::min);
                least.map_or_else(|| Cell::none("no program was run"), |least| Cell::of(&[least]))
            }
        }
    }
}

/// What came of each goal.
pub fn judge(document: &Document) -> Vec<Goal> {
    let judged = AIMS.iter().map(|Aim(number, what, column, count, limit)| {
        let ours = count.in_column(document, column);
        let (goal, met) = match *limit {
            AtMost(most) => (format!("≤ {most}"), ours.value().map(|v| v <= most + TICKS)),
            AtLeast(least) => (format!("≥ {least}"), ours.value().map(|v| v >= least)),
        };
        let peers = document.columns.iter().map(|c| count.in_column(document, &c.name)).collect();
        Goal { number: *number, what: (*what).into(), goal, ours, peers, met }
    });
    judged.collect()
}

/// Work whose goal was missed, with the column that it counts in: what a profile is to explain.
pub fn missed(goals: &[Goal]) -> Vec<(&'static str, &'static str)> {
    let mut found = Vec::new();
    for (goal, Aim(_, _, column, count, _)) in goals.iter().zip(AIMS) {
        let work = match *count {
            Of(work, _) | Part(work, ..) | Ratio(work, ..) | BeyondNative(work, _) | BeyondTrap(work, _) => work,
            Least(_) => continue,
        };
        if goal.met == Some(false) && !found.contains(&(*column, work)) {
            found.push((*column, work));
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::super::document::tests::example;
    use super::*;

    fn goal<'a>(goals: &'a [Goal], what: &str) -> &'a Goal {
        goals.iter().find(|g| g.what == what).expect("it is in the list")
    }

    #[test]
    fn goals_are_met_missed_or_not_measured() {
        let mut document = example();
        let goals = judge(&document);
        let first = goal(&goals, "null system call, patched: crossings");
        assert_eq!((first.met, first.peers[0].value()), (Some(true), Some(1.0)));
        assert_eq!(goal(&goals, "fork, exec, wait: crossings").met, None);
        document.rows[0].cells[1] = Cell::of(&[1.0]);
        let goals = judge(&document);
        assert_eq!(goal(&goals, "null system call, patched: crossings").met, Some(false));
        assert_eq!(missed(&goals), [(OURS, "getpid")]);
    }
}
