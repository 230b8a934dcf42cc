//! Printing, by `console_io`.

use core::fmt;

use xen_abi::console::CONSOLEIO_write;
use xen_abi::hypercall::__HYPERVISOR_console_io;

use crate::hypercall;

/// The console.
#[derive(Debug)]
pub struct Console;

impl fmt::Write for Console {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        hypercall(__HYPERVISOR_console_io, &[CONSOLEIO_write.into(), text.len() as u64, text.as_ptr() as u64]);
        Ok(())
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
    hypercall(__HYPERVISOR_console_io, &[CONSOLEIO_write.into(), line.1 as u64 + 1, line.0.as_ptr() as u64]);
}

/// Prints a line.
#[macro_export]
macro_rules! println {
    ($($arg:tt)*) => { $crate::console::print_line(format_args!($($arg)*)) };
}
