//! A container: its files and x-init, with what it is to run, as one initial RAM disk.

mod args;

use std::fs::File;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::rc::Rc;

use anyhow::{Context, Result, bail};
use x_image::Settings;
use x_init::config::{self, Config};

pub use self::args::ContainerArgs;
use self::args::{HOSTNAME, configuration, names};
use crate::archive::Archive;
use crate::initrd::Script;
use crate::run::{GuestArgs, Placed, mib};
use crate::screen::Domains;
use crate::source::{Files, Source, unique};
use crate::{build, sh};

/// What an X-LibOS needs for itself while it unpacks, and what it has beside its files afterwards, in MiB.
const UNPACKING_MIB: u64 = 11;
const BESIDE_MIB: u64 = 8;
/// What a vCPU beyond the first one adds.
const VCPU_MIB: u64 = 1;
/// One part in so many describes the others: struct pages and page tables.
const DESCRIBED: u64 = 50;
/// The least that one of several containers gets if nothing is said, in MiB.
const USUAL_MIB: u64 = 192;

/// A file that is there as long as this.
#[derive(Debug)]
struct Part(PathBuf);

impl Part {
    /// A file for a part of an initial RAM disk, that `make` writes.
    fn new(make: impl FnOnce(&Path) -> Result<()>) -> Result<Self> {
        let path = sh::target(&format!("initrd/container-{}.cpio", unique()))?;
        sh::sweep(&path, "container-");
        let this = Self(path);
        make(&this.0).map(|()| this)
    }
}

impl Drop for Part {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.0);
    }
}

/// What all containers of one source have: its files, x-init, and what is added.
struct Base {
    source: Source,
    part: Rc<Part>,
    /// How much memory it takes unpacked, in bytes.
    unpacked: u64,
    settings: Settings,
}

impl Base {
    fn of(source: &Source, add: &[String]) -> Result<Self> {
        let Files { packed, unpacked, settings } = source.files()?;
        // The second archive is small and made anew, and goes behind the first.
        let common = Part::new(|to| common_part(to, add))?;
        let part = Rc::new(Part::new(|to| join(&[&packed, &common.0], to))?);
        // The second one is not compressed.
        let unpacked = unpacked + common.0.metadata()?.len();
        Ok(Self { source: source.clone(), part, unpacked, settings })
    }
}

/// A container's initial RAM disk.
#[derive(Debug)]
pub struct Container {
    /// Its name, if there are others.
    pub name: Option<String>,
    /// What others of its source have, too, if there are others. It goes before its own.
    shared: Option<Rc<Part>>,
    own: Part,
    /// How large it is, and how much memory it takes unpacked, in bytes.
    packed: u64,
    unpacked: u64,
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
        if let [only] = &*sources {
            let base = Base::of(only, &args.add)?;
            let config = configuration(args, &base.settings, command, terminal, HOSTNAME)?;
            return Ok(vec![Self::of(&base, None, &config, true)?]);
        }
        let mut bases: Vec<Base> = Vec::new();
        let mut all = Vec::new();
        for (source, name) in sources.iter().zip(names(&sources)) {
            if !bases.iter().any(|b| b.source == *source) {
                bases.push(Base::of(source, &args.add)?);
            }
            let base = bases.iter().find(|b| b.source == *source).context("its files")?;
            let config = configuration(args, &base.settings, command, terminal, &name)?;
            all.push(Self::of(base, Some(name), &config, false)?);
        }
        Ok(all)
    }

    /// A container of `base` that x-init is told `config` of; in one piece if it is `whole`.
    fn of(base: &Base, name: Option<String>, config: &Config, whole: bool) -> Result<Self> {
        let config = config.encode().context("the container's configuration")?;
        let part = Part::new(|to| own_part(to, &config))?;
        let packed = base.part.0.metadata()?.len() + part.0.metadata()?.len();
        let own = if whole { Part::new(|to| join(&[&base.part.0, &part.0], to))? } else { part };
        let shared = (!whole).then(|| base.part.clone());
        Ok(Self { name, shared, own, packed, unpacked: base.unpacked })
    }

    /// The initrd, for a boot.
    pub fn script(&self) -> Script {
        Script::Container(self.own.0.clone())
    }

    /// How much memory a guest with so many vCPUs, one if that is not said, must have for it, in MiB.
    pub fn needs(&self, vcpus: Option<u32>) -> u64 {
        let mib = |bytes: u64| bytes.div_ceil(1 << 20);
        let (packed, unpacked) = (self.packed, self.unpacked);
        // Both are there until all is unpacked; and the initial file system takes no more than half of what is left beside
        // the packed files.
        let least = (mib(packed + unpacked) + UNPACKING_MIB).max(mib(packed + 2 * unpacked) + BESIDE_MIB);
        least + least / DESCRIBED + VCPU_MIB * u64::from(vcpus.unwrap_or(1).saturating_sub(1))
    }

    /// How large its initial RAM disk is, in MiB.
    pub fn packed_mib(&self) -> u64 {
        self.packed.div_ceil(1 << 20)
    }

    /// How large the files of `all` are together, in MiB: what several have is there once.
    pub fn files_mib(all: &[Self]) -> u64 {
        let mut seen: Vec<&Rc<Part>> = Vec::new();
        let mut sum = 0;
        for container in all {
            match &container.shared {
                Some(part) if seen.iter().any(|s| Rc::ptr_eq(s, part)) => {}
                shared => {
                    seen.extend(shared);
                    sum += container.packed_mib();
                }
            }
        }
        sum
    }

    /// Whether a guest with so much memory, and so many vCPUs, can hold it.
    ///
    /// # Errors
    /// How much it needs, if it cannot.
    pub fn fits(&self, mem_mib: u64, vcpus: Option<u32>) -> Result<()> {
        let needed = self.needs(vcpus);
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

    /// Gives each of several containers a domain, all of the same size. Returns the script of the first.
    ///
    /// # Errors
    /// They do not fit.
    pub fn place(all: &[Self], guest: &mut GuestArgs) -> Result<Script> {
        let first = all.first().context("no container")?;
        if all.len() > 1 {
            let most = all.iter().map(|c| c.needs(guest.vcpus)).max().unwrap_or(0).max(USUAL_MIB);
            guest.guest_mem.get_or_insert_with(|| format!("{most}M"));
        }
        if let Some(mem) = &guest.guest_mem {
            let mem = mib(mem)?;
            all.iter().try_for_each(|c| c.fits(mem, guest.vcpus))?;
        }
        let placed = |c: &Self| Some(Placed { name: c.name.clone()?, shared: c.shared.as_ref()?.0.clone(), own: c.own.0.clone() });
        guest.containers = all.iter().filter_map(placed).collect();
        Ok(first.script())
    }
}

/// A path's name in an archive.
fn name(path: &str) -> String {
    path.trim_matches('/').to_string()
}

/// Writes the archive with x-init, what is to be `added`, and the two devices that there must be before x-init has run.
fn common_part(to: &Path, added: &[String]) -> Result<()> {
    let program = build::x_init()?;
    let mut archive = Archive::create(to, 0)?;
    archive.put(&name(config::FOLDER), 0o040_700, &[])?;
    archive.put(&name(config::PROGRAM), 0o100_700, &std::fs::read(&program)?)?;
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

/// Writes the archive with what x-init is told.
fn own_part(to: &Path, config: &[u8]) -> Result<()> {
    let mut archive = Archive::create(to, 0)?;
    archive.put(&name(config::FILE), 0o100_600, config)?;
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
        let file = || Part::new(|to| Ok(std::fs::write(to, "")?)).expect("a file");
        let shared = Rc::new(file());
        let with = |packed: u64, unpacked: u64| Container {
            name: Some("x".into()),
            shared: Some(shared.clone()),
            own: file(),
            packed: packed << 20,
            unpacked: unpacked << 20,
        };
        assert!(with(30, 100).fits(242, None).is_ok());
        assert!(with(30, 100).fits(241, Some(1)).is_err());
        assert!(with(30, 100).fits(248, Some(8)).is_err());
        assert!(with(200, 10).fits(224, None).is_err());
        let two = [with(30, 100), with(30, 10)];
        assert_eq!(Container::files_mib(&two), 30);
        let mut guest = GuestArgs::default();
        Container::place(&two, &mut guest).expect("room for all");
        assert_eq!((guest.guest_mem.as_deref(), guest.containers.len()), (Some("242M"), 2));
        let mut guest = GuestArgs { guest_mem: Some("100M".into()), ..GuestArgs::default() };
        assert!(Container::place(&[with(30, 100), with(30, 10)], &mut guest).is_err());
    }
}
