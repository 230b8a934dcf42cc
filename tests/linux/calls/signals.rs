//! Signals in and around calls: what handlers see, and calls in handlers.

use std::arch::naked_asm;
use std::sync::atomic::{AtomicI64, AtomicU64, AtomicUsize, Ordering::SeqCst};

use crate::child::{self, End};
use crate::report::Report;
use crate::sites::{self, RAX, RDI, RDX, RSI, State};
use crate::way::{self, Act, Way, Ways};

/// Lets `handler` be called for a signal; `flags` beside those of `sigaction`.
pub fn handle(signal: i32, handler: extern "C" fn(i32), flags: i32) {
    install(signal, handler as *const () as usize, flags);
}

/// The same for a handler of three arguments.
pub fn handle_info(signal: i32, handler: extern "C" fn(i32, *mut libc::siginfo_t, *mut libc::ucontext_t), flags: i32) {
    install(signal, handler as *const () as usize, flags | libc::SA_SIGINFO);
}

fn install(signal: i32, handler: usize, flags: i32) {
    // SAFETY: all zeros is one.
    let mut action: libc::sigaction = unsafe { std::mem::zeroed() };
    (action.sa_sigaction, action.sa_flags) = (handler, flags);
    // SAFETY: the handler is a function that takes what the flags say.
    let done = unsafe { libc::sigaction(signal, &raw const action, std::ptr::null_mut()) };
    assert_eq!(done, 0);
}

/// A handler that does nothing.
pub extern "C" fn nothing(_: i32) {}

/// A register of a context.
pub fn register(context: *const libc::ucontext_t, register: i32) -> u64 {
    // SAFETY: the kernel made the context for the handler that asks.
    unsafe { (*context).uc_mcontext.gregs[register as usize] as u64 }
}

/// What a handler has seen.
static RIP: AtomicU64 = AtomicU64::new(0);
static RSP: AtomicU64 = AtomicU64::new(0);
static SEEN_RAX: AtomicU64 = AtomicU64::new(0);
static OWN_STACK: AtomicU64 = AtomicU64::new(0);
static COUNT: AtomicI64 = AtomicI64::new(0);

extern "C" fn look(_: i32, _: *mut libc::siginfo_t, context: *mut libc::ucontext_t) {
    RIP.store(register(context, libc::REG_RIP), SeqCst);
    RSP.store(register(context, libc::REG_RSP), SeqCst);
    SEEN_RAX.store(register(context, libc::REG_RAX), SeqCst);
    OWN_STACK.store((&raw const context) as u64, SeqCst);
    COUNT.fetch_add(1, SeqCst);
}

extern "C" fn count(_: i32) {
    COUNT.fetch_add(1, SeqCst);
}

/// The registers for a call to send a signal to this thread.
fn sending(signal: i32) -> State {
    let pid = u64::from(std::process::id());
    let mut before = State { flags: 0x202, ..State::default() };
    before.general[RAX] = libc::SYS_tgkill as u64;
    (before.general[RDI], before.general[RSI], before.general[RDX]) = (pid, pid, signal as u64);
    before
}

/// The handler sees the process behind its call.
fn context(way: Way) -> i32 {
    handle_info(libc::SIGUSR1, look, 0);
    // SAFETY: it names no memory.
    let after = unsafe { sites::exchange(way, libc::SYS_tgkill as usize + 1, &sending(libc::SIGUSR1)) };
    let seen = (RIP.load(SeqCst), RSP.load(SeqCst), SEEN_RAX.load(SeqCst), COUNT.load(SeqCst));
    i32::from(seen != (after.behind, after.rsp, 0, 1))
}

/// A stack of its own for the handler, which is set, used and seen.
fn own_stack(way: Way) -> i32 {
    let length = 65536;
    let base = child::fresh(length, libc::MAP_PRIVATE);
    let stack = libc::stack_t { ss_sp: base.cast(), ss_flags: 0, ss_size: length };
    handle_info(libc::SIGUSR1, look, libc::SA_ONSTACK);
    // SAFETY: the stack is read, and is the handler's for good.
    let set = unsafe { way.call(libc::SYS_sigaltstack, [(&raw const stack) as usize, 0]) };
    let raised = way.raise(libc::SIGUSR1);
    let inside = (base as u64..base as u64 + length as u64).contains(&OWN_STACK.load(SeqCst));
    i32::from((set, raised, inside, COUNT.load(SeqCst)) != (0, 0, true, 1))
}

/// Waits with another mask, is woken, and has its mask back.
fn suspend(way: Way) -> i32 {
    handle(libc::SIGUSR1, count, 0);
    let (blocked, none, mut pending, mut then) = (1u64 << (libc::SIGUSR1 - 1), 0u64, 0u64, 0u64);
    // SAFETY: a mask is read.
    unsafe { way.call(libc::SYS_rt_sigprocmask, [libc::SIG_BLOCK as usize, (&raw const blocked) as usize, 0, 8]) };
    way.raise(libc::SIGUSR1);
    let early = COUNT.load(SeqCst);
    // SAFETY: a mask is written.
    unsafe { way.call(libc::SYS_rt_sigpending, [(&raw mut pending) as usize, 8]) };
    // SAFETY: a mask is read.
    let woken = unsafe { way.call(libc::SYS_rt_sigsuspend, [(&raw const none) as usize, 8]) };
    // SAFETY: a mask is written.
    unsafe { way.call(libc::SYS_rt_sigprocmask, [libc::SIG_BLOCK as usize, 0, (&raw mut then) as usize, 8]) };
    let seen = (early, pending, woken, COUNT.load(SeqCst), then);
    i32::from(seen != (0, blocked, -(libc::EINTR as isize), 1, blocked))
}

/// Takes a blocked signal without a handler.
fn take(way: Way) -> i32 {
    let blocked = 1u64 << (libc::SIGUSR1 - 1);
    // SAFETY: a mask is read.
    unsafe { way.call(libc::SYS_rt_sigprocmask, [libc::SIG_BLOCK as usize, (&raw const blocked) as usize, 0, 8]) };
    way.raise(libc::SIGUSR1);
    // SAFETY: a mask is read.
    let got = unsafe { way.call(libc::SYS_rt_sigtimedwait, [(&raw const blocked) as usize, 0, 0, 8]) };
    i32::from(got != libc::SIGUSR1 as isize)
}

/// How the handlers make their calls: the way's place among [`Ways::named`].
static HANDLERS: AtomicUsize = AtomicUsize::new(0);

fn handlers_way() -> Way {
    Ways::find().map_or(Way::Instruction, |ways| ways.named()[HANDLERS.load(SeqCst)].1)
}

extern "C" fn outer(_: i32) {
    let way = handlers_way();
    let before = COUNT.load(SeqCst);
    way.raise(libc::SIGUSR2);
    let after = COUNT.load(SeqCst);
    if (before, after, way.pid()) == (0, 1, std::process::id() as i32) {
        COUNT.store(100, SeqCst);
    }
}

/// A handler makes calls, one of which has another handler called.
fn nested(way: Way) -> i32 {
    let place = match way {
        Way::Instruction => 0,
        Way::Table(_) => 1,
        Way::Jump => 2,
    };
    HANDLERS.store(place, SeqCst);
    handle(libc::SIGUSR1, outer, 0);
    handle(libc::SIGUSR2, count, 0);
    way.raise(libc::SIGUSR1);
    i32::from(COUNT.load(SeqCst) != 100)
}

/// Returns from a handler through the table: its argument is the stack, less the return address.
#[unsafe(naked)]
extern "C" fn restore() {
    naked_asm!(".byte 0xff, 0x14, 0x25", ".long 0xff600000 + 8 * (15 + 1)", "ud2")
}

/// The same by the jump, which leaves the stack alone.
#[unsafe(naked)]
extern "C" fn restore_by_jump() {
    naked_asm!("mov eax, 15", ".byte 0xff, 0x24, 0x25", ".long {slot}", slot = const way::SLOT_OF_JUMP)
}

/// As the kernel wants it.
#[repr(C)]
struct Action {
    handler: usize,
    flags: u64,
    restorer: usize,
    mask: u64,
}

const SA_RESTORER: u64 = 0x400_0000;

/// The handler returns by the table, and every register is as it was.
fn sigreturn(way: Way) -> i32 {
    let action = Action {
        handler: look as *const () as usize,
        flags: SA_RESTORER | libc::SA_SIGINFO as u64,
        restorer: if matches!(way, Way::Jump) { restore_by_jump as *const () as usize } else { restore as *const () as usize },
        mask: 0,
    };
    // SAFETY: the handler is one.
    let set = unsafe { way.call(libc::SYS_rt_sigaction, [libc::SIGUSR1 as usize, (&raw const action) as usize, 0, 8]) };
    let mut before = sending(libc::SIGUSR1);
    before.general[1] = 0x1234_5678_9abc_def0;
    before.below = [7; 16];
    // SAFETY: it names no memory.
    let after = unsafe { sites::exchange(way, libc::SYS_tgkill as usize + 1, &before) };
    let kept = after.general[1..2] == before.general[1..2] && after.general[3..10] == before.general[3..10];
    let below = after.below[..15] == before.below[..15];
    i32::from((set, COUNT.load(SeqCst), after.general[RAX], kept, below) != (0, 1, 0, true, true))
}

/// Signals of a timer fall on calls wherever they are; no call and no register notices.
fn storm(way: Way) -> i32 {
    handle(libc::SIGALRM, count, 0);
    let often = libc::timeval { tv_sec: 0, tv_usec: 500 };
    let timer = libc::itimerval { it_interval: often, it_value: often };
    // SAFETY: the time is read.
    unsafe { way.call(libc::SYS_setitimer, [libc::ITIMER_REAL as usize, (&raw const timer) as usize, 0]) };
    let mut before = State { flags: 0x202, below: [7; 16], ..State::default() };
    before.general = std::array::from_fn(|i| 0x1111 * i as u64);
    before.general[RAX] = libc::SYS_getpid as u64;
    let pid = u64::from(std::process::id());
    let mut wrong = 0;
    for _ in 0..20_000_000 {
        // SAFETY: it has no arguments.
        let after = unsafe { sites::exchange(way, libc::SYS_getpid as usize + 1, &before) };
        let same = after.general[3..10] == before.general[3..10] && after.general[11..] == before.general[11..];
        if after.general[RAX] != pid || !same || after.below[..15] != before.below[..15] {
            wrong = 1;
        }
        if COUNT.load(SeqCst) >= 300 {
            return wrong;
        }
    }
    2
}

/// The bytes that every patched call has: the slot's address in the instruction.
fn by_address(way: Way) -> i32 {
    #[unsafe(naked)]
    extern "C" fn getpid() -> isize {
        naked_asm!(".byte 0xff, 0x14, 0x25", ".long 0xff600000 + 8 * (39 + 1)", "ret")
    }
    let same = way::stub_of(libc::SYS_getpid) != way::stub(0) && getpid() == way.pid() as isize;
    i32::from(!same)
}

/// Each of them in a child of its own.
pub fn check(report: &mut Report, ways: Ways) {
    let checks: [(&str, Act); 8] = [
        ("context", context),
        ("own stack", own_stack),
        ("suspend", suspend),
        ("take", take),
        ("nested", nested),
        ("return by the table", sigreturn),
        ("storm", storm),
        ("by address", by_address),
    ];
    for (by, way) in ways.named() {
        for (name, check) in checks {
            report.check(&format!("signal {name} {by}"), child::run(|| check(way)), End::Exited(0));
        }
    }
}
