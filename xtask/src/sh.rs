//! Paths of the project, and running other programs.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};

/// The project's root.
pub fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("xtask lies in the project").to_path_buf()
}

/// A path below target/, whose folder exists afterwards.
pub fn target(path: &str) -> Result<PathBuf> {
    let path = root().join("target").join(path);
    if let Some(folder) = path.parent() {
        std::fs::create_dir_all(folder)?;
    }
    Ok(path)
}

/// A folder outside the tree for what is slow to get, by name.
pub fn cache(name: &str) -> Result<PathBuf> {
    let base = std::env::var_os("XDG_CACHE_HOME")
        .map(PathBuf::from)
        .or_else(|| std::env::var_os("HOME").map(|home| PathBuf::from(home).join(".cache")));
    let path = base.context("neither XDG_CACHE_HOME nor HOME is set")?.join("x-containers").join(name);
    std::fs::create_dir_all(&path)?;
    Ok(path)
}

/// Keeps all others, threads and processes, out of the cache's folder `name` until what it returns is dropped.
pub fn lock(name: &str) -> Result<File> {
    let file = File::create(cache(name)?.join("lock"))?;
    if file.try_lock().is_err() {
        eprintln!("xtask: waiting for another one that works in the cache's folder {name}");
        file.lock()?;
    }
    Ok(file)
}

/// Removes files beside `like` whose names are `prefix` and the number of a process that is gone, and maybe more: one that
/// was ended by force leaves them.
pub fn sweep(like: &Path, prefix: &str) {
    let entries = like.parent().and_then(|folder| std::fs::read_dir(folder).ok());
    for path in entries.into_iter().flatten().filter_map(|e| Some(e.ok()?.path())) {
        let name = path.file_name().and_then(|n| n.to_str()).and_then(|n| n.strip_prefix(prefix));
        let number: Option<u32> = name.and_then(|n| n.split(|c: char| !c.is_ascii_digit()).next()).and_then(|n| n.parse().ok());
        if number.is_some_and(|n| !Path::new(&format!("/proc/{n}")).exists()) {
            let _ = if path.is_dir() { std::fs::remove_dir_all(&path) } else { std::fs::remove_file(&path) };
        }
    }
}

/// Makes `folder` an empty one.
pub fn empty(folder: &Path) -> Result<()> {
    if folder.exists() {
        std::fs::remove_dir_all(folder).with_context(|| format!("cannot remove {}", folder.display()))?;
    }
    std::fs::create_dir_all(folder).with_context(|| format!("cannot make {}", folder.display()))
}

/// Runs a command; its output goes to stderr.
pub fn run(command: &mut Command) -> Result<()> {
    let status = command.stdout(std::io::stderr()).status().with_context(|| format!("cannot start {command:?}"))?;
    if !status.success() {
        bail!("{command:?} ended with {status}");
    }
    Ok(())
}

/// Runs a command and returns its standard output.
pub fn output(command: &mut Command) -> Result<String> {
    let out = command.stderr(Stdio::piped()).output().with_context(|| format!("cannot start {command:?}"))?;
    if !out.status.success() {
        bail!("{command:?} ended with {}: {}", out.status, String::from_utf8_lossy(&out.stderr).trim());
    }
    Ok(String::from_utf8_lossy(&out.stdout).into_owned())
}
