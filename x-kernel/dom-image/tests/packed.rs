//! bzImages: each format unpacks to what was packed, on a small stack, and each broken one is refused by its line.
#![expect(clippy::unwrap_used, clippy::indexing_slicing, clippy::arithmetic_side_effects, reason = "tests on inputs of their own making")]

mod common;

use common::*;
use dom_image::{Format, Image, open};

/// 65,536 zeroes, by xz with a dictionary of 1 MiB and CRC32.
const XZ: &[u8] = &[
    0xfd, 0x37, 0x7a, 0x58, 0x5a, 0x00, 0x00, 0x01, 0x69, 0x22, 0xde, 0x36, 0x02, 0x00, 0x21, 0x01, 0x10, 0x00, 0x00, 0x00, 0xa8, 0x70,
    0x8e, 0x86, 0xe0, 0xff, 0xff, 0x00, 0x4c, 0x5d, 0x00, 0x00, 0x6f, 0xfd, 0xff, 0xff, 0xa3, 0xb7, 0xff, 0x47, 0x3e, 0x48, 0x15, 0x72,
    0x39, 0x61, 0x51, 0xb8, 0x92, 0x28, 0xe6, 0xa3, 0x86, 0x07, 0xf9, 0xee, 0xe4, 0x1e, 0x82, 0xd3, 0x2f, 0xc5, 0x3a, 0x3c, 0x01, 0x4b,
    0xb1, 0x7e, 0xc9, 0x8a, 0x8a, 0x4d, 0x2f, 0xa3, 0x0d, 0xd9, 0x7f, 0xa6, 0xe3, 0x8c, 0x23, 0x11, 0x53, 0xe0, 0x59, 0x18, 0xc5, 0x75,
    0x8a, 0xe2, 0x77, 0xf8, 0xb6, 0x94, 0x7f, 0x0c, 0x6a, 0xc0, 0xde, 0x74, 0x49, 0x64, 0x5c, 0x9e, 0x3a, 0xd1, 0x00, 0x00, 0xeb, 0x8e,
    0x97, 0xd7, 0x00, 0x01, 0x64, 0x80, 0x80, 0x04, 0x00, 0x00, 0xe4, 0x37, 0x86, 0x0b, 0x3e, 0x30, 0x0d, 0x8b, 0x02, 0x00, 0x00, 0x00,
    0x00, 0x01, 0x59, 0x5a,
];

const ZEROES: usize = 65536;

fn with_size(mut stream: Vec<u8>, size: usize) -> Vec<u8> {
    stream.extend(u32::try_from(size).unwrap().to_le_bytes());
    stream
}

/// A gzip stream with every optional header field.
fn gzip(data: &[u8]) -> Vec<u8> {
    let mut bytes = vec![0x1f, 0x8b, 8, 2 | 4 | 8 | 16, 0, 0, 0, 0, 0, 3];
    bytes.extend([3, 0, b'a', b'b', b'c']);
    bytes.extend(b"vmlinux\0a comment\0\x12\x34");
    bytes.extend(miniz_oxide::deflate::compress_to_vec(data, 6));
    bytes.extend(crc32fast::hash(data).to_le_bytes());
    with_size(bytes, data.len())
}

fn lz4(data: &[u8], block: usize) -> Vec<u8> {
    let mut bytes = 0x184c_2102u32.to_le_bytes().to_vec();
    for part in data.chunks(block) {
        let packed = lz4_flex::compress(part);
        bytes.extend(u32::try_from(packed.len()).unwrap().to_le_bytes());
        bytes.extend(packed);
    }
    with_size(bytes, data.len())
}

fn zstd(data: &[u8]) -> Vec<u8> {
    with_size(ruzstd::encoding::compress_to_vec(data, ruzstd::encoding::CompressionLevel::Fastest), data.len())
}

fn unpack(payload: &[u8]) -> Result<(Format, Vec<u8>), String> {
    let file = bzimage(payload);
    let Image::Packed(packed) = open(&file, LIMIT).map_err(|e| e.to_string())? else { panic!("packed") };
    let mut out = vec![0xee; packed.size()];
    packed.unpack(&mut out).map_err(|e| e.to_string())?;
    Ok((packed.format(), out))
}

#[track_caller]
fn refused(payload: &[u8]) -> String {
    match unpack(payload) {
        Ok((format, out)) => panic!("{format:?} gave {} bytes", out.len()),
        Err(line) => line,
    }
}

/// Bytes that pack, but not to nothing.
fn sample(len: usize) -> Vec<u8> {
    let mut state = 1u32;
    (0..len)
        .map(|i| {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            if i % 64 < 40 { (i / 640) as u8 } else { (state >> 28) as u8 }
        })
        .collect()
}

#[test]
fn each_format_unpacks() {
    let data = sample(300_000);
    assert_eq!(unpack(&gzip(&data)).unwrap(), (Format::Gzip, data.clone()));
    assert_eq!(unpack(&lz4(&data, 100_000)).unwrap(), (Format::Lz4, data.clone()));
    assert_eq!(unpack(&zstd(&data)).unwrap(), (Format::Zstd, data));
    assert_eq!(unpack(&with_size(XZ.to_vec(), ZEROES)).unwrap(), (Format::Xz, vec![0; ZEROES]));
}

#[test]
fn lz4_blocks_are_eight_mebibytes() {
    let data = sample((8 << 20) + 4096);
    assert_eq!(unpack(&lz4(&data, 8 << 20)).unwrap().1.len(), data.len());
    assert_eq!(refused(&lz4(&data, data.len())), "lz4: the stream is broken, after 0 bytes");
}

#[test]
fn an_unpacked_kernel_is_found_too() {
    let (kernel, file) = (elf(), bzimage(&elf()));
    assert!(matches!(open(&file, LIMIT), Ok(Image::Elf(found)) if found == kernel));
    assert!(matches!(open(&kernel, LIMIT), Ok(Image::Elf(found)) if found == kernel));
}

/// The X-Kernel's stack has 32 KiB, and not all of it is left when a kernel is unpacked. Debug builds of the
/// libraries need more than what runs there, so the limit is checked in release builds only.
#[test]
fn a_small_stack_is_enough() {
    let data = sample(300_000);
    let payloads = [gzip(&data), lz4(&data, 100_000), zstd(&data), with_size(XZ.to_vec(), ZEROES)];
    let stack = if cfg!(debug_assertions) { 256 << 10 } else { 24 << 10 };
    for payload in payloads {
        let run = move || assert!(unpack(&payload).is_ok());
        std::thread::Builder::new().stack_size(stack).spawn(run).unwrap().join().unwrap();
    }
}

#[test]
fn bombs() {
    // Each claims less than it unpacks to.
    let data = vec![0; 1 << 20];
    let lie = |mut payload: Vec<u8>| {
        let at = payload.len() - 4;
        put(&mut payload, at, &4096u32.to_le_bytes());
        refused(&payload)
    };
    assert_eq!(lie(gzip(&data)), "gzip: it is larger than its size says, after 4096 bytes");
    assert_eq!(lie(lz4(&data, 1 << 20)), "lz4: it is larger than its size says, after 0 bytes");
    assert_eq!(lie(zstd(&data)), "zstd: it is larger than its size says, after 4096 bytes");
    assert_eq!(refused(&with_size(XZ.to_vec(), 4096)), "xz: it is larger than its size says, after 4096 bytes");
}

#[test]
fn wrong_size_at_the_end() {
    assert_eq!(refused(&with_size(XZ.to_vec(), ZEROES + 1)), "xz: it is smaller than its size says, after 65536 bytes");
    assert_eq!(refused(&with_size(XZ.to_vec(), 0)), "the unpacked size is 0x0: it must be more than 0 and within the limit");
    assert_eq!(
        refused(&with_size(XZ.to_vec(), 0xffff_ffff)),
        "the unpacked size is 0xffffffff: it must be more than 0 and within the limit"
    );
    let mut zstd = zstd(&[7; 1000]);
    let at = zstd.len() - 4;
    put(&mut zstd, at, &1001u32.to_le_bytes());
    assert_eq!(refused(&zstd), "zstd: it is smaller than its size says, after 1000 bytes");
}

#[test]
fn cut_and_broken_streams() {
    // How much of the last block is out by then is the decoder's affair.
    assert!(refused(&with_size(XZ[..106].to_vec(), ZEROES)).starts_with("xz: the stream is cut short, after "));
    let mut xz = XZ.to_vec();
    xz[40] ^= 1;
    assert!(refused(&with_size(xz, ZEROES)).starts_with("xz: the stream is broken, after "));
    let data = sample(5000);
    let mut sum = gzip(&data);
    let at = sum.len() - 8;
    sum[at] ^= 1;
    assert_eq!(refused(&sum), "gzip: its checksum is wrong, after 5000 bytes");
    assert!(refused(&with_size(gzip(&data)[..500].to_vec(), 5000)).starts_with("gzip: the stream is "));
    assert_eq!(refused(&with_size(vec![0x1f, 0x8b, 8, 8, 0, 0, 0, 0, 0, 3, b'x'], 0x101_0101)).split(':').next(), Some("the gzip header"));
    let lz4 = lz4(&data, 5000);
    assert_eq!(refused(&with_size(lz4[..lz4.len() - 5].to_vec(), 5000)).split(':').next(), Some("an lz4 block"));
    let zstd = zstd(&data);
    assert_eq!(refused(&with_size(zstd[..zstd.len() - 10].to_vec(), 5000)), "zstd: the stream is broken, after 0 bytes");
}

#[test]
fn a_dictionary_that_is_too_large() {
    // Byte 15 of the stream is the dictionary's size: 40 is 4 GiB. The block header's checksum follows.
    let mut xz = XZ.to_vec();
    xz[16] = 39;
    let sum = crc32fast::hash(&xz[12..20]);
    put(&mut xz, 20, &sum.to_le_bytes());
    assert_eq!(refused(&with_size(xz, ZEROES)), "xz: its dictionary is too large, after 0 bytes");
}

#[test]
fn setup_headers() {
    let line = |change: fn(&mut Vec<u8>)| {
        let mut file = bzimage(&elf());
        change(&mut file);
        open(&file, LIMIT).unwrap_err().to_string()
    };
    assert_eq!(line(|f| f[0x1fe] = 0), "the bzImage boot flag is 0xaa00: it must be 0xaa55");
    assert_eq!(line(|f| f[0x206] = 7), "the boot protocol version is 0x207: older than 2.08, it does not say where the kernel is");
    assert_eq!(line(|f| f[0x211] = 0), "the bzImage load flags is 0x0: a zImage cannot be loaded");
    assert_eq!(line(|f| put(f, 0x248, &[0xff; 4])), "the packed kernel: 0x30f4 bytes at 0x1000003ff pass the end at 0x3574");
    assert_eq!(line(|f| put(f, 0x24c, &[0xff; 4])), "the packed kernel: 0xffffffff bytes at 0x440 pass the end at 0x3574");
    assert_eq!(line(|f| f[0x1f1] = 255), "the packed kernel: 0x30f4 bytes at 0x20040 pass the end at 0x3574");
    assert_eq!(line(|f| f[0x202] = 0), "neither an ELF image nor a bzImage");
    assert_eq!(line(|f| f.truncate(0x24c)), "the bzImage setup header: 0x4 bytes at 0x24c pass the end at 0x24c");
    assert_eq!(line(|f| f[1024 + 0x40] = 0), "it has no packing that is known: gzip, xz, lz4 and zstd are");
    assert_eq!(line(|f| put(f, 0x24c, &[0; 4])), "it has no packing that is known: gzip, xz, lz4 and zstd are");
}
