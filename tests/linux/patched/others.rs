//! Debuggers, filters, and processes that change their code.

use linux_programs::child::{self, End};
use linux_programs::report::Report;
use linux_programs::seccomp;
use linux_programs::traced::Traced;

use crate::code::{self, CALL, OFTEN, Site};

/// A child that is traced, stops, and makes system calls when it goes on.
fn traced_child(is_right: fn() -> bool) -> Traced {
    Traced::ready(|| i32::from(!is_right())).expect("a child that is traced")
}

/// Seven bytes of another process.
fn remote(pid: i32, at: usize) -> u64 {
    let mut word = 0u64;
    let to = libc::iovec { iov_base: (&raw mut word).cast(), iov_len: 7 };
    let from = libc::iovec { iov_base: at as *mut libc::c_void, iov_len: 7 };
    // SAFETY: no more than there is room for goes to the variable.
    let read = unsafe { libc::process_vm_readv(pid, &raw const to, 1, &raw const from, 1, 0) };
    if read == 7 { word } else { 0 }
}

/// A debugger sees the instruction, and its breakpoint on it works.
fn debugger(report: &mut Report) {
    let traced = traced_child(|| code::getpid() == std::process::id());
    let at = Site::getpid().address();
    let word = traced.request(libc::PTRACE_PEEKTEXT, at, 0) as u64;
    report.check("debugger sees", word & 0xff_ffff_ffff_ffff, 0x05_0f00_0000_27b8);
    report.check("debugger reads in one go", remote(traced.pid, at), 0x05_0f00_0000_27b8);
    // A breakpoint: the page is the process's own from now on, and as the file has it.
    traced.request(libc::PTRACE_POKETEXT, at, (word & !0xff | 0xcc) as usize);
    let stopped = traced.go(libc::PTRACE_CONT).and_then(|()| traced.stop(libc::SIGTRAP));
    report.check("debugger stops", stopped, Ok(0));
    traced.request(libc::PTRACE_POKETEXT, at, word as usize);
    let mut registers = traced.registers();
    report.check("debugger address", registers.rip, at as u64 + 1);
    registers.rip -= 1;
    traced.request(libc::PTRACE_SETREGS, 0, (&raw mut registers) as usize);
    report.check("debugger end", traced.end(), Ok(End::Exited(0)));
    report.check("debugger: ours is as before", Site::getpid().first_byte(), CALL);
}

/// A system call by a stub in the kernel's memory, as a tracer sees it, and step by step.
fn annex(report: &mut Report) {
    let behind = Site::access_behind().address() as u64;
    let mut seen = Vec::new();
    let each = |now: &libc::user_regs_struct| seen.extend((now.orig_rax == libc::SYS_access as u64).then_some(now.rip));
    let ended = traced_child(|| code::access() == 0).follow(libc::PTRACE_SYSCALL, each);
    report.check("annex: a tracer sees it behind the site, twice", (ended, seen), (Ok(0), vec![behind; 2]));
    let call = Site::access().address() as u64;
    let mut steps = Vec::new();
    let ended = traced_child(|| code::access() == 0).follow(libc::PTRACE_SINGLESTEP, |now| steps.push(now.rip));
    report.check("annex: stepped through", ended, Ok(0));
    // The call, the stub's four instructions, behind the site.
    let from = steps.iter().position(|&rip| rip == call).unwrap_or(steps.len());
    let there: Vec<_> = steps[from..].iter().take(6).map(|&rip| if rip >> 63 == 0 { rip } else { 0 }).collect();
    report.check("annex: step by step", there, vec![call, 0, 0, 0, 0, behind]);
}

/// A filter that refuses getpid is obeyed.
fn filter(report: &mut Report) {
    let end = child::run(|| {
        seccomp::filter(libc::SYS_getpid, None, libc::SECCOMP_RET_ERRNO | libc::EACCES as u32);
        let refused = (0..OFTEN).all(|_| code::getpid() as i32 == -libc::EACCES);
        i32::from(!refused || Site::getpid().first_byte() != CALL)
    });
    report.check("filter", end, End::Exited(0));
}

const PAGE: usize = 4096;

fn protect(site: Site, protection: i32) -> bool {
    let page = site.address() & !(PAGE - 1);
    // SAFETY: the page stays readable and, where it matters, executable.
    unsafe { libc::mprotect(page as *mut libc::c_void, 2 * PAGE, protection) == 0 }
}

/// A process that makes its code writable and writes to it has the original, and its change.
fn self_modifying(report: &mut Report) {
    let end = child::run(|| {
        let site = Site::getpid();
        let all = libc::PROT_READ | libc::PROT_WRITE | libc::PROT_EXEC;
        if !protect(site, all) {
            return 1;
        }
        // The number is that of getppid, by one byte.
        // SAFETY: the page is writable, and no other thread executes it.
        unsafe { ((site.address() + 1) as *mut u8).write_volatile(libc::SYS_getppid as u8) };
        if site.bytes() != [0xb8, libc::SYS_getppid as u8, 0, 0, 0, 0x0f, 0x05] {
            return 2;
        }
        // SAFETY: it has no arguments.
        let parent = unsafe { libc::getppid() } as u32;
        // Writable code is never patched.
        if (0..OFTEN).any(|_| code::getpid() != parent) || site.first_byte() != 0xb8 {
            return 3;
        }
        0
    });
    report.check("self-modifying", end, End::Exited(0));
    report.check("self-modifying: ours is as before", (Site::getpid().first_byte(), code::getpid()), (CALL, std::process::id()));
}

pub fn check(report: &mut Report) {
    debugger(report);
    annex(report);
    filter(report);
    self_modifying(report);
}
