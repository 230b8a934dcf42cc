//! Proportional share by virtual time.
//!
//! A vCPU's *debt* grows by the time it runs divided by its weight; the vCPU with the least debt runs next, so over
//! time debts grow together and time divides by weight. What keeps that fair against guests that sleep on purpose:
//!
//! * debt is charged for every nanosecond run, whenever the vCPU stops;
//! * a waking vCPU's debt is raised to no less than [`BOOST_NS`] of its own time behind the queue's floor, so sleep
//!   is not saved up, and never lowered, so waking often earns nothing;
//! * within that bound a waking vCPU runs before those that kept the CPU busy: the latency of interrupts.
//!
//! Debts are 128 bits wide: no run time a machine can live through wraps them, and no rebasing is needed.

/// The weight of a vCPU that nobody gave another.
pub const DEFAULT_WEIGHT: u32 = 256;
/// The greatest weight.
pub const MAX_WEIGHT: u32 = 65_535;
/// How long a vCPU runs while others wait.
pub const SLICE_NS: u64 = 10_000_000;
/// How long a vCPU runs while nobody waits: then it is asked again.
pub const MAX_SLICE_NS: u64 = 30_000_000;
/// The most that a waking vCPU may be ahead of the others, in time it may run. One slice: what it waited for while
/// another had its slice is not taken from it if it sleeps for a moment.
pub const BOOST_NS: u64 = SLICE_NS;
/// How long another runs when a vCPU gives way to it: the one that did keeps its claim.
pub const YIELD_NS: u64 = 1_000_000;
/// How far ahead a waking vCPU must be for the running one to be stopped, in time it may run: two that wake each
/// other and have had the same do not switch at each wake.
pub const PREEMPT_NS: u64 = 500_000;

/// Weighted time.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq, Ord, PartialOrd)]
pub struct Debt(u128);

impl Debt {
    /// Where everyone starts: far from both ends, so that no difference is cut off.
    pub const START: Self = Self(1 << 100);

    /// What running for `ran_ns` at `weight` costs: rounded up, so that no run is free.
    pub fn of(ran_ns: u64, weight: u32) -> Self {
        let weight = u128::from(weight.clamp(1, MAX_WEIGHT));
        // At most 2^80, and the divisor is not 0.
        Self((u128::from(ran_ns) << 16).div_ceil(weight))
    }

    /// The sum.
    #[must_use]
    pub fn plus(self, other: Self) -> Self {
        Self(self.0.saturating_add(other.0))
    }

    /// The difference, 0 at least.
    #[must_use]
    pub fn minus(self, other: Self) -> Self {
        Self(self.0.saturating_sub(other.0))
    }

    /// The debt of a vCPU of `weight` that wakes up owing `self` where the floor is `floor`.
    #[must_use]
    pub fn woken(self, floor: Self, weight: u32) -> Self {
        self.max(floor.minus(Self::of(BOOST_NS, weight)))
    }

    /// Whether a vCPU of `weight` that owes `self` is to stop one that owes `running`.
    pub fn preempts(self, running: Self, weight: u32) -> bool {
        self.plus(Self::of(PREEMPT_NS, weight)) <= running
    }
}
