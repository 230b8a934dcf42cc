//! Single operations of the kernel, many times each, between marks: `ops library|trap|call|jump [NAME[=TIMES]…]`.
//!
//! A mark is the system call `times`, which the counting plugin knows (tests/bench/crossings). One line is printed for
//! each operation: its name, how often it was done, and the nanoseconds that it took in all, by the machine's clock. `library`
//! makes the measured system calls as a program that has a C library does, `trap` by the instruction on the spot, `call` and
//! `jump` through the table. `ops mark` makes a mark and nothing else, for scripts.

#![expect(unsafe_code, reason = "system calls, in the form that is measured")]
// UNSAFETY: raw system calls are what is measured.

mod calls;
mod first;
mod memory;
mod waiting;
mod work;

use std::arch::asm;
use std::process::ExitCode;
use std::time::Instant;

use calls::Calls;
use linux_programs::way::{Way, Ways};
use work::OPERATIONS;

/// A mark for the plugin. It reads a flag from before the system call afterwards: so its site is none that may become a
/// function call, and the plugin sees each mark.
fn mark() {
    // SAFETY: the buffer may be null.
    unsafe {
        asm!("cmp edi, 1", "syscall", "sete dl", inlateout("rax") libc::SYS_times => _, in("rdi") 0usize, out("dl") _,
             lateout("rcx") _, lateout("r11") _);
    }
}

/// Waits until the clock has just ticked: so that as many ticks fall into what follows, at the same places, in each run.
fn tick() {
    let now = || {
        let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
        // SAFETY: there is room for the time. It is read without a system call.
        unsafe { libc::clock_gettime(libc::CLOCK_MONOTONIC_COARSE, &raw mut time) };
        (time.tv_sec, time.tv_nsec)
    };
    let before = now();
    while now() == before {}
}

fn main() -> ExitCode {
    let mut args = std::env::args().skip(1);
    let calls = match args.next().as_deref() {
        Some("mark") => {
            mark();
            return ExitCode::SUCCESS;
        }
        Some("library") => Calls::Library,
        Some("trap") => Calls::By(Way::Instruction),
        Some(by @ ("call" | "jump")) => match Ways::find() {
            Some(ways) => Calls::By(if by == "call" { ways.table } else { ways.jump }),
            None => {
                eprintln!("ops: there is no table of system calls here");
                return ExitCode::FAILURE;
            }
        },
        _ => {
            eprintln!("usage: ops mark, or ops library|trap|call|jump [NAME[=TIMES]…]");
            return ExitCode::from(2);
        }
    };
    let wanted: Vec<String> = args.collect();
    let wanted: Vec<(&str, Option<u32>)> =
        wanted.iter().map(|w| w.split_once('=').map_or((w.as_str(), None), |(name, times)| (name, times.parse().ok()))).collect();
    for operation in OPERATIONS {
        let found = wanted.iter().find(|(name, _)| *name == operation.name);
        if found.is_none() && !wanted.is_empty() {
            continue;
        }
        let times = found.and_then(|(_, times)| *times).unwrap_or(operation.count);
        // Once before, so that what is done only once is not counted.
        let mut body = match (operation.prepare)(calls) {
            Ok(body) => body,
            Err(error) => {
                eprintln!("ops: {}: {error}", operation.name);
                return ExitCode::FAILURE;
            }
        };
        body(times / 10 + 1);
        tick();
        let begin = Instant::now();
        mark();
        body(times);
        mark();
        let spent = begin.elapsed().as_nanos();
        drop(body);
        work::ordinary().expect("the policy that was there before");
        println!("OPS {} {times} {spent}", operation.name);
    }
    ExitCode::SUCCESS
}
