//! Hypercalls.

use core::arch::asm;

pub use zerocopy::{FromBytes, IntoBytes};

/// Hypercall `nr` with up to five arguments.
pub fn hypercall(nr: u64, args: &[u64]) -> i64 {
    let arg = |n: usize| args.get(n).copied().unwrap_or(0);
    let answer: i64;
    // SAFETY: the ABI's convention; what the call does to memory is the experiment.
    unsafe {
        asm!("syscall", inlateout("rax") nr => answer, inlateout("rdi") arg(0) => _, inlateout("rsi") arg(1) => _,
            inlateout("rdx") arg(2) => _, inlateout("r10") arg(3) => _, inlateout("r8") arg(4) => _,
            lateout("rcx") _, lateout("r11") _);
    }
    answer
}

/// Hypercall `nr` of a command and one structure, which is written back.
pub fn call<T: FromBytes + IntoBytes>(nr: u64, command: u32, argument: &mut T) -> i64 {
    hypercall(nr, &[u64::from(command), core::ptr::from_mut(argument) as u64])
}

/// Hypercall `nr` of a command and a list of structures, which are written back.
pub fn call_many<T: FromBytes + IntoBytes>(nr: u64, command: u32, arguments: &mut [T]) -> i64 {
    hypercall(nr, &[u64::from(command), arguments.as_mut_ptr() as u64, arguments.len() as u64])
}
