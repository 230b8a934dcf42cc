//! rustfmt and clippy.

use std::collections::BTreeMap;
use std::process::Command;

use anyhow::{Context, Result};
use serde::Deserialize;

use super::Finding;
use crate::{setup, sh};

/// Crates that run on the host as well: no warning is left in them.
const HOST: &[&str] = &["xtask", "xen-abi", "pv-core", "dom-image"];

/// Lints against panics by a guest's values. Tests are made of such panics.
const NOT_IN_TESTS: &[&str] =
    &["clippy::unwrap_used", "clippy::indexing_slicing", "clippy::arithmetic_side_effects", "clippy::cast_possible_truncation"];

/// How many warnings of each lint the freestanding X-Kernel may have. Take out what has come to zero, lower what has
/// sunk, and never raise one.
const LEFT: &[(&str, usize)] = &[
    ("clippy::arithmetic_side_effects", 53),
    ("clippy::cast_possible_truncation", 9),
    ("clippy::collapsible_if", 2),
    ("clippy::deref_addrof", 1),
    ("clippy::explicit_counter_loop", 1),
    ("clippy::indexing_slicing", 7),
    ("clippy::manual_is_multiple_of", 4),
    ("clippy::mem_replace_with_default", 1),
    ("clippy::multiple_unsafe_ops_per_block", 1),
    ("clippy::result_large_err", 9),
    ("clippy::useless_conversion", 1),
    ("dead_code", 22),
    ("unfulfilled_lint_expectations", 4),
    ("unused_mut", 3),
];

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
    for (what, allow) in [(&["--lib", "--bins"][..], &[][..]), (&["--tests"][..], NOT_IN_TESTS)] {
        let mut args = vec!["clippy", "--quiet"];
        args.extend(HOST.iter().flat_map(|p| ["--package", *p]));
        args.extend(what);
        args.extend(["--", "-D", "warnings"]);
        args.extend(allow.iter().flat_map(|lint| ["-A", *lint]));
        if sh::run(&mut cargo(&args)).is_err() {
            findings.push(Finding::new("Cargo.toml", 0, "clippy has findings (above)"));
        }
    }
    findings.extend(freestanding()?);
    Ok(findings)
}

#[derive(Deserialize)]
struct Event {
    reason: String,
    target: Option<Target>,
    message: Option<Message>,
}

#[derive(Deserialize)]
struct Target {
    name: String,
}

#[derive(Clone, Deserialize)]
struct Message {
    level: String,
    code: Option<Code>,
    rendered: Option<String>,
}

#[derive(Clone, Deserialize)]
struct Code {
    code: String,
}

/// Warnings and errors about the X-Kernel among cargo's messages: by lint, the texts.
fn by_lint(json: &str) -> BTreeMap<String, Vec<String>> {
    let mut found: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for event in json.lines().filter_map(|line| serde_json::from_str::<Event>(line).ok()) {
        if event.reason != "compiler-message" || event.target.is_none_or(|t| t.name != "x-kernel") {
            continue;
        }
        let Some(message) = event.message.filter(|m| m.level == "warning" || m.level == "error") else { continue };
        // The last ones count the others and have no lint of their own.
        let Some(code) = message.code else { continue };
        found.entry(code.code).or_default().push(message.rendered.unwrap_or_default());
    }
    found
}

/// What is beyond what is left.
fn judge(found: &BTreeMap<String, Vec<String>>, left: &[(&str, usize)]) -> Vec<String> {
    let mut out = Vec::new();
    for (lint, texts) in found {
        let may = left.iter().find(|(name, _)| name == lint).map_or(0, |(_, n)| *n);
        if texts.len() > may {
            out.push(format!("{lint}: {} where {may} may be left:\n{}", texts.len(), texts.join("\n")));
        }
    }
    out
}

/// Clippy over the X-Kernel. It is not linked for this, so the host's core library will do in place of the bare
/// machine's, for which a toolchain may have none.
fn freestanding() -> Result<Vec<Finding>> {
    let out = cargo(&["clippy", "--quiet", "--package", "x-kernel", "--message-format", "json"]).output().context("cargo clippy")?;
    let found = by_lint(&String::from_utf8_lossy(&out.stdout));
    let mut findings: Vec<_> = judge(&found, LEFT).into_iter().map(|what| Finding::new("x-kernel/src/main.rs", 0, what)).collect();
    if !out.status.success() && findings.is_empty() {
        let why = String::from_utf8_lossy(&out.stderr);
        findings.push(Finding::new("x-kernel/src/main.rs", 0, format!("clippy failed: {}", why.trim())));
    }
    Ok(findings)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_was_left_is_let_pass() {
        let line = |lint: &str, name: &str| {
            format!(
                r#"{{"reason":"compiler-message","target":{{"name":"{name}"}},"message":{{"level":"warning","code":{{"code":"{lint}"}},"rendered":"t"}}}}"#
            )
        };
        let found = by_lint(&[line("a", "x-kernel"), line("a", "x-kernel"), line("b", "pv-core"), "{}".to_string()].join("\n"));
        assert_eq!(found.len(), 1);
        assert!(judge(&found, &[("a", 2)]).is_empty());
        assert_eq!(judge(&found, &[("a", 1)]).len(), 1, "more than were left");
        assert_eq!(judge(&found, &[]).len(), 1);
    }
}
