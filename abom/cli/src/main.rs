//! `abom`: rewrites the system calls of ELF files for X-Containers, ahead of time.
//!
//! The decisions are the `abom` crate's; here are the facts for them, from symbols, unwind tables and whole functions, and
//! the files.
#![forbid(unsafe_code)]

mod args;
mod elf;
mod program;
mod record;
mod rewrite;
mod running;
mod scan;
mod unwind;
mod verify;

use std::io::Write;
use std::path::Path;
use std::process::ExitCode;

use anyhow::{Context, Result};
use clap::{CommandFactory, Parser};

use args::{Arguments, Verb};
use scan::View;

fn main() -> ExitCode {
    match run(Arguments::parse().verb) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) if is_closed_pipe(&error) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("abom: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// Whoever read the output has seen enough.
fn is_closed_pipe(error: &anyhow::Error) -> bool {
    error.downcast_ref::<std::io::Error>().is_some_and(|e| e.kind() == std::io::ErrorKind::BrokenPipe)
}

fn run(verb: Verb) -> Result<()> {
    let mut out = std::io::stdout().lock();
    match verb {
        Verb::Scan(scan) => {
            for path in &scan.files {
                let data = elf::read(path)?;
                let name = path.display().to_string();
                let view = if scan.running { View::Running } else { View::Whole };
                let report = scan::file(&name, &data, view).with_context(|| name.clone())?;
                if scan.json {
                    serde_json::to_writer(&mut out, &report)?;
                    writeln!(out)?;
                } else {
                    report.write(&mut out, scan.list)?;
                }
            }
        }
        Verb::Patch(patch) => {
            let data = elf::read(&patch.input)?;
            let patched = rewrite::patch(&data).with_context(|| patch.input.display().to_string())?;
            write(&patch.output, &patched.data, &patch.input)?;
            eprintln!("{}: {} sites changed, {} left", patch.output.display(), patched.record.changes.len(), patched.refused.len());
            for (site, refusal) in patched.refused {
                eprintln!("  {site:#x}: {refusal}");
            }
        }
        Verb::Verify(verify) => {
            let data = elf::read(&verify.file)?;
            let name = verify.file.display().to_string();
            let record = verify::verify(&data).with_context(|| name.clone())?;
            writeln!(out, "{name}: {} sites changed, all as they should be", record.changes.len())?;
        }
        Verb::Unpatch(unpatch) => {
            let data = elf::read(&unpatch.input)?;
            let (original, _) = rewrite::unpatch(&data).with_context(|| unpatch.input.display().to_string())?;
            write(&unpatch.output, &original, &unpatch.input)?;
        }
        Verb::Man { output } => manual(output.as_deref(), &mut out)?,
        Verb::Completions { shell } => clap_complete::generate(shell, &mut Arguments::command(), "abom", &mut out),
    }
    Ok(())
}

/// Writes a file, with the mode of another, whole or not at all.
fn write(path: &Path, data: &[u8], like: &Path) -> Result<()> {
    let cannot = || format!("cannot write {}", path.display());
    let mut name = path.file_name().context("the output is no file").with_context(cannot)?.to_os_string();
    name.push(".part");
    let part = path.with_file_name(name);
    let written = std::fs::write(&part, data)
        .and_then(|()| std::fs::set_permissions(&part, std::fs::metadata(like)?.permissions()))
        .and_then(|()| std::fs::rename(&part, path));
    if written.is_err() {
        // What is left of it is of no use; that it cannot be removed is not what went wrong.
        let _ = std::fs::remove_file(&part);
    }
    written.with_context(cannot)
}

fn manual(folder: Option<&Path>, out: &mut impl Write) -> Result<()> {
    let command = Arguments::command();
    match folder {
        None => clap_mangen::Man::new(command).render(out)?,
        Some(folder) => clap_mangen::generate_to(command, folder).with_context(|| format!("cannot write to {}", folder.display()))?,
    }
    Ok(())
}
