//! What the machine is that things are measured on.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result};

use super::super::counted::THE_SAME_AGAIN;
use super::super::report::document::Facts;
use super::super::{MACHINE_MIB, XEN_OPTIONS};
use super::Wanted;
use crate::build::{self, Profile};
use crate::{debian, linux, qemu, setup, sh};

/// The first line of what a command says.
fn first_line(command: &mut Command) -> Result<String> {
    Ok(sh::output(command)?.lines().next().unwrap_or_default().to_string())
}

/// The commit, and whether the tree is as that has it.
fn commit() -> Result<String> {
    let git = |args: &[&str]| sh::output(Command::new("git").current_dir(sh::root()).args(args));
    let changed = if git(&["status", "--porcelain", "--untracked-files=no"])?.is_empty() { "" } else { ", with changes" };
    Ok(format!("{}{changed}", git(&["rev-parse", "--short=12", "HEAD"])?.trim()))
}

/// A kernel, by the hash of what it is made of, and one of its configuration.
fn kernel(name: &str) -> Result<String> {
    let folder = linux::build(name)?;
    let config = std::fs::read_to_string(folder.join(".config"))?;
    let mut hash = DefaultHasher::new();
    config.lines().filter(|l| l.starts_with("CONFIG_")).for_each(|l| l.hash(&mut hash));
    let made_of = folder.file_name().and_then(|n| n.to_str()).context("a kernel's folder has a name")?.to_string();
    Ok(format!("{made_of}, configuration {:016x}", hash.finish()))
}

/// A hash of a file.
fn hash_of(file: &Path) -> Result<String> {
    let mut hash = DefaultHasher::new();
    std::fs::read(file).with_context(|| format!("cannot read {}", file.display()))?.hash(&mut hash);
    Ok(format!("{:016x}", hash.finish()))
}

/// All facts; `why_no_times` is empty if there are times.
pub fn gather(wanted: &Wanted, why_no_times: String) -> Result<Facts> {
    setup::ensure(setup::RUN)?;
    let wanted_columns = wanted.columns().into_iter().filter(|(_, wanted)| *wanted).map(|(column, _)| column);
    let mut names: Vec<_> = wanted_columns.filter_map(|c| c.kernel().split_once(':')).map(|(_, name)| name).collect();
    names.sort_unstable();
    names.dedup();
    let kernels = names.into_iter().map(kernel).collect::<Result<_>>()?;
    let processor = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let processor = processor.lines().find_map(|l| l.strip_prefix("model name")?.split_once(": ")).map_or("unknown", |(_, name)| name);
    let commit = commit()?;
    let xen = debian::xen()?;
    let xen = Path::new(&xen).file_name().and_then(|n| n.to_str()).unwrap_or("Xen").to_string();
    Ok(Facts {
        date: first_line(Command::new("date").args(["-u", "+%Y-%m-%d %H:%M UTC"]))?,
        command: std::iter::once("cargo xtask".to_string()).chain(std::env::args().skip(1)).collect::<Vec<_>>().join(" "),
        emulator: format!("{}, TCG, {}", first_line(Command::new("qemu-system-x86_64").arg("--version"))?, THE_SAME_AGAIN.join(" ")),
        machine: format!("one CPU ({}), {MACHINE_MIB} MiB", qemu::CPU),
        host: processor.into(),
        kernels,
        programs: vec![format!("tests/linux/ops, {}", hash_of(&build::programs()?.join("ops"))?)],
        hypervisors: vec![
            format!("X-Kernel, {}", hash_of(&build::x_kernel(Profile::Release)?)?),
            format!("{xen} ({})", XEN_OPTIONS.trim()),
        ],
        mitigations: format!(
            "none on either side: the kernels are built without, the X-Kernel has none, Xen is told {}",
            XEN_OPTIONS.trim()
        ),
        runs: wanted.runs.max(1),
        nanoseconds: why_no_times,
        commit,
    })
}
