//! Printing, by `console_io`, or by the console's ring where only the first domain may make that call.

use core::fmt;
use core::sync::atomic::{AtomicU32, Ordering};

use xen_abi::console::{CONSOLEIO_write, XENCONS_OUT_BYTES, offset};
use xen_abi::hypercall::{__HYPERVISOR_console_io, __HYPERVISOR_sched_op};
use xen_abi::sched::SCHEDOP_yield;

use crate::start::start_info;
use crate::{event, hypercall, instr, memory};

const EPERM: i64 = -1;

/// The console.
#[derive(Debug)]
pub struct Console;

impl fmt::Write for Console {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        write(text.as_bytes());
        Ok(())
    }
}

fn write(text: &[u8]) {
    if hypercall(__HYPERVISOR_console_io, &[CONSOLEIO_write.into(), text.len() as u64, text.as_ptr() as u64]) == EPERM {
        text.chunks(XENCONS_OUT_BYTES).for_each(by_ring);
    }
}

/// Puts no more into the ring than it holds, and waits until it has been read: so it is empty each time.
fn by_ring(text: &[u8]) {
    let info = start_info();
    let ring = memory::VIRT_BASE + memory::m2p(info.console_mfn) * memory::PAGE;
    // SAFETY: aligned words of the ring's page, only ever used by atomics.
    let index = |at: usize| unsafe { AtomicU32::from_ptr((ring + at as u64) as *mut u32) };
    let (read, written) = (index(offset::OUT_CONS), index(offset::OUT_PROD));
    let mut at = written.load(Ordering::Relaxed);
    for &byte in text {
        instr::store(ring + (offset::OUT + at as usize % XENCONS_OUT_BYTES) as u64, byte);
        at = at.wrapping_add(1);
    }
    // The reader sees the bytes before it sees that there are some.
    written.store(at, Ordering::Release);
    event::send(info.console_evtchn);
    while read.load(Ordering::Relaxed) != at {
        hypercall(__HYPERVISOR_sched_op, &[SCHEDOP_yield.into()]);
    }
}

/// A line, collected and then sent in one piece.
pub fn print_line(text: fmt::Arguments<'_>) {
    struct Line([u8; 400], usize);
    impl fmt::Write for Line {
        fn write_str(&mut self, text: &str) -> fmt::Result {
            let n = text.len().min(self.0.len() - 1 - self.1);
            self.0[self.1..self.1 + n].copy_from_slice(&text.as_bytes()[..n]);
            self.1 += n;
            Ok(())
        }
    }
    let mut line = Line([0; 400], 0);
    let _ = fmt::Write::write_fmt(&mut line, text);
    line.0[line.1] = b'\n';
    write(&line.0[..=line.1]);
}

/// Prints a line.
#[macro_export]
macro_rules! println {
    ($($arg:tt)*) => { $crate::console::print_line(format_args!($($arg)*)) };
}
