//! Where the X-Kernel's own image lies, as linker.ld says.

// UNSAFETY: names the linker's symbols; only their addresses are used.
#![expect(unsafe_code, reason = "symbols of the linker script")]

use super::layout::{FRAME_SIZE, IMAGE_BASE};
use super::page_table::bits;
use super::ranges::FrameRange;

unsafe extern "C" {
    static __image_start: u8;
    static __text_start: u8;
    static __text_end: u8;
    static __rodata_start: u8;
    static __rodata_end: u8;
    static __ro_after_init_start: u8;
    static __ro_after_init_end: u8;
    static __data_start: u8;
    static __image_end: u8;
    static xk_stub_area: [u8; 8192];
}

/// Pages of the image that have the same permissions.
#[derive(Clone, Copy, Debug)]
pub struct Section {
    /// Its first address.
    pub start: u64,
    /// The address after its last page.
    pub end: u64,
    /// Permissions, as entry bits.
    pub flags: u64,
}

fn page_up(va: u64) -> u64 {
    va.next_multiple_of(FRAME_SIZE)
}

/// The parts of the image, ascending, on page boundaries.
pub fn sections() -> [Section; 4] {
    let text = (&raw const __text_start as u64, &raw const __text_end as u64);
    let rodata = (&raw const __rodata_start as u64, &raw const __rodata_end as u64);
    let (once, data) = (ro_after_init(), (&raw const __data_start as u64, &raw const __image_end as u64));
    [(text, bits::CODE), (rodata, bits::RO), (once, bits::DATA), (data, bits::DATA)].map(|((start, end), flags)| Section {
        start,
        end: page_up(end),
        flags,
    })
}

/// The part that becomes read-only after boot.
pub fn ro_after_init() -> (u64, u64) {
    (&raw const __ro_after_init_start as u64, page_up(&raw const __ro_after_init_end as u64))
}

/// The frames of the whole image, from its first byte at 1 MiB to the end of its zero-initialised data.
pub fn frames() -> FrameRange {
    let start = (&raw const __image_start as u64).wrapping_sub(IMAGE_BASE);
    let end = (&raw const __image_end as u64).wrapping_sub(IMAGE_BASE);
    FrameRange::around(start, end.wrapping_sub(start))
}

/// The part of the text that holds each CPU's entry stubs.
pub fn stub_area() -> (u64, u64) {
    let start = &raw const xk_stub_area as u64;
    (start, start.wrapping_add(8192))
}

/// Its frames.
pub fn stub_frames() -> FrameRange {
    let (start, end) = stub_area();
    FrameRange::around(start.wrapping_sub(IMAGE_BASE), end.wrapping_sub(start))
}
