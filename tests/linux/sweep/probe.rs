//! A system call with a known value in every register, and what is in them afterwards.

use std::arch::naked_asm;

use linux_programs::way::{SLOT_OF_JUMP, Ways, stub_of};

/// How the call is made.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Way {
    /// By the table: getpid.
    Table,
    /// By the table, a call for which the kernel saves all registers: clone, with flags that it refuses.
    TableAll,
    /// By the table's jump: getpid.
    Jump,
    /// By the table's jump, clone as above.
    JumpAll,
    /// By the instruction: getpid.
    Instruction,
    /// No system call: a first look at a page.
    Fault,
}

/// Registers around a call, in the order that [`run`] knows.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default)]
pub struct Registers {
    pub rax: u64,
    pub rbx: u64,
    pub rdx: u64,
    pub rsi: u64,
    pub rdi: u64,
    pub rbp: u64,
    pub r8: u64,
    pub r9: u64,
    pub r10: u64,
    pub r12: u64,
    pub r13: u64,
    pub r14: u64,
    pub r15: u64,
    /// The flags, as pushed.
    pub flags: u64,
    /// Words below the stack pointer that were changed.
    pub red_zone: u64,
}

/// A way to make a call, and what must come of it.
pub struct Probe {
    way: Way,
    /// What [`run`] is given.
    target: u64,
    number: u64,
    pub result: u64,
}

const PAGE: usize = 4096;

impl Probe {
    pub fn new(way: Way) -> Result<Self, String> {
        let all = matches!(way, Way::TableAll | Way::JumpAll);
        let number = if all { libc::SYS_clone } else { libc::SYS_getpid } as u64;
        let mut probe = Self { way, target: 0, number, result: u64::from(std::process::id()) };
        match way {
            Way::Instruction => {}
            Way::Table | Way::TableAll | Way::Jump | Way::JumpAll => {
                Ways::find().ok_or("there is no table of system calls here")?;
                probe.target = if matches!(way, Way::Jump | Way::JumpAll) { JUMP } else { stub_of(number as i64) as u64 };
                if all {
                    probe.result = i64::from(-libc::EINVAL) as u64;
                }
            }
            Way::Fault => {
                let (protection, flags) = (libc::PROT_READ, libc::MAP_PRIVATE | libc::MAP_ANONYMOUS);
                // SAFETY: fresh memory.
                let page = unsafe { libc::mmap(std::ptr::null_mut(), PAGE, protection, flags, -1, 0) };
                if page == libc::MAP_FAILED {
                    return Err("no page".into());
                }
                probe.target = page as u64;
                probe.result = 0;
            }
        }
        Ok(probe)
    }

    /// Must be called before each call.
    pub fn prepare(&self) {
        if self.way == Way::Fault {
            // SAFETY: the page is ours, and has nothing on it.
            unsafe { libc::madvise(self.target as *mut libc::c_void, PAGE, libc::MADV_DONTNEED) };
        }
    }

    /// Makes it. Returns what was in the registers, and what is.
    pub fn call(&self) -> (Registers, Registers) {
        let mut given = Registers { flags: FLAGS, ..Registers::default() };
        let words = [
            &mut given.rbx,
            &mut given.rdx,
            &mut given.rsi,
            &mut given.rdi,
            &mut given.rbp,
            &mut given.r8,
            &mut given.r9,
            &mut given.r10,
            &mut given.r12,
            &mut given.r13,
            &mut given.r14,
            &mut given.r15,
        ];
        for (i, word) in words.into_iter().enumerate() {
            *word = 0x0123_4567_89ab_0000 + i as u64;
        }
        given.rax = self.number;
        // Flags of clone: threads without shared signal handlers.
        given.rdi = if matches!(self.way, Way::TableAll | Way::JumpAll) { libc::CLONE_THREAD as u64 } else { given.rdi };
        let mut got = Registers::default();
        // SAFETY: neither call touches memory of the process; `target` is a stub of the table's, a page, or not used.
        unsafe { run(&raw const given, &raw mut got, self.target) };
        (given, got)
    }
}

/// What [`run`] knows as the jump.
const JUMP: u64 = 1;

/// Carry, parity, zero, sign, overflow, and what is always set: a reserved bit and interrupts.
const FLAGS: u64 = 0xac7;

/// Loads the registers from `given`, then calls `target`, or reads from it if it is no address of the kernel's, or
/// executes `syscall` if it is 0, or takes the jump if it is 1; and stores the registers to `got`.
///
/// # Safety
/// The system call must touch no memory, and `target` be a stub of the table's, readable, 0, or 1.
#[unsafe(naked)]
unsafe extern "C" fn run(given: *const Registers, got: *mut Registers, target: u64) {
    naked_asm!(
        // What is kept for our caller, and what is needed afterwards, above the stack that is watched.
        "push rbx", "push rbp", "push r12", "push r13", "push r14", "push r15",
        "push rsi", "push rdx",
        // The red zone: sixteen words, the uppermost of which is the return address's.
        "mov ecx, 16",
        "2: mov rax, rcx",
        "neg rax",
        "mov [rsp + rax * 8], rax",
        "loop 2b",
        "mov rax, [rdi + {flags}]",
        // The flags go through the uppermost word, too.
        "push rax", "popfq",
        "mov qword ptr [rsp - 8], -1",
        "mov rax, [rdi]",
        "mov rbx, [rdi + 0x08]", "mov rdx, [rdi + 0x10]", "mov rsi, [rdi + 0x18]", "mov rbp, [rdi + 0x28]",
        "mov r8, [rdi + 0x30]", "mov r9, [rdi + 0x38]", "mov r10, [rdi + 0x40]", "mov r12, [rdi + 0x48]",
        "mov r13, [rdi + 0x50]", "mov r14, [rdi + 0x58]", "mov r15, [rdi + 0x60]", "mov rdi, [rdi + 0x20]",
        // The target: rcx and r11 are nobody's, but the flags must stay. Its uppermost byte says what it is.
        "mov rcx, [rsp]",
        "jrcxz 3f",
        "bswap rcx",
        "movzx ecx, cl",
        "jrcxz 7f",
        "call [rsp]",
        "jmp 4f",
        "7: mov rcx, [rsp]",
        "lea rcx, [rcx - 1]",
        "jrcxz 8f",
        "mov rcx, [rsp]",
        "mov rax, [rcx]",
        "jmp 4f",
        "8: lea rcx, [rip + 4f]",
        ".byte 0xff, 0x24, 0x25", ".long {slot}",
        "3: syscall",
        "4: mov rcx, [rsp + 8]",
        "mov [rcx], rax",
        "mov [rcx + 0x08], rbx", "mov [rcx + 0x10], rdx", "mov [rcx + 0x18], rsi", "mov [rcx + 0x20], rdi",
        "mov [rcx + 0x28], rbp", "mov [rcx + 0x30], r8", "mov [rcx + 0x38], r9", "mov [rcx + 0x40], r10",
        "mov [rcx + 0x48], r12", "mov [rcx + 0x50], r13", "mov [rcx + 0x58], r14", "mov [rcx + 0x60], r15",
        "mov rdi, [rsp - 8]",
        "pushfq", "pop [rcx + {flags}]",
        "mov [rsp - 8], rdi",
        "mov rdi, rcx",
        "xor edx, edx",
        "mov ecx, 16",
        "5: mov rax, rcx",
        "neg rax",
        "cmp [rsp + rax * 8], rax",
        "je 6f",
        "inc rdx",
        "6: loop 5b",
        "mov [rdi + {red_zone}], rdx",
        "add rsp, 16",
        "pop r15", "pop r14", "pop r13", "pop r12", "pop rbp", "pop rbx",
        "ret",
        slot = const SLOT_OF_JUMP,
        flags = const std::mem::offset_of!(Registers, flags),
        red_zone = const std::mem::offset_of!(Registers, red_zone),
    )
}
