//! Events at a chosen moment.

use std::arch::asm;
use std::io;
use std::mem::zeroed;
use std::ptr::null_mut;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Barrier};
use std::thread;

/// What an event is.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Kind {
    /// A signal with a handler.
    Signal,
    /// A thread that is woken and runs at once, for it is more urgent.
    Thread,
}

/// How many events have come: counted by the handler, or by the thread.
static COME: AtomicU32 = AtomicU32::new(0);

/// More turns than any event is late.
const PATIENCE: u32 = 100_000;

/// A timer, and what it sets off.
pub struct Event {
    timer: Option<libc::timer_t>,
    file: i32,
    seen: u32,
}

fn check(result: i32) -> Result<i32, String> {
    if result < 0 { Err(io::Error::last_os_error().to_string()) } else { Ok(result) }
}

/// A timer that sends `number`, whose handler counts.
fn signal(number: i32) -> Result<libc::timer_t, String> {
    // SAFETY: the handler only counts.
    unsafe { libc::signal(number, come as *const () as libc::sighandler_t) };
    // SAFETY: all zero is a value of it.
    let mut what: libc::sigevent = unsafe { zeroed() };
    what.sigev_notify = libc::SIGEV_SIGNAL;
    what.sigev_signo = number;
    let mut timer = null_mut();
    // SAFETY: both are variables of ours.
    check(unsafe { libc::timer_create(libc::CLOCK_MONOTONIC, &raw mut what, &raw mut timer) })?;
    Ok(timer)
}

/// A time from now.
fn after(nanoseconds: u32) -> libc::itimerspec {
    // SAFETY: all zero is a value of it.
    let mut when: libc::itimerspec = unsafe { zeroed() };
    when.it_value.tv_nsec = i64::from(nanoseconds);
    when
}

fn set_timer(timer: libc::timer_t, nanoseconds: u32) -> Result<(), String> {
    // SAFETY: the time is read.
    check(unsafe { libc::timer_settime(timer, 0, &after(nanoseconds), null_mut()) }).map(drop)
}

fn set_file(file: i32, nanoseconds: u32) -> Result<(), String> {
    // SAFETY: the time is read.
    check(unsafe { libc::timerfd_settime(file, 0, &after(nanoseconds), null_mut()) }).map(drop)
}

extern "C" fn come(_: i32) {
    COME.fetch_add(1, Ordering::Relaxed);
}

/// Makes the calling thread run before those of a lower priority.
fn urgent(priority: i32) -> Result<i32, String> {
    let parameters = libc::sched_param { sched_priority: priority };
    // SAFETY: the parameters are read.
    check(unsafe { libc::sched_setscheduler(0, libc::SCHED_FIFO, &raw const parameters) })
}

impl Event {
    pub fn new(kind: Kind) -> Result<Self, String> {
        let mut event = Self { timer: None, file: -1, seen: 0 };
        match kind {
            Kind::Signal => event.timer = Some(signal(libc::SIGUSR1)?),
            Kind::Thread => {
                // SAFETY: no memory is named.
                event.file = check(unsafe { libc::timerfd_create(libc::CLOCK_MONOTONIC, 0) })?;
                let file = event.file;
                let ready = Arc::new(Barrier::new(2));
                let theirs = Arc::clone(&ready);
                thread::spawn(move || {
                    urgent(2).expect("a more urgent thread");
                    theirs.wait();
                    let mut times = 0u64;
                    // SAFETY: eight bytes are read into as many. It waits for ever when nothing is set any more.
                    while unsafe { libc::read(file, (&raw mut times).cast(), 8) } == 8 {
                        COME.fetch_add(1, Ordering::Relaxed);
                    }
                });
                ready.wait();
                urgent(1)?;
            }
        }
        Ok(event)
    }

    /// The event comes in so many nanoseconds.
    pub fn set(&mut self, nanoseconds: u32) -> Result<(), String> {
        self.seen = COME.load(Ordering::Relaxed);
        match self.timer {
            Some(timer) => set_timer(timer, nanoseconds),
            None => set_file(self.file, nanoseconds),
        }
    }

    /// Whether it has come.
    fn has_come(&self) -> bool {
        COME.load(Ordering::Relaxed) != self.seen
    }

    /// So many turns.
    pub fn spin(&self, turns: u32) {
        // SAFETY: it counts.
        unsafe { asm!("2: dec {0:e}", "jnz 2b", inout(reg) turns.max(1) => _, options(nomem, nostack)) };
    }

    /// How many turns go by until an event comes that is set so many nanoseconds ahead: by halves.
    pub fn turns_until(&mut self, nanoseconds: u32) -> Result<u32, String> {
        let (mut few, mut many) = (0, nanoseconds);
        while many - few > 1 {
            let turns = few.midpoint(many);
            self.set(nanoseconds)?;
            self.spin(turns);
            let came = self.has_come();
            if self.wait_for_it() {
                return Err("an event did not come".into());
            }
            *(if came { &mut many } else { &mut few }) = turns;
        }
        Ok(many)
    }

    /// Gives it time to come, without a system call. Returns whether it has not.
    pub fn wait_for_it(&self) -> bool {
        (0..PATIENCE).all(|_| !self.has_come())
    }
}

impl Drop for Event {
    fn drop(&mut self) {
        if let Some(timer) = self.timer {
            // SAFETY: it is one.
            unsafe { libc::timer_delete(timer) };
        }
        let parameters = libc::sched_param { sched_priority: 0 };
        // SAFETY: the parameters are read.
        unsafe { libc::sched_setscheduler(0, libc::SCHED_OTHER, &raw const parameters) };
    }
}
