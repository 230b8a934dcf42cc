//! `bench`: the X-Kernel beside Debian's Xen, with the same kernel, initrd, memory and machine.
//!
//! `matrix` is all that is counted of X-LibOS beside its peers, in one table. The others are parts by themselves: `boot` is
//! time, `crossings` what the same work costs in entries to ring 0 and in instructions, `memory` what the hypervisor keeps
//! for itself, `workloads` whether programs work, `abom` how many of their system calls become function calls, `null-call`
//! what one takes, `footprint` what a container takes, `containers` what many take. `report` shows the last matrix again.

mod abom;
mod boot;
mod column;
mod containers;
mod counted;
mod counts;
mod crossings;
mod footprint;
mod matrix;
mod memory;
mod null_call;
mod place;
mod profile;
mod report;
mod workloads;

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Result, bail};
use clap::Args;

use self::column::Column;
use crate::initrd::Script;
use crate::iso::{self, Boot};
use crate::qemu::{self, BootFrom, Ended, Input, Machine};
use crate::run::{self, GuestArgs};
use crate::screen::{Domains, Show};
use crate::sh;

/// The machine's memory and the guest's, in MiB.
pub const MACHINE_MIB: u64 = 1024;
/// See [`MACHINE_MIB`].
pub const GUEST_MIB: u64 = 832;
/// The host gives the machine its memory before it starts, as a real one has it: who touches more of it does not pay
/// for the host's page faults.
const PREALLOC: [&str; 4] = ["-object", "memory-backend-ram,id=ram,size=1024M,prealloc=on", "-machine", "memory-backend=ram"];
/// How long a boot may take, with everything counted.
const TIMEOUT: Duration = Duration::from_secs(1800);

/// What is compared.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Under {
    /// The X-Kernel.
    XKernel,
    /// Debian's Xen, with the guest as its dom0: it has the machine's ACPI tables and PCI devices to look at besides.
    Xen,
    /// The same, told to leave free memory as it finds it.
    XenUnscrubbed,
}

impl Under {
    /// All of them, in the order of the tables.
    pub const ALL: [Self; 3] = [Self::XKernel, Self::Xen, Self::XenUnscrubbed];

    /// For tables.
    pub fn name(self) -> &'static str {
        match self {
            Self::XKernel => "X-Kernel",
            Self::Xen => "Xen",
            Self::XenUnscrubbed => "Xen, bootscrub=no",
        }
    }

    /// The name of its files.
    pub fn file(self) -> &'static str {
        match self {
            Self::XKernel => "x-kernel",
            Self::Xen => "xen",
            Self::XenUnscrubbed => "xen-unscrubbed",
        }
    }

    /// The beginning of the first line that the hypervisor itself writes.
    fn first_line(self) -> &'static str {
        match self {
            Self::XKernel => "X-Kernel: version",
            Self::Xen | Self::XenUnscrubbed => "(XEN) Xen version",
        }
    }

    /// What boots `script` under it.
    fn boot(self, script: &Script) -> Result<Boot> {
        // Xen has no other kind of first domain, and its kernel does more on the way up.
        let guest = GuestArgs { guest_mem: Some(format!("{GUEST_MIB}M")), initial: true, ..GuestArgs::stock() };
        if self == Self::XKernel {
            return run::boot(&guest, script, true);
        }
        let unscrubbed = if self == Self::XenUnscrubbed { " bootscrub=no" } else { "" };
        run::boot_on_xen(&GuestArgs { options: format!("{XEN_OPTIONS}{unscrubbed}"), ..guest }, script, MACHINE_MIB)
    }

    /// An image that boots `script` under it.
    pub fn image(self, script: &Script, name: &str) -> Result<std::path::PathBuf> {
        let image = sh::target(&format!("bench/{name}-{}.iso", self.file()))?;
        iso::make(&self.boot(script)?, &image)?;
        Ok(image)
    }
}

/// What Xen is told beside the usual: nothing to do that the X-Kernel does not do, as far as its options go. One vCPU, and
/// no mitigations, as QEMU's CPU offers none to the X-Kernel.
const XEN_OPTIONS: &str = "dom0_max_vcpus=1 spec-ctrl=no xpti=no";

/// The machine that things are measured on.
pub fn machine(boot: BootFrom, name: &str) -> Result<Machine> {
    Ok(Machine {
        boot,
        mem_mib: MACHINE_MIB,
        cpus: 1,
        cpu: qemu::CPU.into(),
        efi: false,
        stats: Some(sh::target(&format!("bench/{name}.stats"))?),
        ask: None,
        interactive: false,
        timeout: Some(TIMEOUT),
        log: qemu::log_file(&format!("bench-{name}"))?,
        show: Show::Nothing,
        domains: Domains::One,
        input: Input::Nothing,
        more: Vec::new(),
        given_up: None,
    })
}

/// Runs a machine to its end, typing `input`.
pub fn run_machine(boot: BootFrom, name: &str, more: &[&str], input: Input) -> Result<Ended> {
    to_the_end(&Machine { input, more: more.iter().map(|o| (*o).to_string()).collect(), ..machine(boot, name)? })
}

/// Runs a machine, which has to come to an end.
pub fn to_the_end(machine: &Machine) -> Result<Ended> {
    let ended = qemu::run(machine)?;
    if ended.timed_out {
        bail!("the machine did not come to an end; the log is {}", machine.log.display());
    }
    Ok(ended)
}

/// Runs an image whose guest has a command to run.
pub fn run_image(image: &Path, name: &str, more: &[&str]) -> Result<Ended> {
    let ended = run_machine(BootFrom::Iso(image.to_path_buf()), name, more, Input::Nothing)?;
    if !ended.log.lines().any(|l| l == "XK-EXIT 0") {
        bail!("the guest did not do its work; the log is {}", qemu::log_file(&format!("bench-{name}"))?.display());
    }
    Ok(ended)
}

/// Writes results to target/bench.
pub fn save(name: &str, value: &serde_json::Value) -> Result<()> {
    let to = sh::target(&format!("bench/{name}.json"))?;
    std::fs::write(&to, format!("{value:#}\n"))?;
    eprintln!("xtask: written to {}", to.display());
    Ok(())
}

/// `bench`.
#[derive(Args)]
pub struct BenchArgs {
    /// What to measure: matrix, or a part by itself: abom, boot, containers, crossings, footprint, memory, null-call, workloads; report
    /// shows the last matrix again
    #[arg(default_value = "matrix")]
    name: String,
    /// How often each column of the matrix is run, 2 if nothing is said, or `boot`, 3; the middle counts
    #[arg(long)]
    runs: Option<u32>,
    /// Columns of the matrix, all if none are named
    #[arg(long, value_enum, value_delimiter = ',')]
    columns: Vec<Column>,
    /// Parts of the matrix, all if none are named
    #[arg(long, value_enum, value_delimiter = ',')]
    parts: Vec<matrix::Part>,
    /// What this run leaves out is as the last one had it, of the same hypervisors and programs
    #[arg(long)]
    add: bool,
    /// Fails if a count of the matrix has grown since that document, tests/bench/baseline.json if none is named
    #[arg(long, value_name = "BASELINE", num_args = 0..=1, default_missing_value = "")]
    compare: Option<String>,
    /// How many `containers`, instead of 1, 10, 50 and 100
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..=240))]
    count: Option<u32>,
    /// The kernel of `workloads` and `abom`, instead of linux:libos
    #[arg(long)]
    kernel: Option<String>,
}

/// `bench`.
pub fn run(args: BenchArgs) -> Result<()> {
    let kernel = args.kernel.as_deref();
    let wanted = |runs: Option<u32>| matrix::Wanted {
        columns: args.columns.clone(),
        parts: args.parts.clone(),
        runs: runs.unwrap_or(2),
        add: args.add,
        compare: args.compare.clone().map(PathBuf::from),
    };
    match args.name.as_str() {
        "abom" => abom::run(kernel),
        "boot" => boot::run(args.runs.unwrap_or(3).max(1)),
        "containers" => containers::run(args.count),
        "crossings" => crossings::run(),
        "footprint" => footprint::run(),
        "matrix" => matrix::run(&wanted(args.runs)),
        "memory" => memory::run(),
        "null-call" => null_call::run(),
        "report" => matrix::again(&wanted(args.runs)),
        "workloads" => workloads::run(kernel),
        name => bail!("nothing called '{name}' can be measured: see `cargo xtask bench --help`"),
    }
}

/// Builds the plugin of QEMU's that counts (tests/bench/crossings).
pub fn plugin() -> Result<PathBuf> {
    let folder = sh::target("plugin/x")?.with_file_name("");
    let mut cargo = Command::new(env!("CARGO"));
    cargo.current_dir(sh::root()).env("CARGO_TARGET_DIR", &folder);
    sh::run(cargo.args(["build", "--quiet", "--release", "--package", "crossings"]))?;
    Ok(folder.join("release/libcrossings.so"))
}
