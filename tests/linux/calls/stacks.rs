//! Calls on stacks that are none: what any call there leads to, and the kernel goes on.

use std::arch::naked_asm;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};

use crate::child::{self, End};
use crate::report::Report;
use crate::signals;
use crate::way::{self, Way, Ways};

/// Where the stack is that is there.
static mut OWN: usize = 0;

/// Calls `target` on the stack `rsp`, with number and three arguments, and returns its result.
///
/// # Safety
/// The process must be one that may be lost.
#[unsafe(naked)]
unsafe extern "C" fn call_on(rsp: usize, target: usize, nr: usize, arguments: *const [usize; 3]) -> isize {
    naked_asm!(
        "push rbx", "push rbp", "push r12",
        "mov [rip + {own}], rsp",
        "mov rbx, rsi", "mov rax, rdx", "mov r11, rcx", "mov r10, rdi",
        "mov rdi, [r11]", "mov rsi, [r11 + 8]", "mov rdx, [r11 + 16]",
        "mov rsp, r10",
        "call rbx",
        "mov rsp, [rip + {own}]",
        "pop r12", "pop rbp", "pop rbx",
        "ret",
        own = sym OWN,
    )
}

/// The same, but with a jump: who is called finds no return address.
///
/// # Safety
/// The process must be one that may be lost.
#[unsafe(naked)]
unsafe extern "C" fn jump_on(rsp: usize, target: usize, nr: usize) -> isize {
    naked_asm!("mov rax, rdx", "mov rsp, rdi", "jmp rsi")
}

/// The same by the table's jump, with the way back in rcx: the stack is nobody's business.
///
/// # Safety
/// As for the system call.
#[unsafe(naked)]
unsafe extern "C" fn jump_with(rsp: usize, nr: usize) -> isize {
    naked_asm!(
        "mov [rip + {own}], rsp",
        "mov rax, rsi",
        "mov rsp, rdi",
        "lea rcx, [rip + 2f]",
        ".byte 0xff, 0x24, 0x25",
        ".long {slot}",
        "2: mov rsp, [rip + {own}]",
        "ret",
        own = sym OWN,
        slot = const way::SLOT_OF_JUMP,
    )
}

/// Calls by the jump, of both paths, that have their result whatever the stack is.
fn jumps(rsp: usize) -> i32 {
    // SAFETY: it has no arguments.
    let own = unsafe { jump_with(rsp, libc::SYS_getpid as usize) };
    // SAFETY: the new process ends at once.
    let new = unsafe { jump_with(rsp, libc::SYS_fork as usize) };
    if new == 0 {
        Way::Instruction.exit(3);
    }
    i32::from(own != std::process::id() as isize || new <= 0 || child::wait(new as i32) != End::Exited(3))
}

/// An ordinary function, in two instructions.
#[unsafe(naked)]
extern "C" fn ordinary() -> isize {
    naked_asm!("xor eax, eax", "ret")
}

const PAGE: usize = 4096;

/// Three pages, the first and the last of which are not mapped; returns the address of the middle one, with this
/// protection.
fn page(protection: i32) -> usize {
    let base = child::fresh(3 * PAGE, libc::MAP_PRIVATE) as usize;
    for (page, protection) in [(0, libc::PROT_NONE), (1, protection), (2, libc::PROT_NONE)] {
        // SAFETY: it was mapped just now, for this.
        unsafe { libc::mprotect((base + page * PAGE) as *mut libc::c_void, PAGE, protection) };
    }
    base + PAGE
}

/// Calls through slots of both paths, and an ordinary function, on one stack: the ends of the three children.
fn ends(rsp: usize) -> [End; 3] {
    let targets = [(way::stub_of(libc::SYS_getpid), 0), (way::stub_of(libc::SYS_clone), 56), (ordinary as *const () as usize, 0)];
    targets.map(|(target, nr)| {
        child::run(|| {
            // SAFETY: the process may be lost.
            unsafe { call_on(rsp, target, nr, &[usize::MAX; 3]) };
            0
        })
    })
}

/// The stack goes away during the call.
fn vanishes(nr: i64, protection: usize) -> i32 {
    let stack = page(libc::PROT_READ | libc::PROT_WRITE);
    // SAFETY: the process may be lost.
    unsafe { call_on(stack + PAGE, way::stub_of(nr), 0, &[stack, PAGE, protection]) };
    0
}

/// The page that the handler makes writable.
static REPAIR: AtomicUsize = AtomicUsize::new(0);

extern "C" fn repair(_: i32) {
    // SAFETY: it is a page of `page`.
    unsafe { libc::mprotect(REPAIR.load(SeqCst) as *mut libc::c_void, PAGE, libc::PROT_READ | libc::PROT_WRITE) };
}

/// The handler makes the stack good, and the call is made once and for all.
fn repaired() -> i32 {
    let alternative = libc::stack_t { ss_sp: child::fresh(65536, libc::MAP_PRIVATE).cast(), ss_flags: 0, ss_size: 65536 };
    // SAFETY: the stack is the handler's for good.
    unsafe { libc::sigaltstack(&raw const alternative, std::ptr::null_mut()) };
    signals::handle(libc::SIGSEGV, repair, libc::SA_ONSTACK);
    let stack = page(libc::PROT_READ);
    REPAIR.store(stack, SeqCst);
    // SAFETY: the process may be lost.
    let pid = unsafe { call_on(stack + PAGE, way::stub_of(libc::SYS_getpid), 0, &[0; 3]) };
    i32::from(pid != std::process::id() as isize)
}

/// Every bad stack, by call and by jump.
pub fn check(report: &mut Report, _: Ways) {
    let (good, read_only, none) = (libc::PROT_READ | libc::PROT_WRITE, libc::PROT_READ, libc::PROT_NONE);
    let (fine, segv) = (End::Exited(0), End::Killed(libc::SIGSEGV));
    let stacks = [
        ("a page's end", page(good) + PAGE, fine),
        ("a page's first word", page(good) + 8, fine),
        ("a page's start", page(good), segv),
        ("half a page's first word", page(good) + 4, segv),
        ("read-only", page(read_only) + PAGE, segv),
        ("unmapped", page(none) + PAGE, segv),
        ("null", 0x10, segv),
        // A processor says "stack fault", which is SIGBUS; not each emulator.
        ("the first non-canonical", (1 << 47) + 8, ends((1 << 47) + 8)[2]),
        ("non-canonical", 1 << 62, ends(1 << 62)[2]),
    ];
    for (name, rsp, want) in stacks {
        let [fast, full, ordinary] = ends(rsp);
        report.check(&format!("stack {name}, a function"), ordinary, want);
        report.check(&format!("stack {name}"), fast, ordinary);
        report.check(&format!("stack {name}, all registers"), full, ordinary);
        report.check(&format!("stack {name}, by the jump"), child::run(|| jumps(rsp)), fine);
        if want != fine {
            for nr in [libc::SYS_getpid, libc::SYS_fork, libc::SYS_exit_group] {
                // SAFETY: the process may be lost.
                let end = child::run(|| unsafe { jump_on(rsp, way::stub_of(nr), nr as usize) } as i32);
                // Where a word can be read it is the return address; a call that does not return has the stack as argument.
                let readable = rsp % PAGE != 0 && rsp % PAGE < 8 || name == "a page's start";
                let want = if readable && nr == libc::SYS_exit_group { End::Exited(rsp as u8 as i32) } else { segv };
                report.check(&format!("stack {name}, a jump to {nr}"), end, want);
            }
        }
    }
    report.check("stack goes away", child::run(|| vanishes(libc::SYS_munmap, 0)), segv);
    report.check("stack becomes read-only", child::run(|| vanishes(libc::SYS_mprotect, read_only as usize)), segv);
    report.check("stack is repaired", child::run(repaired), fine);
}
