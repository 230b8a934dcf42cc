//! The timer queue: deadlines in nanoseconds since boot, one per id, earliest first.
//!
//! Any `u64` is a deadline: 0 and the past are due at once, `u64::MAX` sorts last and is due only then. Nothing
//! here loops on behalf of a guest: [`next_periodic`] finds the next period by division, however far behind it is
//! (XSA-20 was a loop that never caught up). Answers to Xen's common/timer.c.

mod heap;
#[cfg(test)]
mod tests;

pub use heap::KeyedHeap;

/// Shortest period that a guest may ask for: the public ABI's limit of one millisecond.
pub const MIN_PERIOD_NS: u64 = 1_000_000;
/// Longest period: about 36 years, as far as a deadline can be meant seriously.
pub const MAX_PERIOD_NS: u64 = 1 << 60;

/// The id is not below the capacity of the queue.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct NoSuchTimer;

/// See the module.
#[derive(Debug)]
pub struct TimerQueue {
    heap: KeyedHeap<u64>,
}

impl TimerQueue {
    /// A queue for ids below `capacity`, the only allocation it makes; None when memory is short.
    pub fn new(capacity: u32) -> Option<Self> {
        Some(Self { heap: KeyedHeap::new(capacity)? })
    }

    /// Sets the deadline of `id`, new or changed.
    ///
    /// # Errors
    /// [`NoSuchTimer`] if `id` is not below the capacity.
    pub fn set(&mut self, id: u32, deadline_ns: u64) -> Result<(), NoSuchTimer> {
        if self.heap.set(id, deadline_ns) { Ok(()) } else { Err(NoSuchTimer) }
    }

    /// Stops the timer of `id`; whether it was set.
    pub fn remove(&mut self, id: u32) -> bool {
        self.heap.remove(id).is_some()
    }

    /// The deadline of `id`, if set.
    pub fn deadline(&self, id: u32) -> Option<u64> {
        self.heap.key(id)
    }

    /// The earliest deadline: what the hardware timer is to be set to.
    pub fn next_deadline(&self) -> Option<u64> {
        self.heap.first().map(|(deadline, _)| deadline)
    }

    /// Takes out the earliest timer whose deadline is not after `now_ns`.
    ///
    /// A caller that loops over this and sets timers again inside the loop ends, if it sets them after `now_ns`.
    pub fn pop_due(&mut self, now_ns: u64) -> Option<(u32, u64)> {
        let (deadline, _) = self.heap.first()?;
        if deadline > now_ns {
            return None;
        }
        self.heap.pop().map(|(deadline, id)| (id, deadline))
    }

    /// How many timers are set.
    pub fn len(&self) -> usize {
        self.heap.len()
    }

    /// Whether no timer is set.
    pub fn is_empty(&self) -> bool {
        self.heap.is_empty()
    }
}

/// Whether a guest may have `period_ns` as the period of a periodic timer.
pub fn period_is_allowed(period_ns: u64) -> bool {
    (MIN_PERIOD_NS..=MAX_PERIOD_NS).contains(&period_ns)
}

/// The first deadline after `now_ns` on the grid of a periodic timer that was due at `deadline_ns`.
///
/// Skips the periods that were missed in one step. None if `period_ns` is 0, or if the next deadline would not
/// fit: such a timer is over.
pub fn next_periodic(deadline_ns: u64, period_ns: u64, now_ns: u64) -> Option<u64> {
    if deadline_ns > now_ns {
        return if period_ns == 0 { None } else { Some(deadline_ns) };
    }
    let behind = now_ns.checked_sub(deadline_ns)?;
    let periods = behind.checked_div(period_ns)?.checked_add(1)?;
    deadline_ns.checked_add(periods.checked_mul(period_ns)?)
}
