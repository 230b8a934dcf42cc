//! The way into a system call and out of it, through the table: a million times `getpid` against a loop that is empty.
//!
//! The loop prepares the same registers and calls nothing. What the difference is made of is told by function: the
//! plugin says how much was executed in each block of code, and the kernel's symbols whose it is.

use anyhow::{Result, ensure};

use super::column::Column;
use super::counted;
use super::counts::Counts;
use super::profile::{self, Symbols};
use crate::linux;

/// How often.
const TIMES: u32 = 1_000_000;
/// Instructions outside the system call's body that there may be.
pub const GOAL: f64 = 45.0;
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
pub fn measure() -> Result<NullCalls> {
    let run = counted::operations(Column::Table, "null-calls", &format!("loop={TIMES} getpid={TIMES}"), true)?;
    let [empty, calls] = &run.done[..] else { anyhow::bail!("{} loops were run", run.done.len()) };
    let blocks = profile::part(&run.counted, calls.line..=calls.line)?;
    let kernel = Symbols::of_linux(&linux::build("libos")?.join("vmlinux"))?;
    let functions = kernel.by_function(&blocks).into_iter().map(|(name, count)| (name, count as f64 / f64::from(TIMES)));
    // Once in ten, or it is no part of each call.
    let functions = functions.filter(|(_, each)| *each > 0.1).collect();
    Ok(NullCalls { calls: calls.spent.clone(), empty: empty.spent.clone(), functions })
}

impl NullCalls {
    /// Instructions outside the system call's body, each time.
    pub fn outside(&self) -> f64 {
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
    let calls = measure()?;
    calls.print();
    calls.check()
}
