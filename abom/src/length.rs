//! How long an instruction is, and nothing else: what reading many of them backwards takes, at a fraction of the cost of
//! decoding them.

/// The longest instruction there can be.
pub const LONGEST: usize = 15;

/// The tables of opcodes.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Map {
    One,
    Two,
    /// All with ModRM, none with an immediate.
    Three38,
    /// All with ModRM and an immediate of one byte.
    Three3a,
}

/// A ModRM byte follows the opcode.
const MODRM: u8 = 1 << 0;
/// An immediate of one byte.
const BYTE: u8 = 1 << 1;
/// One of four.
const FOUR: u8 = 1 << 2;
/// One of the operand's size, of four bytes at most.
const OPERAND: u8 = 1 << 3;
/// One of the operand's size.
const WIDE: u8 = 1 << 4;
/// An address.
const ADDRESS: u8 = 1 << 5;
/// An immediate if ModRM says so: TEST has one, the others of its group do not.
const TEST: u8 = 1 << 6;
/// See [`is_odd`].
const ODD: u8 = 1 << 7;

/// What follows each opcode of a map.
type Shapes = [u8; 256];
static ONE: Shapes = shapes(Map::One);
static TWO: Shapes = shapes(Map::Two);

const fn shapes(map: Map) -> Shapes {
    let mut shapes = [0; 256];
    let (mut rest, mut opcode): (&mut [u8], u8) = (&mut shapes, 0);
    while let [shape, behind @ ..] = rest {
        *shape = if is_odd(map, opcode) { ODD } else { immediate(map, opcode) | if has_modrm(map, opcode) { MODRM } else { 0 } };
        opcode = opcode.wrapping_add(1);
        rest = behind;
    }
    shapes
}

/// The length of the instruction that the bytes begin with. None if they do not hold all of it, if there is no such
/// instruction, or if no compiler emits it for user mode. Some that do not exist have a length all the same.
#[must_use]
pub fn of(bytes: &[u8]) -> Option<usize> {
    let bytes = bytes.get(..bytes.len().min(LONGEST))?;
    let (mut short, mut short_address, mut wide) = (false, false, false);
    let mut at = 0_usize;
    let mut opcode = loop {
        let byte = *bytes.get(at)?;
        at = at.wrapping_add(1);
        match byte {
            0x66 => (short, wide) = (true, false),
            0x67 => (short_address, wide) = (true, false),
            0x26 | 0x2e | 0x36 | 0x3e | 0x64 | 0x65 | 0xf0 | 0xf2 | 0xf3 => wide = false,
            0x40..=0x4f => wide = byte & 8 != 0,
            _ => break byte,
        }
    };
    let mut map = Map::One;
    if matches!(opcode, 0x0f | 0x62 | 0xc4 | 0xc5) {
        let skipped;
        (map, skipped) = other_map(bytes.get(at.wrapping_sub(1)..)?)?;
        at = at.wrapping_add(skipped);
        opcode = *bytes.get(at.wrapping_sub(1))?;
    }
    let shape = match map {
        Map::One => *ONE.get(usize::from(opcode))?,
        Map::Two => *TWO.get(usize::from(opcode))?,
        Map::Three38 => MODRM,
        Map::Three3a => MODRM | BYTE,
    };
    if shape & ODD != 0 {
        return None;
    }
    let operand = if short && !wide { 2 } else { 4 };
    if shape & MODRM != 0 {
        let modrm = *bytes.get(at)?;
        at = at.wrapping_add(1);
        let (mode, rm) = (modrm >> 6, modrm & 7);
        let mut base = rm;
        if mode != 3 && rm == 4 {
            base = *bytes.get(at)? & 7;
            at = at.wrapping_add(1);
        }
        at = at.wrapping_add(match (mode, base) {
            (0, 5) | (2, _) => 4,
            (1, _) => 1,
            _ => 0,
        });
        if shape & TEST != 0 && modrm & 0x30 == 0 {
            at = at.wrapping_add(if opcode & 1 == 0 { 1 } else { operand });
        }
    }
    // Of these it has one at most.
    at = at.wrapping_add(match shape & !(MODRM | TEST) {
        0 => 0,
        BYTE => 1,
        FOUR => 4,
        WIDE if wide => 8,
        OPERAND | WIDE => operand,
        _ if short_address => 4,
        _ => 8,
    });
    (at <= bytes.len()).then_some(at)
}

/// The same for what programs are mostly made of, where there is such an instruction for certain.
#[must_use]
pub fn of_common(bytes: &[u8]) -> Option<usize> {
    // What has neither prefix nor ModRM.
    let length = match *bytes {
        [0x50..=0x5f | 0x90 | 0xc3 | 0xcc, ..] => 1,
        [0x0f, 0x05 | 0x0b, ..] | [0x70..=0x7f | 0xeb, _, ..] => 2,
        [0xb8..=0xbf | 0xe8 | 0xe9, _, _, _, _, ..] => 5,
        [0x0f, 0x80..=0x8f, _, _, _, _, ..] => 6,
        _ => return of_common_with_modrm(bytes),
    };
    Some(length)
}

fn of_common_with_modrm(bytes: &[u8]) -> Option<usize> {
    // A prefix that changes a branch is not common.
    let (opcode, branches) = match *bytes {
        [0x64 | 0x66, 0x40..=0x4f, ..] => (bytes.get(2..)?, false),
        [0x64 | 0x66, ..] => (bytes.get(1..)?, false),
        [0x40..=0x4f, ..] => (bytes.get(1..)?, true),
        _ => (bytes, true),
    };
    let common = match *opcode {
        [0x0f, 0x80..=0x8f, ..] | [0x70..=0x7f | 0xc3 | 0xe8 | 0xe9 | 0xeb, ..] => branches,
        [
            0x0f,
            0x05 | 0x0b | 0x10 | 0x11 | 0x1f | 0x28 | 0x29 | 0x40..=0x4f | 0x90..=0x9f | 0xa3 | 0xaf | 0xb6 | 0xb7 | 0xbe | 0xbf,
            ..,
        ] => true,
        [0x00..=0x3f, ..] => opcode.first()? & 7 < 6,
        [
            0x50..=0x5f
            | 0x63
            | 0x68..=0x6b
            | 0x80
            | 0x81
            | 0x83..=0x8b
            | 0x90
            | 0x98
            | 0x99
            | 0xa8
            | 0xa9
            | 0xb0..=0xbf
            | 0xc0
            | 0xc1
            | 0xcc
            | 0xd0..=0xd3
            | 0xf6
            | 0xf7,
            ..,
        ] => true,
        [0x8d, modrm, ..] => modrm < 0xc0,
        [0xc6 | 0xc7, modrm, ..] => modrm & 0x38 == 0,
        [0xff, modrm, ..] => branches && matches!(modrm >> 3 & 7, 0 | 1 | 2 | 4 | 6),
        _ => false,
    };
    if common { of(bytes) } else { None }
}

/// The map that the first of these bytes leads to, and how many come behind it up to the opcode.
fn other_map(bytes: &[u8]) -> Option<(Map, usize)> {
    Some(match *bytes {
        [0x0f, 0x38, ..] => (Map::Three38, 2),
        [0x0f, 0x3a, ..] => (Map::Three3a, 2),
        [0x0f, ..] => (Map::Two, 1),
        // VEX of two bytes, of three, EVEX: the map's number is in the first byte behind.
        [0xc5, ..] => (Map::Two, 2),
        [first, second, ..] => {
            let (number, skipped) = if first == 0x62 { (second & 7, 4) } else { (second & 0x1f, 3) };
            let map = match number {
                1 | 5 => Map::Two,
                2 | 6 => Map::Three38,
                3 => Map::Three3a,
                _ => return None,
            };
            (map, skipped)
        }
        _ => return None,
    })
}

const fn immediate(map: Map, opcode: u8) -> u8 {
    match (map, opcode) {
        (Map::One, 0xb8..=0xbf) => WIDE,
        (Map::One, 0xa0..=0xa3) => ADDRESS,
        (Map::One, 0xe8 | 0xe9) | (Map::Two, 0x80..=0x8f) => FOUR,
        (Map::One, 0x68 | 0x69 | 0x81 | 0xa9 | 0xc7) => OPERAND,
        (Map::One, 0x00..=0x3f) if opcode & 7 == 5 => OPERAND,
        (Map::One, 0x00..=0x3f) if opcode & 7 == 4 => BYTE,
        (Map::One, 0x6a | 0x6b | 0x70..=0x80 | 0x83 | 0xa8 | 0xb0..=0xb7 | 0xc0 | 0xc1 | 0xc6 | 0xcd | 0xe0..=0xe3 | 0xeb)
        | (Map::Two, 0x0f | 0x70..=0x73 | 0xa4 | 0xac | 0xba | 0xc2 | 0xc4..=0xc6) => BYTE,
        (Map::One, 0xf6 | 0xf7) => TEST,
        _ => 0,
    }
}

const fn has_modrm(map: Map, opcode: u8) -> bool {
    match map {
        Map::One => match opcode {
            0x00..=0x3f => opcode & 7 < 4,
            0x63 | 0x69 | 0x6b | 0x80..=0x8f | 0xc0 | 0xc1 | 0xc6 | 0xc7 | 0xd0..=0xd3 | 0xd8..=0xdf | 0xf6 | 0xf7 | 0xfe | 0xff => true,
            _ => false,
        },
        Map::Two => !matches!(
            opcode,
            0x05..=0x09 | 0x0b | 0x0e | 0x30..=0x37 | 0x77 | 0x80..=0x8f | 0xa0..=0xa2 | 0xa8..=0xaa | 0xc8..=0xcf
        ),
        Map::Three38 | Map::Three3a => true,
    }
}

/// Opcodes that do not exist, or that compilers do not emit for user mode: far and privileged ones, ports, ENTER, a
/// return that pops arguments.
const fn is_odd(map: Map, opcode: u8) -> bool {
    match map {
        Map::One => is_odd_of_one(opcode),
        Map::Two => matches!(opcode, 0x06..=0x09 | 0x20..=0x27 | 0x30 | 0x32 | 0x34..=0x37 | 0x78),
        Map::Three38 | Map::Three3a => false,
    }
}

const fn is_odd_of_one(opcode: u8) -> bool {
    matches!(
        opcode,
        0x06 | 0x07 | 0x0e | 0x16 | 0x17 | 0x1e | 0x1f | 0x27 | 0x2f | 0x37 | 0x3f | 0x60 | 0x61 | 0x82 | 0x9a | 0xce | 0xd4..=0xd6 | 0xea
    ) || matches!(opcode, 0x6c..=0x6f | 0xc2 | 0xc8 | 0xca | 0xcb | 0xcf | 0xe4..=0xe7 | 0xec..=0xef | 0xf1 | 0xf4 | 0xfa | 0xfb)
}

#[cfg(test)]
mod tests {
    use std::vec::Vec;

    use crate::code::Code;

    use super::*;

    /// What is common is an instruction, and as long as the decoder says.
    #[test]
    fn common_ones_are_instructions() {
        let prefixes: [&[u8]; 9] = [&[], &[0x66], &[0x64], &[0x48], &[0x41], &[0x66, 0x48], &[0x66, 0x41], &[0x64, 0x4f], &[0x47]];
        let (mut common, mut other) = (0, 0);
        for prefix in prefixes {
            for (first, second) in (0..=u8::MAX).map(|b| (b, None)).chain((0..=u8::MAX).map(|b| (0x0f, Some(b)))) {
                for modrm in 0..=u8::MAX {
                    for sib in [0x24, 0x05, 0xff] {
                        let mut bytes: Vec<u8> = prefix.to_vec();
                        bytes.push(first);
                        bytes.extend(second);
                        bytes.extend([modrm, sib, 0x08]);
                        bytes.resize(LONGEST, 0x01);
                        let Some(length) = of_common(&bytes) else {
                            other += 1;
                            continue;
                        };
                        let decoded = Code::new(&bytes, 0).instruction(0).map(|i| i.len());
                        assert_eq!(Some(length), decoded, "{bytes:x?}");
                        common += 1;
                    }
                }
            }
        }
        assert!(2 * common > other, "{common} {other}");
    }

    /// Each opcode, with each ModRM byte and several prefixes, is as long as the decoder says.
    #[test]
    fn lengths_are_those_of_the_decoder() {
        let prefixes: [&[u8]; 12] = [
            &[],
            &[0x66],
            &[0x48],
            &[0x66, 0x48],
            &[0x48, 0x66],
            &[0x67],
            &[0xf3],
            &[0xf2, 0x41],
            &[0x64],
            &[0x0f],
            &[0x66, 0x0f],
            &[0xc5, 0xf8],
        ];
        let more: [&[u8]; 5] = [&[0x0f, 0x38], &[0x0f, 0x3a], &[0xc4, 0xe2, 0x79], &[0xc4, 0xe3, 0x79], &[0x62, 0xf1, 0x7c, 0x48]];
        let (mut known, mut odd) = (0, 0);
        for prefix in prefixes.into_iter().chain(more) {
            for opcode in 0..=u8::MAX {
                for modrm in 0..=u8::MAX {
                    let mut bytes: Vec<u8> = prefix.to_vec();
                    bytes.extend([opcode, modrm, 0x24, 0x08]);
                    bytes.resize(LONGEST, 0x01);
                    let Some(i) = Code::new(&bytes, 0).instruction(0) else { continue };
                    match of(&bytes) {
                        Some(length) => {
                            assert_eq!(length, i.len(), "{bytes:x?} {:?}", i.code());
                            known += 1;
                        }
                        None => odd += 1,
                    }
                }
            }
        }
        assert!(known > 8 * odd, "{known} {odd}");
    }
}
