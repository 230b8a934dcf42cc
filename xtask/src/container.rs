//! A container: its files and x-init, with what it is to run, as one initial RAM disk.

mod args;

use std::fs::File;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use x_init::config;

pub use self::args::ContainerArgs;
use self::args::{HOSTNAME, configuration, names};
use crate::archive::Archive;
use crate::initrd::Script;
use crate::run::{GuestArgs, mib};
use crate::screen::Domains;
use crate::source::{Source, unique};
use crate::{build, sh};

/// What an X-LibOS needs for itself while it unpacks, in MiB.
const KERNEL_MIB: u64 = 48;
/// The least that one of several containers gets if nothing is said, in MiB.
const USUAL_MIB: u64 = 192;

/// A container's initial RAM disk: a file that lives as long as this.
#[derive(Debug)]
pub struct Container {
    /// Its name, if there are others.
    pub name: Option<String>,
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

impl Container {
    /// The container of `args`, of which there must be one, that runs `command`; an interactive shell if that is empty.
    ///
    /// # Errors
    /// What is wrong with the arguments or the files.
    pub fn new(args: &ContainerArgs, command: &[String]) -> Result<Self> {
        let mut all = Self::all(args, command, command.is_empty())?;
        match (all.pop(), all.is_empty()) {
            (Some(container), true) => Ok(container),
            _ => bail!("there is room for one container here"),
        }
    }

    /// All containers of `args`, that run `command`, or, if that is empty, what their images say.
    ///
    /// # Errors
    /// What is wrong with the arguments or the files.
    pub fn all(args: &ContainerArgs, command: &[String], terminal: bool) -> Result<Vec<Self>> {
        let sources = args.sources();
        let names = if sources.len() > 1 { names(&sources).into_iter().map(Some).collect() } else { vec![None] };
        sources.iter().zip(names).map(|(source, name)| Self::of(source, args, command, terminal, name)).collect()
    }

    fn of(source: &Source, args: &ContainerArgs, command: &[String], terminal: bool, name: Option<String>) -> Result<Self> {
        let files = source.files()?;
        let config = configuration(args, &files.settings, command, terminal, name.as_deref().unwrap_or(HOSTNAME))?;
        let config = config.encode().context("the container's configuration")?;
        let initrd = sh::target(&format!("initrd/container-{}.cpio", unique()))?;
        sh::sweep(&initrd, "container-");
        let this = Self { name, packed: files.packed.metadata()?.len(), unpacked: files.unpacked, initrd };
        // The second archive is small and made anew, and goes behind the first.
        let own = this.initrd.with_extension("own");
        let done = own_part(&own, &config, &args.add).and_then(|()| join(&[&files.packed, &own], &this.initrd));
        let _ = std::fs::remove_file(&own);
        done.map(|()| this)
    }

    /// The initrd, for a boot.
    pub fn script(&self) -> Script {
        Script::Container(self.initrd.clone())
    }

    /// How much memory a guest must have for it, in MiB.
    pub fn needs(&self) -> u64 {
        let mib = |bytes: u64| bytes.div_ceil(1 << 20);
        let (packed, unpacked) = (mib(self.packed), mib(self.unpacked));
        // Both are there until all is unpacked; and the initial file system takes no more than half of all memory.
        (packed + unpacked + KERNEL_MIB).max(2 * unpacked + KERNEL_MIB)
    }

    /// How large its initial RAM disk is, in MiB.
    pub fn packed_mib(&self) -> u64 {
        self.packed.div_ceil(1 << 20)
    }

    /// Whether a guest with so much memory can hold it.
    ///
    /// # Errors
    /// How much it needs, if it cannot.
    pub fn fits(&self, mem_mib: u64) -> Result<()> {
        let needed = self.needs();
        if needed > mem_mib {
            bail!(
                "{} needs a guest of {needed} MiB (its files are {} MiB packed, and {} MiB unpacked, which may be half of the memory); \
                 this one has {mem_mib} MiB: see --mem",
                self.name.as_deref().unwrap_or("the container"),
                self.packed_mib(),
                self.unpacked.div_ceil(1 << 20)
            );
        }
        Ok(())
    }

    /// Whose lines the machine's are.
    pub fn domains(all: &[Self]) -> Domains {
        let names: Vec<_> = all.iter().filter_map(|c| c.name.clone()).collect();
        if names.is_empty() { Domains::One } else { Domains::Containers(names) }
    }

    /// Gives each of several containers a domain beside the first one's, all of the same size. Returns the script of the
    /// first.
    ///
    /// # Errors
    /// They do not fit.
    pub fn place(all: &[Self], guest: &mut GuestArgs) -> Result<Script> {
        let (first, others) = all.split_first().context("no container")?;
        if !others.is_empty() {
            let most = all.iter().map(Self::needs).max().unwrap_or(0).max(USUAL_MIB);
            guest.guest_mem.get_or_insert_with(|| format!("{most}M"));
        }
        if let Some(mem) = &guest.guest_mem {
            let mem = mib(mem)?;
            all.iter().try_for_each(|c| c.fits(mem))?;
        }
        guest.name.clone_from(&first.name);
        guest.beside = others.iter().map(|c| (c.name.clone().unwrap_or_default(), c.initrd.clone())).collect();
        Ok(first.script())
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
    fn memory_is_looked_at() {
        let with =
            |packed: u64, unpacked: u64| Container { name: None, initrd: PathBuf::new(), packed: packed << 20, unpacked: unpacked << 20 };
        assert!(with(30, 100).fits(248).is_ok());
        assert!(with(30, 100).fits(247).is_err());
        assert!(with(200, 100).fits(347).is_err());
        let mut guest = GuestArgs::default();
        Container::place(&[with(30, 100), with(30, 10)], &mut guest).expect("room for all");
        assert_eq!((guest.guest_mem.as_deref(), guest.beside.len()), (Some("248M"), 1));
        let mut guest = GuestArgs { guest_mem: Some("100M".into()), ..GuestArgs::default() };
        assert!(Container::place(&[with(30, 100), with(30, 10)], &mut guest).is_err());
    }
}
