//! The process's number: by the table where there is one, and as ever.
// UNSAFETY: system calls.
#![expect(unsafe_code, reason = "a system call is")]

use x_calls::Table;

/// Number of the system call, from `asm/unistd_64.h`.
const GETPID: usize = 39;
/// Key in the auxiliary vector, from `linux/auxvec.h`.
const AT_HWCAP2: u64 = 26;

/// An entry of the auxiliary vector, as `getauxval` reads it: 0 if it is not there.
fn auxiliary(key: u64) -> u64 {
    let vector = std::fs::read("/proc/self/auxv").unwrap_or_default();
    let words: Vec<u64> = vector.chunks_exact(8).filter_map(|c| Some(u64::from_ne_bytes(c.try_into().ok()?))).collect();
    words.chunks_exact(2).find(|entry| entry.first() == Some(&key)).and_then(|entry| entry.last().copied()).unwrap_or(0)
}

fn main() {
    let by_instruction = std::process::id();
    match Table::find(auxiliary(AT_HWCAP2)) {
        Some(table) => {
            // SAFETY: getpid has no arguments and touches no memory of the process.
            let by_table = unsafe { table.call(GETPID, [0; 6]) };
            println!("by the table: {by_table}, by the instruction: {by_instruction}");
        }
        None => println!("no table here; by the instruction: {by_instruction}"),
    }
}
