//! Model-specific registers. Emulators and hypervisors lack registers that the manuals promise, so whatever is
//! not architectural on every x86-64 CPU is read and written through [`try_read`] and [`try_write`], whose #GP
//! the exception table catches.

// UNSAFETY: executes RDMSR and WRMSR.
#![expect(unsafe_code, reason = "RDMSR and WRMSR")]

use core::arch::asm;

/// Time-stamp counter deadline of the local APIC timer.
pub const TSC_DEADLINE: u32 = 0x6e0;
/// Local APIC base and mode.
pub const APIC_BASE: u32 = 0x1b;
/// Page attribute table.
pub const PAT: u32 = 0x277;
/// `syscall` selectors.
pub const STAR: u32 = 0xc000_0081;
/// `syscall` entry from 64-bit code.
pub const LSTAR: u32 = 0xc000_0082;
/// `syscall` entry from compatibility mode.
pub const CSTAR: u32 = 0xc000_0083;
/// Flags that `syscall` clears.
pub const SFMASK: u32 = 0xc000_0084;
/// Base of FS.
pub const FS_BASE: u32 = 0xc000_0100;
/// Base of GS.
pub const GS_BASE: u32 = 0xc000_0101;
/// What SWAPGS exchanges with the base of GS.
pub const KERNEL_GS_BASE: u32 = 0xc000_0102;

/// The register does not exist, or does not take that value.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Refused;

/// Reads a register that exists. One that does not is a bug of ours and panics by its #GP.
pub fn read(index: u32) -> u64 {
    let (low, high): (u32, u32);
    // SAFETY: RDMSR changes no memory.
    unsafe { asm!("rdmsr", in("ecx") index, out("eax") low, out("edx") high, options(nomem, nostack, preserves_flags)) };
    u64::from(high) << 32 | u64::from(low)
}

/// Reads a register, or finds that there is none.
pub fn try_read(index: u32) -> Option<u64> {
    let (low, high, refused): (u32, u32, u32);
    // SAFETY: RDMSR changes no memory; its #GP continues at the fix-up.
    unsafe {
        asm!(
            "xor {refused:e}, {refused:e}",
            "2: rdmsr",
            "jmp 4f",
            "3: mov {refused:e}, 1",
            "4:",
            ".pushsection .ex_table, \"a\"",
            ".balign 8",
            ".quad 2b, 3b",
            ".popsection",
            refused = out(reg) refused,
            in("ecx") index,
            lateout("eax") low,
            lateout("edx") high,
            options(nostack)
        );
    }
    (refused == 0).then_some(u64::from(high) << 32 | u64::from(low))
}

/// Writes a segment base. The X-Kernel addresses nothing through FS or GS, so any canonical value is harmless.
///
/// # Panics
/// If `index` is not a segment base; by #GP if `value` is not canonical.
pub fn write(index: u32, value: u64) {
    assert!(matches!(index, FS_BASE | GS_BASE | KERNEL_GS_BASE), "msr {index:#x} is not a segment base");
    // SAFETY: FS and GS are not used by the X-Kernel.
    unsafe { write_any(index, value) };
}

/// Writes a register that exists and takes `value`.
///
/// # Safety
/// The new value must keep the X-Kernel's memory and control flow intact.
pub unsafe fn write_any(index: u32, value: u64) {
    // SAFETY: the caller answers for the value.
    unsafe {
        asm!("wrmsr", in("ecx") index, in("eax") (value & 0xffff_ffff) as u32, in("edx") (value >> 32) as u32, options(nostack, preserves_flags));
    }
}

/// Writes a register that may be missing.
///
/// # Errors
/// If the CPU refuses.
///
/// # Safety
/// As for [`write_any`].
pub unsafe fn try_write(index: u32, value: u64) -> Result<(), Refused> {
    let refused: u32;
    // SAFETY: the caller answers for the value; a #GP continues at the fix-up.
    unsafe {
        asm!(
            "xor {refused:e}, {refused:e}",
            "2: wrmsr",
            "jmp 4f",
            "3: mov {refused:e}, 1",
            "4:",
            ".pushsection .ex_table, \"a\"",
            ".balign 8",
            ".quad 2b, 3b",
            ".popsection",
            refused = out(reg) refused,
            in("ecx") index,
            in("eax") (value & 0xffff_ffff) as u32,
            in("edx") (value >> 32) as u32,
            options(nostack)
        );
    }
    if refused == 0 { Ok(()) } else { Err(Refused) }
}
