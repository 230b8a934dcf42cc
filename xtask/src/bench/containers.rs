//! Many idle containers on one machine: what each takes of its memory, and how many instructions its start.
//!
//! The clock counts instructions, so that the X-Kernel's own account of run times is one of instructions. All is looked at
//! while the containers live; then an operator ends them, and all memory must have come back.

use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use serde_json::json;

use super::memory::{Account, FRAME_KIB};
use super::{footprint, machine, save};
use crate::container::{Container, ContainerArgs};
use crate::iso;
use crate::qemu::{self, BootFrom, Machine};
use crate::run::{self, GuestArgs};
use crate::top::operator;
use crate::top::place::Place;
use crate::top::sample::Document;

/// How many, if nothing else is said.
pub const COUNTS: [u32; 4] = [1, 10, 50, 100];
/// Memory of the machine, in MiB.
const MACHINE_MIB: u64 = 12 << 10;
/// How long a machine may take.
const TIMEOUT: Duration = Duration::from_secs(3600);
/// What a container does.
const IDLE: &str = "echo this one is idle; while :; do sleep 1000000; done";
/// The domain of a container that is alone.
const ALONE: &str = "d1";
/// What was found with some number of containers.
pub struct Row {
    count: u32,
    /// What the container's domain was given, in MiB.
    each_mib: u64,
    account: Account,
    /// Instructions of the X-Kernel to build all domains, and of the domains until they were idle.
    pub built: u64,
    pub started: u64,
}

impl Row {
    /// KiB that a container takes: of its domain, and of the X-Kernel for it.
    pub fn kib(&self) -> (u64, u64) {
        let each = |frames: u64| frames * FRAME_KIB / u64::from(self.count);
        (each(self.account.domain_frames), each(self.account.allocated()))
    }

    pub fn millions_each(&self, instructions: u64) -> f64 {
        instructions as f64 / 1e6 / f64::from(self.count)
    }
}

/// The milliseconds in the X-Kernel's line that all domains are built.
fn built_ms(log: &str) -> Option<u64> {
    let line = log.lines().find(|l| l.starts_with("X-Kernel: ") && l.contains(" domains built in "))?;
    line.split(' ').rev().nth(1)?.parse().ok()
}

/// Many containers of one static busybox, ready to boot.
pub struct Many {
    containers: Vec<Container>,
    each_mib: u64,
    image: PathBuf,
    name: String,
}

impl Many {
    /// `count` of them, each of which does `command`, with more files if there are any to `add`, and with `room_mib` more than
    /// the least memory; files of the run begin with `name`.
    ///
    /// # Errors
    /// What is wrong with the files.
    pub fn new(name: &str, count: u32, command: &str, add: &[String], room_mib: u64) -> Result<Self> {
        let name = format!("{name}-{count}");
        let args =
            ContainerArgs { rootfs: vec![footprint::small()?], containers: Some(count), add: add.to_vec(), ..ContainerArgs::default() };
        let containers = Container::all(&args, &["sh", "-c", command].map(String::from), false)?;
        let each_mib = containers.first().map(|c| c.needs(None) + room_mib).context("no container")?;
        let mut guest = GuestArgs { kernel: Some(run::LIBOS.into()), guest_mem: Some(format!("{each_mib}M")), ..GuestArgs::default() };
        let script = Container::place(&containers, &mut guest)?;
        let image = crate::sh::target(&format!("bench/{name}.iso"))?;
        iso::make(&run::boot(&guest, &script, true)?, &image)?;
        Ok(Self { containers, each_mib, image, name })
    }

    /// A machine that is large enough.
    ///
    /// # Errors
    /// If there is no place for its log.
    pub fn machine(&self) -> Result<Machine> {
        Ok(Machine {
            mem_mib: MACHINE_MIB,
            timeout: Some(TIMEOUT),
            domains: Container::domains(&self.containers),
            ..machine(BootFrom::Iso(self.image.clone()), &self.name)?
        })
    }

    /// What runs are called.
    pub fn name(&self) -> &str {
        &self.name
    }
}

/// `count` containers, until they are idle and have been looked at.
pub fn idle(count: u32) -> Result<Row> {
    let many = Many::new("containers", count, IDLE, &[], 0)?;
    let Many { containers, each_mib, image, name } = &many;
    let place = Place::new(name, std::process::id(), name.clone())?;
    let names: Vec<_> = containers.iter().map(|c| c.name.clone().unwrap_or_else(|| ALONE.into())).collect();
    let mut machine = Machine {
        stats: Some(place.running().answers()),
        ask: Some(place.running().port()),
        more: qemu::INSTRUCTION_CLOCK.map(String::from).to_vec(),
        ..many.machine()?
    };
    eprintln!("xtask: {count} containers of {each_mib} MiB on a machine of {MACHINE_MIB} MiB, with an instruction as the clock");
    let working = operator::begin(place.running(), machine.log.clone(), move |operator| {
        operator.sees("this one is idle$", names.len())?;
        let document = operator.looks()?;
        names.iter().try_for_each(|name| operator.kills(name))?;
        Ok(document)
    })?;
    machine.given_up = Some(working.given_up.clone());
    let ended = qemu::run(&machine);
    let document: Document = working.done()?;
    let ended = ended?;
    for file in [image, &place.running().answers()] {
        std::fs::remove_file(file)?;
    }
    let clean =
        ended.log.lines().filter(|l| l.starts_with("X-Kernel: census: domain ") && l.ends_with("has given everything back")).count();
    ensure!(clean == count as usize, "{clean} of {count} domains have given everything back; the log is {}", machine.log.display());
    ensure!(ended.code == Some(qemu::SUCCESS), "the machine did not end well; the log is {}", machine.log.display());
    let account: Account = serde_json::from_value(document.memory.clone()).context("where memory is")?;
    ensure!(account.domains == count, "{} domains were there when memory was counted", account.domains);
    let started = document.domains.iter().map(|d| d.ran_ns).sum();
    let built = built_ms(&ended.log).context("the X-Kernel does not say how long it built")? * 1_000_000;
    Ok(Row { count, each_mib: *each_mib, account, built, started })
}

/// `bench containers`: with `count` of them, or with some numbers.
pub fn run(count: Option<u32>) -> Result<()> {
    let counts = count.map_or_else(|| COUNTS.to_vec(), |n| vec![n]);
    let mut rows = Vec::new();
    for count in counts {
        rows.push(idle(count)?);
    }
    println!("idle containers on a machine of {MACHINE_MIB} MiB; KiB and millions of instructions for each");
    println!("{:>10} {:>12} {:>14} {:>14} {:>12} {:>12}", "containers", "its memory", "the X-Kernel's", "together", "to build", "to start");
    for row in &rows {
        let (own, ours) = row.kib();
        let (build, start) = (row.millions_each(row.built), row.millions_each(row.started));
        println!("{:>10} {own:>12} {ours:>14} {:>14} {build:>12.1} {start:>12.1}", row.count, own + ours);
    }
    if let Some(row) = rows.first() {
        println!("the X-Kernel has {} KiB from the start, most of it for each frame of the machine", row.account.fixed() * FRAME_KIB);
    }
    let rows: Vec<_> = rows
        .iter()
        .map(|row| {
            let (own, ours) = row.kib();
            json!({ "containers": row.count, "domain_mib": row.each_mib, "domain_kib": own, "x_kernel_kib": ours, "heap_bytes": row.account.heap_bytes,
                "fixed_kib": row.account.fixed() * FRAME_KIB, "build_instructions": row.built, "start_instructions": row.started })
        })
        .collect();
    save("containers", &json!({ "machine_mib": MACHINE_MIB, "rows": rows }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_time_to_build_is_found() {
        let log = "X-Kernel: boot took 5 ms\nX-Kernel: 3 domains built in 71 ms\n[a] X-Kernel: 3 domains built in 9 ms\n";
        assert_eq!((built_ms(log), built_ms("X-Kernel: boot took 5 ms\n")), (Some(71), None));
    }
}
