//! Single operations (tests/linux/ops) in every column, and the start before them.

use anyhow::{Context, Result, bail};

use super::super::column::Column;
use super::super::counted::{self, Operations};
use super::super::counts::{At, Counts};
use super::super::report::document::{Cell, Row};
use super::{LEFT_OUT, Wanted, quantities, why_not};

/// All runs of all columns.
#[derive(Default)]
pub struct Runs(Vec<(Column, Result<Vec<Operations>, String>)>);

/// What a row's values are taken from: its counts, and how often it was done.
type Work<'a> = (&'a Counts, f64);

/// Runs them all. What did not work in a column is the reason why that is empty.
pub fn run(wanted: &Wanted) -> Result<Runs> {
    let mut all = Vec::new();
    for (column, is_wanted) in wanted.columns() {
        if !is_wanted {
            all.push((column, Err(LEFT_OUT.to_string())));
            continue;
        }
        let runs = (0..wanted.runs.max(1)).map(|n| {
            // Where instructions go is told of the first run; it costs time, and no count.
            counted::operations(column, &format!("{}-{n}", column.name()), "", n == 0)
        });
        all.push((column, runs.collect::<Result<Vec<_>>>().map_err(|error| why_not(column, &error))));
    }
    if all.iter().all(|(_, runs)| runs.is_err()) {
        bail!("no column could be measured: {}", all.iter().filter_map(|(_, r)| r.as_ref().err()).next_back().context("no columns")?);
    }
    Ok(Runs(all))
}

/// What was counted from the first instruction of ring 0 to the first system call of a process.
pub fn start(lines: &[Counts]) -> Option<Counts> {
    let at = |moment| lines.iter().find(|l| l.at == moment);
    Some(at(At::Syscall)?.since(at(At::Entry)?))
}

impl Runs {
    /// The first run of a column.
    pub fn first(&self, column: &str) -> Option<&Operations> {
        self.0.iter().find(|(c, _)| c.name() == column)?.1.as_ref().ok()?.first()
    }

    /// The works: the start, and the operations in their order.
    fn works(&self) -> Vec<String> {
        let first = self.0.iter().find_map(|(_, runs)| runs.as_ref().ok()?.first());
        let names = first.into_iter().flat_map(|run| run.done.iter().map(|d| d.name.clone()));
        std::iter::once("start".to_string()).chain(names).collect()
    }

    fn cells(&self, name: &str, of: &dyn Fn(&Work<'_>) -> f64) -> Vec<Cell> {
        let column = |runs: &Result<Vec<Operations>, String>| match runs {
            Err(why) => Cell::none(why),
            Ok(runs) => {
                let values: Option<Vec<f64>> = runs.iter().map(|run| value(run, name, of)).collect();
                values.map_or_else(|| Cell::none("not among its operations"), |values| Cell::of(&values))
            }
        };
        self.0.iter().map(|(_, runs)| column(runs)).collect()
    }

    /// All rows.
    pub fn rows(&self) -> Vec<Row> {
        let works = self.works();
        let mut rows = Vec::new();
        let row = |what: &str, work: &String, cells| Row {
            part: "operation".into(),
            work: work.clone(),
            what: what.into(),
            unit: quantities::ONCE.into(),
            cells,
        };
        for (what, of) in quantities::ALL {
            for work in &works {
                let mut cells = self.cells(work, &|(counts, times)| of(counts) / times);
                if *what == quantities::TABLE_WRITES {
                    self.only_hypervisors(&mut cells);
                }
                rows.push(row(what, work, cells));
            }
        }
        let all: Vec<&Counts> = self.0.iter().filter_map(|(_, runs)| runs.as_ref().ok()).flatten().flat_map(|r| &r.counted.lines).collect();
        for (what, nr) in quantities::hypercalls(&all) {
            for work in &works {
                let of = |(counts, times): &Work<'_>| counts.hypercalls.get(nr).map_or(0.0, |n| *n as f64) / times;
                let cells = self.cells(work, &of);
                // A table of noughts says nothing; that an event needs no iret does.
                if cells.iter().any(|c| c.value().is_some_and(|v| v > 0.0)) {
                    rows.push(row(&what, work, cells));
                }
            }
        }
        rows
    }

    /// A kernel without a hypervisor asks nobody.
    fn only_hypervisors(&self, cells: &mut [Cell]) {
        for (cell, (column, runs)) in cells.iter_mut().zip(&self.0) {
            if *column == Column::Native && runs.is_ok() {
                *cell = Cell::none("a native kernel writes its page tables itself");
            }
        }
    }
}

/// The value of a work in one run.
fn value(run: &Operations, name: &str, of: &dyn Fn(&Work<'_>) -> f64) -> Option<f64> {
    if name == "start" {
        return Some(of(&(&start(&run.counted.lines)?, 1.0)));
    }
    let done = run.done.iter().find(|d| d.name == name)?;
    Some(of(&(&done.spent, done.times)))
}
