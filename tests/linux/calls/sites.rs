//! System calls in places whose addresses and registers are known to the byte.

use std::arch::naked_asm;

use crate::way::{self, JUMP, Way};

/// Registers around a call.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct State {
    /// rax, rbx, rcx, rdx, rsi, rdi, rbp, r8 and so on.
    pub general: [u64; 15],
    pub flags: u64,
    /// Where the stack is when the call is made.
    pub rsp: u64,
    /// The address behind the call.
    pub behind: u64,
    /// What lies below the stack pointer, the lowest address first.
    pub below: [u64; 16],
}

/// The registers' names, in the order of [`State::general`].
pub const NAMES: [&str; 15] = ["rax", "rbx", "rcx", "rdx", "rsi", "rdi", "rbp", "r8", "r9", "r10", "r11", "r12", "r13", "r14", "r15"];

/// Where in [`State::general`] some of them are.
pub const RAX: usize = 0;
pub const RCX: usize = 2;
pub const RDX: usize = 3;
pub const RSI: usize = 4;
pub const RDI: usize = 5;
pub const R11: usize = 10;

/// Where rax waits while all registers are in use.
static mut RESULT: u64 = 0;

/// A function that loads all registers from `before`, makes the call and stores them in `after`.
macro_rules! exchange {
    ($name:ident, $call:literal) => {
        /// # Safety
        /// The system call must be one that may be made with these arguments; `target` must be a stub's address.
        #[unsafe(naked)]
        unsafe extern "C" fn $name(before: *const State, after: *mut State, target: usize) {
            naked_asm!(
                "push rbx", "push rbp", "push r12", "push r13", "push r14", "push r15",
                "push rsi", // at rsp + 8 during the call
                "push rdx", // at rsp
                "push qword ptr [rdi + 15*8]", "popfq",
                "mov rax, rdi",
                ".irp i, 0,1,2,3,4,5,6,7,8,9,10,11,12,13,14,15",
                "mov rcx, [rax + 18*8 + 8*\\i]",
                "mov [rsp - 128 + 8*\\i], rcx",
                ".endr",
                "mov rbx, [rax + 1*8]", "mov rcx, [rax + 2*8]", "mov rdx, [rax + 3*8]", "mov rsi, [rax + 4*8]",
                "mov rdi, [rax + 5*8]", "mov rbp, [rax + 6*8]", "mov r8, [rax + 7*8]", "mov r9, [rax + 8*8]",
                "mov r10, [rax + 9*8]", "mov r11, [rax + 10*8]", "mov r12, [rax + 11*8]", "mov r13, [rax + 12*8]",
                "mov r14, [rax + 13*8]", "mov r15, [rax + 14*8]", "mov rax, [rax]",
                $call,
                "2:",
                "mov [rip + {result}], rax",
                "mov rax, [rsp + 8]",
                "mov [rax + 1*8], rbx", "mov [rax + 2*8], rcx", "mov [rax + 3*8], rdx", "mov [rax + 4*8], rsi",
                "mov [rax + 5*8], rdi", "mov [rax + 6*8], rbp", "mov [rax + 7*8], r8", "mov [rax + 8*8], r9",
                "mov [rax + 9*8], r10", "mov [rax + 10*8], r11", "mov [rax + 11*8], r12", "mov [rax + 12*8], r13",
                "mov [rax + 13*8], r14", "mov [rax + 14*8], r15", "mov [rax + 16*8], rsp",
                "mov rcx, [rip + {result}]", "mov [rax], rcx",
                "lea rcx, [rip + 2b]", "mov [rax + 17*8], rcx",
                ".irp i, 0,1,2,3,4,5,6,7,8,9,10,11,12,13,14,15",
                "mov rcx, [rsp - 128 + 8*\\i]",
                "mov [rax + 18*8 + 8*\\i], rcx",
                ".endr",
                "pushfq", "pop qword ptr [rax + 15*8]",
                "push 0x202", "popfq",
                "add rsp, 16",
                "pop r15", "pop r14", "pop r13", "pop r12", "pop rbp", "pop rbx",
                "ret",
                result = sym RESULT,
            )
        }
    };
}

exchange!(exchange_by_instruction, "syscall");
exchange!(exchange_by_table, "call qword ptr [rsp]");
exchange!(exchange_by_jump, "lea rcx, [rip + 2f]\n jmp qword ptr [rsp]");

/// Makes the call that the registers in `before` say, through slot `slot` if by the table, and returns what they are
/// then. Not for several threads at once.
///
/// # Safety
/// The system call must be one that may be made with these arguments.
pub unsafe fn exchange(way: Way, slot: usize, before: &State) -> State {
    let mut after = State::default();
    match way {
        // SAFETY: the caller's obligation; both states are ours.
        Way::Instruction => unsafe { exchange_by_instruction(before, &raw mut after, 0) },
        // SAFETY: as above, and the table is there.
        Way::Table(_) => unsafe { exchange_by_table(before, &raw mut after, way::stub(slot)) },
        // SAFETY: as above.
        Way::Jump => unsafe { exchange_by_jump(before, &raw mut after, way::stub(JUMP)) },
    }
    after
}

/// A function that makes the call that it is told, at once, for one that may fork: the new process exits, without a
/// look at its stack.
macro_rules! lone {
    ($name:ident, $call:literal) => {
        /// # Safety
        /// It may be any system call: the process must be one that may be lost.
        #[unsafe(naked)]
        unsafe extern "C" fn $name(nr: usize, arguments: *const usize, target: usize, forks: bool) -> isize {
            naked_asm!(
                "push rbx",
                "push rdx",
                "mov ebx, ecx",
                "mov rax, rdi",
                "mov r11, rsi",
                "mov rdi, [r11]",
                "mov rsi, [r11 + 8]",
                "mov rdx, [r11 + 16]",
                "mov r10, [r11 + 24]",
                "mov r8, [r11 + 32]",
                "mov r9, [r11 + 40]",
                $call,
                "test bl, bl",
                "jz 2f",
                "test rax, rax",
                "jnz 2f",
                "xor edi, edi",
                "mov eax, 60",
                "syscall",
                "2: pop rdx",
                "pop rbx",
                "ret",
            )
        }
    };
}

lone!(lone_by_instruction, "syscall");
lone!(lone_by_table, "call qword ptr [rsp]");
lone!(lone_by_jump, "lea rcx, [rip + 3f]\n jmp qword ptr [rsp]\n 3:");

/// Makes any system call, through slot `slot` if there is one. If it `forks`, the new process exits.
///
/// # Safety
/// It may be any system call: the process must be one that may be lost.
pub unsafe fn lone(nr: usize, arguments: &[usize; 6], slot: Option<usize>, forks: bool) -> isize {
    match slot {
        // SAFETY: the caller's obligation.
        None => unsafe { lone_by_instruction(nr, arguments.as_ptr(), 0, forks) },
        // SAFETY: the caller's obligation.
        Some(JUMP) => unsafe { lone_by_jump(nr, arguments.as_ptr(), way::stub(JUMP), forks) },
        // SAFETY: the caller's obligation.
        Some(slot) => unsafe { lone_by_table(nr, arguments.as_ptr(), way::stub(slot), forks) },
    }
}

/// A function that stops at a breakpoint just before the call (behind what prepares it), for who traces it. All other registers are known
/// there, and rbx is 7.
macro_rules! stopping {
    ($name:ident, $ahead:literal, $call:literal) => {
        /// # Safety
        /// As for the system call; someone must trace the process.
        #[unsafe(naked)]
        unsafe extern "C" fn $name(nr: usize, arguments: *const usize, target: usize) -> isize {
            naked_asm!(
                "push rbx",
                "push rbp",
                "push r12",
                "push r13",
                "push r14",
                "push r15",
                "push rdx",
                "mov ebx, 7",
                "mov ebp, 8",
                "mov r12d, 9",
                "mov r13d, 10",
                "mov r14d, 11",
                "mov r15d, 12",
                "push 0x202",
                "popfq",
                "mov rax, rdi",
                "mov r11, rsi",
                "mov rdi, [r11]",
                "mov rsi, [r11 + 8]",
                "mov rdx, [r11 + 16]",
                "mov r10, [r11 + 24]",
                "mov r8, [r11 + 32]",
                "mov r9, [r11 + 40]",
                $ahead,
                "int3",
                $call,
                "nop",
                "pop rdx",
                "pop r15",
                "pop r14",
                "pop r13",
                "pop r12",
                "pop rbp",
                "pop rbx",
                "ret",
            )
        }
    };
}

stopping!(stopping_by_instruction, "", "syscall");
stopping!(stopping_by_table, "", "call qword ptr [rsp]");
stopping!(stopping_by_jump, "lea rcx, [rip + 2f]", "jmp qword ptr [rsp]\n 2:");

/// How long the call is at [`stopping`].
pub fn length(way: Way) -> u64 {
    if matches!(way, Way::Instruction) { 2 } else { 3 }
}

/// Makes system call `nr` just behind a breakpoint.
///
/// # Safety
/// As for the system call; someone must trace the process.
pub unsafe fn stopping(way: Way, nr: i64, arguments: [usize; 6]) -> isize {
    let nr = nr as usize;
    match way {
        // SAFETY: the caller's obligation.
        Way::Instruction => unsafe { stopping_by_instruction(nr, arguments.as_ptr(), 0) },
        // SAFETY: the caller's obligation.
        Way::Table(_) => unsafe { stopping_by_table(nr, arguments.as_ptr(), way::stub(nr + 1)) },
        // SAFETY: the caller's obligation.
        Way::Jump => unsafe { stopping_by_jump(nr, arguments.as_ptr(), way::stub(JUMP)) },
    }
}
