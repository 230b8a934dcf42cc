//! The door between assembly and the rest of the X-Kernel.
//!
//! Assembly builds a [`GuestRegs`] on the main stack and calls one of four functions here; each makes one
//! reference of the pointer it is given and from there on everything is safe code.

// UNSAFETY: turns the pointer that the entry code passes into a reference; leaves the boot stack.
#![expect(unsafe_code, reason = "the unsafe-to-safe door of every entry")]

use core::arch::global_asm;

pub mod extable;
pub mod regs;

pub use regs::GuestRegs;
use regs::{REGS_CS, REGS_SIZE, VECTOR_SYSCALL, VECTOR_SYSCALL32};

use crate::percpu::{self, StackBlock, TOP_GAP};

/// Ring-3 64-bit code, as `sysretq` loads it and guests expect it (`FLAT_RING3_CS64`).
pub const GUEST_CS: u16 = 0xe033;
/// Ring-3 32-bit code (`FLAT_RING3_CS32`).
pub const GUEST_CS32: u16 = 0xe023;
/// Ring-3 data (`FLAT_RING3_SS64`).
pub const GUEST_SS: u16 = 0xe02b;

global_asm!(
    include_str!("traps.S"),
    include_str!("syscall.S"),
    REGS_CS = const REGS_CS,
    REGS_SIZE = const REGS_SIZE,
    GUEST_SS = const GUEST_SS,
    GUEST_CS = const GUEST_CS,
    GUEST_CS32 = const GUEST_CS32,
    VECTOR_SYSCALL = const VECTOR_SYSCALL,
    VECTOR_SYSCALL32 = const VECTOR_SYSCALL32,
    trap_from_guest = sym trap_from_guest,
    trap_from_x_kernel = sym trap_from_x_kernel,
    syscall_from_guest = sym syscall_from_guest,
    exit_to_guest = sym exit_to_guest,
);

unsafe extern "C" {
    static xk_trap_stubs: [u64; 256];
    static xk_stub_area: [u8; 8192];
    fn xk_exit_to_guest();
    fn xk_iretq_to_guest();
    fn xk_lstar_common();
    fn xk_cstar_common();
}

/// The address of the stub for `vector`, for the IDT.
pub fn trap_stub(vector: u8) -> u64 {
    // SAFETY: a constant table of the assembly.
    let stubs = unsafe { &xk_trap_stubs };
    // There is one for every vector.
    stubs.get(usize::from(vector)).copied().unwrap_or(0)
}

/// The privilege level that may enter the gate of `vector` by `int n`: 3 for #BP and #OF, else 0, so that a
/// guest's `int n` arrives as #GP and is looked up in the guest's own trap table.
pub fn gate_dpl(vector: u8) -> u8 {
    if matches!(vector, 3 | 4) { 3 } else { 0 }
}

/// The interrupt stack (1..=4) of `vector`, or 0 for the main stack.
pub fn ist_for(vector: u8) -> u8 {
    match vector {
        2 => 1,
        8 => 2,
        18 => 3,
        // A #DB held back by MovSS arrives with the guest's stack pointer still loaded (XSA-260).
        1 => 4,
        _ => 0,
    }
}

/// Entry by exception or interrupt from ring 3.
///
/// # Safety
/// `regs` must be the frame that the entry code has built on this CPU's main stack, and nothing else may refer to it.
unsafe extern "C" fn trap_from_guest(regs: *mut GuestRegs) {
    // SAFETY: the caller's obligation.
    let regs = unsafe { &mut *regs };
    crate::pv::traps::from_guest(regs);
}

/// Entry by `syscall` from ring 3.
///
/// # Safety
/// `regs` must be the frame that the entry code has built on this CPU's main stack, and nothing else may refer to it.
unsafe extern "C" fn syscall_from_guest(regs: *mut GuestRegs) {
    // SAFETY: the caller's obligation.
    let regs = unsafe { &mut *regs };
    crate::pv::hypercall::from_guest(regs);
}

/// The last stop before ring 3. Returns whether the short way out (`sysretq`) restores everything that matters.
///
/// # Safety
/// `regs` must be the frame that the entry code has built on this CPU's main stack, and nothing else may refer to it.
unsafe extern "C" fn exit_to_guest(regs: *mut GuestRegs) -> bool {
    // SAFETY: the caller's obligation.
    let regs = unsafe { &mut *regs };
    crate::sched::exit_to_guest(regs)
}

/// A trap taken in ring 0. Returns null to resume, or the frame to leave to a guest with.
///
/// # Safety
/// `regs` must be the frame that the entry code has built on the stack that it runs on, and nothing else may refer to it.
unsafe extern "C" fn trap_from_x_kernel(regs: *mut GuestRegs) -> *mut GuestRegs {
    // SAFETY: the caller's obligation.
    let frame = unsafe { &mut *regs };
    if let Some(to) = extable::fixup(frame.rip) {
        frame.rip = to;
        return core::ptr::null_mut();
    }
    if frame.rip == xk_iretq_to_guest as *const () as u64 && crate::pv::traps::REFUSALS.contains(&frame.vector) {
        return refused_iret(frame);
    }
    if crate::pv::traps::from_x_kernel(frame) {
        return core::ptr::null_mut();
    }
    crate::panic::unexpected_trap(frame)
}

/// `iretq` refused the frame of the guest (a selector without a descriptor, say). The registers are the
/// guest's again and its frame is still in memory: put both together and let the guest hear of it.
fn refused_iret(fault: &GuestRegs) -> *mut GuestRegs {
    let home = main_frame();
    let mut whole = *fault;
    let frame = fault.rsp as *const [u64; 5];
    // SAFETY: `rsp` at `xk_iretq_to_guest` points to the five words that `iretq` was to load, the upper end of
    // the frame's fixed place. The trap frame lies below it.
    let [rip, cs, rflags, rsp, ss] = unsafe { frame.read() };
    (whole.rip, whole.cs, whole.rflags, whole.rsp, whole.ss) = (rip, cs, rflags, rsp, ss);
    crate::pv::traps::failed_return(&mut whole);
    // SAFETY: the fixed place of the frame on this CPU's main stack; the trap frame there has been copied out.
    unsafe { home.write(whole) };
    home
}

/// The fixed place of a guest's frame on this CPU's main stack.
fn main_frame() -> *mut GuestRegs {
    let mut sp: u64;
    // SAFETY: reads the stack pointer.
    unsafe { core::arch::asm!("mov {}, rsp", out(reg) sp, options(nomem, nostack, preserves_flags)) };
    // The block is aligned to its size, and the frame ends at a fixed distance from its end.
    sp &= !(percpu::BLOCK_SIZE as u64).wrapping_sub(1);
    sp.wrapping_add(const { (percpu::BLOCK_SIZE - TOP_GAP - REGS_SIZE) as u64 }) as *mut GuestRegs
}

/// Leaves the boot path for the scheduler: drops the stack and enters the exit path with an empty frame.
pub fn start_scheduling() -> ! {
    let home = main_frame();
    // SAFETY: the boot path runs on the main stack well below the frame's fixed place, and is given up.
    unsafe { home.write(GuestRegs::default()) };
    // SAFETY: `xk_exit_to_guest` expects exactly this stack pointer and never returns.
    unsafe {
        core::arch::asm!(
            "mov rsp, {home}",
            "xor ebp, ebp",
            "jmp {exit}",
            home = in(reg) home,
            exit = sym xk_exit_to_guest,
            options(noreturn)
        )
    }
}

/// The machine code of a stub that brings `syscall` on the CPU of `block` to `target`.
///
/// `mov [scratch], rax; mov rax, rsp; mov rsp, top; jmp [rip]; target`: the only registers that `syscall`
/// leaves free are rcx and r11, which hold the guest's rip and flags.
fn stub_code(block: &StackBlock, target: u64) -> [u8; 64] {
    let top = block.end().wrapping_sub(TOP_GAP as u64).to_le_bytes();
    let mut code = [0xcc; 64];
    code[..2].copy_from_slice(&[0x48, 0xa3]);
    code[2..10].copy_from_slice(&top);
    code[10..13].copy_from_slice(&[0x48, 0x89, 0xe0]);
    code[13..15].copy_from_slice(&[0x48, 0xbc]);
    code[15..23].copy_from_slice(&top);
    code[23..29].copy_from_slice(&[0xff, 0x25, 0, 0, 0, 0]);
    code[29..37].copy_from_slice(&target.to_le_bytes());
    code
}

/// Writes the stubs of the CPU numbered `cpu` that runs on `block`, and returns their addresses for
/// MSR_LSTAR and MSR_CSTAR.
///
/// # Panics
/// If `cpu` is not below [`percpu::MAX_CPUS`].
pub fn install_stubs(cpu: u32, block: &StackBlock) -> (u64, u64) {
    assert!((cpu as usize) < percpu::MAX_CPUS, "more CPUs than entry stubs");
    let area = &raw const xk_stub_area as u64;
    let lstar = area.wrapping_add(u64::from(cpu).wrapping_mul(128));
    let cstar = lstar.wrapping_add(64);
    for (at, target) in [(lstar, xk_lstar_common as *const () as u64), (cstar, xk_cstar_common as *const () as u64)] {
        crate::mm::window::write_image(at, &stub_code(block, target));
    }
    (lstar, cstar)
}
