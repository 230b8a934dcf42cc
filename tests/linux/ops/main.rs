//! Single operations of the kernel, many times each, between marks: `ops trap|call [NAME[=TIMES]…]`.
//!
//! A mark is the system call `times`, which the counting plugin knows (tests/bench/crossings). One line is printed for
//! each operation: its name and how often it was done. `call` makes the measured system calls through the table. `ops mark`
//! makes a mark and nothing else, for scripts.

#![expect(unsafe_code, reason = "system calls, in the form that is measured")]
// UNSAFETY: raw system calls are what is measured.

mod memory;
mod waiting;
mod work;

use std::arch::asm;
use std::process::ExitCode;

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

fn main() -> ExitCode {
    let mut args = std::env::args().skip(1);
    let calls = match args.next().as_deref() {
        Some("mark") => {
            mark();
            return ExitCode::SUCCESS;
        }
        Some("trap") => Way::Instruction,
        Some(by @ ("call" | "jump")) => match Ways::find() {
            Some(ways) => {
                if by == "call" {
                    ways.table
                } else {
                    ways.jump
                }
            }
            None => {
                eprintln!("ops: there is no table of system calls here");
                return ExitCode::FAILURE;
            }
        },
        _ => {
            eprintln!("usage: ops mark, or ops trap|call|jump [NAME[=TIMES]…]");
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
        mark();
        body(times);
        mark();
        drop(body);
        work::ordinary().expect("the policy that was there before");
        println!("OPS {} {times}", operation.name);
    }
    ExitCode::SUCCESS
}
