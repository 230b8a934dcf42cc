//! The scheduler's mechanism: who runs on this CPU, timers, idling, and the last stop before a guest.
//!
//! Policy (whom to pick, for how long) is `pv_core::sched`. The X-Kernel has one stack per CPU and is not
//! preemptible, so a switch happens only here, when everything else has returned: the frame of the vCPU that
//! leaves is copied out of the stack's top and the other's is copied in.

use alloc::sync::Arc;
use core::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use pv_core::frame::Mfn;
use pv_core::sched::{SLICE_NS, Scheduler, VcpuParams};
use pv_core::timerq::TimerQueue;

use crate::arch::x86_64::entry::regs::{VECTOR_SYSCALL, rflags};
use crate::arch::x86_64::entry::{self, GUEST_CS, GUEST_SS, GuestRegs};
use crate::arch::x86_64::{apic, context, cpu, gdt, tlb, tsc};
use crate::domain::vcpu::{GDT_FRAMES, Vcpu, VcpuState};
use crate::domain::{self, Domain, console};
use crate::mm::layout;
use crate::percpu::{self, PerCpu, Running};
use crate::perf;
use crate::pv::{bounce, timer, traps, vcpu_info};
use crate::sync::{SpinLock, level};
use crate::{debugkeys, stats, trace};

/// vCPUs that the scheduler has room for.
pub const MAX_VCPUS: u32 = 4096;

/// Console input and consoles are looked at this often while anything runs.
const HOUSEKEEPING_NS: u64 = 10_000_000;

struct Queues {
    policy: Scheduler,
    timers: TimerQueue,
    vcpus: alloc::vec::Vec<Option<Arc<Vcpu>>>,
}

static QUEUES: SpinLock<Option<Queues>, level::RunQueue> = SpinLock::new(None);

/// Sets the queues up for `cpus` CPUs. Once, before the first domain.
///
/// # Panics
/// If there is no memory for them: nothing could run.
pub fn init(cpus: u32) {
    let policy = Scheduler::new(cpus, MAX_VCPUS, SLICE_NS).expect("no memory for the run queues");
    let timers = TimerQueue::new(MAX_VCPUS).expect("no memory for the timer queue");
    let mut vcpus = alloc::vec::Vec::new();
    vcpus.resize(MAX_VCPUS as usize, None);
    *QUEUES.lock() = Some(Queues { policy, timers, vcpus });
}

/// No timer's deadline is before this, ns since boot: the way to a guest costs one load while none is due. Changes only
/// under the lock of [`QUEUES`].
static NEXT_TIMER_NS: AtomicU64 = AtomicU64::new(u64::MAX);

fn with<R>(f: impl FnOnce(&mut Queues) -> R) -> Option<R> {
    QUEUES.lock().as_mut().map(f)
}

impl Queues {
    /// Sets the timer of vCPU `key`, or stops it.
    fn set_timer(&mut self, key: u32, deadline_ns: Option<u64>) {
        match deadline_ns {
            // Keys are below the capacity: `free_key` gives no others.
            Some(at) => _ = self.timers.set(key, at),
            None => _ = self.timers.remove(key),
        }
        self.publish_next_timer();
    }

    /// Takes out a vCPU whose timer is due at `now`.
    fn pop_due(&mut self, now: u64) -> Option<Arc<Vcpu>> {
        let due = self.timers.pop_due(now);
        self.publish_next_timer();
        self.vcpus.get(due?.0 as usize)?.clone()
    }

    fn publish_next_timer(&self) {
        NEXT_TIMER_NS.store(self.timers.next_deadline().unwrap_or(u64::MAX), Ordering::Release);
    }
}

/// A free place for a vCPU: the key that it is known by here.
pub fn free_key() -> Option<u32> {
    with(|q| q.vcpus.iter().position(Option::is_none)).flatten().and_then(|i| u32::try_from(i).ok())
}

/// Adds a vCPU, asleep.
pub fn add(vcpu: &Arc<Vcpu>, weight: u32) -> bool {
    with(|q| {
        let Some(slot) = q.vcpus.get_mut(vcpu.key as usize) else { return false };
        if q.policy.add(vcpu.key, VcpuParams { weight, ..VcpuParams::default() }).is_err() {
            return false;
        }
        *slot = Some(vcpu.clone());
        true
    })
    .unwrap_or(false)
}

/// Takes a vCPU out for good.
pub fn remove(vcpu: &Vcpu) {
    with(|q| {
        let _ = q.policy.remove(vcpu.key);
        q.set_timer(vcpu.key, None);
        if let Some(slot) = q.vcpus.get_mut(vcpu.key as usize) {
            *slot = None;
        }
    });
}

/// Makes a vCPU runnable, if nothing but the event it waited for kept it from running.
pub fn wake(vcpu: &Vcpu) {
    // The flags change with the policy, under its lock: else a vCPU could be picked that may not run.
    let woken = with(|q| {
        vcpu.blocked.store(false, Ordering::Release);
        if vcpu.online.load(Ordering::Acquire) { q.policy.wake(vcpu.key, tsc::now_ns()) } else { None }
    });
    if let Some(woken) = woken.flatten()
        && woken.preempt
    {
        kick(woken.cpu);
    }
}

/// Takes a vCPU off the run queue until it is woken. What it waits for may have come before: see
/// [`pv_core::sched::wait`].
pub fn block(vcpu: &Vcpu) {
    rest(vcpu, &vcpu.blocked, true);
}

/// Takes a vCPU off the run queue until `at_ns`, or until it is woken before.
pub fn block_until(vcpu: &Vcpu, at_ns: u64) {
    vcpu.poll_ns.store(at_ns.max(1), Ordering::Relaxed);
    timers_changed(vcpu);
    block(vcpu);
}

/// Takes a vCPU off the run queue until it is brought up again.
pub fn stop(vcpu: &Vcpu) {
    rest(vcpu, &vcpu.online, false);
}

/// Sets `flag` to `value`, after which the vCPU may not run.
fn rest(vcpu: &Vcpu, flag: &AtomicBool, value: bool) {
    let on = with(|q| {
        flag.store(value, Ordering::Release);
        q.policy.block(vcpu.key, tsc::now_ns()).ok().flatten()
    });
    if let Some(cpu) = on.flatten() {
        kick(cpu);
    }
}

/// Brings a vCPU up, unless `domain` has been stopped: that lets none of its vCPUs run again.
pub fn start(vcpu: &Vcpu, domain: &Domain) -> bool {
    // Whoever stops a domain marks it before it takes this lock for each vCPU.
    let started = with(|q| {
        let may = !domain.is_dying() && q.vcpus.get(vcpu.key as usize).is_some_and(Option::is_some);
        if may {
            vcpu.online.store(true, Ordering::Release);
        }
        may
    });
    if started == Some(true) {
        wake(vcpu);
    }
    started == Some(true)
}

/// Lets others run first. The caller is the current vCPU.
pub fn yield_now() {
    let cpu = percpu::this();
    with(|q| q.policy.yield_now(cpu.id));
    cpu.kick();
}

/// Makes CPU `id` pass through the scheduler.
fn kick(id: u32) {
    let cpu = percpu::this();
    if cpu.id == id {
        cpu.kick();
    } else {
        apic::send_reschedule(id);
    }
}

/// Makes every CPU pass through the scheduler that might run `domain`, and lets none of its vCPUs run again.
pub fn kick_all(domain: &Domain) {
    for vcpu in domain.vcpus() {
        stop(vcpu);
    }
}

/// A deadline of `vcpu` has changed.
pub fn timers_changed(vcpu: &Vcpu) {
    with(|q| q.set_timer(vcpu.key, vcpu.next_deadline()));
    arm(percpu::this());
}

/// Whether the current vCPU should give way at a preemption point: lets pending interrupts in, then looks.
pub fn preempt_pending() -> bool {
    cpu::irq_window();
    percpu::this().shared.need_resched.load(Ordering::Acquire)
}

/// Programs the CPU's timer for the next thing that must happen.
fn arm(cpu: &PerCpu) {
    let next_timer = NEXT_TIMER_NS.load(Ordering::Acquire);
    let slice = if cpu.current().is_some() { cpu.slice_end_ns.get() } else { u64::MAX };
    let housekeeping = tsc::now_ns().saturating_add(HOUSEKEEPING_NS);
    apic::arm_timer(next_timer.min(slice).min(housekeeping));
}

/// Fires every timer whose time has come at `now`.
#[cold]
fn expire_timers(now: u64) {
    // Each round takes one expired entry; a vCPU re-enters only with a later deadline.
    while let Some(vcpu) = with(|q| q.pop_due(now)).flatten() {
        timer::expire(&vcpu);
        with(|q| q.set_timer(vcpu.key, vcpu.next_deadline().map(|at| at.max(now.saturating_add(1)))));
    }
}

/// Counts the time that the running vCPU has had since this was last called.
fn count_time(cpu: &PerCpu, vcpu: &Vcpu, now: u64) {
    let ran = now.saturating_sub(cpu.charged_at_ns.replace(now));
    if let Some(domain) = vcpu.domain() {
        domain.counters.ran_ns.add(ran);
    }
}

/// Picks who runs next and switches to it.
#[inline(never)]
fn schedule(cpu: &'static PerCpu, regs: &mut GuestRegs) {
    let now = tsc::now_ns();
    let old = cpu.current();
    if let Some(vcpu) = &old {
        count_time(cpu, vcpu, now);
    }
    stats::live::poll(now);
    let choice = with(|q| {
        let choice = q.policy.pick_next(cpu.id, now);
        Some((q.vcpus.get(choice.vcpu? as usize)?.clone()?, choice.slice_ns))
    })
    .flatten();
    if let Some((_, slice)) = &choice {
        cpu.slice_end_ns.set(now.saturating_add(*slice));
    }
    // The scheduler has no vCPU whose domain is gone: its last step is to take them out.
    let next = choice.and_then(|(vcpu, _)| vcpu.domain().map(|domain| (vcpu, domain)));
    let same = match (&old, &next) {
        (Some(a), Some((b, _))) => Arc::ptr_eq(a, b),
        (None, None) => true,
        _ => false,
    };
    if !same {
        if let Some(vcpu) = &old {
            switch_out(vcpu, regs, now);
        }
        match next {
            Some((vcpu, domain)) => {
                cpu.set_current(Some(Running { vcpu: vcpu.clone(), domain: domain.clone() }));
                if vcpu.on_cpu.load(Ordering::Acquire) {
                    // The policy has taken it from a CPU that is still saving it. That CPU may wait for the one that
                    // this CPU leaves: let go first.
                    context::leave_guest();
                    let_go(old.as_deref());
                    while vcpu.on_cpu.load(Ordering::Acquire) {
                        tlb::serve_shootdowns();
                        core::hint::spin_loop();
                    }
                }
                vcpu.on_cpu.store(true, Ordering::Relaxed);
                switch_in(cpu, &vcpu, &domain, regs, now);
            }
            None => {
                cpu.set_current(None);
                context::leave_guest();
            }
        }
        let_go(old.as_deref());
    }
    arm(cpu);
}

/// The CPU has nothing of `vcpu` any more: its registers are saved and another root is loaded.
fn let_go(vcpu: Option<&Vcpu>) {
    if let Some(vcpu) = vcpu {
        vcpu.on_cpu.store(false, Ordering::Release);
    }
}

/// Saves what the CPU holds of `vcpu`.
fn switch_out(vcpu: &Vcpu, regs: &GuestRegs, now: u64) {
    let mut state = vcpu.state.lock();
    state.regs = *regs;
    context::save(&mut state);
    vcpu.runstate.lock().enter(vcpu.idle_runstate(), now);
}

/// Loads `vcpu` onto the CPU.
fn switch_in(cpu: &PerCpu, vcpu: &Vcpu, domain: &Domain, regs: &mut GuestRegs, now: u64) {
    perf::bump(&cpu.counters.switches);
    trace::record(trace::Id::Switch, u64::from(domain.id.raw()), u64::from(vcpu.id), 0);
    domain.dirty_cpus.fetch_or(1 << (cpu.id & 63), Ordering::SeqCst);
    map_own_descriptors(cpu, domain, vcpu);
    let mut state = vcpu.state.lock();
    *regs = state.regs;
    context::load(domain, vcpu.id, &mut state);
    vcpu.runstate.lock().enter(Vcpu::RUNNING, now);
    cpu.charged_at_ns.set(now);
    vcpu_info::update_time(vcpu);
    crate::pv::vcpu_op::publish_runstate(vcpu);
}

/// Maps this CPU's own descriptors above those of the vCPU's GDT, if it was another CPU that ran it last.
fn map_own_descriptors(cpu: &PerCpu, domain: &Domain, vcpu: &Vcpu) {
    if vcpu.last_cpu.swap(cpu.id, Ordering::AcqRel) == cpu.id {
        return;
    }
    let frame = gdt::page_maddr(cpu.id).and_then(|maddr| Mfn::new(maddr >> 12));
    let at = layout::guest_gdt_page(vcpu.id, GDT_FRAMES as u64);
    let mapped = frame.and_then(|frame| domain.area.lock().map_page(at, frame, true));
    // The first vCPUs' tables were made with the area, and later ones' when they were created.
    assert!(mapped.is_some(), "the descriptors of cpu {} cannot be mapped", cpu.id);
}

/// Waits for an interrupt with nothing to run.
fn idle() {
    cpu::idle_until_interrupt();
}

/// The last stop before a guest: runs what is due, switches if it must, delivers what waits. Returns whether
/// `sysretq` restores everything that matters.
pub fn exit_to_guest(regs: &mut GuestRegs) -> bool {
    let cpu = percpu::this();
    loop {
        let now = tsc::now_ns();
        if NEXT_TIMER_NS.load(Ordering::Acquire) <= now {
            expire_timers(now);
        }
        debugkeys::poll(now);
        console::poll(now);
        if domain::reap::is_due(now) && domain::reap::step(cpu) {
            cpu.kick();
        }
        let may_stay = cpu.running().is_some_and(|on| on.vcpu.runnable() && !on.domain.is_dying());
        if !may_stay || cpu.slice_end_ns.get() <= now || cpu.shared.need_resched.load(Ordering::Acquire) {
            cpu.shared.need_resched.swap(false, Ordering::AcqRel);
            schedule(cpu, regs);
        }
        let Some(on) = cpu.running() else {
            if !cpu.shared.need_resched.load(Ordering::Acquire) && !domain::reap::is_due(tsc::now_ns()) {
                idle();
            }
            continue;
        };
        deliver(regs, &on.vcpu, &on.domain);
        if on.domain.is_dying() || cpu.shared.need_resched.load(Ordering::Acquire) {
            continue;
        }
        return sysret_suffices(regs);
    }
}

/// Delivers a failed return, an NMI or an event to the vCPU that is about to run.
fn deliver(regs: &mut GuestRegs, vcpu: &Vcpu, domain: &Arc<Domain>) {
    let mut state = vcpu.state.lock();
    let state: &mut VcpuState = &mut state;
    state.see_mode(regs.rsp);
    if core::mem::take(&mut state.failsafe_pending) {
        traps::failsafe(regs, vcpu, domain, state);
    }
    if vcpu.nmi_pending.load(Ordering::Relaxed) && state.nmi.address != 0 && vcpu.nmi_pending.swap(false, Ordering::AcqRel) {
        let callback = state.nmi;
        bounce::by_callback(regs, vcpu, domain, state, callback);
    }
    if state.event.address != 0 && vcpu_info::upcall_due(vcpu) {
        domain.counters.upcalls.bump();
        trace::record(trace::Id::Upcall, u64::from(domain.id.raw()), u64::from(vcpu.id), 0);
        let callback = state.event;
        bounce::by_callback(regs, vcpu, domain, state, callback);
    }
}

/// Whether `sysretq` loads just what the frame says: rcx and r11 are free, the selectors are its own, nothing
/// in the flags needs `iretq`, and rip is canonical (with a non-canonical one, `sysretq` faults in ring 0 on Intel:
/// XSA-7).
fn sysret_suffices(regs: &GuestRegs) -> bool {
    regs.vector == VECTOR_SYSCALL
        && regs.cs == u64::from(GUEST_CS)
        && regs.ss == u64::from(GUEST_SS)
        && regs.rflags & (rflags::RF | rflags::TF | rflags::NT | rflags::VM) == 0
        && crate::mm::layout::is_canonical(regs.rip)
}

/// Gives the boot CPU to the scheduler.
pub fn run() -> ! {
    percpu::this().kick();
    entry::start_scheduling()
}
