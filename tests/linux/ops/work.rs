//! The operations.

use std::arch::asm;
use std::ffi::CStr;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread;

use crate::calls::Calls;
use crate::{first, memory, waiting};

/// Does an operation so many times.
pub type Body = Box<dyn FnMut(u32)>;

/// An operation: its name, how often it is counted, and what makes it ready.
pub struct Operation {
    pub name: &'static str,
    pub count: u32,
    pub prepare: fn(Calls) -> io::Result<Body>,
}

/// All of them, the empty loop first: the system calls without arguments have it in them.
pub const OPERATIONS: &[Operation] = &[
    Operation { name: "loop", count: 20_000, prepare: empty },
    Operation { name: "getpid", count: 20_000, prepare: getpid },
    Operation { name: "first-call", count: 100, prepare: first::first_call },
    Operation { name: "read-zero", count: 10_000, prepare: read_zero },
    Operation { name: "write-null", count: 10_000, prepare: write_null },
    Operation { name: "futex-wake", count: 10_000, prepare: waiting::futex_wake },
    Operation { name: "epoll-ready", count: 5_000, prepare: waiting::epoll_ready },
    Operation { name: "pipe-round-trip", count: 2_000, prepare: pipe_round_trip },
    Operation { name: "futex-round-trip", count: 1_000, prepare: waiting::futex_round_trip },
    Operation { name: "switch-processes", count: 2_000, prepare: switch_processes },
    Operation { name: "switch-threads", count: 2_000, prepare: switch_threads },
    Operation { name: "signal-self", count: 2_000, prepare: signal_self },
    Operation { name: "fork-exit-wait", count: 200, prepare: fork_exit_wait },
    Operation { name: "fork-exit-wait-64m", count: 20, prepare: fork_exit_wait_large },
    Operation { name: "fork-exec-wait", count: 100, prepare: fork_exec_wait },
    Operation { name: "mmap-touch-munmap", count: 1_000, prepare: memory::mmap_one },
    Operation { name: "mmap-touch-munmap-16", count: 200, prepare: memory::mmap_sixteen },
    Operation { name: "page-fault", count: 1_000, prepare: memory::page_fault },
    Operation { name: "page-fault-sequential", count: 2_000, prepare: memory::page_fault_sequential },
    Operation { name: "page-fault-file", count: 300, prepare: memory::page_fault_file },
    Operation { name: "timer-tick", count: 100, prepare: timer_tick },
    Operation { name: "compute", count: 50, prepare: compute },
];

/// The last error, if a C function has failed.
pub fn check(result: i32) -> io::Result<i32> {
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(result) }
}

/// What `getpid` does, less the call.
fn empty(_: Calls) -> io::Result<Body> {
    Ok(Box::new(|n| {
        for _ in 0..n {
            let result: usize;
            // SAFETY: no instruction but those that fill the registers of a system call; all are to be filled each time.
            unsafe {
                asm!("", inlateout("rax") libc::SYS_getpid as usize => result, inlateout("rdi") 0usize => _, inlateout("rsi") 0usize => _,
                     inlateout("rdx") 0usize => _, inlateout("r10") 0usize => _, inlateout("r8") 0usize => _,
                     inlateout("r9") 0usize => _, lateout("rcx") _, lateout("r11") _);
            }
            std::hint::black_box(result);
        }
    }))
}

fn getpid(calls: Calls) -> io::Result<Body> {
    Ok(Box::new(move |n| {
        for _ in 0..n {
            // SAFETY: it has no arguments.
            let pid = unsafe { calls.call(libc::SYS_getpid, []) };
            std::hint::black_box(pid);
        }
    }))
}

fn read_zero(calls: Calls) -> io::Result<Body> {
    // SAFETY: the path is a string.
    let file = check(unsafe { libc::open(c"/dev/zero".as_ptr(), libc::O_RDONLY) })?;
    Ok(Box::new(move |n| {
        let mut byte = 1u8;
        for _ in 0..n {
            // SAFETY: the buffer is one byte.
            let got = unsafe { calls.call(libc::SYS_read, [file as usize, (&raw mut byte) as usize, 1]) };
            assert_eq!(got, 1);
        }
    }))
}

fn write_null(calls: Calls) -> io::Result<Body> {
    // SAFETY: the path is a string.
    let file = check(unsafe { libc::open(c"/dev/null".as_ptr(), libc::O_WRONLY) })?;
    Ok(Box::new(move |n| {
        let byte = 1u8;
        for _ in 0..n {
            // SAFETY: the buffer is one byte.
            let sent = unsafe { calls.call(libc::SYS_write, [file as usize, (&raw const byte) as usize, 1]) };
            assert_eq!(sent, 1);
        }
    }))
}

/// Two ends.
fn pipe() -> io::Result<[i32; 2]> {
    let mut ends = [0; 2];
    // SAFETY: there is room for both.
    check(unsafe { libc::pipe(ends.as_mut_ptr()) })?;
    Ok(ends)
}

/// Sends a byte on one pipe and waits for one on another.
fn exchange(calls: Calls, to: i32, from: i32) {
    let mut byte = 0u8;
    // SAFETY: the buffer is one byte.
    let sent = unsafe { calls.call(libc::SYS_write, [to as usize, (&raw mut byte) as usize, 1]) };
    // SAFETY: as above.
    let got = unsafe { calls.call(libc::SYS_read, [from as usize, (&raw mut byte) as usize, 1]) };
    assert_eq!((sent, got), (1, 1));
}

/// A child that does `act` again and again, until this is dropped.
struct Helper(i32);

impl Helper {
    fn start(act: impl Fn()) -> io::Result<Self> {
        // SAFETY: the child does nothing but make system calls.
        let pid = check(unsafe { libc::fork() })?;
        if pid == 0 {
            loop {
                act();
            }
        }
        Ok(Self(pid))
    }
}

impl Drop for Helper {
    fn drop(&mut self) {
        // SAFETY: no memory is named.
        unsafe { libc::kill(self.0, libc::SIGKILL) };
        // SAFETY: the status may go nowhere.
        unsafe { libc::waitpid(self.0, std::ptr::null_mut(), 0) };
    }
}

fn pipe_round_trip(calls: Calls) -> io::Result<Body> {
    let (to, from) = (pipe()?, pipe()?);
    let helper = Helper::start(|| {
        let mut byte = 0u8;
        // SAFETY: the buffer is one byte.
        unsafe { calls.call(libc::SYS_read, [to[0] as usize, (&raw mut byte) as usize, 1]) };
        // SAFETY: as above.
        unsafe { calls.call(libc::SYS_write, [from[1] as usize, (&raw mut byte) as usize, 1]) };
    })?;
    Ok(Box::new(move |n| {
        let _helper = &helper;
        (0..n).for_each(|_| exchange(calls, to[1], from[0]));
    }))
}

/// Lets the other one run, which does the same: two switches each time.
fn yield_once(calls: Calls) {
    // SAFETY: it has no arguments.
    unsafe { calls.call(libc::SYS_sched_yield, []) };
}

/// Lets this thread and its children take turns: without, a yield need not lead to the other one.
fn take_turns() -> io::Result<()> {
    policy(libc::SCHED_RR, 1)
}

/// As it was before [`take_turns`].
pub fn ordinary() -> io::Result<()> {
    policy(libc::SCHED_OTHER, 0)
}

fn policy(policy: i32, priority: i32) -> io::Result<()> {
    let parameters = libc::sched_param { sched_priority: priority };
    // SAFETY: the parameters are read.
    check(unsafe { libc::sched_setscheduler(0, policy, &raw const parameters) }).map(drop)
}

fn switch_processes(calls: Calls) -> io::Result<Body> {
    take_turns()?;
    let helper = Helper::start(|| yield_once(calls))?;
    Ok(Box::new(move |n| {
        let _helper = &helper;
        (0..n).for_each(|_| yield_once(calls));
    }))
}

fn switch_threads(calls: Calls) -> io::Result<Body> {
    take_turns()?;
    let running = Arc::new(());
    let theirs = Arc::downgrade(&running);
    thread::spawn(move || {
        while theirs.strong_count() > 0 {
            yield_once(calls);
        }
    });
    Ok(Box::new(move |n| {
        let _running = &running;
        (0..n).for_each(|_| yield_once(calls));
    }))
}

/// How many signals have been handled.
static HANDLED: AtomicU32 = AtomicU32::new(0);

extern "C" fn count_signal(_: i32) {
    HANDLED.fetch_add(1, Ordering::Relaxed);
}

fn signal_self(calls: Calls) -> io::Result<Body> {
    // SAFETY: the handler only adds to a counter.
    unsafe { libc::signal(libc::SIGUSR1, count_signal as *const () as libc::sighandler_t) };
    // SAFETY: it has no arguments.
    let pid = unsafe { libc::getpid() };
    Ok(Box::new(move |n| {
        let before = HANDLED.load(Ordering::Relaxed);
        for _ in 0..n {
            // SAFETY: no memory is named.
            unsafe { calls.call(libc::SYS_kill, [pid as usize, libc::SIGUSR1 as usize]) };
        }
        assert_eq!(HANDLED.load(Ordering::Relaxed).wrapping_sub(before), n);
    }))
}

/// Starts a child that does `act`, and waits for it.
fn child(calls: Calls, act: impl Fn()) {
    // SAFETY: the child does nothing but make system calls, and has its own memory.
    let pid = unsafe { calls.call(libc::SYS_fork, []) };
    assert!(pid >= 0);
    if pid == 0 {
        act();
        // SAFETY: it ends the child.
        unsafe { calls.call(libc::SYS_exit_group, [1]) };
    }
    let mut status = 0;
    // SAFETY: the status is written to the variable.
    unsafe { libc::waitpid(pid as i32, &raw mut status, 0) };
    assert!(libc::WIFEXITED(status));
}

fn fork_exit_wait(calls: Calls) -> io::Result<Body> {
    Ok(Box::new(move |n| (0..n).for_each(|_| child(calls, || {}))))
}

/// The same, of a process with 64 MiB of memory in use.
fn fork_exit_wait_large(calls: Calls) -> io::Result<Body> {
    let memory = vec![1u8; 64 << 20];
    Ok(Box::new(move |n| {
        std::hint::black_box(&memory);
        (0..n).for_each(|_| child(calls, || {}));
    }))
}

fn fork_exec_wait(calls: Calls) -> io::Result<Body> {
    const PROGRAM: &CStr = c"/bin/true";
    Ok(Box::new(move |n| {
        for _ in 0..n {
            child(calls, || {
                let argv = [PROGRAM.as_ptr(), std::ptr::null()];
                // SAFETY: path and arguments end with a zero.
                unsafe { calls.call(libc::SYS_execve, [PROGRAM.as_ptr() as usize, argv.as_ptr() as usize, 0]) };
            });
        }
    }))
}

/// Runs for so many hundredths of a second, which is when the clock ticks. Nobody is asked for the time meanwhile.
fn timer_tick(_: Calls) -> io::Result<Body> {
    let (start, before) = (std::time::Instant::now(), time_stamp());
    while start.elapsed().as_millis() < 100 {}
    let per_tick = (time_stamp() - before) / 10;
    Ok(Box::new(move |n| {
        let end = time_stamp() + per_tick * u64::from(n);
        while time_stamp() < end {}
    }))
}

/// A hundred thousand rounds of arithmetic, in registers: what nothing can be gained for.
fn compute(_: Calls) -> io::Result<Body> {
    Ok(Box::new(|n| {
        let mut sum = 1u64;
        for round in 0..u64::from(n) * 100_000 {
            sum = std::hint::black_box(sum.wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ round);
        }
    }))
}

/// The CPU's count.
fn time_stamp() -> u64 {
    // SAFETY: it only reads a counter.
    unsafe { std::arch::x86_64::_rdtsc() }
}
