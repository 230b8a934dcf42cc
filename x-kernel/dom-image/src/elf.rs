//! Reads a PV kernel's ELF image: its segments, and with its notes everything that the domain builder needs.
//!
//! Every number is an allegation of the file's. A [`Kernel`] that was returned has segments that lie inside the
//! file, do not overlap, and end below [`MAX_IMAGE`]; its addresses neither wrap nor touch the hypervisor's hole.

use alloc::vec::Vec;

use crate::bytes::{part, u8_at, u16_at, u32_at, u64_at, wide};
use crate::error::{ImageError, Result};
use crate::notes::Notes;
use crate::space;

/// The most segments that may be loaded.
pub const MAX_SEGMENTS: usize = 16;
/// The most program headers that are looked at.
const MAX_HEADERS: u16 = 64;
/// Where a kernel's last segment must end, as an offset in the domain's memory: Linux maps its image in 1 GiB.
pub const MAX_IMAGE: u64 = 1 << 30;

const MAGIC: &[u8] = b"\x7fELF";
const CLASS_64: u8 = 2;
const DATA_LITTLE: u8 = 1;
const TYPE_EXEC: u16 = 2;
const TYPE_DYN: u16 = 3;
const MACHINE_X86_64: u16 = 62;
const HEADER_BYTES: u16 = 56;
const PT_LOAD: u32 = 1;
const PT_NOTE: u32 = 4;
const PAGE: u64 = 4096;

/// Bytes to load.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Segment<'a> {
    /// Where they go, as a byte offset in the domain's memory.
    pub at: u64,
    /// What the file holds.
    pub bytes: &'a [u8],
    /// How much memory the segment takes; what the file does not hold is zero.
    pub memsz: u64,
}

/// A PV kernel, checked.
#[derive(Debug, Clone)]
pub struct Kernel<'a> {
    /// What to load, by ascending place.
    pub segments: Vec<Segment<'a>>,
    /// Address of the first instruction.
    pub entry: u64,
    /// Address that the domain's memory is mapped at, a multiple of the page size.
    pub virt_base: u64,
    /// Place of the hypercall page, as a byte offset in the domain's memory inside the image.
    pub hypercall_page: Option<u64>,
    /// Address for the p2m list, if it is not to lie in the first mapping.
    pub init_p2m: Option<u64>,
    /// Whether the initrd may be given by frame number, unmapped.
    pub mod_start_pfn: bool,
    /// Where the image ends, as a byte offset in the domain's memory.
    pub end: u64,
}

/// A program header.
struct Header {
    kind: u32,
    offset: u64,
    paddr: u64,
    filesz: u64,
    memsz: u64,
}

/// Whether `bytes` claim to be an ELF image.
pub fn is_elf(bytes: &[u8]) -> bool {
    bytes.starts_with(MAGIC)
}

impl<'a> Kernel<'a> {
    /// Reads the ELF image `file`; `features` are the `XENFEAT_*` bits that a kernel may require.
    ///
    /// # Errors
    /// What is wrong with it, or what it requires and cannot have.
    pub fn parse(file: &'a [u8], features: u32) -> Result<Self> {
        let (entry, headers) = headers(file)?;
        let mut notes = Notes::default();
        for h in headers.iter().filter(|h| h.kind == PT_NOTE) {
            notes.read(part(file, h.offset, h.filesz, "a note segment")?)?;
        }
        if !notes.found() {
            return Err(ImageError::Missing("Xen notes: it is not a PV kernel"));
        }
        notes.check(features)?;
        let segments = segments(file, &headers, notes.paddr_offset)?;
        let end = segments.last().map_or(0, |s| s.at.saturating_add(s.memsz));
        let virt_base = notes.virt_base;
        if !virt_base.is_multiple_of(PAGE) {
            return Err(ImageError::Value { what: "VIRT_BASE", value: virt_base, rule: "it must be a multiple of the page size" });
        }
        space::check("VIRT_BASE", virt_base, end)?;
        let entry = notes.entry.unwrap_or(entry);
        inside(&segments, "the entry point", entry, virt_base, 1)?;
        let hypercall_page = match notes.hypercall_page {
            Some(va) if !va.is_multiple_of(PAGE) => {
                return Err(ImageError::Value { what: "HYPERCALL_PAGE", value: va, rule: "it must be a multiple of the page size" });
            }
            Some(va) => Some(inside(&segments, "HYPERCALL_PAGE", va, virt_base, PAGE)?),
            None => None,
        };
        if let Some(va) = notes.init_p2m {
            if !va.is_multiple_of(PAGE) {
                return Err(ImageError::Value { what: "INIT_P2M", value: va, rule: "it must be a multiple of the page size" });
            }
            space::check("INIT_P2M", va, PAGE)?;
        }
        Ok(Self { segments, entry, virt_base, hypercall_page, init_p2m: notes.init_p2m, mod_start_pfn: notes.mod_start_pfn, end })
    }
}

/// The offset of address `va`, which must lie in one of the segments with `len` bytes from it.
fn inside(segments: &[Segment<'_>], what: &'static str, va: u64, virt_base: u64, len: u64) -> Result<u64> {
    let refuse = ImageError::Value { what, value: va, rule: "it must lie in a loaded segment" };
    let Some((at, end)) = va.checked_sub(virt_base).and_then(|at| Some((at, at.checked_add(len)?))) else { return Err(refuse) };
    let holds = |s: &&Segment<'_>| s.at <= at && s.at.checked_add(s.memsz).is_some_and(|e| end <= e);
    if segments.iter().find(holds).is_none() { Err(refuse) } else { Ok(at) }
}

/// The file header: entry point and program headers.
fn headers(file: &[u8]) -> Result<(u64, Vec<Header>)> {
    const WHAT: &str = "the ELF header";
    let must = |what, value: u64, allowed: &[u64], rule| match allowed.contains(&value) {
        true => Ok(()),
        false => Err(ImageError::Value { what, value, rule }),
    };
    if !is_elf(file) {
        return Err(ImageError::NotAKernel);
    }
    part(file, 0, 64, WHAT)?;
    must("the ELF class", u8_at(file, 4, WHAT)?.into(), &[CLASS_64.into()], "only 64-bit kernels run here")?;
    must("the ELF data encoding", u8_at(file, 5, WHAT)?.into(), &[DATA_LITTLE.into()], "only little-endian kernels run here")?;
    must("the ELF type", u16_at(file, 16, WHAT)?.into(), &[TYPE_EXEC.into(), TYPE_DYN.into()], "it is not an executable")?;
    must("the ELF machine", u16_at(file, 18, WHAT)?.into(), &[MACHINE_X86_64.into()], "only x86-64 kernels run here")?;
    let entry = u64_at(file, 24, WHAT)?;
    let table = u64_at(file, 32, WHAT)?;
    must("the size of program headers", u16_at(file, 54, WHAT)?.into(), &[HEADER_BYTES.into()], "it must be 56")?;
    let count = u16_at(file, 56, WHAT)?;
    if count == 0 || count > MAX_HEADERS {
        return Err(ImageError::Value { what: "the number of program headers", value: count.into(), rule: "it must be 1 to 64" });
    }
    let table = part(file, table, u64::from(count).saturating_mul(HEADER_BYTES.into()), "the program header table")?;
    let mut list = Vec::new();
    for bytes in table.chunks_exact(HEADER_BYTES.into()) {
        const WHAT: &str = "a program header";
        list.push(Header {
            kind: u32_at(bytes, 0, WHAT)?,
            offset: u64_at(bytes, 8, WHAT)?,
            paddr: u64_at(bytes, 24, WHAT)?,
            filesz: u64_at(bytes, 32, WHAT)?,
            memsz: u64_at(bytes, 40, WHAT)?,
        });
    }
    Ok((entry, list))
}

/// The segments to load, sorted and checked against each other.
fn segments<'a>(file: &'a [u8], headers: &[Header], paddr_offset: u64) -> Result<Vec<Segment<'a>>> {
    let mut list = Vec::new();
    for h in headers.iter().filter(|h| h.kind == PT_LOAD && h.memsz > 0) {
        if list.len() >= MAX_SEGMENTS {
            return Err(ImageError::Value {
                what: "the number of segments",
                value: wide(MAX_SEGMENTS).saturating_add(1),
                rule: "at most 16 can be loaded",
            });
        }
        if h.filesz > h.memsz {
            return Err(ImageError::Value {
                what: "a segment's size in the file",
                value: h.filesz,
                rule: "it is larger than its size in memory",
            });
        }
        let bytes = part(file, h.offset, h.filesz, "a segment")?;
        let at = h.paddr.checked_sub(paddr_offset).ok_or(ImageError::Value {
            what: "a segment's physical address",
            value: h.paddr,
            rule: "it lies below PADDR_OFFSET",
        })?;
        if at.checked_add(h.memsz).is_none_or(|end| end > MAX_IMAGE) {
            return Err(ImageError::Outside { what: "a segment's memory", at, len: h.memsz, end: MAX_IMAGE });
        }
        list.push(Segment { at, bytes, memsz: h.memsz });
    }
    if list.is_empty() {
        return Err(ImageError::Missing("segments to load"));
    }
    list.sort_by_key(|s| s.at);
    for (low, high) in list.iter().zip(list.iter().skip(1)) {
        if low.at.saturating_add(low.memsz) > high.at {
            return Err(ImageError::Overlap { first: low.at, second: high.at });
        }
    }
    Ok(list)
}
