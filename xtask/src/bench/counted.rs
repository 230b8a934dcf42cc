//! Runs of a machine that are counted by the plugin, with an instruction as the clock.

use std::path::PathBuf;

use anyhow::{Result, ensure};

use super::column::Column;
use super::counts::{At, Counts};
use super::{machine, plugin, to_the_end};
use crate::initrd::Script;
use crate::qemu::{BootFrom, Ended, INSTRUCTION_CLOCK, Machine};
use crate::sh;

/// What the machine is told, so that one run is as the other: an instruction is a nanosecond, the wall clock begins at the
/// same time, and what the machine calls random is not.
pub const THE_SAME_AGAIN: &[&str] =
    &[INSTRUCTION_CLOCK[0], INSTRUCTION_CLOCK[1], "-rtc", "base=2026-01-01T00:00:00,clock=vm", "-seed", "1"];

/// What came of a run.
pub struct Counted {
    pub ended: Ended,
    /// All lines that the plugin wrote.
    pub lines: Vec<Counts>,
    /// Its file of what was executed where, if that was asked for, divided at those lines.
    pub profile: Option<PathBuf>,
}

/// Boots it; the files that it leaves are called `name`.
pub fn run(boot: BootFrom, name: &str, plugin_options: &str, with_profile: bool) -> Result<Counted> {
    on(machine(boot, name)?, name, plugin_options, with_profile)
}

/// The same on a machine of one's own.
pub fn on(machine: Machine, name: &str, plugin_options: &str, with_profile: bool) -> Result<Counted> {
    let out = sh::target(&format!("bench/{name}.jsonl"))?;
    let mut plugin = format!("{},out={}{plugin_options}", plugin()?.display(), out.display());
    let profile = with_profile.then(|| sh::target(&format!("bench/{name}.profile"))).transpose()?;
    if let Some(profile) = &profile {
        plugin.push_str(&format!(",profile={}", profile.display()));
    }
    let more = [THE_SAME_AGAIN, &["-plugin", &plugin]].concat();
    let ended = to_the_end(&Machine { more: more.into_iter().map(String::from).collect(), ..machine })?;
    Ok(Counted { ended, lines: Counts::read(&out)?, profile })
}

impl Counted {
    /// What was done between marks, one before and one after each: by the log's lines, which are `prefix`, a name and a
    /// number; whatever is behind it does not matter.
    pub fn stretches(&self, prefix: &str) -> Result<Vec<Done>> {
        // Of several domains, each line begins with whose it is.
        let said = self.ended.log.lines().filter_map(|l| l.split_once(prefix)?.1.split_once(' '));
        let said: Vec<(&str, f64)> =
            said.filter_map(|(name, count)| Some((name, count.split_whitespace().next()?.parse().ok()?))).collect();
        let marks: Vec<(usize, &Counts)> = self.lines.iter().enumerate().filter(|(_, l)| l.at == At::Mark).collect();
        ensure!(marks.len() == 2 * said.len(), "{} pieces of work were done, and there are {} marks", said.len(), marks.len());
        let pairs = said.iter().zip(marks.chunks_exact(2));
        let done = pairs.filter_map(|(&(name, times), marks)| match marks {
            [(_, before), (line, after)] => Some(Done { name: name.into(), times, spent: after.since(before), line: *line }),
            _ => None,
        });
        Ok(done.collect())
    }
}

/// An operation: its name, how often it was done, and what that cost in all.
pub struct Done {
    pub name: String,
    pub times: f64,
    pub spent: Counts,
    /// Which of the run's lines ends it.
    pub line: usize,
}

/// A run of tests/linux/ops.
pub struct Operations {
    pub done: Vec<Done>,
    pub counted: Counted,
}

/// Runs the operations that `arguments` name in a column, all if they name none.
pub fn operations(column: Column, name: &str, arguments: &str, with_profile: bool) -> Result<Operations> {
    let file = format!("operations-{name}");
    let place = column.place();
    let script = Script::Program(format!("ops {} {arguments}", column.calls()).trim_end().to_string());
    let boot = place.boot(column.kernel(), &script, &file, column.abom())?;
    eprintln!("xtask: operations, {}, with an instruction as the clock: about a minute", column.name());
    let counted = run(boot, &file, place.plugin_options(), with_profile)?;
    let done = counted.stretches("OPS ")?;
    ensure!(!done.is_empty(), "no operation was done");
    Ok(Operations { done, counted })
}
