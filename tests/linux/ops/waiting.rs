//! Operations that wait, or could: futexes and epoll.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread;

use crate::calls::Calls;
use crate::work::{Body, check};

/// Wakes one of those who wait for `word`.
fn wake(calls: Calls, word: &AtomicU32) {
    let operation = (libc::FUTEX_WAKE | libc::FUTEX_PRIVATE_FLAG) as usize;
    // SAFETY: the word outlives the call.
    let woken = unsafe { calls.call(libc::SYS_futex, [word.as_ptr() as usize, operation, 1]) };
    assert!(woken >= 0);
}

/// Waits until `word` is no longer `old`.
fn wait(calls: Calls, word: &AtomicU32, old: u32) {
    let operation = (libc::FUTEX_WAIT | libc::FUTEX_PRIVATE_FLAG) as usize;
    while word.load(Ordering::Acquire) == old {
        // SAFETY: the word outlives the call; there is no time limit.
        unsafe { calls.call(libc::SYS_futex, [word.as_ptr() as usize, operation, old as usize, 0]) };
    }
}

/// Wakes nobody.
pub fn futex_wake(calls: Calls) -> io::Result<Body> {
    let word = AtomicU32::new(0);
    Ok(Box::new(move |n| (0..n).for_each(|_| wake(calls, &word))))
}

/// Two threads wake each other by turns. `STOP` ends the other one.
pub fn futex_round_trip(calls: Calls) -> io::Result<Body> {
    const STOP: u32 = u32::MAX;
    struct Ends(Arc<AtomicU32>, Calls);
    impl Drop for Ends {
        fn drop(&mut self) {
            self.0.store(STOP, Ordering::Release);
            wake(self.1, &self.0);
        }
    }
    let (asked, answered) = (Arc::new(AtomicU32::new(0)), Arc::new(AtomicU32::new(0)));
    let (theirs, answer) = (Arc::clone(&asked), Arc::clone(&answered));
    thread::spawn(move || {
        let mut seen = 0;
        loop {
            wait(calls, &theirs, seen);
            seen = theirs.load(Ordering::Acquire);
            if seen == STOP {
                return;
            }
            answer.store(seen, Ordering::Release);
            wake(calls, &answer);
        }
    });
    let ends = Ends(Arc::clone(&asked), calls);
    Ok(Box::new(move |n| {
        for _ in 0..n {
            let old = answered.load(Ordering::Acquire);
            ends.0.store(old + 1, Ordering::Release);
            wake(calls, &ends.0);
            wait(calls, &answered, old);
        }
    }))
}

/// Asks for events where one file has one.
pub fn epoll_ready(calls: Calls) -> io::Result<Body> {
    // SAFETY: no memory is named.
    let epoll = unsafe { libc::epoll_create1(0) };
    // SAFETY: as above.
    let event = unsafe { libc::eventfd(1, 0) };
    let mut wanted = libc::epoll_event { events: libc::EPOLLIN as u32, u64: 7 };
    let (epoll, event) = (check(epoll)?, check(event)?);
    // SAFETY: the event is read.
    check(unsafe { libc::epoll_ctl(epoll, libc::EPOLL_CTL_ADD, event, &raw mut wanted) })?;
    Ok(Box::new(move |n| {
        let mut got = libc::epoll_event { events: 0, u64: 0 };
        for _ in 0..n {
            // SAFETY: there is room for one event.
            let count = unsafe { calls.call(libc::SYS_epoll_wait, [epoll as usize, (&raw mut got) as usize, 1, usize::MAX]) };
            assert_eq!(count, 1);
        }
    }))
}
