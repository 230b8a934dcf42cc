//! A limit on a rate: tokens that come back with time, up to a burst.
//!
//! Kept as one time, that at which the bucket is full again: taking moves it on, waiting lets the present come nearer.

/// A bucket of tokens.
#[derive(Clone, Copy, Debug)]
pub struct TokenBucket {
    burst: u32,
    /// How long a token takes to come back.
    cost_ns: u64,
    full_at_ns: u64,
}

impl TokenBucket {
    /// A full bucket of `burst` tokens, each of which comes back after `cost_ns`. Both are at least 1.
    pub const fn new(burst: u32, cost_ns: u64) -> Self {
        Self { burst: if burst == 0 { 1 } else { burst }, cost_ns: if cost_ns == 0 { 1 } else { cost_ns }, full_at_ns: 0 }
    }

    /// How many tokens there are.
    pub fn level(&self, now_ns: u64) -> u32 {
        let missing = self.full_at_ns.saturating_sub(now_ns).div_ceil(self.cost_ns);
        u32::try_from(missing).map_or(0, |missing| self.burst.saturating_sub(missing))
    }

    /// Takes up to `wanted` tokens; how many.
    pub fn take(&mut self, now_ns: u64, wanted: u32) -> u32 {
        let taken = wanted.min(self.level(now_ns));
        self.full_at_ns = self.full_at_ns.max(now_ns).saturating_add(u64::from(taken).saturating_mul(self.cost_ns));
        taken
    }

    /// When there will be `wanted` tokens, or as many as there can be.
    pub fn ready_at_ns(&self, wanted: u32) -> u64 {
        let spare = self.burst.saturating_sub(wanted.min(self.burst));
        self.full_at_ns.saturating_sub(u64::from(spare).saturating_mul(self.cost_ns))
    }
}

#[cfg(test)]
mod tests {
    use super::TokenBucket;
    use proptest::prelude::*;

    #[test]
    fn a_burst_then_the_rate() {
        let mut bucket = TokenBucket::new(10, 100);
        assert_eq!(bucket.take(1_000, 7), 7);
        assert_eq!(bucket.take(1_000, 7), 3);
        assert_eq!(bucket.take(1_000, 7), 0);
        assert_eq!(bucket.take(1_099, 7), 0);
        assert_eq!(bucket.take(1_100, 7), 1);
        assert_eq!(bucket.ready_at_ns(1), 1_200);
        assert_eq!(bucket.ready_at_ns(2), 1_300);
        assert_eq!(bucket.level(1_300), 2);
        // Never more than the burst, however long it waits.
        assert_eq!(bucket.take(1_000_000, 100), 10);
        assert_eq!(bucket.ready_at_ns(100), bucket.ready_at_ns(10));
    }

    #[test]
    fn no_value_is_too_large() {
        let mut bucket = TokenBucket::new(u32::MAX, u64::MAX);
        assert_eq!(bucket.take(0, u32::MAX), u32::MAX);
        let _level = bucket.level(0);
        let _at = bucket.ready_at_ns(u32::MAX);
        assert!(TokenBucket::new(0, 0).take(5, 5) == 1);
    }

    proptest! {
        /// Over any span no more comes out than the burst and what the span's time gives; and whoever waits until
        /// the time that was told gets all.
        #[test]
        fn never_more_than_the_rate(burst in 1u32..50, cost in 1u64..50, steps in proptest::collection::vec((0u64..500, 0u32..60), 1..60)) {
            let mut bucket = TokenBucket::new(burst, cost);
            let (mut now, mut total) = (0u64, 0u64);
            for (wait, wanted) in steps {
                now = now.saturating_add(wait);
                let before = bucket.level(now);
                let got = bucket.take(now, wanted);
                prop_assert_eq!(got, wanted.min(before));
                total = total.saturating_add(u64::from(got));
                prop_assert!(total <= u64::from(burst).saturating_add(now.div_ceil(cost)));
                let at = bucket.ready_at_ns(wanted);
                prop_assert!(bucket.level(at.max(now)) >= wanted.min(burst));
            }
        }
    }
}
