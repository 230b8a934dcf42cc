//! General-purpose registers of a [`GuestRegs`] by the decoder's names.

use iced_x86::{Instruction, Register};

use crate::arch::x86_64::entry::GuestRegs;

/// The slot of the full register behind `register`.
fn slot(regs: &mut GuestRegs, register: Register) -> Option<&mut u64> {
    Some(match register.full_register() {
        Register::RAX => &mut regs.rax,
        Register::RBX => &mut regs.rbx,
        Register::RCX => &mut regs.rcx,
        Register::RDX => &mut regs.rdx,
        Register::RSI => &mut regs.rsi,
        Register::RDI => &mut regs.rdi,
        Register::RBP => &mut regs.rbp,
        Register::RSP => &mut regs.rsp,
        Register::R8 => &mut regs.r8,
        Register::R9 => &mut regs.r9,
        Register::R10 => &mut regs.r10,
        Register::R11 => &mut regs.r11,
        Register::R12 => &mut regs.r12,
        Register::R13 => &mut regs.r13,
        Register::R14 => &mut regs.r14,
        Register::R15 => &mut regs.r15,
        _ => return None,
    })
}

/// Whether `register` is ah, bh, ch or dh, which lie at bit 8.
fn is_high_byte(register: Register) -> bool {
    matches!(register, Register::AH | Register::BH | Register::CH | Register::DH)
}

/// Reads `register`, zero-extended.
pub fn read(regs: &GuestRegs, register: Register) -> Option<u64> {
    let mut copy = *regs;
    let full = *slot(&mut copy, register)?;
    let value = if is_high_byte(register) { full >> 8 } else { full };
    Some(value & mask(register.size()))
}

/// Writes `register` as an instruction of its operand size does: 32 bits clear the upper half.
pub fn write(regs: &mut GuestRegs, register: Register, value: u64) -> Option<()> {
    let (size, high) = (register.size(), is_high_byte(register));
    let full = slot(regs, register)?;
    *full = match (size, high) {
        (8, _) => value,
        (4, _) => value & 0xffff_ffff,
        (2, _) => (*full & !0xffff) | (value & 0xffff),
        (1, true) => (*full & !0xff00) | (value & 0xff) << 8,
        (1, false) => (*full & !0xff) | (value & 0xff),
        _ => return None,
    };
    Some(())
}

/// The low `bytes` bytes of a word.
pub fn mask(bytes: usize) -> u64 {
    if bytes >= 8 { u64::MAX } else { (1u64 << (bytes * 8)).wrapping_sub(1) }
}

/// The source operand `n` of an instruction: a register or an immediate.
pub fn source(regs: &GuestRegs, instruction: &Instruction, n: u32) -> Option<u64> {
    use iced_x86::OpKind;
    match instruction.op_kind(n) {
        OpKind::Register => read(regs, instruction.op_register(n)),
        OpKind::Immediate8
        | OpKind::Immediate16
        | OpKind::Immediate32
        | OpKind::Immediate64
        | OpKind::Immediate8to16
        | OpKind::Immediate8to32
        | OpKind::Immediate8to64
        | OpKind::Immediate32to64 => Some(instruction.immediate(n)),
        _ => None,
    }
}
