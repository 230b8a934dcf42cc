//! The real-time clock: wall-clock time at boot. Answers to Xen's `get_cmos_time`.

// UNSAFETY: reads CMOS through its ports.
#![expect(unsafe_code, reason = "CMOS ports")]

use pv_core::cmos;

use super::{port, tsc};
use crate::sync::InitOnce;

const INDEX: u16 = 0x70;
const DATA: u16 = 0x71;
/// Bit 7 of the index keeps NMIs off.
const NMI_OFF: u8 = 0x80;
const UPDATING: u8 = 0x80;

fn register(number: u8) -> u8 {
    // SAFETY: selects a CMOS byte; nothing else in the X-Kernel uses CMOS.
    unsafe { port::out8(INDEX, number | NMI_OFF) };
    // SAFETY: reads the byte that was selected.
    unsafe { port::in8(DATA) }
}

/// Seconds since 1970, UTC. None if there is no clock that makes sense. Waits for at most a moment: the clock is
/// read until two readings outside an update agree.
fn read() -> Option<u64> {
    let mut last = None;
    for _ in 0..20_000 {
        if register(10) & UPDATING != 0 {
            core::hint::spin_loop();
            continue;
        }
        let bytes = cmos::TIME.map(register);
        if last == Some(bytes) {
            let time = cmos::decode(bytes, register(cmos::STATUS_B));
            // SAFETY: leaves CMOS on a harmless register and lets NMIs in.
            unsafe { port::out8(INDEX, 13) };
            return time;
        }
        last = Some(bytes);
    }
    None
}

/// Wall-clock time at time 0 of the X-Kernel's clock, in ns since 1970.
static EPOCH_NS: InitOnce<u64> = InitOnce::new();

/// Reads the clock. Needs the TSC's.
pub fn init() {
    match read() {
        Some(seconds) => {
            let _ = EPOCH_NS.set(seconds.saturating_mul(1_000_000_000).saturating_sub(tsc::now_ns()));
            log::info!("clock: rtc says {seconds} s since 1970");
        }
        None => log::warn!("clock: the rtc is missing or makes no sense; it is 1970"),
    }
}

/// Wall-clock time at time 0 of the X-Kernel's clock, in ns since 1970; 0 if unknown.
pub fn boot_wall_ns() -> u64 {
    EPOCH_NS.get().copied().unwrap_or(0)
}

/// Wall-clock time now, in seconds since 1970.
pub fn wall_seconds() -> u64 {
    boot_wall_ns().saturating_add(tsc::now_ns()) / 1_000_000_000
}
