//! What is written for a site that others than itself have room for: in gaps of the code, and at the site.

use arrayvec::ArrayVec;

use crate::effect::{self, Flow};
use crate::moved::distance;
use crate::patch::{Form, How, Inner, LONGEST_PATCH, Patch};
use crate::pattern::Pattern;
use crate::plan::Site;

/// The length of `jmp rel8`.
pub(crate) const SHORT: usize = 2;
/// The length of `jmp rel32`.
pub(crate) const NEAR: usize = 5;
/// The most gaps that a site uses.
pub const MOST_GAPS: usize = 5;

/// What has to be written for a site: first what is in gaps, then the jump to it.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Hop {
    /// In gaps, in this order.
    pub gaps: ArrayVec<Patch, MOST_GAPS>,
    /// At the site.
    pub site: Patch,
}

/// Bytes for a gap, or for a site.
pub(crate) type Filling = ArrayVec<u8, LONGEST_PATCH>;

/// `jmp rel8`'s distance, from the address behind it.
pub(crate) fn short(from: u64, to: u64) -> Option<u8> {
    i8::try_from(to.wrapping_sub(from).cast_signed()).ok().map(i8::cast_unsigned)
}

/// Adds a jump to bytes that are at `at`: the shorter one if that goes so far.
pub(crate) fn jump(bytes: &mut Filling, at: u64, to: u64) -> Option<()> {
    let end = at.checked_add(bytes.len() as u64)?;
    match short(end.checked_add(SHORT as u64)?, to) {
        Some(rel) => bytes.try_extend_from_slice(&[0xeb, rel]).ok(),
        None => bytes.try_extend_from_slice(&near(end, to)?).ok(),
    }
}

/// `jmp rel32` at `at`.
pub(crate) fn near(at: u64, to: u64) -> Option<[u8; NEAR]> {
    let [a, b, c, d] = distance(at.checked_add(NEAR as u64)?, to)?;
    Some([0xe9, a, b, c, d])
}

impl Site<'_, '_> {
    /// Whether a signal's handler may compare the program counter with the site: those of musl, and of glibc from 2.41 on,
    /// look whether the thread is ahead of the end of the `syscall` instruction. So that has to stay: what restarts the
    /// system call goes back to it.
    pub(crate) fn is_cancellation_point(&self) -> bool {
        let store = self.at.checked_sub(5).and_then(|at| self.code.bytes(at, 5));
        // Whether it is certain or not: `mov [rsp + d], r64`.
        matches!(store, Some([0x48 | 0x4c, 0x89, modrm, 0x24, _]) if modrm & 0xc7 == 0x44)
    }

    /// Whether instruction `n` before the site can be executed elsewhere, and go on there.
    pub(crate) fn can_go(&self, n: usize) -> bool {
        let goes_on = |i| effect::of(i).is_some_and(|e| e.flow == Flow::Next);
        self.before.get(n).is_some_and(goes_on) && self.is_movable(n)
    }

    /// A patch that has taken what is before `end`.
    fn patch(&self, form: Form, at: u64, bytes: &[u8], end: u64) -> Option<Patch> {
        let how = How { pattern: Pattern::of(&self.before), form };
        Patch::new(at, self.code.bytes(at, bytes.len())?, bytes, Inner::new(), end, how).filter(|patch| self.may_write(patch))
    }

    /// A patch of a gap.
    pub(crate) fn in_gap(&self, form: Form, at: u64, bytes: &[u8]) -> Option<Patch> {
        self.patch(form, at, bytes, at.checked_add(bytes.len() as u64)?)
    }

    /// The patches: of gaps, in the order in which they are to be written, and of the site.
    pub(crate) fn written(&self, form: Form, gaps: &[(u64, &Filling)], site: (u64, &[u8])) -> Option<Hop> {
        let mut all = ArrayVec::new();
        for (at, bytes) in gaps {
            all.try_push(self.in_gap(form, *at, bytes)?).ok()?;
        }
        Some(Hop { gaps: all, site: self.patch(form, site.0, site.1, self.behind)? })
    }
}
