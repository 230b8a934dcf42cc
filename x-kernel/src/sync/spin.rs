//! The spin lock: the `spin` crate's mutex, with a place in the lock order and a relax step that serves
//! TLB shootdowns.
//!
//! The relax step is what keeps two CPUs from waiting for each other: one that waits for a lock with interrupts
//! off would never acknowledge the flush that the lock's holder waits for.

use core::marker::PhantomData;
use core::ops::{Deref, DerefMut};

use ::spin::mutex::{SpinMutex, SpinMutexGuard};
use ::spin::relax::RelaxStrategy;

use super::level::{self, Level, Unranked};
use crate::arch::x86_64::tlb;

/// What a CPU does between two attempts to take a lock.
#[derive(Debug)]
pub enum ServeShootdowns {}

impl RelaxStrategy for ServeShootdowns {
    fn relax() {
        tlb::serve_shootdowns();
        core::hint::spin_loop();
    }
}

/// A value that one CPU at a time may use, at level `L` of the lock order.
pub struct SpinLock<T: ?Sized, L: Level = Unranked> {
    level: PhantomData<fn() -> L>,
    inner: SpinMutex<T, ServeShootdowns>,
}

impl<T, L: Level> SpinLock<T, L> {
    /// A free lock around `value`.
    pub const fn new(value: T) -> Self {
        Self { level: PhantomData, inner: SpinMutex::new(value) }
    }
}

impl<T: ?Sized, L: Level> SpinLock<T, L> {
    /// Waits for the lock.
    ///
    /// # Panics
    /// In debug builds, if this CPU holds a lock of the same or a later level.
    pub fn lock(&self) -> Guard<'_, T, L> {
        let recorded = level::enter::<L>(false);
        Guard { inner: self.inner.lock(), recorded, here: PhantomData }
    }

    /// Waits for the lock while another of the same level is held. The caller takes such pairs in one fixed
    /// order (lower domain number first).
    ///
    /// # Panics
    /// In debug builds, if this CPU holds a lock of a later level.
    pub fn lock_nested(&self) -> Guard<'_, T, L> {
        let recorded = level::enter::<L>(true);
        Guard { inner: self.inner.lock(), recorded, here: PhantomData }
    }

    /// Takes the lock if it is free.
    pub fn try_lock(&self) -> Option<Guard<'_, T, L>> {
        let inner = self.inner.try_lock()?;
        Some(Guard { inner, recorded: level::note::<L>(), here: PhantomData })
    }
}

impl<T: core::fmt::Debug, L: Level> core::fmt::Debug for SpinLock<T, L> {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        match self.try_lock() {
            Some(guard) => f.debug_tuple(L::NAME).field(&&*guard).finish(),
            None => f.debug_tuple(L::NAME).field(&"locked").finish(),
        }
    }
}

impl<T: Default, L: Level> Default for SpinLock<T, L> {
    fn default() -> Self {
        Self::new(T::default())
    }
}

/// Ties a guard to its level and to the CPU that made it.
type Here<L> = PhantomData<(*const (), fn() -> L)>;

/// A held lock. Not `Send`: the CPU that took it gives it up.
#[must_use = "the lock is given up at once"]
pub struct Guard<'a, T: ?Sized, L: Level = Unranked> {
    inner: SpinMutexGuard<'a, T>,
    recorded: bool,
    here: Here<L>,
}

impl<T: ?Sized, L: Level> Deref for Guard<'_, T, L> {
    type Target = T;
    fn deref(&self) -> &T {
        &self.inner
    }
}

impl<T: ?Sized, L: Level> DerefMut for Guard<'_, T, L> {
    fn deref_mut(&mut self) -> &mut T {
        &mut self.inner
    }
}

impl<T: ?Sized + core::fmt::Display, L: Level> core::fmt::Display for Guard<'_, T, L> {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        (**self).fmt(f)
    }
}

impl<T: ?Sized + core::fmt::Debug, L: Level> core::fmt::Debug for Guard<'_, T, L> {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        (**self).fmt(f)
    }
}

impl<T: ?Sized, L: Level> Drop for Guard<'_, T, L> {
    fn drop(&mut self) {
        if self.recorded {
            level::leave::<L>();
        }
    }
}
