//! Small kernels made by hand, for tests to break.
#![allow(dead_code, reason = "each test file uses its part")]
#![expect(clippy::unwrap_used, reason = "of tests' own making")]

use dom_image::{ImageError, Kernel};

pub const BASE: u64 = 0xffff_ffff_8000_0000;
pub const INIT_P2M: u64 = 0x80_0000_0000;
pub const LIMIT: u64 = 64 << 20;
/// `XENFEAT_writable_page_tables` and `XENFEAT_pae_pgdir_above_4gb`.
pub const FEATURES: u32 = 0x11;

/// Offsets in what [`elf`] makes.
pub const PHDR: usize = 64;
pub const TEXT: usize = 0x1000;
pub const NOTES: usize = 0x3000;

/// A note of owner `Xen`.
pub fn note(kind: u32, desc: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::new();
    for word in [4, u32::try_from(desc.len()).unwrap(), kind] {
        bytes.extend(word.to_le_bytes());
    }
    bytes.extend(b"Xen\0");
    bytes.extend(desc);
    bytes.resize(bytes.len().next_multiple_of(4), 0);
    bytes
}

/// The notes of a stock kernel.
pub fn notes() -> Vec<u8> {
    [
        note(1, &(BASE + 0x10_0040).to_le_bytes()),
        note(2, &(BASE + 0x10_1000).to_le_bytes()),
        note(3, &BASE.to_le_bytes()),
        note(4, &0u64.to_le_bytes()),
        note(8, b"generic\0"),
        note(9, b"yes\0"),
        note(10, b"!writable_page_tables|pae_pgdir_above_4gb\0"),
        note(15, &INIT_P2M.to_le_bytes()),
        note(16, &1u32.to_le_bytes()),
    ]
    .concat()
}

/// A program header.
pub fn header(kind: u32, offset: u64, paddr: u64, filesz: u64, memsz: u64) -> Vec<u8> {
    let mut bytes = Vec::new();
    for word in [kind, 7] {
        bytes.extend(word.to_le_bytes());
    }
    for word in [offset, BASE.wrapping_add(paddr), paddr, filesz, memsz, 0x1000] {
        bytes.extend(word.to_le_bytes());
    }
    bytes
}

/// An ELF image of the given headers and notes.
pub fn elf_of(headers: &[Vec<u8>], notes: &[u8]) -> Vec<u8> {
    let mut bytes = vec![0; PHDR];
    put(&mut bytes, 0, b"\x7fELF\x02\x01\x01");
    for (at, value) in [(16, 2u16), (18, 62), (20, 1), (52, 64), (54, 56), (56, u16::try_from(headers.len()).unwrap())] {
        put(&mut bytes, at, &value.to_le_bytes());
    }
    put(&mut bytes, 24, &(BASE + 0x10_0000).to_le_bytes());
    put(&mut bytes, 32, &(PHDR as u64).to_le_bytes());
    bytes.extend(headers.concat());
    bytes.resize(NOTES, 0xcc);
    bytes.extend(notes);
    bytes
}

/// The headers of [`elf`]: text, data with bss, notes.
pub fn headers(notes: usize) -> Vec<Vec<u8>> {
    vec![
        header(1, TEXT as u64, 0x10_0000, 0x2000, 0x2000),
        header(1, 0x2000, 0x20_0000, 0x1000, 0x5000),
        header(4, NOTES as u64, 0x10_1000, notes as u64, notes as u64),
    ]
}

/// A kernel as stock ones are.
pub fn elf() -> Vec<u8> {
    let notes = notes();
    elf_of(&headers(notes.len()), &notes)
}

/// [`elf`] with its notes replaced.
pub fn elf_with_notes(notes: &[u8]) -> Vec<u8> {
    elf_of(&headers(notes.len()), notes)
}

/// A bzImage of `payload`, the size at the end included.
pub fn bzimage(payload: &[u8]) -> Vec<u8> {
    let mut bytes = vec![0; 1024];
    bytes[0x1f1] = 1;
    bytes[0x211] = 1;
    put(&mut bytes, 0x1fe, &0xaa55u16.to_le_bytes());
    put(&mut bytes, 0x202, b"HdrS");
    put(&mut bytes, 0x206, &0x20fu16.to_le_bytes());
    put(&mut bytes, 0x248, &0x40u32.to_le_bytes());
    put(&mut bytes, 0x24c, &u32::try_from(payload.len()).unwrap().to_le_bytes());
    bytes.resize(1024 + 0x40, 0);
    bytes.extend(payload);
    bytes.resize(bytes.len() + 64, 0);
    bytes
}

/// Overwrites bytes.
pub fn put(bytes: &mut [u8], at: usize, with: &[u8]) {
    bytes[at..at + with.len()].copy_from_slice(with);
}

/// Parses with [`FEATURES`].
pub fn parse(bytes: &[u8]) -> Result<Kernel<'_>, ImageError> {
    Kernel::parse(bytes, FEATURES)
}

/// The line that `bytes` are refused with.
#[track_caller]
pub fn refusal(bytes: &[u8]) -> String {
    match parse(bytes) {
        Ok(kernel) => panic!("accepted: {kernel:x?}"),
        Err(why) => why.to_string(),
    }
}
