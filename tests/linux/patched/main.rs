//! What becomes of programs whose system calls are made function calls while they run: `patched`.
//!
//! Each check makes its system calls by the `syscall` instruction, often, and looks what is in their place afterwards: a
//! call, or still the instruction where a call would not be safe. Files, debuggers, filters and processes that change
//! their own code must find what they would find without that.

#![expect(unsafe_code, reason = "system calls, code and its bytes are what is looked at")]
// UNSAFETY: raw system calls, and bytes of code that is executed.

mod changed;
mod code;
mod files;
mod others;

use std::process::ExitCode;
use std::sync::atomic::{AtomicUsize, Ordering};

use code::{CALL, JUMP, LONG_JUMP, OFTEN, Site};
use linux_programs::child::{self, End};
use linux_programs::report::Report;

/// A site becomes a call, and goes on giving the right answer.
fn hot(report: &mut Report) {
    let own = std::process::id();
    let wrong = (0..OFTEN).filter(|_| code::getpid() != own).count();
    report.check("hot result", wrong, 0);
    report.check("hot bytes", Site::getpid().first_byte(), CALL);
    report.check("hot afterwards", code::getpid(), own);
}

/// Sites without room have their call in a gap of the code beside them.
fn gaps(report: &mut Report) {
    let pipe = child::pipe();
    let mut byte = [0];
    let right = (0..OFTEN).filter(|n| {
        // SAFETY: one byte is written from as many.
        unsafe { libc::write(pipe[1], [*n as u8].as_ptr().cast(), 1) };
        code::read(pipe[0], &mut byte) == 1 && byte[0] == *n as u8
    });
    report.check("gap: read", right.count(), OFTEN);
    report.check("gap: read refused", code::read(-1, &mut byte), -1);
    report.check("gap: read has a jump", Site::read().first_byte(), JUMP);
    child::close(pipe);
    // SAFETY: it has no arguments.
    let own = unsafe { libc::getuid() };
    report.check("gap: getuid", (0..OFTEN).filter(|_| code::getuid() == own).count(), OFTEN);
    report.check("gap: getuid has a jump", Site::getuid().first_byte(), JUMP);
    // SAFETY: it has no arguments.
    let parent = unsafe { libc::getppid() } as u32;
    report.check("gap: across pages", (0..OFTEN).filter(|_| code::across() == parent).count(), OFTEN);
    report.check("gap: across pages has a jump", Site::across().first_byte(), LONG_JUMP);
    report.check("gap: from the page before", (0..OFTEN).filter(|_| code::ahead() == parent).count(), OFTEN);
    report.check("gap: from the page before has a jump", Site::ahead().first_byte(), LONG_JUMP);
}

/// Sites without room or gaps call a stub in the kernel's memory.
fn annex(report: &mut Report) {
    report.check("annex: access", (0..OFTEN).filter(|_| code::access() == 0).count(), OFTEN);
    report.check("annex: access has a call", Site::access().bytes()[..3] == [CALL, 0x14, 0x25], true);
}

/// What a leaf function keeps below its stack pointer stays there.
fn red_zone(report: &mut Report) {
    let kept = (0..OFTEN as u64).filter(|&n| code::through_red_zone(n << 32 | 7) == n << 32 | 7).count();
    report.check("red zone kept", kept, OFTEN);
    // By the table's jump: a call would write there.
    report.check("red zone has a jump", Site::red_zone().bytes()[5], JUMP);
    let kept = (0..OFTEN as u64).filter(|&n| code::through_part(n << 32 | 7) == n << 32 | 7).count();
    report.check("red zone of a function in two parts kept", kept, OFTEN);
    // The code behind the site reads where a pointer leads, and the function keeps nothing below its stack pointer.
    let own = u64::from(std::process::id());
    report.check("no red zone", (0..OFTEN as u64).filter(|&n| code::framed(&n) == own + n).count(), OFTEN);
    report.check("no red zone has a call", Site::framed().first_byte(), CALL);
}

/// Flags from before are read afterwards.
fn flags(report: &mut Report) {
    let right = (0..OFTEN as u64).filter(|&n| code::through_flags(n & 1) == n & 1).count();
    report.check("flags kept", right, OFTEN);
    report.check("flags is no call", Site::flags().is_original(), true);
}

/// Who jumps to the instruction itself, with another number, gets that system call.
fn middle(report: &mut Report) {
    report.check("middle is a call", Site::getpid().first_byte(), CALL);
    // SAFETY: it has no arguments.
    let parent = unsafe { libc::getppid() } as u64;
    let wrong = (0..OFTEN).filter(|_| code::into_the_middle(libc::SYS_getppid as u64) != parent).count();
    report.check("middle result", wrong, 0);
}

extern "C" fn count_signal(_: i32) {
    SIGNALS.fetch_add(1, Ordering::Relaxed);
}

/// How many have been handled.
static SIGNALS: AtomicUsize = AtomicUsize::new(0);

/// The way back from a signal's handler, which is the C library's: `mov rax, 15; syscall`.
fn signals(report: &mut Report) {
    /// What rt_sigaction knows of a handler: the handler, flags, the way back, a mask.
    type Action = [u64; 4];
    const WAY_BACK: [u8; 9] = [0x48, 0xc7, 0xc0, 15, 0, 0, 0, 0x0f, 0x05];
    let mut action: Action = [0; 4];
    // SAFETY: the handler only counts.
    unsafe { libc::signal(libc::SIGUSR1, count_signal as *const () as libc::sighandler_t) };
    // SAFETY: there is room for what is asked.
    let asked = unsafe { libc::syscall(libc::SYS_rt_sigaction, libc::SIGUSR1, 0, action.as_mut_ptr(), 8) };
    report.check("signals: the way back is known", asked, 0);
    let way_back = action[2] as *const [u8; WAY_BACK.len()];
    // SAFETY: it is code of this program.
    let file = unsafe { way_back.read_volatile() };
    for _ in 0..OFTEN {
        // SAFETY: it is handled.
        unsafe { libc::raise(libc::SIGUSR1) };
    }
    report.check("signals: handled", SIGNALS.load(Ordering::Relaxed), OFTEN);
    // SAFETY: as above.
    let now = unsafe { way_back.read_volatile() };
    report.check("signals: the way back was as the library has it", file, WAY_BACK);
    report.check("signals: and is not any more", now == WAY_BACK, false);
}

/// A new process has the same code; one that is loaded anew, too.
fn processes(report: &mut Report) {
    let forked = child::run(|| i32::from(Site::getpid().first_byte() != CALL || code::getpid() != std::process::id()));
    report.check("forked", forked, End::Exited(0));
    let loaded = std::process::Command::new("/proc/self/exe").arg(LOADED).status();
    report.check("loaded anew", loaded.ok().and_then(|s| s.code()), Some(0));
}

/// Argument: look at the site, make the system call, end.
const LOADED: &str = "loaded";

fn main() -> ExitCode {
    if std::env::args().nth(1).as_deref() == Some(LOADED) {
        let patched = Site::getpid().first_byte() == CALL;
        return ExitCode::from(u8::from(!patched || code::getpid() != std::process::id()));
    }
    let mut report = Report::default();
    report.group("hot", hot);
    report.group("gaps", gaps);
    report.group("annex", annex);
    report.group("red-zone", red_zone);
    report.group("flags", flags);
    report.group("middle", middle);
    report.group("signals", signals);
    report.group("processes", processes);
    report.group("files", files::check);
    report.group("changed", changed::check);
    report.group("others", others::check);
    report.verdict()
}
