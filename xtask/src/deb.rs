//! The Debian package: the X-Kernel where GRUB's own script finds it, `abom`, and the documents.
//!
//! `dpkg-deb` does it: what goes in is a folder, made here, whose modes, times and order depend on nothing but the tree.
//! Texts are in package/.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Mutex;

use anyhow::{Context, Result, anyhow, bail};
use serde::Deserialize;

use crate::build::{self, Profile};
use crate::{setup, sh};

const VERSION: &str = env!("CARGO_PKG_VERSION");
/// Where documents are.
const DOC: &str = "usr/share/doc/x-kernel";
/// What `update-grub` reads of us. It is the administrator's to change.
pub const GRUB: &str = "etc/default/grub.d/x-kernel.cfg";
/// Completions: the shell and the file.
const COMPLETIONS: &[(&str, &str)] = &[
    ("bash", "usr/share/bash-completion/completions/abom"),
    ("fish", "usr/share/fish/vendor_completions.d/abom.fish"),
    ("zsh", "usr/share/zsh/vendor-completions/_abom"),
];
/// What Debian's own checker must not say anything about: errors and warnings.
const LINTIAN: &[&str] = &["--fail-on", "error,warning", "--allow-root"];

/// Where the X-Kernel is in the package.
pub fn kernel() -> String {
    format!("boot/xen-x-kernel-{VERSION}.gz")
}

/// A text of package/.
fn text(name: &str) -> Result<String> {
    let path = sh::root().join("package").join(name);
    fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))
}

/// A folder that is being filled.
struct Folder(PathBuf);

impl Folder {
    /// Where `path` is, whose folder exists afterwards.
    fn place(&self, path: &str) -> Result<PathBuf> {
        let to = self.0.join(path);
        fs::create_dir_all(to.parent().context("a file is in a folder")?)?;
        Ok(to)
    }

    fn write(&self, path: &str, data: impl AsRef<[u8]>) -> Result<()> {
        let to = self.place(path)?;
        fs::write(&to, data).with_context(|| format!("cannot write {}", to.display()))
    }

    /// Packs a file that has been written, without its name and time.
    fn pack(&self, path: &str) -> Result<()> {
        sh::run(Command::new("gzip").args(["-9", "--no-name", "--force"]).arg(self.0.join(path)))
    }

    /// All files, in order, by their paths inside.
    fn files(&self) -> Result<Vec<String>> {
        let list = sh::output(Command::new("find").current_dir(&self.0).args([".", "-type", "f", "-printf", "%P\\n"]))?;
        let mut files: Vec<_> = list.lines().map(str::to_string).collect();
        files.sort();
        Ok(files)
    }
}

/// When the last commit was made: seconds since 1970, and as a changelog has it.
fn commit_time() -> Result<(String, String)> {
    let time = sh::output(Command::new("git").current_dir(sh::root()).args(["log", "-1", "--format=%ct %cD"]))?;
    let (seconds, date) = time.trim().split_once(' ').context("git has no time for the last commit")?;
    Ok((seconds.into(), date.into()))
}

/// Builds `abom` for an installed system: without symbols, and without the names of this machine's folders.
fn abom() -> Result<PathBuf> {
    eprintln!("xtask: building abom");
    let folder = sh::target("package/x")?.with_file_name("cargo");
    let home = std::env::var_os("CARGO_HOME").map(PathBuf::from).or_else(|| Some(PathBuf::from(std::env::var_os("HOME")?).join(".cargo")));
    let home = home.context("neither CARGO_HOME nor HOME is set")?;
    let flags = format!("-C strip=symbols --remap-path-prefix={}=. --remap-path-prefix={}=cargo", sh::root().display(), home.display());
    let mut cargo = Command::new(env!("CARGO"));
    cargo.current_dir(sh::root()).env("RUSTFLAGS", flags).env("CARGO_TARGET_DIR", &folder);
    sh::run(cargo.args(["build", "--quiet", "--release", "--locked", "--package", "abom-cli"]))?;
    Ok(folder.join("release/abom"))
}

/// The packages that `program` needs for the libraries that it is linked with.
fn depends(program: &Path) -> Result<String> {
    let folder = Folder(sh::target("package/shlibdeps/x")?.with_file_name(""));
    folder.write("debian/control", "Source: x-kernel\n\nPackage: x-kernel\nArchitecture: amd64\n")?;
    let said = sh::output(Command::new("dpkg-shlibdeps").current_dir(&folder.0).arg("-O").arg("-e").arg(program))?;
    let needs = said.lines().find_map(|l| l.strip_prefix("shlibs:Depends="));
    Ok(needs.context("dpkg-shlibdeps names no packages")?.to_string())
}

#[derive(Deserialize)]
struct Metadata {
    packages: Vec<Crate>,
}

/// A crate as `cargo metadata` describes it.
#[derive(Deserialize)]
struct Crate {
    name: String,
    version: String,
    license: Option<String>,
    authors: Vec<String>,
    /// None if it is ours.
    source: Option<String>,
    manifest_path: PathBuf,
}

impl Crate {
    /// Its licences' texts: that of MIT if it may be used under that.
    fn licences(&self) -> Result<Vec<String>> {
        let folder = self.manifest_path.parent().context("a manifest is in a folder")?;
        let mut files: Vec<_> = fs::read_dir(folder)?.filter_map(|e| Some(e.ok()?.path())).filter(|p| p.is_file()).collect();
        files.sort();
        let name = |p: &Path| p.file_name().and_then(|n| n.to_str()).unwrap_or_default().to_uppercase();
        files.retain(|p| ["LICENSE", "LICENCE", "COPYING", "NOTICE", "COPYRIGHT"].iter().any(|n| name(p).starts_with(n)));
        if files.iter().any(|p| name(p).contains("MIT")) {
            files.retain(|p| name(p).contains("MIT"));
        }
        files.iter().map(|p| Ok(fs::read_to_string(p)?.trim_end().to_string())).collect()
    }
}

/// What of others is built in, and its licences' texts.
fn third_party() -> Result<String> {
    let cargo = |args: &[&str]| sh::output(Command::new(env!("CARGO")).current_dir(sh::root()).args(args));
    let tree =
        ["tree", "--locked", "--package", "x-kernel", "--package", "abom-cli", "--edges", "normal", "--prefix", "none", "--format", "{p}"];
    let tree = cargo(&tree)?;
    let used: BTreeSet<(&str, &str)> =
        tree.lines().filter_map(|l| l.split_once(" v")).map(|(name, rest)| (name, rest.split(' ').next().unwrap_or(rest))).collect();
    let all: Metadata = serde_json::from_str(&cargo(&["metadata", "--format-version", "1", "--locked"])?)?;
    let mut out = String::from(
        "Crates of others that are built into the X-Kernel and abom, beside parts of Rust's standard library\n(MIT OR Apache-2.0, the Rust Project Developers):\n\n",
    );
    let mut texts: BTreeMap<String, BTreeSet<&str>> = BTreeMap::new();
    let mut crates: Vec<_> =
        all.packages.iter().filter(|c| c.source.is_some() && used.contains(&(c.name.as_str(), c.version.as_str()))).collect();
    crates.sort_by_key(|c| (&c.name, &c.version));
    for one in crates {
        let licences = one.licences()?;
        let authors = if licences.is_empty() { format!(" (without a text; by {})", one.authors.join(", ")) } else { String::new() };
        writeln!(out, "    {} {}: {}{authors}", one.name, one.version, one.license.as_deref().unwrap_or("see below"))?;
        for text in licences {
            texts.entry(text).or_default().insert(&one.name);
        }
    }
    for (text, of) in texts {
        writeln!(out, "\n\n==== {}\n\n{text}", of.into_iter().collect::<Vec<_>>().join(", "))?;
    }
    Ok(out)
}

/// A text as a field of the file `copyright` has it.
fn indented(text: &str) -> String {
    let line = |l: &str| if l.trim().is_empty() { " .".to_string() } else { format!(" {}", l.trim_end()) };
    text.trim_end().lines().map(line).collect::<Vec<_>>().join("\n")
}

/// Fills the folder with what is installed, but for its list of sums.
fn fill(folder: &Folder, date: &str) -> Result<()> {
    fs::copy(build::x_kernel(Profile::Release)?, folder.place(kernel().trim_end_matches(".gz"))?)?;
    folder.pack(kernel().trim_end_matches(".gz"))?;
    let abom = abom()?;
    fs::copy(&abom, folder.place("usr/bin/abom")?)?;
    let pages = folder.place("usr/share/man/man1/x")?.with_file_name("");
    sh::run(Command::new(&abom).arg("man").arg("--output").arg(&pages))?;
    for page in fs::read_dir(&pages)?.collect::<Result<Vec<_>, _>>()? {
        folder.pack(&format!("usr/share/man/man1/{}", page.file_name().to_string_lossy()))?;
    }
    for (shell, path) in COMPLETIONS {
        folder.write(path, sh::output(Command::new(&abom).args(["completions", shell]))?)?;
    }
    folder.write(GRUB, text("grub.cfg")?)?;
    folder.write(&format!("{DOC}/README.md"), fs::read(sh::root().join("README.md"))?)?;
    for document in fs::read_dir(sh::root().join("docs"))?.collect::<Result<Vec<_>, _>>()? {
        folder.write(&format!("{DOC}/docs/{}", document.file_name().to_string_lossy()), fs::read(document.path())?)?;
    }
    // The licence without its heading, which is the field's.
    let mit = fs::read_to_string(sh::root().join("LICENSE-MIT"))?;
    let mit = mit.split_once("Permission is").context("LICENSE-MIT is not as it was")?.1;
    folder.write(&format!("{DOC}/copyright"), text("copyright")?.replace("@MIT@", &indented(&format!("Permission is{mit}"))))?;
    folder.write(&format!("{DOC}/third-party"), third_party()?)?;
    folder.write(&format!("{DOC}/changelog"), text("changelog")?.replace("@VERSION@", VERSION).replace("@DATE@", date))?;
    folder.pack(&format!("{DOC}/third-party"))?;
    folder.pack(&format!("{DOC}/changelog"))
}

/// Adds the package's own files, and gives everything its mode.
fn control(folder: &Folder) -> Result<()> {
    let mut kib = 0;
    for file in folder.files()? {
        kib += fs::metadata(folder.0.join(file))?.len().div_ceil(1024);
    }
    let summed = folder.files()?.into_iter().filter(|f| f != GRUB);
    let sums = sh::output(Command::new("md5sum").current_dir(&folder.0).args(summed))?;
    let depends = depends(&folder.0.join("usr/bin/abom"))?;
    let control = text("control")?.replace("@VERSION@", VERSION).replace("@SIZE@", &kib.to_string()).replace("@DEPENDS@", &depends);
    folder.write("DEBIAN/control", control)?;
    folder.write("DEBIAN/conffiles", format!("/{GRUB}\n"))?;
    folder.write("DEBIAN/md5sums", sums)?;
    for script in ["postinst", "postrm"] {
        folder.write(&format!("DEBIAN/{script}"), text(script)?)?;
    }
    let modes = sh::output(Command::new("find").arg(&folder.0).args(["-printf", "%y %p\\n"]))?;
    for (kind, path) in modes.lines().filter_map(|l| l.split_once(' ')) {
        let runs = kind == "d" || path.ends_with("/usr/bin/abom") || path.contains("/DEBIAN/post");
        fs::set_permissions(path, fs::Permissions::from_mode(if runs { 0o755 } else { 0o644 }))?;
    }
    Ok(())
}

/// Makes the package, once per run of this program, and returns where it is.
pub fn make() -> Result<PathBuf> {
    static MADE: Mutex<Option<PathBuf>> = Mutex::new(None);
    let mut made = MADE.lock().map_err(|_| anyhow!("an earlier try failed"))?;
    if made.is_none() {
        *made = Some(make_anew()?);
    }
    made.clone().context("made just now")
}

fn make_anew() -> Result<PathBuf> {
    setup::ensure(setup::PACKAGE)?;
    let (seconds, date) = commit_time()?;
    let folder = Folder(sh::target("package/root")?);
    sh::empty(&folder.0)?;
    fill(&folder, &date)?;
    control(&folder)?;
    let to = sh::target(&format!("x-kernel_{VERSION}_amd64.deb"))?;
    let mut dpkg = Command::new("dpkg-deb");
    dpkg.env("SOURCE_DATE_EPOCH", seconds).args(["--root-owner-group", "-Zxz", "--build"]);
    sh::run(dpkg.arg(&folder.0).arg(&to))?;
    Ok(to)
}

/// `deb`.
pub fn run() -> Result<()> {
    println!("{}", make()?.display());
    Ok(())
}

/// The test `package`: the same bytes when it is made again, Debian's checker finds nothing, and what is unpacked from it
/// is there and works.
pub fn check() -> Result<()> {
    let deb = make()?;
    let first = fs::read(&deb)?;
    if fs::read(make_anew()?)? != first {
        bail!("made twice, {} differs", deb.display());
    }
    sh::run(Command::new("lintian").args(LINTIAN).arg(&deb))?;
    let root = sh::target("runs/package")?;
    sh::empty(&root)?;
    sh::run(Command::new("dpkg").arg("-x").arg(&deb).arg(&root))?;
    setup::ensure(setup::RUN)?;
    sh::run(Command::new("grub-file").arg("--is-x86-multiboot2").arg(root.join(kernel())))?;
    let said = sh::output(Command::new(root.join("usr/bin/abom")).arg("--version"))?;
    if said.trim() != format!("abom {VERSION}") {
        bail!("abom says '{}'", said.trim());
    }
    let pages = ["usr/share/man/man1/abom.1.gz", "usr/share/man/man1/abom-scan.1.gz"].into_iter().map(str::to_string);
    let documents = ["README.md", "copyright", "changelog.gz", "third-party.gz", "docs/ABI.md"].map(|d| format!("{DOC}/{d}"));
    for path in pages.chain(documents).chain(COMPLETIONS.iter().map(|c| c.1.to_string())) {
        if !fs::metadata(root.join(&path)).is_ok_and(|m| m.is_file() && m.len() > 0) {
            bail!("the package has no {path}");
        }
    }
    // A package must not say where it was made.
    let here = sh::root().display().to_string();
    for path in (Folder(root.clone())).files()? {
        let data = fs::read(root.join(&path))?;
        if data.windows(here.len()).any(|w| w == here.as_bytes()) {
            bail!("{path} names the folder that it was made in");
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn empty_lines_of_a_field_are_dots() {
        assert_eq!(indented("a\n\n  b \n"), " a\n .\n   b");
    }

    #[test]
    fn texts_have_what_is_filled_in() {
        for (name, words) in
            [("control", &["@VERSION@", "@SIZE@", "@DEPENDS@"][..]), ("changelog", &["@VERSION@", "@DATE@"]), ("copyright", &["@MIT@"])]
        {
            let text = text(name).expect("a text of package/");
            assert!(words.iter().all(|w| text.contains(w)), "{name}");
        }
    }
}
