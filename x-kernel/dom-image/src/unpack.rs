//! Unpacks a kernel into memory that the caller has set aside.
//!
//! Linux appends the unpacked size to each format that does not end in it (gzip does). That size is an allegation:
//! it is bounded by the caller's limit before any memory is found, the unpackers cannot write past it, and a stream
//! that yields more or less is refused, so a bomb costs no more than the limit. Decoders live in the heap, as the
//! X-Kernel's stack is small; what they may ask of the heap is probed first, because the heap running out inside a
//! library would be a panic.

use alloc::boxed::Box;
use alloc::vec::Vec;

use miniz_oxide::inflate::TINFLStatus;
use miniz_oxide::inflate::core::inflate_flags::TINFL_FLAG_USING_NON_WRAPPING_OUTPUT_BUF;
use miniz_oxide::inflate::core::{DecompressorOxide, decompress};
use ruzstd::decoding::FrameDecoder;
use ruzstd::decoding::errors::FrameDecoderError;
use xz4rust::{XzDecoder, XzError, XzNextBlockResult};

use crate::bytes::{part, u8_at, u32_at, wide};
use crate::error::{ImageError, Result};

/// The largest dictionary or window that a stream may ask for. Linux's xz kernels have 32 MiB, zstd ones at
/// level 22 have 128 MiB.
const MAX_WINDOW: usize = 128 << 20;
/// What a dictionary is tried with first.
const SMALL_WINDOW: usize = 64 << 10;
/// Bytes of the size at the end.
const TRAILER: u64 = 4;
/// The most that an lz4 legacy block unpacks to.
const LZ4_BLOCK: usize = 8 << 20;
const LZ4_MAGIC: u32 = 0x184c_2102;

/// How a kernel is packed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// gzip.
    Gzip,
    /// xz.
    Xz,
    /// lz4, legacy frames.
    Lz4,
    /// Zstandard.
    Zstd,
}

impl Format {
    /// By the first bytes.
    fn of(payload: &[u8]) -> Option<Self> {
        let known: [(&[u8], Self); 4] = [
            (&[0x1f, 0x8b], Self::Gzip),
            (&[0xfd, b'7', b'z', b'X', b'Z', 0], Self::Xz),
            (&LZ4_MAGIC.to_le_bytes(), Self::Lz4),
            (&[0x28, 0xb5, 0x2f, 0xfd], Self::Zstd),
        ];
        known.into_iter().find(|(magic, _)| payload.starts_with(magic)).map(|(_, format)| format)
    }

    /// Its name.
    pub fn name(self) -> &'static str {
        match self {
            Self::Gzip => "gzip",
            Self::Xz => "xz",
            Self::Lz4 => "lz4",
            Self::Zstd => "zstd",
        }
    }

    fn fail(self, why: &'static str, at: usize) -> ImageError {
        ImageError::Unpack { format: self.name(), why, at: wide(at) }
    }
}

/// A packed kernel.
#[derive(Clone, Copy, Debug)]
pub struct Packed<'a> {
    format: Format,
    stream: &'a [u8],
    size: usize,
}

impl<'a> Packed<'a> {
    /// Looks at a bzImage's payload. It may unpack to at most `limit` bytes.
    ///
    /// # Errors
    /// An unknown format, a size of 0 or over the limit.
    pub fn new(payload: &'a [u8], limit: u64) -> Result<Self> {
        let format = Format::of(payload).ok_or(ImageError::Missing("packing that is known: gzip, xz, lz4 and zstd are"))?;
        let stream_len = wide(payload.len()).saturating_sub(TRAILER);
        let size = u32_at(payload, stream_len, "the unpacked size at the end of the kernel")?;
        if size == 0 || u64::from(size) > limit {
            return Err(ImageError::Value {
                what: "the unpacked size",
                value: size.into(),
                rule: "it must be more than 0 and within the limit",
            });
        }
        // gzip's own trailer ends in the size.
        let stream = if format == Format::Gzip { payload } else { part(payload, 0, stream_len, "the packed kernel")? };
        Ok(Self { format, stream, size: usize::try_from(size).unwrap_or(usize::MAX) })
    }

    /// How it is packed.
    pub fn format(&self) -> Format {
        self.format
    }

    /// The size that it claims to unpack to: what [`Self::unpack`] wants.
    pub fn size(&self) -> usize {
        self.size
    }

    /// Unpacks it into `out`, which has [`Self::size`] bytes.
    ///
    /// # Errors
    /// A broken stream, or one of another size.
    pub fn unpack(&self, out: &mut [u8]) -> Result<()> {
        let have = wide(out.len());
        let out =
            out.get_mut(..self.size).ok_or(ImageError::Outside { what: "the unpacked kernel", at: 0, len: wide(self.size), end: have })?;
        let written = match self.format {
            Format::Gzip => gzip(self.stream, out),
            Format::Xz => xz(self.stream, out),
            Format::Lz4 => lz4(self.stream, out),
            Format::Zstd => zstd(self.stream, out),
        }?;
        if written == self.size { Ok(()) } else { Err(self.format.fail("it is smaller than its size says", written)) }
    }
}

/// Zeroed memory from the heap, or None.
fn zeroed(len: usize) -> Option<Vec<u8>> {
    let mut memory = Vec::new();
    memory.try_reserve_exact(len).ok()?;
    memory.resize(len, 0);
    Some(memory)
}

/// Whether a library may ask the heap for `len` bytes: only this CPU allocates while domains are built.
fn heap_has(len: usize) -> bool {
    Vec::<u8>::new().try_reserve_exact(len).is_ok()
}

fn gzip(stream: &[u8], out: &mut [u8]) -> Result<usize> {
    const FORMAT: Format = Format::Gzip;
    let (header, trailer) = (gzip_header(stream)?, wide(stream.len()).saturating_sub(8));
    let body = part(stream, header, trailer.saturating_sub(header), "the gzip stream")?;
    let mut decoder = Box::<DecompressorOxide>::default();
    let (status, _, written) = decompress(&mut decoder, body, out, 0, TINFL_FLAG_USING_NON_WRAPPING_OUTPUT_BUF);
    match status {
        TINFLStatus::Done => {}
        TINFLStatus::HasMoreOutput => return Err(FORMAT.fail("it is larger than its size says", written)),
        TINFLStatus::NeedsMoreInput | TINFLStatus::FailedCannotMakeProgress => return Err(FORMAT.fail("the stream is cut short", written)),
        _ => return Err(FORMAT.fail("the stream is broken", written)),
    }
    let sum = out.get(..written).map(crc32fast::hash);
    if sum != Some(u32_at(stream, trailer, "the gzip trailer")?) { Err(FORMAT.fail("its checksum is wrong", written)) } else { Ok(written) }
}

/// Where the deflate stream begins (RFC 1952).
fn gzip_header(stream: &[u8]) -> Result<u64> {
    const WHAT: &str = "the gzip header";
    const HCRC: u8 = 2;
    const EXTRA: u8 = 4;
    const NAME: u8 = 8;
    const COMMENT: u8 = 16;
    let flags = u8_at(stream, 3, WHAT)?;
    let mut at = 10u64;
    if flags & EXTRA != 0 {
        let len = u64::from(u8_at(stream, at, WHAT)?) | u64::from(u8_at(stream, at.saturating_add(1), WHAT)?) << 8;
        at = at.saturating_add(2).saturating_add(len);
    }
    for text in [NAME, COMMENT] {
        if flags & text != 0 {
            while u8_at(stream, at, WHAT)? != 0 {
                at = at.saturating_add(1);
            }
            at = at.saturating_add(1);
        }
    }
    Ok(if flags & HCRC != 0 { at.saturating_add(2) } else { at })
}

fn xz(stream: &[u8], out: &mut [u8]) -> Result<usize> {
    const FORMAT: Format = Format::Xz;
    // The dictionary that the stream wants is known from its refusal to do with a small one.
    let wanted = match xz_with(SMALL_WINDOW, stream, out)? {
        Ok(written) => return Ok(written),
        Err(wanted) => wanted,
    };
    match xz_with(wanted, stream, out)? {
        Ok(written) => Ok(written),
        Err(_) => Err(FORMAT.fail("its blocks want different dictionaries", 0)),
    }
}

/// Unpacks with a dictionary of `window` bytes. The inner error is the size of the dictionary that it wants instead.
fn xz_with(window: usize, stream: &[u8], out: &mut [u8]) -> Result<core::result::Result<usize, usize>> {
    const FORMAT: Format = Format::Xz;
    let dictionary = zeroed(window).ok_or(FORMAT.fail("no memory for its dictionary", 0))?;
    if !heap_has(size_of::<XzDecoder<'static>>()) {
        return Err(FORMAT.fail("no memory for the decoder", 0));
    }
    let mut decoder = XzDecoder::in_heap_with_alloc_dict(dictionary, window);
    let (mut read, mut written) = (0usize, 0usize);
    loop {
        let room = out.get_mut(written..).unwrap_or(&mut []);
        let full = room.is_empty();
        match decoder.decode(stream.get(read..).unwrap_or(&[]), room) {
            Ok(XzNextBlockResult::NeedMoreData(0, 0)) if full => return Err(FORMAT.fail("it is larger than its size says", written)),
            Ok(XzNextBlockResult::NeedMoreData(0, 0)) => return Err(FORMAT.fail("the stream is cut short", written)),
            Ok(XzNextBlockResult::NeedMoreData(i, o)) => {
                read = read.saturating_add(i);
                written = written.saturating_add(o);
            }
            Ok(XzNextBlockResult::EndOfStream(_, o)) => return Ok(Ok(written.saturating_add(o))),
            Err(XzError::DictionaryTooLarge(wanted)) => match usize::try_from(wanted) {
                Ok(wanted) if wanted > window && wanted <= MAX_WINDOW => return Ok(Err(wanted)),
                _ => return Err(FORMAT.fail("its dictionary is too large", written)),
            },
            Err(XzError::NeedsLargerInputBuffer) => return Err(FORMAT.fail("the stream is cut short", written)),
            Err(_) => return Err(FORMAT.fail("the stream is broken", written)),
        }
    }
}

fn lz4(stream: &[u8], out: &mut [u8]) -> Result<usize> {
    const FORMAT: Format = Format::Lz4;
    let (mut at, mut written) = (0u64, 0usize);
    while at < wide(stream.len()) {
        let size = u32_at(stream, at, "an lz4 block's size")?;
        at = at.saturating_add(4);
        // Frames may follow each other.
        if size == LZ4_MAGIC {
            continue;
        }
        let block = part(stream, at, size.into(), "an lz4 block")?;
        at = at.saturating_add(size.into());
        let mut room = out.get_mut(written..).unwrap_or(&mut []);
        let limited = room.len() >= LZ4_BLOCK;
        if limited {
            room = room.get_mut(..LZ4_BLOCK).unwrap_or(&mut []);
        }
        match lz4_flex::block::decompress_into(block, room) {
            Ok(n) => written = written.saturating_add(n),
            Err(lz4_flex::block::DecompressError::OutputTooSmall { .. }) if !limited => {
                return Err(FORMAT.fail("it is larger than its size says", written));
            }
            Err(_) => return Err(FORMAT.fail("the stream is broken", written)),
        }
    }
    Ok(written)
}

fn zstd(stream: &[u8], out: &mut [u8]) -> Result<usize> {
    const FORMAT: Format = Format::Zstd;
    // The decoder's buffer grows to its window and a block; twice, as a growing buffer is copied.
    if !heap_has(out.len().min(MAX_WINDOW).saturating_mul(2).saturating_add(1 << 20)) {
        return Err(FORMAT.fail("no memory for its window", 0));
    }
    let mut decoder = Box::new(FrameDecoder::new());
    decoder.set_max_window_size(wide(MAX_WINDOW));
    decoder.decode_all(stream, out).map_err(|e| match e {
        FrameDecoderError::TargetTooSmall => FORMAT.fail("it is larger than its size says", out.len()),
        FrameDecoderError::WindowSizeTooBig { .. } => FORMAT.fail("its window is too large", 0),
        _ => FORMAT.fail("the stream is broken", 0),
    })
}
