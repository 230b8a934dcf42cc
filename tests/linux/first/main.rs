//! A program that does nothing but say that it is there: with a mark for the counting plugin (tests/bench/crossings).

#![expect(unsafe_code, reason = "a system call that no library of the language has")]
// UNSAFETY: see above.

fn main() {
    // SAFETY: the buffer may be null.
    unsafe { libc::times(std::ptr::null_mut()) };
}
