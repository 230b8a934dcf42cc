//! Little-endian fields of untrusted bytes, by checked offsets.

use crate::error::{ImageError, Result};

/// A length or offset as the 64-bit number that messages and comparisons use.
pub fn wide(n: usize) -> u64 {
    // Lossless: `usize` has at most 64 bits on every target.
    n as u64
}

/// `len` bytes from `at`.
///
/// # Errors
/// [`ImageError::Outside`], about `what`.
pub fn part<'a>(bytes: &'a [u8], at: u64, len: u64, what: &'static str) -> Result<&'a [u8]> {
    let range = || {
        let end = usize::try_from(at.checked_add(len)?).ok()?;
        bytes.get(usize::try_from(at).ok()?..end)
    };
    range().ok_or(ImageError::Outside { what, at, len, end: wide(bytes.len()) })
}

/// The `N` bytes from `at`.
fn array<const N: usize>(bytes: &[u8], at: u64, what: &'static str) -> Result<[u8; N]> {
    let found = part(bytes, at, wide(N), what)?;
    found.try_into().map_err(|_| ImageError::Missing(what))
}

/// The byte at `at`.
pub fn u8_at(bytes: &[u8], at: u64, what: &'static str) -> Result<u8> {
    array(bytes, at, what).map(u8::from_le_bytes)
}

/// The 16-bit number at `at`.
pub fn u16_at(bytes: &[u8], at: u64, what: &'static str) -> Result<u16> {
    array(bytes, at, what).map(u16::from_le_bytes)
}

/// The 32-bit number at `at`.
pub fn u32_at(bytes: &[u8], at: u64, what: &'static str) -> Result<u32> {
    array(bytes, at, what).map(u32::from_le_bytes)
}

/// The 64-bit number at `at`.
pub fn u64_at(bytes: &[u8], at: u64, what: &'static str) -> Result<u64> {
    array(bytes, at, what).map(u64::from_le_bytes)
}
