//! Root file systems of containers, made from Debian's packages as they are.
//!
//! mmdebstrap finds what the packages need and unpacks it; no script of a package runs, so that neither root nor a
//! chroot is needed, and what the scripts would have made and a container cannot do without is made here. A root file
//! system lies in the cache under a hash of the versions of all that is in it, and appears there in one step.

use std::collections::BTreeSet;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::io::Write;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};

use crate::{setup, sh};

/// Debian's release.
const RELEASE: &str = "bookworm";

/// A choice of packages.
struct Set {
    name: &'static str,
    packages: &'static [&'static str],
}

/// In every one: the names of users, a shell, and the programs that scripts take for granted. `usr-is-merged` is empty; in
/// its place apt would take another package, which needs Perl.
const COMMON: &[&str] = &[
    "base-files",
    "base-passwd",
    "bash",
    "coreutils",
    "dash",
    "findutils",
    "grep",
    "hostname",
    "mawk",
    "ncurses-base",
    "procps",
    "sed",
    "usr-is-merged",
];

/// The first one is the usual one.
const SETS: &[Set] = &[
    Set { name: "default", packages: &["iproute2", "less", "mount", "util-linux", "vim-tiny"] },
    Set {
        name: "workloads",
        packages: &[
            "diffutils",
            "memcached",
            "nginx-light",
            "python3",
            "redis-server",
            "redis-tools",
            "sqlite3",
            "stress-ng",
            "util-linux",
            "wrk",
        ],
    },
    Set { name: "debuggers", packages: &["gdb-minimal", "strace", "util-linux"] },
    // What brings its own way to make system calls, or makes others than a C program does.
    Set {
        name: "languages",
        packages: &["binutils", "caddy", "gcc", "libc6-dev", "nodejs", "openjdk-17-jdk-headless", "util-linux", "wrk"],
    },
    Set { name: "compiler", packages: &["gcc", "libc6-dev"] },
    // What images of tests are made of.
    Set { name: "image", packages: &["attr"] },
    Set { name: "nginx", packages: &["nginx-light"] },
    Set { name: "python", packages: &["python3"] },
    Set { name: "redis", packages: &["redis-server", "redis-tools"] },
    // What Xen's first domain needs to start others.
    Set { name: "xen", packages: &["mount", "xen-utils-4.17", "xenstore-utils"] },
];

/// What is left out: nothing there is run. The nodes of /dev are the kernel's to make.
const WITHOUT: &[&str] = &[
    "./dev/*",
    "./usr/share/doc/*",
    "./usr/share/doc-base/*",
    "./usr/share/info/*",
    "./usr/share/lintian/*",
    "./usr/share/locale/*",
    "./usr/share/man/*",
];

/// Files that a package's script makes of others: to and from.
const COPIES: &[(&str, &str)] =
    &[("etc/passwd", "usr/share/base-passwd/passwd.master"), ("etc/group", "usr/share/base-passwd/group.master")];

/// Links that `update-alternatives` would make: where and to.
const LINKS: &[(&str, &str)] = &[("usr/bin/awk", "mawk"), ("usr/bin/vi", "vim.tiny"), ("usr/bin/pager", "less")];

/// Whose file system it is, inside.
const HOSTS: &str = "127.0.0.1\tlocalhost\n::1\tlocalhost ip6-localhost ip6-loopback\n";

/// The packages that `wanted` come to, with their versions, by the host's own sources. A program that is installed on the
/// host counts as little as one that is not.
fn versions(wanted: &[&str]) -> Result<BTreeSet<String>> {
    let ask = || {
        let mut apt = Command::new("apt-get");
        apt.args(["--simulate", "--quiet=2", "--option=Dir::State::status=/dev/null", "--option=APT::Install-Recommends=no", "install"]);
        sh::output(apt.args(wanted))
    };
    let text = match ask() {
        Ok(text) => text,
        Err(_) => {
            setup::update()?;
            ask()?
        }
    };
    Ok(installs(&text))
}

/// The packages and versions in what apt says that it would do.
fn installs(text: &str) -> BTreeSet<String> {
    let of = |line: &str| {
        let (name, rest) = line.strip_prefix("Inst ")?.split_once(" (")?;
        Some(format!("{name}={}", rest.split_whitespace().next()?))
    };
    text.lines().filter_map(of).collect()
}

/// The host's sources of Debian's packages, as one-line entries.
fn sources() -> Result<String> {
    let format = "$(ORIGIN) deb $(REPO_URI) $(RELEASE) $(COMPONENT)";
    let text = sh::output(Command::new("apt-get").args(["indextargets", "--format", format, "Created-By: Packages"]))?;
    let lines: BTreeSet<_> = text.lines().filter_map(|l| l.strip_prefix("Debian ")).collect();
    if lines.is_empty() {
        bail!("apt has no source of Debian's packages");
    }
    Ok(lines.into_iter().map(|l| format!("{l}\n")).collect())
}

/// The host's proxies, as apt has them.
fn proxies() -> Result<Vec<String>> {
    let text = sh::output(Command::new("apt-config").args(["dump", "--no-empty", "--format", "%f \"%v\";%n", "Acquire"]))?;
    Ok(text.lines().filter(|l| l.contains("::Proxy")).map(|l| format!("--aptopt={l}")).collect())
}

/// Makes the root file system `name` if the cache does not have it, and returns its folder.
pub fn debian(name: &str) -> Result<PathBuf> {
    let Some(set) = SETS.iter().find(|s| s.name == name) else {
        let names: Vec<_> = SETS.iter().map(|s| s.name).collect();
        bail!("there is no root file system debian:{name}, only {}", names.join(", "));
    };
    let wanted = [COMMON, set.packages].concat();
    let versions = versions(&wanted)?;
    let mut hash = DefaultHasher::new();
    (&versions, WITHOUT, COPIES, LINKS, HOSTS).hash(&mut hash);
    let cache = sh::cache("rootfs")?;
    let done = cache.join(format!("{name}-{:016x}", hash.finish()));
    let _lock = sh::lock("rootfs")?;
    if done.is_dir() {
        return Ok(done);
    }
    setup::ensure(setup::ROOTFS)?;
    eprintln!("xtask: making the root file system debian:{name} of {} packages", versions.len());
    let part = cache.join("part");
    sh::empty(&part)?;
    let archive = cache.join("part.tar");
    unpack(&wanted, &archive, &part)?;
    std::fs::remove_file(&archive)?;
    complete(&part).with_context(|| format!("debian:{name}"))?;
    // Those of other versions are of no more use.
    for old in std::fs::read_dir(&cache)?.filter_map(|e| Some(e.ok()?.path())) {
        let is_old = old.file_name().and_then(|n| n.to_str()).and_then(|n| n.rsplit_once('-')).is_some_and(|(n, _)| n == name);
        if is_old {
            std::fs::remove_dir_all(&old)?;
        }
    }
    std::fs::rename(&part, &done)?;
    Ok(done)
}

/// Unpacks the packages and what they need, by way of the file `archive`.
fn unpack(packages: &[&str], archive: &Path, folder: &Path) -> Result<()> {
    let mut command = Command::new("mmdebstrap");
    command.args(["--quiet", "--variant=extract", "--mode=chrootless", "--format=tar"]).args(proxies()?);
    command.arg(format!("--include={}", packages.join(","))).args([RELEASE, "-", "-"]);
    let mut child = command.stdin(Stdio::piped()).stdout(std::fs::File::create(archive)?).spawn().context("cannot start mmdebstrap")?;
    child.stdin.take().context("its input")?.write_all(sources()?.as_bytes())?;
    let status = child.wait()?;
    if !status.success() {
        bail!("mmdebstrap ended with {status}");
    }
    let without = WITHOUT.iter().map(|w| format!("--exclude={w}"));
    sh::run(Command::new("tar").args(["--extract", "--wildcards"]).args(without).arg("--file").arg(archive).arg("--directory").arg(folder))
}

/// Makes what the packages' scripts would have made.
fn complete(folder: &Path) -> Result<()> {
    for (to, from) in COPIES {
        std::fs::copy(folder.join(from), folder.join(to)).with_context(|| format!("cannot copy {from} to {to}"))?;
    }
    for (link, to) in LINKS {
        let place = folder.join(link);
        if place.with_file_name(to).exists() && !place.exists() {
            symlink(to, place)?;
        }
    }
    std::fs::write(folder.join("etc/hosts"), HOSTS)?;
    // They are the host's, or say nothing.
    for file in ["etc/hostname", "etc/resolv.conf", "etc/apt/sources.list"] {
        let _ = std::fs::remove_file(folder.join(file));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_read() {
        let text = "Inst libc6 (2.36-9 Debian:12.5/stable [amd64]) []\nConf libc6 (2.36-9 Debian:12.5/stable [amd64])\nInst bash (5.2-1 Debian [amd64])\n";
        assert_eq!(installs(text).into_iter().collect::<Vec<_>>(), ["bash=5.2-1", "libc6=2.36-9"]);
    }

    #[test]
    fn names_of_sets_are_files() {
        for set in SETS {
            assert!(set.name.bytes().all(|b| b.is_ascii_lowercase()), "{}", set.name);
        }
    }
}
