//! `iret`: the return from a guest's handler, to its kernel or to a process.
//!
//! The frame lies on the guest kernel's stack: rax, r11, rcx, flags, rip, cs, rflags, rsp, ss
//! (`struct iret_context`, xen/arch-x86/xen-x86_64.h). Every field is sanitised, not trusted: what the CPU
//! still refuses becomes a failsafe callback. In X-mode a return to a process needs no call, and this one tells by the
//! stack pointer where it goes.

use xen_abi::arch_x86::{IretContext, VGCF_in_syscall};
use xen_abi::version::VMASST_TYPE_architectural_iopl;

use super::hypercall::{Args, HcCx, HcResult, Outcome};
use super::vcpu_info;
use crate::arch::x86_64::context;
use crate::arch::x86_64::entry::regs::{VECTOR_SYSCALL, rflags};
use crate::mm::guest_access::GuestPtr;

/// Leaves the guest's handler. In a multicall it is the last call: what follows is not the returned-to code's to ask
/// (XSA-213).
///
/// # Errors
/// None. A frame that cannot be read, or a return to user mode without a user
/// page table, ends the domain: there is no caller left to hear of it.
pub fn iret(cx: &mut HcCx<'_>, _: &mut Args) -> HcResult {
    let Ok(frame) = GuestPtr::<IretContext>::new(cx.regs.rsp).read() else {
        cx.domain.crash(format_args!("iret frame at {:#x} cannot be read", cx.regs.rsp));
        return Ok(Outcome::NewFrame);
    };
    if cx.state.xmode.is_none() && frame.cs & 3 == 3 {
        if cx.state.user_root.is_none() {
            cx.domain.crash(format_args!("iret to user mode without a user page table"));
            return Ok(Outcome::NewFrame);
        }
        context::to_user_mode(cx.domain, cx.state);
    }
    if cx.domain.has_assist(VMASST_TYPE_architectural_iopl) {
        cx.state.iopl = (frame.rflags >> 12 & 3) as u8;
    }
    let regs = &mut *cx.regs;
    regs.rip = frame.rip;
    regs.cs = frame.cs;
    regs.rflags = frame.rflags;
    regs.rsp = frame.rsp;
    regs.ss = frame.ss;
    regs.rax = frame.rax;
    regs.sanitise();
    if frame.flags & VGCF_in_syscall == 0 {
        regs.r11 = frame.r11;
        regs.rcx = frame.rcx;
        regs.vector = 0;
    } else {
        regs.vector = VECTOR_SYSCALL;
    }
    cx.state.see_mode(frame.rsp);
    vcpu_info::set_upcall_mask(cx.vcpu, u8::from(frame.rflags & rflags::IF == 0));
    Ok(Outcome::NewFrame)
}
