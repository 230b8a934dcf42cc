//! Containers side by side: what each takes, and what operations take in one while others are idle beside it.

use anyhow::{Context, Result, ensure};

use super::super::column::Column;
use super::super::containers::{COUNTS, Many, idle};
use super::super::counted::{self, Done};
use super::super::report::document::{Cell, Row};
use super::{Wanted, quantities, single};
use crate::build;

/// Why the other columns are empty.
const ELSEWHERE: &str = "containers are X-LibOS on the X-Kernel";
/// Operations that are counted beside others.
const OPERATIONS: &str = "getpid pipe-round-trip switch-processes fork-exit-wait fork-exec-wait page-fault";
/// What they touch, and some, in MiB.
const ROOM_MIB: u64 = 20;
/// The part, and what a row of it is called.
const PART: &str = "scale";
pub const ALONE: &str = "1 container";

/// Rows of [`ALONE`] and more.
fn work(count: u32) -> String {
    if count == 1 { ALONE.into() } else { format!("{count} containers") }
}

/// What is kept of memory.
pub const MEMORY: &str = "KiB that an idle container takes";

/// What each container takes when all are idle.
fn each(count: u32) -> Result<Vec<Row>> {
    let row = idle(count)?;
    let (own, ours) = row.kib();
    let found = [
        (MEMORY, (own + ours) as f64),
        ("KiB of the X-Kernel for it", ours as f64),
        ("millions of instructions to build its domain", row.millions_each(row.built)),
        ("millions of instructions until it is idle", row.millions_each(row.started)),
    ];
    let row = |(what, value): (&str, f64)| single(PART, &work(count), what, "each", Column::Abom, Cell::of(&[value]), ELSEWHERE);
    Ok(found.into_iter().map(row).collect())
}

/// What operations take in the first of `count` containers, when the others are idle.
fn beside(count: u32) -> Result<Vec<Done>> {
    // One that is alone has no number in its name.
    let others = "*-[2-9]|*-[1-9][0-9]|*-[1-9][0-9][0-9]) sleep 140;;";
    let command = format!("read name < /proc/sys/kernel/hostname; case $name in {others} *) sleep 100; /ops library {OPERATIONS};; esac");
    let many = Many::new("scale", count, &command, &[format!("{}:/ops", build::programs()?.join("ops").display())], ROOM_MIB)?;
    eprintln!("xtask: operations in one of {count} containers, with an instruction as the clock");
    let counted = counted::on(many.machine()?, many.name(), "", false)?;
    let done = counted.stretches("OPS ")?;
    ensure!(done.len() == OPERATIONS.split(' ').count(), "{} operations were done in one of {count} containers", done.len());
    Ok(done)
}

/// All rows.
pub fn rows(wanted: &Wanted) -> Result<Vec<Row>> {
    if !wanted.columns().contains(&(Column::Abom, true)) {
        return Ok(Vec::new());
    }
    let mut rows = Vec::new();
    for count in COUNTS {
        rows.extend(each(count)?);
    }
    let all: Vec<(u32, Vec<Done>)> = COUNTS.into_iter().map(|count| Ok((count, beside(count)?))).collect::<Result<_>>()?;
    let (_, alone) = all.first().context("no number of containers")?;
    for operation in alone {
        for (count, done) in &all {
            let done = done.iter().find(|d| d.name == operation.name).context("the same operations")?;
            let what = |what: &str| format!("{}: {what}", operation.name);
            for (name, of) in quantities::ALL.iter().filter(|(name, _)| ["crossings", "instructions"].contains(name)) {
                let cell = Cell::of(&[of(&done.spent) / done.times]);
                rows.push(single(PART, &work(*count), &what(name), quantities::ONCE, Column::Abom, cell, ELSEWHERE));
            }
        }
    }
    Ok(rows)
}
