//! A guest's clocks against the host's.
//!
//! The script of a Linux guest says `CLOCK UPTIME SECONDS-SINCE-1970` early and late; the host knows when these lines
//! came. The bounds are wide, for a host that has other things to do: they are to notice a clock that runs at another
//! rate or from another year, not a slow machine.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// What a guest says before its two clocks.
const MARK: &str = "CLOCK ";
/// A clock may go by so much faster or slower, and a line may come so much late, in seconds.
const RATE: f64 = 1.5;
const LATE: f64 = 5.0;
/// How far the time of day may be off, in seconds.
const DAY: f64 = 60.0;

/// One reading, in seconds.
struct Reading {
    /// Since the machine was started, by the host.
    host: f64,
    /// Since the guest was booted, by itself.
    uptime: f64,
    /// Since 1970, by the guest.
    date: f64,
}

/// What is wrong with the clocks of the domains whose lines came at `times` after `started`.
pub fn faults(times: &[(Duration, String)], started: SystemTime) -> Vec<String> {
    let read = |(at, line): &(Duration, String)| {
        let (domain, words) = line.split_once(MARK)?;
        let (uptime, date) = words.split_once(' ')?;
        Some((domain.to_string(), Reading { host: at.as_secs_f64(), uptime: uptime.parse().ok()?, date: date.trim().parse().ok()? }))
    };
    let readings: Vec<_> = times.iter().filter_map(read).collect();
    let epoch = started.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs_f64();
    let mut faults = Vec::new();
    for (i, (domain, last)) in readings.iter().enumerate().rev() {
        let off = last.date - (epoch + last.host);
        if off.abs() > DAY {
            faults.push(format!("{domain}the guest's date is wrong by {off:.0} s"));
        }
        let Some((_, first)) = readings[..i].iter().find(|r| r.0 == *domain) else { continue };
        let (guest, host) = (last.uptime - first.uptime, last.host - first.host);
        if guest > host * RATE + LATE || host > guest * RATE + LATE {
            faults.push(format!("{domain}{guest:.1} s of the guest's clock took {host:.1} s"));
        }
    }
    faults
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(lines: &[(u64, &str)]) -> usize {
        let times: Vec<_> = lines.iter().map(|&(at, line)| (Duration::from_secs(at), line.to_string())).collect();
        faults(&times, UNIX_EPOCH + Duration::from_secs(1_000_000)).len()
    }

    #[test]
    fn clocks_that_agree() {
        assert_eq!(found(&[(10, "CLOCK 3.20 1000010"), (40, "CLOCK 33.10 1000040")]), 0);
        assert_eq!(found(&[(10, "CLOCK 3.20 1000010"), (40, "CLOCK 20.20 1000033")]), 0);
        assert_eq!(found(&[(10, "[b] CLOCK 3 1000010"), (11, "[c] CLOCK 900 1000010"), (12, "[b] CLOCK 5 1000012")]), 0);
    }

    #[test]
    fn clocks_that_are_wrong() {
        assert_eq!(found(&[(10, "CLOCK 3.20 1000010"), (40, "CLOCK 63.20 1000040")]), 1);
        assert_eq!(found(&[(10, "CLOCK 3.20 1000010"), (40, "CLOCK 18.20 1000040")]), 1);
        assert_eq!(found(&[(10, "[b] CLOCK 3 1000010"), (30, "[b] CLOCK 3 1000030"), (31, "[c] CLOCK 900 2000031")]), 2);
        assert_eq!(found(&[(10, "CLOCK 3.20 10")]), 1);
    }
}
