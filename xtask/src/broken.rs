//! Files that must be refused: what a careless or hostile user may hand over. Which line each of them gets is in
//! tests/cases.toml.

use std::path::PathBuf;

use anyhow::{Context, Result, bail};

use crate::initrd::{self, Script};
use crate::{build, debian, sh};

/// Where a bzImage says how much code of its own comes first (in sectors of 512 bytes), where in the rest the packed
/// kernel lies, and how long it is (Linux's boot protocol).
const SETUP_SECTS: usize = 0x1f1;
const PAYLOAD_OFFSET: usize = 0x248;
const PAYLOAD_LENGTH: usize = 0x24c;
/// Where a 64-bit ELF header has its class, its machine, where its program headers are, and how many.
const E_CLASS: usize = 4;
const E_MACHINE: usize = 18;
const E_PHOFF: usize = 32;
const E_PHNUM: usize = 56;
/// The size of a program header, and where in it the file offset, the physical address and the sizes are.
const PHENTSIZE: usize = 56;
const P_OFFSET: usize = 8;
const P_PADDR: usize = 24;
const P_FILESZ: usize = 32;
const P_MEMSZ: usize = 40;
const PT_NOTE: usize = 4;
/// Notes of a PV kernel, by kind (public header elfnote.h).
const ENTRY: usize = 1;
const HYPERCALL_PAGE: usize = 2;
const VIRT_BASE: usize = 3;
const LOADER: usize = 8;
const FEATURES: u32 = 10;

fn put(bytes: &mut [u8], at: usize, with: &[u8]) -> Result<()> {
    let end = at.checked_add(with.len()).context("an offset")?;
    bytes.get_mut(at..end).context("the file is shorter than expected")?.copy_from_slice(with);
    Ok(())
}

fn word(bytes: &[u8], at: usize) -> Result<usize> {
    let field = bytes.get(at..at.saturating_add(4)).context("the file is shorter than expected")?;
    Ok(u32::from_le_bytes(field.try_into()?) as usize)
}

/// Where the packed kernel of a bzImage begins and ends.
fn payload(file: &[u8]) -> Result<(usize, usize)> {
    let sectors = usize::from(*file.get(SETUP_SECTS).context("a bzImage")?);
    let start = (sectors + 1) * 512 + word(file, PAYLOAD_OFFSET)?;
    Ok((start, start + word(file, PAYLOAD_LENGTH)?))
}

/// Where the program headers of an ELF image are.
fn headers(file: &[u8]) -> Result<Vec<usize>> {
    let (first, count) = (word(file, E_PHOFF)?, word(file, E_PHNUM)? & 0xffff);
    Ok((0..count).map(|n| first + n * PHENTSIZE).collect())
}

/// Where the header of the note segment is.
fn note_header(file: &[u8]) -> Result<usize> {
    headers(file)?.into_iter().find(|&at| word(file, at).is_ok_and(|kind| kind == PT_NOTE)).context("notes")
}

/// Where the note of `kind` is: its header, which its name and its value follow.
fn note(file: &[u8], kind: usize) -> Result<usize> {
    let header = note_header(file)?;
    let (mut at, end) = (word(file, header + P_OFFSET)?, word(file, header + P_OFFSET)? + word(file, header + P_FILESZ)?);
    while at < end {
        if word(file, at + 8)? == kind {
            return Ok(at);
        }
        at += 12 + word(file, at)?.next_multiple_of(4) + word(file, at + 4)?.next_multiple_of(4);
    }
    bail!("there is no note {kind}")
}

/// Where the value of the note of `kind` is: after its header and the name "Xen".
fn value(file: &[u8], kind: usize) -> Result<usize> {
    Ok(note(file, kind)? + 16)
}

/// Breaks a bzImage.
fn bzimage(kind: &str, file: &mut Vec<u8>) -> Result<()> {
    let (start, end) = payload(file)?;
    match kind {
        "bzimage-cut" => file.truncate(file.len() / 2),
        "bzimage-flipped" => file[(start + end) / 2] ^= 0x40,
        "bzimage-endless" => put(file, PAYLOAD_LENGTH, &[0xff; 4])?,
        // What it says that it unpacks to.
        "bzimage-bomb" => put(file, end - 4, &[0xff; 4])?,
        _ => bail!("there is no broken kernel '{kind}'"),
    }
    Ok(())
}

/// Breaks an ELF image, or its notes.
fn elf(kind: &str, file: &mut Vec<u8>) -> Result<()> {
    let all = headers(file)?;
    let [first, second, ..] = all[..] else { bail!("an image of two segments") };
    match kind {
        "elf-cut" => file.truncate(100),
        "elf-class" => put(file, E_CLASS, &[1])?,
        "elf-machine" => put(file, E_MACHINE, &183u16.to_le_bytes())?,
        "elf-no-headers" => put(file, E_PHNUM, &[0, 0])?,
        "elf-many-headers" => put(file, E_PHNUM, &[0xff, 0xff])?,
        "elf-far-headers" => put(file, E_PHOFF, &[0xff; 8])?,
        "elf-far-segment" => put(file, first + P_OFFSET, &[0xff; 8])?,
        "elf-huge-segment" => put(file, first + P_MEMSZ, &0x7fff_ffff_ffff_f000u64.to_le_bytes())?,
        "elf-large-in-file" => put(file, first + P_MEMSZ, &1u64.to_le_bytes())?,
        "elf-overlap" => {
            let paddr = file.get(first + P_PADDR..first + P_PADDR + 8).context("a header")?.to_vec();
            put(file, second + P_PADDR, &paddr)?;
        }
        "elf-no-notes" => {
            // PT_NOTE becomes PT_NULL.
            let at = note_header(file)?;
            put(file, at, &[0; 4])?;
        }
        "note-cut" => {
            let at = note_header(file)?;
            put(file, at + P_FILESZ, &30u64.to_le_bytes())?;
        }
        "note-endless" => {
            let at = note(file, VIRT_BASE)?;
            put(file, at + 4, &[0xff; 4])?;
        }
        "note-size" => {
            let at = note(file, VIRT_BASE)?;
            put(file, at + 4, &3u32.to_le_bytes())?;
        }
        "note-entry" => {
            let at = value(file, ENTRY)?;
            put(file, at, &0xffff_ffff_9000_0000u64.to_le_bytes())?;
        }
        "note-virt-base" => {
            let at = value(file, VIRT_BASE)?;
            put(file, at, &0xffff_8100_0000_0000u64.to_le_bytes())?;
        }
        "note-hypercall-page" => {
            let at = value(file, HYPERCALL_PAGE)?;
            put(file, at, &0xffff_ffff_9000_0000u64.to_le_bytes())?;
        }
        "note-loader" => {
            let at = value(file, LOADER)?;
            put(file, at, b"minios\0\0")?;
        }
        "note-feature" => {
            let (at, to) = (note(file, LOADER)?, value(file, LOADER)?);
            put(file, at + 8, &FEATURES.to_le_bytes())?;
            put(file, to, b"!wings\0\0")?;
        }
        _ => bail!("there is no broken kernel '{kind}'"),
    }
    Ok(())
}

/// Makes the file that is broken as `kind` says.
pub fn file(kind: &str) -> Result<PathBuf> {
    let bytes = match kind {
        "empty" => Vec::new(),
        "initrd-cut" => {
            let mut file = std::fs::read(initrd::make(&Script::Smoke)?)?;
            file.truncate(file.len() / 2);
            file
        }
        "text" => b"This is not a kernel.\n".to_vec(),
        _ if kind.starts_with("bzimage") => {
            let mut file = std::fs::read(debian::kernel()?)?;
            bzimage(kind, &mut file)?;
            file
        }
        // A good one with so many bytes behind it, for what is only too large.
        "large" => {
            let mut file = std::fs::read(build::guests()?.join("hello"))?;
            file.resize(24 << 20, 0x5a);
            file
        }
        _ => {
            let mut file = std::fs::read(build::guests()?.join("hello"))?;
            elf(kind, &mut file)?;
            file
        }
    };
    let to = sh::target(&format!("broken/{kind}"))?;
    // Put in place in one step: cases that run side by side may ask for the same one.
    let part = to.with_extension(format!("{}-{:?}", std::process::id(), std::thread::current().id()));
    std::fs::write(&part, bytes)?;
    std::fs::rename(&part, &to)?;
    Ok(to)
}
