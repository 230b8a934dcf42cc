//! Runs patched programs where there is no table: each call through it faults, and the tracer makes the system call.
//!
//! It does as X-LibOS does: the return address leaves the stack, the system call is made by an instruction in the vDSO, and
//! rcx, r11, the arithmetic flags and the eight bytes below the stack pointer are lost.

// UNSAFETY: forks, and reads and writes a traced process.
#![expect(unsafe_code, reason = "ptrace")]

use std::collections::{HashMap, HashSet};
use std::ffi::CString;
use std::fs;
use std::io::Read;
use std::os::fd::{AsRawFd, FromRawFd};
use std::os::unix::fs::FileExt;

use libc::{c_int, c_long, pid_t, user_regs_struct};

const TABLE: u64 = 0xffff_ffff_ff60_0000;
const SLOTS: u64 = 512;
/// The slot of the jump entry.
const JUMP_SLOT: u64 = 0xffff_ffff_ff60_0ff8;
/// The carry, parity, auxiliary, zero, sign and overflow flags.
const ARITHMETIC: u64 = 0x8d5;

/// What a program did.
#[derive(Debug)]
pub struct Outcome {
    /// What it wrote.
    pub output: String,
    /// Its exit status, as `waitpid` has it.
    pub status: c_int,
    /// How many system calls went through the table, of all its processes.
    pub calls: u64,
}

/// A system call that is being made for a thread.
#[derive(Clone, Copy, Debug)]
struct Call {
    back: u64,
    /// Whether the return address is pushed again.
    push: bool,
    /// Where the instruction is that makes it.
    at: u64,
    /// Where the thread faulted, and its stack pointer there.
    from: u64,
    rsp: u64,
}

/// A thread: the system call that is being made for it.
#[derive(Debug, Default)]
struct Thread {
    call: Option<Call>,
}

/// What the kernel means to do about a system call that a signal has interrupted: start it again, whether there is a
/// handler or not, or only if there is none.
const RESTARTS: [u64; 2] = [512_u64.wrapping_neg(), 513_u64.wrapping_neg()];
const RESTARTS_WITHOUT_HANDLER: [u64; 2] = [514_u64.wrapping_neg(), 516_u64.wrapping_neg()];

#[derive(Debug, Default)]
struct Tracer {
    threads: HashMap<pid_t, Thread>,
    /// Threads that have stopped before their parent has told of them.
    early: HashSet<pid_t>,
    calls: u64,
}

/// Runs a program. None: this process may not trace.
pub fn run(program: &str, arguments: &[&str]) -> Option<Outcome> {
    let mut ends = [0; 2];
    // SAFETY: room for two descriptors.
    assert_eq!(unsafe { libc::pipe(ends.as_mut_ptr()) }, 0);
    // SAFETY: each descriptor is owned once.
    let [mut reader, writer] = ends.map(|fd| unsafe { fs::File::from_raw_fd(fd) });
    let words: Vec<CString> = std::iter::once(&program).chain(arguments).map(|w| CString::new(*w).expect("no zero")).collect();
    let mut pointers: Vec<_> = words.iter().map(|w| w.as_ptr()).collect();
    pointers.push(std::ptr::null());
    // SAFETY: the child only makes system calls until it is another program.
    let child = unsafe { libc::fork() };
    assert!(child >= 0);
    if child == 0 {
        // SAFETY: two descriptors that are open.
        unsafe { libc::dup2(writer.as_raw_fd(), 1) };
        if request(libc::PTRACE_TRACEME, 0, 0, 0) == 0 {
            // SAFETY: the words and the list of them live until then.
            unsafe { libc::execv(words[0].as_ptr(), pointers.as_ptr()) };
        }
        // SAFETY: ends the process, and runs nothing of the parent's.
        unsafe { libc::_exit(126) };
    }
    drop(writer);
    let output = std::thread::spawn(move || {
        let mut bytes = Vec::new();
        reader.read_to_end(&mut bytes).expect("the pipe can be read");
        String::from_utf8_lossy(&bytes).into_owned()
    });
    let mut tracer = Tracer::default();
    let status = tracer.attend(child)?;
    Some(Outcome { output: output.join().expect("read"), status, calls: tracer.calls })
}

fn request(what: libc::c_uint, tid: pid_t, address: u64, data: u64) -> c_long {
    // SAFETY: requests about a stopped thread of a traced child; what pointers there are point to locals.
    unsafe { libc::ptrace(what, tid, address, data) }
}

/// A stopped thread's registers. All zero if it is no more: another has ended the process.
fn registers(tid: pid_t) -> user_regs_struct {
    // SAFETY: all zero is a valid value.
    let mut regs: user_regs_struct = unsafe { std::mem::zeroed() };
    request(libc::PTRACE_GETREGS, tid, 0, &raw mut regs as u64);
    regs
}

fn set_registers(tid: pid_t, regs: &user_regs_struct) {
    request(libc::PTRACE_SETREGS, tid, 0, std::ptr::from_ref(regs) as u64);
}

fn memory(tid: pid_t, address: u64, bytes: &mut [u8]) -> bool {
    fs::File::open(format!("/proc/{tid}/mem")).is_ok_and(|f| f.read_exact_at(bytes, address).is_ok())
}

fn word(tid: pid_t, address: u64) -> Option<u64> {
    let mut bytes = [0; 8];
    memory(tid, address, &mut bytes).then(|| u64::from_le_bytes(bytes))
}

/// A `syscall` instruction in the thread's vDSO.
fn instruction(tid: pid_t) -> Option<u64> {
    let maps = fs::read_to_string(format!("/proc/{tid}/maps")).ok()?;
    let line = maps.lines().find(|l| l.ends_with("[vdso]"))?;
    let (start, rest) = line.split_once('-')?;
    let end = rest.split_once(' ')?.0;
    let [start, end] = [start, end].map(|n| u64::from_str_radix(n, 16).expect("an address"));
    let mut bytes = vec![0; usize::try_from(end - start).expect("small")];
    let at = memory(tid, start, &mut bytes).then(|| bytes.windows(2).position(|w| w == [0x0f, 0x05]))??;
    Some(start + at as u64)
}

impl Tracer {
    fn attend(&mut self, main: pid_t) -> Option<c_int> {
        loop {
            let mut status = 0;
            // SAFETY: room for a status. Only threads of the traced process are waited for that this thread has made.
            let tid = unsafe { libc::waitpid(-1, &raw mut status, libc::__WALL | libc::__WNOTHREAD) };
            if tid < 0 {
                return None;
            }
            if libc::WIFEXITED(status) || libc::WIFSIGNALED(status) {
                self.threads.remove(&tid);
                if tid == main {
                    return (status != 126 << 8).then_some(status);
                }
                continue;
            }
            if tid == main && self.threads.is_empty() {
                let options = libc::PTRACE_O_TRACECLONE
                    | libc::PTRACE_O_TRACEFORK
                    | libc::PTRACE_O_TRACEVFORK
                    | libc::PTRACE_O_TRACEEXEC
                    | libc::PTRACE_O_EXITKILL;
                if request(libc::PTRACE_SETOPTIONS, tid, 0, options.cast_unsigned().into()) != 0 {
                    return None;
                }
                self.threads.insert(tid, Thread::default());
                request(libc::PTRACE_CONT, tid, 0, 0);
                continue;
            }
            if !self.threads.contains_key(&tid) {
                self.early.insert(tid);
                continue;
            }
            self.stopped(tid, status);
        }
    }

    fn stopped(&mut self, tid: pid_t, status: c_int) {
        let signal = libc::WSTOPSIG(status);
        match status >> 16 {
            0 => {}
            libc::PTRACE_EVENT_EXEC => {
                self.threads.insert(tid, Thread::default());
                request(libc::PTRACE_CONT, tid, 0, 0);
                return;
            }
            _ => {
                // A new thread begins where its parent is, and goes on where that does.
                let mut new = 0_u64;
                request(libc::PTRACE_GETEVENTMSG, tid, 0, &raw mut new as u64);
                let new = pid_t::try_from(new).expect("a thread");
                let call = self.threads[&tid].call;
                self.threads.insert(new, Thread { call });
                if self.early.remove(&new) {
                    self.stopped(new, libc::SIGSTOP << 8);
                }
                return self.go_on(tid, 0);
            }
        }
        let call = self.threads[&tid].call;
        let regs = registers(tid);
        let restarts = RESTARTS.contains(&regs.rax);
        let interrupted = restarts || RESTARTS_WITHOUT_HANDLER.contains(&regs.rax);
        match (signal, call) {
            (libc::SIGTRAP | libc::SIGSTOP, Some(call)) if regs.rip == call.at + 2 && !interrupted => self.finish(tid, call, regs, 0),
            // `rt_sigreturn`: all registers are others now.
            (libc::SIGTRAP, Some(call)) if regs.rip != call.at && regs.rip != call.at + 2 => {
                self.threads.get_mut(&tid).expect("known").call = None;
                self.go_on(tid, 0);
            }
            // Nothing yet, or a signal that is still to be told of.
            (libc::SIGTRAP, _) | (libc::SIGSTOP, None) => self.go_on(tid, 0),
            (libc::SIGSEGV, None) if self.begin(tid).is_some() => self.go_on(tid, 0),
            (signal, Some(call)) if regs.rip == call.at + 2 && !restarts => {
                let rax = if interrupted { u64::from(libc::EINTR.cast_unsigned()).wrapping_neg() } else { regs.rax };
                self.finish(tid, call, user_regs_struct { rax, ..regs }, signal);
            }
            (signal, Some(call)) => {
                // Not made yet, or to be made again: from the beginning.
                let rax = if regs.rip == call.at { regs.rax } else { regs.orig_rax };
                set_registers(tid, &user_regs_struct { rax, rip: call.from, rsp: call.rsp, rcx: call.back, orig_rax: u64::MAX, ..regs });
                self.threads.get_mut(&tid).expect("known").call = None;
                self.go_on(tid, signal);
            }
            (signal, None) => self.go_on(tid, signal),
        }
    }

    fn go_on(&self, tid: pid_t, signal: c_int) {
        let how = if self.threads[&tid].call.is_some() { libc::PTRACE_SINGLESTEP } else { libc::PTRACE_CONT };
        request(how, tid, 0, signal.cast_unsigned().into());
    }

    /// A fault: makes the system call, if it is one.
    fn begin(&mut self, tid: pid_t) -> Option<()> {
        let mut regs = registers(tid);
        let (from, rsp) = (regs.rip, regs.rsp);
        let mut bytes = [0; 9];
        if !memory(tid, regs.rip, &mut bytes) {
            return None;
        }
        let (prefix, rest) = if bytes.starts_with(&[0x2e, 0x48]) { (2, &bytes[2..]) } else { (0, &bytes[..7]) };
        let slot = u64::from_le_bytes([rest[3], rest[4], rest[5], rest[6], 0xff, 0xff, 0xff, 0xff]);
        if !(TABLE..TABLE + 8 * SLOTS).contains(&slot) {
            return None;
        }
        let (back, push) = match rest[..3] {
            [0xff, 0x14, 0x25] => (regs.rip + prefix + 7, true),
            [0xff, 0x24, 0x25] if slot == JUMP_SLOT => (regs.rcx, false),
            [0xff, 0x24, 0x25] => {
                regs.rsp += 8;
                (word(tid, regs.rsp - 8)?, true)
            }
            _ => return None,
        };
        if slot > TABLE && slot != JUMP_SLOT {
            regs.rax = (slot - TABLE) / 8 - 1;
        }
        let at = instruction(tid)?;
        if push && request(libc::PTRACE_POKEDATA, tid, regs.rsp - 8, back) != 0 {
            return None;
        }
        regs.rip = at;
        regs.orig_rax = u64::MAX;
        set_registers(tid, &regs);
        self.calls += 1;
        self.threads.get_mut(&tid)?.call = Some(Call { back, push, at, from, rsp });
        Some(())
    }

    /// The system call is made.
    fn finish(&mut self, tid: pid_t, call: Call, mut regs: user_regs_struct, signal: c_int) {
        regs.rip = call.back;
        regs.orig_rax = u64::MAX;
        regs.rcx = if call.push { 0x5a5a_5a5a } else { call.back };
        regs.r11 = 0xa5a5_a5a5;
        regs.eflags = regs.eflags & !0x100 ^ ARITHMETIC;
        if call.push {
            // A stack that cannot be written to is found out by the program.
            request(libc::PTRACE_POKEDATA, tid, regs.rsp - 8, call.back);
        }
        set_registers(tid, &regs);
        self.threads.get_mut(&tid).expect("known").call = None;
        self.go_on(tid, signal);
    }
}
