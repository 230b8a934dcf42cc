//! What a container takes: the smallest machine that it works on, the size of its kernel, and the instructions until its
//! program runs.

use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use object::{Object, ObjectSection, SectionFlags, SectionKind, elf};
use serde_json::{Value, json};

use super::counts::{At, Counts};
use super::{MACHINE_MIB, machine, plugin, save};
use crate::container::{Container, ContainerArgs};
use crate::qemu::{self, BootFrom, Ended, INSTRUCTION_CLOCK, Machine};
use crate::run::{self, GuestArgs, Switch};
use crate::{build, iso, linux, setup, sh};

/// What a container that works can do: some programs, a pipe, a file.
const WORK: &str = "ls -l / && seq 1 1000 | sort -n | tail -n 1 > out && grep 1000 out";
/// Sizes between which the smallest one is looked for, in MiB: too small, and large enough.
const SEARCH: (u64, u64) = (16, 256);
/// Memory of the machine whose start is counted, in MiB.
const START_MIB: u64 = 256;
/// How long one boot may take. With too little memory the boot loader waits for a key, or a container gets nowhere.
const TIMEOUT: Duration = Duration::from_secs(120);

/// A file system, by what the table says of it.
struct Files {
    name: &'static str,
    rootfs: PathBuf,
}

/// A folder with one static busybox in it, by some of its names.
pub fn small() -> Result<PathBuf> {
    setup::ensure(&["busybox-static"])?;
    let small = sh::target("bench/small")?;
    sh::empty(&small)?;
    for folder in ["bin", "tmp"] {
        std::fs::create_dir(small.join(folder))?;
    }
    std::fs::copy("/bin/busybox", small.join("bin/busybox"))?;
    for name in ["sh", "ls", "seq", "sleep", "sort", "tail", "grep", "true"] {
        symlink("busybox", small.join("bin").join(name))?;
    }
    Ok(small)
}

/// The usual one, and one with next to nothing in it.
fn files() -> Result<[Files; 2]> {
    let small = small()?;
    Ok([Files { name: "debian:default", rootfs: "debian:default".into() }, Files { name: "one static busybox", rootfs: small }])
}

/// Whether the container's program ended with 0.
fn went_well(ended: &Ended) -> bool {
    ended.log.lines().any(|l| l.starts_with("XK-EXIT ") && l.ends_with(" 0"))
}

/// Memory in MiB: the machine's, and that of its domain, if that is not to be all.
#[derive(Clone, Copy)]
struct Memory(u64, Option<u64>);

/// Boots a container that runs `command`.
fn boot(files: &Files, add: &[String], command: &[&str], kernel: &str, memory: Memory, more: &[String]) -> Result<Ended> {
    let Memory(mem_mib, guest_mib) = memory;
    let args = ContainerArgs { rootfs: vec![files.rootfs.clone()], add: add.to_vec(), ..ContainerArgs::default() };
    let container = Container::new(&args, &command.iter().map(|w| (*w).to_string()).collect::<Vec<_>>())?;
    let guest_mem = guest_mib.map(|mib| format!("{mib}M"));
    let guest = GuestArgs { kernel: Some(kernel.into()), guest_mem, xmode: Some(Switch::On), ..GuestArgs::default() };
    let image = sh::target("bench/footprint.iso")?;
    iso::make(&run::boot(&guest, &container.script(), false)?, &image)?;
    qemu::run(&Machine { mem_mib, stats: None, timeout: Some(TIMEOUT), more: more.to_vec(), ..machine(BootFrom::Iso(image), "footprint")? })
}

/// The smallest of the sizes, in MiB, that `memory` makes enough for a container of `files`.
fn smallest(files: &Files, what: &str, memory: impl Fn(u64) -> Memory) -> Result<u64> {
    let works = |mib| {
        let ended = boot(files, &[], &["/bin/sh", "-c", WORK], run::LIBOS, memory(mib), &[])?;
        let fine = went_well(&ended);
        let took = if ended.timed_out { ", and did not end" } else { "" };
        eprintln!("xtask: {}, {what}: {mib} MiB {}{took}", files.name, if fine { "are enough" } else { "are too little" });
        Ok::<_, anyhow::Error>(fine)
    };
    let (mut small, mut large) = SEARCH;
    ensure!(works(large)?, "{} does not work with {large} MiB", files.name);
    while large - small > 1 {
        let mib = small.midpoint(large);
        if works(mib)? { large = mib } else { small = mib }
    }
    Ok(large)
}

/// What the kernel's sections that are given back when it has started begin with.
const FREED: &[&str] = &[".init", ".exit", ".alt", ".parainstructions", ".x86_cpu_dev", ".apicdrivers"];

/// The kernel's parts in memory, in KiB, and the file that is booted.
fn kernel_sizes() -> Result<Vec<(&'static str, u64)>> {
    let folder = linux::build("libos")?;
    let bytes = std::fs::read(folder.join("vmlinux"))?;
    let file = object::File::parse(&*bytes)?;
    let (mut code, mut constants, mut data, mut zero, mut freed) = (0, 0, 0, 0, 0);
    for section in file.sections() {
        let SectionFlags::Elf { sh_flags } = section.flags() else { bail!("not an ELF file") };
        let (name, has) = (section.name()?, |flag: u32| sh_flags & u64::from(flag) != 0);
        let part = match section.kind() {
            _ if !has(elf::SHF_ALLOC) => continue,
            SectionKind::UninitializedData => &mut zero,
            _ if FREED.iter().any(|f| name.starts_with(f)) => &mut freed,
            _ if has(elf::SHF_EXECINSTR) => &mut code,
            // The linker makes it writable; Linux does not.
            _ if has(elf::SHF_WRITE) && name != ".rodata" => &mut data,
            _ => &mut constants,
        };
        *part += section.size();
    }
    let parts = [("code", code), ("constants", constants), ("data", data), ("zeroed data", zero), ("given back after start", freed)];
    let (all, image) = (parts.iter().map(|p| p.1).sum(), std::fs::metadata(folder.join("bzImage"))?.len());
    let sizes = parts.into_iter().chain([("in memory", all), ("bzImage", image)]);
    Ok(sizes.map(|(what, bytes)| (what, bytes.div_ceil(1024))).collect())
}

/// What is executed from the X-Kernel's first instruction to the first of the container's program: each part.
fn start(plugin: &Path, files: &Files, kernel: &str) -> Result<[(&'static str, Counts); 3]> {
    let out = sh::target("bench/footprint.jsonl")?;
    let plugin = format!("{},out={}", plugin.display(), out.display());
    let [icount, shift] = INSTRUCTION_CLOCK;
    let more = [icount, shift, "-plugin", &plugin].map(String::from);
    let program = build::programs()?.join("first");
    let ended = boot(files, &[format!("{}:/first", program.display())], &["/first"], kernel, Memory(START_MIB, None), &more)?;
    ensure!(went_well(&ended), "the program did not run");
    let lines = Counts::read(&out)?;
    let moment = |at| lines.iter().find(|l| l.at == at).with_context(|| format!("nothing was counted at {at:?}"));
    let (entry, hypercall, syscall, mark) = (moment(At::Entry)?, moment(At::Hypercall)?, moment(At::Syscall)?, moment(At::Mark)?);
    Ok([
        ("the X-Kernel, to the kernel's first hypercall", hypercall.since(entry)),
        ("the kernel, to x-init's first system call", syscall.since(hypercall)),
        ("x-init, to the program", mark.since(syscall)),
    ])
}

/// `bench footprint`.
pub fn run() -> Result<()> {
    let (plugin, files) = (plugin()?, files()?);
    let sizes = kernel_sizes()?;
    let mut starts = Vec::new();
    for files in &files {
        for kernel in [run::LIBOS, "vmlinux:libos"] {
            eprintln!("xtask: {kernel} with {}, with an instruction as the clock", files.name);
            starts.push((files.name, kernel, start(&plugin, files, kernel)?));
        }
    }
    let mut least = Vec::new();
    for files in &files {
        let machine = smallest(files, "machine", |mib| Memory(mib, None))?;
        let domain = smallest(files, "domain", |mib| Memory(MACHINE_MIB, Some(mib)))?;
        least.push((files.name, machine, domain));
    }
    println!("X-LibOS, in KiB");
    sizes.iter().for_each(|(what, kib)| println!("  {what:<24} {kib:>8}"));
    println!("millions of instructions to the container's program, on a machine of {START_MIB} MiB");
    println!("  {:<48} {:>8} {:>8} {:>8} {:>8} {:>10}", "", "all", "ring 0", "kernel", "program", "crossings");
    let millions = |n: u64| n as f64 / 1e6;
    let mut rows = Vec::new();
    for (files, kernel, parts) in &starts {
        println!("  {kernel}, {files}");
        for (what, c) in parts {
            let cells = [c.instructions(), c.ring0, c.kernel, c.user].map(|n| format!(" {:>8.1}", millions(n))).concat();
            println!("    {what:<46}{cells} {:>10}", c.crossings());
        }
        let all: u64 = parts.iter().map(|(_, c)| c.instructions()).sum();
        println!("    {:<46} {:>8.1}", "together", millions(all));
        let parts: serde_json::Map<_, Value> = parts.iter().map(|(what, c)| ((*what).into(), c.instructions().into())).collect();
        rows.push(json!({ "kernel": kernel, "files": files, "instructions": all, "parts": parts }));
    }
    println!("the smallest machine on which a container works , and the smallest domain on a large one (--mem)");
    least.iter().for_each(|(name, machine, domain)| println!("  {name}: {machine} MiB, {domain} MiB"));
    let sizes: serde_json::Map<_, Value> = sizes.into_iter().map(|(what, kib)| (what.into(), kib.into())).collect();
    save("footprint", &json!({ "kernel_kib": sizes, "start": rows, "smallest_mib": least }))
}
