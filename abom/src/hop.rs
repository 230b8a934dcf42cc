//! A call beside its site: for sites that have no room for one.
//!
//! gcc loads number 0 by two bytes (`xor eax, eax; syscall`), and there is no room for the seven of a call. But compilers
//! align code, and what fills up behind a return or a jump is never executed. So the load becomes a short jump into such
//! a gap, where the call is, and a jump back behind the site:
//!
//! ```text
//! site:  jmp short gap   syscall   what follows          gap:  call [slot]   jmp back
//! ```
//!
//! If it is not the load that is next to the instruction, what is there makes room instead: it goes into the gap ahead of
//! a call that is for any number. The `syscall` instruction stays where it is, and so does all else but two bytes: whoever is or comes
//! anywhere there finds what he would have found. Where the gaps in reach are too small for a call, a small one takes a
//! jump to a larger one farther off.

use core::ops::Range;

use arrayvec::ArrayVec;
use iced_x86::{Instruction, Mnemonic, OpKind};

use crate::code::Code;
use crate::effect::{self, Flow, falls_through};
use crate::facts::Facts;
use crate::moved::{distance, movable, relocate};
use crate::patch::{Form, How, Inner, LONGEST_PATCH, Patch};
use crate::pattern::{Number, Pattern, sets_number};
use crate::plan::{Site, Ways, examine};
use crate::refusal::Refusal;
use crate::table::displacement;

/// The lengths of `jmp rel8` and `jmp rel32`.
const SHORT: usize = 2;
/// See [`SHORT`].
const NEAR: usize = 5;

/// Gaps that are known.
pub type Gaps = ArrayVec<Range<u64>, 64>;

/// What has to be written for a site: first what is in gaps, then the jump to it.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Hop {
    /// In gaps, in this order.
    pub gaps: ArrayVec<Patch, 2>,
    /// At the site.
    pub site: Patch,
}

/// Adds the gaps of a function whose instructions begin at `starts`, all of them in order: what fills up behind an
/// instruction that goes nowhere else, and is no jump's target.
pub fn add_gaps(gaps: &mut Gaps, code: &Code<'_>, starts: &[u64]) {
    let is_target = |range: &Range<u64>| {
        let targets = starts.iter().filter_map(|&at| code.instruction(at)).filter(|i| matches!(i.op0_kind(), OpKind::NearBranch64));
        targets.into_iter().any(|i| range.contains(&i.near_branch_target()))
    };
    let mut add = |range: Range<u64>| {
        if range.end.saturating_sub(range.start) >= NEAR as u64 && !is_target(&range) {
            let _ = gaps.try_push(range);
        }
    };
    let (mut ended, mut gap) = (false, None::<Range<u64>>);
    for i in starts.iter().map_while(|&at| code.instruction(at)) {
        let fills = matches!(i.mnemonic(), Mnemonic::Nop | Mnemonic::Int3);
        match &mut gap {
            Some(range) if fills => range.end = i.next_ip(),
            None if fills && ended => gap = Some(i.ip()..i.next_ip()),
            _ => {
                if let Some(range) = gap.take() {
                    add(range);
                }
                ended = !falls_through(&i);
            }
        }
    }
    if let Some(range) = gap {
        add(range);
    }
}

/// Plans a call in a gap for the `syscall` instruction at `site`.
///
/// # Errors
/// The reason why the site has to stay a trap.
pub fn hop(code: &Code<'_>, site: u64, ways: &Ways, facts: &Facts<'_>, gaps: &Gaps) -> Result<Hop, Refusal> {
    let site = examine(code, site, ways, facts)?;
    let nearest = *site.before.first().ok_or(Refusal::NotAligned)?;
    let body = site.body(&nearest)?;
    let free = || gaps.iter().filter(|g| !facts.is_taken(g.start, g.end));
    let room = |gap: &Range<u64>| usize::try_from(gap.end.saturating_sub(gap.start)).unwrap_or(0);
    // From the site: behind its short jump.
    let from = nearest.ip().wrapping_add(SHORT as u64);
    for gap in free().filter(|g| short(from, g.start).is_some()) {
        if let Some(whole) = body.at(code, gap.start, room(gap), site.behind)
            && let Some(hop) = site.hop(&nearest, &[(gap.start, &whole)])
        {
            return Ok(hop);
        }
        for far in free().filter(|f| *f != gap) {
            if let Some(there) = near(gap.start, 0, far.start)
                && let Some(whole) = body.at(code, far.start, room(far), site.behind)
                && let Some(hop) = site.hop(&nearest, &[(far.start, &whole), (gap.start, &there)])
            {
                return Ok(hop);
            }
        }
    }
    Err(Refusal::NoRoom)
}

/// Bytes for a gap.
type Filling = ArrayVec<u8, LONGEST_PATCH>;

/// What is executed in a gap, before it jumps back.
struct Body {
    moved: Option<Instruction>,
    slot: [u8; 4],
}

impl Body {
    /// Its bytes at `at`, with the jump to `back`, if they fit in `room`.
    fn at(&self, code: &Code<'_>, at: u64, room: usize, back: u64) -> Option<Filling> {
        let mut bytes = Filling::new();
        if let Some(moved) = &self.moved {
            bytes.try_extend_from_slice(&relocate(code, moved, at)?).ok()?;
        }
        bytes.try_extend_from_slice(&[0xff, 0x14, 0x25]).ok()?;
        bytes.try_extend_from_slice(&self.slot).ok()?;
        let end = at.checked_add(bytes.len() as u64)?;
        match short(end.checked_add(SHORT as u64)?, back) {
            Some(rel) => bytes.try_extend_from_slice(&[0xeb, rel]).ok()?,
            None => bytes.try_extend_from_slice(&near(at, bytes.len(), back)?).ok()?,
        }
        (bytes.len() <= room).then_some(bytes)
    }
}

/// `jmp rel8`'s distance, from the address behind it.
fn short(from: u64, to: u64) -> Option<u8> {
    i8::try_from(to.wrapping_sub(from).cast_signed()).ok().map(i8::cast_unsigned)
}

/// `jmp rel32`, `offset` behind `at`.
fn near(at: u64, offset: usize, to: u64) -> Option<Filling> {
    let end = at.checked_add(offset as u64)?.checked_add(NEAR as u64)?;
    let mut bytes = Filling::new();
    bytes.push(0xe9);
    bytes.extend(distance(end, to)?);
    Some(bytes)
}

impl Site<'_, '_> {
    /// What is to be executed instead of the instruction next to the site and the site.
    fn body(&self, nearest: &Instruction) -> Result<Body, Refusal> {
        let table = &self.ways.table;
        if let Some(Number::Is(nr)) = sets_number(nearest)
            && let Some(slot) = table.slot(nr).and_then(displacement)
        {
            if self.facts.seen.is_some_and(|s| s.rax != u64::from(nr)) {
                return Err(Refusal::OtherNumber);
            }
            self.may_push(Some(nr))?;
            return Ok(Body { moved: None, slot });
        }
        if nearest.len() < SHORT || !movable(nearest) || effect::of(nearest).is_none_or(|e| e.flow != Flow::Next) {
            return Err(Refusal::NoRoom);
        }
        self.may_push(None)?;
        Ok(Body { moved: Some(*nearest), slot: displacement(table.any()).ok_or(Refusal::NoRoom)? })
    }

    /// The patches: of gaps, the last of which is jumped to, and of the site.
    fn hop(&self, nearest: &Instruction, fillings: &[(u64, &Filling)]) -> Option<Hop> {
        let how = How { pattern: Pattern::of(&self.before), form: Form::Hop };
        let mut gaps = ArrayVec::new();
        for (at, bytes) in fillings {
            let old = self.code.bytes(*at, bytes.len())?;
            gaps.try_push(Patch::new(*at, old, bytes, Inner::new(), at.checked_add(bytes.len() as u64)?, how)?).ok()?;
        }
        let rel = short(nearest.ip().checked_add(SHORT as u64)?, fillings.last()?.0)?;
        let old = self.code.bytes(nearest.ip(), SHORT)?;
        let site = Patch::new(nearest.ip(), old, &[0xeb, rel], Inner::new(), self.behind, how)?;
        Some(Hop { gaps, site })
    }
}

#[cfg(test)]
mod tests {
    use std::vec::Vec;

    use super::*;
    use crate::facts::{Inside, RedZone, Seen};
    use crate::table::Table;

    const AT: u64 = 0x7f00_0000_1000;
    /// glibc 2.36's `read`, from its first byte to the next function.
    const READ: [u8; 0xa0] = [
        0x80, 0x3d, 0x31, 0x33, 0x0e, 0x00, 0x00, 0x74, 0x17, 0x31, 0xc0, 0x0f, 0x05, 0x48, 0x3d, 0x00, 0xf0, 0xff, 0xff, 0x77, 0x5b, 0xc3,
        0x66, 0x2e, 0x0f, 0x1f, 0x84, 0x00, 0x00, 0x00, 0x00, 0x00, 0x48, 0x83, 0xec, 0x28, 0x48, 0x89, 0x54, 0x24, 0x18, 0x48, 0x89, 0x74,
        0x24, 0x10, 0x89, 0x7c, 0x24, 0x08, 0xe8, 0x49, 0xd5, 0xf8, 0xff, 0x48, 0x8b, 0x54, 0x24, 0x18, 0x48, 0x8b, 0x74, 0x24, 0x10, 0x41,
        0x89, 0xc0, 0x8b, 0x7c, 0x24, 0x08, 0x31, 0xc0, 0x0f, 0x05, 0x48, 0x3d, 0x00, 0xf0, 0xff, 0xff, 0x77, 0x34, 0x44, 0x89, 0xc7, 0x48,
        0x89, 0x44, 0x24, 0x08, 0xe8, 0x9f, 0xd5, 0xf8, 0xff, 0x48, 0x8b, 0x44, 0x24, 0x08, 0x48, 0x83, 0xc4, 0x28, 0xc3, 0x0f, 0x1f, 0x44,
        0x00, 0x00, 0x48, 0x8b, 0x15, 0xc9, 0xaa, 0x0d, 0x00, 0xf7, 0xd8, 0x64, 0x89, 0x02, 0x48, 0xc7, 0xc0, 0xff, 0xff, 0xff, 0xff, 0xc3,
        0x0f, 0x1f, 0x40, 0x00, 0x48, 0x8b, 0x15, 0xb1, 0xaa, 0x0d, 0x00, 0xf7, 0xd8, 0x64, 0x89, 0x02, 0x48, 0xc7, 0xc0, 0xff, 0xff, 0xff,
        0xff, 0xeb, 0xb7, 0x0f, 0x1f, 0x00,
    ];
    const WAYS: Ways = Ways { table: Table::X_CONTAINER, stubs: None };

    fn starts(code: &Code<'_>) -> Vec<u64> {
        let mut at = code.start();
        std::iter::from_fn(|| {
            let i = code.instruction(at)?;
            Some(std::mem::replace(&mut at, i.next_ip()))
        })
        .collect()
    }

    fn facts<'a>(starts: &'a [u64], taken: &'a [Range<u64>]) -> Facts<'a> {
        Facts { starts: Some(starts), inside: Inside::Caught, red_zone: RedZone::Unknown, taken, seen: Some(Seen::default()) }
    }

    /// What is executed from `at` on, once the patches are written: instructions as text, until behind `site`.
    fn walk(bytes: &[u8], mut at: u64, behind: u64) -> Vec<Mnemonic> {
        let code = Code::new(bytes, AT);
        let mut seen = Vec::new();
        while at != behind {
            let i = code.instruction(at).expect("an instruction");
            seen.push(i.mnemonic());
            assert!(seen.len() < 10);
            at = if i.mnemonic() == Mnemonic::Jmp { i.near_branch_target() } else { i.next_ip() };
        }
        seen
    }

    fn written(mut bytes: Vec<u8>, hop: &Hop) -> Vec<u8> {
        for patch in hop.gaps.iter().chain([&hop.site]) {
            let at = (patch.address() - AT) as usize;
            assert_eq!(&bytes[at..at + patch.old().len()], patch.old());
            bytes[at..at + patch.old().len()].copy_from_slice(patch.new_bytes());
        }
        bytes
    }

    #[test]
    fn gaps_of_read() {
        let code = Code::new(&READ, AT);
        let mut gaps = Gaps::new();
        add_gaps(&mut gaps, &code, &starts(&code));
        assert_eq!(gaps.as_slice(), [AT + 0x16..AT + 0x20, AT + 0x6b..AT + 0x70]);
    }

    #[test]
    fn a_target_is_no_gap() {
        // jmp +0 (to the padding); nop of ten bytes; ret.
        let bytes = [0xeb, 0x00, 0x66, 0x2e, 0x0f, 0x1f, 0x84, 0, 0, 0, 0, 0, 0xc3];
        let code = Code::new(&bytes, AT);
        let mut gaps = Gaps::new();
        add_gaps(&mut gaps, &code, &starts(&code));
        assert!(gaps.is_empty());
    }

    #[test]
    fn read_of_one_thread_hops_into_a_gap() {
        let code = Code::new(&READ, AT);
        let starts = starts(&code);
        let mut gaps = Gaps::new();
        add_gaps(&mut gaps, &code, &starts);
        let hop = hop(&code, AT + 0x0b, &WAYS, &facts(&starts, &[]), &gaps).expect("a plan");
        assert_eq!((hop.gaps.len(), hop.site.address(), hop.site.new_bytes()), (1, AT + 9, &[0xeb, 0x0b][..]));
        let bytes = written(READ.to_vec(), &hop);
        assert_eq!(walk(&bytes, AT + 9, AT + 0x0d), [Mnemonic::Jmp, Mnemonic::Call, Mnemonic::Jmp]);
        // All else is as it was, the instruction itself included.
        assert_eq!(walk(&bytes, AT + 0x0b, AT + 0x0d), [Mnemonic::Syscall]);
    }

    #[test]
    fn read_of_several_threads_hops_twice() {
        let mut bytes = READ.to_vec();
        // ret, and fifteen bytes until the next function.
        bytes.extend([0xc3, 0x66, 0x66, 0x2e, 0x0f, 0x1f, 0x84, 0, 0, 0, 0, 0, 0x0f, 0x1f, 0x40, 0x00, 0xc3]);
        let code = Code::new(&bytes, AT);
        let starts = starts(&code);
        let mut gaps = Gaps::new();
        add_gaps(&mut gaps, &code, &starts);
        let first = [AT + 9..AT + 0x0d, AT + 0x16..AT + 0x1f];
        let hop = hop(&code, AT + 0x4a, &WAYS, &facts(&starts, &first), &gaps).expect("a plan");
        assert_eq!(hop.gaps.len(), 2);
        let bytes = written(bytes, &hop);
        let executed = [Mnemonic::Jmp, Mnemonic::Jmp, Mnemonic::Call, Mnemonic::Jmp];
        assert_eq!(walk(&bytes, AT + 0x48, AT + 0x4c), executed);
        assert_eq!(walk(&bytes, AT + 0x4a, AT + 0x4c), [Mnemonic::Syscall]);
    }

    #[test]
    fn what_is_next_to_the_site_moves() {
        // mov eax,302; xor edi,edi; syscall; cmp rax,-4096; ja +1; ret; ret; nop of fifteen bytes.
        let bytes = [
            0xb8, 0x2e, 0x01, 0, 0, 0x31, 0xff, 0x0f, 0x05, 0x48, 0x3d, 0x00, 0xf0, 0xff, 0xff, 0x77, 0x01, 0xc3, 0xc3, 0x66, 0x66, 0x2e,
            0x0f, 0x1f, 0x84, 0, 0, 0, 0, 0, 0x0f, 0x1f, 0x40, 0x00,
        ];
        let code = Code::new(&bytes, AT);
        let starts = starts(&code);
        let mut gaps = Gaps::new();
        add_gaps(&mut gaps, &code, &starts);
        let hop = hop(&code, AT + 7, &WAYS, &facts(&starts, &[]), &gaps).expect("a plan");
        let bytes = written(bytes.to_vec(), &hop);
        assert_eq!(walk(&bytes, AT, AT + 9), [Mnemonic::Mov, Mnemonic::Jmp, Mnemonic::Xor, Mnemonic::Call, Mnemonic::Jmp]);
        assert_eq!(hop.gaps[0].new_bytes()[..9], [0x31, 0xff, 0xff, 0x14, 0x25, 0x00, 0x00, 0x60, 0xff]);
    }

    #[test]
    fn nowhere_to_hop() {
        let code = Code::new(&READ, AT);
        let starts = starts(&code);
        let refused = |taken: Range<u64>| {
            let mut gaps = Gaps::new();
            add_gaps(&mut gaps, &code, &starts);
            hop(&code, AT + 0x0b, &WAYS, &facts(&starts, &[taken]), &gaps).err()
        };
        assert_eq!(refused(AT + 0x16..AT + 0x1f), Some(Refusal::NoRoom));
        assert_eq!(refused(AT + 0x0b..AT + 0x0d), Some(Refusal::Taken));
        let other = Facts { seen: Some(Seen { rax: 3, ..Seen::default() }), ..facts(&starts, &[]) };
        assert_eq!(hop(&code, AT + 0x0b, &WAYS, &other, &Gaps::new()).err(), Some(Refusal::OtherNumber));
    }
}
