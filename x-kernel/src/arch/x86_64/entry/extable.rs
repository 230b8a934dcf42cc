//! The exception table: instructions of the X-Kernel that may fault, and where to go on when they do.
//!
//! Each entry of `.ex_table` is a pair of absolute addresses (faulting instruction, fix-up), written next to
//! the instruction by the assembly that owns it. The table is small, so it is searched in order.

// UNSAFETY: reads the table between two linker symbols, and has one instruction that may fault.
#![expect(unsafe_code, reason = "the table is delimited by linker symbols")]

use core::arch::asm;
use core::sync::atomic::AtomicU64;

unsafe extern "C" {
    static __ex_table_start: [u64; 2];
    static __ex_table_end: [u64; 2];
}

/// Where execution continues after a fault at `rip`, if the instruction there was expected to fault.
pub fn fixup(rip: u64) -> Option<u64> {
    let start = &raw const __ex_table_start;
    let end = &raw const __ex_table_end;
    let bytes = (end as usize).checked_sub(start as usize)?;
    // SAFETY: linker.ld places the two symbols around an array of pairs that nothing writes.
    let table = unsafe { core::slice::from_raw_parts(start, bytes / 16) };
    table.iter().find(|pair| pair[0] == rip).map(|pair| pair[1])
}

/// Stores into `word`, and returns whether that was possible: its page may be read-only.
pub fn try_store(word: &AtomicU64, value: u64) -> bool {
    let failed: u64;
    // SAFETY: an aligned store to a word that may be changed at any time; if its page is read-only, the table leads
    // the fault to label 3, and nothing has been written.
    unsafe {
        asm!(
            "2: mov [{word}], {value}",
            "xor {failed:e}, {failed:e}",
            "jmp 4f",
            "3: mov {failed:e}, 1",
            "4:",
            ".pushsection .ex_table, \"a\"",
            ".balign 8",
            ".quad 2b, 3b",
            ".popsection",
            word = in(reg) word.as_ptr(),
            value = in(reg) value,
            failed = lateout(reg) failed,
            options(nostack)
        );
    }
    failed == 0
}
