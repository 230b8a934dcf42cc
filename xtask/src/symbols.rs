//! The X-Kernel's own symbols, put into its image after linking: what its backtraces are made readable with.
//!
//! x-kernel/src/symbols.rs keeps room for the table and has its layout.

use std::path::Path;

use anyhow::{Context, Result, bail};
use object::{Object, ObjectSegment, ObjectSymbol, SymbolKind};

/// `IMAGE_BASE` of linker.ld, which addresses in the table count from.
const IMAGE_BASE: u64 = 0xffff_8080_0000_0000;

/// The functions of an ELF file by address, one each.
fn functions(file: &object::File<'_>) -> Vec<(u64, String)> {
    let mut found: Vec<_> = file
        .symbols()
        .filter(|s| matches!(s.kind(), SymbolKind::Text | SymbolKind::Label))
        .filter_map(|s| Some((s.address(), format!("{:#}", rustc_demangle::demangle(s.name().ok()?)))))
        .filter(|(address, name)| *address >= IMAGE_BASE && !name.is_empty() && !name.starts_with(".L"))
        .collect();
    found.sort();
    found.dedup_by_key(|s| s.0);
    found
}

/// The address of the X-Kernel's function `name`. What a compiler's pass has put behind a name does not count.
///
/// # Errors
/// If there is no such function.
pub fn address(image: &Path, name: &str) -> Result<u64> {
    let bytes = std::fs::read(image)?;
    let functions = functions(&object::File::parse(&*bytes)?);
    let found = functions.iter().find(|(_, n)| n.strip_prefix(name).is_some_and(|rest| rest.is_empty() || rest.starts_with('.')));
    Ok(found.with_context(|| format!("{} has no function {name}", image.display()))?.0)
}

/// The table of `functions`.
fn table(functions: &[(u64, String)]) -> Result<Vec<u8>> {
    let mut head = vec![u32::try_from(functions.len())?];
    let names_at = (1 + 2 * functions.len()) * 4;
    let mut names = Vec::new();
    for (address, name) in functions {
        head.push(u32::try_from(address - IMAGE_BASE)?);
        head.push(u32::try_from(names_at + names.len())?);
        names.extend(name.bytes().filter(|b| *b != 0));
        names.push(0);
    }
    Ok(head.iter().flat_map(|word| word.to_le_bytes()).chain(names).collect())
}

/// Where in the file the bytes at `address` are.
fn place(file: &object::File<'_>, address: u64) -> Option<usize> {
    file.segments().find_map(|segment| {
        let within = address.checked_sub(segment.address())?;
        let (start, size) = segment.file_range();
        (within < size).then(|| usize::try_from(start + within).ok())?
    })
}

/// Writes the symbols of the X-Kernel `from` into the room for them; the result goes to `to`.
///
/// # Errors
/// If there is no room, or not enough.
pub fn embed(from: &Path, to: &Path) -> Result<()> {
    let mut image = std::fs::read(from)?;
    let (table, start, room) = {
        let file = object::File::parse(&*image)?;
        let address = |name: &str| file.symbol_by_name(name).map(|s| s.address()).with_context(|| format!("{name} is not defined"));
        let (start, end) = (address("__symbols_start")?, address("__symbols_end")?);
        let at = place(&file, start).context("the room for symbols is not in the file")?;
        (table(&functions(&file))?, at, usize::try_from(end - start)?)
    };
    if table.len() > room {
        bail!("the symbols take {} bytes, x-kernel/src/symbols.rs has room for {room}", table.len());
    }
    image.get_mut(start..start + table.len()).context("the file is shorter than its segments")?.copy_from_slice(&table);
    // In one step: a machine may be starting from the old one.
    let part = to.with_extension("part");
    std::fs::write(&part, image)?;
    Ok(std::fs::rename(part, to)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_table_lists_addresses_then_names() {
        let functions = [(IMAGE_BASE + 0x10, "a".to_string()), (IMAGE_BASE + 0x20, "bc".to_string())];
        let table = table(&functions).expect("small");
        let words: Vec<_> = table.chunks_exact(4).take(5).map(|w| u32::from_le_bytes(w.try_into().expect("four bytes"))).collect();
        assert_eq!(words, [2, 0x10, 20, 0x20, 22]);
        assert_eq!(&table[20..], b"a\0bc\0");
    }
}
