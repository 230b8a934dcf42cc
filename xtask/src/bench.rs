//! `bench`: the X-Kernel beside Debian's Xen, with the same kernel, initrd, memory and machine.
//!
//! Times are wall time of an emulator: only ratios between runs on one host, taken alternately, mean anything.

use std::fmt::Write;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use serde_json::json;

use crate::initrd::Script;
use crate::iso::{self, Boot};
use crate::qemu::{self, BootFrom, Ended, Machine};
use crate::run::{self, GuestArgs};
use crate::screen::Show;
use crate::sh;

/// The machine's memory and the guest's, in MiB.
pub const MACHINE_MIB: u64 = 1024;
/// See [`MACHINE_MIB`].
pub const GUEST_MIB: u64 = 832;
/// The host gives the machine its memory before it starts, as a real one has it: who touches more of it does not pay
/// for the host's page faults.
const PREALLOC: [&str; 4] = ["-object", "memory-backend-ram,id=ram,size=1024M,prealloc=on", "-machine", "memory-backend=ram"];
/// How long a boot may take, with everything counted.
const TIMEOUT: Duration = Duration::from_secs(600);

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
        let guest = GuestArgs { guest_mem: Some(format!("{GUEST_MIB}M")), initial: true, ..GuestArgs::default() };
        if self == Self::XKernel {
            return run::boot(&guest, script, true);
        }
        let mut boot = run::boot_on_xen(&guest, script, MACHINE_MIB)?;
        // Xen is given nothing to do that the X-Kernel does not do, as far as its options go: one vCPU, and no
        // mitigations, as QEMU's CPU offers none to the X-Kernel.
        write!(boot.options, " dom0_max_vcpus=1 spec-ctrl=no xpti=no")?;
        if self == Self::XenUnscrubbed {
            boot.options.push_str(" bootscrub=no");
        }
        Ok(boot)
    }

    /// An image that boots `script` under it.
    pub fn image(self, script: &Script, name: &str) -> Result<std::path::PathBuf> {
        let image = sh::target(&format!("bench/{name}-{}.iso", self.file()))?;
        iso::make(&self.boot(script)?, &image)?;
        Ok(image)
    }
}

/// Runs an image to its end.
pub fn run_image(image: &Path, name: &str, more: &[&str]) -> Result<Ended> {
    let machine = Machine {
        boot: BootFrom::Iso(image.to_path_buf()),
        mem_mib: MACHINE_MIB,
        cpus: 1,
        efi: false,
        stats: Some(sh::target(&format!("bench/{name}.stats"))?),
        interactive: false,
        timeout: Some(TIMEOUT),
        log: qemu::log_file(&format!("bench-{name}"))?,
        show: Show::Nothing,
        several: false,
        input: qemu::Input::Nothing,
        more: more.iter().map(|o| (*o).to_string()).collect(),
    };
    let ended = qemu::run(&machine)?;
    if ended.timed_out || !ended.log.lines().any(|l| l == "XK-EXIT 0") {
        bail!("the guest did not do its work; the log is {}", machine.log.display());
    }
    Ok(ended)
}

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
fn boot(runs: u32) -> Result<()> {
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

/// Writes results to target/bench.
pub fn save(name: &str, value: &serde_json::Value) -> Result<()> {
    let to = sh::target(&format!("bench/{name}.json"))?;
    std::fs::write(&to, format!("{value:#}\n"))?;
    eprintln!("xtask: written to {}", to.display());
    Ok(())
}

/// `bench`.
pub fn run(name: &str, runs: u32) -> Result<()> {
    match name {
        "boot" => boot(runs.max(1)),
        _ => bail!("nothing called '{name}' can be measured: boot"),
    }
}
