//! The end: a bug of the X-Kernel's, or a fault that nothing expected.
//!
//! First the epitaph goes to a static that a debugger or a memory dump finds by its symbol; then registers, a
//! backtrace and the newest trace records go to the console, past all locks; then the machine stops. A second panic
//! while the first is being told only halts.

// UNSAFETY: follows frame pointers; names a symbol.
#![expect(unsafe_code, reason = "follows frame pointers on the own stack")]
#![expect(clippy::cast_possible_truncation, reason = "addresses are 64 bits wide")]

use core::fmt::{self, Write};
use core::panic::PanicInfo;
use core::sync::atomic::{AtomicBool, AtomicU8, AtomicU32, Ordering};

use crate::arch::x86_64::entry::GuestRegs;
use crate::arch::x86_64::power::{self, Verdict};
use crate::arch::x86_64::serial::Emergency;
use crate::arch::x86_64::{cpu, cr};
use crate::percpu::{self, BLOCK_SIZE};
use crate::{symbols, trace};

/// Bytes of the reason that are kept.
const EPITAPH_BYTES: usize = 512;
/// Frames of a backtrace.
const MAX_FRAMES: usize = 40;
/// Trace records shown.
const TRACES: usize = 24;

/// What is left behind.
#[repr(C)]
pub struct Epitaph {
    /// The CPU that panicked plus one; 0 while all is well.
    cpu_plus_1: AtomicU32,
    /// Bytes of `reason` in use.
    len: AtomicU32,
    /// Why.
    reason: [AtomicU8; EPITAPH_BYTES],
}

/// The epitaph, under a fixed name.
// SAFETY: no other symbol has this name.
#[unsafe(no_mangle)]
pub static XK_EPITAPH: Epitaph =
    Epitaph { cpu_plus_1: AtomicU32::new(0), len: AtomicU32::new(0), reason: [const { AtomicU8::new(0) }; EPITAPH_BYTES] };

impl Write for &Epitaph {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        let from = self.len.load(Ordering::Relaxed) as usize;
        for (slot, byte) in self.reason.iter().skip(from).zip(text.bytes()) {
            slot.store(byte, Ordering::Relaxed);
            self.len.fetch_add(1, Ordering::Relaxed);
        }
        Ok(())
    }
}

static PANICKING: AtomicBool = AtomicBool::new(false);

#[panic_handler]
fn on_panic(info: &PanicInfo<'_>) -> ! {
    let frame: u64;
    // SAFETY: reads the frame pointer.
    unsafe { core::arch::asm!("mov {}, rbp", out(reg) frame, options(nomem, nostack, preserves_flags)) };
    match info.location() {
        Some(at) => die(format_args!("{} ({}:{})", info.message(), at.file(), at.line()), None, frame),
        None => die(format_args!("{}", info.message()), None, frame),
    }
}

/// A trap in ring 0 that neither the exception table nor anything else expected, or one that no guest can take.
pub fn unexpected_trap(regs: &GuestRegs) -> ! {
    let name = usize::try_from(regs.vector).ok().and_then(|v| EXCEPTIONS.get(v)).copied().unwrap_or("interrupt");
    die(format_args!("unexpected {name} (vector {}, error {:#x}) at {:#x}", regs.vector, regs.error_code, regs.rip), Some(regs), regs.rbp)
}

const EXCEPTIONS: [&str; 22] = [
    "#DE divide error",
    "#DB debug",
    "NMI",
    "#BP breakpoint",
    "#OF overflow",
    "#BR bound range",
    "#UD invalid opcode",
    "#NM device not available",
    "#DF double fault",
    "coprocessor overrun",
    "#TS invalid TSS",
    "#NP segment not present",
    "#SS stack fault",
    "#GP general protection",
    "#PF page fault",
    "reserved exception",
    "#MF x87 fault",
    "#AC alignment check",
    "#MC machine check",
    "#XM SIMD fault",
    "#VE virtualization",
    "#CP control protection",
];

fn die(reason: fmt::Arguments<'_>, regs: Option<&GuestRegs>, frame: u64) -> ! {
    if PANICKING.swap(true, Ordering::SeqCst) {
        cpu::halt();
    }
    let cpu = percpu::this().id;
    XK_EPITAPH.cpu_plus_1.store(cpu.wrapping_add(1), Ordering::Relaxed);
    let _ = (&XK_EPITAPH).write_fmt(reason);
    let _ = tell(reason, cpu, regs, frame);
    power::stop(Verdict::Failure)
}

fn tell(reason: fmt::Arguments<'_>, cpu: u32, regs: Option<&GuestRegs>, frame: u64) -> fmt::Result {
    let mut out = Emergency;
    writeln!(out, "\nX-Kernel: panic on cpu {cpu}: {reason}")?;
    if let Some(r) = regs {
        writeln!(out, "  rip {:#018x}  cs {:#06x}  rflags {:#010x}  rsp {:#018x}  ss {:#06x}", r.rip, r.cs, r.rflags, r.rsp, r.ss)?;
        writeln!(out, "  rax {:#018x}  rbx {:#018x}  rcx {:#018x}  rdx {:#018x}", r.rax, r.rbx, r.rcx, r.rdx)?;
        writeln!(out, "  rsi {:#018x}  rdi {:#018x}  rbp {:#018x}  r8  {:#018x}", r.rsi, r.rdi, r.rbp, r.r8)?;
        writeln!(out, "  r9  {:#018x}  r10 {:#018x}  r11 {:#018x}  r12 {:#018x}", r.r9, r.r10, r.r11, r.r12)?;
        writeln!(out, "  r13 {:#018x}  r14 {:#018x}  r15 {:#018x}", r.r13, r.r14, r.r15)?;
    }
    writeln!(out, "  cr0 {:#x}  cr2 {:#018x}  cr3 {:#x}  cr4 {:#x}", cr::cr0(), cr::cr2(), cr::cr3(), cr::cr4().bits())?;
    writeln!(out, "backtrace:")?;
    if let Some(r) = regs {
        line(&mut out, r.rip)?;
    }
    backtrace(&mut out, frame)?;
    writeln!(out, "trace, newest last:")?;
    trace::show(TRACES, |text| {
        let _ = writeln!(Emergency, "  {text}");
    });
    writeln!(out, "X-Kernel: stopped")
}

fn line(out: &mut Emergency, address: u64) -> fmt::Result {
    match symbols::lookup(address) {
        Some((name, offset)) => writeln!(out, "  {address:#018x} {name}+{offset:#x}"),
        None => writeln!(out, "  {address:#018x}"),
    }
}

/// Follows saved frame pointers upwards, as long as they stay in the stack block that this code runs on and the return
/// addresses are ours.
fn backtrace(out: &mut Emergency, mut frame: u64) -> fmt::Result {
    let here = &raw const frame as u64;
    let block = !(BLOCK_SIZE as u64).wrapping_sub(1);
    for _ in 0..MAX_FRAMES {
        if frame & block != here & block || frame & 7 != 0 || frame | !block > u64::MAX.wrapping_sub(16) {
            break;
        }
        let words = core::ptr::with_exposed_provenance::<[u64; 2]>(frame as usize);
        // SAFETY: aligned, and inside the stack block that this CPU runs on, which is always mapped.
        let [next, ret] = unsafe { words.read_volatile() };
        if !symbols::is_code(ret) {
            break;
        }
        // The call, not what comes after it.
        line(out, ret.wrapping_sub(1))?;
        if next <= frame {
            break;
        }
        frame = next;
    }
    Ok(())
}
