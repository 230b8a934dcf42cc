//! Ways through several gaps: for sites where no call can be, or that have no gap for one.
//!
//! By the jump entry, what is executed is `lea rcx, [behind the site]; jmp [slot]`, with the number in eax as the program
//! has put it. Nothing is pushed, so nothing about the stack has to be known, and nothing about the instructions before the
//! site either: the two bytes of `syscall` itself become a short jump. Both parts need fourteen bytes, more than most gaps
//! have; so each may be in a gap of its own:
//!
//! ```text
//! site:  jmp short a    a:  jmp b    b:  lea rcx, [behind the site]   jmp c    c:  jmp [slot]
//! ```
//!
//! Where there may be a call, it needs less: seven bytes for a jump to the table's slot for any number, which all sites of the
//! page share, and for each site five for a call there, which is next to a jump back:
//!
//! ```text
//! site:  jmp short a    a:  call b   jmp behind the site    b:  jmp [slot]
//! ```
//!
//! Where no gap is in reach of a short jump, an instruction of five bytes or more before the site becomes the jump. It, and
//! those between, are executed in gaps ahead of the rest; they, and the `syscall` instruction, stay where they are, for
//! whoever comes to them by another way.

use arrayvec::ArrayVec;
use iced_x86::Instruction;

use crate::filling::{Filling, Hop, MOST_GAPS, NEAR, SHORT, jump, near, short};
use crate::gaps::{Gaps, room};
use crate::moved::{distance, relocate};
use crate::patch::{Form, LONGEST_PATCH};
use crate::plan::Site;
use crate::table::{displacement, jump_by};

/// The most gaps of a chain: besides them there may be one to be shared.
const MOST_LINKS: usize = MOST_GAPS - 1;
/// The length of `lea rcx, [rip + rel32]`, and of `jmp [slot]`.
const LONG: usize = 7;
/// The most instructions before the site that are executed in gaps.
const MOST_MOVED: usize = 4;
/// So many gaps are looked at, over all ways to make a chain.
const LOOKS: u32 = 20_000;

/// The plan by the jump entry for a site, if there are gaps for one; the slot by its displacement.
pub fn jump_entry(site: &Site<'_, '_>, slot: [u8; 4], gaps: &Gaps) -> Option<Hop> {
    by(site, &Way::Jump(slot), gaps)
}

/// The plan by a call of a jump to the slot for any number, one of another site's or one of its own.
pub fn shared_call(site: &Site<'_, '_>, gaps: &Gaps) -> Option<Hop> {
    site.may_push(None).ok()?;
    if let Some(tail) = site.facts.tail {
        return by(site, &Way::Call(tail), gaps);
    }
    let jump = jump_by(displacement(site.ways.table.any())?);
    let own = gaps.iter().position(|gap| room(gap) >= LONG)?;
    let mut others = gaps.clone();
    let tail = others.remove(own).start;
    let mut hop = by(site, &Way::Call(tail), &others)?;
    hop.gaps.try_insert(0, site.in_gap(Form::Hop, tail, &jump)?).ok()?;
    Some(hop)
}

/// How the kernel is entered.
enum Way {
    /// By the jump entry, whose slot has this displacement.
    Jump([u8; 4]),
    /// By a call of a jump, and a jump back behind the site.
    Call(u64),
}

impl Way {
    /// The lengths of its parts.
    const fn parts(&self) -> &'static [usize] {
        match self {
            Self::Jump(_) => &[LONG, LONG],
            Self::Call(_) => &[NEAR],
        }
    }

    /// How long a jump at `at` back to `behind` is, if there is one at its end.
    fn back(&self, at: u64, behind: u64) -> usize {
        match self {
            Self::Jump(_) => 0,
            Self::Call(_) if short(at.saturating_add(SHORT as u64), behind).is_some() => SHORT,
            Self::Call(_) => NEAR,
        }
    }
}

/// The plan by one of the ways, from the site itself or from an instruction before it.
fn by(site: &Site<'_, '_>, way: &Way, gaps: &Gaps) -> Option<Hop> {
    let mut search = Search { gaps, way, behind: site.behind, looks: LOOKS };
    if !site.is_cancellation_point() {
        let from = site.at.checked_add(SHORT as u64)?;
        let links = search.find(Some(from), way.parts());
        if let Some(hop) = links.and_then(|links| Chain { moved: &[], way, links: &links }.written(site)) {
            return Some(hop);
        }
    }
    let mut parts: ArrayVec<usize, { MOST_MOVED + 2 }> = way.parts().iter().copied().collect();
    for (n, i) in site.before.iter().enumerate().take(MOST_MOVED).take_while(|(n, _)| site.can_go(*n)) {
        parts.insert(0, i.len());
        if i.len() >= NEAR
            && let Some(moved) = site.before.get(..=n)
            && let Some(links) = search.find(None, &parts)
            && let Some(hop) = (Chain { moved, way, links: &links }.written(site))
        {
            return Some(hop);
        }
    }
    None
}

/// One gap of a chain: where it is, and how many parts are in it.
#[derive(Clone, Copy, Debug)]
struct Link {
    at: u64,
    parts: usize,
}

type Links = ArrayVec<Link, MOST_LINKS>;

/// A search for gaps.
struct Search<'g> {
    gaps: &'g Gaps,
    way: &'g Way,
    /// The address behind the site.
    behind: u64,
    looks: u32,
}

impl Search<'_> {
    /// Gaps for parts of these lengths, as few as can be. From the site a short jump that ends at `from`, or a longer one.
    fn find(&mut self, from: Option<u64>, parts: &[usize]) -> Option<Links> {
        let largest = self.gaps.last().map_or(0, room);
        if parts.iter().any(|&length| length > largest) {
            return None;
        }
        let mut links = Links::new();
        (1..=MOST_LINKS).any(|most| self.extend(&mut links, from, parts, most)).then_some(links)
    }

    /// Adds up to `most` gaps, for the parts that are left.
    fn extend(&mut self, links: &mut Links, from: Option<u64>, parts: &[usize], most: usize) -> bool {
        let Some(most) = most.checked_sub(1) else { return false };
        for gap in self.gaps {
            let Some(looks) = self.looks.checked_sub(1) else { return false };
            self.looks = looks;
            let reached = from.is_none_or(|from| short(from, gap.start).is_some());
            if !reached || links.iter().any(|l| l.at == gap.start) {
                continue;
            }
            // A gap with nothing but a jump is for what a short one does not reach.
            for count in (usize::from(from.is_none())..=parts.len()).rev() {
                let Some((here, rest)) = parts.split_at_checked(count) else { continue };
                let length = here.iter().copied().fold(0, usize::saturating_add);
                let fits = |jump: usize| length.saturating_add(jump) <= room(gap).min(LONGEST_PATCH);
                let link = Link { at: gap.start, parts: count };
                if rest.is_empty() {
                    if fits(self.way.back(gap.start.saturating_add(length as u64), self.behind)) {
                        return links.try_push(link).is_ok();
                    }
                    continue;
                }
                let next = if fits(NEAR) { None } else { Some(gap.start.saturating_add(length.saturating_add(SHORT) as u64)) };
                if !fits(SHORT) || links.try_push(link).is_err() {
                    continue;
                }
                if self.extend(links, next, rest, most) {
                    return true;
                }
                links.pop();
            }
        }
        false
    }
}

/// A chain whose gaps are known.
struct Chain<'l> {
    /// What is executed in it, the nearest to the site first; the last one makes room for the jump to it. If there is
    /// none, the site does.
    moved: &'l [Instruction],
    way: &'l Way,
    links: &'l Links,
}

impl Chain<'_> {
    /// Its bytes.
    fn written(&self, site: &Site<'_, '_>) -> Option<Hop> {
        let mut fillings: ArrayVec<(u64, Filling), MOST_LINKS> = ArrayVec::new();
        let mut part = 0_usize;
        for (index, link) in (1_usize..).zip(self.links) {
            let mut bytes = Filling::new();
            for _ in 0..link.parts {
                self.part(site, part, link.at, &mut bytes)?;
                part = part.checked_add(1)?;
            }
            if let Some(next) = self.links.get(index) {
                jump(&mut bytes, link.at, next.at)?;
            } else if matches!(self.way, Way::Call(_)) {
                jump(&mut bytes, link.at, site.behind)?;
            }
            fillings.try_push((link.at, bytes)).ok()?;
        }
        let first = self.links.first()?.at;
        let mut there = Filling::new();
        let at = match self.moved.last() {
            None => {
                there.extend([0xeb, short(site.at.checked_add(SHORT as u64)?, first)?]);
                site.at
            }
            Some(moved) => {
                there.extend(near(moved.ip(), first)?);
                moved.ip()
            }
        };
        let gaps: ArrayVec<(u64, &Filling), MOST_LINKS> = fillings.iter().map(|(at, bytes)| (*at, bytes)).collect();
        let form = if matches!(self.way, Way::Jump(_)) { Form::HopJump } else { Form::Hop };
        site.written(form, &gaps, (at, &there))
    }

    /// Adds part `number` to the bytes of a gap at `at`.
    fn part(&self, site: &Site<'_, '_>, number: usize, at: u64, bytes: &mut Filling) -> Option<()> {
        let here = at.checked_add(bytes.len() as u64)?;
        if let Some(moved) = self.moved.iter().rev().nth(number) {
            return bytes.try_extend_from_slice(&relocate(&site.code, moved, here)?).ok();
        }
        match (self.way, number.checked_sub(self.moved.len())?) {
            (Way::Call(tail), _) => {
                let [a, b, c, d] = distance(here.checked_add(NEAR as u64)?, *tail)?;
                bytes.try_extend_from_slice(&[0xe8, a, b, c, d]).ok()
            }
            (Way::Jump(_), 0) => {
                bytes.try_extend_from_slice(&[0x48, 0x8d, 0x0d]).ok()?;
                bytes.try_extend_from_slice(&distance(here.checked_add(LONG as u64)?, site.behind)?).ok()
            }
            (Way::Jump(slot), _) => bytes.try_extend_from_slice(&jump_by(*slot)).ok(),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::vec;
    use std::vec::Vec;

    use iced_x86::Mnemonic as M;

    use super::*;
    use crate::code::Code;
    use crate::facts::{Facts, RedZone, Seen};
    use crate::hop::hop;
    use crate::plan::Ways;
    use crate::refusal::Refusal;
    use crate::table::Table;
    use crate::trial::{AT, facts, find, starts, walk, written};

    const WAYS: Ways = Ways { table: Table::X_CONTAINER, stubs: None };
    /// `lea rdi,[rsp-8]; mov eax,302; syscall; mov rax,[rsp-8]; cmp rax,-4096; ja +1; ret; ret`: a red zone.
    const LEAF: &[u8] = &[
        0x48, 0x8d, 0x7c, 0x24, 0xf8, 0xb8, 0x2e, 0x01, 0, 0, 0x0f, 0x05, 0x48, 0x8b, 0x44, 0x24, 0xf8, 0x48, 0x3d, 0x00, 0xf0, 0xff, 0xff,
        0x77, 0x01, 0xc3, 0xc3,
    ];
    const SITE: u64 = AT + 10;

    /// The function, gaps of these sizes with a return between, and behind `far` bytes others.
    fn code(sizes: &[usize], far: usize, more: &[usize]) -> Vec<u8> {
        let mut bytes = LEAF.to_vec();
        let gaps = |bytes: &mut Vec<u8>, sizes: &[usize]| {
            for &size in sizes {
                bytes.resize(bytes.len() + size, 0xcc);
                bytes.extend([0x31, 0xc0, 0xc3]);
            }
        };
        gaps(&mut bytes, sizes);
        bytes.extend(vec![0x50; far]);
        bytes.push(0xc3);
        gaps(&mut bytes, more);
        bytes
    }

    fn executed(bytes: &[u8], from: u64) -> Option<(Vec<M>, Hop)> {
        let code = Code::new(bytes, AT);
        let starts = starts(&code);
        let hop = hop(&code, SITE, &WAYS, &facts(&starts, &[]), &find(&code, &starts), &mut |_| None).ok()?;
        assert_eq!(hop.site.how().form, Form::HopJump);
        assert!(hop.site.is_caught() && hop.site.region().contains(&SITE));
        let bytes = written(bytes.to_vec(), &hop);
        assert!(Code::new(&bytes, AT).is_syscall(SITE) == (hop.site.new_bytes().len() > 2));
        Some((walk(&bytes, from, SITE + 2), hop))
    }

    #[test]
    fn one_gap_for_all() {
        let (seen, hop) = executed(&code(&[14], 0, &[]), SITE).expect("a plan");
        assert_eq!(seen, [M::Jmp, M::Lea, M::Jmp]);
        assert_eq!((hop.site.address(), hop.site.new_bytes()), (SITE, &[0xeb, 0x0f][..]));
        assert_eq!(hop.gaps[0].new_bytes()[7..], [0xff, 0x24, 0x25, 0xf8, 0x0f, 0x60, 0xff]);
    }

    #[test]
    fn several_gaps() {
        // By a short jump in nine bytes; by a longer one in twelve; ahead of both a jump only.
        assert_eq!(executed(&code(&[9, 7], 0, &[]), SITE).expect("a plan").0, [M::Jmp, M::Lea, M::Jmp, M::Jmp]);
        assert_eq!(executed(&code(&[12], 200, &[7]), SITE).expect("a plan").0, [M::Jmp, M::Lea, M::Jmp, M::Jmp]);
        assert_eq!(executed(&code(&[5], 200, &[14]), SITE).expect("a plan").0, [M::Jmp, M::Jmp, M::Lea, M::Jmp]);
        let (seen, hop) = executed(&code(&[5], 200, &[9, 7]), SITE).expect("a plan");
        assert_eq!((seen, hop.gaps.len()), (vec![M::Jmp, M::Jmp, M::Lea, M::Jmp, M::Jmp], 3));
    }

    #[test]
    fn no_gap_near() {
        let (seen, hop) = executed(&code(&[], 200, &[10, 12, 7]), SITE - 5).expect("a plan");
        assert_eq!(seen, [M::Jmp, M::Mov, M::Jmp, M::Lea, M::Jmp, M::Jmp]);
        assert_eq!((hop.site.address(), hop.site.new_bytes()[0], hop.site.region().end), (SITE - 5, 0xe9, SITE + 2));
    }

    #[test]
    fn more_than_one_instruction() {
        // xor edi,edi between the load and the site.
        let mut bytes = vec![0xb8, 0x2e, 0x01, 0, 0, 0x31, 0xff, 0x66, 0x31, 0xc9, 0x0f, 0x05];
        bytes.extend(&code(&[], 200, &[12, 14])[12..]);
        let (seen, hop) = executed(&bytes, AT).expect("a plan");
        assert_eq!(seen, [M::Jmp, M::Mov, M::Xor, M::Xor, M::Jmp, M::Lea, M::Jmp]);
        assert_eq!((hop.site.address(), hop.site.new_bytes().len()), (AT, 5));
    }

    #[test]
    fn too_little_room() {
        for (near, far) in [(&[6, 6, 6][..], &[6][..]), (&[9], &[]), (&[8, 8], &[]), (&[4], &[]), (&[], &[8, 8, 8])] {
            assert!(executed(&code(near, 200, far), SITE).is_none(), "{near:?} {far:?}");
        }
    }

    /// `mov eax,r8d; syscall; cmp rax,-4096; ja +1; ret; ret`: no room for a call, and no red zone.
    const PLAIN: &[u8] = &[0x44, 0x89, 0xc0, 0x0f, 0x05, 0x48, 0x3d, 0x00, 0xf0, 0xff, 0xff, 0x77, 0x01, 0xc3, 0xc3];

    #[test]
    fn a_jump_that_sites_share() {
        let mut bytes = PLAIN.to_vec();
        for size in [8, 7] {
            bytes.resize(bytes.len() + size, 0xcc);
            bytes.extend([0x31, 0xc0, 0xc3]);
        }
        let code = Code::new(&bytes, AT);
        let (starts, site) = (starts(&code), AT + 3);
        let (none, gaps) = (facts(&starts, &[]), find(&code, &starts));
        let with = |facts: &Facts<'_>| hop(&code, site, &WAYS, facts, &gaps, &mut |_| None);
        let first = with(&none).expect("a plan");
        let [tail, call] = first.gaps.as_slice() else { panic!("two gaps") };
        assert_eq!((tail.tail(&WAYS.table), call.tail(&WAYS.table)), (Some(AT + 26), None));
        assert_eq!((call.address(), call.new_bytes()[0], first.site.how().form), (AT + 15, 0xe8, Form::Hop));
        assert_eq!(walk(&written(bytes.clone(), &first), site, site + 2), [M::Jmp, M::Call, M::Jmp, M::Jmp]);
        // The next one needs but the other gap.
        let (taken, tail) = ([tail.region().clone()], Some(AT + 26));
        let second = with(&Facts { taken: &taken, tail, ..none }).expect("a plan");
        assert_eq!((second.gaps.len(), second.gaps[0].new_bytes()), (1, call.new_bytes()));
        assert!(with(&Facts { taken: &taken, ..none }).is_err());
        // All in one page, and in no other.
        assert_eq!(with(&Facts { page: Some(AT), ..none }).expect("a plan"), first);
        assert!(with(&Facts { page: Some(AT + 0x1000), ..none }).is_err());
        // Where there may be no call, there is not room enough.
        assert!(with(&Facts { red_zone: RedZone::Used, tail, ..none }).is_err());
    }

    #[test]
    fn what_is_left_of_a_gap_does() {
        let bytes = code(&[9, 15], 0, &[]);
        let code = Code::new(&bytes, AT);
        let starts = starts(&code);
        let second = AT + LEAF.len() as u64 + 12;
        let taken = [core::ops::Range { start: second, end: second + 8 }];
        let hop = hop(&code, SITE, &WAYS, &facts(&starts, &taken), &find(&code, &starts), &mut |_| None).expect("a plan");
        assert_eq!(hop.gaps[1].address(), second + 8);
        assert_eq!(walk(&written(bytes.clone(), &hop), SITE, SITE + 2), [M::Jmp, M::Lea, M::Jmp, M::Jmp]);
    }

    #[test]
    fn only_with_the_entry_and_without_flags() {
        let bytes = code(&[14], 0, &[]);
        let code = Code::new(&bytes, AT);
        let starts = starts(&code);
        let table = Table::new(Table::X_CONTAINER.any(), 510).expect("a table");
        let facts = facts(&starts, &[]);
        let refused = |ways: &Ways, facts: &Facts<'_>| hop(&code, SITE, ways, facts, &find(&code, &starts), &mut |_| None).err();
        assert_eq!(refused(&Ways { table, ..WAYS }, &Facts { seen: None, ..facts }), Some(Refusal::RedZoneLive));
        assert_eq!(refused(&WAYS, &Facts { seen: Some(Seen { rflags: 0x400, ..Seen::default() }), ..facts }), Some(Refusal::DirectionFlag));
        assert_eq!(refused(&WAYS, &facts), None);
    }
}
