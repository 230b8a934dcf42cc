//! Kernels that must be refused: what a careless or hostile user may hand over.

use std::path::PathBuf;

use anyhow::{Context, Result, bail};

use crate::{build, debian, sh};

/// Where a bzImage says how much code of its own comes first (in sectors of 512 bytes), where in the rest the packed
/// kernel lies, and how long it is (Linux's boot protocol).
const SETUP_SECTS: usize = 0x1f1;
const PAYLOAD_OFFSET: usize = 0x248;
const PAYLOAD_LENGTH: usize = 0x24c;
/// Where a 64-bit ELF header says where its program headers are, and how many.
const E_PHOFF: usize = 32;
const E_PHNUM: usize = 56;
/// The size of a program header, and where in it the file offset and the size in memory are.
const PHENTSIZE: usize = 56;
const P_OFFSET: usize = 8;
const P_MEMSZ: usize = 40;

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

/// Makes the kernel that is broken as `kind` says.
pub fn kernel(kind: &str) -> Result<PathBuf> {
    let bzimage = || Ok::<_, anyhow::Error>(std::fs::read(debian::kernel()?)?);
    let elf = || Ok::<_, anyhow::Error>(std::fs::read(build::guests()?.join("hello"))?);
    let bytes = match kind {
        "text" => b"This is not a kernel.\n".to_vec(),
        "bzimage-cut" => {
            let file = bzimage()?;
            file[..file.len() / 2].to_vec()
        }
        "bzimage-flipped" => {
            let mut file = bzimage()?;
            let (start, end) = payload(&file)?;
            file[(start + end) / 2] ^= 0x40;
            file
        }
        "bzimage-endless" => {
            let mut file = bzimage()?;
            put(&mut file, PAYLOAD_LENGTH, &[0xff; 4])?;
            file
        }
        "bzimage-bomb" => {
            let mut file = bzimage()?;
            let (_, end) = payload(&file)?;
            put(&mut file, end - 4, &[0xff; 4])?;
            file
        }
        "elf-cut" => {
            let file = elf()?;
            file[..100].to_vec()
        }
        "elf-many-headers" => {
            let mut file = elf()?;
            put(&mut file, E_PHNUM, &[0xff, 0xff])?;
            file
        }
        "elf-far-segment" => {
            let mut file = elf()?;
            let first = word(&file, E_PHOFF)?;
            put(&mut file, first + P_OFFSET, &[0xff; 8])?;
            file
        }
        "elf-huge-segment" => {
            let mut file = elf()?;
            let first = word(&file, E_PHOFF)?;
            put(&mut file, first + P_MEMSZ, &0x7fff_ffff_ffff_f000u64.to_le_bytes())?;
            file
        }
        "elf-no-notes" => {
            let mut file = elf()?;
            let (first, count) = (word(&file, E_PHOFF)?, word(&file, E_PHNUM)? & 0xffff);
            for n in 0..count {
                let at = first + n * PHENTSIZE;
                // PT_NOTE becomes PT_NULL.
                if word(&file, at)? == 4 {
                    put(&mut file, at, &[0; 4])?;
                }
            }
            file
        }
        _ => bail!("there is no broken kernel '{kind}'"),
    };
    let to = sh::target(&format!("broken/{kind}"))?;
    std::fs::write(&to, bytes)?;
    Ok(to)
}
