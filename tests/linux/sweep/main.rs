//! Lets an event land on every instruction of a system call, and looks at everything afterwards: `sweep`.
//!
//! A timer is set to one moment after the other, a nanosecond apart, and a system call made each time at the same
//! distance from setting it. Where the clock counts instructions (`-icount shift=0`), the timer's interrupt so walks
//! through the call. What it hits is for the emulator's log to say (xtask/src/sweep.rs); here each call is checked: its
//! result, all registers, the red zone, and that what the event brought is there when the call is over.
//!
//! The event is a signal, or wakes a thread that is more urgent; the call is made by the table or its jump, without and
//! with all registers saved, or by the instruction, or is a page fault instead.

#![expect(unsafe_code, reason = "system calls and registers are what is looked at")]
// UNSAFETY: registers are set and read around raw system calls, and signals arrive among them.

mod event;
mod probe;

use std::process::ExitCode;

use event::{Event, Kind};
use probe::{Probe, Registers, Way};

/// Each sweep, and how long it is in nanoseconds, which are instructions: longer than the way in and out.
const SWEEPS: &[(Way, Kind, u32)] = &[
    (Way::Table, Kind::Signal, 800),
    (Way::Table, Kind::Thread, 800),
    (Way::TableAll, Kind::Signal, 1_000),
    (Way::TableAll, Kind::Thread, 1_000),
    (Way::Jump, Kind::Signal, 800),
    (Way::Jump, Kind::Thread, 800),
    (Way::JumpAll, Kind::Signal, 1_000),
    (Way::JumpAll, Kind::Thread, 1_000),
    (Way::Instruction, Kind::Signal, 1_500),
    (Way::Instruction, Kind::Thread, 1_500),
    (Way::Fault, Kind::Signal, 5_000),
    (Way::Fault, Kind::Thread, 5_000),
];
/// How long before the call the first event comes, about.
const LEAD: u32 = 300;
/// How long before the event its timer is set: longer than it takes to set it.
const AHEAD: u32 = 12_000;
/// How often each moment is tried: clocks are rounded, and what came before takes now a nanosecond more and then one less.
const PASSES: usize = 4;

/// What went wrong, at most so often.
const REPORTS: usize = 10;

/// One sweep: what is wrong with it, by the moment of the event.
fn sweep(way: Way, kind: Kind, length: u32) -> Result<Vec<String>, String> {
    let probe = Probe::new(way)?;
    let mut event = Event::new(kind)?;
    // What is done for the first time takes longer.
    event.turns_until(AHEAD)?;
    let turns = event.turns_until(AHEAD - LEAD)?;
    let mut faults = Vec::new();
    for moment in (0..length).cycle().take(length as usize * PASSES) {
        probe.prepare();
        event.set(AHEAD - 2 * LEAD + moment)?;
        event.spin(turns);
        let (given, got) = probe.call();
        let late = event.wait_for_it();
        let wrong = differences(way, &probe, &given, &got);
        if late || !wrong.is_empty() {
            faults.push(format!("event at {moment}: {}{wrong}", if late { "it was lost; " } else { "" }));
        }
    }
    Ok(faults)
}

/// What a call has changed that it must not.
fn differences(way: Way, probe: &Probe, given: &Registers, got: &Registers) -> String {
    let mut wrong = String::new();
    if got.rax != probe.result {
        wrong.push_str(&format!("result {:#x}, not {:#x}; ", got.rax, probe.result));
    }
    let others = |r: &Registers| [r.rbx, r.rdx, r.rsi, r.rdi, r.rbp, r.r8, r.r9, r.r10, r.r12, r.r13, r.r14, r.r15];
    if others(given) != others(got) {
        wrong.push_str(&format!("registers {:x?}, not {:x?}; ", others(got), others(given)));
    }
    // A call pushes.
    if got.red_zone != u64::from(matches!(way, Way::Table | Way::TableAll)) {
        wrong.push_str(&format!("{} words of the red zone; ", got.red_zone));
    }
    if matches!(way, Way::Instruction | Way::Fault) && got.flags != given.flags {
        wrong.push_str(&format!("flags {:#x}, not {:#x}; ", got.flags, given.flags));
    }
    wrong
}

fn main() -> ExitCode {
    let mut good = true;
    for &(way, kind, length) in SWEEPS {
        let name = format!("sweep-{way:?}-{kind:?}").to_lowercase();
        match sweep(way, kind, length) {
            Ok(faults) if faults.is_empty() => println!("CHECK {name} ok"),
            Ok(faults) => {
                good = false;
                println!("CHECK {name} FAIL: {} events", faults.len());
                faults.iter().take(REPORTS).for_each(|fault| println!("  {fault}"));
            }
            Err(error) => {
                good = false;
                println!("CHECK {name} FAIL: {error}");
            }
        }
    }
    println!("VERDICT {}", if good { "SUCCESS" } else { "FAILURE" });
    if good { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
