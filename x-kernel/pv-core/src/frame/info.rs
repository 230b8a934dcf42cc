//! The record of a frame.
//!
//! The type word holds, from the top: kind (4 bits), PINNED, VALIDATED, PARTIAL, PENDING, and the type count (32 bits).
//! Invariants, by the count:
//! - above 0: the frame is in use as its kind. VALIDATED is set, except while the one who took the first count is
//!   still checking the content.
//! - 0 with PARTIAL: a page table of which the entries below `progress` hold counts and the others do not. It
//!   was stopped on the way up (validation) or is on the way down; PENDING says that it is on its domain's list ([`Mm`]) for
//!   the latter. It cannot become anything else before it has been undone, and holds a reference to itself.
//! - 0 otherwise: the kind is what it was last, which says what stale translations may still be used for.
//!
//! [`Mm`]: super::Mm

#[cfg(not(all(test, loom)))]
use core::sync::atomic::{AtomicU32, AtomicU64, Ordering};
#[cfg(all(test, loom))]
use loom::sync::atomic::{AtomicU32, AtomicU64, Ordering};

use super::{DomId, FrameError};

/// What a frame is in use as.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[repr(u8)]
pub enum FrameKind {
    /// Nothing yet.
    None = 0,
    /// Page table of level 1.
    L1 = 1,
    /// Page table of level 2.
    L2 = 2,
    /// Page table of level 3.
    L3 = 3,
    /// Page table of level 4.
    L4 = 4,
    /// Segment descriptors.
    SegDesc = 5,
    /// Writable memory.
    Writable = 6,
}

/// Level of a page table.
#[derive(Clone, Copy, Debug, Eq, PartialEq, Ord, PartialOrd)]
#[repr(u8)]
#[expect(missing_docs, reason = "the names are the manual's")]
pub enum Level {
    L1 = 1,
    L2 = 2,
    L3 = 3,
    L4 = 4,
}

impl Level {
    /// The frame kind of a table of this level.
    pub const fn kind(self) -> FrameKind {
        match self {
            Self::L1 => FrameKind::L1,
            Self::L2 => FrameKind::L2,
            Self::L3 => FrameKind::L3,
            Self::L4 => FrameKind::L4,
        }
    }

    /// The level that entries of this one point to; None for level 1, whose entries point to data.
    pub const fn below(self) -> Option<Self> {
        match self {
            Self::L1 => None,
            Self::L2 => Some(Self::L1),
            Self::L3 => Some(Self::L2),
            Self::L4 => Some(Self::L3),
        }
    }
}

impl FrameKind {
    /// The level, if it is a page table.
    pub const fn level(self) -> Option<Level> {
        match self {
            Self::L1 => Some(Level::L1),
            Self::L2 => Some(Level::L2),
            Self::L3 => Some(Level::L3),
            Self::L4 => Some(Level::L4),
            Self::None | Self::SegDesc | Self::Writable => None,
        }
    }

    const fn from_bits(bits: u64) -> Self {
        match bits {
            1 => Self::L1,
            2 => Self::L2,
            3 => Self::L3,
            4 => Self::L4,
            5 => Self::SegDesc,
            6 => Self::Writable,
            _ => Self::None,
        }
    }
}

const KIND_SHIFT: u32 = 60;
const PINNED: u64 = 1 << 59;
const VALIDATED: u64 = 1 << 58;
const PARTIAL: u64 = 1 << 57;
const PENDING: u64 = 1 << 56;
const COUNT: u64 = 0xffff_ffff;
/// Counts stop here, far below the field's end, so that no number of guests can make one wrap.
const MOST: u64 = 1 << 30;
/// Bit of `owner` that says that a domain owns the frame.
const OWNED: u32 = 1 << 16;

/// A decoded type word.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) struct TypeWord(u64);

impl TypeWord {
    pub(super) const fn fresh(kind: FrameKind) -> Self {
        Self(((kind as u64) << KIND_SHIFT) | 1)
    }

    pub(super) const fn kind(self) -> FrameKind {
        FrameKind::from_bits(self.0 >> KIND_SHIFT)
    }

    pub(super) const fn count(self) -> u64 {
        self.0 & COUNT
    }

    pub(super) const fn validated(self) -> bool {
        self.0 & VALIDATED != 0
    }

    pub(super) const fn partial(self) -> bool {
        self.0 & PARTIAL != 0
    }

    pub(super) const fn pending(self) -> bool {
        self.0 & PENDING != 0
    }

    /// One count more.
    pub(super) fn plus(self) -> Option<Self> {
        (self.count() < MOST).then(|| Self(self.0.wrapping_add(1)))
    }

    /// One count less.
    pub(super) fn minus(self) -> Option<Self> {
        (self.count() > 0).then(|| Self(self.0.wrapping_sub(1)))
    }

    pub(super) const fn with_validated(self) -> Self {
        Self((self.0 | VALIDATED) & !PARTIAL)
    }

    /// Count 0, entries held up to `progress`.
    pub(super) const fn parked(kind: FrameKind, pending: bool) -> Self {
        Self(((kind as u64) << KIND_SHIFT) | PARTIAL | if pending { PENDING } else { 0 })
    }

    /// Count 0, nothing held.
    pub(super) const fn idle(kind: FrameKind) -> Self {
        Self((kind as u64) << KIND_SHIFT)
    }
}

/// The record of a frame: 32 bytes, atomics only.
#[derive(Debug)]
#[repr(C)]
pub struct FrameInfo {
    word: AtomicU64,
    refs: AtomicU64,
    owner: AtomicU32,
    progress: AtomicU32,
    /// Next frame of a pending list, plus one.
    next: AtomicU64,
}

#[cfg(not(all(test, loom)))]
const _: () = assert!(size_of::<FrameInfo>() == 32);

/// Loom's atomics are made at run time.
macro_rules! maker {
    ($($const:tt)?) => {
        impl FrameInfo {
            /// The record of a frame that nobody owns.
            pub $($const)? fn new() -> Self {
                Self {
                    word: AtomicU64::new(0),
                    refs: AtomicU64::new(0),
                    owner: AtomicU32::new(0),
                    progress: AtomicU32::new(0),
                    next: AtomicU64::new(0),
                }
            }
        }
    };
}

#[cfg(not(all(test, loom)))]
maker!(const);
#[cfg(all(test, loom))]
maker!();

impl FrameInfo {
    /// The domain that owns it.
    pub fn owner(&self) -> Option<DomId> {
        let owner = self.owner.load(Ordering::Acquire);
        (owner & OWNED != 0).then(|| DomId::new((owner & 0xffff) as u16))
    }

    pub(super) fn set_owner(&self, owner: Option<DomId>) {
        self.owner.store(owner.map_or(0, |d| u32::from(d.raw()) | OWNED), Ordering::Release);
    }

    /// What it is in use as, or was last.
    pub fn kind(&self) -> FrameKind {
        self.load().kind()
    }

    /// How often its type is in use.
    pub fn type_count(&self) -> u64 {
        self.load().count()
    }

    /// Whether it is a page table whose content has been checked.
    pub fn is_table(&self) -> bool {
        let word = self.load();
        word.count() > 0 && word.validated() && word.kind().level().is_some()
    }

    /// Whether it was left half checked.
    pub fn is_partial(&self) -> bool {
        self.load().partial()
    }

    /// How many references there are, that of its allocation included.
    pub fn refs(&self) -> u64 {
        self.refs.load(Ordering::Acquire)
    }

    /// Whether it is pinned.
    pub fn pinned(&self) -> bool {
        self.word.load(Ordering::Acquire) & PINNED != 0
    }

    /// Sets the pin; whether it was set.
    pub(super) fn set_pinned(&self) -> bool {
        self.word.fetch_or(PINNED, Ordering::AcqRel) & PINNED != 0
    }

    /// Clears the pin; whether it was set.
    pub(super) fn clear_pinned(&self) -> bool {
        self.word.fetch_and(!PINNED, Ordering::AcqRel) & PINNED != 0
    }

    /// The type word without the pin.
    pub(super) fn load(&self) -> TypeWord {
        TypeWord(self.word.load(Ordering::Acquire) & !PINNED)
    }

    /// Replaces the type word if it is `old`; the pin stays as it is.
    pub(super) fn replace(&self, old: TypeWord, new: TypeWord) -> bool {
        let pin = self.word.load(Ordering::Acquire) & PINNED;
        self.word.compare_exchange(old.0 | pin, new.0 | pin, Ordering::AcqRel, Ordering::Acquire).is_ok()
    }

    /// Sets the type word. For states that nobody else can leave: the first count while it is not VALIDATED, or PARTIAL.
    pub(super) fn store(&self, new: TypeWord) {
        let pin = self.word.load(Ordering::Acquire) & PINNED;
        self.word.store(new.0 | pin, Ordering::Release);
    }

    /// Forgets everything but the references.
    pub(super) fn reset(&self) {
        self.word.store(0, Ordering::Release);
        self.progress.store(0, Ordering::Relaxed);
    }

    /// How many entries hold counts, while PARTIAL.
    pub(super) fn progress(&self) -> u16 {
        (self.progress.load(Ordering::Relaxed) & 0x3ff) as u16
    }

    /// How many entries, from the first on, hold counts of what they point to: for those who count again.
    pub fn held_entries(&self) -> u16 {
        let word = self.load();
        match word.kind().level() {
            Some(_) if word.partial() => self.progress(),
            Some(_) if word.count() > 0 && word.validated() => 512,
            _ => 0,
        }
    }

    pub(super) fn set_progress(&self, slots: u16) {
        self.progress.store(u32::from(slots), Ordering::Relaxed);
    }

    pub(super) fn next(&self) -> u64 {
        self.next.load(Ordering::Relaxed)
    }

    pub(super) fn set_next(&self, next: u64) {
        self.next.store(next, Ordering::Relaxed);
    }

    /// One reference more, unless there is none: a frame without any is free, and stays so (XSA-287).
    pub(super) fn add_ref(&self) -> Result<(), FrameError> {
        let add = |n: u64| if n == 0 || n >= MOST { None } else { n.checked_add(1) };
        match self.refs.fetch_update(Ordering::AcqRel, Ordering::Acquire, add) {
            Ok(_) => Ok(()),
            Err(0) => Err(FrameError::NotOwner),
            Err(_) => Err(FrameError::Busy),
        }
    }

    /// One reference less; whether it was the last.
    pub(super) fn sub_ref(&self) -> bool {
        let sub = |n: u64| n.checked_sub(1);
        let before = self.refs.fetch_update(Ordering::AcqRel, Ordering::Acquire, sub);
        debug_assert!(before.is_ok(), "a reference dropped that was not held");
        before == Ok(1)
    }

    /// From `old` references to `new`, if there are `old`.
    pub(super) fn swap_refs(&self, old: u64, new: u64) -> bool {
        self.refs.compare_exchange(old, new, Ordering::AcqRel, Ordering::Acquire).is_ok()
    }
}

impl Default for FrameInfo {
    fn default() -> Self {
        Self::new()
    }
}
