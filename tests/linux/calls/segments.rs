//! The bases of FS and GS are the thread's own, whatever it calls and whoever runs in between.

use std::arch::asm;

use linux_programs::gs::{gs, has_instructions, set_gs};

use crate::child::{self, End};
use crate::report::Report;
use crate::way::{Act, Way, Ways};

const ARCH_SET_GS: usize = 0x1001;
const ARCH_SET_FS: usize = 0x1002;
const ARCH_GET_FS: usize = 0x1003;
const ARCH_GET_GS: usize = 0x1004;

fn set(way: Way, what: usize, base: usize) -> isize {
    // SAFETY: nobody uses GS; who sets FS knows.
    unsafe { way.call(libc::SYS_arch_prctl, [what, base]) }
}

fn get(way: Way, what: usize) -> usize {
    let mut base = 0usize;
    // SAFETY: the base goes to the variable.
    unsafe { way.call(libc::SYS_arch_prctl, [what, (&raw mut base) as usize]) };
    base
}

fn fs() -> usize {
    let base;
    // SAFETY: the instruction is there, as `has_instructions` said.
    unsafe { asm!("rdfsbase {}", out(reg) base, options(nomem, nostack)) };
    base
}

/// Calls of many kinds.
fn calls(way: Way) {
    let time = libc::timespec { tv_sec: 0, tv_nsec: 1_000_000 };
    way.pid();
    // SAFETY: it has no arguments.
    unsafe { way.call(libc::SYS_sched_yield, []) };
    // SAFETY: the time is read.
    unsafe { way.call(libc::SYS_nanosleep, [(&raw const time) as usize, 0]) };
    way.raise(0);
}

/// GS by call: set, and there after calls.
fn gs_by_call(way: Way) -> i32 {
    let wanted = [0x1234_5678_9000, 0, 0x7fff_ffff_e000, 8];
    for base in wanted {
        let done = set(way, ARCH_SET_GS, base);
        calls(way);
        if (done, get(way, ARCH_GET_GS)) != (0, base) || has_instructions() && gs() != base {
            return 1;
        }
    }
    // A base in the kernel's half is refused.
    let refused = set(way, ARCH_SET_GS, 1 << 63);
    i32::from(refused != -(libc::EPERM as isize) || get(way, ARCH_GET_GS) != 8)
}

/// GS by instruction.
fn gs_by_instruction(way: Way) -> i32 {
    if !has_instructions() {
        return 0;
    }
    for base in [0x1234_5678_9000, 0, 0x7fff_ffff_e000, 8] {
        set_gs(base);
        calls(way);
        if gs() != base || get(way, ARCH_GET_GS) != base {
            return 1;
        }
    }
    0
}

/// FS by call: it is the C library's, so nothing of that is used before it is back.
fn fs_by_call(way: Way) -> i32 {
    let own = get(way, ARCH_GET_FS);
    let instructions = has_instructions();
    let done = set(way, ARCH_SET_FS, 0x1234_5000);
    calls(way);
    let seen = if instructions { fs() } else { 0x1234_5000 };
    let told = get(way, ARCH_GET_FS);
    set(way, ARCH_SET_FS, own);
    i32::from((done, seen, told, own == 0) != (0, 0x1234_5000, 0x1234_5000, false))
}

/// Rounds in which others run.
const ROUNDS: usize = 200;

/// Runs with a base of its own, and lets others run; whether it was always there.
fn rounds(way: Way, base: usize) -> bool {
    (0..ROUNDS).all(|i| {
        let base = base + i * 0x10;
        if i % 2 == 0 && has_instructions() {
            set_gs(base);
        } else {
            set(way, ARCH_SET_GS, base);
        }
        for _ in 0..3 {
            // SAFETY: it has no arguments.
            unsafe { way.call(libc::SYS_sched_yield, []) };
        }
        // The timer has others run as well.
        for n in 0..2_000 {
            std::hint::black_box(n);
        }
        get(way, ARCH_GET_GS) == base && (!has_instructions() || gs() == base)
    })
}

thread_local! {
    /// Found by FS.
    static OWN: std::cell::Cell<usize> = const { std::cell::Cell::new(0) };
}

/// Three threads, each with its own.
fn threads(way: Way) -> i32 {
    let threads: Vec<_> = (1..=3)
        .map(|n| {
            std::thread::spawn(move || {
                OWN.set(n);
                rounds(way, n * 0x10_0000) && OWN.get() == n
            })
        })
        .collect();
    let good = threads.into_iter().filter_map(|t| t.join().ok()).filter(|good| *good).count();
    i32::from(good != 3)
}

/// Three processes, each with its own.
fn processes(way: Way) -> i32 {
    let pids: Vec<_> = (1..=3).map(|n| child::start(child::PATIENCE, || i32::from(!rounds(way, n * 0x10_0000)))).collect();
    i32::from(!pids.into_iter().all(|pid| child::wait(pid) == End::Exited(0)))
}

/// A new process has its parent's.
fn inherited(way: Way) -> i32 {
    set(way, ARCH_SET_GS, 0x4_2000);
    // SAFETY: the new process only exits.
    let pid = unsafe { way.call(libc::SYS_fork, []) };
    let here = get(way, ARCH_GET_GS) == 0x4_2000;
    if pid == 0 {
        way.exit(i32::from(!here));
    }
    i32::from(!here || child::wait(pid as i32) != End::Exited(0))
}

/// Each of them in a child of its own.
pub fn check(report: &mut Report, ways: Ways) {
    println!("rdgsbase and its like: {}", if has_instructions() { "there" } else { "not there" });
    let checks: [(&str, Act); 6] = [
        ("GS by call", gs_by_call),
        ("GS by instruction", gs_by_instruction),
        ("FS", fs_by_call),
        ("threads", threads),
        ("processes", processes),
        ("inherited", inherited),
    ];
    for (by, way) in ways.named() {
        for (name, check) in checks {
            report.check(&format!("segment {name} {by}"), child::run(|| check(way)), End::Exited(0));
        }
    }
}
