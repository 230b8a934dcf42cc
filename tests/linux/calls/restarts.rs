//! Calls that wait and are disturbed: they go on, or say EINTR, as by the instruction.

use crate::child::{self, End};
use crate::report::Report;
use crate::signals;
use crate::way::{Way, Ways};

/// A call that waits, and what lets it end.
struct Operation {
    name: &'static str,
    /// Makes it and returns its result.
    wait: fn(Way, &Means) -> isize,
    /// Lets it end.
    end: fn(&Means),
    /// Its results: stopped and continued, handled with SA_RESTART and without.
    want: [isize; 3],
}

/// What an operation works on.
struct Means {
    pipe: [i32; 2],
}

/// Where on the board the word for the futex is, how many signals were handled, and the result.
const WORD: usize = 0;
const HANDLED: usize = 1;
const RESULT: usize = 2;

const EINTR: isize = -(libc::EINTR as isize);

const OPERATIONS: [Operation; 8] = [
    Operation { name: "read", wait: read, end: write, want: [1, 1, EINTR] },
    Operation { name: "nanosleep", wait: nanosleep, end: |_| {}, want: [0, EINTR, EINTR] },
    Operation { name: "poll", wait: poll, end: write, want: [1, EINTR, EINTR] },
    Operation { name: "futex", wait: futex, end: wake, want: [0, 0, EINTR] },
    Operation { name: "futex with a timeout", wait: futex_for_long, end: wake, want: [0, EINTR, EINTR] },
    Operation { name: "wait4", wait: wait4, end: write, want: [1, 1, EINTR] },
    Operation { name: "epoll_wait", wait: epoll_wait, end: write, want: [EINTR, EINTR, EINTR] },
    Operation { name: "clock_nanosleep", wait: clock_nanosleep, end: |_| {}, want: [0, EINTR, EINTR] },
];

/// How long the sleeps are: longer than it takes to disturb them.
static LONG: libc::timespec = libc::timespec { tv_sec: 0, tv_nsec: 300_000_000 };

fn read(way: Way, means: &Means) -> isize {
    let mut byte = 0u8;
    // SAFETY: the buffer is one byte.
    unsafe { way.call(libc::SYS_read, [means.pipe[0] as usize, (&raw mut byte) as usize, 1]) }
}

fn write(means: &Means) {
    // SAFETY: the buffer is one byte.
    unsafe { libc::write(means.pipe[1], c"x".as_ptr().cast(), 1) };
}

fn nanosleep(way: Way, _: &Means) -> isize {
    let start = std::time::Instant::now();
    // SAFETY: the time is read.
    let result = unsafe { way.call(libc::SYS_nanosleep, [(&raw const LONG) as usize, 0]) };
    if result == 0 { long_enough(start) } else { result }
}

/// 0, or how long it was.
fn long_enough(start: std::time::Instant) -> isize {
    let slept = start.elapsed().as_nanos();
    if slept >= LONG.tv_nsec as u128 { 0 } else { slept as isize }
}

fn clock_nanosleep(way: Way, _: &Means) -> isize {
    let start = std::time::Instant::now();
    // SAFETY: the time is read.
    let result = unsafe { way.call(libc::SYS_clock_nanosleep, [libc::CLOCK_MONOTONIC as usize, 0, (&raw const LONG) as usize, 0]) };
    if result == 0 { long_enough(start) } else { result }
}

fn poll(way: Way, means: &Means) -> isize {
    let mut what = libc::pollfd { fd: means.pipe[0], events: libc::POLLIN, revents: 0 };
    // SAFETY: it is one of them.
    unsafe { way.call(libc::SYS_poll, [(&raw mut what) as usize, 1, 9_000]) }
}

/// The address of the futex.
fn word() -> usize {
    (&raw const child::board()[WORD]) as usize
}

fn futex(way: Way, _: &Means) -> isize {
    // SAFETY: the word is on the board.
    unsafe { way.call(libc::SYS_futex, [word(), libc::FUTEX_WAIT as usize, 0, 0]) }
}

fn futex_for_long(way: Way, _: &Means) -> isize {
    let time = libc::timespec { tv_sec: 9, tv_nsec: 0 };
    // SAFETY: the word is on the board, the time is read.
    unsafe { way.call(libc::SYS_futex, [word(), libc::FUTEX_WAIT as usize, 0, (&raw const time) as usize]) }
}

fn wake(_: &Means) {
    // SAFETY: the word is on the board.
    unsafe { libc::syscall(libc::SYS_futex, word(), libc::FUTEX_WAKE, 1) };
}

/// Waits for a child that ends when there is something in the pipe; 1 if it is the one.
fn wait4(way: Way, means: &Means) -> isize {
    let pid = child::start(child::PATIENCE, || i32::from(read(Way::Instruction, means) != 1));
    let mut status = -1;
    // SAFETY: the status goes to the variable.
    let got = unsafe { way.call(libc::SYS_wait4, [pid as usize, (&raw mut status) as usize, 0, 0]) };
    match got {
        n if n == pid as isize && status == 0 => 1,
        n if n == pid as isize => isize::MIN,
        n => n,
    }
}

fn epoll_wait(way: Way, means: &Means) -> isize {
    // SAFETY: no memory is named.
    let set = unsafe { libc::epoll_create1(0) };
    let mut event = libc::epoll_event { events: libc::EPOLLIN as u32, u64: 0 };
    // SAFETY: the event is read.
    unsafe { libc::epoll_ctl(set, libc::EPOLL_CTL_ADD, means.pipe[0], &raw mut event) };
    // SAFETY: there is room for one.
    unsafe { way.call(libc::SYS_epoll_wait, [set as usize, (&raw mut event) as usize, 1, 9_000]) }
}

/// How it is disturbed.
#[derive(Clone, Copy)]
enum Disturbance {
    Stop,
    /// By a signal with a handler and these flags.
    Signal(i32),
}

const DISTURBANCES: [(&str, Disturbance); 3] =
    [("stop", Disturbance::Stop), ("handler with SA_RESTART", Disturbance::Signal(libc::SA_RESTART)), ("handler", Disturbance::Signal(0))];

extern "C" fn handled(_: i32) {
    child::count(HANDLED);
}

/// The operation's result in a child that is disturbed while it waits, or why there is none.
fn outcome(way: Way, operation: &Operation, disturbance: Disturbance) -> Result<isize, String> {
    child::wipe();
    let means = Means { pipe: child::pipe() };
    let pid = child::start(child::PATIENCE, || {
        if let Disturbance::Signal(flags) = disturbance {
            signals::handle(libc::SIGUSR1, handled, flags);
        }
        child::put(RESULT, (operation.wait)(way, &means) as i64);
        0
    });
    let waits = || child::until(|| matches!(child::state(pid), 'S' | 'Z'));
    let disturbed = waits()
        && match disturbance {
            Disturbance::Stop => {
                child::kill(pid, libc::SIGSTOP);
                let stopped = child::until(|| child::state(pid) == 'T');
                child::kill(pid, libc::SIGCONT);
                stopped
            }
            Disturbance::Signal(_) => {
                child::kill(pid, libc::SIGUSR1);
                child::until(|| child::got(HANDLED) == 1)
            }
        };
    let waits = waits();
    (operation.end)(&means);
    let end = child::wait(pid);
    child::close(means.pipe);
    match (disturbed, waits, end) {
        (true, true, End::Exited(0)) => Ok(child::got(RESULT) as isize),
        other => Err(format!("(disturbed, waits, end) are {other:?}")),
    }
}

/// Each operation, disturbed in each way.
pub fn check(report: &mut Report, ways: Ways) {
    for operation in &OPERATIONS {
        for ((name, disturbance), want) in DISTURBANCES.into_iter().zip(operation.want) {
            for (by, way) in ways.named() {
                report.check(&format!("restart {} {name} {by}", operation.name), outcome(way, operation, disturbance), Ok(want));
            }
        }
    }
}
