//! Debian packages: what is missing is installed, as root or by sudo.

use std::process::Command;

use anyhow::{Result, bail};

use crate::sh;

/// What building the X-Kernel needs. The compiler is Debian's, because the target's core library is built from source.
pub const BUILD: &[&str] = &["rustc-web", "cargo-web", "rust-web-src", "lld", "gcc", "libc6-dev", "binutils"];
/// What running it needs.
pub const RUN: &[&str] =
    &["qemu-system-x86", "ovmf", "grub-pc-bin", "grub-efi-amd64-bin", "grub-common", "xorriso", "mtools", "busybox-static"];
/// What the tests need beyond that.
pub const TEST: &[&str] = &["libxen-dev", "xz-utils"];
/// What the tests of the TLB need: an emulator that keeps what a CPU keeps.
pub const BOCHS: &[&str] = &["bochs", "bochs-term", "bochsbios", "vgabios"];
/// What building Linux needs.
pub const LINUX: &[&str] = &["gcc", "libc6-dev", "binutils", "make", "flex", "bison", "bc", "libelf-dev", "lz4", "patch", "xz-utils"];
/// What making root file systems of containers needs.
pub const ROOTFS: &[&str] = &["mmdebstrap", "debian-archive-keyring", "tar"];
/// What making images needs.
pub const IMAGES: &[&str] = &["umoci", "skopeo", "tar"];
/// What making and checking the package needs.
pub const PACKAGE: &[&str] = &["dpkg-dev", "lintian"];
/// What the debugger needs.
pub const GDB: &[&str] = &["gdb"];

/// Installs everything.
pub fn all() -> Result<()> {
    ensure(&[BUILD, RUN, TEST, BOCHS, LINUX, ROOTFS, IMAGES, PACKAGE, GDB].concat())
}

/// Whether a package is installed.
fn installed(package: &str) -> bool {
    sh::output(Command::new("dpkg-query").args(["-W", "-f=${Status}", package])).is_ok_and(|s| s.contains("ok installed"))
}

/// Runs apt-get, as root or by sudo.
fn apt(args: &[&str]) -> Result<()> {
    let root = sh::output(Command::new("id").arg("-u"))?.trim() == "0";
    let mut command = if root { Command::new("apt-get") } else { Command::new("sudo") };
    if !root {
        command.arg("apt-get");
    }
    sh::run(command.env("DEBIAN_FRONTEND", "noninteractive").args(args))
}

/// Fetches the index of packages.
pub fn update() -> Result<()> {
    apt(&["update", "-qq"])
}

/// Installs what is missing of `packages`.
pub fn ensure(packages: &[&str]) -> Result<()> {
    let missing: Vec<_> = packages.iter().copied().filter(|p| !installed(p)).collect();
    if missing.is_empty() {
        return Ok(());
    }
    eprintln!("xtask: installing {}", missing.join(" "));
    // An index that is out of date names packages that are gone.
    update()?;
    // A fresh machine's own upgrades may be under way.
    let mut install = vec!["install", "-y", "-qq", "--no-install-recommends", "-o", "DPkg::Lock::Timeout=600"];
    install.extend(&missing);
    apt(&install)?;
    let still: Vec<_> = missing.into_iter().filter(|p| !installed(p)).collect();
    if !still.is_empty() {
        bail!("these packages are still missing: {}", still.join(" "));
    }
    Ok(())
}
