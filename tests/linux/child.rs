//! Children that try what may go wrong, and the board on which they leave what they found.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::{Duration, Instant};

/// How a process ended.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum End {
    /// With this status.
    Exited(i32),
    /// By this signal.
    Killed(i32),
}

impl End {
    /// From the status of `wait`.
    pub fn of(status: i32) -> Self {
        if libc::WIFEXITED(status) { Self::Exited(libc::WEXITSTATUS(status)) } else { Self::Killed(libc::WTERMSIG(status)) }
    }
}

/// Seconds until a child counts as hung.
pub const PATIENCE: u32 = 10;

/// Starts a child that does `act` and exits with its result, and is killed by SIGALRM after so many seconds.
pub fn start(seconds: u32, act: impl FnOnce() -> i32) -> i32 {
    // SAFETY: nothing of this program keeps state that a child with one thread could find halfway.
    let pid = unsafe { libc::fork() };
    assert!(pid >= 0, "fork");
    if pid > 0 {
        return pid;
    }
    // SAFETY: no memory is named.
    unsafe { libc::alarm(seconds) };
    let status = act();
    // SAFETY: it ends the process.
    unsafe { libc::_exit(status) }
}

/// Waits until a child has ended.
pub fn wait(pid: i32) -> End {
    let mut status = 0;
    // SAFETY: the status is written to the variable.
    let got = unsafe { libc::waitpid(pid, &raw mut status, libc::__WALL) };
    assert_eq!(got, pid);
    End::of(status)
}

/// A child from start to end.
pub fn run(act: impl FnOnce() -> i32) -> End {
    wait(start(PATIENCE, act))
}

/// Numbers that all processes see.
pub fn board() -> &'static [AtomicI64; 64] {
    static BOARD: OnceLock<usize> = OnceLock::new();
    let at = *BOARD.get_or_init(|| fresh(4096, libc::MAP_SHARED) as usize);
    // SAFETY: it is mapped for ever, is large enough, aligned and zero at first; all access is atomic.
    unsafe { &*(at as *const [AtomicI64; 64]) }
}

/// Writes a number on the board.
pub fn put(index: usize, value: i64) {
    board()[index].store(value, Ordering::SeqCst);
}

/// A number on the board.
pub fn got(index: usize) -> i64 {
    board()[index].load(Ordering::SeqCst)
}

/// One more.
pub fn count(index: usize) {
    board()[index].fetch_add(1, Ordering::SeqCst);
}

/// Wipes the board.
pub fn wipe() {
    board().iter().for_each(|n| n.store(0, Ordering::SeqCst));
}

/// Fresh memory.
pub fn fresh(length: usize, sharing: i32) -> *mut u8 {
    let (protection, flags) = (libc::PROT_READ | libc::PROT_WRITE, sharing | libc::MAP_ANONYMOUS);
    // SAFETY: nothing is there before.
    let at = unsafe { libc::mmap(std::ptr::null_mut(), length, protection, flags, -1, 0) };
    assert_ne!(at, libc::MAP_FAILED);
    at.cast()
}

/// Waits until `done`; false if that takes too long.
pub fn until(done: impl Fn() -> bool) -> bool {
    let start = Instant::now();
    while !done() {
        if start.elapsed() > Duration::from_secs(u64::from(PATIENCE)) {
            return false;
        }
        std::thread::sleep(Duration::from_millis(1));
    }
    true
}

/// The letter for what a process does: R, S, T, Z and others.
pub fn state(pid: i32) -> char {
    let line = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    line.rsplit_once(") ").and_then(|(_, rest)| rest.chars().next()).unwrap_or('?')
}

/// Sends a signal.
pub fn kill(pid: i32, signal: i32) {
    // SAFETY: no memory is named.
    unsafe { libc::kill(pid, signal) };
}

/// A pipe's two ends: to read from and to write to.
pub fn pipe() -> [i32; 2] {
    let mut ends = [0; 2];
    // SAFETY: there is room for both.
    assert_eq!(unsafe { libc::pipe(ends.as_mut_ptr()) }, 0);
    ends
}

/// Closes both ends.
pub fn close(ends: [i32; 2]) {
    for end in ends {
        // SAFETY: nobody uses it any more.
        unsafe { libc::close(end) };
    }
}
