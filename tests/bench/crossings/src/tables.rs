//! How many page-table entries a hypercall is asked to write.

use crate::qemu;

/// Numbers of hypercalls, by the PV ABI.
const MMU_UPDATE: u64 = 1;
const MULTICALL: u64 = 13;
const UPDATE_VA_MAPPING: u64 = 14;
/// What the count of `mmu_update` has when the call goes on that was interrupted: its entries have been counted.
const PREEMPTED: u64 = 1 << 31;
/// Bytes of a call in a multicall, and words of it: number, result, arguments.
const CALL: usize = 64;
/// More calls than any guest makes at once: a count that is none is not followed further.
const CALLS: u64 = 4096;

/// Entries that hypercall `number` writes, by its first two arguments.
pub fn writes(number: u64, first: u64, second: u64) -> u64 {
    match number {
        MULTICALL => (0..second.min(CALLS)).map(|i| of_call(first.wrapping_add(i.wrapping_mul(CALL as u64)))).sum(),
        _ => single(number, second),
    }
}

fn single(number: u64, second: u64) -> u64 {
    match number {
        MMU_UPDATE if second & PREEMPTED == 0 => second & 0xffff_ffff,
        UPDATE_VA_MAPPING => 1,
        _ => 0,
    }
}

/// Those of the call at `address` in a multicall's list.
fn of_call(address: u64) -> u64 {
    let mut call = [0; CALL];
    if !qemu::read_memory(address, &mut call) {
        return 0;
    }
    let word = |i: usize| call.chunks_exact(8).nth(i).and_then(|w| w.try_into().ok()).map_or(0, u64::from_le_bytes);
    single(word(0), word(3))
}
