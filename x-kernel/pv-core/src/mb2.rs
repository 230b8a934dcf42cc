//! Whether multiboot2 boot information is a well-formed chain of tags (Multiboot2 specification, 3.4).
//!
//! Pure, total, and run before any other parser sees the bytes: afterwards every tag lies inside the information, the
//! ones of known shape have that shape, and the chain ends. What a tag's content means, and whether its text is text,
//! is for the reader to judge.

use core::fmt;

/// The most bytes of boot information that are accepted.
pub const MAX_SIZE: usize = 128 * 1024;
/// Bytes of the fixed part, and of the smallest tag.
const HEADER: usize = 8;

/// Kinds of tag that are looked into.
mod kind {
    pub const END: u32 = 0;
    pub const CMDLINE: u32 = 1;
    pub const LOADER_NAME: u32 = 2;
    pub const MODULE: u32 = 3;
    pub const MEMORY_MAP: u32 = 6;
    pub const EFI64_SYSTEM_TABLE: u32 = 12;
    pub const RSDP_OLD: u32 = 14;
    pub const RSDP_NEW: u32 = 15;
}

/// What is wrong.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Mb2Error {
    /// It says that it has this many bytes: fewer than its own header, or not whole.
    TooSmall(u32),
    /// It says that it has this many bytes: more than [`MAX_SIZE`].
    TooLarge(u32),
    /// It reaches past the memory that it may lie in.
    Outside,
    /// Fewer bytes than it says.
    Truncated,
    /// The tag at `offset` is smaller than its header or its kind's fixed part.
    TagTooSmall {
        /// Where the tag begins.
        offset: usize,
        /// Its kind.
        kind: u32,
        /// Its size as alleged.
        size: u32,
    },
    /// The tag at `offset` reaches past the end.
    TagTooLarge {
        /// Where the tag begins.
        offset: usize,
        /// Its kind.
        kind: u32,
        /// Its size as alleged.
        size: u32,
    },
    /// The memory map's entries are not of 24 bytes, or not whole.
    MemoryMapShape {
        /// Where the tag begins.
        offset: usize,
        /// Bytes per entry as alleged.
        entry_size: u32,
    },
    /// The information ends without an end tag.
    NoEnd,
}

impl fmt::Display for Mb2Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::TooSmall(size) => write!(f, "its size of {size} bytes is too small"),
            Self::TooLarge(size) => write!(f, "its size of {size} bytes is above the limit of {MAX_SIZE}"),
            Self::Outside => write!(f, "it lies outside the first 4 GiB"),
            Self::Truncated => write!(f, "it is shorter than it says"),
            Self::TagTooSmall { offset, kind, size } => write!(f, "tag of kind {kind} at offset {offset}: {size} bytes are too few"),
            Self::TagTooLarge { offset, kind, size } => write!(f, "tag of kind {kind} at offset {offset}: {size} bytes reach past the end"),
            Self::MemoryMapShape { offset, entry_size } => {
                write!(f, "memory map at offset {offset}: entries of {entry_size} bytes, or the last one incomplete")
            }
            Self::NoEnd => write!(f, "the last tag is missing"),
        }
    }
}

/// What a sound chain holds.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Chain {
    /// Tags, the end tag included.
    pub tags: usize,
    /// Module tags.
    pub modules: usize,
}

/// The size that the first eight bytes announce.
///
/// # Errors
/// If it is absurd.
pub fn total_size(head: [u8; HEADER]) -> Result<usize, Mb2Error> {
    let [a, b, c, d, ..] = head;
    let alleged = u32::from_le_bytes([a, b, c, d]);
    let size = usize::try_from(alleged).map_err(|_| Mb2Error::TooLarge(alleged))?;
    // The header and an end tag at least.
    if size < 2 * HEADER {
        return Err(Mb2Error::TooSmall(alleged));
    }
    if size > MAX_SIZE {
        return Err(Mb2Error::TooLarge(alleged));
    }
    // The specification pads tags to eight bytes, and readers round the total.
    if size % HEADER != 0 {
        return Err(Mb2Error::TooSmall(alleged));
    }
    Ok(size)
}

fn u32_at(info: &[u8], at: usize) -> Option<u32> {
    let bytes = info.get(at..at.checked_add(4)?)?;
    Some(u32::from_le_bytes(bytes.try_into().ok()?))
}

/// The sizes that a tag of `kind` may have: at least the first number, and exactly that if the second is true.
const fn shape(kind: u32) -> (u32, bool) {
    match kind {
        kind::END => (8, true),
        kind::CMDLINE | kind::LOADER_NAME => (9, false),
        kind::MODULE => (17, false),
        kind::MEMORY_MAP => (16, false),
        kind::EFI64_SYSTEM_TABLE => (16, true),
        kind::RSDP_OLD => (28, true),
        kind::RSDP_NEW => (44, true),
        _ => (8, false),
    }
}

/// Checks the chain of tags in `info`, which begins with the fixed part.
///
/// # Errors
/// Names the first thing that is wrong, and where.
pub fn check(info: &[u8]) -> Result<Chain, Mb2Error> {
    let head = info.first_chunk::<HEADER>().ok_or(Mb2Error::Truncated)?;
    let info = info.get(..total_size(*head)?).ok_or(Mb2Error::Truncated)?;
    let mut chain = Chain::default();
    let mut offset = HEADER;
    // Each round moves on by at least one header, so the loop is bounded by MAX_SIZE / 8.
    while let (Some(kind), Some(size)) = (u32_at(info, offset), offset.checked_add(4).and_then(|at| u32_at(info, at))) {
        let (least, exact) = shape(kind);
        if size < least {
            return Err(Mb2Error::TagTooSmall { offset, kind, size });
        }
        let too_large = Mb2Error::TagTooLarge { offset, kind, size };
        if exact && size > least {
            return Err(too_large);
        }
        let end = usize::try_from(size).ok().and_then(|size| offset.checked_add(size)).ok_or(too_large)?;
        let next = end.checked_next_multiple_of(HEADER).filter(|&next| next <= info.len()).ok_or(too_large)?;
        chain.tags = chain.tags.saturating_add(1);
        match kind {
            kind::END => return if next == info.len() { Ok(chain) } else { Err(Mb2Error::NoEnd) },
            kind::MODULE => chain.modules = chain.modules.saturating_add(1),
            kind::MEMORY_MAP => memory_map(info, offset, size)?,
            _ => {}
        }
        offset = next;
    }
    Err(Mb2Error::NoEnd)
}

fn memory_map(info: &[u8], offset: usize, size: u32) -> Result<(), Mb2Error> {
    let entry_size = offset.checked_add(8).and_then(|at| u32_at(info, at)).unwrap_or(0);
    let whole = size.checked_sub(16).is_some_and(|bytes| bytes % 24 == 0);
    if entry_size == 24 && whole { Ok(()) } else { Err(Mb2Error::MemoryMapShape { offset, entry_size }) }
}

#[cfg(test)]
#[expect(clippy::arithmetic_side_effects, reason = "a test that panics has failed")]
mod tests {
    use proptest::prelude::*;
    use std::vec::Vec;

    use super::*;

    fn tag(kind: u32, content: &[u8]) -> Vec<u8> {
        let mut bytes: Vec<u8> = [kind, u32::try_from(content.len()).unwrap() + 8].iter().flat_map(|w| w.to_le_bytes()).collect();
        bytes.extend(content);
        bytes.resize(bytes.len().next_multiple_of(8), 0);
        bytes
    }

    fn info(tags: &[Vec<u8>]) -> Vec<u8> {
        let body: Vec<u8> = tags.concat();
        let mut bytes = u32::try_from(body.len() + 8).unwrap().to_le_bytes().to_vec();
        bytes.extend([0; 4]);
        bytes.extend(body);
        bytes
    }

    fn module(line: &str) -> Vec<u8> {
        let mut content = [0x20_0000u32, 0x30_0000].iter().flat_map(|w| w.to_le_bytes()).collect::<Vec<u8>>();
        content.extend(line.bytes());
        content.push(0);
        tag(3, &content)
    }

    fn memory_map(entries: usize) -> Vec<u8> {
        let mut content = [24u32, 0].iter().flat_map(|w| w.to_le_bytes()).collect::<Vec<u8>>();
        content.resize(8 + 24 * entries, 1);
        tag(6, &content)
    }

    fn good() -> Vec<u8> {
        info(&[tag(1, b"console=com1\0"), module("first"), memory_map(3), module("second"), tag(99, b"unknown"), tag(0, &[])])
    }

    #[test]
    fn a_good_chain_is_counted() {
        assert_eq!(check(&good()), Ok(Chain { tags: 6, modules: 2 }));
    }

    #[test]
    fn every_truncation_is_refused() {
        let whole = good();
        for len in 0..whole.len() {
            assert!(check(&whole[..len]).is_err(), "{len}");
            // And a size that agrees with the truncation.
            let mut cut = whole[..len].to_vec();
            if let Some(size) = cut.first_chunk_mut::<4>() {
                *size = u32::try_from(len).unwrap().to_le_bytes();
            }
            assert!(check(&cut).is_err(), "{len}");
        }
    }

    #[test]
    fn absurd_sizes_are_named() {
        for size in [0u32, 1, 8, 15, 0x8000_0000, u32::MAX] {
            let mut bad = good();
            bad[..4].copy_from_slice(&size.to_le_bytes());
            assert!(matches!(check(&bad), Err(Mb2Error::TooSmall(s) | Mb2Error::TooLarge(s)) if s == size));
            let mut bad = good();
            bad[12..16].copy_from_slice(&size.to_le_bytes());
            assert!(check(&bad).is_err(), "tag of {size}");
        }
    }

    /// Where each tag of a good chain begins, its kind and its size.
    fn places(info: &[u8]) -> Vec<(usize, u32, u32)> {
        let mut places = Vec::new();
        let mut offset = HEADER;
        while let (Some(kind), Some(size)) = (u32_at(info, offset), u32_at(info, offset + 4)) {
            places.push((offset, kind, size));
            offset += (size as usize).next_multiple_of(HEADER);
        }
        places
    }

    #[test]
    fn each_tag_with_an_absurd_size_is_named() {
        let whole = info(&[
            tag(1, b"console=com1\0"),
            tag(2, b"GRUB\0"),
            module("first"),
            memory_map(3),
            tag(12, &[0; 8]),
            tag(14, &[0; 20]),
            tag(15, &[0; 36]),
            tag(99, b"unknown"),
            tag(0, &[]),
        ]);
        let all = places(&whole);
        assert_eq!(check(&whole), Ok(Chain { tags: all.len(), modules: 1 }));
        for &(offset, kind, _) in &all {
            let with = |size: u32| {
                let mut bad = whole.clone();
                bad[offset + 4..offset + 8].copy_from_slice(&size.to_le_bytes());
                check(&bad)
            };
            for size in [0u32, 1, 7] {
                assert_eq!(with(size), Err(Mb2Error::TagTooSmall { offset, kind, size }));
            }
            // Past the end, by a little and by so much that a sum would wrap.
            let left = u32::try_from(whole.len() - offset).unwrap();
            for size in [left + 1, left + 8, 0x7fff_ffff, 0xffff_fff8, u32::MAX] {
                assert_eq!(with(size), Err(Mb2Error::TagTooLarge { offset, kind, size }));
            }
        }
    }

    #[test]
    fn a_tag_that_swallows_the_next_ones_hides_them() {
        // It is as if those had not been given; the one that swallows the end is refused.
        let whole = info(&[tag(99, b"x"), module("first"), module("second"), tag(0, &[])]);
        let all = places(&whole);
        let upto = |n: usize| {
            let mut bad = whole.clone();
            let size = u32::try_from(all[n].0 - all[0].0).unwrap();
            bad[12..16].copy_from_slice(&size.to_le_bytes());
            check(&bad)
        };
        assert_eq!(upto(2), Ok(Chain { tags: 3, modules: 1 }));
        assert_eq!(upto(3), Ok(Chain { tags: 2, modules: 0 }));
        let mut bad = whole.clone();
        let size = u32::try_from(whole.len() - HEADER).unwrap();
        bad[12..16].copy_from_slice(&size.to_le_bytes());
        assert_eq!(check(&bad), Err(Mb2Error::NoEnd));
    }

    #[test]
    fn known_tags_have_their_shape() {
        for bad in [
            tag(6, &[40, 0, 0, 0, 0, 0, 0, 0]),
            tag(6, &[24, 0, 0]),
            tag(14, &[0; 19]),
            tag(15, &[0; 40]),
            tag(3, &[0; 8]),
            tag(0, &[0; 8]),
        ] {
            assert!(check(&info(&[bad, tag(0, &[])])).is_err());
        }
        assert_eq!(check(&info(&[tag(1, b"x\0")])), Err(Mb2Error::NoEnd));
        assert_eq!(check(&info(&[tag(0, &[]), tag(1, b"x\0")])), Err(Mb2Error::NoEnd));
    }

    proptest! {
        #[test]
        fn any_bytes_get_an_answer(mut bytes in proptest::collection::vec(any::<u8>(), 0..600), fit in any::<bool>()) {
            if fit && let Ok(len) = u32::try_from(bytes.len()) && let Some(size) = bytes.first_chunk_mut::<4>() {
                *size = len.to_le_bytes();
            }
            let _ = check(&bytes);
        }

        #[test]
        fn a_damaged_chain_gets_an_answer_that_holds(at in 0usize..200, byte in any::<u8>()) {
            let mut bytes = good();
            let at = at % bytes.len();
            bytes[at] = byte;
            if let Ok(chain) = check(&bytes) {
                // A slow second reading of the chain agrees.
                let (mut offset, mut tags) = (8, 0);
                loop {
                    let kind = u32_at(&bytes, offset).unwrap();
                    let size = u32_at(&bytes, offset + 4).unwrap() as usize;
                    prop_assert!(size >= 8 && offset + size <= bytes.len());
                    tags += 1;
                    offset += size.next_multiple_of(8);
                    if kind == 0 { break; }
                }
                prop_assert_eq!(tags, chain.tags);
                prop_assert_eq!(offset, u32_at(&bytes, 0).unwrap() as usize);
            }
        }
    }
}
