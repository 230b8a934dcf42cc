//! The only door from a frame number to memory.
//!
//! A [`FrameWindow`] gives volatile and atomic access to one frame through the direct map and never a reference: a
//! guest, another vCPU or a page walker may be using the same bytes. It opens only on frames that no Rust reference
//! can point into: RAM that is neither the X-Kernel's image, tables, heap nor scratch space (see
//! [`super::frame_alloc::is_windowed`]). Answers to Xen's `map_domain_page`.

// UNSAFETY: turns frame numbers into pointers; every other module goes through here.
#![expect(unsafe_code, reason = "frame numbers become pointers here and nowhere else")]

use core::sync::atomic::{AtomicU8, AtomicU16, AtomicU32, AtomicU64, Ordering};

use pv_core::frame::Mfn;

use super::{frame_alloc, hyp_pt, layout};

/// Bytes in a frame.
const SIZE: usize = layout::to_usize(layout::FRAME_SIZE);

/// Access to the bytes of one frame. It holds nothing: whoever opens it must hold whatever count or lock keeps
/// the frame what it is.
#[derive(Clone, Copy, Debug)]
pub struct FrameWindow {
    base: usize,
}

/// Access to words of one size by single volatile or atomic operations: `operation name` for each that is used.
macro_rules! word_access {
    ($ty:ty, $atomic:ty: $($operation:ident $name:ident),*) => {
        $(word_access!(@$operation $ty, $atomic, $name);)*
    };
    (@read $ty:ty, $atomic:ty, $name:ident) => {
        #[doc = concat!("Reads the aligned `", stringify!($ty), "` at byte `offset`.")]
        pub fn $name(&self, offset: usize) -> $ty {
            self.with::<$atomic, _>(offset, |word| word.load(Ordering::Acquire)).unwrap_or(0)
        }
    };
    (@write $ty:ty, $atomic:ty, $name:ident) => {
        #[doc = concat!("Writes the aligned `", stringify!($ty), "` at byte `offset`.")]
        pub fn $name(&self, offset: usize, value: $ty) {
            self.with::<$atomic, _>(offset, |word| word.store(value, Ordering::Release));
        }
    };
    (@swap $ty:ty, $atomic:ty, $name:ident) => {
        #[doc = concat!("Exchanges the aligned `", stringify!($ty), "` at byte `offset` and returns the old value.")]
        pub fn $name(&self, offset: usize, value: $ty) -> $ty {
            self.with::<$atomic, _>(offset, |word| word.swap(value, Ordering::AcqRel)).unwrap_or(0)
        }
    };
    (@cmpxchg $ty:ty, $atomic:ty, $name:ident) => {
        #[doc = concat!("Replaces the aligned `", stringify!($ty), "` at byte `offset` if it still is `old`; `Err` holds what it was instead.")]
        pub fn $name(&self, offset: usize, old: $ty, new: $ty) -> Result<$ty, $ty> {
            self.with::<$atomic, _>(offset, |word| word.compare_exchange(old, new, Ordering::AcqRel, Ordering::Acquire))
                .unwrap_or(Err(!old))
        }
    };
    (@fetch_or $ty:ty, $atomic:ty, $name:ident) => {
        #[doc = concat!("Sets the bits `bits` of the aligned `", stringify!($ty), "` at byte `offset` and returns the old value.")]
        pub fn $name(&self, offset: usize, bits: $ty) -> $ty {
            self.with::<$atomic, _>(offset, |word| word.fetch_or(bits, Ordering::AcqRel)).unwrap_or(0)
        }
    };
    (@fetch_and $ty:ty, $atomic:ty, $name:ident) => {
        #[doc = concat!("Keeps only the bits `bits` of the aligned `", stringify!($ty), "` at byte `offset` and returns the old value.")]
        pub fn $name(&self, offset: usize, bits: $ty) -> $ty {
            self.with::<$atomic, _>(offset, |word| word.fetch_and(bits, Ordering::AcqRel)).unwrap_or(0)
        }
    };
}

/// The atomic types, for [`FrameWindow::with`]. Sealed by being private.
trait AtomicWord {
    /// An atomic at `at`.
    ///
    /// # Safety
    /// `at` must be aligned, valid for the lifetime chosen, and accessed by nothing but atomic operations of Rust
    /// code meanwhile.
    unsafe fn at<'a>(at: usize) -> &'a Self;
}

macro_rules! atomic_words {
    ($($atomic:ty),*) => { $(
        impl AtomicWord for $atomic {
            unsafe fn at<'a>(at: usize) -> &'a Self {
                let pointer = core::ptr::with_exposed_provenance_mut(at);
                // SAFETY: the caller's obligation is the same.
                unsafe { <$atomic>::from_ptr(pointer) }
            }
        }
    )* };
}

atomic_words!(AtomicU8, AtomicU16, AtomicU32, AtomicU64);

/// Words that are read together, by the eight.
type Words = [[AtomicU64; 8]; 8];

impl AtomicWord for Words {
    unsafe fn at<'a>(at: usize) -> &'a Self {
        let pointer: *const Self = core::ptr::with_exposed_provenance(at);
        // SAFETY: the caller's obligation is the same, and the array is nothing but its atomics.
        unsafe { &*pointer }
    }
}

impl FrameWindow {
    /// Opens a window on `mfn`, unless it is not RAM or is memory that the X-Kernel has references into.
    pub fn new(mfn: Mfn) -> Option<Self> {
        if !frame_alloc::is_windowed(mfn) {
            return None;
        }
        Some(Self { base: layout::to_usize(hyp_pt::direct_map_va(mfn)) })
    }

    /// Runs `action` on the atomic at `offset`; None if it does not lie in the frame, aligned. That would be the
    /// caller's bug, and must not become more than that: debug builds say so, release builds do nothing.
    fn with<A: AtomicWord, R>(&self, offset: usize, action: impl FnOnce(&A) -> R) -> Option<R> {
        let fits = offset.checked_add(size_of::<A>()).is_some_and(|end| end <= SIZE) && offset.is_multiple_of(size_of::<A>());
        debug_assert!(fits, "window access at offset {offset:#x}");
        if !fits {
            return None;
        }
        // SAFETY:
        // 1. `base` is the address of a whole frame in the direct map, which stays mapped for ever, and `offset`
        //    leaves room for the word, aligned.
        // 2. `new` saw that no Rust object lives in the frame, so only windows, guests and page walkers touch it;
        //    windows use atomics or byte copies that make no references, and for the others an atomic is the
        //    access that allows for them.
        let word = unsafe { A::at(self.base.wrapping_add(offset)) };
        Some(action(word))
    }

    word_access!(u8, AtomicU8: read read_u8, write write_u8, swap swap_u8);
    word_access!(u16, AtomicU16: read read_u16, cmpxchg cmpxchg_u16, fetch_and fetch_and_u16);
    word_access!(u32, AtomicU32: read read_u32, write write_u32, swap swap_u32, cmpxchg cmpxchg_u32);
    word_access!(u64, AtomicU64: read read_u64_at, write write_u64_at, cmpxchg cmpxchg_u64_at, fetch_or fetch_or_u64_at,
        fetch_and fetch_and_u64_at);

    /// Reads the 64 words of 64 bits at `offset`, a multiple of their size, each by one atomic access. Bit `n` of the answer
    /// says that word `n` is not 0; others may be left out of `words`.
    pub fn read_words(&self, offset: usize, words: &mut [u64; 64]) -> u64 {
        let read = |from: &Words| {
            from.iter().zip(words.as_chunks_mut::<8>().0).rev().fold(0, |occupied: u64, (from, to)| {
                let read = from.each_ref().map(|word| word.load(Ordering::Acquire));
                let mut bits = 0_u64;
                // Most are empty.
                if read.iter().fold(0, |all, word| all | word) != 0 {
                    *to = read;
                    bits = read.iter().rev().fold(0, |bits, word| bits << 1 | u64::from(*word != 0));
                }
                occupied << 8 | bits
            })
        };
        self.with(offset, read).unwrap_or(0)
    }

    /// The offset of the 64-bit word that holds bit `bit` of the bitmap at `offset`, and the bit in it.
    fn bit_place(offset: usize, bit: u32) -> (usize, u64) {
        let word = (bit as usize >> 6).wrapping_mul(8);
        (offset.saturating_add(word), 1 << (bit & 63))
    }

    /// Whether bit `bit` of the bitmap of 64-bit words at `offset` is set.
    pub fn test_bit(&self, offset: usize, bit: u32) -> bool {
        let (at, mask) = Self::bit_place(offset, bit);
        self.read_u64_at(at) & mask != 0
    }

    /// Sets bit `bit` of the bitmap of 64-bit words at `offset`; returns whether it was set before.
    pub fn test_and_set_bit(&self, offset: usize, bit: u32) -> bool {
        let (at, mask) = Self::bit_place(offset, bit);
        self.fetch_or_u64_at(at, mask) & mask != 0
    }

    /// Clears bit `bit` of the bitmap of 64-bit words at `offset`; returns whether it was set before.
    pub fn test_and_clear_bit(&self, offset: usize, bit: u32) -> bool {
        let (at, mask) = Self::bit_place(offset, bit);
        self.fetch_and_u64_at(at, !mask) & mask != 0
    }

    /// Whether `len` bytes at `offset` lie in the frame.
    fn fits(offset: usize, len: usize) -> bool {
        let fits = offset.checked_add(len).is_some_and(|end| end <= SIZE);
        debug_assert!(fits, "window copy of {len} bytes at offset {offset:#x}");
        fits
    }

    /// Copies bytes from the frame, beginning at `offset`. What a guest writes meanwhile may arrive in part.
    pub fn copy_in(&self, offset: usize, buf: &mut [u8]) {
        if Self::fits(offset, buf.len()) {
            // SAFETY: the range lies in the frame and `buf` is ours; the two cannot overlap, as no Rust object
            // lives in a windowed frame.
            unsafe { move_bytes(buf.as_mut_ptr() as usize, self.base.wrapping_add(offset), buf.len()) };
        }
    }

    /// Copies `bytes` into the frame, beginning at `offset`.
    pub fn copy_out(&self, offset: usize, bytes: &[u8]) {
        if Self::fits(offset, bytes.len()) {
            // SAFETY: as in `copy_in`, the other way.
            unsafe { move_bytes(self.base.wrapping_add(offset), bytes.as_ptr() as usize, bytes.len()) };
        }
    }

    /// Copies part of another frame into this one: `len` bytes from `from_offset` there to `offset` here.
    pub fn copy_part(&self, offset: usize, from: &Self, from_offset: usize, len: usize) {
        if Self::fits(offset, len) && Self::fits(from_offset, len) {
            // SAFETY: both ranges lie in windowed frames.
            unsafe { move_bytes(self.base.wrapping_add(offset), from.base.wrapping_add(from_offset), len) };
        }
    }

    /// Copies the whole of another frame into this one.
    pub fn copy_frame(&self, from: &Self) {
        self.copy_part(0, from, 0, SIZE);
    }

    /// Writes `byte` over the whole frame.
    pub fn fill(&self, byte: u8) {
        // SAFETY: the range is the frame.
        unsafe { fill_bytes(self.base, byte, SIZE) };
    }

    /// Writes zeroes over the whole frame.
    pub fn zero(&self) {
        self.fill(0);
    }
}

/// Copies by the string instruction, which to the compiler is an opaque access: a guest may write the bytes at
/// the same time, and then a mixture arrives, but nothing of ours is confused by it.
///
/// # Safety
/// The source must be readable and the target writable for `len` bytes.
unsafe fn move_bytes(to: usize, from: usize, len: usize) {
    // SAFETY: the caller's obligation; the direction flag is clear in all Rust code.
    unsafe {
        core::arch::asm!("rep movsq", "mov rcx, {rest}", "rep movsb", rest = in(reg) len & 7,
            inout("rdi") to => _, inout("rsi") from => _, inout("rcx") len >> 3 => _, options(nostack, preserves_flags));
    }
}

/// Fills by the string instruction.
///
/// # Safety
/// The target must be writable for `len` bytes.
pub(super) unsafe fn fill_bytes(to: usize, byte: u8, len: usize) {
    // SAFETY: the caller's obligation; the direction flag is clear in all Rust code.
    unsafe {
        core::arch::asm!("rep stosq", "mov rcx, {rest}", "rep stosb", rest = in(reg) len & 7,
            inout("rdi") to => _, in("rax") u64::from_ne_bytes([byte; 8]), inout("rcx") len >> 3 => _,
            options(nostack, preserves_flags));
    }
}

/// Zeroes past the caches, 64 bytes a turn: for more memory than they hold, where what is in them is of more use than
/// zeroes that nobody reads soon.
///
/// # Safety
/// The target must be writable for `len` bytes, and both multiples of 64; `len` not 0.
pub(super) unsafe fn zero_streaming(to: usize, len: usize) {
    // SAFETY: the caller's obligation. The fence puts the stores in order with whatever publishes the memory.
    unsafe {
        core::arch::asm!("2:",
            "movnti [{at}], {zero}", "movnti [{at} + 8], {zero}", "movnti [{at} + 16], {zero}", "movnti [{at} + 24], {zero}",
            "movnti [{at} + 32], {zero}", "movnti [{at} + 40], {zero}", "movnti [{at} + 48], {zero}", "movnti [{at} + 56], {zero}",
            "add {at}, 64", "cmp {at}, {end}", "jb 2b", "sfence",
            at = inout(reg) to => _, end = in(reg) to.saturating_add(len), zero = in(reg) 0u64, options(nostack));
    }
}

/// Writes into the image through the direct map, where it is writable: for the entry stubs, which sit in a part
/// of the text that is reserved for them.
///
/// # Panics
/// If the range is not within one frame of the stub area.
pub fn write_image(at: u64, bytes: &[u8]) {
    let to = hyp_pt::stub_area_alias(at, bytes.len()).and_then(|va| usize::try_from(va).ok());
    let Some(to) = to else { panic!("entry stub at {at:#x} is outside the area for stubs") };
    // SAFETY: `stub_area_alias` answers only for the stub area, which holds filler bytes that nothing executes
    // before the stub's CPU is given its address.
    unsafe { move_bytes(to, bytes.as_ptr() as usize, bytes.len()) };
}
