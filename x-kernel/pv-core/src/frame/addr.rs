//! Numbers of frames and domains. No arithmetic but the checked kind.

/// Bits of a frame number: 52-bit physical addresses.
const FRAME_BITS: u32 = 40;
/// Bits of an offset in a frame.
const FRAME_SHIFT: u32 = 12;

/// Machine frame number: what the MMU walks, and what page-table entries hold.
#[derive(Clone, Copy, Debug, Eq, PartialEq, Ord, PartialOrd, Hash)]
#[repr(transparent)]
pub struct Mfn(u64);

/// Pseudo-physical frame number: a guest's own dense numbering.
#[derive(Clone, Copy, Debug, Eq, PartialEq, Ord, PartialOrd, Hash)]
#[repr(transparent)]
pub struct Pfn(u64);

/// Machine address.
#[derive(Clone, Copy, Debug, Eq, PartialEq, Ord, PartialOrd, Hash)]
#[repr(transparent)]
pub struct Maddr(u64);

/// Number of a domain.
#[derive(Clone, Copy, Debug, Eq, PartialEq, Ord, PartialOrd, Hash)]
#[repr(transparent)]
pub struct DomId(u16);

impl Mfn {
    /// The frame number `n`, if an entry can hold it.
    pub const fn new(n: u64) -> Option<Self> {
        if n >> FRAME_BITS == 0 { Some(Self(n)) } else { None }
    }

    /// The number.
    pub const fn raw(self) -> u64 {
        self.0
    }

    /// The address of its first byte.
    pub const fn maddr(self) -> Maddr {
        Maddr(self.0 << FRAME_SHIFT)
    }

    /// The frame `n` further on.
    pub fn checked_add(self, n: u64) -> Option<Self> {
        Self::new(self.0.checked_add(n)?)
    }
}

impl Pfn {
    /// The frame number `n`, if it is not absurd.
    pub const fn new(n: u64) -> Option<Self> {
        if n >> FRAME_BITS == 0 { Some(Self(n)) } else { None }
    }

    /// The number.
    pub const fn raw(self) -> u64 {
        self.0
    }
}

impl Maddr {
    /// The address.
    pub const fn raw(self) -> u64 {
        self.0
    }
}

impl DomId {
    /// The caller itself.
    pub const SELF: Self = Self(0x7ff0);
    /// Owner of memory-mapped devices.
    pub const IO: Self = Self(0x7ff1);
    /// Owner of the hypervisor's frames.
    pub const XEN: Self = Self(0x7ff2);

    /// The domain numbered `n`.
    pub const fn new(n: u16) -> Self {
        Self(n)
    }

    /// The number.
    pub const fn raw(self) -> u16 {
        self.0
    }
}
