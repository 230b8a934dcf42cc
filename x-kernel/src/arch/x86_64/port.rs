//! I/O ports of devices that the X-Kernel drives itself.

// UNSAFETY: executes IN and OUT.
#![expect(unsafe_code, reason = "IN and OUT")]

use core::arch::asm;

/// Reads a byte.
///
/// # Safety
/// Reading `port` must have no effect that anyone else relies on not happening.
pub unsafe fn in8(port: u16) -> u8 {
    let value: u8;
    // SAFETY: the caller answers for the device.
    unsafe { asm!("in al, dx", out("al") value, in("dx") port, options(nomem, nostack, preserves_flags)) };
    value
}

/// Reads a word.
///
/// # Safety
/// As for [`in8`].
pub unsafe fn in16(port: u16) -> u16 {
    let value: u16;
    // SAFETY: the caller answers for the device.
    unsafe { asm!("in ax, dx", out("ax") value, in("dx") port, options(nomem, nostack, preserves_flags)) };
    value
}

/// Writes a byte.
///
/// # Safety
/// The device behind `port` must not be able to harm memory by what it is told.
pub unsafe fn out8(port: u16, value: u8) {
    // SAFETY: the caller answers for the device.
    unsafe { asm!("out dx, al", in("al") value, in("dx") port, options(nomem, nostack, preserves_flags)) };
}

/// Writes 32 bits.
///
/// # Safety
/// As for [`out8`].
pub unsafe fn out32(port: u16, value: u32) {
    // SAFETY: the caller answers for the device.
    unsafe { asm!("out dx, eax", in("eax") value, in("dx") port, options(nomem, nostack, preserves_flags)) };
}

/// Writes a word to `port`.
///
/// # Safety
/// The device there must be the caller's, and take the value without harm to memory.
pub unsafe fn out16(port: u16, value: u16) {
    // SAFETY: the caller's obligation.
    unsafe { core::arch::asm!("out dx, ax", in("dx") port, in("ax") value, options(nomem, nostack, preserves_flags)) };
}
