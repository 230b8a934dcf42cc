//! Stopping the machine.

// UNSAFETY: writes to the debug-exit port and to those that the firmware's tables name.
#![expect(unsafe_code, reason = "ports that stop the machine")]

use core::sync::atomic::{AtomicBool, Ordering};

use super::{cpu, port};
use crate::sync::InitOnce;

/// QEMU's `isa-debug-exit` device.
const DEBUG_EXIT: u16 = 0xf4;

/// How a run ends; the values are what `debug-exit` reports.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Verdict {
    /// Everything that was asked for is done.
    Success = 0x10,
    /// A panic or a failed self-test.
    Failure = 0x11,
    /// There was nothing to do.
    NoDomain = 0x12,
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

/// How ACPI switches the machine off (ACPI specification 6.5, 4.8.3.2 and 16.1.7).
#[derive(Clone, Copy, Debug)]
pub struct SoftOff {
    /// Port of the PM1a control register.
    pub pm1a: u16,
    /// Port of PM1b's, where there is one.
    pub pm1b: Option<u16>,
    /// Sleep type for PM1a.
    pub type_a: u8,
    /// Sleep type for PM1b.
    pub type_b: u8,
    /// The port and value that take the registers over from the firmware.
    pub enable: Option<(u16, u8)>,
}

/// How ACPI resets the machine.
#[derive(Clone, Copy, Debug)]
pub struct Reset {
    /// The port.
    pub port: u16,
    /// What to write there.
    pub value: u8,
}

static OFF: InitOnce<SoftOff> = InitOnce::new();
static RESET: InitOnce<Reset> = InitOnce::new();

/// Remembers how the machine is switched off.
pub fn set_off(how: SoftOff) {
    let _ = OFF.set(how);
}

/// Remembers how the machine is reset.
pub fn set_reset(how: Option<Reset>) {
    if let Some(how) = how {
        let _ = RESET.set(how);
    }
}

/// PM1 control: the registers are the system's, no longer the firmware's.
const SCI_EN: u16 = 1;
/// PM1 control: enter the sleep state now; its type is the field above bit 10.
const SLP_EN: u16 = 1 << 13;
const SLP_TYP_SHIFT: u32 = 10;
/// Reads of the control register until the firmware is taken to have let go: about a second.
const PATIENCE: u32 = 1 << 20;

/// Switches the machine off: through the emulator's debug-exit device if the command line says that there is one, else
/// as the firmware's tables say; else it halts.
pub fn off() -> ! {
    if !ENABLED.load(Ordering::Relaxed)
        && let Some(how) = OFF.get()
    {
        soft_off(how);
    }
    stop(Verdict::Success)
}

fn soft_off(how: &SoftOff) {
    // SAFETY: the PM1a control register, by the firmware's tables; reading it has no effect.
    let enabled = || unsafe { port::in16(how.pm1a) } & SCI_EN != 0;
    if let Some((at, value)) = how.enable.filter(|_| !enabled()) {
        // SAFETY: asks the firmware to hand the registers over, as the tables say. Nothing else is left to run.
        unsafe { port::out8(at, value) };
        let _ = (0..PATIENCE).find(|_| enabled());
    }
    let request = |kind: u8| u16::from(kind) << SLP_TYP_SHIFT | SLP_EN | SCI_EN;
    // SAFETY: requests the soft-off state; nothing is left to run.
    unsafe { port::out16(how.pm1a, request(how.type_a)) };
    if let Some(pm1b) = how.pm1b {
        // SAFETY: as above, of the second register.
        unsafe { port::out16(pm1b, request(how.type_b)) };
    }
}

/// Resets the machine: as the firmware's tables say, else through the keyboard controller, else by a triple fault.
pub fn reboot() -> ! {
    if let Some(how) = RESET.get() {
        // SAFETY: the reset register, by the firmware's tables.
        unsafe { port::out8(how.port, how.value) };
        // It may take a moment.
        let _ = (0..PATIENCE).find(|_| {
            core::hint::spin_loop();
            false
        });
    }
    // SAFETY: pulses the reset line (0xfe to the controller's command port).
    unsafe { port::out8(0x64, 0xfe) };
    super::idt::triple_fault()
}
