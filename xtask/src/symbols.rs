//! The X-Kernel's function symbols, in the form of `nm -nC`: what its backtraces are made readable with.

use std::fmt::Write;
use std::path::Path;

use anyhow::Result;
use object::{Object, ObjectSymbol, SymbolKind};

/// `address t name` lines, by address.
pub fn list(elf: &Path) -> Result<String> {
    let data = std::fs::read(elf)?;
    let file = object::File::parse(&*data)?;
    let mut symbols: Vec<_> = file
        .symbols()
        .filter(|s| s.kind() == SymbolKind::Text || (s.kind() == SymbolKind::Label))
        .filter_map(|s| Some((s.address(), format!("{:#}", rustc_demangle::demangle(s.name().ok()?)))))
        .filter(|(address, name)| *address != 0 && !name.is_empty() && !name.starts_with(".L"))
        .collect();
    symbols.sort();
    symbols.dedup_by_key(|s| s.0);
    let mut out = String::new();
    for (address, name) in symbols {
        writeln!(out, "{address:016x} t {name}")?;
    }
    Ok(out)
}
