//! A tracer steps over a call: that is one step, and the result is there.

use crate::child;
use crate::report::Report;
use crate::sites;
use crate::way::{Way, Ways};
use linux_programs::traced::Traced;

/// What a step over the call leads to: how far, how the stack has changed, and the result.
type Step = (u64, u64, i64);

/// The steps over the call and over the instruction behind it.
fn steps(way: Way, nr: i64, arguments: [usize; 6]) -> Result<[Step; 2], String> {
    let traced = Traced::start(|| {
        // SAFETY: the process is one that may be lost.
        unsafe { sites::stopping(way, nr, arguments) };
        0
    })?;
    let before = traced.registers();
    let mut steps = [(0, 0, 0); 2];
    for step in &mut steps {
        traced.step()?;
        let after = traced.registers();
        let result = if after.rax == traced.pid as u64 { -1000 } else { after.rax as i64 };
        *step = (after.rip.wrapping_sub(before.rip), after.rsp.wrapping_sub(before.rsp), result);
    }
    traced.end()?;
    Ok(steps)
}

/// A process steps through its own code: the trap flag is set before it makes call `nr` through `slot`.
fn own_steps(way: Way, nr: usize, slot: usize) -> i32 {
    crate::signals::handle_info(libc::SIGTRAP, trapped, 0);
    let mut before = sites::State { flags: 0x302, ..Default::default() };
    before.general[sites::RAX] = nr as u64;
    // SAFETY: it has no arguments.
    let after = unsafe { sites::exchange(way, slot, &before) };
    child::put(63, after.behind as i64);
    let want = if nr == libc::SYS_getpid as usize { i64::from(std::process::id()) } else { -38 };
    i32::from(after.general[sites::RAX] as i64 != want)
}

/// Notes where the first 60 traps are: after popfq they come with each instruction.
extern "C" fn trapped(_: i32, _: *mut libc::siginfo_t, context: *mut libc::ucontext_t) {
    let index = child::got(62) as usize;
    if index < 60 {
        child::put(index, crate::signals::register(context, libc::REG_RIP) as i64);
        child::put(62, index as i64 + 1);
    }
}

/// Steps over calls of both paths, one that fails, and one that waits.
pub fn check(report: &mut Report, ways: Ways) {
    let time = Box::new(libc::timespec { tv_sec: 0, tv_nsec: 20_000_000 });
    let time = (&raw const *time) as usize;
    let calls: [(&str, i64, [usize; 6], i64); 5] = [
        ("getpid", libc::SYS_getpid, [0; 6], -1000),
        ("bad read", libc::SYS_read, [usize::MAX; 6], -9),
        ("bad clone", libc::SYS_clone, [usize::MAX; 6], -22),
        ("none", 500, [0; 6], -38),
        ("nanosleep", libc::SYS_nanosleep, [time, 0, 0, 0, 0, 0], 0),
    ];
    for (by, way) in ways.named() {
        for (name, nr, arguments, result) in calls {
            let length = sites::length(way);
            let want = [(length, 0, result), (length + 1, 0, result)];
            report.check(&format!("step over {name} {by}"), steps(way, nr, arguments), Ok(want));
        }
    }
    let getpid = libc::SYS_getpid as usize;
    let calls = [
        ("getpid", getpid, getpid + 1),
        ("getpid by slot 0", getpid, 0),
        ("none", 500, 501),
        ("none by slot 0", 1000, 0),
        ("-1 by slot 0", usize::MAX, 0),
    ];
    for (name, nr, slot) in calls {
        let traps = ways.named().map(|(by, way)| {
            child::wipe();
            report.check(&format!("own steps {name} {by}"), child::run(|| own_steps(way, nr, slot)), child::End::Exited(0));
            traps()
        });
        report.check(&format!("own steps {name} (around the call, in the kernel)"), traps[1], (traps[0].0, 0));
    }
}

/// How many of the noted traps are just before or behind the call, and how many in the kernel.
fn traps() -> (usize, usize) {
    let behind = child::got(63);
    let places = || (0..60).map(child::got);
    (places().filter(|p| (behind - 0x1000..behind).contains(p)).count(), places().filter(|p| *p < 0).count())
}
