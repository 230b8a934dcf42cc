//! Bits of an entry, and the decision whether a guest may have it (SDM vol. 3, 4.5).

use crate::frame::{FrameError, Level, Mfn};

/// Bits of an entry.
pub mod bits {
    #![expect(missing_docs, reason = "the names are the manual's")]
    pub const PRESENT: u64 = 1 << 0;
    pub const WRITE: u64 = 1 << 1;
    pub const USER: u64 = 1 << 2;
    pub const WRITE_THROUGH: u64 = 1 << 3;
    pub const CACHE_DISABLE: u64 = 1 << 4;
    pub const ACCESSED: u64 = 1 << 5;
    pub const DIRTY: u64 = 1 << 6;
    /// A large page at levels 2 and 3; the PAT bit at level 1; reserved at level 4.
    pub const LARGE: u64 = 1 << 7;
    pub const GLOBAL: u64 = 1 << 8;
    /// The frame number.
    pub const FRAME: u64 = 0x000f_ffff_ffff_f000;
    /// Ours, in a bit that the CPU ignores: the guest meant a page of its kernel.
    pub const GUEST_KERNEL: u64 = 1 << 52;
}

/// Index of an entry: below 512 by construction.
#[derive(Clone, Copy, Debug, Eq, PartialEq, Ord, PartialOrd)]
pub struct Slot(u16);

impl Slot {
    /// Entries of a table.
    pub const COUNT: u16 = 512;
    /// Entries that are read together where a whole table is gone through: between two of these there may be a pause.
    pub const BATCH: u16 = 64;

    /// The entry numbered `n`.
    pub const fn new(n: u16) -> Option<Self> {
        if n < Self::COUNT { Some(Self(n)) } else { None }
    }

    /// The entry of `va` in a table of `level`.
    pub const fn of(va: u64, level: Level) -> Self {
        let shift = match level {
            Level::L1 => 12,
            Level::L2 => 21,
            Level::L3 => 30,
            Level::L4 => 39,
        };
        Self(((va >> shift) & 511) as u16)
    }

    /// Every entry, in order.
    pub fn all() -> impl Iterator<Item = Self> {
        (0..Self::COUNT).map(Self)
    }

    /// The entries that are read together with this one, in order.
    pub fn batch(self) -> impl DoubleEndedIterator<Item = Self> + ExactSizeIterator {
        let first = self.0 & !const { Self::BATCH - 1 };
        (first..first.saturating_add(Self::BATCH)).map(Self)
    }

    /// Those of them whose bit of `occupied` is set, with what is in `entries`.
    pub const fn occupied(self, entries: &[u64; Self::BATCH as usize], occupied: u64) -> Occupied<'_> {
        Occupied { first: self.0 & !const { Self::BATCH - 1 }, entries, left: occupied }
    }

    /// Its number.
    pub const fn number(self) -> u16 {
        self.0
    }

    /// Its number, for byte offsets.
    pub const fn index(self) -> usize {
        self.0 as usize
    }

    /// Whether it is one of the X-Kernel's own in an L4 table (xen-x86_64.h: HYPERVISOR_VIRT_START to _END).
    pub const fn is_hypervisor(self) -> bool {
        matches!(self.0, 256..=271)
    }
}

/// Entries of a batch that are not empty, in order.
#[derive(Clone, Debug)]
pub struct Occupied<'e> {
    first: u16,
    entries: &'e [u64; Slot::BATCH as usize],
    /// A bit for each that is still to come.
    left: u64,
}

impl Occupied<'_> {
    /// Entry `number` of the batch, which has come.
    fn come(&mut self, number: u32) -> Option<(Slot, u64)> {
        let entry = *self.entries.get(number as usize)?;
        self.left &= !1_u64.unbounded_shl(number);
        Some((Slot(self.first | u16::try_from(number).ok()?), entry))
    }
}

impl Iterator for Occupied<'_> {
    type Item = (Slot, u64);

    fn next(&mut self) -> Option<Self::Item> {
        self.come(self.left.trailing_zeros())
    }
}

impl DoubleEndedIterator for Occupied<'_> {
    fn next_back(&mut self) -> Option<Self::Item> {
        self.come(63_u32.checked_sub(self.left.leading_zeros())?)
    }
}

/// The frame that an entry points to, whether it is present or not.
pub const fn target(entry: u64) -> Option<Mfn> {
    Mfn::new((entry & bits::FRAME) >> 12)
}

/// An entry that a guest may have, as far as its bits tell.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Checked {
    /// Not present: the CPU ignores all else, and so do the counts.
    Absent(u64),
    /// Present: what to write, and what it points to.
    Present { entry: u64, to: Mfn },
}

/// Whether the pages of a guest's kernel outlive a load of CR3 in the TLB.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum KernelPages {
    /// No page does: kernel and processes have page tables of their own.
    #[default]
    Local,
    /// They do, and those of processes do not: all are in one page table, whose lower half changes with the process.
    Global,
}

/// Decides about an alleged entry of a table of `level`. Looks at its bits only.
///
/// Every page of a PV guest is a user page to the CPU: its kernel runs in ring 3, and the mark that it was meant for the
/// kernel is ours. Which pages are global is not the guest's choice: `kernel` says. Cache attributes other than write-back are taken out: the memory is RAM, and
/// what we read of it must be what the guest wrote (XSA-402).
///
/// # Errors
/// [`FrameError::BadEntry`] for a large page (XSA-148), or a bit that is reserved at this level.
pub(super) fn check(level: Level, alleged: u64, kernel: KernelPages) -> Result<Checked, FrameError> {
    use bits::{CACHE_DISABLE, GLOBAL, GUEST_KERNEL, LARGE, PRESENT, USER, WRITE_THROUGH};
    if alleged & PRESENT == 0 {
        return Ok(Checked::Absent(alleged));
    }
    let to = target(alleged).ok_or(FrameError::BadEntry(alleged))?;
    let plain = alleged & !(GLOBAL | WRITE_THROUGH | CACHE_DISABLE);
    let entry = match level {
        Level::L1 => {
            let cached = plain & !LARGE;
            let entry = if cached & USER == 0 { cached | USER | GUEST_KERNEL } else { cached };
            if kernel == KernelPages::Global && entry & GUEST_KERNEL != 0 { entry | GLOBAL } else { entry }
        }
        Level::L2 | Level::L3 | Level::L4 => {
            if plain & LARGE != 0 {
                return Err(FrameError::BadEntry(alleged));
            }
            plain | USER
        }
    };
    Ok(Checked::Present { entry, to })
}

#[cfg(test)]
mod tests {
    use super::*;

    const LEVELS: [Level; 4] = [Level::L1, Level::L2, Level::L3, Level::L4];

    /// Every combination of the flag bits, at every level.
    #[test]
    fn entries_that_are_not_empty_come_in_order() {
        let mut entries = [0; Slot::BATCH as usize];
        let slot = Slot::new(130).expect("a slot");
        assert_eq!(slot.occupied(&entries, 0).next(), None);
        (entries[0], entries[3], entries[63]) = (7, 8, 9);
        let occupied = || slot.occupied(&entries, 1 | 1 << 3 | 1 << 63).map(|(slot, entry)| (slot.number(), entry));
        assert!(occupied().eq([(128, 7), (131, 8), (191, 9)]));
        assert!(occupied().rev().eq([(191, 9), (131, 8), (128, 7)]));
    }

    #[test]
    fn global_is_what_a_kernel_has_and_a_guest_has_no_say() {
        for (level, low) in LEVELS.into_iter().flat_map(|level| (0..0x1000u64).map(move |low| (level, low))) {
            for alleged in [0x5000 | low, 0x5000 | low | bits::GUEST_KERNEL] {
                let global = |kernel| match check(level, alleged, kernel) {
                    Ok(Checked::Present { entry, .. }) => Some(entry & bits::GLOBAL != 0),
                    _ => None,
                };
                assert_ne!(global(KernelPages::Local), Some(true), "{level:?} {alleged:#x}");
                let kernels = level == Level::L1 && (alleged & bits::USER == 0 || alleged & bits::GUEST_KERNEL != 0);
                if let Some(global) = global(KernelPages::Global) {
                    assert_eq!(global, kernels, "{level:?} {alleged:#x}");
                }
            }
        }
    }

    /// What was decided once stays: a guest reads an entry, changes a bit, and writes it back.
    #[test]
    fn a_checked_entry_is_checked_as_itself() {
        for kernel in [KernelPages::Local, KernelPages::Global] {
            for (level, low) in LEVELS.into_iter().flat_map(|level| (0..0x1000u64).map(move |low| (level, low))) {
                if let Ok(Checked::Present { entry, to }) = check(level, 0x5000 | low, kernel) {
                    assert_eq!(check(level, entry, kernel), Ok(Checked::Present { entry, to }));
                }
            }
        }
    }
}
