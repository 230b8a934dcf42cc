//! Where the instructions of some work went, by function.

use anyhow::{Context, Result};

use super::super::column::Column;
use super::super::counted::Operations;
use super::super::counts::At;
use super::super::profile::{self, Symbols};
use super::super::report::document::{Cell, Profile, Row};
use super::operations::Runs;
use super::{quantities, single};
use crate::build::{self, Profile as Build};
use crate::linux;

/// Functions that are listed.
const LISTED: usize = 16;
/// Code of X-LibOS that an event goes through on its way in and out, which is the same as an exception's.
const ENTRIES: &[&str] =
    &["xlibos_", "xen_asm_exc_", "asm_exc_xen_hypervisor_callback", "xen_error_entry", "error_return", "xenpv_restore_regs"];

/// The symbols of X-LibOS and of the X-Kernel.
fn symbols() -> Result<Symbols> {
    let kernel = Symbols::of_linux(&linux::build("libos")?.join("vmlinux"))?;
    Ok(kernel.and(Symbols::of_x_kernel(&build::x_kernel(Build::Release)?)?))
}

/// Instructions by function of some work, each time.
fn functions(run: &Operations, work: &str, symbols: &Symbols) -> Result<Vec<(String, f64)>> {
    let (lines, times) = if work == "start" {
        let at = |moment| run.counted.lines.iter().position(|l| l.at == moment).context("the start was not seen");
        // The line at the entry ends what was before it.
        (at(At::Entry)? + 1..=at(At::Syscall)?, 1.0)
    } else {
        let done = run.done.iter().find(|d| d.name == work).with_context(|| format!("there is no {work}"))?;
        (done.line..=done.line, done.times)
    };
    let blocks = profile::part(&run.counted, lines)?;
    Ok(symbols.by_function(&blocks).into_iter().map(|(name, count)| (name, count as f64 / times)).collect())
}

/// Profiles of the works, each with its column.
pub fn of(works: &[(&'static str, &'static str)], runs: &Runs) -> Result<Vec<Profile>> {
    let mut profiles = Vec::new();
    let works: Vec<_> = works.iter().filter_map(|(column, work)| Some((column, work, runs.first(column)?))).collect();
    if works.is_empty() {
        return Ok(profiles);
    }
    let symbols = symbols()?;
    for (column, work, run) in works {
        let mut functions = functions(run, work, &symbols)?;
        let others = functions.split_off(functions.len().min(LISTED)).iter().map(|(_, n)| n).sum();
        profiles.push(Profile { column: (*column).into(), work: (*work).into(), functions, others });
    }
    Ok(profiles)
}

/// What the way in and out takes of an event: the instructions of X-LibOS's entries in a tick of the clock.
pub fn entries(runs: &Runs) -> Result<Vec<Row>> {
    let Some(run) = runs.first(Column::Abom.name()) else { return Ok(Vec::new()) };
    let all = functions(run, "timer-tick", &symbols()?)?;
    let sum: f64 = all.iter().filter(|(name, _)| ENTRIES.iter().any(|e| name.starts_with(e))).map(|(_, n)| n).sum();
    let why = "told apart by X-LibOS's own symbols";
    let what = "instructions of entry and exit";
    Ok(vec![single("operation", "timer-tick", what, quantities::ONCE, Column::Abom, Cell::of(&[sum]), why)])
}
