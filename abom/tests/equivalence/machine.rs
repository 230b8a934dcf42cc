//! The processor, for short programs: their memory, their registers, a kernel that can be called.
//!
//! One process runs one program at a time, all at the addresses of `layout`. The entries do as X-LibOS's do: take the
//! return address, make the system call, lose rcx, r11 and the flags, push the return address anew. A signal handler
//! stands for the X-Kernel: it sees what a trap sees, and catches invalid opcodes inside of patches.

// UNSAFETY: maps memory at fixed addresses and executes what is written there.
#![expect(unsafe_code, reason = "native execution")]

use std::sync::atomic::{AtomicU64, Ordering};

use abom::{Fixup, Patch, Seen};

use crate::layout::*;

/// Registers in the order of their encoding, then rip and flags.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
#[repr(C)]
pub struct Registers {
    /// rax, rcx, rdx, rbx, rsp, rbp, rsi, rdi, r8 to r15.
    pub general: [u64; 16],
    /// Where to begin.
    pub rip: u64,
    /// The flags.
    pub flags: u64,
}

/// How a run ended, if not by its return: set by the signal handler.
static CRASHED: AtomicU64 = AtomicU64::new(0);
/// The site that is watched: a system call made there is looked at.
static WATCHED: AtomicU64 = AtomicU64::new(0);
/// What was seen there: rax, rsp, six arguments, flags; and whether it was.
static SEEN: [AtomicU64; 10] = [const { AtomicU64::new(0) }; 10];
/// What to do about invalid opcodes: address, kind, target.
static FIXUPS: [[AtomicU64; 3]; 64] = [const { [const { AtomicU64::new(0) }; 3] }; 64];
/// How often that was done.
pub static CAUGHT: AtomicU64 = AtomicU64::new(0);

core::arch::global_asm!(
    // A call of C's: runs with the registers of the frame until `abom_leave`.
    ".globl abom_enter",
    "abom_enter:",
    "push rbx",
    "push rbp",
    "push r12",
    "push r13",
    "push r14",
    "push r15",
    "mov qword ptr ds:0x40300, rsp",
    "push qword ptr ds:0x40088",
    "popfq",
    "mov rax, qword ptr ds:0x40000",
    "mov rcx, qword ptr ds:0x40008",
    "mov rdx, qword ptr ds:0x40010",
    "mov rbx, qword ptr ds:0x40018",
    "mov rsp, qword ptr ds:0x40020",
    "mov rbp, qword ptr ds:0x40028",
    "mov rsi, qword ptr ds:0x40030",
    "mov rdi, qword ptr ds:0x40038",
    "mov r8, qword ptr ds:0x40040",
    "mov r9, qword ptr ds:0x40048",
    "mov r10, qword ptr ds:0x40050",
    "mov r11, qword ptr ds:0x40058",
    "mov r12, qword ptr ds:0x40060",
    "mov r13, qword ptr ds:0x40068",
    "mov r14, qword ptr ds:0x40070",
    "mov r15, qword ptr ds:0x40078",
    "jmp qword ptr ds:0x40080",
    ".globl abom_leave",
    "abom_leave:",
    "mov qword ptr ds:0x40000, rax",
    "mov qword ptr ds:0x40008, rcx",
    "mov qword ptr ds:0x40010, rdx",
    "mov qword ptr ds:0x40018, rbx",
    "mov qword ptr ds:0x40020, rsp",
    "mov qword ptr ds:0x40028, rbp",
    "mov qword ptr ds:0x40030, rsi",
    "mov qword ptr ds:0x40038, rdi",
    "mov qword ptr ds:0x40040, r8",
    "mov qword ptr ds:0x40048, r9",
    "mov qword ptr ds:0x40050, r10",
    "mov qword ptr ds:0x40058, r11",
    "mov qword ptr ds:0x40060, r12",
    "mov qword ptr ds:0x40068, r13",
    "mov qword ptr ds:0x40070, r14",
    "mov qword ptr ds:0x40078, r15",
    "mov rsp, qword ptr ds:0x40300",
    "cld",
    "pop r15",
    "pop r14",
    "pop r13",
    "pop r12",
    "pop rbp",
    "pop rbx",
    "ret",
    // Entered by a call, the number in eax.
    ".globl abom_call_entry",
    "abom_call_entry:",
    "pop qword ptr ds:0x40400",
    "syscall",
    "inc qword ptr ds:0x40410",
    "mov r11, qword ptr ds:0x40408",
    "mov rcx, r11",
    "add r11, r11",
    "cld",
    "push qword ptr ds:0x40400",
    "ret",
    // Entered by a jump, the number in eax, the return address in rcx.
    ".globl abom_jump_entry",
    "abom_jump_entry:",
    "mov qword ptr ds:0x40400, rcx",
    "syscall",
    "inc qword ptr ds:0x40410",
    "mov r11, qword ptr ds:0x40408",
    "add r11, r11",
    "cld",
    "mov rcx, qword ptr ds:0x40400",
    "jmp rcx",
    // The same, and wrong: it uses the caller's stack.
    ".globl abom_pushing_entry",
    "abom_pushing_entry:",
    "push rcx",
    "pop rcx",
    "jmp abom_jump_entry",
);

// SAFETY: they are the labels above. `abom_enter` keeps what a C function keeps; the others are only addresses.
unsafe extern "C" {
    fn abom_enter();
    fn abom_leave();
    fn abom_call_entry();
    fn abom_jump_entry();
    fn abom_pushing_entry();
}

/// How many system calls went through the entries.
const CALLS: u64 = FRAME + 0x410;
/// What rcx and r11 become.
const JUNK: u64 = FRAME + 0x408;

/// The memory of the one program there is in this process.
#[derive(Debug)]
pub struct Machine(());

/// Memory at a fixed address.
fn map(address: u64, size: u64, protection: i32, fd: i32) {
    let flags = libc::MAP_FIXED_NOREPLACE | if fd < 0 { libc::MAP_PRIVATE | libc::MAP_ANONYMOUS } else { libc::MAP_SHARED };
    let size = usize::try_from(size).expect("a size");
    // SAFETY: nothing is there, or the call fails.
    let at = unsafe { libc::mmap(address as *mut libc::c_void, size, protection, flags, fd, 0) };
    assert_eq!(at as u64, address, "cannot map {address:#x}: {}", std::io::Error::last_os_error());
}

impl Machine {
    /// Maps everything and takes the signals. Once in a process.
    pub fn new() -> Self {
        const RW: i32 = libc::PROT_READ | libc::PROT_WRITE;
        const RWX: i32 = RW | libc::PROT_EXEC;
        map(FRAME, 0x1000, RW, -1);
        map(TABLE, 0x2000, RW, -1);
        map(ENTRIES, 0x3000, RWX, -1);
        map(CODE, 0x1000, RWX, -1);
        map(STUBS, STUBS_END - STUBS, RWX, -1);
        map(FAR_STUBS, FAR_STUBS_END - FAR_STUBS, RWX, -1);
        map(STACK, STACK_SIZE, RW, -1);
        map(DATA, 0x1000, RW, -1);
        // SAFETY: a name that ends with 0.
        let fd = unsafe { libc::memfd_create(c"abom".as_ptr(), 0) };
        // SAFETY: a file of ours.
        let sized = unsafe { libc::ftruncate(fd, 0x1000) };
        assert_eq!(sized, 0);
        map(FILE, 0x1000, RW, fd);
        let mut machine = Self(());
        machine.entries();
        machine.put(FRAME + 0x500, &(fd as u64).to_le_bytes());
        signals();
        machine
    }

    fn entries(&mut self) {
        let common = abom_call_entry as *const () as u64;
        self.put(TABLE, &common.to_le_bytes());
        self.set_jump_entry(false);
        for nr in 0..NUMBERS {
            // mov eax, nr; jmp [rip+0]; address
            let at = ENTRIES + u64::from(nr) * 24;
            let mut code = vec![0xb8];
            code.extend(nr.to_le_bytes());
            code.extend([0xff, 0x25, 0, 0, 0, 0]);
            code.extend(common.to_le_bytes());
            self.put(at, &code);
            self.put(TABLE + 8 + u64::from(nr) * 8, &at.to_le_bytes());
        }
    }

    /// Puts the jump entry into its slot, or one that uses the stack.
    pub fn set_jump_entry(&mut self, pushes: bool) {
        let entry = if pushes { abom_pushing_entry as *const () } else { abom_jump_entry as *const () };
        self.put(JUMP_SLOT, &(entry as u64).to_le_bytes());
    }

    /// The number of the file's descriptor.
    pub fn fd(&self) -> u64 {
        u64::from_le_bytes(self.get(FRAME + 0x500, 8).try_into().expect("eight bytes"))
    }

    /// Sets the file's position to its beginning.
    pub fn rewind(&mut self) {
        let fd = i32::try_from(self.fd()).expect("a descriptor");
        // SAFETY: a file of ours.
        let at = unsafe { libc::lseek(fd, 0, libc::SEEK_SET) };
        assert_eq!(at, 0);
    }

    /// The address to which a program returns.
    pub fn leave(&self) -> u64 {
        abom_leave as *const () as u64
    }

    /// Writes to the machine's memory.
    pub fn put(&mut self, address: u64, bytes: &[u8]) {
        assert!((FRAME..FAR_STUBS_END).contains(&address));
        // SAFETY: the machine's own memory, of which there is no reference.
        unsafe { std::ptr::copy_nonoverlapping(bytes.as_ptr(), address as *mut u8, bytes.len()) };
    }

    /// Reads the machine's memory.
    pub fn get(&self, address: u64, len: usize) -> Vec<u8> {
        let mut bytes = vec![0; len];
        // SAFETY: as above.
        unsafe { std::ptr::copy_nonoverlapping(address as *const u8, bytes.as_mut_ptr(), len) };
        bytes
    }

    /// Runs from the registers' rip to the return. None: it crashed.
    pub fn run(&mut self, registers: &Registers, junk: u64) -> Option<Registers> {
        CRASHED.store(0, Ordering::Relaxed);
        self.put(JUNK, &junk.to_le_bytes());
        self.put(CALLS, &[0; 8]);
        // SAFETY: the frame is mapped, and there is no reference to it.
        unsafe { (FRAME as *mut Registers).write(*registers) };
        // SAFETY: the code is ours, at addresses of ours, and comes back by `abom_leave`, by the handler if need be.
        unsafe { abom_enter() };
        // SAFETY: as above.
        let after = unsafe { (FRAME as *const Registers).read() };
        (CRASHED.load(Ordering::Relaxed) == 0).then_some(after)
    }

    /// How many system calls the last run made through the entries.
    pub fn calls(&self) -> u64 {
        u64::from_le_bytes(self.get(CALLS, 8).try_into().expect("eight bytes"))
    }

    /// Watches a site: an invalid opcode must be there.
    pub fn watch(&mut self, site: u64) {
        WATCHED.store(site, Ordering::Relaxed);
        SEEN[9].store(0, Ordering::Relaxed);
    }

    /// What was seen.
    pub fn seen(&self) -> Option<Seen> {
        let [rax, rsp, a, b, c, d, e, f, rflags, was] = [0, 1, 2, 3, 4, 5, 6, 7, 8, 9].map(|n: usize| SEEN[n].load(Ordering::Relaxed));
        (was != 0).then_some(Seen { rax, rsp, arguments: [a, b, c, d, e, f], rflags })
    }

    /// Catches what comes into the patches.
    pub fn catch(&mut self, patches: &[Patch]) {
        let all = patches.iter().flat_map(|p| p.inner().map(move |o| p.address() + o as u64).filter_map(|rip| Some((rip, p.fixup(rip)?))));
        let mut all = all.fuse();
        for slot in &FIXUPS {
            let (rip, kind, target) = match all.next() {
                Some((rip, Fixup::At(target))) => (rip, 1, target),
                Some((rip, Fixup::Syscall { next })) => (rip, 2, next),
                None => (0, 0, 0),
            };
            slot[0].store(rip, Ordering::Relaxed);
            slot[1].store(kind, Ordering::Relaxed);
            slot[2].store(target, Ordering::Relaxed);
        }
    }
}

fn signals() {
    let stack = vec![0_u8; 0x1_0000].leak();
    let alternate = libc::stack_t { ss_sp: stack.as_mut_ptr().cast(), ss_flags: 0, ss_size: stack.len() };
    // SAFETY: the stack is never freed.
    let set = unsafe { libc::sigaltstack(&raw const alternate, std::ptr::null_mut()) };
    assert_eq!(set, 0);
    for signal in [libc::SIGILL, libc::SIGSEGV, libc::SIGBUS, libc::SIGTRAP, libc::SIGFPE] {
        // SAFETY: all zero is a valid action.
        let mut action: libc::sigaction = unsafe { std::mem::zeroed() };
        action.sa_sigaction = handler as *const () as usize;
        action.sa_flags = libc::SA_SIGINFO | libc::SA_ONSTACK;
        // SAFETY: the handler is async-signal-safe: it changes registers and atomics, and makes system calls.
        let set = unsafe { libc::sigaction(signal, &raw const action, std::ptr::null_mut()) };
        assert_eq!(set, 0);
    }
}

/// Makes the system call that the registers say, as a trap does.
fn trap(registers: &mut libc::mcontext_t) {
    use libc::{REG_R8, REG_R9, REG_R10, REG_RAX, REG_RDI, REG_RDX, REG_RSI};
    let g = |n: i32| registers.gregs[usize::try_from(n).expect("a register")];
    let (mut result, arguments) = (g(REG_RAX), [REG_RDI, REG_RSI, REG_RDX, REG_R10, REG_R8, REG_R9].map(g));
    let [a, b, c, d, e, f] = arguments;
    // SAFETY: the program's own system call.
    unsafe {
        core::arch::asm!("syscall", inlateout("rax") result, in("rdi") a, in("rsi") b, in("rdx") c, in("r10") d, in("r8") e, in("r9") f,
            lateout("rcx") _, lateout("r11") _);
    }
    registers.gregs[usize::try_from(REG_RAX).expect("a register")] = result;
}

extern "C" fn handler(_signal: i32, _info: *mut libc::siginfo_t, context: *mut libc::c_void) {
    // SAFETY: the kernel gives a context, and nobody else has it.
    let context = unsafe { &mut *context.cast::<libc::ucontext_t>() };
    let registers = &mut context.uc_mcontext;
    let index = |n: i32| usize::try_from(n).expect("a register");
    let rip = registers.gregs[index(libc::REG_RIP)].cast_unsigned();
    if rip == WATCHED.load(Ordering::Relaxed) {
        if SEEN[9].load(Ordering::Relaxed) == 0 {
            use libc::{REG_EFL, REG_R8, REG_R9, REG_R10, REG_RAX, REG_RDI, REG_RDX, REG_RSI, REG_RSP};
            let all = [REG_RAX, REG_RSP, REG_RDI, REG_RSI, REG_RDX, REG_R10, REG_R8, REG_R9, REG_EFL];
            for (slot, n) in SEEN.iter().zip(all) {
                slot.store(registers.gregs[index(n)].cast_unsigned(), Ordering::Relaxed);
            }
            SEEN[9].store(1, Ordering::Relaxed);
        }
        trap(registers);
        registers.gregs[index(libc::REG_RIP)] = (rip + 2).cast_signed();
        return;
    }
    for slot in &FIXUPS {
        let [at, kind, target] = [0, 1, 2].map(|n: usize| slot[n].load(Ordering::Relaxed));
        if kind != 0 && at == rip {
            CAUGHT.fetch_add(1, Ordering::Relaxed);
            if kind == 2 {
                trap(registers);
            }
            registers.gregs[index(libc::REG_RIP)] = target.cast_signed();
            return;
        }
    }
    CRASHED.store(rip | 1 << 63, Ordering::Relaxed);
    registers.gregs[index(libc::REG_RIP)] = (abom_leave as *const () as u64).cast_signed();
}
