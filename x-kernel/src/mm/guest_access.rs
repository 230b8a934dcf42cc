//! The only access to guest memory by guest virtual address, under the page table that is loaded.
//!
//! A guest cannot map anything but user pages in its part of the address space, so an access that stays there
//! reaches only what the guest itself could reach; read-only pages stay read-only because CR0.WP is set. What is
//! not mapped faults, and the exception table turns the fault into [`Fault`]. Addresses in the X-Kernel's part, the
//! machine-to-physical table included, are refused before any access. Never call this with a spin lock held.

// UNSAFETY: reads and writes memory at addresses that a guest chose.
#![expect(unsafe_code, reason = "the copy loops that may fault")]

use core::arch::asm;
use core::marker::PhantomData;

use zerocopy::{FromBytes, Immutable, IntoBytes};

use super::layout;
use crate::sync::{InitOnce, level};

/// The address, or part of the range that begins there, cannot be accessed by the guest.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Fault;

/// CR4.SMAP
const CR4_SMAP: u64 = 1 << 21;

/// Whether supervisor access to user pages needs EFLAGS.AC: CR4.SMAP as the boot path has left it.
static SMAP: InitOnce<bool> = InitOnce::new();

fn smap_on() -> bool {
    *SMAP.get_or_init(|| {
        let cr4: u64;
        // SAFETY: reads a register.
        unsafe { asm!("mov {}, cr4", out(reg) cr4, options(nomem, nostack, preserves_flags)) };
        cr4 & CR4_SMAP != 0
    })
}

/// Runs `access` with user pages in reach.
#[inline(always)]
fn permitted<R>(access: impl FnOnce() -> R) -> R {
    debug_assert!(!level::any_held(), "guest memory is accessed with a spin lock held");
    let smap = smap_on();
    if smap {
        // SAFETY: SMAP is on, so the CPU has the instruction; AC only permits the access below.
        unsafe { asm!("stac", options(nomem, nostack)) };
    }
    let done = access();
    if smap {
        // SAFETY: as for `stac`.
        unsafe { asm!("clac", options(nomem, nostack)) };
    }
    done
}

/// Copies `buf.len()` bytes from the guest at `va`. On a fault the front part of `buf` may have been written.
///
/// # Errors
/// [`Fault`] if any byte is not the guest's or not mapped.
pub fn copy_in(va: u64, buf: &mut [u8]) -> Result<(), Fault> {
    if !layout::is_guest_range(va, buf.len() as u64) {
        return Err(Fault);
    }
    // SAFETY: `buf` is ours for its whole length; the source was checked to be outside the X-Kernel's part.
    unsafe { copy(buf.as_mut_ptr() as u64, va, buf.len()) }
}

/// Copies `bytes` to the guest at `va`. On a fault a front part may have been written.
///
/// # Errors
/// [`Fault`] if any byte is not the guest's or not mapped writable.
pub fn copy_out(va: u64, bytes: &[u8]) -> Result<(), Fault> {
    if !layout::is_guest_range(va, bytes.len() as u64) {
        return Err(Fault);
    }
    // SAFETY: `bytes` is readable for its whole length; the target was checked to be outside the X-Kernel's part.
    unsafe { copy(va, bytes.as_ptr() as u64, bytes.len()) }
}

/// Copies, eight bytes at a time and then the rest.
///
/// # Errors
/// [`Fault`] if a fault ended it.
///
/// # Safety
/// Of the two ranges, the X-Kernel's must be memory that the caller may read or write; the other must lie outside
/// the X-Kernel's part of the address space.
unsafe fn copy(to: u64, from: u64, len: usize) -> Result<(), Fault> {
    let left = permitted(|| {
        let left: usize;
        // SAFETY: the caller vouches for our side. On the guest's side a fault is expected: the entries in
        // `.ex_table` send it to the end, where rcx then is not zero. The direction flag is clear in all Rust code.
        unsafe {
            asm!(
                "2: rep movsq",
                "mov rcx, {rest}",
                "3: rep movsb",
                "4:",
                ".pushsection .ex_table, \"a\"",
                ".balign 8",
                ".quad 2b, 4b",
                ".quad 3b, 4b",
                ".popsection",
                rest = in(reg) len & 7,
                inout("rdi") to => _,
                inout("rsi") from => _,
                inout("rcx") len >> 3 => left,
                options(nostack, preserves_flags)
            );
        }
        left
    });
    if left == 0 { Ok(()) } else { Err(Fault) }
}

/// Reads a word from the guest at `va`: what [`copy_in`] does, at less cost.
///
/// # Errors
/// [`Fault`] if any byte is not the guest's or not mapped.
pub fn read_word(va: u64) -> Result<u64, Fault> {
    if !layout::is_guest_range(va, size_of::<u64>() as u64) {
        return Err(Fault);
    }
    let (word, faulted) = permitted(|| {
        let (word, faulted): (u64, u64);
        // SAFETY: the address lies outside the X-Kernel's part. A fault is expected: the entry in `.ex_table` sends it to
        // the end, where `faulted` then is still one.
        unsafe {
            asm!(
                "mov {faulted:e}, 1",
                "2: mov {word}, [{va}]",
                "mov {faulted:e}, 0",
                "3:",
                ".pushsection .ex_table, \"a\"",
                ".balign 8",
                ".quad 2b, 3b",
                ".popsection",
                va = in(reg) va,
                word = inout(reg) 0_u64 => word,
                faulted = out(reg) faulted,
                options(nostack, preserves_flags, readonly)
            );
        }
        (word, faulted)
    });
    if faulted == 0 { Ok(word) } else { Err(Fault) }
}

/// A guest virtual address at which the guest alleges a `T`. Nothing is checked before it is used.
pub struct GuestPtr<T> {
    va: u64,
    target: PhantomData<fn() -> T>,
}

impl<T> Clone for GuestPtr<T> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<T> Copy for GuestPtr<T> {}

impl<T> core::fmt::Debug for GuestPtr<T> {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        write!(f, "guest {:#x}", self.va)
    }
}

impl<T> GuestPtr<T> {
    /// The allegation that a `T` is at `va`.
    pub const fn new(va: u64) -> Self {
        Self { va, target: PhantomData }
    }

    /// The address.
    pub const fn raw(self) -> u64 {
        self.va
    }

    /// Whether it is the null address, which some calls take for "none".
    pub const fn is_null(self) -> bool {
        self.va == 0
    }

    /// The `index`-th element of the array that begins here. Checked for overflow with its real index, not only
    /// at the array's base (XSA-212).
    ///
    /// # Errors
    /// [`Fault`] if the address does not exist.
    pub fn add(self, index: u64) -> Result<Self, Fault> {
        let bytes = index.checked_mul(size_of::<T>() as u64).ok_or(Fault)?;
        self.add_bytes(bytes)
    }

    /// The address `bytes` further on.
    ///
    /// # Errors
    /// [`Fault`] if the address does not exist.
    pub fn add_bytes(self, bytes: u64) -> Result<Self, Fault> {
        Ok(Self::new(self.va.checked_add(bytes).ok_or(Fault)?))
    }
}

impl<T: FromBytes + IntoBytes> GuestPtr<T> {
    /// Copies the value in.
    ///
    /// # Errors
    /// [`Fault`]
    pub fn read(self) -> Result<T, Fault> {
        let mut value = T::new_zeroed();
        copy_in(self.va, value.as_mut_bytes())?;
        Ok(value)
    }
}

impl<T: IntoBytes + Immutable> GuestPtr<T> {
    /// Copies `value` out. `IntoBytes` has no padding, so nothing else of ours goes with it (XSA-122).
    ///
    /// # Errors
    /// [`Fault`]
    pub fn write(self, value: &T) -> Result<(), Fault> {
        copy_out(self.va, value.as_bytes())
    }
}
