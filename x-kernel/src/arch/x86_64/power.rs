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

/// Switches the machine off, as far as it can be told to without the firmware's own code: through the emulator's
/// debug-exit device, else by the power-management port that the common emulators have; else it halts.
pub fn off() -> ! {
    if !ENABLED.load(Ordering::Relaxed) {
        for (at, value) in [(0x604, 0x2000), (0xb004, 0x2000), (0x4004, 0x3400)] {
            // SAFETY: the S5 request of QEMU's q35 and pc, Bochs and VirtualBox; elsewhere nothing listens there
            // or the machine, which has no work left, stops in another way.
            unsafe { port::out16(at, value) };
        }
    }
    stop(Verdict::Success)
}

/// Resets the machine through the keyboard controller, else by a triple fault.
pub fn reboot() -> ! {
    // SAFETY: pulses the reset line (0xfe to the controller's command port).
    unsafe { port::out8(0x64, 0xfe) };
    super::idt::triple_fault()
}
