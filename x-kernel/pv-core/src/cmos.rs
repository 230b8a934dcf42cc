//! The clock in CMOS (MC146818): what its bytes say, and what they would say at a given time.

/// The register that chooses the format of the others.
pub const STATUS_B: u8 = 11;
/// Seconds, minutes, hours, day, month, year.
pub const TIME: [u8; 6] = [0, 2, 4, 7, 8, 9];

/// Status B: numbers are binary, not decimal digits; hours go to 23.
const BINARY: u8 = 1 << 2;
const HOURS_24: u8 = 1 << 1;
/// Status A: the usual divider and rate. Its top bit, an update under way, is clear.
const USUAL_RATE: u8 = 0x26;
/// Status D: the battery is good.
const VALID: u8 = 1 << 7;
/// Where the firmware keeps the century.
const CENTURY: u8 = 0x32;

/// Days from 1970-01-01 to a date of the Gregorian calendar, `month` and `day` from 1.
fn days(year: u64, month: u64, day: u64) -> u64 {
    // Years begin in March here, so that the leap day is the last.
    let (y, m) = if month > 2 { (year, month.wrapping_sub(3)) } else { (year.wrapping_sub(1), month.wrapping_add(9)) };
    let whole = y.wrapping_mul(365).wrapping_add(y / 4).wrapping_sub(y / 100).wrapping_add(y / 400);
    let in_year = m.wrapping_mul(153).wrapping_add(2) / 5;
    whole.wrapping_add(in_year).wrapping_add(day).wrapping_sub(719_469)
}

/// Year, month and day that begin `days` days after 1970-01-01.
fn date(days_since: u64) -> (u64, u64, u64) {
    // A guess that is never too late, then on to the right one.
    let mut year = (days_since / 366).wrapping_add(1970);
    while days(year.wrapping_add(1), 1, 1) <= days_since {
        year = year.wrapping_add(1);
    }
    let month = (2..=12).rev().find(|&month| days(year, month, 1) <= days_since).unwrap_or(1);
    (year, month, days_since.wrapping_sub(days(year, month, 1)).wrapping_add(1))
}

/// Seconds since 1970, UTC, that the bytes of [`TIME`] say under `status_b`, if they say a time.
pub fn decode(bytes: [u8; 6], status_b: u8) -> Option<u64> {
    let binary = status_b & BINARY != 0;
    let number = |byte: u8| -> Option<u64> {
        if binary {
            return Some(byte.into());
        }
        let (tens, ones) = (byte >> 4, byte & 15);
        (tens <= 9 && ones <= 9).then(|| u64::from(tens).wrapping_mul(10).wrapping_add(ones.into()))
    };
    let [s, mi, h, d, mo, y] = bytes;
    let twelve = status_b & HOURS_24 == 0;
    let afternoon = twelve && h & 0x80 != 0;
    let mut hour = number(if twelve { h & 0x7f } else { h })?;
    if twelve {
        hour = hour.checked_rem(12)?.wrapping_add(if afternoon { 12 } else { 0 });
    }
    let (second, minute, day, month, year) = (number(s)?, number(mi)?, number(d)?, number(mo)?, number(y)?);
    if second > 60 || minute > 59 || hour > 23 || !(1..=31).contains(&day) || !(1..=12).contains(&month) || year > 99 {
        return None;
    }
    let date = days(year.wrapping_add(if year < 70 { 2000 } else { 1900 }), month, day);
    Some(date.wrapping_mul(24).wrapping_add(hour).wrapping_mul(60).wrapping_add(minute).wrapping_mul(60).wrapping_add(second))
}

/// What register `number` says `seconds` after 1970: in decimal digits, hours to 23, never in the middle of an update.
pub fn register(number: u8, seconds: u64) -> u8 {
    let (days_since, in_day) = (seconds / 86_400, seconds % 86_400);
    let (year, month, day) = date(days_since);
    let digits = |n: u64| u8::try_from(((n / 10 % 10) << 4) | (n % 10)).unwrap_or(0);
    match number {
        0 => digits(in_day % 60),
        2 => digits(in_day / 60 % 60),
        4 => digits(in_day / 3600),
        // Sunday is 1; the first day was a Thursday.
        6 => digits((days_since.wrapping_add(4) % 7).wrapping_add(1)),
        7 => digits(day),
        8 => digits(month),
        9 => digits(year % 100),
        10 => USUAL_RATE,
        STATUS_B => HOURS_24,
        13 => VALID,
        CENTURY => digits(year / 100),
        _ => 0,
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// 1970-01-01 to 2069-12-31: what two digits of a year can mean.
    const END: u64 = 3_155_760_000;

    #[test]
    fn known_times() {
        // 2024-02-29 12:34:56, a Thursday.
        let at = |number| register(number, 1_709_210_096);
        assert_eq!([0, 2, 4, 6, 7, 8, 9, CENTURY].map(at), [0x56, 0x34, 0x12, 0x05, 0x29, 0x02, 0x24, 0x20]);
        assert_eq!(decode([0x56, 0x34, 0x12, 0x29, 0x02, 0x24], HOURS_24), Some(1_709_210_096));
        assert_eq!(decode([56, 34, 0x80 | 12, 29, 2, 24], BINARY), Some(1_709_210_096));
        assert_eq!(decode([0xff; 6], HOURS_24), None);
        assert_eq!(decode([0; 6], HOURS_24), None);
        assert_eq!(decode([0, 0, 0x24, 1, 1, 0], HOURS_24), None);
    }

    proptest! {
        #[test]
        fn what_is_said_is_understood(seconds in 0..END) {
            prop_assert_eq!(decode(TIME.map(|number| register(number, seconds)), register(STATUS_B, seconds)), Some(seconds));
        }

        #[test]
        fn no_bytes_and_no_time_are_too_strange(bytes in any::<[u8; 6]>(), status in any::<u8>(), number in any::<u8>(), seconds in 0..1u64 << 40) {
            let _time = decode(bytes, status);
            let _byte = register(number, seconds);
        }
    }
}
