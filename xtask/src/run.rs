//! `run`, `iso` and `gdb`: guests on the X-Kernel, or on what it is compared with.

mod domains;

use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use clap::{Args, ValueEnum};
use serde::Deserialize;

pub use self::domains::Domain;
use self::domains::modules;
use crate::build::{self, Profile};
use crate::container::{Container, ContainerArgs};
use crate::initrd::{self, Script};
use crate::iso::{self, Boot, Module};
use crate::qemu::{self, BootFrom, Input, Machine};
use crate::screen::{Domains, Show};
use crate::top::place::Place;
use crate::{broken, debian, domu, linux, plan, setup, sh, symbols};

/// The kernel of containers.
pub const LIBOS: &str = "linux:libos";
/// And of one with several vCPUs.
pub const LIBOS_SMP: &str = "linux:libos-smp";
/// Debian's stock kernel.
pub const STOCK: &str = "debian:kernel";
/// So many names of logs are shown.
const LOGS: usize = 8;
/// Exit status when the time ran out.
const TIMED_OUT: u8 = 124;

/// Guests.
#[derive(Args, Clone, Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub struct GuestArgs {
    /// A PV kernel (ELF or bzImage) for the first domain; linux:libos is X-LibOS, which containers have if nothing is said,
    /// debian:kernel Debian's stock kernel, guest:NAME one of tests/guests
    #[arg(long)]
    pub kernel: Option<PathBuf>,
    /// Its initrd
    #[arg(long)]
    pub initrd: Option<PathBuf>,
    /// Its command line
    #[arg(long)]
    pub cmdline: Option<String>,
    /// A further domain: name=N,mem=SIZE,weight=W,kernel=FILE,initrd=FILE,cmdline=TEXT (cmdline last; without kernel
    /// and initrd those of the first domain)
    #[arg(long = "domain")]
    #[serde(rename = "domain")]
    pub domains: Vec<String>,
    /// A boot module as it is, behind all others: a file, a blank, and its line
    #[arg(long = "module")]
    #[serde(rename = "module")]
    pub modules: Vec<String>,
    /// The memory of each container, or of the first domain (128M, 1G); without it, one gets all that the machine has
    #[arg(long = "mem", alias = "guest-mem", value_name = "SIZE")]
    pub guest_mem: Option<String>,
    /// Virtual processors of each container, or of the first domain
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..))]
    pub vcpus: Option<u32>,
    /// Tell the first domain's kernel that it is an initial domain
    #[arg(long)]
    pub initial: bool,
    /// Whether containers, or the first domain, may switch X-mode on
    #[arg(long, value_enum)]
    pub xmode: Option<Switch>,
    /// Whether system calls of their programs may become function calls
    #[arg(long, value_enum)]
    pub abom: Option<Switch>,
    /// Containers side by side, in the place of the first domain
    #[arg(skip)]
    #[serde(skip)]
    pub containers: Vec<Placed>,
    /// Options of the hypervisor
    #[arg(long, default_value = "")]
    pub options: String,
    /// With debug assertions
    #[arg(long)]
    pub dev: bool,
    /// Without the emulator's own way out: the machine is switched off as a real one is
    #[arg(long)]
    pub no_debug_exit: bool,
    /// A build that obeys the option without-flush=, to see tests fail
    #[arg(long, hide = true)]
    pub negative_control: bool,
}

impl GuestArgs {
    /// Debian's stock kernel.
    pub fn stock() -> Self {
        Self { kernel: Some(STOCK.into()), ..Self::default() }
    }
}

/// One of several containers: its name, and the files of its initrd, of which others have the first one, too.
#[derive(Clone, Debug)]
pub struct Placed {
    pub name: String,
    pub shared: PathBuf,
    pub own: PathBuf,
}

/// What can be allowed or not.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub enum Switch {
    On,
    Off,
}

impl Switch {
    /// As on a domain's line.
    fn name(self) -> &'static str {
        if self == Self::On { "on" } else { "off" }
    }
}

/// `run`.
#[derive(Args, Clone, Debug)]
pub struct RunArgs {
    #[command(flatten)]
    pub guest: GuestArgs,
    #[command(flatten)]
    pub container: ContainerArgs,
    /// The machine's memory, if it is not to follow from that of the containers
    #[arg(long, value_name = "SIZE")]
    pub machine_mem: Option<String>,
    /// The machine's CPUs
    #[arg(long, default_value_t = 1)]
    pub smp: u32,
    /// The model of the CPUs, in QEMU's words; without SMAP (`-smap`), which this QEMU gets wrong for Linux
    #[arg(long, default_value = qemu::CPU)]
    pub cpu: String,
    /// Seconds after which the machine is ended, with exit status 124
    #[arg(long)]
    pub timeout: Option<u64>,
    /// File for the counters, as JSON
    #[arg(long)]
    pub stats: Option<PathBuf>,
    /// UEFI firmware instead of BIOS
    #[arg(long)]
    pub efi: bool,
    /// What runs the guest
    #[arg(long, value_enum, default_value = "x-kernel")]
    pub on: On,
    /// A command to run instead of a shell, or arguments for an image's entrypoint; its exit status is ours
    #[arg(last = true)]
    pub command: Vec<String>,
}

/// What runs a guest.
#[derive(Clone, Copy, Debug, Eq, PartialEq, ValueEnum)]
pub enum On {
    /// The X-Kernel.
    XKernel,
    /// Debian's Xen, with the guest as its first domain.
    Xen,
    /// Debian's Xen, with the guest as an ordinary domain that the first one starts.
    XenDomain,
    /// The machine itself.
    Native,
}

/// A size in MiB.
pub fn mib(text: &str) -> Result<u64> {
    let digits = text.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let n: u64 = digits.parse().with_context(|| format!("'{text}' is not a size"))?;
    match text[digits.len()..].to_ascii_uppercase().as_str() {
        "G" => n.checked_mul(1024).with_context(|| format!("'{text}' is too much")),
        "M" | "" => Ok(n),
        _ => bail!("'{text}' is not a size: use M or G"),
    }
}

/// A module's file: `guest:NAME` is a micro-guest, `linux:NAME` a Linux that we build and `vmlinux:NAME` the same one
/// unpacked, `debian:kernel` Debian's stock kernel, `broken:KIND` one that must be refused; all else is a path.
fn named(file: &Path) -> Result<PathBuf> {
    match file.to_str().and_then(|text| text.split_once(':')) {
        Some(("guest", name)) => Ok(build::guests()?.join(name)),
        Some(("linux", name)) => Ok(linux::build(name)?.join("bzImage")),
        Some(("vmlinux", name)) => Ok(linux::build(name)?.join("vmlinux")),
        Some(("debian", "kernel")) => debian::kernel(),
        Some(("broken", kind)) => broken::file(kind),
        _ => Ok(file.to_path_buf()),
    }
}

/// Whether it is a Linux by name, which gets the built-in initrd as Debian's does.
fn is_linux(kernel: &Path) -> bool {
    kernel.to_str().is_some_and(|text| text == STOCK || text.starts_with("linux:") || text.starts_with("vmlinux:"))
}

/// What a Linux is told that has so many vCPUs.
pub fn linux_cmdline(vcpus: u32) -> String {
    format!("console=hvc0 quiet nr_cpus={vcpus}")
}

/// The guest's files and the first domain's command line.
pub fn files(guest: &GuestArgs, script: &Script) -> Result<(PathBuf, Option<PathBuf>, String)> {
    let container = matches!(script, Script::Container(_));
    let kernel = guest.kernel.as_deref().context("no kernel is named")?;
    let linux = container || is_linux(kernel);
    let initrd = match &guest.initrd {
        Some(initrd) => Some(named(initrd)?),
        None => linux.then(|| initrd::make(script)).transpose()?,
    };
    let kernel = named(kernel)?;
    let usual = || if linux { linux_cmdline(guest.vcpus.unwrap_or(1)) } else { String::new() };
    let mut cmdline = guest.cmdline.clone().unwrap_or_else(usual);
    if container {
        // Told twice: with nothing but the first, a kernel that cannot run x-init goes on with the container's own init or
        // shell.
        cmdline.push_str(&format!(" rdinit={0} init={0}", x_init::config::PROGRAM));
    }
    Ok((kernel, initrd, cmdline))
}

/// The file with the symbols of the first domain's kernel, if that is a Linux that we build.
pub fn symbols(guest: &GuestArgs) -> Result<PathBuf> {
    let name = guest.kernel.as_deref().and_then(Path::to_str).and_then(|k| k.split_once(':')).context("no kernel of ours")?.1;
    Ok(linux::build(name)?.join("vmlinux"))
}

/// What boots the X-Kernel with a guest.
pub fn boot(guest: &GuestArgs, script: &Script, stats: bool) -> Result<Boot> {
    let kernel = build::x_kernel(if guest.negative_control { Profile::NegativeControl } else { Profile::of(guest.dev) })?;
    let own = [(!guest.no_debug_exit).then_some("debug-exit"), stats.then_some("stats=com2"), Some(guest.options.as_str())];
    let options: Vec<_> = own.into_iter().flatten().filter(|o| !o.is_empty()).collect();
    Ok(Boot { kernel, options: options.join(" "), modules: modules(guest, script)? })
}

/// What boots Debian's Xen with the same guest as its first domain.
pub fn boot_on_xen(guest: &GuestArgs, script: &Script, mem_mib: u64) -> Result<Boot> {
    let (kernel, initrd, cmdline) = files(guest, script)?;
    let dom0 = guest.guest_mem.as_deref().map_or(Ok(mem_mib.saturating_sub(192).max(64)), mib)?;
    let vcpus = guest.vcpus.map(|n| format!(" dom0_max_vcpus={n}")).unwrap_or_default();
    let mut modules = vec![Module { file: kernel, line: cmdline }];
    modules.extend(initrd.map(|file| Module { file, line: String::new() }));
    let options = format!("console=com1 com1=115200,8n1 dom0_mem={dom0}M,max:{dom0}M{vcpus} {}", guest.options);
    Ok(Boot { kernel: debian::xen()?, options: options.trim_end().into(), modules })
}

/// What boots the same guest on the machine itself.
pub fn boot_natively(guest: &GuestArgs, script: &Script) -> Result<BootFrom> {
    let (kernel, initrd, cmdline) = files(guest, script)?;
    Ok(BootFrom::Linux(kernel, initrd.context("a native run needs an initrd")?, cmdline.replace("hvc0", "ttyS0")))
}

/// `run`.
pub fn run(args: &RunArgs) -> Result<ExitCode> {
    let plan = plan::plan(args)?;
    let mem_mib = plan::machine_mib(args, &plan.guest, &plan.containers)?;
    if plan.guest.guest_mem.is_none() {
        plan.containers.iter().try_for_each(|c| c.fits(mem_mib, plan.guest.vcpus))?;
    }
    let own = |name: &str, end: &str| {
        let path = sh::target(&format!("runs/{name}-{}.{end}", std::process::id()))?;
        sh::sweep(&path, &format!("{name}-"));
        Ok::<_, anyhow::Error>(path)
    };
    let wants_figures = args.on == On::XKernel && !plan.containers.is_empty();
    let on_x_kernel = args.on == On::XKernel;
    let place = if on_x_kernel { Some(Place::of_run(plan::what(args, &plan))?) } else { None };
    let stats = match &place {
        Some(place) => Some(place.running().answers()),
        None => args.stats.as_ref().map(|_| own("stats", "json")).transpose()?,
    };
    let image = own("run", "iso")?;
    let boot_from = match args.on {
        On::XKernel => {
            iso::make(&boot(&plan.guest, &plan.script, stats.is_some())?, &image)?;
            BootFrom::Iso(image.clone())
        }
        On::Xen => {
            iso::make(&boot_on_xen(&plan.guest, &plan.script, mem_mib)?, &image)?;
            BootFrom::Iso(image.clone())
        }
        On::XenDomain => {
            domu::make(&plan.guest, &plan.script, &image)?;
            BootFrom::Iso(image.clone())
        }
        On::Native => boot_natively(&plan.guest, &plan.script)?,
    };
    if plan.interactive {
        eprintln!("xtask: {}", plan::banner(args, &plan, mem_mib));
    }
    let machine = Machine {
        boot: boot_from,
        mem_mib,
        cpus: args.smp,
        cpu: args.cpu.clone(),
        efi: args.efi,
        stats: stats.clone(),
        ask: place.as_ref().map(|p| p.running().port()),
        interactive: plan.interactive,
        timeout: args.timeout.map(Duration::from_secs),
        log: qemu::log_file("run")?,
        show: if plan.by_hand { Show::All } else { Show::Command },
        domains: match Container::domains(&plan.containers) {
            Domains::One if !args.guest.domains.is_empty() => Domains::First,
            domains => domains,
        },
        input: match (plan.by_hand, &*plan.containers) {
            (false, _) => Input::Nothing,
            (true, []) => Input::Stdin,
            (true, _) => Input::StdinToItsEnd,
        },
        more: Vec::new(),
        given_up: None,
    };
    let ended = qemu::run(&machine);
    drop(place);
    let _ = std::fs::remove_file(&image);
    let counters = stats.as_ref().map(|file| qemu::read_stats(file));
    stats.iter().for_each(|file| drop(std::fs::remove_file(file)));
    let ended = ended?;
    if ended.timed_out {
        eprintln!("xtask: ended after {} s; the log is {}", args.timeout.unwrap_or(0), machine.log.display());
        return Ok(ExitCode::from(TIMED_OUT));
    }
    // Who switches the machine off by force does without them.
    if let Some(line) = counters.as_ref().and_then(|c| plan::figures(c.as_ref().ok()?)).filter(|_| wants_figures) {
        eprintln!("xtask: {line}");
    }
    if let (Some(to), Some(counters)) = (&args.stats, counters) {
        std::fs::write(to, format!("{:#}\n", counters?)).with_context(|| format!("cannot write {}", to.display()))?;
    }
    if let Domains::Containers(names) = &machine.domains {
        let logs: Vec<_> = names.iter().take(LOGS).map(|n| Ok(qemu::log_file(n)?.display().to_string())).collect::<Result<_>>()?;
        let more = names.len().checked_sub(LOGS + 1).map(|n| format!(" and {} more", n + 1)).unwrap_or_default();
        eprintln!("xtask: logs: {}{more}", logs.join(" "));
        ended.unwell.iter().for_each(|how| eprintln!("xtask: {how}"));
    }
    if ended.code == Some(qemu::NO_DOMAIN) {
        bail!("there was no domain to run; the log is {}", machine.log.display());
    }
    if ended.code == Some(qemu::PANIC) {
        bail!("the X-Kernel panicked; the log is {}", machine.log.display());
    }
    match ended.status {
        Some(status) => Ok(ExitCode::from(status)),
        None if plan.by_hand => Ok(ExitCode::SUCCESS),
        None => bail!("the guest ended before its command did; the log is {}", machine.log.display()),
    }
}

/// A guest that has a kernel.
fn with_kernel(guest: &GuestArgs) -> GuestArgs {
    let mut guest = guest.clone();
    guest.kernel.get_or_insert_with(|| STOCK.into());
    guest
}

/// `iso`.
pub fn iso(guest: &GuestArgs) -> Result<()> {
    let mut boot = boot(&with_kernel(guest), &Script::Shell, false)?;
    // On a real machine nothing listens there.
    boot.options = guest.options.clone();
    let to = sh::target("x-kernel.iso")?;
    iso::make(&boot, &to)?;
    println!("{}", to.display());
    Ok(())
}

/// `gdb`.
pub fn gdb(guest: &GuestArgs) -> Result<()> {
    setup::ensure(setup::GDB)?;
    let boot = boot(&with_kernel(guest), &Script::Shell, false)?;
    let image = sh::target("runs/gdb.iso")?;
    iso::make(&boot, &image)?;
    let machine = Machine {
        boot: BootFrom::Iso(image),
        mem_mib: 1024,
        cpus: 1,
        cpu: qemu::CPU.into(),
        efi: false,
        stats: None,
        ask: None,
        interactive: false,
        timeout: None,
        log: qemu::log_file("gdb")?,
        show: Show::Nothing,
        domains: Domains::One,
        input: Input::Nothing,
        more: Vec::new(),
        given_up: None,
    };
    // By address: gdb does not know Rust's names for functions by their paths.
    let stop = |name: &str| Ok::<_, anyhow::Error>(format!("hbreak *{:#x}", symbols::address(&boot.kernel, name)?));
    let (entry, panic) = (stop("x_kernel::kmain")?, stop("x_kernel::panic::die")?);
    let mut q = qemu::command(&machine)?;
    let log = std::fs::File::create(&machine.log)?;
    let mut child = q.args(["-s", "-S"]).stdin(std::process::Stdio::null()).stdout(log).spawn()?;
    eprintln!("xtask: serial log: {}", machine.log.display());
    let status = Command::new("gdb")
        .arg(&boot.kernel)
        .args(["-ex", "target remote :1234", "-ex", &entry, "-ex", &panic, "-ex", "continue"])
        .status();
    child.kill()?;
    child.wait()?;
    status?;
    Ok(())
}
