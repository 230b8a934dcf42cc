//! The base of GS, by the instructions for it: nobody else uses GS.

use std::arch::asm;

/// Bit of `AT_HWCAP2`: the instructions for the bases may be used.
const FSGSBASE: u64 = 1 << 1;

/// Whether there are rdgsbase and its like.
pub fn has_instructions() -> bool {
    // SAFETY: any key may be asked for.
    let hwcap2 = unsafe { libc::getauxval(libc::AT_HWCAP2) };
    hwcap2 & FSGSBASE != 0
}

/// The base.
pub fn gs() -> usize {
    let base;
    // SAFETY: the instruction is there, as `has_instructions` said.
    unsafe { asm!("rdgsbase {}", out(reg) base, options(nomem, nostack)) };
    base
}

/// Sets the base.
pub fn set_gs(base: usize) {
    // SAFETY: the instruction is there, as `has_instructions` said, and nobody uses GS.
    unsafe { asm!("wrgsbase {}", in(reg) base, options(nomem, nostack)) };
}
