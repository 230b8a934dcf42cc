//! The real-time clock: wall-clock time at boot. Answers to Xen's `get_cmos_time`.

// UNSAFETY: reads CMOS through its ports.
#![expect(unsafe_code, reason = "CMOS ports")]

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

/// Seconds, minutes, hours, day, month, year as CMOS holds them.
fn raw() -> [u8; 6] {
    [0, 2, 4, 7, 8, 9].map(register)
}

/// Days from 1970-01-01 to a date of the Gregorian calendar, `month` and `day` from 1.
fn days(year: u64, month: u64, day: u64) -> u64 {
    // Years begin in March here, so that the leap day is the last.
    let (y, m) = if month > 2 { (year, month.wrapping_sub(3)) } else { (year.wrapping_sub(1), month.wrapping_add(9)) };
    let whole = y.wrapping_mul(365).wrapping_add(y / 4).wrapping_sub(y / 100).wrapping_add(y / 400);
    let in_year = m.wrapping_mul(153).wrapping_add(2) / 5;
    whole.wrapping_add(in_year).wrapping_add(day).wrapping_sub(719_469)
}

/// Seconds since 1970 that the bytes of CMOS say, if they say a time.
fn decode(bytes: [u8; 6], status_b: u8) -> Option<u64> {
    let binary = status_b & 4 != 0;
    let number = |byte: u8| -> Option<u64> {
        if binary {
            return Some(byte.into());
        }
        let (tens, ones) = (byte >> 4, byte & 15);
        (tens <= 9 && ones <= 9).then(|| u64::from(tens).wrapping_mul(10).wrapping_add(ones.into()))
    };
    let [s, mi, h, d, mo, y] = bytes;
    let afternoon = status_b & 2 == 0 && h & 0x80 != 0;
    let mut hour = number(if status_b & 2 == 0 { h & 0x7f } else { h })?;
    if status_b & 2 == 0 {
        hour = hour.checked_rem(12)?.wrapping_add(if afternoon { 12 } else { 0 });
    }
    let (second, minute, day, month, year) = (number(s)?, number(mi)?, number(d)?, number(mo)?, number(y)?);
    if second > 60 || minute > 59 || hour > 23 || !(1..=31).contains(&day) || !(1..=12).contains(&month) || year > 99 {
        return None;
    }
    let date = days(year.wrapping_add(if year < 70 { 2000 } else { 1900 }), month, day);
    Some(date.wrapping_mul(24).wrapping_add(hour).wrapping_mul(60).wrapping_add(minute).wrapping_mul(60).wrapping_add(second))
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
        let bytes = raw();
        if last == Some(bytes) {
            let time = decode(bytes, register(11));
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
