//! Which instructions of X-LibOS an interrupt has come before: for the cases that must reach every one of a range.
//!
//! The guest's clock counts instructions, so a timer that is set to one moment after the other walks through code one by
//! one; the plugin of the bench (tests/bench/crossings) sees where its interrupts come.

use std::collections::BTreeSet;
use std::path::Path;

use anyhow::{Context, Result};
use iced_x86::{Decoder, DecoderOptions, Mnemonic};
use object::{Object, ObjectSection, ObjectSymbol};

use crate::qemu::INSTRUCTION_CLOCK;

/// What QEMU is told beside the usual, so that the plugin writes the interrupts to `out`.
pub fn options(plugin: &Path, out: &Path) -> Vec<String> {
    let plugin = format!("{},interrupts={}", plugin.display(), out.display());
    [&INSTRUCTION_CLOCK[..], &["-rtc", "clock=vm", "-plugin", &plugin]].concat().into_iter().map(String::from).collect()
}

/// The instructions in `ranges` of the kernel `image`, each `FROM..TO` by symbols, that are not among `hits`, the
/// plugin's file: what is wrong, one line each.
///
/// # Errors
/// If a file cannot be read, or a symbol is not there.
pub fn missed(image: &Path, ranges: &[String], hits: &Path) -> Result<Vec<String>> {
    let bytes = std::fs::read(image).with_context(|| format!("cannot read {}", image.display()))?;
    let file = object::File::parse(&*bytes)?;
    let text = std::fs::read_to_string(hits).with_context(|| format!("cannot read {}", hits.display()))?;
    let hits: BTreeSet<u64> = text.lines().filter_map(|l| u64::from_str_radix(l.split(' ').next()?, 16).ok()).collect();
    let mut faults = Vec::new();
    for range in ranges {
        let (from, to) = range.split_once("..").with_context(|| format!("'{range}' is no FROM..TO"))?;
        let address = |name: &str| {
            let found = file.symbols().find(|s| s.name() == Ok(name)).with_context(|| format!("{} has no {name}", image.display()));
            found.map(|s| s.address())
        };
        let (from, to) = (address(from)?, address(to)?);
        let instructions = instructions(&file, from, to).with_context(|| format!("{range} is not in the image"))?;
        let missed: Vec<_> = instructions.iter().filter(|at| !hits.contains(at)).collect();
        if instructions.is_empty() || !missed.is_empty() {
            faults.push(format!("{range}: no interrupt came before {missed:x?}, of {} instructions", instructions.len()));
        }
    }
    Ok(faults)
}

/// The addresses of the instructions from one address to another, less what fills up between functions.
fn instructions(file: &object::File<'_>, from: u64, to: u64) -> Option<Vec<u64>> {
    let section = file.sections().find(|s| s.address() <= from && to <= s.address() + s.size())?;
    let data = section.data().ok()?;
    let at = |address: u64| usize::try_from(address - section.address()).ok();
    let code = data.get(at(from)?..at(to)?)?;
    let decoder = Decoder::with_ip(64, code, from, DecoderOptions::NONE);
    Some(decoder.into_iter().filter(|i| !matches!(i.mnemonic(), Mnemonic::Nop | Mnemonic::Int3)).map(|i| i.ip()).collect())
}
