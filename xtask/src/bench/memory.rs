//! What a hypervisor has of the machine's memory for itself: at rest, and for each idle domain.
//!
//! All of it is counted while the domains live, none is estimated: of the X-Kernel by its own statistics, of Xen by the
//! key `m` on its console. What a domain was given is the domain's own, its page tables included.

use anyhow::{Context, Result, bail, ensure};
use serde::Deserialize;
use serde_json::json;

use super::{GUEST_MIB, MACHINE_MIB, Under, run_machine, save};
use crate::initrd::Script;
use crate::iso;
use crate::qemu::{BootFrom, Ended, Input};
use crate::run::{self, GuestArgs};
use crate::sh;

/// How many idle domains are tried.
const DOMAINS: [u32; 4] = [1, 2, 4, 8];
/// Memory of each, in MiB: enough for the micro-guest that sleeps.
const IDLE_MIB: u64 = 8;
/// Bytes of a frame, in KiB.
pub const FRAME_KIB: u64 = 4;

/// The X-Kernel's own account, in frames unless it says otherwise.
#[derive(Clone, Copy, Debug, Deserialize)]
pub struct Account {
    ram: u64,
    image: u64,
    kept: u64,
    page_tables: u64,
    frame_table: u64,
    allocator: u64,
    /// What the allocator has, free or not.
    frames: u64,
    free: u64,
    pub domain_frames: u64,
    pub domains: u32,
    pub heap_bytes: u64,
}

impl Account {
    /// What is there from the start, whatever runs.
    pub fn fixed(&self) -> u64 {
        self.image + self.kept + self.page_tables + self.frame_table + self.allocator
    }

    /// What the X-Kernel has allocated since.
    pub fn allocated(&self) -> u64 {
        self.frames - self.free - self.domain_frames
    }
}

/// Reads the first of the lines that the X-Kernel wrote: the one that was asked for while the domains lived.
fn account(name: &str, domains: u32) -> Result<Account> {
    #[derive(Deserialize)]
    struct Line {
        memory: Account,
    }
    let text = std::fs::read_to_string(sh::target(&format!("bench/{name}.stats"))?)?;
    let Line { memory } = serde_json::from_str(text.lines().next().context("there are no statistics")?)?;
    ensure!(memory.domains == domains, "{} domains lived when memory was counted, not {domains}", memory.domains);
    let sum = memory.fixed() + memory.frames;
    ensure!(memory.ram == sum, "the account does not add up: {} frames of RAM, {sum} accounted for: {memory:?}", memory.ram);
    Ok(memory)
}

/// `n` idle domains.
fn idle(n: u32) -> Result<Account> {
    let cmdline = Some("rounds=22".to_string());
    let further = (2..=n).map(|i| format!("name=idle{i},mem={IDLE_MIB}M,cmdline=rounds=22")).collect();
    let guest = GuestArgs {
        kernel: Some("guest:canary".into()),
        guest_mem: Some(format!("{IDLE_MIB}M")),
        cmdline,
        domains: further,
        ..GuestArgs::default()
    };
    let name = format!("memory-{n}");
    let image = sh::target(&format!("bench/{name}.iso"))?;
    iso::make(&run::boot(&guest, &Script::Shell, true)?, &image)?;
    let ended = run_machine(BootFrom::Iso(image), &name, &[], Input::After("canary: round 10,", b"\x1ds"))?;
    let fine = ended.log.lines().filter(|l| l.ends_with("VERDICT SUCCESS")).count();
    ensure!(fine == n as usize, "{fine} of {n} domains ended well");
    account(&name, n)
}

/// The number before `unit` in the first line that contains `text`.
fn number_before(ended: &Ended, text: &str, unit: &str) -> Result<u64> {
    let line = ended.log.lines().find(|l| l.contains(text)).with_context(|| format!("no line with '{text}'"))?;
    let (before, _) = line.split_once(unit).with_context(|| format!("'{line}' has no {unit}"))?;
    let digits = before.rsplit(|c: char| !c.is_ascii_digit()).next().unwrap_or("");
    digits.parse().with_context(|| format!("'{line}' has no number before {unit}"))
}

/// One Linux domain on each, of the same size: KiB that the hypervisor has for itself.
fn beside_xen() -> Result<(u64, u64)> {
    let script = Script::Command(vec!["sleep".into(), "5".into()]);
    let run = |under: Under, keys| {
        let name = format!("memory-{}", under.file());
        let ended = run_machine(BootFrom::Iso(under.image(&script, "memory")?), &name, &[], Input::After("XK-BEGIN", keys))?;
        ensure!(ended.log.lines().any(|l| l == "XK-EXIT 0"), "the guest did not do its work");
        Ok(ended)
    };
    run(Under::XKernel, b"\x1ds")?;
    let ours = account("memory-x-kernel", 1)?;
    // Three times Ctrl-a: the console is Xen's.
    let log = run(Under::Xen, b"\x01\x01\x01m")?;
    let free = ["Xen heap:", "Dom heap:"].iter().map(|heap| number_before(&log, heap, "kB free")).sum::<Result<u64>>()?;
    let ram = number_before(&log, "System RAM:", "kB)")?;
    let theirs = ram.checked_sub(GUEST_MIB * 1024 + free).context("Xen's numbers do not add up")?;
    Ok(((ours.fixed() + ours.allocated()) * FRAME_KIB, theirs))
}

/// `bench memory`.
pub fn run() -> Result<()> {
    let accounts = DOMAINS.iter().map(|&n| idle(n)).collect::<Result<Vec<_>>>()?;
    let (Some(one), Some(most)) = (accounts.first(), accounts.last()) else { bail!("nothing was counted") };
    println!("the X-Kernel's own memory, KiB, on a machine with {} KiB of RAM", one.ram * FRAME_KIB);
    let parts = [
        ("image, with its stacks and tables", one.image),
        ("below 1 MiB, and kept for firmware", one.kept),
        ("page tables", one.page_tables),
        ("frame table, machine-to-physical table", one.frame_table),
        ("the allocator's bitmaps", one.allocator),
        ("from the start, together", one.fixed()),
    ];
    for (what, frames) in parts {
        println!("{what:<40} {:>8}", frames * FRAME_KIB);
    }
    for account in &accounts {
        let kib = account.allocated() * FRAME_KIB;
        println!("{:<40} {kib:>8}, heap in use {}", format!("and with {} idle domains", account.domains), account.heap_bytes / 1024);
    }
    let more = u64::from(most.domains - one.domains);
    let per_domain = (most.allocated() - one.allocated()) * FRAME_KIB / more;
    let heap_per_domain = (most.heap_bytes - one.heap_bytes) / 1024 / more;
    println!("each further idle domain: {per_domain} KiB, of which in the heap {heap_per_domain} KiB are in use");
    let (ours, theirs) = beside_xen()?;
    println!(
        "with one Linux domain of {GUEST_MIB} MiB on {MACHINE_MIB} MiB: X-Kernel {ours} KiB, Xen {theirs} KiB, ratio {:.2}",
        ours as f64 / theirs as f64
    );
    let rows: Vec<_> = accounts
        .iter()
        .map(|a| json!({ "domains": a.domains, "allocated_kib": a.allocated() * FRAME_KIB, "heap_bytes": a.heap_bytes }))
        .collect();
    let parts: serde_json::Map<_, _> = parts.into_iter().map(|(what, frames)| (what.into(), (frames * FRAME_KIB).into())).collect();
    save(
        "memory",
        &json!({ "fixed_kib": parts, "idle": rows, "per_domain_kib": per_domain, "linux_domain": { "x_kernel_kib": ours, "xen_kib": theirs } }),
    )
}
