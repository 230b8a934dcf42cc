//! Stopping the machine.

// UNSAFETY: writes to the debug-exit port.
#![expect(unsafe_code, reason = "the debug-exit port")]

use core::sync::atomic::{AtomicBool, Ordering};

use super::{cpu, port};

/// QEMU's `isa-debug-exit` device.
const DEBUG_EXIT: u16 = 0xf4;

/// How a run ends; the values are what `debug-exit` reports.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Verdict {
    /// Everything that was asked for is done.
    Success = 0x10,
    /// A panic or a failed self-test.
    Failure = 0x11,
}

/// Whether the command line says that the device is there.
static ENABLED: AtomicBool = AtomicBool::new(false);

/// Makes [`stop`] leave the emulator.
pub fn enable_debug_exit() {
    ENABLED.store(true, Ordering::Relaxed);
}

/// Ends the run: leaves the emulator if the command line says `debug-exit`, else halts.
pub fn stop(verdict: Verdict) -> ! {
    if ENABLED.load(Ordering::Relaxed) {
        // SAFETY: the operator says that the debug-exit device is at this port; it ends the machine.
        unsafe { port::out32(DEBUG_EXIT, verdict as u32) };
    }
    cpu::halt()
}
