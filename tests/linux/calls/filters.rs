//! seccomp and its like: a filter holds for calls by the table as for all others.

use std::sync::atomic::{AtomicI64, Ordering::SeqCst};

use linux_programs::seccomp;

use crate::child::{self, End};
use crate::report::Report;
use crate::signals;
use crate::sites::{self, RAX, RDI, State};
use crate::way::{Act, Way, Ways};
use linux_programs::traced::Traced;

/// The call that filters are about.
const FILTERED: i64 = libc::SYS_getppid;

/// From now on `FILTERED` has this result of a filter, if its first argument is 5; everything else is allowed.
fn filter(action: u32) {
    seccomp::filter(FILTERED, Some(5), action);
}

/// The filtered call with this argument.
fn call(way: Way, argument: u64) -> State {
    let mut before = State { flags: 0x202, ..State::default() };
    (before.general[RAX], before.general[RDI]) = (FILTERED as u64, argument);
    // SAFETY: it has no arguments.
    unsafe { sites::exchange(way, FILTERED as usize + 1, &before) }
}

/// Its result.
fn result(way: Way, argument: u64) -> i64 {
    call(way, argument).general[RAX] as i64
}

/// An error for the calls that are filtered, and only for them.
fn error(way: Way) -> i32 {
    filter(libc::SECCOMP_RET_ERRNO | libc::EXDEV as u32);
    // SAFETY: it has no arguments.
    let parent = i64::from(unsafe { libc::getppid() });
    i32::from((result(way, 5), result(way, 4)) != (-i64::from(libc::EXDEV), parent) || way.pid() != std::process::id() as i32)
}

/// What the handler of SIGSYS has seen: the number, the two addresses behind the call, and which kind it was.
static SEEN: [AtomicI64; 5] = [const { AtomicI64::new(0) }; 5];

/// The layout of `siginfo_t` for SIGSYS.
#[repr(C)]
struct SigSys {
    signo: i32,
    errno: i32,
    code: i32,
    address: u64,
    number: i32,
    arch: u32,
}

extern "C" fn trapped(_: i32, info: *mut libc::siginfo_t, context: *mut libc::ucontext_t) {
    // SAFETY: the kernel made it for SIGSYS.
    let info = unsafe { &*info.cast::<SigSys>() };
    SEEN[0].store(info.number.into(), SeqCst);
    SEEN[1].store(info.address as i64, SeqCst);
    SEEN[2].store(signals::register(context, libc::REG_RIP) as i64, SeqCst);
    SEEN[3].store(info.code.into(), SeqCst);
    SEEN[4].store(info.errno.into(), SeqCst);
    SELECTOR.store(0, SeqCst);
    // SAFETY: the context is the handler's to change.
    unsafe { (*context).uc_mcontext.gregs[libc::REG_RAX as usize] = 77 };
}

/// A signal whose handler makes the result.
fn trap(way: Way) -> i32 {
    signals::handle_info(libc::SIGSYS, trapped, 0);
    filter(libc::SECCOMP_RET_TRAP | 3);
    let after = call(way, 5);
    let seen = SEEN.each_ref().map(|n| n.load(SeqCst));
    let behind = after.behind as i64;
    // SYS_SECCOMP is 1.
    i32::from(after.general[RAX] != 77 || seen != [FILTERED, behind, behind, 1, 3])
}

/// Nobody traces: there is no such call.
fn trace(way: Way) -> i32 {
    filter(libc::SECCOMP_RET_TRACE);
    i32::from(result(way, 5) != -i64::from(libc::ENOSYS))
}

/// Somebody traces, and makes it another call.
fn traced(way: Way) -> Result<(i32, i64), String> {
    child::wipe();
    let traced = Traced::start(|| {
        filter(libc::SECCOMP_RET_TRACE);
        // SAFETY: as it is called, it has no arguments.
        child::put(0, unsafe { sites::stopping(way, FILTERED, [5, 0, 0, 0, 0, 0]) } as i64);
        0
    })?;
    traced.go(libc::PTRACE_CONT)?;
    let event = traced.stop(libc::SIGTRAP)?;
    traced.set(libc::ORIG_RAX, libc::SYS_getpid)?;
    let pid = traced.pid;
    traced.end()?;
    Ok((event, child::got(0) - i64::from(pid)))
}

fn kill(way: Way) -> i32 {
    filter(libc::SECCOMP_RET_KILL_PROCESS);
    result(way, 4);
    result(way, 5);
    0
}

fn log(way: Way) -> i32 {
    filter(libc::SECCOMP_RET_LOG);
    i32::from(result(way, 5) <= 0)
}

/// Nothing is left but read, write and exit.
fn strict(way: Way) -> i32 {
    // SAFETY: no memory is named.
    unsafe { libc::prctl(libc::PR_SET_SECCOMP, libc::SECCOMP_MODE_STRICT) };
    // SAFETY: it ends the process: by the call that is forbidden, or by the one that is not.
    unsafe { way.call(libc::SYS_write, [usize::MAX, 0, 0]) };
    // SAFETY: as above.
    unsafe { way.call(FILTERED, []) };
    // SAFETY: as above.
    unsafe { way.call(libc::SYS_exit, [0]) };
    1
}

/// Nothing is left, but the end is orderly.
fn strict_exit(way: Way) -> i32 {
    // SAFETY: no memory is named.
    unsafe { libc::prctl(libc::PR_SET_SECCOMP, libc::SECCOMP_MODE_STRICT) };
    // SAFETY: it ends the process.
    unsafe { way.call(libc::SYS_exit, [6]) };
    1
}

/// From `linux/prctl.h`.
const PR_SET_SYSCALL_USER_DISPATCH: i32 = 59;

/// Whether calls are handed to the process itself.
static SELECTOR: AtomicI64 = AtomicI64::new(0);

/// Calls from everywhere are handed to the process, until its handler says that they are not.
fn dispatch(way: Way) -> i32 {
    signals::handle_info(libc::SIGSYS, trapped, 0);
    // SAFETY: the selector is a static.
    let done = unsafe { libc::prctl(PR_SET_SYSCALL_USER_DISPATCH, 1, 0, 0, &raw const SELECTOR) };
    SELECTOR.store(1, SeqCst);
    let after = call(way, 5);
    let seen = [0, 1, 2, 3].map(|i| SEEN[i].load(SeqCst));
    let behind = after.behind as i64;
    // SYS_USER_DISPATCH is 2.
    i32::from(done != 0 || after.general[RAX] != 77 || seen != [FILTERED, behind, behind, 2])
}

/// Each of them in a child of its own.
pub fn check(report: &mut Report, ways: Ways) {
    let killed = End::Killed(libc::SIGSYS);
    let checks: [(&str, Act, End); 8] = [
        ("errno", error, End::Exited(0)),
        ("trap", trap, End::Exited(0)),
        ("trace", trace, End::Exited(0)),
        ("kill", kill, killed),
        ("log", log, End::Exited(0)),
        ("strict", strict, End::Killed(libc::SIGKILL)),
        ("strict exit", strict_exit, End::Exited(6)),
        ("dispatch", dispatch, End::Exited(0)),
    ];
    for (by, way) in ways.named() {
        for (name, check, want) in checks {
            report.check(&format!("filter {name} {by}"), child::run(|| check(way)), want);
        }
        report.check(&format!("filter trace with a tracer {by}"), traced(way), Ok((libc::PTRACE_EVENT_SECCOMP, 0)));
    }
}
