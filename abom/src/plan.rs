//! From the bytes around a site to a patch, or the reason that there is none.
//!
//! What a call loses decides what a plan may be:
//!
//! - **Flags.** Every entry loses the arithmetic flags; a site whose flags are read later stays a trap.
//! - **The red zone.** `call` writes eight bytes below the stack pointer. Where the function has, or may have, data
//!   there, the plan is a stub: by the jump entry if the kernel has one, else over the red zone.
//! - **The stack.** A thread that ends, or has unmapped the stack that it is on, has none that a call could use.
//! - **The place to go on at.** A child that starts on another stack must not run the part of a stub that moves the
//!   stack pointer back.
//!
//! And what the bytes are decides where the room is taken: see [`crate::stub`].

use arrayvec::ArrayVec;
use iced_x86::Instruction;

use crate::after::{self, After, Ask, Fate};
use crate::before::{self, Before};
use crate::code::{Code, Reader, SYSCALL};
use crate::effect::{self, Flow, Stack, falls_through};
use crate::facts::{Facts, Inside, RedZone};
use crate::moved;
use crate::patch::{Fixup, Form, How, Inner, Patch};
use crate::pattern::{Number, Pattern, sets_number};
use crate::refusal::Refusal;
use crate::stub::{MOST_MOVED, Reach, StubPlan};
use crate::table::{Table, displacement};

/// `exit`: ends a thread, whose stack may be another's already.
const EXIT: u32 = 60;
/// Calls after which a stack may be gone that was there before: `mprotect`, `munmap`, `mremap`.
const UNMAP: [u32; 3] = [10, 11, 25];
/// Calls that come back with another stack pointer, or twice: `rt_sigreturn`, `clone`, `fork`, `vfork`, `clone3`.
const OTHER_STACK: [u32; 5] = [15, 56, 57, 58, 435];

/// How a site may be changed.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Ways {
    /// The kernel's table.
    pub table: Table,
    /// How stubs are reached, if there can be any.
    pub stubs: Option<Reach>,
}

/// What to do about a site.
#[derive(Clone, Debug)]
#[expect(clippy::large_enum_variant, reason = "one is made for each site, on the stack, and there is no heap to put it on")]
pub enum Plan<'a> {
    /// A call at the site itself.
    Call(Patch),
    /// A jump to a stub that has still to be placed.
    Stub(StubPlan<'a>),
}

impl Plan<'_> {
    /// Shape and form.
    #[must_use]
    pub const fn how(&self) -> How {
        match self {
            Self::Call(patch) => patch.how(),
            Self::Stub(stub) => stub.how(),
        }
    }
}

/// Plans what to do about the `syscall` instruction at `site`. `code` should have some 64 bytes on each side of it.
///
/// # Errors
/// The reason why the site has to stay a trap.
pub fn plan<'a>(code: &Code<'a>, site: u64, ways: &Ways, facts: &Facts<'_>) -> Result<Plan<'a>, Refusal> {
    let site = examine(code, site, ways, facts)?;
    let refused = match site.call() {
        Ok(patch) => return Ok(Plan::Call(patch)),
        Err(refused) if ways.stubs.is_none() => return Err(refused),
        Err(refused) => refused,
    };
    // The stub's reason is the last word, but where there is no room for one.
    site.stub().map_err(|refusal| match (refusal, refused) {
        (Refusal::NoRoom, Refusal::RedZoneLive | Refusal::StackMayBeGone) => refused,
        _ => refusal,
    })
}

/// Plans a call at the site itself: [`plan`] where there can be no stubs.
///
/// # Errors
/// The reason why the site has to stay a trap.
pub fn call(code: &Code<'_>, site: u64, table: Table, facts: &Facts<'_>) -> Result<Patch, Refusal> {
    examine(code, site, &Ways { table, stubs: None }, facts)?.call()
}

/// Looks at the site and what is around it.
///
/// # Errors
/// The reason why it has to stay a trap, whatever form is wanted.
pub(crate) fn examine<'a, 'w>(code: &Code<'a>, site: u64, ways: &'w Ways, facts: &'w Facts<'w>) -> Result<Site<'a, 'w>, Refusal> {
    let behind = behind(code, site, facts)?;
    let mut reader = Reader::new(*code);
    let before = before::instructions(&mut reader, site, facts);
    // Only a call needs to know more than what becomes of the flags, where stubs can use the jump entry.
    let callable = matches!(before.first().and_then(sets_number), Some(Number::Is(_)));
    let stub_jump = ways.stubs.is_some() && ways.table.jump().is_some();
    let after = after::scan_by(&mut reader, behind, if stub_jump && !callable { Ask::Flags } else { Ask::All });
    flags_lost(&after)?;
    Ok(Site { code: *code, at: site, behind, before, after, ways, facts })
}

/// The address behind the `syscall` instruction at `site`, if that may be changed.
fn behind(code: &Code<'_>, site: u64, facts: &Facts<'_>) -> Result<u64, Refusal> {
    if !code.is_syscall(site) {
        return Err(Refusal::NoSyscall);
    }
    let behind = site.checked_add(SYSCALL.len() as u64).ok_or(Refusal::NoSyscall)?;
    if facts.is_taken(site, behind) {
        return Err(Refusal::Taken);
    }
    if facts.seen.is_some_and(|s| s.backwards()) {
        return Err(Refusal::DirectionFlag);
    }
    Ok(behind)
}

/// Whether the flags may be lost.
const fn flags_lost(after: &After) -> Result<(), Refusal> {
    match after.flags {
        Fate::Dead => Ok(()),
        Fate::Unknown => Err(Refusal::AfterUnknown),
        Fate::Read => Err(Refusal::FlagsLive),
    }
}

/// A site and what has been found out about it.
pub(crate) struct Site<'a, 'w> {
    pub(crate) code: Code<'a>,
    pub(crate) at: u64,
    pub(crate) behind: u64,
    pub(crate) before: Before,
    after: After,
    pub(crate) ways: &'w Ways,
    pub(crate) facts: &'w Facts<'w>,
}

impl<'a> Site<'a, '_> {
    /// A call at the site.
    fn call(&self) -> Result<Patch, Refusal> {
        let nearest = self.before.first().ok_or(Refusal::NotAligned)?;
        let Some(Number::Is(nr)) = sets_number(nearest) else { return Err(Refusal::NoRoom) };
        if self.facts.seen.is_some_and(|s| s.rax != u64::from(nr)) {
            return Err(Refusal::OtherNumber);
        }
        // Nine bytes are one instruction too, with prefixes that change nothing: CS, REX.W.
        let prefix: &[u8] = match nearest.len() {
            5 => &[],
            7 => &[0x2e, 0x48],
            _ => return Err(Refusal::NoRoom),
        };
        self.may_push(Some(nr))?;
        let mut new: ArrayVec<u8, 9> = ArrayVec::new();
        new.extend(prefix.iter().copied());
        new.extend([0xff, 0x14, 0x25]);
        new.extend(displacement(self.ways.table.slot(nr).unwrap_or(self.ways.table.any())).ok_or(Refusal::NoRoom)?);
        if self.ways.table.slot(nr).is_none() {
            // A number without a slot: nothing would load it.
            return Err(Refusal::NoRoom);
        }
        let mut inner = Inner::new();
        inner.push((u8::try_from(nearest.len()).unwrap_or(0), Fixup::Syscall { next: self.behind }));
        let how = How { pattern: Pattern::of(&self.before), form: Form::Call };
        let old = self.code.bytes(nearest.ip(), new.len()).ok_or(Refusal::NoSyscall)?;
        let patch = Patch::new(nearest.ip(), old, &new, inner, self.behind, how).filter(|p| self.may_write(p)).ok_or(Refusal::NoRoom)?;
        let safe = match self.facts.inside {
            Inside::Caught => patch.is_caught(),
            Inside::Entered(list) => list.binary_search(&self.at).is_err(),
            Inside::Unknown => false,
        };
        if safe { Ok(patch) } else { Err(Refusal::Entered) }
    }

    /// Whether the patch is where patches may be.
    pub(crate) fn may_write(&self, patch: &Patch) -> bool {
        self.facts.may_write(patch.address(), patch.old().len())
    }

    /// Whether eight bytes may be written below the stack pointer before and after system call `nr`.
    pub(crate) fn may_push(&self, nr: Option<u32>) -> Result<(), Refusal> {
        self.has_stack(nr)?;
        let unused = match self.facts.red_zone {
            RedZone::Unused => true,
            RedZone::Used => false,
            RedZone::Unknown => {
                let touched = self.before.iter().any(effect::below_stack);
                !self.before.is_empty() && !touched && self.after.below == Fate::Dead
            }
        };
        if unused && !self.facts.seen.is_some_and(|s| s.points_below_stack()) { Ok(()) } else { Err(Refusal::RedZoneLive) }
    }

    /// Whether there is a stack to push to, before and after system call `nr`.
    fn has_stack(&self, nr: Option<u32>) -> Result<(), Refusal> {
        let certain = match nr {
            Some(EXIT) => self.has_used_stack(),
            Some(nr) if !UNMAP.contains(&nr) => true,
            _ => self.after.stack,
        };
        if certain { Ok(()) } else { Err(Refusal::StackMayBeGone) }
    }

    /// The plan for a stub: by the first room that does.
    fn stub(&self) -> Result<Plan<'a>, Refusal> {
        let reach = self.ways.stubs.ok_or(Refusal::NoRoom)?;
        let mut refusal = Refusal::NoRoom;
        // Instructions before the site alone leave it where it is. Instructions after it need no reading backwards.
        let most = self.before.len().min(4);
        let alone = (1..=most).map(|n| (n, false));
        for (count, more) in alone.chain((0..=most).map(|n| (n, true))) {
            match self.room(reach, count, more) {
                Ok(plan) => return Ok(Plan::Stub(plan)),
                Err(r) => refusal = worse(refusal, r),
            }
        }
        if refusal == Refusal::NoRoom && self.before.is_empty() {
            refusal = Refusal::NotAligned;
        }
        Err(refusal)
    }

    /// The plan with `count` instructions from before the site and, if `more`, as many from behind as are needed.
    fn room(&self, reach: Reach, count: usize, more: bool) -> Result<StubPlan<'a>, Refusal> {
        if !(0..count).all(|n| self.is_movable(n)) {
            return Err(Refusal::NoRoom);
        }
        let before: ArrayVec<Instruction, MOST_MOVED> = self.before.iter().take(count).rev().copied().collect();
        let ahead = before.iter().map(Instruction::len).fold(0, usize::saturating_add);
        if more == (ahead >= reach.length()) {
            return Err(Refusal::NoRoom);
        }
        let after = if more { self.behind(reach.length().saturating_sub(ahead).saturating_sub(SYSCALL.len()))? } else { ArrayVec::new() };
        let nr = self.number(before.len(), reach);
        if let (Some(nr), Some(seen)) = (nr, self.facts.seen)
            && seen.rax != u64::from(nr)
        {
            return Err(Refusal::OtherNumber);
        }
        let (form, slot) = self.form(nr)?;
        let how = How { pattern: Pattern::of(&self.before), form };
        let caught = matches!(self.facts.inside, Inside::Caught);
        let plan = StubPlan { code: self.code, before, after, site: self.at, reach, slot, how, caught };
        // One byte has no fault to offer: where a jump of seven has its own opcode.
        let lost = |at: usize| reach == Reach::Slot && at < 3;
        let entered = plan.inner_offsets().any(|at| match self.facts.inside {
            Inside::Caught => lost(at),
            Inside::Entered(list) => list.binary_search(&plan.address().wrapping_add(at as u64)).is_ok(),
            Inside::Unknown => true,
        });
        if entered { Err(Refusal::Entered) } else { Ok(plan) }
    }

    /// Whether instruction `n` before the site can be executed elsewhere.
    pub(crate) fn is_movable(&self, n: usize) -> bool {
        let here = self.before.get(n..).and_then(<[Instruction]>::split_first);
        here.is_some_and(|(i, earlier)| moved::movable(i, earlier))
    }

    /// Instructions behind the site, `len` bytes at least.
    fn behind(&self, len: usize) -> Result<ArrayVec<Instruction, MOST_MOVED>, Refusal> {
        let mut list: ArrayVec<Instruction, MOST_MOVED> = ArrayVec::new();
        let (mut at, mut have) = (self.behind, 0_usize);
        while have < len {
            let i = self.code.instruction(at).ok_or(Refusal::NoRoom)?;
            // Behind a return or a jump nothing but padding is taken: what else is there is jumped to.
            let reached = list.last().is_none_or(falls_through) || is_padding(&i);
            let known = self.facts.starts.is_none_or(|s| s.binary_search(&at).is_ok()) || is_padding(&i);
            if !reached || !known || !moved::movable(&i, &[]) || self.facts.is_taken(at, i.next_ip()) {
                return Err(Refusal::NoRoom);
            }
            list.try_push(i).map_err(|_| Refusal::NoRoom)?;
            have = have.saturating_add(i.len());
            at = i.next_ip();
        }
        Ok(list)
    }

    /// The number, if it is certain: loaded by one of the `moved` instructions, or by one before them, and nothing can
    /// come in behind that.
    fn number(&self, moved: usize, reach: Reach) -> Option<u32> {
        let start = moved.checked_sub(1).and_then(|n| self.before.get(n)).map_or(self.at, Instruction::ip);
        let jump_end = start.saturating_add(reach.length() as u64);
        let mut at = self.at;
        for (count, i) in (0_usize..).zip(&self.before) {
            // Who comes to an overwritten instruction is sent to where it has moved; behind the jump it is as it was.
            let entered = if count < moved { matches!(self.facts.inside, Inside::Caught) && at < jump_end } else { true };
            if entered && !self.is_only_passed(at) {
                return None;
            }
            match sets_number(i) {
                Some(Number::Is(nr)) => return Some(nr),
                Some(_) => return None,
                None => at = i.ip(),
            }
        }
        None
    }

    /// Whether an instruction is known to be reached from the one before it only.
    fn is_only_passed(&self, at: u64) -> bool {
        matches!(self.facts.inside, Inside::Entered(list) if list.binary_search(&at).is_err())
    }

    /// Whether the thread has just used the stack, and has only changed registers since.
    fn has_used_stack(&self) -> bool {
        let mut at = self.at;
        for i in &self.before {
            let Some(effect) = effect::of(i).filter(|_| self.is_only_passed(at)) else { return false };
            let uses = matches!(effect.stack, Stack::Push(_) | Stack::Pop(_)) || effect.flow == Flow::Call;
            if uses || effect.flow != Flow::Next || effect.stack != Stack::Kept || effect::has_memory(i) {
                return uses;
            }
            at = i.ip();
        }
        false
    }

    /// The way into the kernel, and the slot.
    fn form(&self, nr: Option<u32>) -> Result<(Form, u64), Refusal> {
        let table = &self.ways.table;
        if let Some(slot) = table.jump() {
            return Ok((Form::StubJump, slot));
        }
        let slot = nr.and_then(|nr| table.slot(nr)).unwrap_or(table.any());
        match self.may_push(nr) {
            Ok(()) => Ok((Form::StubCall, slot)),
            Err(Refusal::RedZoneLive) => match nr {
                Some(nr) if !OTHER_STACK.contains(&nr) => Ok((Form::StubSkip, slot)),
                _ => Err(Refusal::NewStack),
            },
            Err(other) => Err(other),
        }
    }
}

/// Whether the instruction is what compilers fill gaps with.
fn is_padding(i: &Instruction) -> bool {
    use iced_x86::Mnemonic;
    matches!(i.mnemonic(), Mnemonic::Nop | Mnemonic::Int3)
}

/// Of two reasons the one that says more.
pub(crate) fn worse(a: Refusal, b: Refusal) -> Refusal {
    if a == Refusal::NoRoom { b } else { a }
}
