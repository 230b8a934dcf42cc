//! Linux kernels of our own configuration: Debian's source and a fragment go in, a bzImage and its vmlinux come out.
//!
//! A kernel lies in the cache under a hash of all that it is made of. It is built in a folder beside that, which is
//! moved there when it is whole and holds nothing else any more: an interrupted build leaves nothing to be believed.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

use crate::{debian, setup, sh};

/// What one kernel is made of, beside the source.
struct Recipe {
    /// What it is asked for by.
    name: &'static str,
    /// Files of the project: options that differ from `allnoconfig`, the later ones win.
    fragments: &'static [&'static str],
}

const RECIPES: &[Recipe] = &[Recipe { name: "up", fragments: &["tests/linux/up.config"] }];

/// What every make is told. Nothing of the builder's machine and day gets into the image.
const MAKE: &[&str] =
    &["ARCH=x86_64", "KBUILD_BUILD_USER=xtask", "KBUILD_BUILD_HOST=x-containers", "KBUILD_BUILD_TIMESTAMP=Thu Jan  1 00:00:00 UTC 1970"];

/// What is kept of a build: where it lies in the tree.
const KEPT: &[&str] = &["arch/x86/boot/bzImage", "vmlinux", ".config"];

/// How often a build says that it goes on.
const HEARTBEAT: Duration = Duration::from_secs(10);

/// Builds the kernel `name`, if the cache does not have it. Returns the folder with `bzImage`, `vmlinux` and `.config`.
pub fn build(name: &str) -> Result<PathBuf> {
    let Some(recipe) = RECIPES.iter().find(|r| r.name == name) else {
        let names: Vec<_> = RECIPES.iter().map(|r| r.name).collect();
        bail!("there is no Linux '{name}', only {}", names.join(", "));
    };
    let (archive, version) = debian::linux_source()?;
    let mut fragments = String::new();
    for file in recipe.fragments {
        fragments.push_str(&std::fs::read_to_string(sh::root().join(file)).with_context(|| format!("cannot read {file}"))?);
    }
    let mut hash = DefaultHasher::new();
    (&version, options(&fragments).collect::<Vec<_>>(), MAKE, KEPT).hash(&mut hash);
    let cache = sh::cache("linux")?;
    let done = cache.join(format!("{name}-{:016x}", hash.finish()));
    let _lock = sh::lock("linux")?;
    if done.is_dir() {
        return Ok(done);
    }
    setup::ensure(setup::LINUX)?;
    let log = cache.join(format!("{name}.log"));
    let (tree, part) = (cache.join("tree"), cache.join("part"));
    eprintln!("xtask: building Linux '{name}' from {version}; the log is {}", log.display());
    sh::empty(&tree)?;
    sh::run(Command::new("tar").arg("-xf").arg(&archive).args(["--strip-components=1", "-C"]).arg(&tree))?;
    compile(&tree, &fragments, &log)?;
    sh::empty(&part)?;
    for file in KEPT {
        let from = tree.join(file);
        std::fs::copy(&from, part.join(from.file_name().context("a file has a name")?))?;
    }
    std::fs::rename(&part, &done)?;
    std::fs::remove_dir_all(&tree)?;
    Ok(done)
}

/// Configures and builds the kernel whose source is in `tree`.
fn compile(tree: &Path, fragments: &str, log: &Path) -> Result<()> {
    let given = tree.join("fragments.config");
    std::fs::write(&given, fragments)?;
    let mut log = std::fs::File::create(log)?;
    let make = || {
        let mut make = Command::new("make");
        make.current_dir(tree).env("KCONFIG_ALLCONFIG", &given).args(MAKE);
        make
    };
    follow(make().arg("allnoconfig"), &mut log)?;
    let lost = lost(fragments, &std::fs::read_to_string(tree.join(".config"))?);
    if !lost.is_empty() {
        bail!("this Linux does not take these options: {}", lost.join(", "));
    }
    let jobs = std::thread::available_parallelism().map_or(1, usize::from);
    follow(make().arg(format!("-j{jobs}")).arg("bzImage"), &mut log)
}

/// Runs make: its words go to the log, and now and then a line says how far it is.
fn follow(make: &mut Command, log: &mut std::fs::File) -> Result<()> {
    let start = Instant::now();
    let mut child = make.stdout(Stdio::piped()).stderr(log.try_clone()?).spawn().context("cannot start make")?;
    let (mut said, mut steps) = (start, 0u32);
    for line in BufReader::new(child.stdout.take().context("make's output")?).lines() {
        let line = line?;
        writeln!(log, "{line}")?;
        steps += 1;
        // Steps begin with two blanks, all else is talk.
        if said.elapsed() >= HEARTBEAT && line.starts_with("  ") {
            said = Instant::now();
            eprintln!("xtask:   {} s, {steps} steps, {}", start.elapsed().as_secs(), line.trim());
        }
    }
    let status = child.wait()?;
    if !status.success() {
        bail!("make ended with {status}: see the log");
    }
    Ok(())
}

/// The option that a line switches off.
fn switched_off(line: &str) -> Option<&str> {
    line.strip_prefix("# ")?.strip_suffix(" is not set")
}

/// The lines of a fragment that say something.
fn options(fragment: &str) -> impl Iterator<Item = &str> {
    fragment.lines().filter(|l| l.starts_with("CONFIG_") || switched_off(l).is_some())
}

/// The options of `fragments` that are not in `config` as they were asked for.
fn lost<'a>(fragments: &'a str, config: &str) -> Vec<&'a str> {
    let is_off = |name: &str| !config.lines().any(|l| l.strip_prefix(name).is_some_and(|rest| rest.starts_with('=')));
    let kept = |line: &str| switched_off(line).map_or_else(|| config.lines().any(|l| l == line), is_off);
    options(fragments).filter(|l| !kept(l)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn options_that_were_lost_are_named() {
        let config = "CONFIG_A=y\nCONFIG_N=8\n# CONFIG_B is not set\nCONFIG_ABC=y\n";
        assert!(lost("# words\nCONFIG_A=y\nCONFIG_N=8\n# CONFIG_B is not set\n# CONFIG_GONE is not set\n\n", config).is_empty());
        assert_eq!(lost("CONFIG_N=9\nCONFIG_B=y\nCONFIG_GONE=y\n# CONFIG_A is not set\n# CONFIG_AB is not set\n", config).len(), 4);
    }
}
