//! Guest kernel images, and the plan of a PV domain's first memory.
//!
//! [`open`] finds the kernel in a file (an ELF image, or a bzImage that holds one), [`Packed::unpack`] unpacks it,
//! [`Kernel::parse`] reads its segments and Xen notes, and [`Layout::plan`] decides where everything lies in the
//! domain's memory. All input is a guest's and hostile: any bytes give a result or an [`ImageError`], one line for
//! the log; nothing panics, and work and memory are bounded by the file's size and the caller's limit.
//! Answers to Xen's `common/libelf`, `common/decompress.c` and the planning half of `arch/x86/pv/dom0_build.c`.
#![no_std]
#![forbid(unsafe_code)]
#![deny(clippy::arithmetic_side_effects, clippy::indexing_slicing, clippy::unwrap_used, clippy::cast_possible_truncation)]

extern crate alloc;

mod bytes;
mod bzimage;
mod elf;
mod error;
mod layout;
mod notes;
mod space;
mod unpack;

pub use elf::{Kernel, MAX_IMAGE, MAX_SEGMENTS, Segment};
pub use error::{ImageError, Result};
pub use layout::{Layout, TableEntry};
pub use unpack::{Format, Packed};

/// A kernel file.
#[derive(Clone, Copy, Debug)]
pub enum Image<'a> {
    /// An ELF image as it is.
    Elf(&'a [u8]),
    /// One that must be unpacked first.
    Packed(Packed<'a>),
}

/// Looks at a kernel file. A packed kernel may unpack to at most `limit` bytes.
///
/// # Errors
/// Neither an ELF image nor a bzImage that leads to one.
pub fn open(file: &[u8], limit: u64) -> Result<Image<'_>> {
    if elf::is_elf(file) {
        return Ok(Image::Elf(file));
    }
    if !bzimage::is_bzimage(file) {
        return Err(ImageError::NotAKernel);
    }
    let payload = bzimage::payload(file)?;
    // CONFIG_KERNEL_UNCOMPRESSED.
    if elf::is_elf(payload) { Ok(Image::Elf(payload)) } else { Packed::new(payload, limit).map(Image::Packed) }
}
