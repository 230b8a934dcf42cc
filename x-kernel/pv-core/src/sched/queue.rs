//! The run queues, one per pCPU, and who is on which.
//!
//! Invariant: a vCPU that is ready is in the queue of exactly one pCPU that its affinity allows, one that runs is
//! the current one of exactly one, any other is in none. A vCPU that blocks stays current until its pCPU picks
//! another, so a wake in between leaves it where its registers are.
//!
//! On several pCPUs the caller holds one lock around all of this. It must not let a pCPU enter a vCPU before the
//! pCPU that ran it last has saved its registers: it becomes ready inside `pick_next`, before that.

use alloc::vec::Vec;

use super::credit::{DEFAULT_WEIGHT, Debt, MAX_SLICE_NS, MAX_WEIGHT, YIELD_NS};
use crate::timerq::KeyedHeap;

/// The most pCPUs: bits of an affinity mask.
const MAX_CPUS: u32 = 64;
/// The shortest slice.
const MIN_SLICE_NS: u64 = 100_000;

/// Why the scheduler refused.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum SchedError {
    /// The key is past the capacity, or no such vCPU was added.
    NoVcpu,
    /// The key is taken.
    Exists,
    /// The affinity allows none of the pCPUs.
    NoCpu,
    /// A weight of 0 or above [`MAX_WEIGHT`].
    BadWeight,
}

/// What a vCPU is given.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct VcpuParams {
    /// Its share relative to others: 1 to [`MAX_WEIGHT`].
    pub weight: u32,
    /// pCPUs that it may run on, by bit.
    pub affinity: u64,
}

impl Default for VcpuParams {
    fn default() -> Self {
        Self { weight: DEFAULT_WEIGHT, affinity: u64::MAX }
    }
}

/// What a pCPU is to do now.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[must_use = "the choice is already recorded as running"]
pub struct Choice {
    /// The vCPU to run; None to idle.
    pub vcpu: Option<u32>,
    /// When to ask again, if nothing happens before: not needed when idle.
    pub slice_ns: u64,
}

/// Where a vCPU went when it woke.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[must_use = "a pCPU that is to be preempted must be told"]
pub struct Woken {
    /// The pCPU whose queue it is in.
    pub cpu: u32,
    /// Whether that pCPU should ask for its next vCPU now.
    pub preempt: bool,
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum State {
    /// Not to run.
    Blocked,
    /// In the queue of `Vcpu::cpu`.
    Ready,
    /// Current on `Vcpu::cpu`.
    Running,
    /// Current on `Vcpu::cpu` until that picks another, then blocked.
    Stopping,
}

#[derive(Clone, Copy, Debug)]
struct Vcpu {
    params: VcpuParams,
    debt: Debt,
    state: State,
    cpu: u32,
}

#[derive(Debug)]
struct Cpu {
    ready: KeyedHeap<Debt>,
    current: Option<u32>,
    /// Since when the current vCPU's time has not been charged.
    charged_to_ns: u64,
    /// The least debt that a vCPU here had when last looked at; never falls.
    floor: Debt,
    /// The current vCPU gave way: another goes first, once.
    yielded: bool,
}

impl Cpu {
    /// Takes out the vCPU with the least debt, other than `behind` if there is another; and whether that one had to
    /// be passed over.
    fn take_first(&mut self, behind: Option<u32>) -> Option<(u32, bool)> {
        let (debt, key) = self.ready.pop()?;
        if behind != Some(key) {
            return Some((key, false));
        }
        let Some((_, other)) = self.ready.pop() else { return Some((key, false)) };
        // Its place is free: it has just been taken out.
        let _back = self.ready.set(key, debt);
        Some((other, true))
    }
}

/// See the module.
#[derive(Debug)]
pub struct Scheduler {
    vcpus: Vec<Option<Vcpu>>,
    cpus: Vec<Cpu>,
    slice_ns: u64,
}

impl Scheduler {
    /// A scheduler for `cpus` pCPUs (at most 64) and vCPU keys below `capacity`; None when memory is short.
    ///
    /// `slice_ns` is held to at most [`MAX_SLICE_NS`]; [`SLICE_NS`](super::SLICE_NS) is the usual one.
    pub fn new(cpus: u32, capacity: u32, slice_ns: u64) -> Option<Self> {
        let count = usize::try_from(cpus.clamp(1, MAX_CPUS)).ok()?;
        let mut list = Vec::new();
        list.try_reserve_exact(count).ok()?;
        for _ in 0..count {
            list.push(Cpu { ready: KeyedHeap::new(capacity)?, current: None, charged_to_ns: 0, floor: Debt::START, yielded: false });
        }
        let wanted = usize::try_from(capacity).ok()?;
        let mut vcpus = Vec::new();
        vcpus.try_reserve_exact(wanted).ok()?;
        vcpus.resize(wanted, None);
        Some(Self { vcpus, cpus: list, slice_ns: slice_ns.clamp(MIN_SLICE_NS, MAX_SLICE_NS) })
    }

    /// Adds a vCPU, blocked.
    ///
    /// # Errors
    /// [`SchedError::NoVcpu`], [`SchedError::Exists`], [`SchedError::BadWeight`], [`SchedError::NoCpu`].
    pub fn add(&mut self, key: u32, params: VcpuParams) -> Result<(), SchedError> {
        check_weight(params.weight)?;
        let cpu = self.allowed(params.affinity).next().ok_or(SchedError::NoCpu)?;
        let debt = self.cpu(cpu).map_or(Debt::START, |c| c.floor);
        let slot = usize::try_from(key).ok().and_then(|i| self.vcpus.get_mut(i)).ok_or(SchedError::NoVcpu)?;
        if slot.is_some() {
            return Err(SchedError::Exists);
        }
        *slot = Some(Vcpu { params, debt, state: State::Blocked, cpu });
        Ok(())
    }

    /// Forgets a vCPU. If it was current, its pCPU is to pick another: the answer is that pCPU.
    ///
    /// # Errors
    /// [`SchedError::NoVcpu`].
    pub fn remove(&mut self, key: u32) -> Result<Option<u32>, SchedError> {
        let vcpu = *self.vcpu(key)?;
        let mut on = None;
        if let Some(cpu) = self.cpu_mut(vcpu.cpu) {
            cpu.ready.remove(key);
            if cpu.current == Some(key) {
                cpu.current = None;
                cpu.yielded = false;
                on = Some(vcpu.cpu);
            }
        }
        if let Some(slot) = usize::try_from(key).ok().and_then(|i| self.vcpus.get_mut(i)) {
            *slot = None;
        }
        Ok(on)
    }

    /// Changes the weight, for the time run from now on.
    ///
    /// # Errors
    /// [`SchedError::NoVcpu`], [`SchedError::BadWeight`].
    pub fn set_weight(&mut self, key: u32, weight: u32, now_ns: u64) -> Result<(), SchedError> {
        check_weight(weight)?;
        let cpu = self.vcpu(key)?.cpu;
        self.charge(cpu, now_ns);
        self.vcpu_mut(key)?.params.weight = weight;
        Ok(())
    }

    /// Changes the affinity. If the vCPU runs where it may not any more, that pCPU is to pick another: the answer.
    ///
    /// # Errors
    /// [`SchedError::NoVcpu`], [`SchedError::NoCpu`].
    pub fn set_affinity(&mut self, key: u32, affinity: u64) -> Result<Option<u32>, SchedError> {
        let target = self.allowed(affinity).next().ok_or(SchedError::NoCpu)?;
        let vcpu = self.vcpu_mut(key)?;
        vcpu.params.affinity = affinity;
        let Vcpu { state, cpu, .. } = *vcpu;
        if may_run_on(affinity, cpu) {
            return Ok(None);
        }
        match state {
            // Moved by pick_next, once its registers are saved.
            State::Running | State::Stopping => Ok(Some(cpu)),
            State::Blocked => {
                self.migrate(key, target)?;
                Ok(None)
            }
            State::Ready => {
                if let Some(c) = self.cpu_mut(cpu) {
                    c.ready.remove(key);
                }
                self.migrate(key, target)?;
                self.enqueue(key)?;
                Ok(None)
            }
        }
    }

    /// The vCPU may run again. None if it could already, or was about to stop and does not any more.
    pub fn wake(&mut self, key: u32, now_ns: u64) -> Option<Woken> {
        let vcpu = *self.vcpu(key).ok()?;
        match vcpu.state {
            State::Ready | State::Running => return None,
            State::Stopping => {
                // It has not left its pCPU. Its time goes on being charged.
                self.vcpu_mut(key).ok()?.state = State::Running;
                return None;
            }
            State::Blocked => {}
        }
        let target = self.place(&vcpu)?;
        self.charge(target, now_ns);
        self.migrate(key, target).ok()?;
        let floor = self.cpu(target)?.floor;
        let woken = self.vcpu_mut(key).ok()?;
        woken.debt = woken.debt.woken(floor, vcpu.params.weight);
        let debt = woken.debt;
        self.enqueue(key).ok()?;
        let preempt = match self.cpu(target)?.current.and_then(|running| self.vcpu(running).ok()) {
            Some(running) if running.state == State::Running => debt.preempts(running.debt, vcpu.params.weight),
            _ => true,
        };
        Some(Woken { cpu: target, preempt })
    }

    /// The vCPU waits. If it is current, its pCPU is to pick another: the answer.
    ///
    /// # Errors
    /// [`SchedError::NoVcpu`].
    pub fn block(&mut self, key: u32, now_ns: u64) -> Result<Option<u32>, SchedError> {
        let Vcpu { state, cpu, .. } = *self.vcpu(key)?;
        match state {
            State::Blocked => Ok(None),
            State::Stopping => Ok(Some(cpu)),
            State::Ready => {
                if let Some(c) = self.cpu_mut(cpu) {
                    c.ready.remove(key);
                }
                self.vcpu_mut(key)?.state = State::Blocked;
                Ok(None)
            }
            State::Running => {
                self.charge(cpu, now_ns);
                self.vcpu_mut(key)?.state = State::Stopping;
                Ok(Some(cpu))
            }
        }
    }

    /// The current vCPU of `cpu` gives way: at the next pick another goes first for a moment, if there is one. The
    /// debt of neither changes by it.
    pub fn yield_now(&mut self, cpu: u32) {
        if let Some(cpu) = self.cpu_mut(cpu) {
            cpu.yielded = cpu.current.is_some();
        }
    }

    /// Charges the current vCPU of `cpu` up to now. The other operations do it themselves.
    pub fn charge(&mut self, cpu: u32, now_ns: u64) {
        let Some(c) = self.cpu_mut(cpu) else { return };
        let ran_ns = now_ns.saturating_sub(c.charged_to_ns);
        c.charged_to_ns = c.charged_to_ns.max(now_ns);
        let current = c.current;
        let mut least = c.ready.first().map(|(debt, _)| debt);
        if let Some(vcpu) = current.and_then(|key| self.vcpu_mut(key).ok()) {
            if vcpu.state == State::Running {
                vcpu.debt = vcpu.debt.plus(Debt::of(ran_ns, vcpu.params.weight));
            }
            let debt = vcpu.debt;
            least = Some(least.map_or(debt, |l| l.min(debt)));
        }
        if let (Some(least), Some(c)) = (least, self.cpu_mut(cpu)) {
            c.floor = c.floor.max(least);
        }
    }

    /// What `cpu` runs next, which becomes its current vCPU.
    pub fn pick_next(&mut self, cpu: u32, now_ns: u64) -> Choice {
        self.charge(cpu, now_ns);
        let yielded = self.cpu(cpu).filter(|c| c.yielded).and_then(|c| c.current);
        self.retire(cpu);
        let slice_ns = self.slice_ns;
        let stolen = if self.cpu(cpu).is_some_and(|c| c.ready.is_empty()) { self.steal(cpu) } else { None };
        let Some(c) = self.cpu_mut(cpu) else { return Choice { vcpu: None, slice_ns } };
        let taken = stolen.map(|key| (key, false)).or_else(|| c.take_first(yielded));
        let next = taken.map(|(key, _)| key);
        let slice_ns = if taken.is_some_and(|(_, passed_over)| passed_over) { slice_ns.min(YIELD_NS) } else { slice_ns };
        c.current = next;
        c.charged_to_ns = now_ns;
        c.yielded = false;
        if let Some(vcpu) = next.and_then(|key| self.vcpu_mut(key).ok()) {
            vcpu.state = State::Running;
        }
        Choice { vcpu: next, slice_ns }
    }

    /// The vCPU that `cpu` runs.
    pub fn current(&self, cpu: u32) -> Option<u32> {
        self.cpu(cpu)?.current
    }

    /// How many vCPUs wait for `cpu`.
    pub fn waiting(&self, cpu: u32) -> usize {
        self.cpu(cpu).map_or(0, |c| c.ready.len())
    }

    /// Puts the current vCPU back into a queue, or to rest.
    fn retire(&mut self, cpu: u32) {
        let Some(c) = self.cpu_mut(cpu) else { return };
        let Some(key) = c.current.take() else { return };
        let Ok(vcpu) = self.vcpu_mut(key) else { return };
        if vcpu.state == State::Stopping {
            vcpu.state = State::Blocked;
            return;
        }
        vcpu.state = State::Blocked;
        let params = vcpu.params;
        if !may_run_on(params.affinity, cpu)
            && let Some(target) = self.allowed(params.affinity).next()
            && self.migrate(key, target).is_err()
        {
            return;
        }
        let _queued = self.enqueue(key);
    }

    /// Puts a vCPU into the queue of its pCPU.
    fn enqueue(&mut self, key: u32) -> Result<(), SchedError> {
        let vcpu = self.vcpu_mut(key)?;
        vcpu.state = State::Ready;
        let Vcpu { debt, cpu, .. } = *vcpu;
        if self.cpu_mut(cpu).is_some_and(|c| c.ready.set(key, debt)) { Ok(()) } else { Err(SchedError::NoCpu) }
    }

    /// Makes `target` the vCPU's pCPU. Its debt keeps its distance from the floor.
    fn migrate(&mut self, key: u32, target: u32) -> Result<(), SchedError> {
        let to = self.cpu(target).ok_or(SchedError::NoCpu)?.floor;
        let from = self.cpu(self.vcpu(key)?.cpu).map_or(to, |c| c.floor);
        let vcpu = self.vcpu_mut(key)?;
        if vcpu.cpu != target {
            vcpu.debt = vcpu.debt.plus(to).minus(from);
            vcpu.cpu = target;
        }
        Ok(())
    }

    /// The pCPU for a waking vCPU: its last one if that idles, else one that idles, else the one with the shortest
    /// queue.
    fn place(&self, vcpu: &Vcpu) -> Option<u32> {
        self.allowed(vcpu.params.affinity).min_by_key(|&id| {
            let (waiting, busy) = self.cpu(id).map_or((usize::MAX, true), |c| (c.ready.len(), c.current.is_some()));
            (waiting, busy, id != vcpu.cpu, id)
        })
    }

    /// Takes, for an idle pCPU, the vCPU with the least debt that may move from the pCPU with the longest queue.
    fn steal(&mut self, cpu: u32) -> Option<u32> {
        let victim = (0..)
            .zip(&self.cpus)
            .filter(|&(id, _)| id != cpu)
            .filter_map(|(_, c)| {
                let movable = c.ready.iter().filter(|&(_, key)| self.vcpu(key).is_ok_and(|v| may_run_on(v.params.affinity, cpu)));
                movable.min().map(|(_, key)| (c.ready.len(), key))
            })
            .max_by_key(|&(len, _)| len)
            .map(|(_, key)| key)?;
        let from = self.vcpu(victim).ok()?.cpu;
        self.cpu_mut(from)?.ready.remove(victim)?;
        self.migrate(victim, cpu).ok()?;
        Some(victim)
    }

    /// The pCPUs that an affinity allows.
    fn allowed(&self, affinity: u64) -> impl Iterator<Item = u32> + use<> {
        let count = u32::try_from(self.cpus.len()).unwrap_or(MAX_CPUS);
        (0..count).filter(move |&cpu| may_run_on(affinity, cpu))
    }

    fn cpu(&self, cpu: u32) -> Option<&Cpu> {
        self.cpus.get(usize::try_from(cpu).ok()?)
    }

    fn cpu_mut(&mut self, cpu: u32) -> Option<&mut Cpu> {
        self.cpus.get_mut(usize::try_from(cpu).ok()?)
    }

    fn vcpu(&self, key: u32) -> Result<&Vcpu, SchedError> {
        usize::try_from(key).ok().and_then(|i| self.vcpus.get(i)).and_then(Option::as_ref).ok_or(SchedError::NoVcpu)
    }

    fn vcpu_mut(&mut self, key: u32) -> Result<&mut Vcpu, SchedError> {
        usize::try_from(key).ok().and_then(|i| self.vcpus.get_mut(i)).and_then(Option::as_mut).ok_or(SchedError::NoVcpu)
    }
}

#[cfg(test)]
impl Scheduler {
    /// The vCPUs that are to run, as often as they are found; checks that each is where its record says.
    pub(super) fn audit(&self) -> Vec<u32> {
        let mut found = Vec::new();
        for (id, cpu) in (0..).zip(&self.cpus) {
            for (debt, key) in cpu.ready.iter() {
                let vcpu = self.vcpu(key).expect("a vCPU that was removed is queued");
                assert_eq!((vcpu.state, vcpu.cpu, vcpu.debt), (State::Ready, id, debt));
                assert!(may_run_on(vcpu.params.affinity, id));
                found.push(key);
            }
            if let Some(key) = cpu.current {
                let vcpu = self.vcpu(key).expect("a vCPU that was removed is current");
                assert_eq!(vcpu.cpu, id);
                match vcpu.state {
                    State::Running => found.push(key),
                    state => assert_eq!(state, State::Stopping),
                }
            }
        }
        found
    }
}

fn check_weight(weight: u32) -> Result<(), SchedError> {
    if (1..=MAX_WEIGHT).contains(&weight) { Ok(()) } else { Err(SchedError::BadWeight) }
}

fn may_run_on(affinity: u64, cpu: u32) -> bool {
    affinity.checked_shr(cpu).is_some_and(|bits| bits & 1 != 0)
}
