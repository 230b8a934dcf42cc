//! Debian's programs under load (tests/workloads/load.sh), in a container that is the same in every column.

use anyhow::{Context, Result, ensure};

use super::super::MACHINE_MIB;
use super::super::column::Column;
use super::super::counted::{self, Done};
use super::super::report::document::{Cell, Row};
use super::quantities::{self, Quantity};
use super::work::{self, Work};
use super::{Wanted, single};
use crate::build;
use crate::container::{Container, ContainerArgs};

/// What values are for.
const REQUEST: &str = "each request";

/// What the second load of each program took beyond the first: requests, by program, in the order of the script.
fn beyond(stretches: &[Done]) -> Result<Vec<Done>> {
    let mut loads = Vec::new();
    for pair in stretches.chunks(2) {
        let [less, more] = pair else { anyhow::bail!("a program was under load once") };
        ensure!(less.name == more.name && more.times > less.times, "the second load of {} is no more of the same", less.name);
        let spent = more.spent.beyond(&less.spent).with_context(|| format!("{}: more requests took less", less.name))?;
        loads.push(Done { name: less.name.replace('_', " "), times: more.times - less.times, spent, line: more.line });
    }
    Ok(loads)
}

/// Where programs come from, and the scripts of tests/workloads that put them under load.
const SCRIPTS: [(&str, &str); 2] = [("debian:workloads", "load.sh"), ("debian:compiler", "compile.sh")];

/// One run in one column.
fn once(column: Column, run: u32) -> Result<Vec<Done>> {
    let loads = SCRIPTS.iter().map(|(rootfs, script)| under_load(column, rootfs, script, run)).collect::<Result<Vec<_>>>()?;
    Ok(loads.into_iter().flatten().collect())
}

fn under_load(column: Column, rootfs: &str, script: &str, run: u32) -> Result<Vec<Done>> {
    let mut args = ContainerArgs { rootfs: vec![rootfs.into()], ..ContainerArgs::workloads() };
    args.add.push(format!("{}:/ops", build::programs()?.join("ops").display()));
    let container = Container::new(&args, &["/bin/bash".into(), format!("/workloads/{script}")])?;
    container.fits(MACHINE_MIB, None)?;
    let (place, name) = (column.place(), format!("programs-{}-{script}-{run}", column.name()));
    let boot = place.boot(column.kernel(), &container.script(), &name, column.abom())?;
    eprintln!("xtask: programs of {script}, {}, with an instruction as the clock: some minutes", column.name());
    let counted = counted::run(boot, &name, place.plugin_options(), false)?;
    ensure!(counted.ended.log.lines().any(|l| l == "VERDICT SUCCESS"), "the programs did not do their work");
    beyond(&counted.stretches("LOAD ")?)
}

/// Entries to ring 0 by a process's system call.
const BY_TRAP: &str = "system calls by trap";

/// Rows of all quantities, and how many system calls are function calls.
pub fn rows(wanted: &Wanted) -> Vec<Row> {
    let by_trap: Quantity = (BY_TRAP, |c| c.syscalls as f64);
    let work = Work {
        part: "program",
        unit: REQUEST,
        quantities: &[quantities::ALL, &[by_trap]].concat(),
        none: |column| (!column.has_programs()).then_some("programs that are not ours call no table by themselves"),
        once,
    };
    work::rows(wanted, &work)
}

/// What the rows of programs under load have of system calls that are function calls.
const BY_CALL: &str = "system calls by call, %";

/// Rows of [`BY_CALL`], made of those of system calls that trap; such as there are in `rows` go.
pub fn by_call(rows: &mut Vec<Row>) -> Vec<Row> {
    rows.retain(|r| r.what != BY_CALL);
    let traps = rows.iter().filter(|r| r.what == BY_TRAP);
    let row = |traps: &Row| {
        let why = "there is no ABOM";
        single(&traps.part, &traps.work, BY_CALL, &traps.unit, Column::Abom, share(traps), why)
    };
    traps.map(row).collect()
}

/// How many of the system calls that trap with ABOM off do not with it on, in per cent.
fn share(by_trap: &Row) -> Cell {
    let traps = |column: Column| by_trap.cells.get(column as usize).and_then(Cell::value);
    match (traps(Column::Trap), traps(Column::Abom)) {
        (Some(off), Some(on)) if off > 0.0 => Cell::of(&[100.0 * (1.0 - on / off)]),
        _ => Cell::none("this takes both columns, ABOM off and on"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(cells: [f64; 6]) -> Row {
        let cells = cells.map(|v| Cell::of(&[v])).into();
        Row { part: "program".into(), work: "a server".into(), what: "system calls by trap".into(), unit: REQUEST.into(), cells }
    }

    #[test]
    fn calls_are_what_traps_no_more() {
        let mut rows = vec![row([8.0, 8.0, 8.0, 8.0, 8.0, 0.5])];
        let first = by_call(&mut rows);
        assert_eq!(first[0].cells[Column::Abom as usize].value(), Some(93.75));
        assert_eq!(first[0].cells[0].value(), None);
        rows.extend(first);
        assert_eq!(by_call(&mut rows).len(), 1);
        assert_eq!(rows.len(), 1);
    }
}
