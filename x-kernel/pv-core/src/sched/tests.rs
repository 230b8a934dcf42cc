//! The scheduler under a simulated clock: shares, latencies, and guests that try to get more.

#![expect(clippy::arithmetic_side_effects, reason = "the numbers are the tests' own")]

use std::collections::BTreeSet;
use std::vec::Vec;

use proptest::prelude::*;

use super::credit::{BOOST_NS, PREEMPT_NS};
use super::*;

const MS: u64 = 1_000_000;
const SECOND: u64 = 1_000 * MS;

/// What a vCPU of the simulation does, for ever.
#[derive(Clone, Copy, Debug)]
enum Does {
    Spin,
    /// Runs for the first, then sleeps for the second.
    Burst(u64, u64),
    /// Yields each time it has run so long.
    Yield(u64),
}

struct Sim {
    sched: Scheduler,
    does: Vec<Does>,
    ran: Vec<u64>,
    /// What is left of the burst.
    left: Vec<u64>,
    wakes_at: Vec<Option<u64>>,
    ready_since: Vec<Option<u64>>,
    /// The longest wait from waking to running, the first second aside: everybody begins at once.
    waited: Vec<u64>,
    switches: u64,
}

impl Sim {
    fn run(list: &[(u32, Does)], until: u64) -> Self {
        let n = list.len();
        let mut sim = Self {
            sched: Scheduler::new(1, u32::try_from(n).unwrap(), SLICE_NS).unwrap(),
            does: list.iter().map(|&(_, does)| does).collect(),
            ran: std::iter::repeat_n(0, n).collect(),
            left: list.iter().map(|&(_, does)| does.burst()).collect(),
            wakes_at: std::iter::repeat_n(Some(0), n).collect(),
            ready_since: std::iter::repeat_n(None, n).collect(),
            waited: std::iter::repeat_n(0, n).collect(),
            switches: 0,
        };
        for (key, &(weight, _)) in (0..).zip(list) {
            sim.sched.add(key, VcpuParams { weight, ..VcpuParams::default() }).unwrap();
        }
        sim.go(until);
        sim
    }

    fn go(&mut self, until: u64) {
        let mut now = 0;
        let mut slice_end = 0;
        let mut current: Option<usize> = None;
        let mut pick = true;
        while now < until {
            for key in 0..self.does.len() {
                if self.wakes_at[key].is_some_and(|at| at <= now) {
                    self.wakes_at[key] = None;
                    self.ready_since[key] = Some(now);
                    pick |= self.sched.wake(u32::try_from(key).unwrap(), now).is_some_and(|w| w.preempt);
                }
            }
            if pick || now >= slice_end {
                let choice = self.sched.pick_next(0, now);
                let next = choice.vcpu.map(|key| usize::try_from(key).unwrap());
                if next != current {
                    self.switches += 1;
                }
                current = next;
                slice_end = now + choice.slice_ns;
                pick = false;
                if let Some(since) = current.and_then(|key| self.ready_since[key].take()) {
                    let key = current.unwrap();
                    let wait = if since < SECOND { 0 } else { now - since };
                    self.waited[key] = self.waited[key].max(wait);
                }
            }
            let wake = self.wakes_at.iter().flatten().copied().min().unwrap_or(until);
            let mut stop = slice_end.min(wake).min(until);
            match current {
                None => now = wake.min(until),
                Some(key) => {
                    stop = stop.min(now + self.left[key]);
                    self.ran[key] += stop - now;
                    self.left[key] -= stop - now;
                    now = stop;
                    if self.left[key] == 0 {
                        self.left[key] = self.does[key].burst();
                        match self.does[key] {
                            Does::Spin => {}
                            Does::Burst(_, sleep) => {
                                self.sched.block(u32::try_from(key).unwrap(), now).unwrap();
                                self.wakes_at[key] = Some(now + sleep);
                            }
                            Does::Yield(_) => self.sched.yield_now(0),
                        }
                        pick = true;
                    }
                }
            }
        }
    }

    /// Its part of all the time.
    fn share(&self, key: usize) -> f64 {
        part(self.ran[key], self.ran.iter().sum())
    }
}

impl Does {
    fn burst(self) -> u64 {
        match self {
            Self::Spin => u64::MAX / 4,
            Self::Burst(run, _) | Self::Yield(run) => run,
        }
    }
}

#[expect(clippy::cast_precision_loss, reason = "a share is compared to two digits")]
fn part(of: u64, all: u64) -> f64 {
    of as f64 / all as f64
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]
    #[test]
    fn shares_follow_weights(weights in proptest::collection::vec(prop_oneof![1u32..=65_535, 64u32..1024, Just(256)], 1..8)) {
        let list: Vec<_> = weights.iter().map(|&w| (w, Does::Spin)).collect();
        let sim = Sim::run(&list, 60 * SECOND);
        let all: u64 = weights.iter().map(|&w| u64::from(w)).sum();
        for (key, &w) in weights.iter().enumerate() {
            let expected = 60 * SECOND / all * u64::from(w);
            // Within 2 %, or what one slice more or less makes.
            prop_assert!(sim.ran[key].abs_diff(expected) <= expected / 50 + 2 * SLICE_NS, "{} of {:?}: {} not {}", key, weights, sim.ran[key], expected);
        }
    }

    #[test]
    fn nobody_gets_more_than_a_spinner_of_its_weight(run in 1_000u64..30 * MS, sleep in 1u64..30 * MS, spinners in 1usize..4) {
        let mut list = std::vec![(256, Does::Burst(run, sleep))];
        list.extend(std::iter::repeat_n((256, Does::Spin), spinners));
        let sim = Sim::run(&list, 20 * SECOND);
        for spinner in 1..list.len() {
            prop_assert!(sim.share(0) <= sim.share(spinner) + 0.02, "{} against {}", sim.share(0), sim.share(spinner));
        }
        prop_assert_eq!(sim.ran.iter().sum::<u64>(), 20 * SECOND, "never idle while a spinner could run");
    }
}

#[test]
fn a_long_run_shares_exactly() {
    let sim = Sim::run(&[(256, Does::Spin), (512, Does::Spin), (1024, Does::Spin)], 700 * SECOND);
    for (key, expected) in [(0, 1.0 / 7.0), (1, 2.0 / 7.0), (2, 4.0 / 7.0)] {
        assert!((sim.share(key) - expected).abs() < 0.001, "{key}: {}", sim.share(key));
    }
}

#[test]
fn sleeping_just_before_each_tick_earns_nothing() {
    // The classic attack on tick-sampled accounting: away whenever the clock looks.
    for tick in [MS, 4 * MS, SLICE_NS, MAX_SLICE_NS] {
        let sim = Sim::run(&[(256, Does::Burst(tick - tick / 100, tick / 100)), (256, Does::Spin)], 20 * SECOND);
        assert!(sim.share(0) < 0.52, "tick {tick}: {}", sim.share(0));
        assert!(sim.share(0) > 0.40, "tick {tick}: {}", sim.share(0));
    }
}

#[test]
fn a_light_sleeper_runs_when_it_wakes() {
    for spinners in [1, 8] {
        let mut list = std::vec![(256, Does::Burst(100_000, 5 * MS))];
        list.extend(std::iter::repeat_n((256, Does::Spin), spinners));
        let sim = Sim::run(&list, 20 * SECOND);
        assert!(sim.ran[0] > 20 * SECOND / 53, "{}", sim.ran[0]);
        assert!(sim.waited[0] <= PREEMPT_NS, "{}", sim.waited[0]);
    }
}

#[test]
fn light_sleepers_wait_for_each_other_at_most() {
    // Ten that together want a quarter of the CPU, beside a spinner.
    let mut list: Vec<_> = (0..10).map(|n| (256, Does::Burst(100_000, 4 * MS + n * 1_000))).collect();
    list.push((256, Does::Spin));
    let sim = Sim::run(&list, 20 * SECOND);
    for key in 0..10 {
        assert!(sim.waited[key] <= PREEMPT_NS + 10 * 100_000, "{key}: {}", sim.waited[key]);
        assert!(sim.ran[key] > 20 * SECOND / 42 / 11 * 10, "{key}: {}", sim.ran[key]);
    }
}

#[test]
fn wakers_cannot_starve_a_spinner() {
    // Twenty that wake all the time and would take everything.
    let mut list: Vec<_> = (0..20).map(|n| (256, Does::Burst(MS + n * 10_000, 10_000 + n))).collect();
    list.push((256, Does::Spin));
    let sim = Sim::run(&list, 42 * SECOND);
    assert!(sim.share(20) > 1.0 / 21.0 * 0.98, "{}", sim.share(20));
}

#[test]
fn sleep_is_not_saved_up() {
    let mut sched = Scheduler::new(1, 2, SLICE_NS).unwrap();
    for key in 0..2 {
        sched.add(key, VcpuParams::default()).unwrap();
    }
    let _woken = sched.wake(0, 0).unwrap();
    let mut now = 0;
    while now < 3600 * SECOND {
        assert_eq!(sched.pick_next(0, now).vcpu, Some(0));
        now += SLICE_NS;
    }
    // After an hour's sleep it comes first, but not for an hour.
    assert!(sched.wake(1, now).unwrap().preempt);
    let began = now;
    while sched.pick_next(0, now).vcpu == Some(1) {
        now += PREEMPT_NS;
    }
    assert!(now - began <= BOOST_NS + PREEMPT_NS, "{}", now - began);
}

#[test]
fn a_waking_vcpu_preempts_only_one_that_has_had_clearly_more() {
    for (ran, preempt) in [(PREEMPT_NS / 2, false), (PREEMPT_NS - 1, false), (PREEMPT_NS, true), (SLICE_NS, true)] {
        let mut sched = Scheduler::new(1, 2, SLICE_NS).unwrap();
        for key in 0..2 {
            sched.add(key, VcpuParams::default()).unwrap();
        }
        let _woken = sched.wake(0, 0).unwrap();
        assert_eq!(sched.pick_next(0, 0).vcpu, Some(0));
        // It has run nothing and wakes with what it was added with.
        assert_eq!(sched.wake(1, 0), Some(Woken { cpu: 0, preempt: false }));
        assert_eq!(sched.block(1, 0), Ok(None));
        assert_eq!(sched.wake(1, ran), Some(Woken { cpu: 0, preempt }));
    }
}

#[test]
fn yielding_lets_another_first_for_a_moment() {
    let sim = Sim::run(&[(256, Does::Yield(100_000)), (256, Does::Spin)], 20 * SECOND);
    // 0.1 ms for each 1 ms of the other.
    assert!(sim.share(0) > 0.085 && sim.share(0) < 0.1, "{}", sim.share(0));
    // Two that yield to each other do not keep the third waiting for ever.
    let sim = Sim::run(&[(256, Does::Yield(100_000)), (256, Does::Yield(200_000)), (256, Does::Spin)], 20 * SECOND);
    assert!(sim.ran.iter().all(|&ran| ran > SECOND / 2), "{:?}", sim.ran);
    // Alone, it just goes on.
    let sim = Sim::run(&[(256, Does::Yield(100_000))], SECOND);
    assert_eq!((sim.ran[0], sim.switches), (SECOND, 1));
}

#[test]
fn a_wake_before_the_switch_leaves_the_vcpu_where_it_is() {
    let mut sched = Scheduler::new(2, 2, SLICE_NS).unwrap();
    sched.add(0, VcpuParams::default()).unwrap();
    let cpu = sched.wake(0, 0).unwrap().cpu;
    assert_eq!(sched.pick_next(cpu, 0).vcpu, Some(0));
    assert_eq!(sched.block(0, MS), Ok(Some(cpu)));
    // Its registers are still on that pCPU: no other may get it.
    assert_eq!(sched.wake(0, MS), None);
    assert_eq!(sched.pick_next(1 - cpu, MS).vcpu, None);
    assert_eq!(sched.pick_next(cpu, MS).vcpu, Some(0));
    assert_eq!(sched.block(0, 2 * MS), Ok(Some(cpu)));
    assert_eq!(sched.pick_next(cpu, 2 * MS).vcpu, None);
    assert!(sched.wake(0, 3 * MS).is_some());
}

#[test]
fn an_idle_cpu_takes_work_that_may_move() {
    let mut sched = Scheduler::new(2, 3, SLICE_NS).unwrap();
    for (key, affinity) in [(0, 1), (1, 1), (2, 1)] {
        sched.add(key, VcpuParams { affinity, ..VcpuParams::default() }).unwrap();
        let _woken = sched.wake(key, 0).unwrap();
    }
    assert_eq!(sched.pick_next(0, 0).vcpu, Some(0));
    assert_eq!(sched.pick_next(1, 0).vcpu, None, "bound to the other");
    assert_eq!(sched.set_affinity(2, 3), Ok(None));
    assert_eq!(sched.pick_next(1, 0).vcpu, Some(2));
    assert_eq!(sched.set_affinity(2, 1), Ok(Some(1)), "runs where it may not: that pCPU must pick");
    assert_eq!(sched.pick_next(1, MS).vcpu, None);
    assert_eq!(sched.waiting(0), 2);
}

#[test]
fn a_vcpu_that_moves_owes_no_more_there_than_where_it_was() {
    let mut sched = Scheduler::new(2, 2, SLICE_NS).unwrap();
    for key in 0..2 {
        sched.add(key, VcpuParams { affinity: 1 << key, ..VcpuParams::default() }).unwrap();
    }
    // The first runs alone for long, then moves to where somebody has just begun.
    assert_eq!(sched.wake(0, 0), Some(Woken { cpu: 0, preempt: true }));
    let mut now = 0;
    while now < 100 * SECOND {
        assert_eq!(sched.pick_next(0, now).vcpu, Some(0));
        now += SLICE_NS;
    }
    assert_eq!(sched.wake(1, now), Some(Woken { cpu: 1, preempt: true }));
    assert_eq!(sched.pick_next(1, now).vcpu, Some(1));
    assert_eq!(sched.set_affinity(0, 2), Ok(Some(0)));
    assert_eq!(sched.pick_next(0, now).vcpu, None);
    let mut ran = [0, 0];
    for _ in 0..100 {
        let key = sched.pick_next(1, now).vcpu.unwrap();
        ran[usize::try_from(key).unwrap()] += 1;
        now += SLICE_NS;
    }
    assert!(ran[0] >= 48 && ran[1] >= 48, "{ran:?}");
}

#[test]
fn parameters_are_checked() {
    let mut sched = Scheduler::new(2, 2, u64::MAX).unwrap();
    let with = |weight, affinity| VcpuParams { weight, affinity };
    assert_eq!(sched.add(0, with(0, 1)), Err(SchedError::BadWeight));
    assert_eq!(sched.add(0, with(65_536, 1)), Err(SchedError::BadWeight));
    assert_eq!(sched.add(0, with(256, 0)), Err(SchedError::NoCpu));
    assert_eq!(sched.add(0, with(256, !3)), Err(SchedError::NoCpu));
    assert_eq!(sched.add(2, with(256, 1)), Err(SchedError::NoVcpu));
    assert_eq!(sched.add(u32::MAX, with(256, 1)), Err(SchedError::NoVcpu));
    assert_eq!(sched.add(0, with(1, 2)), Ok(()));
    assert_eq!(sched.add(0, with(1, 2)), Err(SchedError::Exists));
    for key in [1, 2, u32::MAX] {
        assert_eq!(sched.wake(key, 0), None);
        assert_eq!(sched.block(key, 0), Err(SchedError::NoVcpu));
        assert_eq!(sched.remove(key), Err(SchedError::NoVcpu));
        assert_eq!(sched.set_weight(key, 1, 0), Err(SchedError::NoVcpu));
        assert_eq!(sched.set_affinity(key, 1), Err(SchedError::NoVcpu));
    }
    assert_eq!(sched.pick_next(0, 0).slice_ns, MAX_SLICE_NS);
    assert_eq!(sched.pick_next(99, 0).vcpu, None);
    sched.yield_now(99);
    sched.charge(99, 0);
}

#[derive(Clone, Debug)]
enum Op {
    Add(u32, u32, u64),
    Remove(u32),
    Wake(u32),
    Block(u32),
    Yield(u32),
    Pick(u32),
    Affinity(u32, u64),
    Weight(u32, u32),
    /// Time, which may also go wrong.
    At(u64),
}

fn op() -> impl Strategy<Value = Op> {
    prop_oneof![
        2 => (0u32..7, prop_oneof![Just(1), Just(256), Just(65_535), Just(0)], 0u64..8).prop_map(|(k, w, a)| Op::Add(k, w, a)),
        1 => (0u32..7).prop_map(Op::Remove),
        4 => (0u32..7).prop_map(Op::Wake),
        2 => (0u32..7).prop_map(Op::Block),
        1 => (0u32..4).prop_map(Op::Yield),
        5 => (0u32..4).prop_map(Op::Pick),
        1 => (0u32..7, 0u64..8).prop_map(|(k, a)| Op::Affinity(k, a)),
        1 => (0u32..7, 0u32..3).prop_map(|(k, w)| Op::Weight(k, w)),
        3 => prop_oneof![0u64..SECOND, Just(0), Just(u64::MAX), any::<u64>()].prop_map(Op::At),
    ]
}

proptest! {
    #[test]
    fn each_runnable_vcpu_is_in_one_place_that_it_may_be(ops in proptest::collection::vec(op(), 0..200)) {
        let mut sched = Scheduler::new(3, 6, SLICE_NS).unwrap();
        let mut runnable: BTreeSet<u32> = BTreeSet::new();
        let mut known: BTreeSet<u32> = BTreeSet::new();
        let mut now = 0;
        for op in ops {
            match op {
                Op::Add(key, weight, affinity) => {
                    if sched.add(key, VcpuParams { weight, affinity }).is_ok() {
                        prop_assert!(known.insert(key));
                    }
                }
                Op::Remove(key) => {
                    prop_assert_eq!(sched.remove(key).is_ok(), known.remove(&key));
                    runnable.remove(&key);
                }
                Op::Wake(key) => {
                    let woken = sched.wake(key, now);
                    if known.contains(&key) {
                        prop_assert!(woken.is_none() || !runnable.contains(&key));
                        runnable.insert(key);
                    } else {
                        prop_assert!(woken.is_none());
                    }
                }
                Op::Block(key) => {
                    prop_assert_eq!(sched.block(key, now).is_ok(), known.contains(&key));
                    runnable.remove(&key);
                }
                Op::Yield(cpu) => sched.yield_now(cpu),
                Op::Pick(cpu) => {
                    let waiting = sched.waiting(cpu);
                    let choice = sched.pick_next(cpu, now);
                    prop_assert_eq!(choice.vcpu, sched.current(cpu));
                    prop_assert!(waiting == 0 || choice.vcpu.is_some(), "idles while vCPUs wait");
                    prop_assert!(choice.vcpu.is_none_or(|key| runnable.contains(&key)));
                }
                Op::Affinity(key, affinity) => { let _answer = sched.set_affinity(key, affinity); }
                Op::Weight(key, weight) => { let _answer = sched.set_weight(key, weight, now); }
                Op::At(at) => now = at,
            }
            let found = sched.audit();
            let running: BTreeSet<u32> = found.iter().copied().collect();
            prop_assert_eq!(found.len(), running.len(), "in two places");
            prop_assert_eq!(&running, &runnable);
        }
    }
}
