//! Every number, with arguments that are mostly wrong: the same result in all ways.

use crate::child::{self, End};
use crate::report::Report;
use crate::sites;
use crate::way::{JUMP, SLOTS, Ways};

/// The kernel's numbers, those behind them, and some that are far away. The last two are looked at as 32 bits wide.
const FAR: [usize; 9] = [451, JUMP - 2, JUMP - 1, SLOTS, SLOTS + 1, 1000, 0x4000_0027, (1 << 32) | libc::SYS_getpid as usize, usize::MAX];

/// What each argument is.
const ARGUMENTS: [(&str, usize); 3] = [("zero", 0), ("minus-one", usize::MAX), ("unmapped", 8)];

/// What is left out, and why.
const LEFT_OUT: &[(i64, &str)] = &[
    (libc::SYS_rt_sigreturn, "its argument is the stack, which a call changes: see signals"),
    (libc::SYS_times, "its result is the time"),
    (libc::SYS_time, "its result is the time"),
    (libc::SYS_msgget, "each one makes another queue"),
    (libc::SYS_vhangup, "the console is gone then"),
    (libc::SYS_syslog, "one of its sets lets the kernel write to the console"),
];

/// Calls that return twice.
const FORKS: [i64; 4] = [libc::SYS_fork, libc::SYS_vfork, libc::SYS_clone, libc::SYS_clone3];

/// What the caller of a system call sees.
#[derive(Debug, Eq, PartialEq)]
struct Outcome {
    result: Seen,
    end: End,
}

#[derive(Debug, Eq, PartialEq)]
enum Seen {
    Result(i64),
    /// The caller's own number.
    Pid,
    /// That of a process that is new.
    Child,
    /// It did not return.
    Nothing,
}

/// Where on the board the result is, and that it is there.
const RESULT: usize = 0;
const RETURNED: usize = 1;

/// Makes one call in a child of its own; by the instruction if there is no slot.
fn outcome(nr: usize, argument: usize, slot: Option<usize>) -> Outcome {
    child::wipe();
    let forks = FORKS.iter().any(|f| *f as usize == nr);
    let pid = child::start(1, || {
        quiet();
        // SAFETY: the process may be lost: nothing is in it but this.
        let result = unsafe { sites::lone(nr, &[argument; 6], slot, forks) };
        child::put(RESULT, result as i64);
        child::put(RETURNED, 1);
        0
    });
    let end = child::wait(pid);
    let result = match child::got(RESULT) {
        _ if child::got(RETURNED) == 0 => Seen::Nothing,
        n if n == i64::from(pid) => Seen::Pid,
        n if n > 0 && forks => Seen::Child,
        n => Seen::Result(n),
    };
    Outcome { result, end }
}

/// Nothing comes from the console or goes there, and no signal but the alarm's disturbs: a new process may send one
/// when it ends.
fn quiet() {
    // SAFETY: the path is a string.
    let null = unsafe { libc::open(c"/dev/null".as_ptr(), libc::O_RDWR) };
    for fd in 0..3 {
        // SAFETY: nobody in this process uses them.
        unsafe { libc::dup2(null, fd) };
    }
    // SAFETY: as above.
    unsafe { libc::close(null) };
    // SAFETY: all zeros is a set.
    let mut set = unsafe { std::mem::zeroed() };
    // SAFETY: the set is a set.
    unsafe { libc::sigfillset(&raw mut set) };
    // SAFETY: as above.
    unsafe { libc::sigdelset(&raw mut set, libc::SIGALRM) };
    // SAFETY: as above.
    unsafe { libc::sigprocmask(libc::SIG_BLOCK, &raw const set, std::ptr::null_mut()) };
}

/// Each number, with each set of arguments: through its own slot, if it has one, and through the two for any.
pub fn check(report: &mut Report, _: Ways) {
    // Which waits until there is randomness: afterwards it never does.
    // SAFETY: the buffer is one byte.
    assert_eq!(unsafe { libc::getrandom([0u8].as_mut_ptr().cast(), 1, 0) }, 1);
    for (nr, why) in LEFT_OUT {
        println!("left out: {nr}: {why}");
    }
    for (set, argument) in ARGUMENTS {
        let (mut compared, mut differ) = (0, 0);
        for nr in (0..451).chain(FAR).filter(|nr| !LEFT_OUT.iter().any(|(out, _)| *out as usize == *nr)) {
            let want = outcome(nr, argument, None);
            for slot in [0, nr.saturating_add(1)].into_iter().filter(|slot| *slot < JUMP).chain([JUMP]) {
                let got = outcome(nr, argument, Some(slot));
                compared += 1;
                if got != want {
                    differ += 1;
                    report.check(&format!("number {nr} {set} slot {slot}"), &got, &want);
                }
            }
        }
        println!("compared: {compared} calls");
        report.check(&format!("numbers {set}"), differ, 0);
    }
}
