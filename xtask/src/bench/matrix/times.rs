//! Operations by the clock, where the host has hardware virtualization that can be used: an emulator's time says nothing.
//!
//! The columns run in turns, so that what else the host does falls on all of them, and the middle of the runs counts. The
//! kernels are the counted ones, which have no mitigations, and neither have the hypervisors. Each entry to the machine that
//! leaves it for the host costs what the host makes of it: the same in all columns, but not as often.

use std::time::Duration;

use anyhow::{Context, Result, bail};

use super::super::column::Column;
use super::super::report::document::{Cell, Row, TIMES};
use super::super::{machine, to_the_end};
use super::{LEFT_OUT, Wanted, quantities};
use crate::initrd::Script;
use crate::qemu::{self, Machine};

/// How often each column runs.
const RUNS: usize = 5;
/// How long the host may take to show that it can.
const PROBE: Duration = Duration::from_secs(30);
/// What is measured, and its unit.
const WHAT: &str = "nanoseconds";

/// A machine that runs `arguments` of tests/linux/ops in a column, on the host's processor.
fn ops(column: Column, arguments: &str, timeout: Option<Duration>) -> Result<Machine> {
    let name = format!("times-{}", column.name());
    let boot = column.place().boot(column.kernel(), &Script::Program(format!("ops {arguments}")), &name, column.abom())?;
    let machine = machine(boot, &name)?;
    Ok(Machine { cpu: qemu::HOST_CPU.into(), timeout: timeout.or(machine.timeout), ..machine })
}

/// Whether the host's hardware virtualization runs a Linux: that of the first column that is wanted.
///
/// # Errors
/// Why not, in a line.
pub fn usable(wanted: &Wanted) -> Result<(), String> {
    let why =
        |error: &str| format!("an emulator's time says nothing, and there is no hardware virtualization here that can be used ({error})");
    std::fs::OpenOptions::new().read(true).write(true).open("/dev/kvm").map_err(|error| why(&format!("/dev/kvm: {error}")))?;
    let probe = || {
        eprintln!("xtask: trying hardware virtualization");
        let column = wanted.columns().into_iter().find(|(_, wanted)| *wanted).context("no column is wanted")?.0;
        let machine = ops(column, "library loop=1", Some(PROBE))?;
        let ended = qemu::run(&machine)?;
        if !ended.log.lines().any(|l| l.starts_with("OPS loop ")) {
            eprintln!("xtask: no Linux started with it; the log is {}", machine.log.display());
            bail!("a Linux did not start with it in {} s", PROBE.as_secs());
        }
        Ok(())
    };
    probe().map_err(|error: anyhow::Error| why(&format!("{error:#}")))
}

/// Operations, and the nanoseconds that each took, by the lines of tests/linux/ops: a name, how often, nanoseconds.
fn times(log: &str) -> Vec<(String, f64)> {
    let line = |l: &str| {
        let mut words = l.split_once("OPS ")?.1.split_whitespace();
        let (name, count, spent) = (words.next()?, words.next()?.parse::<f64>().ok()?, words.next()?.parse::<f64>().ok()?);
        (count > 0.0).then(|| (name.to_string(), spent / count))
    };
    log.lines().filter_map(line).collect()
}

/// All rows.
pub fn rows(wanted: &Wanted) -> Result<Vec<Row>> {
    let columns = wanted.columns();
    let mut all: Vec<(Column, Vec<(String, f64)>)> = Vec::new();
    for run in 0..RUNS {
        let mut order: Vec<Column> = columns.iter().filter(|(_, wanted)| *wanted).map(|(column, _)| *column).collect();
        if run % 2 == 1 {
            order.reverse();
        }
        for column in order {
            eprintln!("xtask: operations by the clock, {}, {} of {RUNS}", column.name(), run + 1);
            let ended = to_the_end(&ops(column, column.calls(), None)?)?;
            let found = times(&ended.log);
            all.push((column, found));
        }
    }
    let (_, first) = all.first().context("no column is wanted")?;
    let row = |(work, _): &(String, f64)| {
        let cell = |(column, wanted): &(Column, bool)| {
            if !wanted {
                return Cell::none(LEFT_OUT);
            }
            let runs = all.iter().filter(|(c, _)| c == column).flat_map(|(_, times)| times).filter(|(name, _)| name == work);
            Cell::of(&runs.map(|(_, time)| *time).collect::<Vec<_>>())
        };
        let cells = columns.iter().map(cell).collect();
        Row { part: TIMES.into(), work: work.clone(), what: WHAT.into(), unit: quantities::ONCE.into(), cells }
    };
    Ok(first.iter().map(row).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_read_from_the_log() {
        let log = "OPS loop 20 1000\nnoise\n[d1] OPS getpid 10 2500\nOPS old 7\nOPS none 0 5\n";
        assert_eq!(times(log), [("loop".to_string(), 50.0), ("getpid".to_string(), 250.0)]);
    }
}
