//! Processes and threads that are made, replaced, ended and waited for.

use std::arch::naked_asm;

use crate::child::{self, End};
use crate::report::Report;
use crate::way::{self, Act, Way, Ways};

/// The argument with which this program ends at once, with the status behind it.
pub const EXIT: &str = "exit";

/// What the functions below call: the table's addresses, or a `syscall; ret` in each.
#[repr(C)]
struct Targets {
    fork: usize,
    exec: usize,
    exit: usize,
}

#[unsafe(naked)]
extern "C" fn instruction() {
    naked_asm!("syscall", "ret")
}

/// The same for a call that returns on another stack or twice on this one: the way back is in a register.
#[unsafe(naked)]
extern "C" fn instruction_far() {
    naked_asm!("pop r14", "syscall", "jmp r14")
}

/// Any call by the jump, for who calls this.
#[unsafe(naked)]
extern "C" fn jump() {
    naked_asm!("pop rcx", ".byte 0xff, 0x24, 0x25", ".long {slot}", slot = const way::SLOT_OF_JUMP)
}

impl Targets {
    fn new(way: Way, fork: i64, exit: i64) -> Self {
        match way {
            Way::Instruction => {
                let near = instruction as *const () as usize;
                Self { fork: instruction_far as *const () as usize, exec: near, exit: near }
            }
            Way::Jump => {
                let jump = jump as *const () as usize;
                Self { fork: jump, exec: jump, exit: jump }
            }
            Way::Table(_) => Self { fork: way::stub_of(fork), exec: way::stub_of(libc::SYS_execve), exit: way::stub_of(exit) },
        }
    }
}

/// vfork; the child writes all over the stack below, and executes a program.
///
/// # Safety
/// Path and arguments must be those of execve.
#[unsafe(naked)]
unsafe extern "C" fn vfork_and_execute(targets: *const Targets, path: *const i8, arguments: *const *const i8) -> isize {
    naked_asm!(
        "push rbx",
        "push rbp",
        "push r12",
        "push r14",
        "mov rbx, rdi",
        "mov rbp, rsi",
        "mov r12, rdx",
        "mov eax, 58",
        "call [rbx]",
        "test rax, rax",
        "jnz 2f",
        "push -1",
        "push -1",
        "push -1",
        "push -1",
        "add rsp, 32",
        "mov rdi, rbp",
        "mov rsi, r12",
        "xor edx, edx",
        "mov eax, 59",
        "call [rbx + 8]",
        "mov edi, 99",
        "mov eax, 231",
        "syscall",
        "2: pop r14",
        "pop r12",
        "pop rbp",
        "pop rbx",
        "ret",
    )
}

/// clone or clone3 with these five arguments; the child writes where its stack is, and exits with status 5 by the call
/// with this number.
///
/// # Safety
/// The arguments must be those of the call, with a stack; `seen` must be memory that both have.
#[unsafe(naked)]
unsafe extern "C" fn clone_onto(targets: *const Targets, nr: usize, arguments: *const [usize; 5], seen: *mut u64, exit: i64) -> isize {
    naked_asm!(
        "push rbx",
        "push rbp",
        "push r12",
        "push r13",
        "push r14",
        "mov rbx, rdi",
        "mov rbp, rcx",
        "mov r12d, r8d",
        "mov r13, rdx",
        "mov rax, rsi",
        "mov rdi, [r13]",
        "mov rsi, [r13 + 8]",
        "mov rdx, [r13 + 16]",
        "mov r10, [r13 + 24]",
        "mov r8, [r13 + 32]",
        "call [rbx]",
        "test rax, rax",
        "jnz 2f",
        "mov [rbp], rsp",
        "mov edi, 5",
        "mov eax, r12d",
        "call [rbx + 16]",
        "2: pop r14",
        "pop r13",
        "pop r12",
        "pop rbp",
        "pop rbx",
        "ret",
    )
}

/// A child exits in this way with a status that its parent learns in this way.
fn fork_and_wait(way: Way, fork: i64, exit: i64) -> i32 {
    // SAFETY: the new process only exits.
    let pid = unsafe { way.call(fork, if fork == libc::SYS_clone { [libc::SIGCHLD as usize, 0, 0, 0, 0] } else { [0; 5] }) };
    if pid == 0 {
        // SAFETY: it ends the process.
        unsafe { way.call(exit, [7]) };
    }
    let mut status = 0;
    // SAFETY: the status goes to the variable.
    let got = unsafe { way.call(libc::SYS_wait4, [pid as usize, (&raw mut status) as usize, 0, 0]) };
    i32::from(pid <= 0 || got != pid || End::of(status) != End::Exited(7))
}

/// vfork and execve: the parent's stack and registers are as they were, the program has run.
fn vfork_and_exec(way: Way) -> i32 {
    let targets = Targets::new(way, libc::SYS_vfork, libc::SYS_exit_group);
    let arguments = [c"calls".as_ptr(), c"exit".as_ptr(), c"7".as_ptr(), std::ptr::null()];
    let canary: [u64; 8] = std::hint::black_box([0x1122_3344_5566_7788; 8]);
    // SAFETY: path and arguments end with a zero.
    let pid = unsafe { vfork_and_execute(&raw const targets, c"/proc/self/exe".as_ptr(), arguments.as_ptr()) };
    let intact = std::hint::black_box(canary) == [0x1122_3344_5566_7788; 8];
    i32::from(pid <= 0 || !intact || child::wait(pid as i32) != End::Exited(7))
}

/// The program takes the process over: what it returns with is the process's status.
fn execute(way: Way) -> i32 {
    let arguments = [c"calls".as_ptr(), c"exit".as_ptr(), c"9".as_ptr(), std::ptr::null()];
    let path = c"/proc/self/exe".as_ptr() as usize;
    // SAFETY: path and arguments end with a zero.
    unsafe { way.call(libc::SYS_execve, [path, arguments.as_ptr() as usize, 0]) };
    1
}

const STACK: usize = 65536;

/// A process that shares the memory, on a stack of its own: it begins with nothing on it, as after the instruction.
fn other_stack(way: Way) -> i32 {
    let targets = Targets::new(way, libc::SYS_clone, libc::SYS_exit_group);
    let top = child::fresh(STACK, libc::MAP_PRIVATE) as usize + STACK;
    let flags = libc::CLONE_VM | libc::CLONE_VFORK | libc::SIGCHLD;
    let mut seen = 0;
    // SAFETY: the stack is its own, and it only writes its address.
    let pid = unsafe {
        clone_onto(&raw const targets, libc::SYS_clone as usize, &[flags as usize, top, 0, 0, 0], &raw mut seen, libc::SYS_exit_group)
    };
    i32::from(pid <= 0 || child::wait(pid as i32) != End::Exited(5) || seen != top as u64)
}

/// The same by clone3.
fn clone3(way: Way) -> i32 {
    let targets = Targets::new(way, libc::SYS_clone3, libc::SYS_exit_group);
    let base = child::fresh(STACK, libc::MAP_PRIVATE) as usize;
    // SAFETY: all zeros is one.
    let mut arguments: libc::clone_args = unsafe { std::mem::zeroed() };
    arguments.flags = (libc::CLONE_VM | libc::CLONE_VFORK) as u64;
    arguments.exit_signal = libc::SIGCHLD as u64;
    (arguments.stack, arguments.stack_size) = (base as u64, STACK as u64);
    let mut seen = 0;
    let registers = [(&raw const arguments) as usize, size_of_val(&arguments), 0, 0, 0];
    // SAFETY: the stack is its own, and it only writes its address.
    let pid =
        unsafe { clone_onto(&raw const targets, libc::SYS_clone3 as usize, &raw const registers, &raw mut seen, libc::SYS_exit_group) };
    i32::from(pid <= 0 || child::wait(pid as i32) != End::Exited(5) || seen != (base + STACK) as u64)
}

/// A thread on a stack of its own.
fn thread(way: Way) -> i32 {
    let targets = Targets::new(way, libc::SYS_clone, libc::SYS_exit);
    let top = child::fresh(STACK, libc::MAP_PRIVATE) as usize + STACK;
    let flags = libc::CLONE_VM
        | libc::CLONE_FS
        | libc::CLONE_FILES
        | libc::CLONE_SIGHAND
        | libc::CLONE_THREAD
        | libc::CLONE_SYSVSEM
        | libc::CLONE_CHILD_CLEARTID;
    let mut seen = 0;
    // The kernel zeroes it when the thread has ended.
    child::put(0, 1);
    let word = (&raw const child::board()[0]) as usize;
    // SAFETY: the stack is its own, and it only writes its address.
    let tid = unsafe {
        clone_onto(&raw const targets, libc::SYS_clone as usize, &[flags as usize, top, 0, word, 0], &raw mut seen, libc::SYS_exit)
    };
    while child::got(0) as u32 == 1 {
        // SAFETY: the word is on the board.
        unsafe { way.call(libc::SYS_futex, [word, libc::FUTEX_WAIT as usize, 1, 0]) };
    }
    i32::from(tid <= 0 || seen != top as u64)
}

/// Many of them, one after the other, with memory that is written on both sides.
fn many(way: Way) -> i32 {
    let mut own = vec![0u8; 1 << 16];
    for round in 0..100u8 {
        // SAFETY: the new process only writes to its memory and exits.
        let pid = unsafe { way.call(libc::SYS_fork, []) };
        own.fill(round.wrapping_add(u8::from(pid == 0)));
        if pid == 0 {
            way.exit(i32::from(own.iter().any(|b| *b != round + 1)));
        }
        if child::wait(pid as i32) != End::Exited(0) || own.iter().any(|b| *b != round) {
            return 1;
        }
    }
    0
}

/// Each of them in a child of its own.
pub fn check(report: &mut Report, ways: Ways) {
    let checks: [(&str, Act, i32); 9] = [
        ("fork, exit", |w| fork_and_wait(w, libc::SYS_fork, libc::SYS_exit), 0),
        ("fork, exit_group", |w| fork_and_wait(w, libc::SYS_fork, libc::SYS_exit_group), 0),
        ("clone, exit_group", |w| fork_and_wait(w, libc::SYS_clone, libc::SYS_exit_group), 0),
        ("vfork, execve", vfork_and_exec, 0),
        ("execve", execute, 9),
        ("another stack", other_stack, 0),
        ("clone3", clone3, 0),
        ("thread", thread, 0),
        ("many", many, 0),
    ];
    for (by, way) in ways.named() {
        for (name, check, want) in checks {
            child::wipe();
            report.check(&format!("creation {name} {by}"), child::run(|| check(way)), End::Exited(want));
        }
    }
}
