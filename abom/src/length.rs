//! How long an instruction is, and nothing else: what reading many of them backwards takes, at a fraction of the cost of
//! decoding them.

/// How bytes are passed over.
struct Cursor<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl Cursor<'_> {
    fn next(&mut self) -> Option<u8> {
        let byte = *self.bytes.get(self.at)?;
        self.skip(1)?;
        Some(byte)
    }

    /// Passes over bytes, if an instruction may be so long and they are there.
    fn skip(&mut self, count: usize) -> Option<()> {
        self.at = self.at.checked_add(count)?;
        (self.at <= crate::code::LONGEST && self.at <= self.bytes.len()).then_some(())
    }
}

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

/// The length of the instruction that the bytes begin with. None if they do not hold all of it, if there is no such
/// instruction, or if no compiler emits it for user mode. Some that do not exist have a length all the same.
#[must_use]
pub fn of(bytes: &[u8]) -> Option<usize> {
    let mut c = Cursor { bytes, at: 0 };
    let (mut short, mut short_address, mut wide) = (false, false, false);
    let opcode = loop {
        let byte = c.next()?;
        match byte {
            0x66 => (short, wide) = (true, false),
            0x67 => (short_address, wide) = (true, false),
            0x26 | 0x2e | 0x36 | 0x3e | 0x64 | 0x65 | 0xf0 | 0xf2 | 0xf3 => wide = false,
            0x40..=0x4f => wide = byte & 8 != 0,
            _ => break byte,
        }
    };
    let (map, opcode) = match opcode {
        0x0f => match c.next()? {
            0x38 => (Map::Three38, c.next()?),
            0x3a => (Map::Three3a, c.next()?),
            second => (Map::Two, second),
        },
        // VEX of two bytes, of three, EVEX: the table's number is in the first byte behind.
        0xc5 => {
            c.skip(1)?;
            (Map::Two, c.next()?)
        }
        0xc4 | 0x62 => {
            let map = match c.next()? & if opcode == 0x62 { 7 } else { 0x1f } {
                1 | 5 => Map::Two,
                2 | 6 => Map::Three38,
                3 => Map::Three3a,
                _ => return None,
            };
            c.skip(if opcode == 0x62 { 2 } else { 1 })?;
            (map, c.next()?)
        }
        _ => (Map::One, opcode),
    };
    if map == Map::One && is_odd(opcode)
        || map == Map::Two && matches!(opcode, 0x06..=0x09 | 0x20..=0x27 | 0x30 | 0x32 | 0x34..=0x37 | 0x78)
    {
        return None;
    }
    // An immediate of the operand's size, of four bytes at most.
    let z = if short && !wide { 2 } else { 4 };
    let mut immediate = match map {
        Map::One => match opcode {
            0xb8..=0xbf if wide => 8,
            0xa0..=0xa3 => {
                if short_address {
                    4
                } else {
                    8
                }
            }
            0xe8 | 0xe9 => 4,
            0x68 | 0x69 | 0x81 | 0xa9 | 0xb8..=0xbf | 0xc7 => z,
            0x00..=0x3f if opcode & 7 == 5 => z,
            0x00..=0x3f if opcode & 7 == 4 => 1,
            0x6a | 0x6b | 0x70..=0x80 | 0x83 | 0xa8 | 0xb0..=0xb7 | 0xc0 | 0xc1 | 0xc6 | 0xcd | 0xe0..=0xe3 | 0xeb => 1,
            _ => 0,
        },
        Map::Two => match opcode {
            0x80..=0x8f => 4,
            0x0f | 0x70..=0x73 | 0xa4 | 0xac | 0xba | 0xc2 | 0xc4..=0xc6 => 1,
            _ => 0,
        },
        Map::Three38 => 0,
        Map::Three3a => 1,
    };
    if has_modrm(map, opcode) {
        let modrm = c.next()?;
        let (mode, rm) = (modrm >> 6, modrm & 7);
        let sib = if mode != 3 && rm == 4 { Some(c.next()?) } else { None };
        c.skip(match (mode, sib.map_or(rm, |s| s & 7)) {
            (0, 5) | (2, _) => 4,
            (1, _) => 1,
            _ => 0,
        })?;
        // TEST has an immediate; the others of its group do not.
        if map == Map::One && opcode & 0xfe == 0xf6 && modrm & 0x30 == 0 {
            immediate = if opcode == 0xf6 { 1 } else { z };
        }
    }
    c.skip(immediate)?;
    Some(c.at)
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
const fn is_odd(opcode: u8) -> bool {
    matches!(
        opcode,
        0x06 | 0x07 | 0x0e | 0x16 | 0x17 | 0x1e | 0x1f | 0x27 | 0x2f | 0x37 | 0x3f | 0x60 | 0x61 | 0x82 | 0x9a | 0xce | 0xd4..=0xd6 | 0xea
    ) || matches!(opcode, 0x6c..=0x6f | 0xc2 | 0xc8 | 0xca | 0xcb | 0xcf | 0xe4..=0xe7 | 0xec..=0xef | 0xf1 | 0xf4 | 0xfa | 0xfb)
}

#[cfg(test)]
mod tests {
    use std::vec::Vec;

    use crate::code::{Code, LONGEST};

    use super::*;

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
