//! A piece of code beside a site: what had to make room for the jump to it, and the call.
//!
//! ```text
//! site:  [instructions before]  syscall  [instructions after]      the brackets: what the jump needs room for, if anything
//! stub:  [instructions before]  enter    [instructions after]  jmp behind them
//! ```
//!
//! If the instructions before are room enough, the `syscall` instruction stays where it is, behind the jump: who comes
//! to it by another way, or is restarted there, traps as ever, and the return address of the call is the address behind
//! it, as of a trap. How the kernel is entered:
//!
//! - by the jump entry: `lea rcx, [return address]; jmp [slot]`. No byte of the stack is touched and rcx is what the
//!   instruction would have made it.
//! - by a call: `lea rcx, [return address]; push rcx; jmp [slot]`, or `call [slot]` if the stub goes on behind it.
//! - by a call over the red zone: `lea rsp, [rsp - 128]; call [slot]; lea rsp, [rsp + 128]`. LEA keeps the flags.

use arrayvec::ArrayVec;
use iced_x86::Instruction;

use crate::code::{Code, faults};
use crate::moved::{self, distance};
use crate::patch::{Fixup, Form, How, Inner, Patch};
use crate::table::displacement;

/// The most instructions that are moved.
pub const MOST_MOVED: usize = 8;
/// The most bytes that a stub has.
pub const LONGEST_STUB: usize = 160;

/// A stub's bytes.
pub type StubBytes = ArrayVec<u8, LONGEST_STUB>;

/// How a site jumps to its stub.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Reach {
    /// `jmp rel32`, five bytes: the stub is within 2 GiB of the site.
    Near,
    /// `jmp [slot]`, seven bytes: a word that a displacement can name has the stub's address.
    Slot,
}

impl Reach {
    /// The bytes of the jump.
    #[must_use]
    pub const fn length(self) -> usize {
        match self {
            Self::Near => 5,
            Self::Slot => 7,
        }
    }
}

/// A patch that needs a stub; where that is has still to be decided.
#[derive(Clone, Debug)]
pub struct StubPlan<'a> {
    pub(crate) code: Code<'a>,
    /// Instructions before and behind the site that are moved, in order.
    pub(crate) before: ArrayVec<Instruction, MOST_MOVED>,
    pub(crate) after: ArrayVec<Instruction, MOST_MOVED>,
    pub(crate) site: u64,
    pub(crate) reach: Reach,
    /// The slot that is called, or jumped to.
    pub(crate) slot: u64,
    pub(crate) how: How,
    /// Whether a jump to an overwritten instruction must fault.
    pub(crate) caught: bool,
}

/// A stub and the patch that leads to it.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Placed {
    /// The stub's bytes.
    pub stub: StubBytes,
    /// The patch.
    pub patch: Patch,
}

impl StubPlan<'_> {
    /// Shape and form.
    #[must_use]
    pub const fn how(&self) -> How {
        self.how
    }

    /// Where the jump goes.
    #[must_use]
    pub fn address(&self) -> u64 {
        self.before.first().map_or(self.site, Instruction::ip)
    }

    /// The address behind the `syscall` instruction.
    fn behind(&self) -> u64 {
        self.site.wrapping_add(2)
    }

    /// Whether the `syscall` instruction stays.
    #[must_use]
    pub fn keeps_syscall(&self) -> bool {
        self.site.saturating_sub(self.address()) >= self.reach.length() as u64
    }

    /// The stub at `stub` and the patch that leads to it: by `slot`, which is to hold that address, if the plan is for
    /// [`Reach::Slot`]. None if it does not fit there; other places may do.
    #[must_use]
    pub fn place(&self, stub: u64, slot: Option<u64>) -> Option<Placed> {
        let address = self.address();
        let end = self.after.last().map_or(self.behind(), Instruction::next_ip);
        let mut writer = Writer { bytes: StubBytes::new(), start: stub };
        let mut inner = Inner::new();
        self.move_all(&self.before, &mut writer, &mut inner)?;
        // Who comes to the site makes the call of the stub, which does not know the number then: see `Site::number`.
        self.note(self.site, Fixup::At(writer.at()), &mut inner)?;
        self.enter(&mut writer)?;
        if !self.keeps_syscall() {
            self.move_all(&self.after, &mut writer, &mut inner)?;
            writer.put(&[0xe9])?;
            writer.put_distance(end)?;
        }
        let jump = self.jump(address, stub, slot)?;
        let patch = Patch::new(address, self.code.bytes(address, jump.len())?, &jump, inner, end, self.how)?;
        (!self.caught || patch.is_caught()).then_some(Placed { stub: writer.bytes, patch })
    }

    /// The first address from `from` on, with the stub's end no further than `to`, where the plan can be placed.
    #[must_use]
    pub fn first_fit(&self, from: u64, to: u64) -> Option<(u64, Placed)> {
        let mut stub = from;
        loop {
            if stub.checked_add(LONGEST_STUB as u64)? > to {
                return None;
            }
            if let Some(placed) = self.place(stub, None) {
                return Some((stub, placed));
            }
            if !self.caught {
                return None;
            }
            // On to the next value of the highest byte of the distance that does not do.
            let end = self.address().checked_add(5)?;
            let bytes = distance(end, stub)?;
            let bad =
                self.inner_offsets().filter_map(|at| at.checked_sub(1)).filter(|&k| bytes.get(k).is_some_and(|&b| !faults(b))).max()?;
            let step = 1_u64.checked_shl(u32::try_from(bad).ok()?.checked_mul(8)?)?;
            let distance = stub.wrapping_sub(end);
            stub = end.wrapping_add((distance | step.wrapping_sub(1)).wrapping_add(1));
            if stub < from {
                return None;
            }
        }
    }

    /// Where original instructions begin inside the jump: offsets from its first byte.
    pub(crate) fn inner_offsets(&self) -> impl Iterator<Item = usize> + '_ {
        let start = self.address();
        let len = self.reach.length();
        let all = self.before.iter().map(Instruction::ip).chain([self.site]).chain(self.after.iter().map(Instruction::ip));
        all.filter_map(move |at| usize::try_from(at.checked_sub(start)?).ok()).filter(move |&at| at > 0 && at < len)
    }

    fn move_all(&self, all: &[Instruction], writer: &mut Writer, inner: &mut Inner) -> Option<()> {
        for i in all {
            self.note(i.ip(), Fixup::At(writer.at()), inner)?;
            let bytes = moved::relocate(&self.code, i, writer.at())?;
            writer.put(&bytes)?;
        }
        Some(())
    }

    /// Notes what an instruction at `at` has become, if it is inside the jump.
    fn note(&self, at: u64, fixup: Fixup, inner: &mut Inner) -> Option<()> {
        let offset = at.checked_sub(self.address())?;
        if offset > 0 && offset < self.reach.length() as u64 {
            inner.try_push((u8::try_from(offset).ok()?, fixup)).ok()?;
        }
        Some(())
    }

    /// The call.
    fn enter(&self, writer: &mut Writer) -> Option<()> {
        let slot = displacement(self.slot)?;
        let keeps = self.keeps_syscall();
        match self.how.form {
            Form::StubCall if !keeps => {
                writer.put(&[0xff, 0x14, 0x25])?;
                writer.put(&slot)
            }
            Form::StubJump | Form::StubCall => {
                let push: &[u8] = if self.how.form == Form::StubCall { &[0x51] } else { &[] };
                // The return address: behind the site, or behind the jump that is still to come.
                let jump_end = writer.at().checked_add(7 + 7)?.checked_add(push.len() as u64)?;
                let back = if keeps { self.behind() } else { jump_end };
                writer.put(&[0x48, 0x8d, 0x0d])?;
                writer.put_distance(back)?;
                writer.put(push)?;
                writer.put(&[0xff, 0x24, 0x25])?;
                writer.put(&slot)
            }
            Form::StubSkip => {
                writer.put(&[0x48, 0x8d, 0x64, 0x24, 0x80])?;
                writer.put(&[0xff, 0x14, 0x25])?;
                writer.put(&slot)?;
                writer.put(&[0x48, 0x8d, 0xa4, 0x24, 0x80, 0, 0, 0])?;
                if keeps {
                    writer.put(&[0xe9])?;
                    writer.put_distance(self.behind())?;
                }
                Some(())
            }
            Form::Call | Form::Hop | Form::HopJump | Form::Annex => None,
        }
    }

    fn jump(&self, address: u64, stub: u64, slot: Option<u64>) -> Option<ArrayVec<u8, 7>> {
        let mut jump = ArrayVec::new();
        match self.reach {
            Reach::Near => {
                jump.push(0xe9);
                jump.extend(distance(address.checked_add(5)?, stub)?);
            }
            Reach::Slot => {
                jump.extend([0xff, 0x24, 0x25]);
                jump.extend(displacement(slot?)?);
            }
        }
        Some(jump)
    }
}

/// Bytes that are written one after the other.
struct Writer {
    bytes: StubBytes,
    start: u64,
}

impl Writer {
    /// The address of the next byte.
    fn at(&self) -> u64 {
        self.start.wrapping_add(self.bytes.len() as u64)
    }

    fn put(&mut self, bytes: &[u8]) -> Option<()> {
        self.bytes.try_extend_from_slice(bytes).ok()
    }

    /// The distance from behind the four bytes that it takes.
    fn put_distance(&mut self, to: u64) -> Option<()> {
        let distance = distance(self.at().checked_add(4)?, to)?;
        self.put(&distance)
    }
}
