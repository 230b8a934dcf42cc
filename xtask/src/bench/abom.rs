//! How many system calls of unmodified programs are function calls: the parts of tests/workloads, each in a container of
//! its own, and what is left.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use serde_json::{Value, json};

use super::{machine, save};
use crate::container::{Container, ContainerArgs};
use crate::iso;
use crate::qemu::{self, BootFrom, Machine};
use crate::run::{self, GuestArgs};
use crate::{build, sh};

/// Where the programs of some parts come from, and the memory of the machine that they run on, in MiB.
struct Place {
    rootfs: &'static str,
    mem_mib: u64,
    /// Parts of tests/workloads/all.sh, and how often each is done: what each program does once is to count little, as in
    /// life.
    parts: &'static [(&'static str, usize)],
}

const PLACES: [Place; 2] = [
    Place {
        rootfs: "debian:workloads",
        mem_mib: 1024,
        parts: &[("shell", 5), ("sqlite", 25), ("python", 10), ("redis", 1), ("memcached", 12), ("nginx", 1)],
    },
    Place { rootfs: "debian:languages", mem_mib: 3072, parts: &[("go", 1), ("rust", 1), ("java", 1), ("node", 1), ("gcc", 8)] },
];
/// How long servers are under load, in seconds.
const LOAD: u32 = 60;
/// How long one may take.
const TIMEOUT: Duration = Duration::from_secs(600);

/// What came of one part.
struct Part {
    name: &'static str,
    trap: u64,
    call: u64,
    abom: Value,
    /// Sites that stay as they are: number and reason, and how many such there are.
    left: BTreeMap<String, usize>,
}

/// What the X-Kernel's log says of sites that stay.
fn left(log: &str) -> BTreeMap<String, usize> {
    let mut left = BTreeMap::new();
    for line in log.lines() {
        let Some((_, rest)) = line.split_once(": system call ") else { continue };
        let Some((number, rest)) = rest.split_once(" stays at ") else { continue };
        let Some((bytes, reason)) = rest.split_once(", [").and_then(|(_, rest)| rest.split_once("]: ")) else { continue };
        *left.entry(format!("{number:>4}  {bytes}  {reason}")).or_insert(0) += 1;
    }
    left
}

fn run_part(place: &Place, (name, times): (&'static str, usize), kernel: Option<&str>) -> Result<Part> {
    let mut command = ContainerArgs::workloads_command();
    command.extend(std::iter::repeat_n(name.to_string(), times));
    let mut args = ContainerArgs { rootfs: vec![place.rootfs.into()], ..ContainerArgs::workloads() };
    args.env.push(format!("LOAD={LOAD}"));
    args.add.push(format!("{}:/server", build::programs()?.join("server").display()));
    let container = Container::new(&args, &command)?;
    let guest = GuestArgs { kernel: Some(kernel.unwrap_or(run::LIBOS).into()), options: "loglevel=debug".into(), ..GuestArgs::default() };
    let image = sh::target("bench/abom.iso")?;
    iso::make(&run::boot(&guest, &container.script(), true)?, &image)?;
    let machine = Machine { mem_mib: place.mem_mib, timeout: Some(TIMEOUT), ..machine(BootFrom::Iso(image), &format!("abom-{name}"))? };
    eprintln!("xtask: {name}; the log is {}", machine.log.display());
    let ended = qemu::run(&machine)?;
    if !ended.log.lines().any(|l| l == "VERDICT SUCCESS") {
        bail!("{name} did not do its work; the log is {}", machine.log.display());
    }
    let text = std::fs::read_to_string(machine.stats.context("the machine has counters")?)?;
    let counters: Value = serde_json::from_str(text.lines().last().context("no counters were written")?)?;
    let domain = &counters["domains"][0];
    let number = |v: &Value| v.as_u64().context("the counters have no system calls");
    let syscalls = &domain["syscalls"];
    Ok(Part {
        name,
        trap: number(&syscalls["trap"])?,
        call: number(&syscalls["call"])?,
        abom: domain["abom"].clone(),
        left: left(&ended.log),
    })
}

/// `bench abom`.
pub fn run(kernel: Option<&str>) -> Result<()> {
    let all = PLACES.iter().flat_map(|place| place.parts.iter().map(move |&part| (place, part)));
    let parts = all.map(|(place, part)| run_part(place, part, kernel)).collect::<Result<Vec<_>>>()?;
    println!("{:<12}{:>12}{:>12}{:>10}{:>9}", "", "by trap", "by call", "by call", "patched");
    for part in &parts {
        let share = part.call as f64 * 100.0 / (part.call + part.trap).max(1) as f64;
        println!("{:<12}{:>12}{:>12}{:>8.2} %{:>9}", part.name, part.trap, part.call, share, part.abom["patched"]);
    }
    let mut all: BTreeMap<&String, usize> = BTreeMap::new();
    for (site, count) in parts.iter().flat_map(|p| &p.left) {
        *all.entry(site).or_insert(0) += count;
    }
    println!("\nsites that stay: number, the bytes that end with the instruction, why, times found");
    for (site, count) in &all {
        println!("{site} ({count})");
    }
    let results: Vec<Value> =
        parts.iter().map(|p| json!({ "part": p.name, "trap": p.trap, "call": p.call, "abom": p.abom, "left": p.left })).collect();
    save("abom", &results.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sites_are_read_from_the_log() {
        let found = left("X-Kernel: domain 1: system call 15 stays at 0x7f00, [c7, 0f, 05]: it may not\nnoise: system call\n");
        assert_eq!(found.into_iter().collect::<Vec<_>>(), [("  15  c7, 0f, 05  it may not".to_string(), 1)]);
    }
}
