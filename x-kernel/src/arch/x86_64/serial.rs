//! Serial ports: COM1 or COM2 as console, COM2 for statistics; the log backend; a way out for panics.
//!
//! Nothing here waits without bound: a port that stops taking bytes is given up and stays silent. Guests' bytes and
//! log lines share the console; a log line that meets half a line of a guest starts a new one.

// UNSAFETY: claims the ports of the UARTs.
#![expect(unsafe_code, reason = "claims I/O ports")]

use core::fmt::{self, Write};
use core::sync::atomic::{AtomicU64, Ordering};

use uart_16550::backend::PioBackend;
use uart_16550::{BaudRate, Config, Uart16550};

use super::{port, tsc};
use crate::sync::{SpinLock, level};

const COM1: u16 = 0x3f8;
const COM2: u16 = 0x2f8;
/// Attempts to send a byte before the port is given up: about a second on slow hardware.
const PATIENCE: u32 = 1 << 20;
/// The line status register, and its bit for room to send.
const LSR: u16 = 5;
const LSR_ROOM: u8 = 1 << 5;

/// Which port is the console.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum Console {
    /// COM1.
    #[default]
    Com1,
    /// COM2.
    Com2,
    /// None at all.
    None,
}

/// A port that works.
struct Line {
    uart: Uart16550<PioBackend>,
    /// Whether the last byte sent ended a line.
    at_start: bool,
}

impl Line {
    fn open(base: u16) -> Option<Self> {
        // SAFETY: the range of a COM port, which nothing else in the X-Kernel drives except `Emergency`.
        let mut uart = unsafe { Uart16550::new_port(base) }.ok()?;
        let config = Config { baud_rate: BaudRate::Baud115200, ..Config::DEFAULT };
        uart.init(config).ok()?;
        Some(Self { uart, at_start: true })
    }

    /// Sends all of `bytes`; false if the port has stopped taking any.
    fn send(&mut self, bytes: &[u8]) -> bool {
        let mut rest = bytes;
        let mut patience = PATIENCE;
        while !rest.is_empty() {
            let sent = self.uart.send_bytes(rest);
            rest = rest.get(sent..).unwrap_or_default();
            if sent > 0 {
                patience = PATIENCE;
            } else if patience == 0 {
                return false;
            } else {
                patience = patience.wrapping_sub(1);
                core::hint::spin_loop();
            }
        }
        if let Some(last) = bytes.last() {
            self.at_start = *last == b'\n';
        }
        true
    }
}

/// A port, until it turns out to be dead.
struct Slot(Option<Line>);

impl Slot {
    fn send(&mut self, bytes: &[u8]) {
        if let Some(line) = &mut self.0
            && !line.send(bytes)
        {
            self.0 = None;
        }
    }

    fn start_line(&mut self) {
        if self.0.as_ref().is_some_and(|line| !line.at_start) {
            self.send(b"\r\n");
        }
    }
}

impl Write for Slot {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        let mut first = true;
        for part in text.split('\n') {
            if !core::mem::take(&mut first) {
                self.send(b"\r\n");
            }
            self.send(part.as_bytes());
        }
        Ok(())
    }
}

static CONSOLE: SpinLock<Slot, level::Console> = SpinLock::new(Slot(None));
static STATS: SpinLock<Slot, level::Console> = SpinLock::new(Slot(None));

/// The port that panics write to; 0 for none.
static EMERGENCY_PORT: AtomicU64 = AtomicU64::new(COM1 as u64);

/// The target of log lines about what a guest did: they are no errors of the X-Kernel's.
pub const GUEST: &str = "guest";

struct Logger;

impl log::Log for Logger {
    fn enabled(&self, _: &log::Metadata<'_>) -> bool {
        true
    }

    fn log(&self, record: &log::Record<'_>) {
        let mut console = CONSOLE.lock();
        console.start_line();
        let mark = match record.level() {
            _ if record.target() == GUEST => "",
            log::Level::Error => "error: ",
            log::Level::Warn => "warning: ",
            _ => "",
        };
        let _ = writeln!(console, "X-Kernel: {mark}{}", record.args());
    }

    fn flush(&self) {}
}

static LOGGER: Logger = Logger;

/// Opens COM1 as the console and makes it the log's backend. The first thing that the X-Kernel does; what the
/// command line says comes later, by [`configure`].
pub fn init() {
    CONSOLE.lock().0 = Line::open(COM1);
    let _ = log::set_logger(&LOGGER);
    log::set_max_level(log::LevelFilter::Info);
}

/// Moves the console to where the command line wants it, and opens COM2 for statistics if asked to.
pub fn configure(console: Console, stats: bool) {
    match console {
        Console::Com1 => {}
        Console::Com2 => {
            CONSOLE.lock().0 = Line::open(COM2);
            EMERGENCY_PORT.store(COM2.into(), Ordering::Relaxed);
        }
        Console::None => {
            CONSOLE.lock().0 = None;
            EMERGENCY_PORT.store(0, Ordering::Relaxed);
        }
    }
    if stats && console != Console::Com2 {
        STATS.lock().0 = Line::open(COM2);
    }
}

/// Whether statistics have somewhere to go.
pub fn has_stats() -> bool {
    STATS.lock().0.is_some()
}

/// Writes bytes to the console as they are.
pub fn write_bytes(bytes: &[u8]) {
    CONSOLE.lock().send(bytes);
}

/// Writes one line to the console with a domain's name before it.
pub fn write_line(name: &str, line: &[u8]) {
    let mut console = CONSOLE.lock();
    console.start_line();
    let _ = write!(console, "[{name}] ");
    console.send(line);
    console.send(b"\r\n");
}

/// Writes to the statistics port.
pub fn write_stats(text: fmt::Arguments<'_>) {
    let _ = STATS.lock().write_fmt(text);
}

/// Takes a byte that has come on the statistics port.
pub fn take_request() -> Option<u8> {
    STATS.lock().0.as_mut()?.uart.try_receive_byte().ok()
}

/// Sends of `bytes` what the statistics port takes at once, and returns how much that was.
pub fn offer_stats(bytes: &[u8]) -> usize {
    STATS.lock().0.as_mut().map_or(0, |line| line.uart.send_bytes(bytes))
}

/// When to look for bytes next, ns since boot: at once while some may be waiting, and else once a millisecond, for an I/O
/// port costs more than a hypercall.
static NEXT_LOOK_NS: AtomicU64 = AtomicU64::new(0);
const LOOK_NS: u64 = 1_000_000;

/// Whether [`take_byte`] is worth its cost at `now`.
pub fn may_have_input(now: u64) -> bool {
    NEXT_LOOK_NS.load(Ordering::Relaxed) <= now
}

/// Takes a byte that has been typed.
pub fn take_byte() -> Option<u8> {
    let byte = CONSOLE.lock().0.as_mut().and_then(|line| line.uart.try_receive_byte().ok());
    NEXT_LOOK_NS.store(if byte.is_some() { 0 } else { tsc::now_ns().saturating_add(LOOK_NS) }, Ordering::Relaxed);
    byte
}

/// The console without its lock, for panics.
pub struct Emergency;

impl Emergency {
    fn send(byte: u8) {
        let Ok(base @ 1..) = u16::try_from(EMERGENCY_PORT.load(Ordering::Relaxed)) else { return };
        for _ in 0..PATIENCE {
            // SAFETY: the line status register of the console; reading it clears error bits that nobody looks at.
            let status = unsafe { port::in8(base.wrapping_add(LSR)) };
            if status & LSR_ROOM != 0 {
                break;
            }
        }
        // SAFETY: the data register of the console. At worst a byte of a log line that was being sent is lost.
        unsafe { port::out8(base, byte) };
    }
}

impl Write for Emergency {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        for byte in text.bytes() {
            if byte == b'\n' {
                Self::send(b'\r');
            }
            Self::send(byte);
        }
        Ok(())
    }
}
