//! The Linux boot protocol's wrapping (bzImage): finds the packed kernel in it by the setup header.
//!
//! Only the fields that lead to the payload are read; the real-mode and 64-bit entry code is not ours to run.

use crate::bytes::{part, u8_at, u16_at, u32_at};
use crate::error::{ImageError, Result};

const HEADER: &str = "the bzImage setup header";
const SETUP_SECTS: u64 = 0x1f1;
const BOOT_FLAG: u64 = 0x1fe;
const SIGNATURE: u64 = 0x202;
const VERSION: u64 = 0x206;
const LOADFLAGS: u64 = 0x211;
const PAYLOAD_OFFSET: u64 = 0x248;
const PAYLOAD_LENGTH: u64 = 0x24c;

/// Protocol 2.08: the first with the payload's place.
const FIRST_VERSION: u16 = 0x208;
/// `loadflags`: the protected-mode part is loaded high, as in every bzImage.
const LOADED_HIGH: u8 = 1;
const SECTOR: u64 = 512;

/// Whether `file` claims to be a bzImage.
pub fn is_bzimage(file: &[u8]) -> bool {
    part(file, SIGNATURE, 4, HEADER).is_ok_and(|s| s == b"HdrS")
}

/// The packed kernel.
///
/// # Errors
/// A header that does not lead to one.
pub fn payload(file: &[u8]) -> Result<&[u8]> {
    let field = |what, value: u64, rule| Err(ImageError::Value { what, value, rule });
    let flag = u16_at(file, BOOT_FLAG, HEADER)?;
    if flag != 0xaa55 {
        return field("the bzImage boot flag", flag.into(), "it must be 0xaa55");
    }
    let version = u16_at(file, VERSION, HEADER)?;
    if version < FIRST_VERSION {
        return field("the boot protocol version", version.into(), "older than 2.08, it does not say where the kernel is");
    }
    let flags = u8_at(file, LOADFLAGS, HEADER)?;
    if flags & LOADED_HIGH == 0 {
        return field("the bzImage load flags", flags.into(), "a zImage cannot be loaded");
    }
    let sectors = match u8_at(file, SETUP_SECTS, HEADER)? {
        0 => 4,
        n => u64::from(n),
    };
    // At most 256 sectors and 4 GiB: no sum here comes near 2^64.
    let protected = sectors.saturating_add(1).saturating_mul(SECTOR);
    let at = protected.saturating_add(u32_at(file, PAYLOAD_OFFSET, HEADER)?.into());
    part(file, at, u32_at(file, PAYLOAD_LENGTH, HEADER)?.into(), "the packed kernel")
}
