//! The way into a system call and out of it, through the table: a million times `getpid` against a loop that is empty.
//!
//! The loop prepares the same registers and calls nothing. What the difference is made of is told by function: the
//! plugin says how much was executed in each block of code, and the kernel's symbols whose it is.

use std::collections::BTreeMap;
use std::path::Path;

use anyhow::{Context, Result, ensure};
use object::{Object, ObjectSymbol, SymbolKind};

use super::counts::{At, Counts};
use super::operations::{self, Run};
use super::place::Place;
use crate::linux;

/// How often.
const TIMES: u32 = 1_000_000;
/// Instructions outside the system call's body that there may be.
const GOAL: f64 = 45.0;
/// Where Linux is.
const KERNEL: u64 = 0xffff_ffff_8000_0000;
/// Which functions are the way: those of entry_xlibos.S. All others that are executed each time are the body.
const WAY: &str = "xlibos_";

/// What was found.
pub struct NullCalls {
    /// In all, `getpid` and the empty loop.
    calls: Counts,
    empty: Counts,
    /// Instructions of the kernel for each call, by function; those that are not there each time are the clock's.
    functions: Vec<(String, f64)>,
}

/// Runs both loops.
pub fn measure(plugin: &Path) -> Result<NullCalls> {
    let arguments = format!("call loop={TIMES} getpid={TIMES}");
    let Run { done, profile, lines } = operations::measure(plugin, "null calls", Place::XMode, &arguments, true)?;
    let [empty, calls] = &done[..] else { anyhow::bail!("{} loops were run", done.len()) };
    // The file is divided where lines were written; the last mark ends the calls.
    let part = lines.iter().rposition(|l| l.at == At::Mark).context("there is no mark")?;
    let text = std::fs::read_to_string(profile.context("the profile was asked for")?)?;
    let blocks = text.split("\n\n").nth(part).context("the profile ends too early")?;
    let kernel = linux::build("libos")?.join("vmlinux");
    Ok(NullCalls { calls: calls.spent.clone(), empty: empty.spent.clone(), functions: by_function(blocks, &kernel)? })
}

/// What was executed in the kernel for each call, by function, if it was at least once in ten.
fn by_function(blocks: &str, kernel: &Path) -> Result<Vec<(String, f64)>> {
    let bytes = std::fs::read(kernel).with_context(|| format!("cannot read {}", kernel.display()))?;
    let file = object::File::parse(&*bytes)?;
    let is_code = |kind| matches!(kind, SymbolKind::Text | SymbolKind::Label | SymbolKind::Unknown);
    let named = file.symbols().filter(|s| is_code(s.kind()) && s.name().is_ok_and(|n| !n.is_empty()));
    let symbols: BTreeMap<u64, &str> = named.map(|s| (s.address(), s.name().unwrap_or(""))).collect();
    let mut counts: BTreeMap<&str, u64> = BTreeMap::new();
    for (address, count) in blocks.lines().filter_map(|l| l.split_once(' ')) {
        let (address, count) = (u64::from_str_radix(address, 16)?, count.parse::<u64>()?);
        // Below are the processes and the hypervisor, which are counted by themselves.
        if address >= KERNEL {
            let (_, name) = symbols.range(..=address).next_back().context("there is a first symbol")?;
            *counts.entry(name).or_default() += count;
        }
    }
    let each = counts.into_iter().map(|(name, count)| (name.to_string(), count as f64 / f64::from(TIMES)));
    Ok(each.filter(|(_, each)| *each > 0.1).collect())
}

impl NullCalls {
    /// Instructions outside the system call's body, each time.
    fn outside(&self) -> f64 {
        let way: f64 = self.functions.iter().filter(|(name, _)| name.starts_with(WAY)).map(|(_, each)| each).sum();
        way + self.program()
    }

    /// The program's own instructions beyond the loop: the call.
    fn program(&self) -> f64 {
        (self.calls.user as f64 - self.empty.user as f64) / f64::from(TIMES)
    }

    /// Prints what was found.
    pub fn print(&self) {
        println!("{TIMES} times getpid through the table, and so often a loop that calls nothing, in all");
        println!("{:<34} {:>14} {:>14}", "", "getpid", "loop");
        for ((what, calls), (_, empty)) in self.calls.rows().into_iter().zip(self.empty.rows()) {
            if calls > 0 || empty > 0 {
                println!("{what:<34} {calls:>14} {empty:>14}");
            }
        }
        println!("each time: the program's call {:.1}", self.program());
        self.functions.iter().for_each(|(name, each)| println!("           {name} {each:.1}"));
        println!("outside the system call's body: {:.1} instructions", self.outside());
    }

    /// # Errors
    /// If something is not as it should be: a load of CR3, an entry to ring 0 that is not the clock's, too many
    /// instructions.
    pub fn check(&self) -> Result<()> {
        // The two marks, which are system calls by the instruction, are between them once.
        let beyond = self.calls.crossings() - self.calls.interrupts() - self.calls.hypercalls();
        ensure!(beyond <= 1, "{beyond} crossings that are neither interrupts nor hypercalls");
        ensure!(self.calls.cr3 == 0, "{} loads of CR3", self.calls.cr3);
        ensure!(self.outside() <= GOAL, "{:.1} instructions outside the body", self.outside());
        Ok(())
    }
}

/// `bench null-call`: by itself.
pub fn run() -> Result<()> {
    let calls = measure(&super::plugin()?)?;
    calls.print();
    calls.check()
}
