//! Exceptions: a trap table, and catching the one that an experiment is about.

use core::arch::global_asm;
use core::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};

use xen_abi::arch_x86::{FLAT_KERNEL_CS, TrapInfo};
use xen_abi::hypercall::__HYPERVISOR_set_trap_table;

use crate::{check, hypercall, memory, println};

/// What the stubs leave on the stack: general registers, then what the hypervisor pushed.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct Frame {
    registers: [u64; 15],
    /// The exception's number; 256 for an upcall, 257 failsafe, 258 a system call.
    pub vector: u64,
    /// Its error code; 0 where there is none.
    pub error: u64,
    /// Where it happened.
    pub rip: u64,
    /// The selector then.
    pub cs: u64,
    /// The flags then.
    pub rflags: u64,
    /// The stack then.
    pub rsp: u64,
    /// Its selector.
    pub ss: u64,
}

/// A caught exception.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Fault {
    /// Its number.
    pub vector: u64,
    /// Its error code.
    pub error: u64,
    /// Where it happened.
    pub rip: u64,
    /// For a page fault, the address.
    pub cr2: u64,
    /// The code selector.
    pub cs: u64,
    /// The stack pointer.
    pub rsp: u64,
    /// Where the frame was pushed.
    pub frame: u64,
}

// The hypervisor pushes ss, rsp, rflags, cs, rip, the error code if there is one, r11, rcx.
global_asm!(
    ".macro ptk_stub vector, has_error",
    // The failsafe frame has ds, es, fs and gs below the rest.
    ".if \\vector == 257",
    "add rsp, 32",
    ".endif",
    "pop rcx",
    "pop r11",
    ".if \\has_error == 0",
    "push 0",
    ".endif",
    "push \\vector",
    "jmp ptk_common",
    ".balign 32",
    ".endm",
    ".pushsection .text",
    ".balign 32",
    ".globl ptk_stubs",
    "ptk_stubs:",
    ".set vector, 0",
    ".rept 260",
    ".if vector == 8 || (vector >= 10 && vector <= 14) || vector == 17 || vector == 21 || vector == 29 || vector == 30",
    "ptk_stub vector, 1",
    ".else",
    "ptk_stub vector, 0",
    ".endif",
    ".set vector, vector + 1",
    ".endr",
    "ptk_common:",
    "push rdi; push rsi; push rdx; push rcx; push rax; push r8; push r9; push r10; push r11; push rbx; push rbp",
    "push r12; push r13; push r14; push r15",
    "cld",
    "mov rbp, rsp",
    "mov rdi, rsp",
    "and rsp, -16",
    "call {handler}",
    "mov rsp, rbp",
    "pop r15; pop r14; pop r13; pop r12; pop rbp; pop rbx; pop r11; pop r10; pop r9; pop r8; pop rax; pop rcx; pop rdx",
    "pop rsi; pop rdi",
    "add rsp, 16",
    // The iret hypercall takes, above what a real iret takes: rax, r11, rcx, flags.
    "push 0; push rcx; push r11; push rax",
    "mov eax, 23",
    "syscall",
    "ud2",
    // rdi: function, rsi: its argument. Returns 0, or 1 when `handler` has come back here by `ptk_caught`.
    ".globl ptk_try",
    "ptk_try:",
    "push rbx; push rbp; push r12; push r13; push r14; push r15",
    "mov [rip + {rsp}], rsp",
    "mov rax, rdi",
    "mov rdi, rsi",
    "sub rsp, 8",
    "call rax",
    "add rsp, 8",
    "xor eax, eax",
    "jmp 1f",
    ".globl ptk_caught",
    "ptk_caught:",
    "mov eax, 1",
    "1: pop r15; pop r14; pop r13; pop r12; pop rbp; pop rbx",
    "cld",
    "ret",
    ".popsection",
    handler = sym handler,
    rsp = sym TRY_RSP,
);

unsafe extern "C" {
    static ptk_stubs: [u8; 260 * 32];
    fn ptk_try(f: extern "C" fn(*mut u8), argument: *mut u8) -> u64;
    static ptk_caught: u8;
}

/// The stack to go back to.
static TRY_RSP: AtomicU64 = AtomicU64::new(0);
static TRYING: AtomicBool = AtomicBool::new(false);
static CAUGHT: [AtomicU64; 7] = [const { AtomicU64::new(0) }; 7];
/// Exceptions taken since the start, by number.
static TAKEN: [AtomicU32; 260] = [const { AtomicU32::new(0) }; 260];

/// The address of the stub for `vector`.
pub fn stub(vector: u64) -> u64 {
    &raw const ptk_stubs as u64 + vector * 32
}

/// How often `vector` was taken.
pub fn taken(vector: usize) -> u32 {
    TAKEN[vector].load(Ordering::Relaxed)
}

/// Installs a handler for every exception.
pub fn install() {
    let mut table = [TrapInfo::default(); 33];
    for (n, entry) in table.iter_mut().take(32).enumerate() {
        // Breakpoint and overflow may be raised by anyone; 4: events stay as they are.
        let dpl = if n == 3 || n == 4 { 3 } else { 0 };
        *entry = TrapInfo { vector: n as u8, flags: dpl, cs: FLAT_KERNEL_CS, address: stub(n as u64), ..TrapInfo::default() };
    }
    let answer = hypercall(__HYPERVISOR_set_trap_table, &[table.as_ptr() as u64]);
    if answer != 0 {
        println!("set_trap_table: {answer}");
    }
}

extern "C" fn handler(frame: &mut Frame) {
    let vector = frame.vector as usize;
    if let Some(count) = TAKEN.get(vector) {
        count.fetch_add(1, Ordering::Relaxed);
    }
    if vector == 256 {
        crate::event::upcall();
        return;
    }
    let cr2 = memory::vcpu_info_word(xen_abi::shared_info::vcpu_info_offset::CR2);
    if !TRYING.swap(false, Ordering::Relaxed) {
        println!("guest: unexpected exception {vector} error {:#x} rip {:#x} cr2 {cr2:#x} rsp {:#x}", frame.error, frame.rip, frame.rsp);
        println!("VERDICT ERROR");
        check::power_off();
    }
    for (place, value) in
        CAUGHT.iter().zip([frame.vector, frame.error, frame.rip, cr2, frame.cs, frame.rsp, core::ptr::from_ref(frame) as u64])
    {
        place.store(value, Ordering::Relaxed);
    }
    // Back to the kernel, wherever it came from: a code selector of ring 3 would mean a process.
    frame.cs = u64::from(FLAT_KERNEL_CS & !3);
    frame.ss = u64::from(xen_abi::arch_x86::FLAT_KERNEL_SS);
    frame.rip = &raw const ptk_caught as u64;
    frame.rsp = TRY_RSP.load(Ordering::Relaxed);
    // Alignment checks, single steps and the direction end with the experiment.
    frame.rflags &= !(1 << 18 | 1 << 8 | 1 << 10 | 1 << 14);
}

/// Runs `f`; the exception that ends it, if one does. What `f` had borrowed is left as it was then.
pub fn catch<F: FnOnce()>(f: F) -> Option<Fault> {
    extern "C" fn run<F: FnOnce()>(slot: *mut u8) {
        // SAFETY: `catch` passes a pointer to this very type, which lives until it returns.
        if let Some(f) = unsafe { (*slot.cast::<Option<F>>()).take() } {
            f();
        }
    }
    let mut slot = Some(f);
    TRYING.store(true, Ordering::Relaxed);
    // SAFETY: `run` is given what it expects; a fault in it comes back here as 1, with all saved registers as before.
    let caught = unsafe { ptk_try(run::<F>, core::ptr::from_mut(&mut slot).cast()) } == 1;
    TRYING.store(false, Ordering::Relaxed);
    let [vector, error, rip, cr2, cs, rsp, frame] = CAUGHT.each_ref().map(|place| place.load(Ordering::Relaxed));
    caught.then_some(Fault { vector, error, rip, cr2, cs, rsp, frame })
}

/// The number and error code of the exception that ends `f`.
pub fn fault_of<F: FnOnce()>(f: F) -> Option<(u64, u64)> {
    catch(f).map(|fault| (fault.vector, fault.error))
}
