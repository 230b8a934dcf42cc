//! General-purpose registers of a [`GuestRegs`] by the decoder's names.

use iced_x86::{Instruction, Register};

use crate::arch::x86_64::entry::GuestRegs;

/// A general register: its number in the instruction encoding, its size in bytes, and whether it lies at bit 8.
#[derive(Clone, Copy)]
struct Part {
    number: u32,
    size: usize,
    high: bool,
}

/// What `register` is part of. The decoder numbers registers of one size in the order of their encoding.
fn part(register: Register) -> Option<Part> {
    let n = register as u32;
    let within = |first: Register, count: u32| n.checked_sub(first as u32).filter(|&i| i < count);
    let whole = |number, size| Some(Part { number, size, high: false });
    if let Some(i) = within(Register::AH, 4) {
        return Some(Part { number: i, size: 1, high: true });
    }
    if let Some(i) = within(Register::AL, 4) {
        return whole(i, 1);
    }
    if let Some(i) = within(Register::SPL, 12) {
        return whole(i.wrapping_add(4), 1);
    }
    [(Register::AX, 2), (Register::EAX, 4), (Register::RAX, 8)]
        .into_iter()
        .find_map(|(first, size)| within(first, 16).and_then(|i| whole(i, size)))
}

/// The slot of the full register numbered `number`.
fn slot(regs: &mut GuestRegs, number: u32) -> Option<&mut u64> {
    Some(match number {
        0 => &mut regs.rax,
        1 => &mut regs.rcx,
        2 => &mut regs.rdx,
        3 => &mut regs.rbx,
        4 => &mut regs.rsp,
        5 => &mut regs.rbp,
        6 => &mut regs.rsi,
        7 => &mut regs.rdi,
        8 => &mut regs.r8,
        9 => &mut regs.r9,
        10 => &mut regs.r10,
        11 => &mut regs.r11,
        12 => &mut regs.r12,
        13 => &mut regs.r13,
        14 => &mut regs.r14,
        15 => &mut regs.r15,
        _ => return None,
    })
}

/// Bytes of `register`, if it is a general one.
pub fn size(register: Register) -> Option<usize> {
    part(register).map(|p| p.size)
}

/// Reads `register`, zero-extended.
pub fn read(regs: &GuestRegs, register: Register) -> Option<u64> {
    let part = part(register)?;
    let mut copy = *regs;
    let full = *slot(&mut copy, part.number)?;
    let value = if part.high { full >> 8 } else { full };
    Some(value & mask(part.size))
}

/// Writes `register` as an instruction of its operand size does: 32 bits clear the upper half.
pub fn write(regs: &mut GuestRegs, register: Register, value: u64) -> Option<()> {
    let part = part(register)?;
    let full = slot(regs, part.number)?;
    *full = match (part.size, part.high) {
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
    match bytes {
        0..8 => (1u64 << (bytes << 3)).wrapping_sub(1),
        _ => u64::MAX,
    }
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
