//! A small guest address space for tests: two pages, one of them read-only, and a hole after each.

// UNSAFETY: builds page tables and loads them.
#![expect(unsafe_code, reason = "loads a page table made for the test")]

use core::arch::asm;

use pv_core::frame::Mfn;

use crate::mm::page_table::{Tree, bits};
use crate::mm::{frame_alloc, hyp_pt, layout};

/// Where the writable page is.
pub const WRITABLE: u64 = 0x40_0000;
/// Where the read-only page is; the page before it is a hole.
pub const READ_ONLY: u64 = WRITABLE + 2 * layout::FRAME_SIZE;

/// The address space. Its tables stay allocated: tests run once.
pub struct TestSpace {
    root: u64,
    /// The frame at [`WRITABLE`].
    pub writable: Mfn,
    /// The frame at [`READ_ONLY`].
    pub read_only: Mfn,
}

impl TestSpace {
    /// Builds it. None when memory is short.
    pub fn new() -> Option<Self> {
        let l4 = frame_alloc::alloc_zeroed(0)?;
        let (writable, read_only) = (frame_alloc::alloc_zeroed(0)?, frame_alloc::alloc_zeroed(0)?);
        if !hyp_pt::install_hypervisor_slots(l4, None) {
            return None;
        }
        let root = l4.raw() << layout::FRAME_SHIFT;
        // SAFETY: a fresh frame with nothing in it but the X-Kernel's slots, below which only `map` calls outside
        // them go; it is never freed.
        let tree = unsafe { Tree::new(root, 4) };
        let mut source = || Some(frame_alloc::alloc_zeroed(0)?.raw() << layout::FRAME_SHIFT);
        let user = bits::P | bits::US | bits::NX;
        for (va, mfn, flags) in [(WRITABLE, writable, user | bits::RW), (READ_ONLY, read_only, user)] {
            tree.map(va, mfn.raw() << layout::FRAME_SHIFT, layout::FRAME_SIZE, flags, layout::FRAME_SIZE, &mut source)?;
        }
        Some(Self { root, writable, read_only })
    }

    /// Runs `action` with the address space loaded.
    pub fn run<R>(&self, action: impl FnOnce() -> R) -> R {
        let before: u64;
        // SAFETY: reads a register.
        unsafe { asm!("mov {}, cr3", out(reg) before, options(nomem, nostack, preserves_flags)) };
        // SAFETY: `new` has given the root the X-Kernel's slots, so code and stack stay mapped.
        unsafe { asm!("mov cr3, {}", in(reg) self.root, options(nostack, preserves_flags)) };
        let result = action();
        // SAFETY: the root that was loaded before.
        unsafe { asm!("mov cr3, {}", in(reg) before, options(nostack, preserves_flags)) };
        result
    }
}
