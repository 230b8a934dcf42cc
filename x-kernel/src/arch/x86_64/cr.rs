//! Control registers.

// UNSAFETY: reads and writes control registers.
#![expect(unsafe_code, reason = "control registers")]

use core::arch::asm;

bitflags::bitflags! {
    /// CR4 bits (SDM vol. 3, 2.5).
    #[derive(Clone, Copy, Debug, Eq, PartialEq)]
    pub struct Cr4: u64 {
        /// RDTSC in ring 0 only.
        const TSD = 1 << 2;
        /// Debugging extensions.
        const DE = 1 << 3;
        /// Physical address extension.
        const PAE = 1 << 5;
        /// Machine checks are delivered.
        const MCE = 1 << 6;
        /// Global pages.
        const PGE = 1 << 7;
        /// FXSAVE.
        const OSFXSR = 1 << 9;
        /// SIMD exceptions.
        const OSXMMEXCPT = 1 << 10;
        /// Instructions for FS and GS bases.
        const FSGSBASE = 1 << 16;
        /// XSAVE.
        const OSXSAVE = 1 << 18;
        /// No execution of user pages in ring 0.
        const SMEP = 1 << 20;
        /// No access to user pages in ring 0.
        const SMAP = 1 << 21;
        const _ = !0;
    }
}

macro_rules! reader {
    ($name:ident, $reg:literal, $doc:literal) => {
        #[doc = $doc]
        pub fn $name() -> u64 {
            let value: u64;
            // SAFETY: reads a register.
            unsafe { asm!(concat!("mov {}, ", $reg), out(reg) value, options(nomem, nostack, preserves_flags)) };
            value
        }
    };
}

reader!(cr0, "cr0", "CR0.");
reader!(cr2, "cr2", "CR2: the address of the last page fault.");
reader!(cr3, "cr3", "CR3: the page-table root.");

/// CR4.
pub fn cr4() -> Cr4 {
    let value: u64;
    // SAFETY: reads a register.
    unsafe { asm!("mov {}, cr4", out(reg) value, options(nomem, nostack, preserves_flags)) };
    Cr4::from_bits_retain(value)
}

/// Sets bits of CR4 that the CPU has by CPUID.
///
/// # Safety
/// The X-Kernel must be able to run with them.
pub unsafe fn set_cr4(bits: Cr4) {
    let value = (cr4() | bits).bits();
    // SAFETY: the caller answers for the bits.
    unsafe { asm!("mov cr4, {}", in(reg) value, options(nostack, preserves_flags)) };
}
