//! Entering a guest's handlers: exceptions, events, system calls and failed returns all arrive by one frame.
//!
//! The frame is the public ABI's (xen/arch-x86/xen-x86_64.h and what Linux's entry code pops): from its lower
//! end rcx, r11, the error code where there is one, rip, cs with the saved event mask in bits 32–39, rflags with
//! IF showing that events were unmasked, rsp, ss. It is written under the guest kernel's page table; a stack
//! that cannot take it is the guest's death.

use alloc::sync::Arc;

use xen_abi::version::VMASST_TYPE_architectural_iopl;

use super::vcpu_info;
use crate::arch::x86_64::context;
use crate::arch::x86_64::entry::regs::rflags;
use crate::arch::x86_64::entry::{GUEST_CS, GUEST_SS, GuestRegs};
use crate::domain::Domain;
use crate::domain::vcpu::{Callback, Vcpu, VcpuState, XMode};
use crate::mm::guest_access;
use crate::trace;

/// A way into the guest kernel.
struct Entry {
    address: u64,
    masks_events: bool,
    error_code: Option<u32>,
}

/// Enters the guest kernel at `entry`. False when the frame could not be written; the domain is dead then.
fn enter(regs: &mut GuestRegs, vcpu: &Vcpu, domain: &Arc<Domain>, state: &mut VcpuState, entry: &Entry) -> bool {
    let from_kernel = state.in_kernel;
    if !from_kernel {
        context::to_kernel_mode(domain, state);
    }
    let stack = match state.xmode {
        _ if from_kernel => regs.rsp,
        None => state.kernel_sp,
        Some(XMode { kernel_sp_at }) => match guest_access::read_word(kernel_sp_at) {
            Ok(sp) => sp,
            Err(_) => {
                domain.crash(format_args!("the word at {kernel_sp_at:#x} for its kernel stack cannot be read"));
                return false;
            }
        },
    };
    let masked = vcpu_info::upcall_mask(vcpu, entry.masks_events);
    let cs = (regs.cs & if from_kernel { 0xfffc } else { 0xffff }) | u64::from(masked) << 32;
    let iopl = if domain.has_assist(VMASST_TYPE_architectural_iopl) { u64::from(state.iopl & 3) << 12 } else { 0 };
    let flags = (regs.rflags & !(rflags::IF | rflags::IOPL)) | if masked == 0 { rflags::IF } else { 0 } | iopl;

    let GuestRegs { rcx, r11, rip, rsp, ss, .. } = *regs;
    let (words, from) = match entry.error_code {
        Some(code) => ([rcx, r11, u64::from(code), rip, cs, flags, rsp, ss], 0),
        None => ([0, rcx, r11, rip, cs, flags, rsp, ss], 1),
    };
    let frame = words.get(from..).unwrap_or(&words);
    let sp = (stack & !0xf).wrapping_sub(size_of_val(frame) as u64);
    if guest_access::copy_out(sp, zerocopy::IntoBytes::as_bytes(frame)).is_err() {
        domain.crash(format_args!("its kernel stack at {sp:#x} cannot take an exception frame, at {:#x}", regs.rip));
        return false;
    }
    regs.rsp = sp;
    regs.ss = u64::from(GUEST_SS);
    regs.cs = u64::from(GUEST_CS);
    regs.rip = entry.address;
    regs.rflags = (regs.rflags & !(rflags::TF | rflags::NT | rflags::RF | rflags::AC | rflags::DF)) | rflags::IF | rflags::FIXED;
    true
}

/// Bounces an exception to the handler in the guest's trap table, or ends the domain if there is none.
pub fn exception(regs: &mut GuestRegs, vcpu: &Vcpu, domain: &Arc<Domain>, state: &mut VcpuState, vector: u8, error_code: Option<u32>) {
    let gate = state.gate(vector);
    if gate.address == 0 {
        domain.crash(format_args!(
            "exception {vector} (error code {:#x}) at {:#x} in {} mode with no handler",
            error_code.unwrap_or(0),
            regs.rip,
            if state.in_kernel { "kernel" } else { "user" },
        ));
        return;
    }
    domain.counters.exceptions_bounced.bump();
    trace::record(trace::Id::Bounce, u64::from(vector), regs.rip, u64::from(error_code.unwrap_or(0)));
    let entry = Entry { address: gate.address, masks_events: gate.masks_events, error_code };
    enter(regs, vcpu, domain, state, &entry);
}

/// Bounces a page fault: CR2 goes to `vcpu_info`, and the error code's user bit tells the guest's own mode.
pub fn page_fault(regs: &mut GuestRegs, vcpu: &Vcpu, domain: &Arc<Domain>, state: &mut VcpuState, cr2: u64, error_code: u32) {
    const USER: u32 = 1 << 2;
    vcpu_info::set_cr2(vcpu, cr2);
    let code = (error_code & !USER) | if state.in_kernel { 0 } else { USER };
    exception(regs, vcpu, domain, state, 14, Some(code));
}

/// A system call of a process: enters the guest kernel's registered entry point.
pub fn syscall(regs: &mut GuestRegs, vcpu: &Vcpu, domain: &Arc<Domain>, state: &mut VcpuState) {
    let callback = state.syscall;
    if callback.address == 0 {
        // As on hardware without `syscall` (XSA-8): rip back on the instruction.
        regs.rip = regs.rip.wrapping_sub(2);
        exception(regs, vcpu, domain, state, 6, None);
        return;
    }
    by_callback(regs, vcpu, domain, state, callback);
}

/// Enters a registered callback.
pub fn by_callback(regs: &mut GuestRegs, vcpu: &Vcpu, domain: &Arc<Domain>, state: &mut VcpuState, callback: Callback) -> bool {
    let entry = Entry { address: callback.address, masks_events: callback.masks_events, error_code: None };
    enter(regs, vcpu, domain, state, &entry)
}
