//! rustfmt and clippy.

use std::process::Command;

use anyhow::{Context, Result};

use super::Finding;
use crate::{setup, sh};

/// Crates that run on the host as well.
const HOST: &[&str] = &["xtask", "x-image", "x-init", "xen-abi", "pv-core", "dom-image", "crossings", "x-calls", "abom", "abom-cli"];

/// Programs that are tests from end to end.
const PROGRAMS: &[&str] = &["--package", "linux-programs"];

/// The X-Kernel. It is not linked for this, so the host's core library will do in place of the bare machine's, for
/// which a toolchain may have none.
const FREESTANDING: &[&str] = &["--package", "x-kernel"];

/// Lints against panics by a guest's values. Tests are made of such panics.
const NOT_IN_TESTS: &[&str] =
    &["clippy::unwrap_used", "clippy::indexing_slicing", "clippy::arithmetic_side_effects", "clippy::cast_possible_truncation"];

fn cargo(args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO"));
    command.current_dir(sh::root()).args(args);
    command
}

/// Debian has the two in packages of their own; a rustup toolchain brings them.
fn ensure_tools() -> Result<()> {
    let there = |tool: &str| sh::output(&mut cargo(&[tool, "--version"])).is_ok();
    if there("clippy") && there("fmt") {
        return Ok(());
    }
    setup::ensure(&["rust-web-clippy", "rustfmt-web"])
}

/// `cargo fmt --check` and clippy over everything.
pub fn check() -> Result<Vec<Finding>> {
    ensure_tools()?;
    let mut findings = Vec::new();
    let out = cargo(&["fmt", "--all", "--check", "--", "--files-with-diff"]).output().context("cargo fmt")?;
    if !out.status.success() {
        let diff = String::from_utf8_lossy(&out.stdout).into_owned() + &String::from_utf8_lossy(&out.stderr);
        let root = sh::root();
        let place = |line: &str| line.strip_prefix(root.to_str()?)?.strip_prefix('/').map(str::to_string);
        let mut files: Vec<_> = diff.lines().filter_map(place).collect();
        files.sort();
        files.dedup();
        findings.extend(files.iter().map(|f| Finding::new(f, 0, "not as `cargo fmt` has it")));
        if files.is_empty() {
            findings.push(Finding::new("Cargo.toml", 0, format!("cargo fmt: {}", diff.trim())));
        }
    }
    let host = |kind: &'static [&'static str]| [HOST.iter().flat_map(|p| ["--package", *p]).collect(), kind.to_vec()].concat();
    for (what, allow) in [
        (host(&["--lib", "--bins"]), &[][..]),
        (host(&["--tests"]), NOT_IN_TESTS),
        (PROGRAMS.to_vec(), NOT_IN_TESTS),
        (FREESTANDING.to_vec(), &[]),
    ] {
        let mut args = vec!["clippy", "--quiet"];
        args.extend(what);
        args.extend(["--", "-D", "warnings"]);
        args.extend(allow.iter().flat_map(|lint| ["-A", *lint]));
        if sh::run(&mut cargo(&args)).is_err() {
            findings.push(Finding::new("Cargo.toml", 0, "clippy has findings (above)"));
        }
    }
    Ok(findings)
}
