//! System calls of an X-Container by function call.
//!
//! In an X-Container the kernel is mapped into every process, and a system call can be made by calling it: through a
//! table at a fixed address, with a slot for each number. `include/x-calls.h` has the contract, and is the same for C.
//! A program that finds no [`Table`] runs elsewhere and uses the `syscall` instruction.

#![no_std]
// UNSAFETY: a call into the kernel, which does to memory what its arguments say.
#![expect(unsafe_code, reason = "a system call is")]

/// Bit of `AT_HWCAP2` in the auxiliary vector: the table is there.
pub const HWCAP2_BIT: u64 = 1 << 31;

/// Where the table is: a slot for any number, in rax, one for each number behind it, and the [jump entry](JUMP)'s.
pub const TABLE: usize = 0xffff_ffff_ff60_0000;

/// System call numbers have so many slots, behind the one for any number.
pub const NUMBERS: u32 = 510;

/// The slot of the jump entry: it is jumped to, with any number in eax and the return address in rcx. It touches no byte
/// of the caller's stack, and returns by a jump to that address, with rcx as it was.
pub const JUMP: usize = 0xffff_ffff_ff60_0ff8;

/// The table of system calls, which is there.
#[derive(Clone, Copy, Debug)]
pub struct Table(());

impl Table {
    /// The table, if `hwcap2`, the process's `AT_HWCAP2` (`getauxval`), says that there is one.
    #[must_use]
    pub const fn find(hwcap2: u64) -> Option<Self> {
        if hwcap2 & HWCAP2_BIT == 0 { None } else { Some(Self(())) }
    }

    /// Makes system call `nr`; unused arguments are not looked at. Returns what the kernel returns: a negative errno if
    /// it failed, `-ENOSYS` for a number that it does not know.
    ///
    /// # Safety
    /// As for the system call itself: it may write to any memory that its arguments name.
    #[must_use]
    pub unsafe fn call(self, nr: usize, arguments: [usize; 6]) -> isize {
        // The first slot is for any number and finds those beyond the table to be none.
        let slot = if nr < NUMBERS as usize { TABLE.wrapping_add(nr.wrapping_add(1).wrapping_mul(8)) } else { TABLE };
        let [a, b, c, d, e, f] = arguments;
        let result;
        // SAFETY: the table is there, as `self` says. The call pushes its return address, and the compiler does not keep
        // anything below the stack pointer, because the block may push. What the system call does is the caller's promise.
        unsafe {
            core::arch::asm!(
                "call qword ptr [r12]",
                in("r12") slot,
                inlateout("rax") nr => result,
                in("rdi") a,
                in("rsi") b,
                in("rdx") c,
                in("r10") d,
                in("r8") e,
                in("r9") f,
                lateout("rcx") _,
                lateout("r11") _,
            );
        }
        result
    }
}
