//! Freestanding builds, the X-Kernel and the micro-guests; and programs for Linux guests, x-init above all.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Mutex;

use anyhow::{Context, Result, anyhow};

use crate::{setup, sh, symbols};

const TARGET: &str = "x86_64-unknown-none";
/// Linux, for what runs in containers.
const HOST: &str = "x86_64-unknown-linux-gnu";

/// How to build.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Profile {
    /// With debug assertions.
    Dev,
    /// What users run.
    Release,
    /// As [`Self::Release`], but flushes can be left out by an option, to show that tests see it.
    NegativeControl,
}

impl Profile {
    /// By the command line's flag.
    pub fn of(dev: bool) -> Self {
        if dev { Self::Dev } else { Self::Release }
    }

    /// Cargo's profile.
    fn cargo(self) -> &'static str {
        match self {
            Self::Dev => "dev",
            Self::Release | Self::NegativeControl => "x-kernel",
        }
    }
}

/// Whether the toolchain in use has the target's core library.
fn has_target() -> bool {
    sh::output(Command::new("rustc").args(["--print", "sysroot"]))
        .is_ok_and(|sysroot| Path::new(sysroot.trim()).join("lib/rustlib").join(TARGET).join("lib").is_dir())
}

/// A cargo that builds `package` for the bare machine into a target folder of its own, by one of its profiles and with `flags`
/// for rustc.
fn cargo(package: &str, profile: &str, flags: &str) -> Result<(Command, PathBuf)> {
    let folder = sh::target(&format!("freestanding-{package}/x"))?;
    let folder = folder.parent().context("a folder")?.to_path_buf();
    let common = "-C linker=ld.lld -C relro-level=off -C force-frame-pointers=yes";
    let mut command = if has_target() {
        setup::ensure(&["lld"])?;
        Command::new("cargo")
    } else {
        // No prebuilt core for the target: build it from Debian's source with the compiler of the same version. The
        // host's own core is never linked: it uses SSE and the red zone.
        setup::ensure(setup::BUILD)?;
        let mut command = Command::new("/usr/bin/cargo");
        command.env("RUSTC", "/usr/bin/rustc").env("RUSTC_BOOTSTRAP", "1").arg("-Zbuild-std=core,alloc,compiler_builtins");
        command
    };
    command
        .current_dir(sh::root())
        .env("RUSTFLAGS", format!("{common} {flags}"))
        .env("CARGO_TARGET_DIR", &folder)
        .env_remove("RUSTUP_TOOLCHAIN")
        .args(["build", "--quiet", "--package", package, "--target", TARGET, "--profile", profile]);
    Ok((command, folder.join(TARGET).join(if profile == "dev" { "debug" } else { profile })))
}

/// Builds the X-Kernel, once per run of this program. Returns where the ELF is.
pub fn x_kernel(profile: Profile) -> Result<PathBuf> {
    static BUILT: Mutex<[Option<PathBuf>; 3]> = Mutex::new([None, None, None]);
    let mut built = BUILT.lock().map_err(|_| anyhow!("an earlier build failed"))?;
    let slot = &mut built[profile as usize];
    if slot.is_none() {
        *slot = Some(build_x_kernel(profile)?);
    }
    slot.clone().context("built just now")
}

/// Builds it, and puts its symbols into it.
fn build_x_kernel(profile: Profile) -> Result<PathBuf> {
    eprintln!("xtask: building the X-Kernel ({profile:?})");
    let features: &[&str] = if profile == Profile::NegativeControl { &["--features", "negative-control"] } else { &[] };
    let (mut command, folder) = cargo("x-kernel", profile.cargo(), "-C relocation-model=pic -C code-model=small -C link-arg=--no-pie")?;
    sh::run(command.args(features))?;
    let to = sh::target(match profile {
        Profile::Release => "x-kernel",
        Profile::Dev => "x-kernel-dev",
        Profile::NegativeControl => "x-kernel-negative-control",
    })?;
    symbols::embed(&folder.join("x-kernel"), &to)?;
    Ok(to)
}

/// Builds x-init, the first process of containers, as one file that needs no other. Returns where it is.
pub fn x_init() -> Result<PathBuf> {
    let folder = sh::target("x-init/x")?;
    let folder = folder.parent().context("a folder")?;
    // With a target named, flags are for the program and not for what builds it.
    let mut command = Command::new(env!("CARGO"));
    command
        .current_dir(sh::root())
        .env("RUSTFLAGS", "-C target-feature=+crt-static -C relocation-model=static")
        .env("CARGO_TARGET_DIR", folder)
        .args(["build", "--quiet", "--package", "x-init", "--profile", "init", "--target", HOST]);
    sh::run(&mut command)?;
    Ok(folder.join(HOST).join("init/x-init"))
}

/// Builds the micro-guests into target/guests, one ELF each, once per run of this program.
pub fn guests() -> Result<PathBuf> {
    static BUILT: Mutex<Option<PathBuf>> = Mutex::new(None);
    let mut built = BUILT.lock().map_err(|_| anyhow!("an earlier build failed"))?;
    if built.is_none() {
        *built = Some(build_guests()?);
    }
    built.clone().context("built just now")
}

fn build_guests() -> Result<PathBuf> {
    let to = sh::root().join("target/guests");
    std::fs::create_dir_all(&to)?;
    let script = sh::root().join("tests/ptk/guest.ld");
    eprintln!("xtask: building the micro-guests");
    let flags = format!("-C relocation-model=static -C code-model=kernel -C link-arg=-T{}", script.display());
    let (mut command, folder) = cargo("pv-guests", "release", &flags)?;
    sh::run(&mut command)?;
    for case in guest_names()? {
        std::fs::copy(folder.join(&case), to.join(&case)).with_context(|| format!("guest {case}"))?;
    }
    Ok(to)
}

/// The micro-guests, by name: the folders of tests/guests that have a main.rs.
pub fn guest_names() -> Result<Vec<String>> {
    let mut names = Vec::new();
    for entry in std::fs::read_dir(sh::root().join("tests/guests"))? {
        let path = entry?.path();
        if path.join("main.rs").is_file()
            && let Some(name) = path.file_name().and_then(|n| n.to_str())
        {
            names.push(name.to_string());
        }
    }
    names.sort();
    Ok(names)
}

/// Builds the programs for Linux guests, tests/linux, static and stripped, once per run of this program. Returns the
/// folder where they are.
pub fn programs() -> Result<PathBuf> {
    static BUILT: Mutex<Option<PathBuf>> = Mutex::new(None);
    let mut built = BUILT.lock().map_err(|_| anyhow!("an earlier build failed"))?;
    if built.is_none() {
        *built = Some(build_programs()?);
    }
    built.clone().context("built just now")
}

fn build_programs() -> Result<PathBuf> {
    const LINUX: &str = "x86_64-unknown-linux-gnu";
    setup::ensure(&["gcc", "libc6-dev"])?;
    let folder = sh::root().join("target/programs");
    eprintln!("xtask: building the programs for Linux guests");
    let mut cargo = Command::new(env!("CARGO"));
    cargo
        .current_dir(sh::root())
        .env("RUSTFLAGS", "-C target-feature=+crt-static -C strip=symbols")
        .args(["build", "--quiet", "--release", "--package", "linux-programs", "--target", LINUX, "--target-dir"])
        .arg(&folder);
    sh::run(&mut cargo)?;
    Ok(folder.join(LINUX).join("release"))
}

/// Builds everything.
pub fn everything(profile: Profile) -> Result<()> {
    let kernel = x_kernel(profile)?;
    guests()?;
    println!("{}", kernel.display());
    Ok(())
}
