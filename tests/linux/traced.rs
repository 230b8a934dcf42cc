//! A child as its tracer has it.

use crate::child;

/// A child that is traced.
pub struct Traced {
    /// Its number.
    pub pid: i32,
}

/// What it stops by where a system call begins or ends.
pub const SYSCALL_STOP: i32 = libc::SIGTRAP | 0x80;

impl Traced {
    /// Starts a child that is going to do `act`.
    ///
    /// # Errors
    /// What happened instead; so for the others.
    pub fn ready(act: impl FnOnce() -> i32) -> Result<Self, String> {
        let pid = child::start(child::PATIENCE, || {
            // SAFETY: no memory is named.
            unsafe { libc::ptrace(libc::PTRACE_TRACEME, 0, 0, 0) };
            // SAFETY: as above.
            unsafe { libc::raise(libc::SIGSTOP) };
            act()
        });
        let traced = Self { pid };
        traced.stop(libc::SIGSTOP)?;
        Ok(traced)
    }

    /// Starts a child that does `act` and waits until it stands at the breakpoint in there.
    pub fn start(act: impl FnOnce() -> i32) -> Result<Self, String> {
        let traced = Self::ready(act)?;
        traced.request(libc::PTRACE_SETOPTIONS, 0, (libc::PTRACE_O_TRACESYSGOOD | libc::PTRACE_O_TRACESECCOMP) as usize);
        traced.go(libc::PTRACE_CONT)?;
        traced.stop(libc::SIGTRAP)?;
        Ok(traced)
    }

    /// Makes a request of `ptrace`, with an address of the child's and data or the address of ours.
    pub fn request(&self, request: libc::c_uint, address: usize, data: usize) -> i64 {
        // SAFETY: the kernel only reads or writes our memory where `registers` says so.
        unsafe { libc::ptrace(request, self.pid, address, data) }
    }

    /// Lets it go on.
    pub fn go(&self, request: libc::c_uint) -> Result<(), String> {
        if self.request(request, 0, 0) < 0 { Err(format!("ptrace {request}")) } else { Ok(()) }
    }

    /// Waits until it has stopped by `signal`, or how else it has changed; the event.
    pub fn stop(&self, signal: i32) -> Result<i32, String> {
        let mut status = 0;
        // SAFETY: the status goes to the variable.
        unsafe { libc::waitpid(self.pid, &raw mut status, libc::__WALL) };
        if libc::WIFSTOPPED(status) && libc::WSTOPSIG(status) == signal { Ok(status >> 16) } else { Err(format!("status {status:#x}")) }
    }

    /// One step.
    pub fn step(&self) -> Result<(), String> {
        self.go(libc::PTRACE_SINGLESTEP)?;
        self.stop(libc::SIGTRAP).map(drop)
    }

    /// To the next beginning or end of a system call.
    pub fn to_call(&self) -> Result<libc::user_regs_struct, String> {
        self.go(libc::PTRACE_SYSCALL)?;
        self.stop(SYSCALL_STOP)?;
        Ok(self.registers())
    }

    /// All registers.
    pub fn registers(&self) -> libc::user_regs_struct {
        // SAFETY: all zeros is one.
        let mut registers: libc::user_regs_struct = unsafe { std::mem::zeroed() };
        assert_eq!(self.request(libc::PTRACE_GETREGS, 0, (&raw mut registers) as usize), 0);
        registers
    }

    /// Changes a register.
    pub fn set(&self, register: i32, value: i64) -> Result<(), String> {
        let done = self.request(libc::PTRACE_POKEUSER, 8 * register as usize, value as usize);
        if done == 0 { Ok(()) } else { Err("POKEUSER".into()) }
    }

    /// A register.
    pub fn peek(&self, register: usize) -> u64 {
        self.request(libc::PTRACE_PEEKUSER, 8 * register, 0) as u64
    }

    /// Lets it go to its end.
    pub fn end(self) -> Result<child::End, String> {
        self.go(libc::PTRACE_CONT)?;
        Ok(child::wait(self.pid))
    }

    /// Lets it go on by `request` each time that it stops, after `each` has seen its registers. The status that it ends with.
    pub fn follow(self, request: libc::c_uint, mut each: impl FnMut(&libc::user_regs_struct)) -> Result<i32, String> {
        loop {
            self.go(request)?;
            let mut status = 0;
            // SAFETY: the status goes to the variable.
            unsafe { libc::waitpid(self.pid, &raw mut status, libc::__WALL) };
            if !libc::WIFSTOPPED(status) {
                return Ok(status);
            }
            each(&self.registers());
        }
    }
}
