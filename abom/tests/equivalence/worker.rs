//! Cases are run in a process of their own: a program that is wrong may do anything to it.

// UNSAFETY: forks.
#![expect(unsafe_code, reason = "a process for each batch")]

use std::fmt;
use std::io::{Read, Write};
use std::os::fd::FromRawFd;
use std::sync::atomic::Ordering;

use crate::case::{self, Counts, Fault};
use crate::machine::{CAUGHT, Machine};

/// So many cases are run by one process.
const BATCH: u64 = 100_000;
/// So many seconds it has for them, at most.
const SECONDS: u32 = 120;

/// What was done.
#[derive(Debug, Default)]
pub struct Summary(Counts);

impl Summary {
    /// Whether every form and the more important refusals have occurred.
    pub fn is_broad(&self) -> bool {
        let any = |what: &str| self.0.iter().any(|(name, &n)| name.contains(what) && n >= 20);
        let forms = [
            "mov-eax call",
            "mov-rax call",
            "stub-jump",
            "stub-call",
            "stub-skip",
            "xor-eax",
            "stack-load",
            "register",
            "earlier",
            "hop-jump",
            "annex",
        ];
        let hops: u64 = self.0.iter().filter(|(name, _)| name.ends_with(" hop")).map(|(_, n)| n).sum();
        hops >= 20 && forms.iter().all(|f| any(f)) && ["called", "caught", "flags-live", "red-zone-live", "entered"].iter().all(|f| any(f))
    }
}

impl fmt::Display for Summary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|(name, n)| write!(f, "\n{n:>10} {name}"))
    }
}

/// Runs cases. The first that differs, or dies, is the error.
pub fn run(seed: u64, first: u64, cases: u64, fault: Fault) -> Result<Summary, String> {
    let mut summary = Summary::default();
    let mut from = first;
    while from < first + cases {
        let count = BATCH.min(first + cases - from);
        for line in batch(seed, from, count, fault)?.lines() {
            let Some((n, name)) = line.split_once(' ') else { continue };
            *summary.0.entry(name.to_string()).or_default() += n.parse::<u64>().map_err(|e| format!("{line}: {e}"))?;
        }
        from += count;
    }
    Ok(summary)
}

/// Runs cases in a child, and returns what it says.
fn batch(seed: u64, from: u64, count: u64, fault: Fault) -> Result<String, String> {
    let mut ends = [0; 2];
    // SAFETY: room for two descriptors.
    let made = unsafe { libc::pipe(ends.as_mut_ptr()) };
    assert_eq!(made, 0);
    // SAFETY: the child takes no lock that another thread may hold but the allocator's, which the C library keeps usable.
    let child = unsafe { libc::fork() };
    assert!(child >= 0);
    // SAFETY: the descriptors are ours alone, one for each process.
    let [mut reader, mut writer] = ends.map(|fd| unsafe { std::fs::File::from_raw_fd(fd) });
    if child == 0 {
        // SAFETY: no argument is a pointer.
        unsafe { libc::alarm(SECONDS) };
        let answer = work(seed, from, count, fault, &mut writer);
        let _ = writer.write_all(answer.as_bytes());
        // SAFETY: ends the process, and runs nothing of the parent's.
        unsafe { libc::_exit(0) };
    }
    drop(writer);
    let mut said = String::new();
    let read = reader.read_to_string(&mut said);
    let mut status = 0;
    // SAFETY: a child of ours and room for its status.
    unsafe { libc::waitpid(child, &raw mut status, 0) };
    read.map_err(|e| e.to_string())?;
    let last = said.lines().rev().find_map(|l| l.strip_prefix("at ")).unwrap_or("the start").to_string();
    if status != 0 {
        return Err(format!("seed {seed}: the process died with status {status:#x}, in the hundred cases from {last}"));
    }
    match said.split_once("differs: ") {
        Some((_, how)) => Err(how.to_string()),
        None => Ok(said.lines().filter(|l| !l.starts_with("at ")).map(|l| format!("{l}\n")).collect()),
    }
}

fn work(seed: u64, from: u64, count: u64, fault: Fault, writer: &mut impl Write) -> String {
    let mut machine = Machine::new();
    let mut counts = Counts::new();
    for index in from..from + count {
        if index % 100 == 0 {
            let _ = writeln!(writer, "at {index}");
        }
        if let Err(how) = case::run(&mut machine, seed, index, fault, &mut counts) {
            return format!("differs: {how}");
        }
    }
    counts.insert("caught".into(), CAUGHT.load(Ordering::Relaxed));
    counts.iter().map(|(name, n)| format!("{n} {name}\n")).collect()
}
