//! The X-Kernel's own symbols, for backtraces.
//!
//! The image has room for the table and is linked with zeroes in it; the build then writes it in, from the image's own
//! symbols (xtask/src/symbols.rs). Layout, little-endian: count, then per symbol the offset of its address from
//! `IMAGE_BASE` and the offset of its name, ascending by address; then the names, each ended by a zero byte.

// UNSAFETY: the table lies between two linker symbols.
#![expect(unsafe_code, reason = "the table is delimited by linker symbols")]

use crate::mm::layout::IMAGE_BASE;

/// Bytes of room. The build says when they are too few.
const ROOM: usize = if cfg!(debug_assertions) { 288 << 10 } else { 160 << 10 };

/// The room. It is read through the linker's symbols only: that it is all zeroes is not for the compiler to know.
#[used]
// SAFETY: the section holds this table only, and is only read, as bytes.
#[unsafe(link_section = ".symbols")]
static TABLE: [u8; ROOM] = [0; ROOM];

unsafe extern "C" {
    static __symbols_start: u8;
    static __symbols_end: u8;
    static __text_start: u8;
    static __text_end: u8;
}

fn table() -> &'static [u8] {
    let start = &raw const __symbols_start;
    let len = (&raw const __symbols_end as usize).saturating_sub(start as usize);
    // SAFETY: linker.ld places the symbols around read-only bytes.
    unsafe { core::slice::from_raw_parts(start, len) }
}

/// Whether `address` lies in the X-Kernel's code.
pub fn is_code(address: u64) -> bool {
    (&raw const __text_start as u64..&raw const __text_end as u64).contains(&address)
}

fn word(table: &[u8], index: usize) -> Option<u32> {
    let at = index.checked_mul(4)?;
    let bytes = table.get(at..at.checked_add(4)?)?;
    Some(u32::from_le_bytes(bytes.try_into().ok()?))
}

/// The function that `address` lies in, and how far in.
pub fn lookup(address: u64) -> Option<(&'static str, u64)> {
    if !is_code(address) {
        return None;
    }
    let table = table();
    let offset = u32::try_from(address.checked_sub(IMAGE_BASE)?).ok()?;
    let count = word(table, 0)? as usize;
    let address_of = |i: usize| word(table, i.checked_mul(2)?.checked_add(1)?);
    // The last symbol at or below the address.
    let (mut low, mut high) = (0, count);
    while low < high {
        let middle = low.midpoint(high);
        if address_of(middle)? <= offset { low = middle.checked_add(1)? } else { high = middle }
    }
    let found = low.checked_sub(1)?;
    let name_at = word(table, found.checked_mul(2)?.checked_add(2)?)? as usize;
    let names = table.get(name_at..)?;
    let len = names.iter().position(|&b| b == 0)?;
    let name = core::str::from_utf8(names.get(..len)?).ok()?;
    Some((name, u64::from(offset.checked_sub(address_of(found)?)?)))
}
