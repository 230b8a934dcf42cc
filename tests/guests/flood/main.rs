//! A guest that prints without end, and does what the hypervisor might log (XSA-118): beside others it has to wait, and
//! they do not.
#![no_std]
#![no_main]
#![expect(clippy::arithmetic_side_effects, reason = "a mistake here is a failed experiment")]

use ptk::check::holds;
use ptk::{hypercall, memory, println};
use xen_abi::console::CONSOLEIO_write;
use xen_abi::hypercall::__HYPERVISOR_console_io;

/// What is printed: so much more than may be printed at once (256 KiB) that at the limit (10 kB a second) the rest takes
/// seconds. However slow the machine is: all of it takes no less.
const BYTES: u64 = 300 << 10;
const LINE: [u8; 128] = {
    let mut line = [b'.'; 128];
    line[127] = b'\n';
    line
};

fn main() {
    let from = memory::now_ns();
    let mut errors = 0u64;
    for _ in 0..BYTES / LINE.len() as u64 {
        hypercall(__HYPERVISOR_console_io, &[CONSOLEIO_write.into(), LINE.len() as u64, LINE.as_ptr() as u64]);
        // Calls that are refused, in every group.
        for nr in 0..56 {
            if ![2, 3, 4, 5, 6, 13, 18, 23, 29].contains(&nr) {
                errors += u64::from(hypercall(nr, &[u64::MAX, u64::MAX, u64::MAX, u64::MAX]) < 0);
            }
        }
    }
    let took_ms = (memory::now_ns() - from) / 1_000_000;
    println!("flood: {BYTES} bytes and {errors} errors in {took_ms} ms");
    holds("XSA-118 what is above the limit takes its time", took_ms > 3500);
}

ptk::guest!(main);
