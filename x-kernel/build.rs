//! Makes the symbol table that `src/symbols.rs` embeds, from the file that `XK_SYMBOLS` names: lines of a hexadecimal
//! address and a name, as `nm` prints them (a type letter between them is skipped). Without it the table is empty.

use std::path::Path;
use std::{env, fs};

/// `IMAGE_BASE` of linker.ld.
const IMAGE_BASE: u64 = 0xffff_8080_0000_0000;

fn main() {
    println!("cargo:rerun-if-env-changed=XK_SYMBOLS");
    println!("cargo:rerun-if-changed=build.rs");
    println!("cargo:rerun-if-changed=../linker.ld");
    println!("cargo:rerun-if-changed=../boot/multiboot2.S");
    let symbols = match env::var("XK_SYMBOLS") {
        Ok(path) if !path.is_empty() => {
            println!("cargo:rerun-if-changed={path}");
            parse(&fs::read_to_string(&path).unwrap_or_else(|e| panic!("XK_SYMBOLS: {path}: {e}")))
        }
        _ => Vec::new(),
    };
    let out = env::var("OUT_DIR").expect("cargo sets OUT_DIR");
    fs::write(Path::new(&out).join("symbols.bin"), table(&symbols)).expect("OUT_DIR is writable");
}

/// The functions of `text`, ascending, one per address.
fn parse(text: &str) -> Vec<(u32, String)> {
    let mut found: Vec<(u32, String)> = text.lines().filter_map(line).collect();
    found.sort();
    found.dedup_by_key(|(address, _)| *address);
    found
}

fn line(text: &str) -> Option<(u32, String)> {
    let (address, rest) = text.trim().split_once(' ')?;
    let address = u64::from_str_radix(address, 16).ok()?;
    let name = match rest.split_once(' ') {
        Some((kind, name)) if kind.len() == 1 => {
            if !matches!(kind, "t" | "T") {
                return None;
            }
            name
        }
        _ => rest,
    };
    Some((u32::try_from(address.checked_sub(IMAGE_BASE)?).ok()?, name.to_owned()))
}

#[expect(clippy::arithmetic_side_effects, reason = "a host tool on its own output")]
fn table(symbols: &[(u32, String)]) -> Vec<u8> {
    let mut head: Vec<u32> = vec![u32::try_from(symbols.len()).expect("fewer than 2^32 symbols")];
    let names_at = (1 + 2 * symbols.len()) * 4;
    let mut names = Vec::new();
    for (address, name) in symbols {
        head.extend([*address, u32::try_from(names_at + names.len()).expect("names fit in 4 GiB")]);
        names.extend(name.bytes().filter(|b| *b != 0));
        names.push(0);
    }
    head.iter().flat_map(|word| word.to_le_bytes()).chain(names).collect()
}
