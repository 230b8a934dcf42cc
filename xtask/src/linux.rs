//! X-LibOS: Debian's Linux source, the patches and the configuration of x-libos/ go in, a bzImage and its vmlinux come
//! out.
//!
//! A kernel lies in the cache under a hash of all that it is made of. It is built in a folder beside that, which is
//! moved there when it is whole and holds nothing else any more: an interrupted build leaves nothing to be believed.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use clap::Args;

use crate::{debian, setup, sh};

/// One configuration of the kernel.
struct Variant {
    /// What it is asked for by.
    name: &'static str,
    /// Files in x-libos/config: options that differ from `allnoconfig`, the later ones win.
    fragments: &'static [&'static str],
}

/// The first one is the usual one.
const VARIANTS: &[Variant] = &[
    Variant { name: "libos", fragments: &["base", "up"] },
    Variant { name: "libos-smp", fragments: &["base", "smp"] },
    // For comparison: it also boots on the machine itself and as Xen's first domain.
    Variant { name: "libos-dom0", fragments: &["base", "up", "dom0"] },
];

/// Where in the project all that is ours of it lies.
const FOLDER: &str = "x-libos";

/// What every make is told. Nothing of the builder's machine and day gets into the image.
const MAKE: &[&str] =
    &["ARCH=x86_64", "KBUILD_BUILD_USER=xtask", "KBUILD_BUILD_HOST=x-containers", "KBUILD_BUILD_TIMESTAMP=Thu Jan  1 00:00:00 UTC 1970"];

/// What is kept of a build: where it lies in the tree.
const KEPT: &[&str] = &["arch/x86/boot/bzImage", "vmlinux", ".config"];

/// How often a build says that it goes on.
const HEARTBEAT: Duration = Duration::from_secs(10);

/// What is laid over the source: files, by their paths in it, and patches in their order.
struct Changes {
    files: Vec<PathBuf>,
    patches: Vec<PathBuf>,
}

impl Changes {
    fn read() -> Result<Self> {
        let folder = sh::root().join(FOLDER);
        let series = folder.join("series");
        let list = std::fs::read_to_string(&series).with_context(|| format!("cannot read {}", series.display()))?;
        let patches = list.lines().filter(|l| !l.is_empty() && !l.starts_with('#')).map(|l| folder.join("patches").join(l)).collect();
        let mut files = Vec::new();
        collect(&folder.join("src"), &mut files)?;
        files.sort();
        Ok(Self { files, patches })
    }

    /// All that they say.
    fn content(&self) -> Result<Vec<Vec<u8>>> {
        self.files.iter().chain(&self.patches).map(|p| std::fs::read(p).with_context(|| format!("cannot read {}", p.display()))).collect()
    }

    /// Makes them in the tree.
    fn apply(&self, tree: &Path) -> Result<()> {
        let from = sh::root().join(FOLDER).join("src");
        for file in &self.files {
            let to = tree.join(file.strip_prefix(&from)?);
            std::fs::create_dir_all(to.parent().context("a file is in a folder")?)?;
            std::fs::copy(file, to)?;
        }
        for patch in &self.patches {
            sh::run(Command::new("patch").args(["--quiet", "--fuzz=0", "-p1", "-d"]).arg(tree).arg("-i").arg(patch))?;
        }
        Ok(())
    }
}

/// All files below `folder`.
fn collect(folder: &Path, files: &mut Vec<PathBuf>) -> Result<()> {
    for entry in std::fs::read_dir(folder).with_context(|| format!("cannot read {}", folder.display()))? {
        let path = entry?.path();
        if path.is_dir() {
            collect(&path, files)?;
        } else {
            files.push(path);
        }
    }
    Ok(())
}

/// Options of `libos`.
#[derive(Args)]
pub struct LibosArgs {
    /// Which ones: libos (one processor), libos-smp, libos-dom0 (boots without the X-Kernel as well); the first two
    /// without this
    variants: Vec<String>,
    /// Build nothing, but unpack the source with all changes into this new folder, to work on it
    #[arg(long)]
    tree: Option<PathBuf>,
}

/// `libos`: builds the variants and says where they are and how large.
pub fn run(args: &LibosArgs) -> Result<()> {
    if let Some(tree) = &args.tree {
        if tree.exists() {
            bail!("{} is there already", tree.display());
        }
        setup::ensure(setup::LINUX)?;
        unpack(tree)?;
        return Ok(());
    }
    let usual = || VARIANTS[..2].iter().map(|v| v.name.to_string()).collect();
    let names: Vec<String> = if args.variants.is_empty() { usual() } else { args.variants.clone() };
    for name in names {
        let folder = build(&name)?;
        for file in KEPT.iter().filter_map(|k| Path::new(k).file_name()) {
            let path = folder.join(file);
            println!("{name}\t{}\t{}", std::fs::metadata(&path)?.len(), path.display());
        }
    }
    Ok(())
}

/// The source with all changes, in a folder that is made.
fn unpack(tree: &Path) -> Result<()> {
    let (archive, _) = debian::linux_source()?;
    std::fs::create_dir_all(tree)?;
    sh::run(Command::new("tar").arg("-xf").arg(&archive).args(["--strip-components=1", "-C"]).arg(tree))?;
    Changes::read()?.apply(tree)
}

/// Builds the variant `name`, if the cache does not have it. Returns the folder with `bzImage`, `vmlinux` and `.config`.
pub fn build(name: &str) -> Result<PathBuf> {
    let Some(variant) = VARIANTS.iter().find(|v| v.name == name) else {
        let names: Vec<_> = VARIANTS.iter().map(|v| v.name).collect();
        bail!("there is no Linux '{name}', only {}", names.join(", "));
    };
    let (_, version) = debian::linux_source()?;
    let mut fragments = String::new();
    for fragment in variant.fragments {
        let file = sh::root().join(FOLDER).join("config").join(fragment).with_extension("config");
        fragments.push_str(&std::fs::read_to_string(&file).with_context(|| format!("cannot read {}", file.display()))?);
    }
    let mut hash = DefaultHasher::new();
    (&version, options(&fragments).collect::<Vec<_>>(), Changes::read()?.content()?, MAKE, KEPT).hash(&mut hash);
    let cache = sh::cache("linux")?;
    let done = cache.join(format!("{name}-{:016x}", hash.finish()));
    // It appears in one step: nobody who finds it need wait for one who builds another.
    if done.is_dir() {
        return Ok(done);
    }
    let _lock = sh::lock("linux")?;
    if done.is_dir() {
        return Ok(done);
    }
    setup::ensure(setup::LINUX)?;
    let log = cache.join(format!("{name}.log"));
    let (tree, part) = (cache.join("tree"), cache.join("part"));
    eprintln!("xtask: building {name} from {version}; the log is {}", log.display());
    sh::empty(&tree)?;
    unpack(&tree)?;
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
