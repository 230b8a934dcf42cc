//! Going to sleep without missing what one waits for.
//!
//! A sender on another pCPU first makes its event visible and then wakes. A sleeper that looked for events first and
//! then blocked would sleep on if both happened between the two: so it blocks first, looks, and wakes itself.

/// A vCPU that is about to wait.
pub trait Sleeper {
    /// Takes it off the run queues. From here on a wake is not lost.
    fn block(&self);
    /// Whether what it waits for is there.
    fn is_due(&self) -> bool;
    /// Undoes [`Self::block`], as whoever it waits for would.
    fn wake(&self);
}

/// Waits until woken, unless what is waited for is there already.
pub fn wait(sleeper: &impl Sleeper) {
    // Most waits that are not needed end here, without the scheduler.
    if sleeper.is_due() {
        return;
    }
    sleeper.block();
    if sleeper.is_due() {
        sleeper.wake();
    }
}

/// All interleavings with a sender, on the real run queues.
#[cfg(loom)]
mod loom_tests {
    use loom::sync::atomic::{AtomicBool, Ordering};
    use loom::sync::{Arc, Mutex};
    use loom::thread;

    use super::{Sleeper, wait};
    use crate::sched::{SLICE_NS, Scheduler, VcpuParams};

    const KEY: u32 = 0;

    struct World {
        policy: Mutex<Scheduler>,
        event: AtomicBool,
    }

    impl Sleeper for World {
        fn block(&self) {
            let _on = self.policy.lock().unwrap().block(KEY, 0);
        }
        fn is_due(&self) -> bool {
            self.event.load(Ordering::Acquire)
        }
        fn wake(&self) {
            let _woken = self.policy.lock().unwrap().wake(KEY, 0);
        }
    }

    /// The only vCPU of a pCPU waits by `wait`, another pCPU sends, then the first picks.
    fn waits_while_another_sends(wait: fn(&World)) {
        loom::model(move || {
            let mut policy = Scheduler::new(1, 1, SLICE_NS).unwrap();
            policy.add(KEY, VcpuParams::default()).unwrap();
            let _woken = policy.wake(KEY, 0);
            assert_eq!(policy.pick_next(0, 0).vcpu, Some(KEY));
            let world = Arc::new(World { policy: Mutex::new(policy), event: AtomicBool::new(false) });
            let sender = {
                let world = world.clone();
                thread::spawn(move || {
                    world.event.store(true, Ordering::Release);
                    world.wake();
                })
            };
            wait(&world);
            let _choice = world.policy.lock().unwrap().pick_next(0, 1);
            sender.join().unwrap();
            let runs = world.policy.lock().unwrap().pick_next(0, 2).vcpu;
            assert_eq!(runs, Some(KEY), "sleeps on a pending event");
        });
    }

    #[test]
    fn loom_wait_races_send() {
        waits_while_another_sends(wait);
    }

    #[test]
    #[should_panic(expected = "sleeps on")]
    fn loom_notices_a_look_before_blocking() {
        waits_while_another_sends(|world| {
            if !world.is_due() {
                world.block();
            }
        });
    }
}
