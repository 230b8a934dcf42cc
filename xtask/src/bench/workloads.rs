//! The checks of tests/workloads on X-LibOS, side by side: in X-mode, as an ordinary PV guest, and natively, which tells a
//! program's own faults from ours.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::{Result, bail};
use serde_json::json;

use super::place::Place;
use super::{MACHINE_MIB, machine, save};
use crate::container::{Container, ContainerArgs};
use crate::qemu::{self, Machine};
use crate::run::Switch;

/// What is compared.
const PLACES: [Place; 3] = [Place::XMode, Place::Pv, Place::Native];

/// How long all checks may take.
const TIMEOUT: Duration = Duration::from_secs(1200);

/// What a log says of each check.
fn checks(log: &str) -> BTreeMap<String, String> {
    let of = |line: &str| {
        let (name, result) = line.strip_prefix("CHECK ")?.split_once(' ')?;
        Some((name.to_string(), if result == "ok" { "ok" } else { "FAIL" }.to_string()))
    };
    log.lines().filter_map(of).collect()
}

/// Runs all checks in one place. Returns what came of each; one that did not come to its end is not there.
fn checks_at(place: Place, kernel: Option<&str>) -> Result<BTreeMap<String, String>> {
    let args = ContainerArgs::workloads();
    let container = Container::new(&args, &ContainerArgs::workloads_command())?;
    container.fits(MACHINE_MIB, None)?;
    let name = place.name();
    let boot = place.boot(kernel.unwrap_or(place.kernel()), &container.script(), "workloads", Switch::On)?;
    let machine = Machine { timeout: Some(TIMEOUT), ..machine(boot, &format!("workloads-{name}"))? };
    eprintln!("xtask: {name}; the log is {}", machine.log.display());
    let ended = qemu::run(&machine)?;
    let found = checks(&ended.log);
    if !ended.log.lines().any(|l| l.starts_with("VERDICT ")) {
        eprintln!("xtask: {name} did not come to its end");
    }
    Ok(found)
}

/// `bench workloads`: each check in each place; fails if one fails anywhere.
pub fn run(kernel: Option<&str>) -> Result<()> {
    let results = PLACES.iter().map(|&place| Ok((place.name(), checks_at(place, kernel)?))).collect::<Result<Vec<_>>>()?;
    let mut names: Vec<&String> = results.iter().flat_map(|(_, found)| found.keys()).collect();
    names.sort();
    names.dedup();
    let missing = "none".to_string();
    let mut bad = 0;
    println!("{:<36}{}", "check", PLACES.iter().map(|place| format!("{:>10}", place.name())).collect::<String>());
    for name in &names {
        let cells: Vec<_> = results.iter().map(|(_, found)| found.get(*name).unwrap_or(&missing)).collect();
        bad += cells.iter().filter(|c| **c != "ok").count();
        println!("{name:<36}{}", cells.iter().map(|cell| format!("{cell:>10}")).collect::<String>());
    }
    println!("{} checks in {} places, {bad} not ok", names.len(), PLACES.len());
    save("workloads", &json!(results.iter().map(|(name, found)| (*name, found)).collect::<BTreeMap<_, _>>()))?;
    if bad > 0 {
        bail!("{bad} checks are not ok");
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn results_are_read() {
        let found = checks("noise\nCHECK a-b ok\nCHECK c FAIL: got 'x', want 'ok'\nCHECK d\nPART a 3 s\n");
        assert_eq!(found.into_iter().collect::<Vec<_>>(), [("a-b".into(), "ok".into()), ("c".into(), "FAIL".into())]);
    }
}
