//! Debian's programs under load (tests/workloads/load.sh), in a container that is the same in every column.

use anyhow::{Context, Result, ensure};

use super::super::MACHINE_MIB;
use super::super::column::Column;
use super::super::counted;
use super::super::counts::Counts;
use super::super::report::document::{Cell, Row};
use super::{LEFT_OUT, Wanted, quantities, single, why_not};
use crate::build;
use crate::container::{Container, ContainerArgs};

/// What values are for.
const REQUEST: &str = "each request";

/// Requests that were made, and what they took: by program, in the order of the script.
type Loads = Vec<(String, f64, Counts)>;

/// What the second load of each program took beyond the first.
fn beyond(stretches: &[counted::Done]) -> Result<Loads> {
    let mut loads = Loads::new();
    for pair in stretches.chunks(2) {
        let [less, more] = pair else { anyhow::bail!("a program was under load once") };
        ensure!(less.name == more.name && more.times > less.times, "the second load of {} is no more of the same", less.name);
        let spent = more.spent.beyond(&less.spent).with_context(|| format!("{}: more requests took less", less.name))?;
        loads.push((less.name.replace('_', " "), more.times - less.times, spent));
    }
    Ok(loads)
}

/// Where programs come from, and the scripts of tests/workloads that put them under load.
const SCRIPTS: [(&str, &str); 2] = [("debian:workloads", "load.sh"), ("debian:compiler", "compile.sh")];

/// One run in one column.
fn once(column: Column, run: u32) -> Result<Loads> {
    let loads = SCRIPTS.iter().map(|(rootfs, script)| under_load(column, rootfs, script, run)).collect::<Result<Vec<_>>>()?;
    Ok(loads.into_iter().flatten().collect())
}

fn under_load(column: Column, rootfs: &str, script: &str, run: u32) -> Result<Loads> {
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
pub fn rows(wanted: &Wanted) -> Result<Vec<Row>> {
    let columns = wanted.columns().map(|(column, is_wanted)| match (is_wanted, column.has_programs()) {
        (_, false) => Err("programs that are not ours call no table by themselves".to_string()),
        (false, _) => Err(LEFT_OUT.to_string()),
        _ => (0..wanted.runs.max(1)).map(|run| once(column, run)).collect::<Result<Vec<_>>>().map_err(|error| why_not(column, &error)),
    });
    let mut works: Vec<&String> = Vec::new();
    for (name, ..) in columns.iter().flatten().flatten().flatten() {
        if !works.contains(&name) {
            works.push(name);
        }
    }
    let values = |column: &Result<Vec<Loads>, String>, work: &str, of: &dyn Fn(&Counts) -> f64| match column {
        Err(why) => Cell::none(why),
        Ok(runs) => {
            let all = runs.iter().flatten().filter(|(name, ..)| name == work);
            Cell::of(&all.map(|(_, requests, spent)| of(spent) / requests).collect::<Vec<_>>())
        }
    };
    let mut rows = Vec::new();
    for (what, of) in quantities::ALL.iter().chain(&[(BY_TRAP, (|c| c.syscalls as f64) as fn(&Counts) -> f64)]) {
        for work in &works {
            let cells = columns.iter().map(|column| values(column, work, of)).collect();
            rows.push(Row { part: "program".into(), work: (*work).clone(), what: (*what).into(), unit: REQUEST.into(), cells });
        }
    }
    Ok(rows)
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
