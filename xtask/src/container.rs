//! A container: a root file system and x-init, with what it is to run, as one initial RAM disk.

use std::ffi::OsString;
use std::fs::File;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};

use anyhow::{Context, Result, bail};
use clap::Args;
use serde::Deserialize;
use x_init::config::{self, Config};

use crate::archive::{Archive, Tree};
use crate::initrd::Script;
use crate::{build, rootfs, sh};

/// What an X-LibOS needs for itself while it unpacks, in MiB.
const KERNEL_MIB: u64 = 48;

/// What runs where there is no command.
const SHELL: &str = "/bin/sh";

/// Containers.
#[derive(Args, Clone, Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub struct ContainerArgs {
    /// The container's file system: a folder, or debian:NAME for one made of Debian's packages (debian:default,
    /// debian:workloads)
    #[arg(long)]
    pub rootfs: Option<PathBuf>,
    /// A variable of the command's environment, NAME=VALUE
    #[arg(long, requires = "rootfs")]
    pub env: Vec<String>,
    /// The command's user, USER[:GROUP], by names of the container's /etc/passwd and /etc/group or by numbers
    #[arg(long, requires = "rootfs")]
    pub user: Option<String>,
    /// The command's working directory
    #[arg(long, requires = "rootfs")]
    pub workdir: Option<String>,
    /// The container's host name
    #[arg(long, requires = "rootfs")]
    pub hostname: Option<String>,
    /// A file, or a folder of files, to put into the container, FROM:TO; TO is absolute, and the folder that it is in must
    /// be there
    #[arg(long, requires = "rootfs")]
    pub add: Vec<String>,
}

impl ContainerArgs {
    /// The container of tests/workloads.
    pub fn workloads() -> Self {
        let add = vec!["tests/workloads:/workloads".into()];
        Self { rootfs: Some("debian:workloads".into()), add, ..Self::default() }.below(&sh::root())
    }

    /// The same, with files to add that are named from `folder`.
    pub fn below(&self, folder: &Path) -> Self {
        let add = self.add.iter().map(|text| format!("{}/{text}", folder.display())).collect();
        Self { add, ..self.clone() }
    }

    /// The command that makes its checks.
    pub fn workloads_command() -> Vec<String> {
        ["/bin/bash", "/workloads/all.sh"].map(String::from).to_vec()
    }
}

/// A container's initial RAM disk: a file that lives as long as this.
#[derive(Debug)]
pub struct Container {
    initrd: PathBuf,
    /// How large it is, and how much memory it takes unpacked, in bytes.
    packed: u64,
    unpacked: u64,
}

impl Drop for Container {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.initrd);
    }
}

/// What x-init is told.
fn configuration(args: &ContainerArgs, command: &[String]) -> Config {
    let argv: Vec<OsString> = if command.is_empty() { vec![SHELL.into()] } else { command.iter().map(Into::into).collect() };
    let usual = Config::new(argv);
    Config {
        env: args.env.iter().map(Into::into).collect(),
        cwd: args.workdir.as_ref().map_or(usual.cwd, Into::into),
        user: args.user.clone().unwrap_or(usual.user),
        hostname: Some(args.hostname.clone().unwrap_or_else(|| "x-container".into())),
        terminal: command.is_empty(),
        ..usual
    }
}

/// The folder of a root file system.
fn folder(rootfs: &Path) -> Result<PathBuf> {
    match rootfs.to_str().and_then(|text| text.split_once(':')) {
        Some(("debian", name)) => rootfs::debian(name),
        _ => Ok(rootfs.to_path_buf()),
    }
}

/// The packed root file system, made again when the folder has changed, with how much memory it takes unpacked.
fn packed(rootfs: &Path) -> Result<(PathBuf, u64)> {
    let tree = Tree::of(&folder(rootfs)?)?;
    let to = sh::target(&format!("initrd/rootfs-{:016x}.cpio", tree.fingerprint()))?;
    if !to.is_file() {
        eprintln!("xtask: packing {}", rootfs.display());
        let part = to.with_extension(unique());
        tree.pack(&part).and_then(|()| Ok(std::fs::rename(&part, &to)?)).inspect_err(|_| drop(std::fs::remove_file(&part)))?;
    }
    Ok((to, tree.memory()))
}

/// A word for a name that nobody else has.
fn unique() -> String {
    static COUNT: AtomicU32 = AtomicU32::new(0);
    format!("{}-{}", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed))
}

impl Container {
    /// A container of `args` that runs `command`, or an interactive shell if that is empty.
    ///
    /// # Errors
    /// What is wrong with the arguments or the file system.
    pub fn new(args: &ContainerArgs, command: &[String]) -> Result<Self> {
        let rootfs = args.rootfs.as_deref().context("a container needs --rootfs")?;
        let config = configuration(args, command).encode().context("the container's configuration")?;
        let (packed, unpacked) = packed(rootfs)?;
        let initrd = sh::target(&format!("initrd/container-{}.cpio", unique()))?;
        let this = Self { packed: packed.metadata()?.len(), unpacked, initrd };
        // The second archive is small and made anew, and goes behind the first.
        let own = this.initrd.with_extension("own");
        let done = own_part(&own, &config, &args.add).and_then(|()| join(&[&packed, &own], &this.initrd));
        let _ = std::fs::remove_file(&own);
        done.map(|()| this)
    }

    /// The initrd, for a boot.
    pub fn script(&self) -> Script {
        Script::Container(self.initrd.clone())
    }

    /// Whether a guest with so much memory can hold it.
    ///
    /// # Errors
    /// How much it needs, if it cannot.
    pub fn fits(&self, mem_mib: u64) -> Result<()> {
        let mib = |bytes: u64| bytes.div_ceil(1 << 20);
        let (packed, unpacked) = (mib(self.packed), mib(self.unpacked));
        // Both are there until all is unpacked; and the initial file system takes no more than half of all memory.
        let needed = (packed + unpacked + KERNEL_MIB).max(2 * unpacked + KERNEL_MIB);
        if needed > mem_mib {
            bail!(
                "the root file system needs a guest of {needed} MiB ({packed} MiB packed, {unpacked} MiB unpacked, which may be half of \
                 the memory); this one has {mem_mib} MiB: see --mem and --guest-mem"
            );
        }
        Ok(())
    }
}

/// A path's name in an archive.
fn name(path: &str) -> String {
    path.trim_matches('/').to_string()
}

/// Writes the archive with x-init and what it is told, what is to be `added`, and the two devices that there must be before
/// x-init has run.
fn own_part(to: &Path, config: &[u8], added: &[String]) -> Result<()> {
    let program = build::x_init()?;
    let mut archive = Archive::create(to, 0)?;
    archive.put(&name(config::FOLDER), 0o040_700, &[])?;
    archive.put(&name(config::PROGRAM), 0o100_700, &std::fs::read(&program)?)?;
    archive.put(&name(config::FILE), 0o100_600, config)?;
    archive.put("dev", 0o040_755, &[])?;
    archive.device("dev/console", 0o600, (5, 1))?;
    archive.device("dev/null", 0o666, (1, 3))?;
    for text in added {
        let (from, to) =
            text.split_once(':').filter(|(_, to)| to.starts_with('/')).with_context(|| format!("--add: '{text}' is not FROM:TO"))?;
        add(&mut archive, Path::new(from), &name(to))?;
    }
    archive.finish()
}

/// Puts a file into the archive, or a folder with the files in it.
fn add(archive: &mut Archive, from: &Path, to: &str) -> Result<()> {
    let meta = from.metadata().with_context(|| format!("cannot read {}", from.display()))?;
    if !meta.is_dir() {
        return archive.put(to, meta.mode(), &std::fs::read(from)?);
    }
    archive.put(to, 0o040_755, &[])?;
    for entry in std::fs::read_dir(from)? {
        let path = entry?.path();
        if let Some(name) = path.file_name().and_then(|n| n.to_str())
            && path.is_file()
        {
            add(archive, &path, &format!("{to}/{name}"))?;
        }
    }
    Ok(())
}

/// Writes `files` one behind the other.
fn join(files: &[&Path], to: &Path) -> Result<()> {
    let mut out = File::create(to).with_context(|| format!("cannot write {}", to.display()))?;
    for file in files {
        std::io::copy(&mut File::open(file)?, &mut out)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arguments_become_a_configuration() {
        let args =
            ContainerArgs { env: vec!["A=b".into()], user: Some("me".into()), workdir: Some("/w".into()), ..ContainerArgs::default() };
        let config = configuration(&args, &["ls".into(), "-l".into()]);
        assert_eq!((config.argv.len(), config.terminal, config.user.as_str()), (2, false, "me"));
        assert_eq!(Config::parse(&config.encode().expect("encoded")), Ok(config));
        let shell = configuration(&ContainerArgs::default(), &[]);
        assert!(shell.terminal && shell.argv == [SHELL]);
        let bad = ContainerArgs { env: vec!["A".into()], ..ContainerArgs::default() };
        assert!(configuration(&bad, &[]).encode().is_err());
    }

    #[test]
    fn memory_is_looked_at() {
        let with = |packed: u64, unpacked: u64| Container { initrd: PathBuf::new(), packed: packed << 20, unpacked: unpacked << 20 };
        assert!(with(30, 100).fits(248).is_ok());
        assert!(with(30, 100).fits(247).is_err());
        assert!(with(200, 100).fits(347).is_err());
    }
}
