//! A way beside its site: for sites that have no room for a call, or must not have one.
//!
//! gcc loads number 0 by two bytes (`xor eax, eax; syscall`), and there is no room for the seven of a call. But compilers
//! align code, and what fills up behind a return or a jump is never executed ([`crate::gaps`]). So the load becomes a
//! short jump into such a gap, where the call is, and a jump back behind the site:
//!
//! ```text
//! site:  jmp short gap   syscall   what follows          gap:  call [slot]   jmp back
//! ```
//!
//! If it is not the load that is next to the instruction, what is there makes room instead: it goes into the gap ahead of
//! a call that is for any number. The `syscall` instruction stays where it is, and so does all else but two bytes: whoever
//! is or comes anywhere there finds what he would have found. Where the gaps in reach are too small for a call, a small
//! one takes a jump to a larger one farther off.
//!
//! Where that cannot be, the call is one of a stub in the kernel's [`crate::annex`], or there is a way through a
//! [`crate::chain`] of gaps.

use core::ops::Range;

use iced_x86::Instruction;

use crate::annex;
use crate::chain;
use crate::code::Code;
use crate::facts::Facts;
use crate::filling::{Filling, SHORT, jump, near, short};
use crate::gaps::{self, Gaps, room};
use crate::moved::relocate;
use crate::patch::Form;
use crate::pattern::{Number, sets_number};
use crate::plan::{Site, Ways, examine, worse};
use crate::refusal::Refusal;
use crate::table::{call_by, displacement};

pub use crate::filling::{Hop, MOST_GAPS};

/// A site this near to its page's beginning may be reached from the page before.
pub const AHEAD: u64 = 32;

/// Plans a way beside the `syscall` instruction at `site`: by a call in a gap, of a stub for which `place` has room, or through
/// several gaps, else by the jump entry if there is one.
///
/// # Errors
/// The reason why the site has to stay a trap.
pub fn hop(code: &Code<'_>, site: u64, ways: &Ways, facts: &Facts<'_>, gaps: &Gaps, place: &mut annex::Place<'_>) -> Result<Hop, Refusal> {
    let site = examine(code, site, ways, facts)?;
    let mut gaps = gaps::left(gaps, facts.taken);
    gaps.retain(|gap| facts.may_write(gap.start, room(gap)));
    let jump = ways.table.jump().and_then(displacement);
    let call = if jump.is_some() && site.is_cancellation_point() { Err(Refusal::NoRoom) } else { site.call_in_a_gap(&gaps) };
    call.or_else(|refusal| {
        let shared = || chain::shared_call(&site, &gaps);
        let jump = || chain::jump_entry(&site, jump?, &gaps);
        annex::call(&site, place).or_else(shared).or_else(jump).ok_or(worse(refusal, Refusal::NoRoom))
    })
}

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
        bytes.try_extend_from_slice(&call_by(self.slot)).ok()?;
        jump(&mut bytes, at, back)?;
        (bytes.len() <= room).then_some(bytes)
    }
}

impl Site<'_, '_> {
    /// The plan for a call.
    fn call_in_a_gap(&self, gaps: &Gaps) -> Result<Hop, Refusal> {
        let nearest = *self.before.first().ok_or(Refusal::NotAligned)?;
        let body = self.body(&nearest)?;
        let made = |gaps: &[(u64, &Filling)]| {
            let rel = short(nearest.ip().checked_add(SHORT as u64)?, gaps.last()?.0)?;
            self.written(Form::Hop, gaps, (nearest.ip(), &[0xeb, rel]))
        };
        // From the site: behind its short jump.
        let from = nearest.ip().wrapping_add(SHORT as u64);
        let in_reach = || gaps.iter().filter(|g| short(from, g.start).is_some());
        let whole = |gap: &Range<u64>| body.at(&self.code, gap.start, room(gap), self.behind);
        if let Some(hop) = in_reach().find_map(|gap| made(&[(gap.start, &whole(gap)?)])) {
            return Ok(hop);
        }
        for (gap, far) in in_reach().flat_map(|gap| gaps.iter().filter(move |&f| f != gap).map(move |far| (gap, far))) {
            if let Some(there) = near(gap.start, far.start)
                && let Some(whole) = whole(far)
                && let Some(hop) = made(&[(far.start, &whole), (gap.start, &Filling::from_iter(there))])
            {
                return Ok(hop);
            }
        }
        Err(Refusal::NoRoom)
    }

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
        if nearest.len() < SHORT || !self.can_go(0) {
            return Err(Refusal::NoRoom);
        }
        self.may_push(None)?;
        Ok(Body { moved: Some(*nearest), slot: displacement(table.any()).ok_or(Refusal::NoRoom)? })
    }
}

#[cfg(test)]
mod tests {
    use iced_x86::Mnemonic;

    use super::*;
    use crate::facts::Seen;
    use crate::table::Table;
    use crate::trial::{AT, READ, facts, find, starts, walk, written};

    const WAYS: Ways = Ways { table: Table::X_CONTAINER, stubs: None };

    #[test]
    fn read_of_one_thread_hops_into_a_gap() {
        let code = Code::new(&READ, AT);
        let starts = starts(&code);
        let gaps = find(&code, &starts);
        let hop = hop(&code, AT + 0x0b, &WAYS, &facts(&starts, &[]), &gaps, &mut |_| None).expect("a plan");
        assert_eq!((hop.gaps.len(), hop.site.address(), hop.site.new_bytes()), (1, AT + 9, &[0xeb, 0x0b][..]));
        let bytes = written(READ.to_vec(), &hop);
        assert_eq!(walk(&bytes, AT + 9, AT + 0x0d), [Mnemonic::Jmp, Mnemonic::Call, Mnemonic::Jmp]);
        // All else is as it was, the instruction itself included.
        assert_eq!(walk(&bytes, AT + 0x0b, AT + 0x0d), [Mnemonic::Syscall]);
    }

    #[test]
    fn read_of_several_threads_hops_twice() {
        let mut bytes = READ.to_vec();
        // Out of a short jump's reach a return, and fifteen bytes until the next function.
        bytes.extend([0x50; 64]);
        bytes.extend([0xc3, 0x66, 0x66, 0x2e, 0x0f, 0x1f, 0x84, 0, 0, 0, 0, 0, 0x0f, 0x1f, 0x40, 0x00, 0xc3]);
        let code = Code::new(&bytes, AT);
        let starts = starts(&code);
        let gaps = find(&code, &starts);
        let first = [AT + 9..AT + 0x0d, AT + 0x16..AT + 0x1f];
        let hop = hop(&code, AT + 0x4a, &WAYS, &facts(&starts, &first), &gaps, &mut |_| None).expect("a plan");
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
        let gaps = find(&code, &starts);
        let hop = hop(&code, AT + 7, &WAYS, &facts(&starts, &[]), &gaps, &mut |_| None).expect("a plan");
        let bytes = written(bytes.to_vec(), &hop);
        assert_eq!(walk(&bytes, AT, AT + 9), [Mnemonic::Mov, Mnemonic::Jmp, Mnemonic::Xor, Mnemonic::Call, Mnemonic::Jmp]);
        assert_eq!(hop.gaps[0].new_bytes()[..9], [0x31, 0xff, 0xff, 0x14, 0x25, 0x00, 0x00, 0x60, 0xff]);
    }

    #[test]
    fn nowhere_to_hop() {
        let code = Code::new(&READ, AT);
        let starts = starts(&code);
        let refused = |taken: Range<u64>| {
            let gaps = find(&code, &starts);
            hop(&code, AT + 0x0b, &WAYS, &facts(&starts, &[taken]), &gaps, &mut |_| None).err()
        };
        assert_eq!(refused(AT + 0x16..AT + 0x1f), Some(Refusal::NoRoom));
        assert_eq!(refused(AT + 0x0b..AT + 0x0d), Some(Refusal::Taken));
        let other = Facts { seen: Some(Seen { rax: 3, ..Seen::default() }), ..facts(&starts, &[]) };
        assert_eq!(hop(&code, AT + 0x0b, &WAYS, &other, &Gaps::new(), &mut |_| None).err(), Some(Refusal::OtherNumber));
    }
}
