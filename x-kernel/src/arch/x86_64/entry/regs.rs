//! The register frame that every entry from a guest builds, and its layout for the assembly.
//!
//! ```text
//! block end        ┌──────────────────────┐
//!   -8             │ &PerCpu              │
//!   -16            │ rax scratch (lstar)  │ ← TSS.RSP0
//!                  │ ss  rsp  rflags      │ pushed by the CPU, or by lstar_common
//!                  │ cs  rip              │
//!                  │ vector:u32 error:u32 │
//!                  │ rdi rsi rdx rcx rax  │
//!                  │ r8 r9 r10 r11        │
//!                  │ rbx rbp r12 … r15    │ ← GuestRegs
//!                  └──────────────────────┘
//! ```

use core::mem::{offset_of, size_of};

/// The registers of interrupted code. Lives at a fixed place of the main stack while a guest has entered.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default)]
pub struct GuestRegs {
    pub r15: u64,
    pub r14: u64,
    pub r13: u64,
    pub r12: u64,
    pub rbp: u64,
    pub rbx: u64,
    pub r11: u64,
    pub r10: u64,
    pub r9: u64,
    pub r8: u64,
    pub rax: u64,
    pub rcx: u64,
    pub rdx: u64,
    pub rsi: u64,
    pub rdi: u64,
    pub error_code: u32,
    pub vector: u32,
    pub rip: u64,
    pub cs: u64,
    pub rflags: u64,
    pub rsp: u64,
    pub ss: u64,
}

const _: () = assert!(size_of::<GuestRegs>() == 168);
const _: () = assert!(offset_of!(GuestRegs, error_code) == 120);
const _: () = assert!(offset_of!(GuestRegs, rip) == 128);

/// Offset of `cs`, for the assembly.
pub const REGS_CS: usize = offset_of!(GuestRegs, cs);
/// Size of the frame, for the assembly.
pub const REGS_SIZE: usize = size_of::<GuestRegs>();

/// `vector` of an entry by `syscall` from 64-bit code.
pub const VECTOR_SYSCALL: u32 = 0x100;
/// `vector` of an entry by `syscall` from compatibility mode.
pub const VECTOR_SYSCALL32: u32 = 0x101;

/// RFLAGS bits.
pub mod rflags {
    pub const CF: u64 = 1 << 0;
    pub const FIXED: u64 = 1 << 1;
    pub const TF: u64 = 1 << 8;
    pub const IF: u64 = 1 << 9;
    pub const DF: u64 = 1 << 10;
    pub const IOPL: u64 = 3 << 12;
    pub const NT: u64 = 1 << 14;
    pub const RF: u64 = 1 << 16;
    pub const VM: u64 = 1 << 17;
    pub const AC: u64 = 1 << 18;
    /// What a guest may choose for itself: arithmetic flags, TF, DF, NT, RF, AC, ID.
    pub const GUEST: u64 = 0x8d5 | TF | DF | NT | RF | AC | (1 << 21);
}

impl GuestRegs {
    /// Forces the parts of the frame that a guest has no say in: interrupts on, IOPL 0, ring 3 selectors.
    pub fn sanitise(&mut self) {
        self.rflags = (self.rflags & rflags::GUEST) | rflags::IF | rflags::FIXED;
        self.cs = (self.cs & 0xffff) | 3;
        self.ss &= 0xffff;
        if self.ss & 0xfffc != 0 {
            self.ss |= 3;
        }
    }
}
