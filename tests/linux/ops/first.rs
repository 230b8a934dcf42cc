//! The first system call of a site: where ABOM is on, it traps, and the site is patched.

use std::arch::global_asm;
use std::io;
use std::sync::atomic::{AtomicUsize, Ordering};

use crate::calls::Calls;
use crate::work::Body;

/// How many sites there are, for the operation to be done once for each.
const SITES: usize = 256;
/// How far they are apart.
const STRIDE: usize = 64;

// As a C library's wrappers: the number, the instruction, and what is done about an error.
global_asm!(
    ".pushsection .text.first, \"ax\", @progbits",
    ".balign 4096",
    ".globl first_calls",
    "first_calls:",
    ".rept 256",
    ".balign 64",
    ".cfi_startproc",
    "mov eax, 39",
    "syscall",
    "cmp rax, -4095",
    "jae 2f",
    "ret",
    "2: neg eax",
    "mov [rip + first_error], eax",
    "or rax, -1",
    "ret",
    ".cfi_endproc",
    ".endr",
    ".popsection",
    ".lcomm first_error, 4",
);

unsafe extern "C" {
    static first_calls: [[u8; STRIDE]; SITES];
}

/// The next site that has made none.
static NEXT: AtomicUsize = AtomicUsize::new(0);

/// `getpid`, by a site that has not been used before.
pub fn first_call(_: Calls) -> io::Result<Body> {
    let own = i64::from(std::process::id());
    Ok(Box::new(move |n| {
        for _ in 0..n {
            let site = NEXT.fetch_add(1, Ordering::Relaxed);
            // SAFETY: one of the functions above is there, and it is only pointed to.
            let site: *const [u8; STRIDE] = unsafe { &raw const first_calls[site] };
            // SAFETY: it is a function that has no arguments and makes that system call.
            let call = unsafe { std::mem::transmute::<*const [u8; STRIDE], extern "C" fn() -> i64>(site) };
            assert_eq!(call(), own);
        }
    }))
}
