//! The exception table: instructions of the X-Kernel that may fault, and where to go on when they do.
//!
//! Each entry of `.ex_table` is a pair of absolute addresses (faulting instruction, fix-up), written next to
//! the instruction by the assembly that owns it. The table is small, so it is searched in order.

// UNSAFETY: reads the table between two linker symbols.
#![expect(unsafe_code, reason = "the table is delimited by linker symbols")]

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
