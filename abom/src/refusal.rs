//! Why a site stays as it is: it traps, which is slow and always right.

use core::fmt;

/// A reason not to patch a site.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
#[non_exhaustive]
pub enum Refusal {
    /// There is no `syscall` instruction at the address, or not all of it is in the bytes given.
    NoSyscall,
    /// Where the instructions before the site begin cannot be told from the bytes, and what is behind it does not do.
    NotAligned,
    /// The code after the site reads arithmetic flags from before it: a call loses them.
    FlagsLive,
    /// Instructions after the site are not known well enough to say what they read.
    AfterUnknown,
    /// The bytes below the stack pointer are in use, or nothing proves that they are not, and no form spares them.
    RedZoneLive,
    /// The stack may be gone when the call returns, or be another thread's already: an exit, an unmapped stack.
    StackMayBeGone,
    /// No neighbour of the instruction can be moved to make room: branches, calls, operands that may fault.
    NoRoom,
    /// An instruction that would be overwritten may be jumped to, and nothing would catch that.
    Entered,
    /// A child would run the rest of the stub on another stack than the one it was left with.
    NewStack,
    /// The number that the code loads is not the number that was seen.
    OtherNumber,
    /// The direction flag was set: a call clears it.
    DirectionFlag,
    /// Another patch has taken the instruction.
    Taken,
}

impl Refusal {
    /// All of them, in the order of their numbers: for counters.
    pub const ALL: [Self; 12] = [
        Self::NoSyscall,
        Self::NotAligned,
        Self::FlagsLive,
        Self::AfterUnknown,
        Self::RedZoneLive,
        Self::StackMayBeGone,
        Self::NoRoom,
        Self::Entered,
        Self::NewStack,
        Self::OtherNumber,
        Self::DirectionFlag,
        Self::Taken,
    ];

    /// Its number in [`Self::ALL`].
    #[must_use]
    pub const fn index(self) -> usize {
        self as usize
    }

    /// Whether it holds for every form; the others are reasons against a call at the site.
    #[must_use]
    pub const fn is_final(self) -> bool {
        matches!(self, Self::NoSyscall | Self::FlagsLive | Self::AfterUnknown | Self::DirectionFlag | Self::Taken)
    }

    /// A short name, for counters and machine-readable output.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::NoSyscall => "no-syscall",
            Self::NotAligned => "not-aligned",
            Self::FlagsLive => "flags-live",
            Self::AfterUnknown => "after-unknown",
            Self::RedZoneLive => "red-zone-live",
            Self::StackMayBeGone => "stack-may-be-gone",
            Self::NoRoom => "no-room",
            Self::Entered => "entered",
            Self::NewStack => "new-stack",
            Self::OtherNumber => "other-number",
            Self::DirectionFlag => "direction-flag",
            Self::Taken => "taken",
        }
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::NoSyscall => "no syscall instruction is there",
            Self::NotAligned => "where the instructions before it begin is not certain",
            Self::FlagsLive => "flags from before it are read after it",
            Self::AfterUnknown => "what the code after it reads is not known",
            Self::RedZoneLive => "the red zone below the stack pointer may be in use",
            Self::StackMayBeGone => "the stack may be gone when it returns",
            Self::NoRoom => "no neighbouring instruction can be moved",
            Self::Entered => "an instruction that would be overwritten may be jumped to",
            Self::NewStack => "a child may start there with another stack",
            Self::OtherNumber => "the number loaded is not the number seen",
            Self::DirectionFlag => "the direction flag is set",
            Self::Taken => "another patch has taken it",
        })
    }
}

impl core::error::Error for Refusal {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_places_in_the_list() {
        for (i, refusal) in Refusal::ALL.iter().enumerate() {
            assert_eq!(refusal.index(), i);
            assert!(!refusal.name().is_empty());
        }
    }
}
