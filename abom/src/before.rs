//! Where the instructions before a site begin.
//!
//! x86 code cannot be read backwards: the bytes `b8 27 00 00 00` may be a load of eax, or the end of a longer
//! instruction. Read from far enough ahead, though, wrong readings soon fall in with the right one. So every place
//! ahead of the site is tried as a beginning, and what is an instruction's beginning in all readings that arrive at the
//! site, those apart that had no room to fall in, counts as one. Where the function is known, it has the word, and where it
//! does not begin as compilers align them, the bytes may contradict.

use arrayvec::ArrayVec;
use iced_x86::{CodeSize, Instruction, OpKind, Register};

use crate::code::Reader;
use crate::effect::falls_through;
use crate::facts::Facts;
use crate::length;

/// So many bytes ahead of the site are looked at.
const REACH: usize = 40;
/// A reading that begins so many bytes ahead of a place has fallen in with the right one there.
const SETTLED: usize = 12;
/// Readings that must agree, at least.
const READINGS: u32 = 6;
/// Functions begin at a multiple of this, if their compiler cares.
const ALIGNED: u64 = 16;
/// The most instructions that are told.
pub const MOST: usize = 8;

/// The instructions before a site, the nearest first: those that are certain, and lead to it.
pub type Before = ArrayVec<Instruction, MOST>;

/// The instructions before `site`.
#[must_use]
pub fn instructions(reader: &mut Reader<'_>, site: u64, facts: &Facts<'_>) -> Before {
    let mut before = match facts.starts {
        None => agreed(reader, site),
        Some(starts) => {
            let known = known(reader, site, starts);
            // Who says where instructions begin may be wrong: glibc's table for `__restore_rt` begins a byte early. What
            // compilers align is believed.
            let aligned = starts.first().is_some_and(|start| start.is_multiple_of(ALIGNED));
            let mut is_refuted = || known.iter().zip(&agreed(reader, site)).any(|(a, b)| a.ip() != b.ip());
            if aligned || !is_refuted() { known } else { Before::new() }
        }
    };
    // What another patch has taken, and what is ahead of it, does not lead to the site any more.
    if let Some(taken) = before.iter().position(|i| facts.is_taken(i.ip(), i.next_ip())) {
        before.truncate(taken);
    }
    before
}

fn known(reader: &mut Reader<'_>, site: u64, starts: &[u64]) -> Before {
    let (mut before, mut i) = (Before::new(), Instruction::default());
    let Ok(index) = starts.binary_search(&site) else { return before };
    let mut next = site;
    for &start in starts.get(..index).unwrap_or(&[]).iter().rev().take(MOST) {
        if let Some(load) = reader.code().bytes(start, 5).and_then(|bytes| load(bytes, start)) {
            i = load;
        } else if !reader.read(start, &mut i) {
            break;
        }
        if i.next_ip() != next || !falls_through(&i) {
            break;
        }
        before.push(i);
        next = start;
    }
    before
}

/// `mov eax, imm`, which most sites have next to them, as the decoder reads it.
fn load(bytes: &[u8], address: u64) -> Option<Instruction> {
    let [0xb8, number @ ..] = bytes else { return None };
    let mut i = Instruction::new();
    i.set_code(iced_x86::Code::Mov_r32_imm32);
    i.set_code_size(CodeSize::Code64);
    i.set_len(5);
    i.set_next_ip(address.checked_add(5)?);
    i.set_op0_register(Register::EAX);
    i.set_op1_kind(OpKind::Immediate32);
    i.set_immediate32(u32::from_le_bytes(*number.first_chunk()?));
    Some(i)
}

fn agreed(reader: &mut Reader<'_>, site: u64) -> Before {
    let code = reader.code();
    // Of the reading that begins `d` bytes ahead of the site and arrives there: bit `n` says that it has an instruction
    // `n` bytes ahead. No bit at all: it does not arrive.
    let mut readings = [0_u64; REACH + 1];
    for d in 1..=REACH {
        let Some(length) = site.checked_sub(d as u64).and_then(|at| length::of(code.from(at)?)) else { continue };
        let Some(&tail) = d.checked_sub(length).and_then(|rest| readings.get(rest)) else { continue };
        if let (true, Some(reading)) = (length == d || tail != 0, readings.get_mut(d)) {
            *reading = tail | 1 << d;
        }
    }
    let (mut before, mut i) = (Before::new(), Instruction::default());
    let mut distance = 0_usize;
    while before.len() < MOST {
        let Some(start) = nearest(&readings, distance) else { break };
        if !site.checked_sub(start as u64).is_some_and(|at| reader.read(at, &mut i)) || !falls_through(&i) {
            break;
        }
        before.push(i);
        distance = start;
    }
    before
}

/// The next beginning that is more than `distance` bytes ahead, if all settled readings agree on it.
fn nearest(readings: &[u64], distance: usize) -> Option<usize> {
    // What all have, and what any has.
    let (mut all, mut any, mut count) = (u64::MAX, 0_u64, 0_u32);
    for &reading in readings.get(distance.checked_add(SETTLED)?..)?.iter().filter(|&&r| r != 0) {
        all &= reading;
        any |= reading;
        count = count.saturating_add(1);
    }
    let further = u64::MAX.checked_shl(u32::try_from(distance).ok()?)? << 1;
    let first = (any & further).trailing_zeros();
    (count >= READINGS && (all & further).trailing_zeros() == first && first < u64::BITS).then_some(first as usize)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::code::Code;
    use crate::facts::{Inside, RedZone};
    use std::vec::Vec;

    const BYTES: Facts<'static> =
        Facts { starts: None, inside: Inside::Caught, red_zone: RedZone::Unknown, taken: &[], tail: None, page: None, seen: None };

    fn lengths(bytes: &[u8], facts: &Facts<'_>) -> Vec<usize> {
        let mut reader = Reader::new(Code::new(bytes, 0x1000));
        instructions(&mut reader, 0x1000 + bytes.len() as u64, facts).iter().map(Instruction::len).collect()
    }

    #[test]
    fn the_end_of_a_longer_instruction_is_no_load_of_eax() {
        // push rbp; mov rbp,rsp; sub rsp,16; mov rdi,rax; mov rsi,rdx; xor edx,edx; mov byte [rip+0x27b8],0
        let bytes = [
            0x55, 0x48, 0x89, 0xe5, 0x48, 0x83, 0xec, 0x10, 0x48, 0x89, 0xc7, 0x48, 0x89, 0xd6, 0x31, 0xd2, 0xc6, 0x05, 0xb8, 0x27, 0, 0, 0,
        ];
        assert!(matches!(lengths(&bytes, &BYTES).first(), None | Some(7)));
    }

    #[test]
    fn the_load_is_as_decoded() {
        for number in [0, 39, u32::MAX] {
            let bytes = [&[0xb8][..], &number.to_le_bytes()].concat();
            let (load, decoded) = (load(&bytes, 0x1000).unwrap(), Code::new(&bytes, 0x1000).instruction(0x1000).unwrap());
            assert!(load.eq_all_bits(&decoded));
        }
    }

    #[test]
    fn nothing_is_told_without_bytes() {
        assert!(lengths(&[], &BYTES).is_empty());
        assert!(lengths(&[0xb8, 0x27, 0, 0, 0], &BYTES).is_empty());
    }

    #[test]
    fn what_the_bytes_contradict_is_not_known() {
        // nop; nopw 0(rax,rax); nopl 0(rax); mov rax,15: what is in front of a signal's return
        let bytes = [
            0x0f, 0x1f, 0x40, 0, 0x90, 0x66, 0x66, 0x2e, 0x0f, 0x1f, 0x84, 0, 0, 0, 0, 0, 0x0f, 0x1f, 0x40, 0, 0x48, 0xc7, 0xc0, 0x0f, 0,
            0, 0,
        ];
        assert_eq!(lengths(&bytes, &BYTES).first(), Some(&7));
        // From a byte too early: add [rax-57],cl; ror byte [rdi],0; add [rax],al
        let early = Facts { starts: Some(&[0x1013, 0x1016, 0x1019, 0x101b]), ..BYTES };
        assert!(lengths(&bytes, &early).is_empty());
        assert_eq!(lengths(&bytes, &Facts { starts: Some(&[0x1014, 0x101b]), ..BYTES }), [7]);
    }

    #[test]
    fn known_beginnings_are_taken() {
        let facts = Facts { starts: Some(&[0x1000, 0x1005]), ..BYTES };
        assert_eq!(lengths(&[0xb8, 0x27, 0, 0, 0], &facts), [5]);
        let wrong = Facts { starts: Some(&[0x1001, 0x1005]), ..BYTES };
        assert!(lengths(&[0xb8, 0x27, 0, 0, 0], &wrong).is_empty());
    }
}
