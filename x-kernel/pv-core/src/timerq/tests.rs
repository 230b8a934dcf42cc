//! The timer queue against a sorted map, and the edges of time.

#![expect(clippy::arithmetic_side_effects, reason = "the numbers are the tests' own")]

use std::collections::BTreeMap;
use std::vec::Vec;

use proptest::prelude::*;

use super::{KeyedHeap, NoSuchTimer, TimerQueue, next_periodic, period_is_allowed};

#[derive(Clone, Debug)]
enum Op {
    Set(u32, u64),
    Remove(u32),
    PopDue(u64),
}

fn deadline() -> impl Strategy<Value = u64> {
    prop_oneof![Just(0), Just(1), Just(u64::MAX), Just(u64::MAX - 1), 0u64..20, any::<u64>()]
}

fn op() -> impl Strategy<Value = Op> {
    prop_oneof![
        (0u32..20, deadline()).prop_map(|(id, at)| Op::Set(id, at)),
        (0u32..20).prop_map(Op::Remove),
        deadline().prop_map(Op::PopDue),
    ]
}

proptest! {
    #[test]
    fn agrees_with_a_sorted_map(ops in proptest::collection::vec(op(), 0..300)) {
        let mut queue = TimerQueue::new(16).unwrap();
        let mut model: BTreeMap<u32, u64> = BTreeMap::new();
        for op in ops {
            match op {
                Op::Set(id, at) if id < 16 => {
                    prop_assert_eq!(queue.set(id, at), Ok(()));
                    model.insert(id, at);
                }
                Op::Set(id, at) => prop_assert_eq!(queue.set(id, at), Err(NoSuchTimer)),
                Op::Remove(id) => prop_assert_eq!(queue.remove(id), model.remove(&id).is_some()),
                Op::PopDue(now) => {
                    let due = model.iter().map(|(&id, &at)| (at, id)).min().filter(|&(at, _)| at <= now);
                    prop_assert_eq!(queue.pop_due(now), due.map(|(at, id)| (id, at)));
                    if let Some((_, id)) = due {
                        model.remove(&id);
                    }
                }
            }
            prop_assert_eq!(queue.len(), model.len());
            prop_assert_eq!(queue.next_deadline(), model.values().copied().min());
            for id in 0..20 {
                prop_assert_eq!(queue.deadline(id), model.get(&id).copied());
            }
        }
    }

    #[test]
    fn next_period_is_on_the_grid_and_after_now(at in deadline(), period in deadline(), now in deadline()) {
        match next_periodic(at, period, now) {
            Some(next) => {
                prop_assert!(next > now);
                prop_assert!(next >= at);
                prop_assert_eq!((next - at) % period, 0);
                prop_assert!(next == at || u128::from(next) - u128::from(period) <= u128::from(now));
            }
            // Only without a period, or where the next would be past the end of time.
            None => {
                let missed = if period == 0 { 0 } else { u128::from(now.saturating_sub(at)) / u128::from(period) + 1 };
                let next = u128::from(at) + missed * u128::from(period);
                prop_assert!(period == 0 || next > u128::from(u64::MAX));
            }
        }
    }
}

#[test]
fn heap_pops_in_order_and_ties_go_to_the_lower_id() {
    let mut heap = KeyedHeap::new(64).unwrap();
    for id in (0..64).rev() {
        assert!(heap.set(id, u64::from(id / 8)));
    }
    let order: Vec<u32> = std::iter::from_fn(|| heap.pop()).map(|(_, id)| id).collect();
    assert_eq!(order, (0..64).collect::<Vec<_>>());
}

#[test]
fn xsa_20_a_periodic_timer_far_behind_catches_up_in_one_step() {
    assert_eq!(next_periodic(0, 1, u64::MAX - 1), Some(u64::MAX));
    assert_eq!(next_periodic(0, 1, u64::MAX), None);
    assert_eq!(next_periodic(1, u64::MAX, 5), None);
    assert_eq!(next_periodic(10, 1_000_000, 10), Some(1_000_010));
    assert!(!period_is_allowed(0) && !period_is_allowed(999_999) && !period_is_allowed(u64::MAX));
    assert!(period_is_allowed(1_000_000));
}

#[test]
fn a_queue_for_nobody_holds_nothing() {
    let mut queue = TimerQueue::new(0).unwrap();
    assert_eq!(queue.set(0, 0), Err(NoSuchTimer));
    assert_eq!(queue.pop_due(u64::MAX), None);
    assert!(queue.is_empty());
}
