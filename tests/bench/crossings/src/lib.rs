//! A plugin for QEMU that counts entries to ring 0, by reason, and instructions, without asking the hypervisor.
//!
//! All that it relies on is the PV ABI: the hypervisor runs in slots 256–271 of the address space, guests run
//! elsewhere, in ring 3. An entry is either the first block of the handler that the IDT names, with a saved code
//! selector of ring 3, or a block of the hypervisor after an instruction of a guest's that is `syscall`. So it counts
//! Xen and the X-Kernel in the same way, and with `native=on` a Linux on the machine itself: there ring 0 is the upper
//! half, and processes are who enters it.
//!
//! `-plugin libcrossings.so,out=FILE`: FILE gets a line of JSON when ring 0's part of the address space is entered for
//! the first time, at the first hypercall, at the first system call that enters ring 0, at each `times` system call (the
//! marks of a script; of a guest without processes, a hypercall of that number) and at the end. With `profile=FILE`, that file gets the instructions by block, at the same moments.
//! With `interrupts=FILE`, that file gets at the end which instructions of guests interrupts came before, and how often.

// UNSAFETY: it is loaded into a C program and talks to it.
#![expect(unsafe_code, reason = "a C interface")]

mod counts;
mod interrupts;
mod profile;
mod qemu;
mod tables;

use std::ffi::{CStr, c_char, c_int, c_uint, c_void};
use std::fs::File;
use std::io::Write;
use std::ops::RangeInclusive;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use counts::{Counts, HYPERCALLS};
use qemu::Register;

/// The version of the plugin interface that this speaks: that of QEMU 7.2.
#[unsafe(no_mangle)]
#[used]
static qemu_plugin_version: c_int = 1;

/// The hypervisor's part of the address space.
const HYPERVISOR: RangeInclusive<u64> = 0xffff_8000_0000_0000..=0xffff_87ff_ffff_ffff;
/// Linux's number of `times`: a call that no boot makes and a shell has a word for. As a hypercall's number, it is none, and
/// a mark of guests without processes.
const MARK: u64 = 100;

static COUNTS: Counts = Counts::new();
/// How often ring 0 has executed `lidt`, and how often it had when [`IDT`] was looked up.
static LIDTS: AtomicU64 = AtomicU64::new(0);
static LOOKED_UP: AtomicU64 = AtomicU64::new(0);
/// Where the interrupt descriptor table is; 0 until ring 0 has loaded it.
static IDT: AtomicU64 = AtomicU64::new(0);
/// The guests' instructions when the hypervisor last ran.
static SEEN: AtomicU64 = AtomicU64::new(0);
/// Whether there is no hypervisor.
static NATIVE: AtomicBool = AtomicBool::new(false);
/// What has been there once: code of ring 0, a hypercall, a system call.
static ENTERED: AtomicBool = AtomicBool::new(false);
static HYPERCALLED: AtomicBool = AtomicBool::new(false);
static CALLED: AtomicBool = AtomicBool::new(false);
static OUT: Mutex<Option<File>> = Mutex::new(None);

/// QEMU's entry.
///
/// # Safety
/// `argv` must be an array of `argc` strings.
#[unsafe(no_mangle)]
unsafe extern "C" fn qemu_plugin_install(id: qemu::Id, _info: *const c_void, argc: c_int, argv: *const *const c_char) -> c_int {
    // SAFETY: the caller's obligation.
    let args = if argc > 0 { unsafe { std::slice::from_raw_parts(argv, argc.unsigned_abs() as usize) } } else { &[] };
    for &arg in args {
        // SAFETY: the caller's obligation.
        let arg = unsafe { CStr::from_ptr(arg) }.to_string_lossy();
        if arg == "native=on" {
            NATIVE.store(true, Ordering::Relaxed);
            continue;
        }
        let (key, path) = arg.split_once('=').unwrap_or((&arg, ""));
        match (key, File::create(path)) {
            ("out", Ok(file)) => *out() = Some(file),
            ("profile", Ok(file)) => profile::start(file),
            ("interrupts", Ok(file)) => interrupts::start(file),
            _ => {
                eprintln!("crossings: '{arg}' is no native=on, and no out=FILE, profile=FILE or interrupts=FILE that can be written");
                return 1;
            }
        }
    }
    qemu::register(id, translated, ended);
    0
}

fn out() -> std::sync::MutexGuard<'static, Option<File>> {
    OUT.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
}

/// Whether code at `address` is that of ring 0, whose entries are counted.
fn in_ring0(address: u64) -> bool {
    if NATIVE.load(Ordering::Relaxed) { address >= *HYPERVISOR.start() } else { HYPERVISOR.contains(&address) }
}

/// Writes the counters out, as they are `at` a moment.
fn write_line(at: &str) {
    profile::mark();
    if let Some(file) = &mut *out()
        && let Err(error) = writeln!(file, "{}", COUNTS.line(at))
    {
        eprintln!("crossings: {error}");
    }
}

/// The same, the first time.
fn write_line_once(done: &AtomicBool, at: &str) {
    if !done.load(Ordering::Relaxed) {
        done.store(true, Ordering::Relaxed);
        write_line(at);
    }
}

extern "C" fn ended(_: qemu::Id, _: *mut c_void) {
    write_line("end");
    interrupts::end();
}

/// Plants the counters of a block.
extern "C" fn translated(_: qemu::Id, block: qemu::Block) {
    let address = qemu::address(block);
    if let Some(counter) = profile::counter(address) {
        qemu::instructions(block).for_each(|(instruction, _)| qemu::count(instruction, counter));
    }
    if !in_ring0(address) {
        let counter = if address > *HYPERVISOR.end() { &COUNTS.kernel } else { &COUNTS.user };
        for (instruction, bytes) in qemu::instructions(block) {
            qemu::count(instruction, if Kind::of(&bytes) == Kind::String { &COUNTS.guest_string_steps } else { counter });
        }
        return;
    }
    match vector_of(address) {
        Some(vector) => qemu::on_block(block, vector_entered, vector),
        None => qemu::on_block(block, block_entered, address),
    }
    for (instruction, bytes) in qemu::instructions(block) {
        let kind = Kind::of(&bytes);
        qemu::count(instruction, if kind == Kind::String { &COUNTS.string_steps } else { &COUNTS.ring0 });
        match kind {
            Kind::Other | Kind::String => {}
            Kind::LoadCr3 => qemu::count(instruction, &COUNTS.cr3),
            Kind::LoadCr4 => qemu::count(instruction, &COUNTS.cr4),
            Kind::Invlpg => qemu::count(instruction, &COUNTS.invlpg),
            Kind::PortIo => qemu::count(instruction, &COUNTS.port_io),
            Kind::Lidt => qemu::count(instruction, &LIDTS),
        }
    }
}

/// Instructions that are counted apart.
#[derive(Clone, Copy, Eq, PartialEq)]
enum Kind {
    LoadCr3,
    LoadCr4,
    Invlpg,
    Lidt,
    PortIo,
    String,
    Other,
}

impl Kind {
    fn of(bytes: &[u8]) -> Self {
        let prefixes =
            bytes.iter().take_while(|b| matches!(b, 0x66 | 0x67 | 0xf2 | 0xf3 | 0x26 | 0x2e | 0x36 | 0x3e | 0x64 | 0x65)).count();
        let repeated = bytes.iter().take(prefixes).any(|b| matches!(b, 0xf2 | 0xf3));
        let mut rest = bytes.get(prefixes..).unwrap_or(&[]);
        let rex = rest.first().copied().filter(|b| b & 0xf0 == 0x40);
        if rex.is_some() {
            rest = rest.get(1..).unwrap_or(&[]);
        }
        // The field that names a control register or goes on with the opcode; REX.R would make it another register.
        let field = |modrm: u8| (modrm >> 3) & 7 | (rex.unwrap_or(0) & 4) << 1;
        let in_memory = |modrm: u8| modrm >> 6 != 3;
        match *rest {
            [0x0f, 0x22, modrm, ..] if field(modrm) == 3 => Self::LoadCr3,
            [0x0f, 0x22, modrm, ..] if field(modrm) == 4 => Self::LoadCr4,
            [0x0f, 0x01, modrm, ..] if in_memory(modrm) && field(modrm) & 7 == 7 => Self::Invlpg,
            [0x0f, 0x01, modrm, ..] if in_memory(modrm) && field(modrm) & 7 == 3 => Self::Lidt,
            [0xe4..=0xe7 | 0xec..=0xef, ..] => Self::PortIo,
            [0x6c..=0x6f | 0xa4..=0xa7 | 0xaa..=0xaf, ..] if repeated => Self::String,
            _ => Self::Other,
        }
    }
}

/// The vector whose handler begins at `address`, as the table stands: a handler's block is translated when it is first
/// entered.
fn vector_of(address: u64) -> Option<u64> {
    let lidts = LIDTS.load(Ordering::Relaxed);
    if LOOKED_UP.swap(lidts, Ordering::Relaxed) != lidts {
        IDT.store(qemu::idt().unwrap_or(0), Ordering::Relaxed);
    }
    let idt = IDT.load(Ordering::Relaxed);
    let mut gates = [0; 4096];
    if idt == 0 || !qemu::read_memory(idt, &mut gates) {
        return None;
    }
    let handler = |gate: &[u8]| match *gate {
        [a, b, _, _, _, _, c, d, e, f, g, h, ..] => u64::from_le_bytes([a, b, c, d, e, f, g, h]),
        _ => 0,
    };
    gates.chunks_exact(16).position(|gate| handler(gate) == address).map(|vector| vector as u64)
}

/// What guests have executed.
fn guests() -> u64 {
    let counters = [&COUNTS.kernel, &COUNTS.user, &COUNTS.guest_string_steps];
    counters.iter().fold(0, |sum, counter| sum.wrapping_add(counter.load(Ordering::Relaxed)))
}

fn add(counter: Option<&AtomicU64>) {
    // Only the CPU's thread writes.
    counter.unwrap_or(&COUNTS.unexplained).fetch_add(1, Ordering::Relaxed);
}

/// The handler of a vector begins. The CPU has aligned the stack, pushed five words and maybe an error code.
extern "C" fn vector_entered(_: c_uint, vector: *mut c_void) {
    SEEN.store(guests(), Ordering::Relaxed);
    let rsp = qemu::read_register(Register::Rsp);
    let selector_at = rsp.wrapping_add(if rsp.is_multiple_of(16) { 16 } else { 8 });
    let mut selector = [0; 8];
    let known = qemu::read_memory(selector_at, &mut selector);
    match (known, selector[0] & 3) {
        (true, 3) => {
            add(COUNTS.vectors.get(vector as usize));
            let mut rip = [0; 8];
            if vector as usize >= 32 && qemu::read_memory(selector_at.wrapping_sub(8), &mut rip) {
                interrupts::came_before(u64::from_le_bytes(rip));
            }
        }
        (true, 0) => {}
        _ => add(None),
    }
}

/// Any other block of ring 0 begins: an entry if a guest has just run.
extern "C" fn block_entered(_: c_uint, _: *mut c_void) {
    write_line_once(&ENTERED, "entry");
    let now = guests();
    if SEEN.swap(now, Ordering::Relaxed) == now || IDT.load(Ordering::Relaxed) == 0 {
        return;
    }
    let back = qemu::read_register(Register::Rcx);
    let mut instruction = [0; 2];
    if !qemu::read_memory(back.wrapping_sub(2), &mut instruction) || instruction != [0x0f, 0x05] {
        add(None);
        return;
    }
    let number = qemu::read_register(Register::Rax);
    if back > *HYPERVISOR.end() {
        write_line_once(&HYPERCALLED, "hypercall");
        add(COUNTS.hypercalls.get(usize::try_from(number).map_or(HYPERCALLS - 1, |nr| nr.min(HYPERCALLS - 1))));
        let (first, second) = (qemu::read_register(Register::Rdi), qemu::read_register(Register::Rsi));
        COUNTS.table_writes.fetch_add(tables::writes(number, first, second), Ordering::Relaxed);
        if number == MARK {
            write_line("mark");
        }
        return;
    }
    write_line_once(&CALLED, "syscall");
    add(Some(&COUNTS.syscalls));
    if number == MARK {
        write_line("mark");
    }
}
