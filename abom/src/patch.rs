//! A change of bytes that makes a system call a function call, and what becomes of a thread that is in between them.

use core::fmt;
use core::ops::Range;

use arrayvec::ArrayVec;

use crate::code::faults;
use crate::pattern::Pattern;
use crate::table::{Table, displacement, jump_by};

/// The most bytes that a patch changes.
pub const LONGEST_PATCH: usize = 24;
/// The most instructions of the original code that begin inside a patch.
const MOST_INNER: usize = 8;

/// How the kernel is reached.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub enum Form {
    /// `call [slot]` at the site.
    Call,
    /// A jump to a stub that jumps to the entry made for that: nothing of the stack is used.
    StubJump,
    /// A jump to a stub that calls: the eight bytes below the stack pointer are used.
    StubCall,
    /// A jump to a stub that moves the stack pointer over the red zone and calls.
    StubSkip,
    /// A short jump into a gap of the code, where the call is ([`crate::hop`]).
    Hop,
    /// A jump into gaps of the code that lead to the jump entry: nothing of the stack is used.
    HopJump,
    /// A call of a stub in memory of the kernel's ([`crate::annex`]).
    Annex,
}

impl Form {
    /// A short name.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Call => "call",
            Self::StubJump => "stub-jump",
            Self::StubCall => "stub-call",
            Self::StubSkip => "stub-skip",
            Self::Hop => "hop",
            Self::HopJump => "hop-jump",
            Self::Annex => "annex",
        }
    }
}

/// Shape and form of a patch: for counters and reports.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct How {
    /// What the site looked like.
    pub pattern: Pattern,
    /// How it reaches the kernel.
    pub form: Form,
}

impl fmt::Display for How {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.pattern.name(), self.form.name())
    }
}

/// What to do with a thread that has faulted at an overwritten instruction.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Fixup {
    /// It is at the `syscall` instruction: make the system call as for a trap, and let the thread go on at `next`, the
    /// address behind it. A restart that steps back by two bytes comes here again.
    Syscall {
        /// The address of the instruction behind it.
        next: u64,
    },
    /// It is at an instruction that is in the stub now, or at the site that the stub stands for: let it go on at this
    /// address.
    At(u64),
}

/// Instructions of the original code that begin inside the patch, and what each has become.
pub type Inner = ArrayVec<(u8, Fixup), MOST_INNER>;

/// What to write where, and over what.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Patch {
    address: u64,
    old: ArrayVec<u8, LONGEST_PATCH>,
    new: ArrayVec<u8, LONGEST_PATCH>,
    inner: Inner,
    region: Range<u64>,
    how: How,
}

impl Patch {
    /// None if the lengths differ or the bytes are too many.
    pub(crate) fn new(address: u64, old: &[u8], new: &[u8], inner: Inner, end: u64, how: How) -> Option<Self> {
        if old.len() != new.len() {
            return None;
        }
        Some(Self { address, old: ArrayVec::try_from(old).ok()?, new: ArrayVec::try_from(new).ok()?, inner, region: address..end, how })
    }

    /// The address of the first byte.
    #[must_use]
    pub const fn address(&self) -> u64 {
        self.address
    }

    /// The instructions that are overwritten or have moved, the site among them: no other patch may have any of them.
    #[must_use]
    pub const fn region(&self) -> &Range<u64> {
        &self.region
    }

    /// The bytes that must be there before.
    #[must_use]
    pub fn old(&self) -> &[u8] {
        &self.old
    }

    /// The bytes that are there afterwards.
    #[must_use]
    pub fn new_bytes(&self) -> &[u8] {
        &self.new
    }

    /// Its address, if it is nothing but a jump to the table's slot for any number, in a gap: other sites can call it.
    #[must_use]
    pub fn tail(&self, table: &Table) -> Option<u64> {
        (*self.new == jump_by(displacement(table.any())?)).then_some(self.address)
    }

    /// Shape and form.
    #[must_use]
    pub const fn how(&self) -> How {
        self.how
    }

    /// Where the original code has instructions inside the patch: offsets from the address.
    pub fn inner(&self) -> impl Iterator<Item = usize> + '_ {
        self.inner.iter().map(|&(offset, _)| usize::from(offset))
    }

    /// Whether each of those has become an invalid opcode, so that a thread that is or comes there faults.
    #[must_use]
    pub fn is_caught(&self) -> bool {
        self.inner().all(|offset| self.new.get(offset).is_some_and(|&b| faults(b)))
    }

    /// What to do with a thread that has met an invalid opcode at `rip`. None: the fault has nothing to do with the patch.
    ///
    /// At the address itself it has met the one that is there while the patch is written: it tries again.
    #[must_use]
    pub fn fixup(&self, rip: u64) -> Option<Fixup> {
        let offset = rip.checked_sub(self.address)?;
        if offset == 0 {
            return Some(Fixup::At(self.address));
        }
        self.inner.iter().find(|(inner, _)| u64::from(*inner) == offset).map(|&(_, fixup)| fixup)
    }
}
