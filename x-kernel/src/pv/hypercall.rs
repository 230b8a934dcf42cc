//! Hypercall dispatch: one table of numbers, names and handlers, used by direct calls and multicalls.
//!
//! A handler takes its arguments as alleged and returns an [`Outcome`]. When it is preempted it has already
//! rewritten its arguments, so that making the same call again goes on where it stopped; the dispatcher then
//! moves the guest's rip back to its `syscall` instruction (Xen: `hypercall_create_continuation`).

use alloc::sync::Arc;

use xen_abi::errno::Errno;

use super::{
    callback, console, debugreg, descriptor, evtchn, grant, iret, memory, misc, mmu, mmuext, multicall, sched_op, timer, vcpu_op, version,
    xmode,
};
use crate::arch::x86_64::entry::GuestRegs;
use crate::domain::Domain;
use crate::domain::vcpu::{Vcpu, VcpuState};
use crate::mm::guest_access::GuestPtr;
use crate::percpu;
use crate::trace;

/// What a handler did.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Outcome {
    /// Finished; the value goes to rax.
    Done(i64),
    /// Stopped on the way with its arguments rewritten: call again.
    Preempted,
    /// The registers are not the caller's any more (iret): leave them alone.
    NewFrame,
}

/// A handler's answer.
pub type HcResult = Result<Outcome, Errno>;

/// Success with value 0.
pub const OK: HcResult = Ok(Outcome::Done(0));

/// The six argument registers rdi, rsi, rdx, r10, r8, r9: allegations.
#[derive(Clone, Copy, Debug)]
pub struct Args(pub [u64; 6]);

impl Args {
    /// Argument `N` as it stands.
    pub fn u64<const N: usize>(&self) -> u64 {
        const { assert!(N < 6) };
        self.0.get(N).copied().unwrap_or(0)
    }

    /// Argument `N` as the 32-bit integer that the ABI says it is; the upper half is ignored.
    pub fn u32<const N: usize>(&self) -> u32 {
        (self.u64::<N>() & 0xffff_ffff) as u32
    }

    /// Argument `N` as a pointer.
    pub fn ptr<T, const N: usize>(&self) -> GuestPtr<T> {
        GuestPtr::new(self.u64::<N>())
    }

    /// Rewrites argument `N` for a continuation.
    pub fn set<const N: usize>(&mut self, value: u64) {
        const { assert!(N < 6) };
        if let Some(argument) = self.0.get_mut(N) {
            *argument = value;
        }
    }
}

/// Who calls, and what the call may change.
pub struct HcCx<'a> {
    /// The caller's registers.
    pub regs: &'a mut GuestRegs,
    /// The caller.
    pub vcpu: &'a Arc<Vcpu>,
    /// Its domain.
    pub domain: &'a Arc<Domain>,
    /// Its private state.
    pub state: &'a mut VcpuState,
    /// Inside a multicall, which takes no other into it.
    pub in_multicall: bool,
}

type Handler = fn(&mut HcCx<'_>, &mut Args) -> HcResult;

macro_rules! hypercalls {
    ($($nr:literal, $handler:path;)*) => {
        fn handler(nr: u64) -> Option<Handler> {
            match nr {
                $($nr => Some($handler),)*
                _ => None,
            }
        }
    };
}

hypercalls! {
    0,  descriptor::set_trap_table;
    1,  mmu::mmu_update;
    2,  descriptor::set_gdt;
    3,  misc::stack_switch;
    4,  callback::set_callbacks;
    5,  misc::fpu_taskswitch;
    6,  sched_op::sched_op_compat;
    7,  misc::platform_op;
    8,  debugreg::set_debugreg;
    9,  debugreg::get_debugreg;
    10, descriptor::update_descriptor;
    12, memory::memory_op;
    13, multicall::multicall;
    14, mmu::update_va_mapping;
    15, timer::set_timer_op;
    17, version::xen_version;
    18, console::console_io;
    20, grant::grant_table_op;
    21, misc::vm_assist;
    22, mmu::update_va_mapping_otherdomain;
    23, iret::iret;
    24, vcpu_op::vcpu_op;
    25, misc::set_segment_base;
    26, mmuext::mmuext_op;
    29, sched_op::sched_op;
    30, callback::callback_op;
    32, evtchn::event_channel_op;
    33, misc::physdev_op;
    55, xmode::arch_7;
}

/// Runs hypercall `nr`: counts it, traces it, finds its handler.
pub fn dispatch(cx: &mut HcCx<'_>, nr: u64, args: &mut Args) -> HcResult {
    if let Some(counter) = usize::try_from(nr).ok().and_then(|i| cx.domain.counters.hypercalls.get(i)) {
        counter.bump();
        if cx.in_multicall {
            cx.domain.counters.multicall_calls.bump();
        }
    }
    trace::record(trace::Id::Hypercall, nr, args.0[0], args.0[1]);
    let handler = handler(nr).ok_or(Errno::ENOSYS)?;
    handler(cx, args)
}

/// A `syscall` instruction in a guest: a hypercall from its kernel, a system call from its processes.
pub fn from_guest(regs: &mut GuestRegs) {
    let Some(on) = percpu::this().running() else { return };
    let (vcpu, domain) = (&on.vcpu, &on.domain);
    domain.counters.crossings.bump();
    let mut state = vcpu.state.lock();
    state.see_mode(regs.rsp);
    if !state.in_kernel {
        domain.counters.syscalls_trap.bump();
        super::abom::trapped(regs, domain, &mut state);
        super::bounce::syscall(regs, vcpu, domain, &mut state);
        return;
    }
    let nr = regs.rax;
    let mut args = Args([regs.rdi, regs.rsi, regs.rdx, regs.r10, regs.r8, regs.r9]);
    let mut cx = HcCx { regs, vcpu, domain, state: &mut state, in_multicall: false };
    match dispatch(&mut cx, nr, &mut args) {
        Ok(Outcome::Done(value)) => regs.rax = value as u64,
        Ok(Outcome::NewFrame) => {}
        Ok(Outcome::Preempted) => {
            domain.counters.continuations.bump();
            [regs.rdi, regs.rsi, regs.rdx, regs.r10, regs.r8, regs.r9] = args.0;
            regs.rip = regs.rip.wrapping_sub(2);
        }
        Err(errno) => {
            trace::record(trace::Id::HypercallError, nr, errno.to_ret() as u64, args.0[0]);
            regs.rax = errno.to_ret() as u64;
        }
    }
}
