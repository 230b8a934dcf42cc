//! How a program comes by the number of a system call: the shapes that compilers and libraries emit.
//!
//! A plan does not rest on the shape, only on bytes and instructions; the shape is what counters and reports show.

use iced_x86::{Code, Instruction, Mnemonic, OpKind, Register};

use crate::effect;

/// The shape of a site.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
#[non_exhaustive]
pub enum Pattern {
    /// `b8 imm32; 0f 05`: `mov eax, nr` next to it. The wrappers of glibc and musl, gcc and clang for inline assembly.
    MovEax,
    /// `48 c7 c0 imm32; 0f 05`: `mov rax, nr` next to it. glibc's `__restore_rt` and other assembly by hand, Go's
    /// runtime.
    MovRax,
    /// `31 c0; 0f 05`: `xor eax, eax` next to it, number 0. gcc for glibc's `read`, often with `cmp rax, -4096` behind.
    XorEax,
    /// `mov r64, [rsp + d]; 0f 05`: Go's `syscall.Syscall` and `RawSyscall6` by the stack ABI, glibc's `syscall`.
    StackLoad,
    /// `mov [rsp + d], r64; 0f 05`: the cancellation points of musl, and of glibc from 2.41 on.
    StackStore,
    /// The number is loaded or made zero some instructions earlier. gcc, where it has to load arguments in between.
    Earlier,
    /// The number comes from a register: glibc's and musl's `syscall`, cancellation points, Go by the register ABI.
    Register,
    /// None of these.
    Other,
}

impl Pattern {
    /// All of them, in the order of their numbers: for counters.
    pub const ALL: [Self; 8] =
        [Self::MovEax, Self::MovRax, Self::XorEax, Self::StackLoad, Self::StackStore, Self::Earlier, Self::Register, Self::Other];

    /// Its number in [`Self::ALL`].
    #[must_use]
    pub const fn index(self) -> usize {
        self as usize
    }

    /// A short name.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::MovEax => "mov-eax",
            Self::MovRax => "mov-rax",
            Self::XorEax => "xor-eax",
            Self::StackLoad => "stack-load",
            Self::StackStore => "stack-store",
            Self::Earlier => "earlier",
            Self::Register => "register",
            Self::Other => "other",
        }
    }

    /// The shape of a site with these instructions before it, the nearest first.
    #[must_use]
    pub fn of(before: &[Instruction]) -> Self {
        let Some(nearest) = before.first() else { return Self::Other };
        match sets_number(nearest) {
            Some(Number::Is(_)) if nearest.mnemonic() == Mnemonic::Xor => return Self::XorEax,
            Some(Number::Is(_)) if nearest.op0_register() == Register::RAX => return Self::MovRax,
            Some(Number::Is(_)) => return Self::MovEax,
            _ => {}
        }
        if nearest.mnemonic() == Mnemonic::Mov && effect::has_memory(nearest) && nearest.memory_base() == Register::RSP {
            return if nearest.op0_kind() == OpKind::Memory { Self::StackStore } else { Self::StackLoad };
        }
        match before.iter().find_map(sets_number) {
            Some(Number::Is(_)) => Self::Earlier,
            Some(Number::Register) => Self::Register,
            _ => Self::Other,
        }
    }
}

/// What an instruction makes of the number of the next system call.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Number {
    /// This.
    Is(u32),
    /// What another register holds.
    Register,
    /// Something else.
    Other,
}

/// What the instruction makes of the number, if it may change it.
#[must_use]
pub fn sets_number(i: &Instruction) -> Option<Number> {
    if i.code() == Code::Mov_r32_imm32 && i.op0_register() == Register::EAX {
        return Some(Number::Is(i.immediate32()));
    }
    let rax = |r| matches!(r, Register::RAX | Register::EAX | Register::AX | Register::AL | Register::AH);
    match i.mnemonic() {
        Mnemonic::Mov if i.op0_kind() == OpKind::Register && matches!(i.op0_register(), Register::RAX | Register::EAX) => {
            Some(match i.op1_kind() {
                OpKind::Immediate32 => Number::Is(i.immediate32()),
                OpKind::Immediate32to64 => u32::try_from(i.immediate(1)).map_or(Number::Other, Number::Is),
                OpKind::Register => Number::Register,
                _ => Number::Other,
            })
        }
        Mnemonic::Xor if is_register(i, 0) && is_register(i, 1) && rax(i.op0_register()) => {
            let zero = i.op0_register() == i.op1_register() && matches!(i.op0_register(), Register::RAX | Register::EAX);
            Some(if zero { Number::Is(0) } else { Number::Other })
        }
        Mnemonic::Cmp | Mnemonic::Test | Mnemonic::Push => None,
        Mnemonic::Call | Mnemonic::Syscall | Mnemonic::Cdqe | Mnemonic::Cwde => Some(Number::Other),
        _ if effect::of(i).is_none() => Some(Number::Other),
        Mnemonic::Xchg if is_register(i, 1) && rax(i.op1_register()) => Some(Number::Other),
        _ if is_register(i, 0) && rax(i.op0_register()) => Some(Number::Other),
        _ => None,
    }
}

fn is_register(i: &Instruction, operand: u32) -> bool {
    operand < i.op_count() && i.op_kind(operand) == OpKind::Register
}
