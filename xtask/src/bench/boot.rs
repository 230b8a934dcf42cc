//! Wall time from power-on to userspace.
//!
//! It is the time of an emulator: only ratios between runs on one host, taken alternately, mean anything.

use anyhow::{Context, Result};
use serde_json::json;

use super::{GUEST_MIB, MACHINE_MIB, PREALLOC, Under, run_image, save};
use crate::initrd::Script;
use crate::qemu::Ended;

/// The middle one.
fn median(values: &[f64]) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let at = |i: usize| sorted.get(i).copied().unwrap_or(f64::NAN);
    let half = sorted.len() / 2;
    if sorted.len() % 2 == 1 { at(half) } else { f64::midpoint(at(half.saturating_sub(1)), at(half)) }
}

/// When the first line that begins with `prefix` came, in seconds.
fn when(ended: &Ended, prefix: &str) -> Result<f64> {
    let line = ended.times.iter().find(|(_, line)| line.starts_with(prefix));
    line.map(|(time, _)| time.as_secs_f64()).with_context(|| format!("no line begins with '{prefix}'"))
}

/// `bench boot`: wall time to the first line of userspace, alternately under each.
pub fn run(runs: u32) -> Result<()> {
    let images = Under::ALL.iter().map(|u| u.image(&Script::Command(vec!["true".into()]), "boot")).collect::<Result<Vec<_>>>()?;
    let mut times = vec![(Vec::new(), Vec::new()); images.len()];
    for round in 0..runs {
        for ((under, image), (from_power, from_hello)) in Under::ALL.iter().zip(&images).zip(&mut times) {
            let ended = run_image(image, &format!("boot-{}", under.file()), &PREALLOC)?;
            let done = when(&ended, "INIT reached")?;
            from_power.push(done);
            from_hello.push(done - when(&ended, under.first_line())?);
            eprintln!("xtask: run {} of {runs}: {}: {done:.2} s", round + 1, under.name());
        }
    }
    let ours = times.first().map(|(power, hello)| (median(power), median(hello))).context("nothing was measured")?;
    println!("wall time to `INIT reached`, median of {runs}; ratio: the X-Kernel's time divided by this one's");
    println!("{:<20} {:>14} {:>7} {:>24} {:>7}", "", "from QEMU's start", "ratio", "from hypervisor's 1st line", "ratio");
    let mut rows = Vec::new();
    for (under, (power, hello)) in Under::ALL.iter().zip(&times) {
        let (p, h) = (median(power), median(hello));
        println!("{:<20} {p:>15.2} s {:>7.2} {h:>24.2} s {:>7.2}", under.name(), ours.0 / p, ours.1 / h);
        rows.push(json!({ "under": under.name(), "from_start_s": power, "from_first_line_s": hello, "median_from_start_s": p,
            "median_from_first_line_s": h, "ratio_from_start": ours.0 / p, "ratio_from_first_line": ours.1 / h }));
    }
    save("boot", &json!({ "runs": runs, "machine_mib": MACHINE_MIB, "guest_mib": GUEST_MIB, "rows": rows }))?;
    Ok(())
}
