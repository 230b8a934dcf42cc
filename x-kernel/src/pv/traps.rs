//! Traps taken while a guest ran: which are ours, which are emulated, which bounce to the guest.
//!
//! Answers to Xen's xen/arch/x86/traps.c and pv/traps.c. Hardware interrupts and NMIs are the X-Kernel's; every
//! exception belongs to the guest, except where the PV ABI makes the hypervisor do the work: privileged
//! instructions of the guest kernel, its writes to page tables, and the forced-emulation prefix.

use core::ops::RangeInclusive;

use super::{abom, bounce, emulate, ptwr};
use crate::arch::x86_64::entry::GuestRegs;
use crate::arch::x86_64::entry::regs::VECTOR_SYSCALL32;
use crate::arch::x86_64::{context, irq};
use crate::mm::{guest_access, layout};
use crate::percpu;
use crate::perf;

/// Bits of a page fault's error code.
pub mod pf {
    /// The translation was present: a protection fault.
    pub const PRESENT: u32 = 1 << 0;
    /// A write.
    pub const WRITE: u32 = 1 << 1;
    /// By the guest's own load or store, not by the CPU on its behalf.
    pub const USER: u32 = 1 << 2;
}

/// The IDT bit of a selector error code.
const XEC_IDT: u32 = 1 << 1;

/// Serves a trap from ring 3.
pub fn from_guest(regs: &mut GuestRegs) {
    let cpu = percpu::this();
    let Some(on) = cpu.running() else { return };
    let (vcpu, domain) = (&*on.vcpu, &on.domain);
    domain.counters.crossings.bump();
    let vector = u8::try_from(regs.vector);
    if let Ok(vector @ 32..) = vector {
        domain.counters.interrupts.bump();
        perf::bump(&cpu.counters.interrupts);
        irq::handle(vector);
        return;
    }
    // Read before anything else can fault.
    let cr2 = if vector == Ok(14) { context::read_cr2() } else { 0 };
    let mut state = vcpu.state.lock();
    let state = &mut *state;
    state.see_mode(regs.rsp);
    match vector {
        Ok(1) => {
            let dr6 = context::take_dr6();
            state.debug[4] = (state.debug[4] & !0xf) | dr6 | 0xffff_0ff0;
            bounce::exception(regs, vcpu, domain, state, 1, None);
        }
        Ok(2) => irq::handle_nmi(),
        Ok(6) => {
            if !emulate::forced_cpuid(regs, domain, vcpu, state) && !abom::invalid_opcode(regs, vcpu, domain, state) {
                bounce::exception(regs, vcpu, domain, state, 6, None);
            }
        }
        Ok(7) => {
            if state.task_switched {
                state.task_switched = false;
                context::clear_ts();
            }
            bounce::exception(regs, vcpu, domain, state, 7, None);
        }
        Ok(8 | 18) => crate::panic::unexpected_trap(regs),
        Ok(13) => general_protection(regs, vcpu, domain, state),
        Ok(14) => {
            domain.counters.page_faults.bump();
            let write_to_present = pf::PRESENT | pf::WRITE;
            if state.in_kernel && regs.error_code & write_to_present == write_to_present && ptwr::emulate(regs, domain, state, cr2) {
                domain.counters.pt_writes_emulated.bump();
                return;
            }
            let code = regs.error_code;
            // The CPU was reading a descriptor where the guest has no table: for the guest the selector is bad.
            if let Some(selector) = layout::selector_of(cr2).filter(|_| code & pf::USER == 0) {
                bounce::exception(regs, vcpu, domain, state, 13, Some(u32::from(selector)));
                return;
            }
            bounce::page_fault(regs, vcpu, domain, state, cr2, code);
        }
        // Selector and alignment faults carry an error code.
        Ok(vector @ (10 | 11 | 12 | 17)) => {
            let code = regs.error_code;
            bounce::exception(regs, vcpu, domain, state, vector, Some(code));
        }
        Ok(vector @ (0 | 3 | 4 | 5 | 16 | 19 | 20)) => bounce::exception(regs, vcpu, domain, state, vector, None),
        Err(_) if regs.vector == VECTOR_SYSCALL32 => {
            if state.syscall32.address != 0 && !state.in_kernel {
                let callback = state.syscall32;
                bounce::by_callback(regs, vcpu, domain, state, callback);
            } else {
                regs.rip = regs.rip.wrapping_sub(2);
                bounce::exception(regs, vcpu, domain, state, 6, None);
            }
        }
        _ => domain.crash(format_args!("unexpected vector {}", regs.vector)),
    }
}

/// `#GP`: a software interrupt of the guest's, a privileged instruction that it may use, or its own fault.
fn general_protection(
    regs: &mut GuestRegs,
    vcpu: &crate::domain::vcpu::Vcpu,
    domain: &alloc::sync::Arc<crate::domain::Domain>,
    state: &mut crate::domain::vcpu::VcpuState,
) {
    if regs.error_code & XEC_IDT != 0 {
        if let Some(vector) = software_interrupt(regs) {
            let gate = state.gate(vector);
            let privilege = if state.in_kernel { 1 } else { 3 };
            if gate.address != 0 && gate.dpl >= privilege {
                regs.rip = regs.rip.wrapping_add(2);
                bounce::exception(regs, vcpu, domain, state, vector, None);
                return;
            }
            // The error code that hardware would give, whatever the emulator underneath says.
            let code = u32::from(vector) << 3 | XEC_IDT;
            bounce::exception(regs, vcpu, domain, state, 13, Some(code));
            return;
        }
    } else if regs.error_code == 0 && emulate::privileged(regs, domain, vcpu, state) {
        domain.counters.instructions_emulated.bump();
        return;
    }
    let code = regs.error_code;
    bounce::exception(regs, vcpu, domain, state, 13, Some(code));
}

/// The vector of the `int n` at rip. The error code is not relied on: some emulators scale it wrongly.
fn software_interrupt(regs: &GuestRegs) -> Option<u8> {
    let mut bytes = [0u8; 2];
    guest_access::copy_in(regs.rip, &mut bytes).ok()?;
    (bytes[0] == 0xcd).then_some(bytes[1])
}

/// Serves a trap taken in ring 0 that is no bug: an interrupt in an irq window or while idle, an NMI.
pub fn from_x_kernel(regs: &mut GuestRegs) -> bool {
    match u8::try_from(regs.vector) {
        Ok(2) => {
            irq::handle_nmi();
            true
        }
        Ok(vector @ 32..) => {
            perf::bump(&percpu::this().counters.interrupts);
            irq::handle(vector);
            true
        }
        // A breakpoint condition that the guest has planted (MovSS, XSA-260) fired on our way in: not ours.
        Ok(1) => {
            let _ = context::take_dr6();
            true
        }
        _ => false,
    }
}

/// The exceptions by which `iretq` refuses a frame: #TS, #NP, #SS, #GP, #PF. Anything else there is not about the frame.
pub const REFUSALS: RangeInclusive<u32> = 10..=14;

/// The CPU refused to return to the frame: for the guest the fault is its own, at the place where it was to go on.
pub fn failed_return(regs: &mut GuestRegs) {
    let Some(on) = percpu::this().running() else { return };
    let (vcpu, domain) = (&*on.vcpu, &on.domain);
    let mut state = vcpu.state.lock();
    state.see_mode(regs.rsp);
    let (vector, code) = match u8::try_from(regs.vector) {
        Ok(vector) if vector != 14 => (vector, regs.error_code),
        // What it wanted to read was a descriptor; the guest knows nothing of the addresses of its tables.
        _ => (13, layout::selector_of(context::read_cr2()).map_or(0, u32::from)),
    };
    bounce::exception(regs, vcpu, domain, &mut state, vector, Some(code));
}

/// Enters the failsafe callback, after a segment register that could not be loaded again. Its frame carries ds, es, fs and
/// gs below rcx (xen-x86_64.h; XSA-215: they are part of what must fit on the guest's stack).
pub fn failsafe(
    regs: &mut GuestRegs,
    vcpu: &crate::domain::vcpu::Vcpu,
    domain: &alloc::sync::Arc<crate::domain::Domain>,
    state: &mut crate::domain::vcpu::VcpuState,
) {
    let callback = state.failsafe;
    if callback.address == 0 {
        domain.crash(format_args!("its data segments cannot be loaded and it has no failsafe callback"));
        return;
    }
    if !bounce::by_callback(regs, vcpu, domain, state, callback) {
        return;
    }
    let s = state.segments;
    let words = [u64::from(s.ds), u64::from(s.es), u64::from(s.fs), u64::from(s.gs)];
    regs.rsp = regs.rsp.wrapping_sub(32);
    if guest_access::copy_out(regs.rsp, zerocopy::IntoBytes::as_bytes(&words)).is_err() {
        domain.crash(format_args!("its kernel stack at {:#x} cannot take a failsafe frame", regs.rsp));
    }
}
