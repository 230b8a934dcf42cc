//! What is known of a site besides the bytes around it.

use core::ops::Range;

const PAGE: u64 = 4096;

/// What is known of the code around a site.
#[derive(Clone, Copy, Debug)]
pub struct Facts<'a> {
    /// Where instructions begin, in order, from the beginning of a function as far as the site at least; none if only the bytes
    /// are known.
    pub starts: Option<&'a [u64]>,
    /// Who may jump to an instruction that would be overwritten.
    pub inside: Inside<'a>,
    /// What the function does below its stack pointer.
    pub red_zone: RedZone,
    /// What other patches have taken ([`crate::Patch::region`]). The bytes given are those from before.
    pub taken: &'a [Range<u64>],
    /// Where another patch of the page has a jump to the slot for any number ([`crate::Patch::tail`]): it can be called.
    pub tail: Option<u64>,
    /// The page that all of a patch must be in, if it must be in one: pages are patched by themselves.
    pub page: Option<u64>,
    /// What was seen when the site made a system call by the instruction.
    pub seen: Option<Seen>,
}

impl<'a> Facts<'a> {
    /// In the X-Kernel: bytes, the registers of one system call, and the patches around.
    #[must_use]
    pub const fn trapped(seen: Seen, taken: &'a [Range<u64>]) -> Self {
        Self { starts: None, inside: Inside::Caught, red_zone: RedZone::Unknown, taken, tail: None, page: None, seen: Some(seen) }
    }

    /// Whether `len` bytes at `at` may be written.
    #[must_use]
    pub fn may_write(&self, at: u64, len: usize) -> bool {
        let last = at.saturating_add(len.saturating_sub(1) as u64);
        self.page.is_none_or(|page| [at, last].iter().all(|at| at ^ page < PAGE))
    }

    /// Whether any of the bytes from `start` to `end` is another patch's.
    #[must_use]
    pub fn is_taken(&self, start: u64, end: u64) -> bool {
        self.taken.iter().any(|t| t.start < end && start < t.end)
    }
}

/// What happens to a thread that is, or comes, at an instruction that was overwritten and is not the first.
#[derive(Clone, Copy, Debug)]
pub enum Inside<'a> {
    /// The X-Kernel catches the fault of an invalid opcode and goes by [`crate::Patch::fixup`]. Threads may be anywhere.
    Caught,
    /// Nobody catches anything, no thread runs, and nothing is jumped to but these addresses, in order.
    Entered(&'a [u64]),
    /// Nobody catches anything, and anything may be jumped to.
    Unknown,
}

/// What is known of the bytes below a function's stack pointer.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum RedZone {
    /// Nothing.
    Unknown,
    /// The function has no data there, at the site.
    Unused,
    /// It may have.
    Used,
}

/// Registers of a system call that was made by the instruction.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Seen {
    /// The number, as it was in rax.
    pub rax: u64,
    /// The stack pointer.
    pub rsp: u64,
    /// The arguments: rdi, rsi, rdx, r10, r8, r9.
    pub arguments: [u64; 6],
    /// The flags.
    pub rflags: u64,
}

/// The direction flag.
const DF: u64 = 1 << 10;

/// How far below the stack pointer a leaf function may have data.
pub const RED_ZONE: u64 = 128;

impl Seen {
    /// Whether an argument points below the stack pointer. All six registers are looked at, however many this system call
    /// takes: an address in the red zone is kept for something.
    #[must_use]
    pub fn points_below_stack(&self) -> bool {
        let lowest = self.rsp.saturating_sub(RED_ZONE);
        self.arguments.iter().any(|a| (lowest..self.rsp).contains(a))
    }

    /// Whether the direction flag is set.
    #[must_use]
    pub const fn backwards(&self) -> bool {
        self.rflags & DF != 0
    }
}
