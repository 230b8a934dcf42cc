//! `lint`: what the compiler is asked to check, the rules that it does not know, and how much there is of everything.
//!
//! A rule is a function from a file's path and text to findings, and its tests show it fail. All of them run over the
//! tracked files; any finding fails the whole.

mod attacks;
mod compiler;
mod documents;
mod licences;
mod sizes;
mod source;
mod unsafety;
mod words;

use std::collections::BTreeMap;
use std::fmt;
use std::process::Command;

use anyhow::{Context, Result, bail};

use crate::sh;

/// Something to be put right.
#[derive(Debug)]
pub struct Finding {
    path: String,
    line: usize,
    what: String,
}

impl Finding {
    /// At line `index`, counted from 0.
    fn new(path: &str, index: usize, what: impl Into<String>) -> Self {
        Self { path: path.to_string(), line: index + 1, what: what.into() }
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}: {}", self.path, self.line, self.what)
    }
}

/// A tracked text file.
struct File {
    path: String,
    text: String,
}

/// All tracked files that are text and still there.
fn files() -> Result<Vec<File>> {
    let root = sh::root();
    let list = sh::output(Command::new("git").current_dir(&root).args(["ls-files", "-z", "--cached", "--others", "--exclude-standard"]))
        .context("the rules apply to what git tracks")?;
    let mut files = Vec::new();
    for path in list.split('\0').filter(|p| !p.is_empty()) {
        if let Ok(text) = std::fs::read_to_string(root.join(path)) {
            files.push(File { path: path.to_string(), text });
        }
    }
    files.sort_by(|a, b| a.path.cmp(&b.path));
    Ok(files)
}

/// The rules for single files.
fn rules(file: &File) -> Vec<Finding> {
    let File { path, text } = file;
    let mut findings = words::put_off(path, text);
    findings.extend(words::places(path, text, &sh::root()));
    match words::length(path, text) {
        words::Length::Fine => {}
        words::Length::Long(lines) => println!("note: {path} has {lines} lines"),
        words::Length::TooLong(lines) => findings.push(Finding::new(path, 0, format!("{lines} lines: split it by concept"))),
    }
    if path.ends_with(".rs") {
        findings.extend(unsafety::rooms(path, text));
        findings.extend(unsafety::reasons(path, text));
    }
    if path == "x-kernel/src/mm/window.rs" {
        findings.extend(unsafety::window(path, text));
    }
    findings
}

/// The rules for several files together.
fn across(files: &[File]) -> Result<Vec<Finding>> {
    let texts: BTreeMap<&str, &str> = files.iter().map(|f| (f.path.as_str(), f.text.as_str())).collect();
    let text = |path: &str| texts.get(path).copied().with_context(|| format!("{path} is gone, and with it a rule's object"));
    text("x-kernel/src/mm/window.rs")?;
    let table = "x-kernel/src/pv/hypercall.rs";
    let mut findings = documents::hypercalls(table, text(table)?, text("docs/ABI.md")?);
    let read = |path: &str| {
        let folder = || files.iter().any(|f| f.path.strip_prefix(path).is_some_and(|rest| rest.starts_with('/'))).then(String::new);
        texts.get(path).map(|t| (*t).to_string()).or_else(folder)
    };
    let attacks = "docs/ATTACKS.md";
    findings.extend(attacks::claims(attacks, text(attacks)?, &texts));
    let troubles = "docs/TROUBLESHOOTING.md";
    let sources: Vec<_> =
        files.iter().filter(|f| f.path.ends_with(".rs") || f.path.ends_with(".S")).map(|f| documents::printed(&f.text)).collect();
    findings.extend(documents::messages(troubles, text(troubles)?, &sources));
    for file in files.iter().filter(|f| f.path.ends_with(".md")) {
        findings.extend(documents::links(&file.path, &file.text, read));
    }
    Ok(findings)
}

/// Runs every rule and prints the sizes.
pub fn run() -> Result<()> {
    let files = files()?;
    let mut findings: Vec<Finding> = files.iter().flat_map(rules).collect();
    findings.extend(across(&files)?);
    let packages = licences::packages()?;
    findings.extend(licences::refused(&packages));
    for crate_name in licences::duplicates(&packages) {
        println!("note: several versions of {crate_name}");
    }
    findings.extend(compiler::check()?);
    sizes::print(&files)?;
    sizes::image(&sh::root().join("target/x-kernel"))?;
    for finding in &findings {
        println!("{finding}");
    }
    if !findings.is_empty() {
        bail!("{} findings", findings.len());
    }
    Ok(())
}
