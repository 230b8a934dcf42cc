//! What single operations of the kernel cost (tests/linux/ops): X-LibOS in X-mode with system calls by the table, the same
//! with system calls by the instruction, the same image as an ordinary PV guest, the same as Xen's first domain, and on the
//! machine itself. Then a million empty system calls through the table ([`super::null_call`]).

use std::path::{Path, PathBuf};

use anyhow::{Result, bail};
use serde_json::json;

use super::counts::{At, Counts};
use super::place::Place;
use super::{null_call, plugin, run_machine, save};
use crate::initrd::Script;
use crate::qemu::Input;
use crate::run::Switch;
use crate::sh;

/// A column: its name, where it is, and how system calls are made.
const COLUMNS: &[(&str, Place, &str)] = &[
    ("X-mode, table", Place::XMode, "call"),
    ("X-mode, trap", Place::XMode, "trap"),
    ("PV", Place::Pv, "trap"),
    ("Xen", Place::Xen, "trap"),
    ("native", Place::Native, "trap"),
];

/// A table: what it says of the costs, once.
type Table = (&'static str, fn(&Counts) -> u64);

/// Those that are printed.
const TABLES: &[Table] = &[
    ("entries to ring 0", Counts::crossings),
    ("loads of CR3", |c| c.cr3),
    ("instructions", Counts::instructions),
    ("instructions outside the processes", |c| c.kernel + c.ring0),
    ("instructions in ring 0", |c| c.ring0),
    ("steps of repeated string instructions", |c| c.string_steps + c.guest_string_steps),
];

/// An operation: its name, how often it was done, and what that cost in all.
pub struct Done {
    pub name: String,
    pub times: f64,
    pub spent: Counts,
}

/// A run of the operations.
pub struct Run {
    pub done: Vec<Done>,
    /// The plugin's file of what was executed where, if that was asked for, and all moments that it is divided at.
    pub profile: Option<PathBuf>,
    pub lines: Vec<Counts>,
}

/// Runs the operations that `arguments` name, all if they name none.
pub fn measure(plugin: &Path, name: &str, place: Place, arguments: &str, with_profile: bool) -> Result<Run> {
    let file = format!("operations-{}", name.replace([' ', ','], "-"));
    // The instructions stay what they are: the marks are some, and two columns are about them.
    let boot = place.boot(place.kernel(), &Script::Program(format!("ops {arguments}")), &file, Switch::Off)?;
    let out = sh::target(&format!("bench/{file}.jsonl"))?;
    let mut plugin = format!("{},out={}{}", plugin.display(), out.display(), place.plugin_options());
    let profile = with_profile.then(|| sh::target(&format!("bench/{file}.profile"))).transpose()?;
    if let Some(profile) = &profile {
        plugin.push_str(&format!(",profile={}", profile.display()));
    }
    eprintln!("xtask: {name}, with an instruction as the clock: about a minute");
    let ended = run_machine(boot, &file, &["-icount", "shift=0,sleep=off", "-plugin", &plugin], Input::Nothing)?;
    let said = ended.log.lines().filter_map(|l| l.strip_prefix("OPS ")?.split_once(' '));
    let said: Vec<(&str, f64)> = said.filter_map(|(name, count)| Some((name, count.parse().ok()?))).collect();
    let lines = Counts::read(&out)?;
    let marks = Counts::at(&lines, &[At::Mark]);
    // One before and one after each.
    if said.is_empty() || marks.len() != 2 * said.len() {
        bail!("{} operations were done, and there are {} marks", said.len(), marks.len());
    }
    let done = said.iter().zip(marks.chunks_exact(2)).filter_map(|(&(name, times), marks)| match marks {
        [before, after] => Some(Done { name: name.into(), times, spent: after.since(before) }),
        _ => None,
    });
    Ok(Run { done: done.collect(), profile, lines })
}

/// `bench operations`.
pub fn run() -> Result<()> {
    let plugin = plugin()?;
    let null_calls = null_call::measure(&plugin)?;
    let mut columns = Vec::new();
    for &(name, place, calls) in COLUMNS {
        columns.push((name, measure(&plugin, name, place, calls, false)?.done));
    }
    let Some((_, first)) = columns.first() else { bail!("there are no columns") };
    if columns.iter().any(|(_, column)| !column.iter().map(|d| &d.name).eq(first.iter().map(|d| &d.name))) {
        bail!("not every column has the same operations");
    }
    let mut results = Vec::new();
    for (what, value) in TABLES {
        println!("\n{what}, each time");
        println!("{:<22}{}", "", columns.iter().map(|(name, _)| format!(" {name:>15}")).collect::<String>());
        for row in 0..first.len() {
            let cells = columns.iter().filter_map(|(name, column)| Some((name, column.get(row)?)));
            let mut line = String::new();
            for (column, done) in cells {
                let each = value(&done.spent) as f64 / done.times;
                if line.is_empty() {
                    line = format!("{:<22}", done.name);
                }
                line.push_str(&format!(" {each:>15.2}"));
                results.push(json!({ "what": what, "operation": done.name, "column": column, "value": each }));
            }
            println!("{line}");
        }
    }
    println!();
    null_calls.print();
    save("operations", &results.into())?;
    null_calls.check()
}
