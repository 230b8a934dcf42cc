//! Which figures there are.

use super::chart::Chart;
use super::document::Document;

/// A figure.
pub struct Figure {
    /// Its file's.
    pub name: String,
    pub svg: String,
}

/// Works that are shown side by side, and how people call them.
type Works = &'static [(&'static str, &'static str)];

const CALLS: Works = &[
    ("getpid", "getpid"),
    ("read-zero", "read a byte"),
    ("write-null", "write a byte"),
    ("futex-wake", "futex wake"),
    ("epoll-ready", "epoll wait"),
    ("signal-self", "signal"),
];
const SWITCHES: Works = &[
    ("pipe-round-trip", "pipe, there and back"),
    ("futex-round-trip", "futex, there and back"),
    ("switch-processes", "two switches of processes"),
    ("switch-threads", "two switches of threads"),
    ("timer-tick", "tick of the clock"),
];
const PROCESSES: Works = &[
    ("fork-exit-wait", "fork, exit"),
    ("fork-exit-wait-64m", "fork, exit, 64 MiB"),
    ("fork-exec-wait", "fork, exec, exit"),
    ("mmap-touch-munmap", "map, touch, unmap"),
    ("mmap-touch-munmap-16", "the same, 16 pages"),
    ("page-fault", "page fault"),
    ("page-fault-sequential", "page fault, in order"),
    ("page-fault-file", "page fault, file"),
];
/// Programs, all that there are.
const PROGRAMS: Works = &[];

/// A figure: its name, its title, what is counted, of which works, and what counts as nothing.
type Plan = (&'static str, &'static str, &'static str, Works, f64);

const PLANS: &[Plan] = &[
    ("crossings-calls", "System calls: entries to ring 0", "crossings", CALLS, 0.05),
    ("crossings-switches", "Switches and events: entries to ring 0", "crossings", SWITCHES, 0.05),
    ("crossings-processes", "Processes and memory: entries to ring 0", "crossings", PROCESSES, 0.05),
    ("instructions-calls", "System calls: instructions of kernel and hypervisor", OUTSIDE, CALLS, 1.0),
    ("instructions-switches", "Switches and events: instructions of kernel and hypervisor", OUTSIDE, SWITCHES, 1.0),
    ("instructions-processes", "Processes and memory: instructions of kernel and hypervisor", OUTSIDE, PROCESSES, 1.0),
    ("cr3-switches", "Switches and events: loads of CR3", "loads of CR3", SWITCHES, 0.05),
    (
        "tables-processes",
        "Processes and memory: page-table entries written by hypercall",
        "page-table entries by hypercall",
        PROCESSES,
        0.05,
    ),
    ("crossings-programs", "Programs: entries to ring 0", "crossings", PROGRAMS, 0.05),
    ("instructions-programs", "Programs: instructions, their own included", "instructions", PROGRAMS, 1.0),
];
const OUTSIDE: &str = "instructions outside the processes";

/// All that there are rows for.
pub fn all(document: &Document) -> Vec<Figure> {
    PLANS.iter().filter_map(|plan| figure(document, plan)).collect()
}

fn figure(document: &Document, &(name, title, what, works, least): &Plan) -> Option<Figure> {
    let values = |row: &super::document::Row| row.cells.iter().map(super::document::Cell::value).collect::<Vec<_>>();
    let mut groups = Vec::new();
    if works.is_empty() {
        let rows = document.rows.iter().filter(|r| r.part == "program" && r.what == what);
        groups.extend(rows.map(|row| (row.work.clone(), values(row))));
    }
    groups.extend(works.iter().filter_map(|(work, label)| Some(((*label).to_string(), values(document.row(work, what)?)))));
    if groups.is_empty() {
        return None;
    }
    let note = if works.is_empty() { "for each request" } else { "each time" };
    let mut series: Vec<_> = document.columns.iter().map(|c| c.name.clone()).enumerate().collect();
    // Programs have no place in the column of those that call the table themselves.
    if works.is_empty()
        && let Some(table) = document.columns.iter().position(|c| c.name == "table")
    {
        series.remove(table);
        groups.iter_mut().for_each(|(_, values)| _ = values.remove(table));
    }
    let svg = Chart { title, note, series, groups, least }.svg();
    Some(Figure { name: name.into(), svg })
}

#[cfg(test)]
mod tests {
    use super::super::document::tests::example;
    use super::*;

    #[test]
    fn figures_are_of_rows_that_are_there() {
        let figures = all(&example());
        assert_eq!(figures.iter().map(|f| f.name.as_str()).collect::<Vec<_>>(), ["crossings-calls"]);
        assert!(figures[0].svg.contains("getpid"));
    }
}
