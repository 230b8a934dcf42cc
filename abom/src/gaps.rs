//! Gaps of the code: what fills up behind a return or a jump for the sake of alignment, and is never executed.

use core::ops::Range;

use arrayvec::ArrayVec;
use iced_x86::{Instruction, Mnemonic};

use crate::code::{Code, Reader};
use crate::effect::falls_through;
use crate::unwind::begins;

/// The most gaps that are kept.
pub const MOST: usize = 128;
/// The fewest bytes of one that is: a `jmp rel32` has so many.
pub const FEWEST: u64 = 5;

/// What functions, and what is jumped to often, begin at a multiple of.
const ALIGNED: u64 = 16;

/// Gaps that are known.
pub type Gaps = ArrayVec<Range<u64>, MOST>;

/// The gaps of code whose instructions begin at `starts`, all of them in order: of padding behind an instruction that goes
/// nowhere else, where no jump of them leads to.
#[must_use]
pub fn find(code: &Code<'_>, starts: &[u64]) -> Gaps {
    let mut gaps = padding(code, starts.iter().copied());
    for &at in starts {
        let Some(bytes) = code.from(at).filter(|bytes| !is_ordinary(bytes)) else { continue };
        let opcode = without_prefixes(bytes);
        let behind = at.wrapping_add(bytes.len().saturating_sub(opcode.len()) as u64);
        if let Some(target) = could_jump(opcode, behind) {
            let index = gaps.partition_point(|g| g.end <= target);
            if gaps.get(index).is_some_and(|g| g.contains(&target)) {
                gaps.remove(index);
            }
        }
    }
    gaps
}

/// Padding behind an instruction that goes nowhere else.
fn padding(code: &Code<'_>, starts: impl Iterator<Item = u64>) -> Gaps {
    let mut gaps = Gaps::new();
    let mut add = |gap: Option<Range<u64>>| {
        if let Some(gap) = gap.filter(|g| g.end.saturating_sub(g.start) >= FEWEST) {
            // The first ones are as good as any.
            let _ = gaps.try_push(gap);
        }
    };
    let (mut reader, mut i) = (Reader::new(*code), Instruction::default());
    let (mut ended, mut gap) = (false, None::<Range<u64>>);
    for at in starts {
        let decoded = code.from(at).is_some_and(|bytes| !is_ordinary(bytes) && may_end_or_fill(bytes)) && reader.read(at, &mut i);
        let fills = decoded && matches!(i.mnemonic(), Mnemonic::Nop | Mnemonic::Int3);
        match &mut gap {
            Some(range) if fills && range.end == at => range.end = i.next_ip(),
            None if fills && ended => gap = Some(at..i.next_ip()),
            _ => {
                add(gap.take());
                ended = decoded && !falls_through(&i);
            }
        }
    }
    add(gap);
    gaps
}

/// Whether it is plain by its first bytes that an instruction is neither a jump nor padding: most are.
const fn is_ordinary(bytes: &[u8]) -> bool {
    let ([0x40..=0x4f, opcode, ..] | [opcode, ..]) = *bytes else { return false };
    matches!(opcode, 0x00..=0x0e | 0x10..=0x25 | 0x28..=0x2d | 0x30..=0x35 | 0x38..=0x3d | 0x50..=0x63 | 0x68..=0x6f | 0x80..=0x8f | 0x98..=0xc1 | 0xc4..=0xcb | 0xd0..=0xdf)
}

/// Whether an instruction with these bytes has to be decoded, because it may be padding or go nowhere else.
fn may_end_or_fill(bytes: &[u8]) -> bool {
    match *without_prefixes(bytes) {
        [0x90 | 0xc2 | 0xc3 | 0xcc | 0xe9 | 0xeb | 0xf4, ..] | [0x0f, 0x0b | 0x1f, ..] => true,
        // `jmp`, not `inc`, `dec`, `call` and `push`.
        [0xff, modrm, ..] => modrm >> 3 & 7 == 4,
        _ => false,
    }
}

/// An instruction's bytes from its opcode on.
fn without_prefixes(bytes: &[u8]) -> &[u8] {
    let is_prefix = |b: &u8| matches!(*b, 0x26 | 0x2e | 0x36 | 0x3e | 0x40..=0x4f | 0x64..=0x67 | 0xf0 | 0xf2 | 0xf3);
    let count = bytes.iter().take_while(|b| is_prefix(b)).count();
    bytes.get(count..).unwrap_or(&[])
}

/// A function: where it begins, and where the next one does, if there is one.
pub type Extent = (u64, Option<u64>);

/// Of the gaps `found` ([`find`]) those that a site of the function `own` may use: of that function, of others whose beginning
/// is there, and ahead of a function. `starts` is where instructions begin, of all the code; `function` tells the one that an
/// address is in.
///
/// # Errors
/// Those of `function`.
pub fn around<E>(starts: &[u64], found: Gaps, own: Extent, mut function: impl FnMut(u64) -> Result<Option<Extent>, E>) -> Result<Gaps, E> {
    let mut gaps = Gaps::new();
    for gap in found {
        let inside = |(start, next): Extent| start <= gap.start && next.is_none_or(|next| gap.end <= next);
        let begins_here = |(start, _): Extent| starts.binary_search(&start).is_ok();
        let end = if inside(own) {
            gap.end
        } else {
            match function(gap.end)? {
                Some((start, _)) if begins(start, gap.end) => start,
                Some(other) if inside(other) && begins_here(other) => gap.end,
                _ => continue,
            }
        };
        if end.saturating_sub(gap.start) >= FEWEST {
            gaps.push(gap.start..end);
        }
    }
    Ok(gaps)
}

/// The gaps behind `from`, an address behind a site, where nothing is known of the code but bytes.
///
/// Read forward from there, where instructions begin is certain. Nobody comes to padding that fills up to a multiple of
/// sixteen, as assemblers do it, if nothing in all of the bytes could be a jump to it; nor to one that is `int3` only.
#[must_use]
pub fn behind(code: &Code<'_>, from: u64) -> Gaps {
    let mut gaps = padding(code, code.starts(from));
    let is_int3 = |gap: &Range<u64>| code.bytes(gap.start, room(gap)).is_some_and(|bytes| bytes.iter().all(|&b| b == 0xcc));
    // One of five bytes or more comes first.
    let is_nop = |gap: &Range<u64>| code.instruction(gap.start).is_some_and(|i| i.len() as u64 >= FEWEST);
    gaps.retain(|gap| is_int3(gap) || gap.end.is_multiple_of(ALIGNED) && is_nop(gap));
    for at in code.start()..code.end() {
        if gaps.is_empty() {
            break;
        }
        if let Some(target) = code.from(at).and_then(|bytes| could_jump(bytes, at)) {
            gaps.retain(|gap| is_int3(gap) || !code.starts(gap.start).take_while(|&at| at < gap.end).any(|at| at == target));
        }
    }
    gaps
}

/// Where these bytes at `at` would jump to, if they were a jump or a call.
fn could_jump(bytes: &[u8], at: u64) -> Option<u64> {
    let (length, distance) = match *bytes {
        [0x70..=0x7f | 0xe0..=0xe3 | 0xeb, a, ..] => (2, i64::from(a.cast_signed())),
        [0xe8 | 0xe9, a, b, c, d, ..] => (5, i64::from(i32::from_le_bytes([a, b, c, d]))),
        [0x0f, 0x80..=0x8f, a, b, c, d, ..] => (6, i64::from(i32::from_le_bytes([a, b, c, d]))),
        _ => return None,
    };
    Some(at.wrapping_add(length).wrapping_add_signed(distance))
}

/// What is left of the gaps when others have `taken` some of it: the end of each, from the smallest to the largest.
#[must_use]
pub fn left(gaps: &Gaps, taken: &[Range<u64>]) -> Gaps {
    let mut all = Gaps::new();
    for gap in gaps {
        let overlaps = |t: &&Range<u64>| t.start < gap.end && gap.start < t.end;
        let start = taken.iter().filter(overlaps).map(|t| t.end).fold(gap.start, u64::max);
        if gap.end.saturating_sub(start) >= FEWEST {
            all.push(start..gap.end);
        }
    }
    all.sort_unstable_by_key(|g| (room(g), g.start));
    all
}

/// How many bytes a gap has.
#[must_use]
pub fn room(gap: &Range<u64>) -> usize {
    usize::try_from(gap.end.saturating_sub(gap.start)).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use std::vec;
    use std::vec::Vec;

    use super::*;
    use crate::trial::{AT, READ, starts};

    #[test]
    fn ordinary_ones_are_neither_jumps_nor_padding() {
        let mut ordinary = 0;
        for first in 0..=u8::MAX {
            for second in 0..=u8::MAX {
                let bytes = [first, second, 0, 0, 0, 0];
                if is_ordinary(&bytes) {
                    ordinary += 1;
                    assert!(!may_end_or_fill(&bytes) && could_jump(without_prefixes(&bytes), AT).is_none(), "{bytes:x?}");
                }
            }
        }
        assert!(ordinary > 0x8000);
    }

    #[test]
    fn gaps_of_read() {
        let code = Code::new(&READ, AT);
        let gaps = find(&code, &starts(&code));
        assert_eq!(gaps.as_slice(), [AT + 0x16..AT + 0x20, AT + 0x6b..AT + 0x70]);
    }

    #[test]
    fn a_target_is_no_gap() {
        // jmp +0 (to the padding); nop of ten bytes; ret.
        let bytes = [0xeb, 0x00, 0x66, 0x2e, 0x0f, 0x1f, 0x84, 0, 0, 0, 0, 0, 0xc3];
        let code = Code::new(&bytes, AT);
        let gaps = find(&code, &starts(&code));
        assert!(gaps.is_empty());
    }

    #[test]
    fn of_other_functions() {
        // ret, six bytes, ret at 7, seven bytes, ret at 15.
        let bytes = [0xc3, 0xcc, 0xcc, 0xcc, 0xcc, 0xcc, 0xcc, 0xc3, 0xcc, 0xcc, 0xcc, 0xcc, 0xcc, 0xcc, 0xcc, 0xc3];
        let code = Code::new(&bytes, AT);
        let starts = starts(&code);
        let around = |own, begins: &[u64]| {
            let next = |at: u64| begins.iter().copied().filter(|&b| b > at).min();
            let function = |at: u64| Ok::<_, ()>(begins.iter().copied().filter(|&b| b <= at).max().map(|b| (b, next(at))));
            around(&starts, find(&code, &starts), own, function).expect("no error")
        };
        let both = [AT + 1..AT + 7, AT + 8..AT + 15];
        assert_eq!(around((AT, Some(AT + 8)), &[]).as_slice(), &both[..1]);
        assert_eq!(around((AT + 7, Some(AT + 15)), &[AT, AT + 7]).as_slice(), both);
        assert_eq!(around((AT, None), &[]).as_slice(), both);
        // A function that begins a byte early; one that begins in the gap.
        assert_eq!(around((AT, Some(AT + 8)), &[AT, AT + 14]).as_slice(), [AT + 1..AT + 7, AT + 8..AT + 14]);
        assert_eq!(around((AT, Some(AT + 8)), &[AT, AT + 12]).as_slice(), &both[..1]);
        // Another function, with its end or without, but with its beginning.
        assert_eq!(around((AT, Some(AT + 7)), &[AT, AT + 7, AT + 16]).as_slice(), both);
        assert_eq!(around((AT, Some(AT + 7)), &[AT, AT + 7]).as_slice(), both);
        assert_eq!(around((AT, Some(AT + 7)), &[AT - 4]).as_slice(), &both[..1]);
    }

    #[test]
    fn behind_a_site_of_which_nothing_is_known() {
        // ret at 1; nine bytes to 11, and five; ret at 16; int3 from 17 on.
        let mut bytes = vec![0x90, 0xc3, 0x66, 0x0f, 0x1f, 0x84, 0, 0, 0, 0, 0, 0x0f, 0x1f, 0x44, 0, 0, 0xc3];
        bytes.extend([0xcc; 6]);
        bytes.push(0xc3);
        let of = |bytes: &[u8]| behind(&Code::new(bytes, AT), AT);
        let (nops, stops) = (AT + 2..AT + 16, AT + 17..AT + 23);
        assert_eq!(of(&bytes).as_slice(), [nops.clone(), stops.clone()]);
        // Something that could be a jump: to its beginning, to its second instruction, into the middle of one.
        for (to, remains) in [(2, false), (11, false), (5, true)] {
            let mut bytes = [&bytes, &[0x31, 0x74, 0][..]].concat();
            let end = bytes.len();
            bytes[end - 1] = (to as u8).wrapping_sub(end as u8);
            assert_eq!(of(&bytes).contains(&nops), remains, "{to}");
            assert!(of(&bytes).contains(&stops));
        }
        // Not up to a multiple of sixteen.
        bytes.remove(0);
        assert_eq!(of(&bytes).into_iter().collect::<Vec<_>>(), vec![AT + 16..AT + 22]);
    }

    #[test]
    fn what_others_leave() {
        let gaps = Gaps::from_iter([100..115, 200..209, 300..320]);
        assert_eq!(left(&gaps, &[]).as_slice(), [200..209, 100..115, 300..320]);
        assert_eq!(left(&gaps, &[90..105, 200..205, 300..302, 305..310]).as_slice(), [105..115, 310..320]);
    }
}
