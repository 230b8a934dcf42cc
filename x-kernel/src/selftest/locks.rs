//! The lock order check.

use super::{ensure, selftest, some};
use crate::sync::{InitOnce, SpinLock, level};

selftest! {
    /// The check allows what LOCKING.md allows and nothing else, and forgets a lock that is given up.
    fn lock_order() {
        ensure!(level::may_take(0, 3, false) && level::may_take(1 << 2, 3, false));
        ensure!(!level::may_take(1 << 3, 3, false) && level::may_take(1 << 3, 3, true));
        ensure!(!level::may_take(1 << 4, 3, false) && !level::may_take(1 << 4, 3, true));
        ensure!(!level::may_take(1 << 31, 30, false) && level::may_take(1 << 30, 31, false));
        ensure!(!level::any_held());
        let domain: SpinLock<u32, level::Domain> = SpinLock::new(1);
        let queue: SpinLock<u32, level::RunQueue> = SpinLock::new(2);
        {
            let mut a = domain.lock();
            ensure!(level::any_held() == cfg!(debug_assertions));
            let b = queue.lock();
            *a += *b;
            ensure!(domain.try_lock().is_none());
        }
        ensure!(!level::any_held());
        ensure!(*some!(domain.try_lock()) == 3);
        {
            // Out of order on the way out.
            let a = domain.lock();
            let b = queue.lock();
            drop(a);
            ensure!(level::any_held() == cfg!(debug_assertions));
            drop(b);
        }
        ensure!(!level::any_held());
    }
}

selftest! {
    /// A cell takes one value.
    fn init_once() {
        let cell = InitOnce::new();
        ensure!(cell.get().is_none());
        ensure!(cell.set(5) == Ok(()));
        ensure!(cell.set(6) == Err(6));
        ensure!(cell.get() == Some(&5) && *cell.get_or_init(|| 7) == 5);
    }
}
