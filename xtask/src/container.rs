//! A container: its files and x-init, with what it is to run, as one initial RAM disk.

use std::fs::File;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use clap::Args;
use serde::{Deserialize, Deserializer};
use x_image::{Changes, Settings};
use x_init::config::{self, Config};
use x_init::signal;

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

/// What is run if nothing is said.
const DEFAULT: &str = "debian:default";
/// And its name.
const HOSTNAME: &str = "x-container";

/// Containers.
#[derive(Args, Clone, Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub struct ContainerArgs {
    /// A container's files: a folder, or debian:NAME for some made of Debian's packages (debian:default, which is used if
    /// nothing is said; debian:workloads). May be repeated, for containers side by side
    #[arg(long, value_name = "DIR")]
    #[serde(deserialize_with = "one_or_more")]
    pub rootfs: Vec<PathBuf>,
    /// An OCI image: a layout (a folder, or an archive of one), with :TAG if there are several in it. May be repeated
    #[arg(long, value_name = "LAYOUT[:TAG]")]
    #[serde(deserialize_with = "one_or_more")]
    pub image: Vec<String>,
    /// An image as `docker save` writes it, with :TAG if there are several in it. May be repeated
    #[arg(long, value_name = "FILE[:TAG]")]
    #[serde(deserialize_with = "one_or_more")]
    pub docker_archive: Vec<String>,
    /// So many containers of each
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=64))]
    pub containers: Option<u32>,
    /// The program, in the place of the image's entrypoint; the image's command is then not used
    #[arg(long, value_name = "PROGRAM")]
    pub entrypoint: Option<String>,
    /// A variable of the command's environment, NAME=VALUE
    #[arg(long)]
    pub env: Vec<String>,
    /// The command's user, USER[:GROUP], by names of the container's /etc/passwd and /etc/group or by numbers
    #[arg(long)]
    pub user: Option<String>,
    /// The command's working directory
    #[arg(long)]
    pub workdir: Option<String>,
    /// The container's host name
    #[arg(long)]
    pub hostname: Option<String>,
    /// The signal that asks the command to end
    #[arg(long, value_name = "SIGNAL")]
    pub stop_signal: Option<String>,
    /// A file, or a folder of files, to put into the container, FROM:TO; TO is absolute, and the folder that it is in must
    /// be there
    #[arg(long)]
    pub add: Vec<String>,
}

/// A value where a list may be.
fn one_or_more<'de, D: Deserializer<'de>, T: Deserialize<'de>>(from: D) -> Result<Vec<T>, D::Error> {
    #[derive(Deserialize)]
    #[serde(untagged)]
    enum Either<T> {
        One(T),
        More(Vec<T>),
    }
    Ok(match Either::deserialize(from)? {
        Either::One(one) => vec![one],
        Either::More(more) => more,
    })
}

impl ContainerArgs {
    /// The container of tests/workloads.
    pub fn workloads() -> Self {
        let add = vec!["tests/workloads:/workloads".into()];
        Self { rootfs: vec!["debian:workloads".into()], add, ..Self::default() }.below(&sh::root())
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

    /// Whether files of a container are named.
    pub fn names_files(&self) -> bool {
        !(self.rootfs.is_empty() && self.image.is_empty() && self.docker_archive.is_empty())
    }

    /// An option that says something about a container, if there is one.
    pub fn detail(&self) -> Option<&'static str> {
        let said = [
            (self.containers.is_some(), "--containers"),
            (self.entrypoint.is_some(), "--entrypoint"),
            (!self.env.is_empty(), "--env"),
            (self.user.is_some(), "--user"),
            (self.workdir.is_some(), "--workdir"),
            (self.hostname.is_some(), "--hostname"),
            (self.stop_signal.is_some(), "--stop-signal"),
            (!self.add.is_empty(), "--add"),
        ];
        said.into_iter().find_map(|(said, option)| said.then_some(option))
    }

    /// Where the containers' files come from, one for each container.
    pub fn sources(&self) -> Vec<Source> {
        let named = self.rootfs.iter().cloned().map(Source::Rootfs);
        let named = named.chain(self.image.iter().cloned().map(Source::Image));
        let mut named: Vec<_> = named.chain(self.docker_archive.iter().cloned().map(Source::DockerArchive)).collect();
        if named.is_empty() {
            named.push(Source::Rootfs(DEFAULT.into()));
        }
        let count = self.containers.unwrap_or(1) as usize;
        named.into_iter().flat_map(|source| std::iter::repeat_n(source, count)).collect()
    }
}

/// Names for containers side by side: each source's name, and a number.
fn names(sources: &[Source]) -> Vec<String> {
    let all: Vec<_> = sources.iter().map(Source::name).collect();
    all.iter().enumerate().map(|(i, name)| format!("{name}-{}", all[..=i].iter().filter(|n| *n == name).count())).collect()
}

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

/// What x-init is told, where the image says `settings`.
fn configuration(args: &ContainerArgs, settings: &Settings, command: &[String], terminal: bool, name: &str) -> Result<Config> {
    let changes = Changes {
        entrypoint: args.entrypoint.clone(),
        command: command.to_vec(),
        env: args.env.clone(),
        user: args.user.clone(),
        workdir: args.workdir.clone(),
        stop_signal: args.stop_signal.clone(),
        hostname: args.hostname.clone(),
    };
    let said = settings.clone().changed(&changes);
    let argv = said.argv();
    if argv.is_empty() {
        bail!("nothing says what is to be run: the image has no command; give one behind --");
    }
    let usual = Config::new(argv.iter().map(Into::into).collect());
    let stop_signal = match (&said.stop_signal, &args.stop_signal) {
        (None, _) => usual.stop_signal,
        (Some(text), asked) => match signal::number(text) {
            Some(number) => number,
            None if asked.is_some() => bail!("--stop-signal: '{text}' is no signal that can be sent"),
            None => {
                eprintln!("xtask: the image's stop signal, {text}, cannot be sent; it is SIGTERM");
                usual.stop_signal
            }
        },
    };
    // An image may leave out the first slash.
    let absolute = |path: String| if path.starts_with('/') || args.workdir.is_some() { path } else { format!("/{path}") };
    Ok(Config {
        env: said.env.iter().map(Into::into).collect(),
        cwd: said.workdir.map_or(usual.cwd.clone(), |path| absolute(path).into()),
        user: said.user.unwrap_or(usual.user.clone()),
        hostname: Some(said.hostname.unwrap_or_else(|| name.into())),
        terminal,
        stop_signal,
        ..usual
    })
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
        let initrd = sh::target(&format!("initrd/container-{}.gz", unique()))?;
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
    let mut archive = Archive::create(to)?;
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

    fn of(args: &ContainerArgs, settings: &Settings, command: &[&str]) -> Result<Config> {
        let command: Vec<_> = command.iter().map(|w| (*w).to_string()).collect();
        configuration(args, settings, &command, command.is_empty(), "c")
    }

    #[test]
    fn arguments_become_a_configuration() {
        let args =
            ContainerArgs { env: vec!["A=b".into()], user: Some("me".into()), workdir: Some("/w".into()), ..ContainerArgs::default() };
        let shell = Settings { cmd: vec!["/bin/sh".into()], ..Settings::default() };
        let config = of(&args, &shell, &["ls", "-l"]).expect("good");
        assert_eq!((config.argv.len(), config.terminal, config.user.as_str()), (2, false, "me"));
        assert_eq!(Config::parse(&config.encode().expect("encoded")), Ok(config));
        let config = of(&ContainerArgs::default(), &shell, &[]).expect("good");
        assert!(config.terminal && config.argv == ["/bin/sh"] && config.hostname.as_deref() == Some("c"));
        let bad = ContainerArgs { env: vec!["A".into()], ..ContainerArgs::default() };
        assert!(of(&bad, &shell, &[]).expect("not looked at yet").encode().is_err());
    }

    #[test]
    fn an_image_says_what_arguments_do_not() {
        let image = Settings {
            entrypoint: vec!["/e".into()],
            cmd: vec!["x".into()],
            env: vec!["A=1".into()],
            user: Some("redis".into()),
            workdir: Some("data".into()),
            stop_signal: Some("SIGRTMIN+3".into()),
            hostname: Some("h".into()),
        };
        let config = of(&ContainerArgs::default(), &image, &[]).expect("good");
        assert_eq!((config.argv.len(), config.cwd.to_str(), config.user.as_str()), (2, Some("/data"), "redis"));
        assert_eq!((config.stop_signal, config.hostname.as_deref()), (15, Some("h")));
        let args = ContainerArgs { entrypoint: Some("/f".into()), stop_signal: Some("QUIT".into()), ..ContainerArgs::default() };
        let config = of(&args, &image, &[]).expect("good");
        assert_eq!((config.argv.len(), config.stop_signal), (1, 3));
        let args = ContainerArgs { stop_signal: Some("SIGRTMIN".into()), ..ContainerArgs::default() };
        assert!(of(&args, &image, &[]).is_err());
        let args = ContainerArgs { entrypoint: Some(String::new()), ..ContainerArgs::default() };
        assert!(of(&args, &image, &[]).is_err());
    }

    #[test]
    fn containers_have_names() {
        let args: ContainerArgs = toml::from_str("rootfs = 'debian:default'\nimage = ['a/redis:7', 'b/redis']").expect("arguments");
        assert_eq!(names(&args.sources()), ["default-1", "redis-1", "redis-2"]);
        let args = ContainerArgs { containers: Some(3), ..ContainerArgs::default() };
        assert_eq!(names(&args.sources()), ["default-1", "default-2", "default-3"]);
    }

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
