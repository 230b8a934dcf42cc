//! What comes from Debian's packages and only goes into a guest or stands beside ours: fetched once, unpacked into the
//! cache, never installed.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};

use crate::sh;

/// The file in an unpacked package that says that all of it is there, and which version it is.
const DONE: &str = "done";

/// The package that `meta` depends on whose name begins with `prefix`.
fn dependency(meta: &str, prefix: &str) -> Result<String> {
    let find = || -> Result<Option<String>> {
        let text = sh::output(Command::new("apt-cache").args(["depends", meta]))?;
        Ok(text.lines().filter_map(|l| l.trim().strip_prefix("Depends: ")).find(|p| p.starts_with(prefix)).map(str::to_string))
    };
    if let Ok(Some(found)) = find() {
        return Ok(found);
    }
    sh::run(Command::new("apt-get").args(["update", "-qq"]))?;
    find()?.with_context(|| format!("{meta} depends on no {prefix}…"))
}

/// The folder that `package` is unpacked in. It appears there in one step, whole.
fn unpacked(package: &str) -> Result<PathBuf> {
    let folder = sh::cache("debian")?.join(package);
    let _lock = sh::lock("debian")?;
    if folder.join(DONE).is_file() {
        return Ok(folder);
    }
    eprintln!("xtask: fetching {package}");
    let part = sh::cache("debian")?.join("part");
    sh::empty(&part)?;
    sh::empty(&folder)?;
    let fetch =
        || sh::run(Command::new("apt-get").current_dir(&part).args(["download", "-qq", "--option=APT::Sandbox::User=root", package]));
    if fetch().is_err() {
        sh::run(Command::new("apt-get").args(["update", "-qq"]))?;
        fetch()?;
    }
    let deb = file(&part, "", ".deb")?;
    sh::run(Command::new("dpkg").arg("-x").arg(&deb).arg(&part))?;
    std::fs::remove_file(&deb)?;
    std::fs::write(part.join(DONE), deb.file_name().context("a package has a name")?.as_encoded_bytes())?;
    std::fs::rename(&part, &folder)?;
    Ok(folder)
}

/// The first file of `folder` whose name begins with `prefix` and ends with `suffix`.
fn file(folder: &Path, prefix: &str, suffix: &str) -> Result<PathBuf> {
    let mut found: Vec<_> = std::fs::read_dir(folder)?.filter_map(|e| Some(e.ok()?.path())).collect();
    found.retain(|p| p.file_name().and_then(|n| n.to_str()).is_some_and(|n| n.starts_with(prefix) && n.ends_with(suffix)));
    found.sort();
    found.into_iter().next().with_context(|| format!("no {prefix}…{suffix} in {}", folder.display()))
}

/// Debian's stock kernel.
pub fn kernel() -> Result<PathBuf> {
    let package = dependency("linux-image-amd64", "linux-image-")?;
    file(&unpacked(&package)?.join("boot"), "vmlinuz-", "")
}

/// Debian's Xen, as an ELF that GRUB loads.
pub fn xen() -> Result<PathBuf> {
    file(&unpacked("xen-hypervisor-4.17-amd64")?.join("boot"), "xen-4.17", ".gz")
}

/// Linux's source as Debian has it: the archive, and the name of the package, which has the version in it.
pub fn linux_source() -> Result<(PathBuf, String)> {
    let folder = unpacked("linux-source-6.1")?;
    let version = std::fs::read_to_string(folder.join(DONE))?;
    Ok((file(&folder.join("usr/src"), "linux-source-", ".tar.xz")?, version))
}
