//! How the measured system calls are made: in a way of [`Way`], or as a C library has them, by a function each with the
//! number just ahead of the instruction. That is where a program's calls come from, and so what ABOM meets.

use std::arch::global_asm;

use linux_programs::way::Way;

/// How.
#[derive(Clone, Copy, Debug)]
pub enum Calls {
    /// In the program's own code.
    By(Way),
    /// By functions as a library's.
    Library,
}

impl Calls {
    /// Makes system call `nr`.
    ///
    /// # Safety
    /// The arguments must be right for it.
    #[inline(always)]
    pub unsafe fn call<const N: usize>(self, nr: i64, arguments: [usize; N]) -> isize {
        match self {
            // SAFETY: the caller's obligation.
            Self::By(way) => unsafe { way.call(nr, arguments) },
            Self::Library => {
                let mut all = [0; 6];
                all[..N].copy_from_slice(&arguments);
                let [a, b, c, d, e, f] = all;
                // SAFETY: the caller's obligation.
                unsafe { of(nr as usize)(a, b, c, d, e, f) }
            }
        }
    }
}

/// Defines the functions, and finds one by its number.
macro_rules! functions {
    ($($name:ident = $number:literal),* $(,)?) => {
        global_asm!(
            ".pushsection .text.library, \"ax\", @progbits",
            $(
                ".balign 16",
                concat!(".globl ", stringify!($name)),
                concat!(stringify!($name), ":"),
                ".cfi_startproc",
                "mov r10, rcx",
                concat!("mov eax, ", $number),
                "syscall",
                "ret",
                ".cfi_endproc",
            )*
            ".popsection",
        );

        unsafe extern "C" {
            $(fn $name(a: usize, b: usize, c: usize, d: usize, e: usize, f: usize) -> isize;)*
        }

        /// A function of the library.
        type Function = unsafe extern "C" fn(usize, usize, usize, usize, usize, usize) -> isize;

        /// The function for system call `nr`.
        ///
        /// # Panics
        /// If there is none.
        #[inline(always)]
        fn of(nr: usize) -> Function {
            match nr {
                $($number => $name,)*
                _ => panic!("the library has no function for system call {nr}"),
            }
        }
    };
}

functions! {
    library_read = 0,
    library_write = 1,
    library_mmap = 9,
    library_munmap = 11,
    library_sched_yield = 24,
    library_getpid = 39,
    library_fork = 57,
    library_execve = 59,
    library_kill = 62,
    library_futex = 202,
    library_exit_group = 231,
    library_epoll_wait = 232,
}
