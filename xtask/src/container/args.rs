//! What a command line, or a case, says about containers, and what x-init is told of it.

use std::path::{Path, PathBuf};

use anyhow::{Result, bail};
use clap::Args;
use serde::{Deserialize, Deserializer};
use x_image::{Changes, Settings};
use x_init::config::Config;
use x_init::signal;

use crate::sh;
use crate::source::Source;

/// What is run if nothing is said.
const DEFAULT: &str = "debian:default";
/// And the name of a container that has none.
pub const HOSTNAME: &str = "x-container";

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
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=240))]
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
pub fn names(sources: &[Source]) -> Vec<String> {
    let all: Vec<_> = sources.iter().map(Source::name).collect();
    all.iter().enumerate().map(|(i, name)| format!("{name}-{}", all[..=i].iter().filter(|n| *n == name).count())).collect()
}

/// What x-init is told, where the image says `settings`.
pub fn configuration(args: &ContainerArgs, settings: &Settings, command: &[String], terminal: bool, name: &str) -> Result<Config> {
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
}
