//! What a whole function does below its stack pointer.

use abom::RedZone;
use iced_x86::{Instruction, Mnemonic, OpKind, Register};

/// Whether a function has, or may have, data below its stack pointer.
///
/// By the stack pointer: any operand or address with a negative displacement. By the frame pointer: any that is further
/// below it than the frame is known to reach. A frame pointer that the function has not set is another's, and not known.
pub fn of(function: &[Instruction]) -> RedZone {
    let lowest = |base| {
        let based = function.iter().filter(move |i| has_memory(i) && i.memory_base() == base);
        based.map(|i| i.memory_displacement64().cast_signed()).min().unwrap_or(0)
    };
    // A register that gets an address on the stack, and something further below what it points to.
    let below = |(register, above): (Register, i64)| lowest(register) < above.saturating_neg();
    if lowest(Register::RSP) < 0 || function.iter().filter_map(copy).any(below) {
        return RedZone::Used;
    }
    if lowest(Register::RBP) >= 0 {
        return RedZone::Unused;
    }
    let sets = |i: &&Instruction| i.op_count() > 1 && i.op0_kind() == OpKind::Register && i.op0_register() == Register::RBP;
    let frame = |i: &&Instruction| {
        i.op1_kind() == OpKind::Register && i.op1_register() == Register::RSP
            || i.mnemonic() == Mnemonic::Lea && i.memory_base() == Register::RSP
    };
    let unused = if function.iter().any(|i| sets(&i) && frame(&i)) {
        lowest(Register::RBP) >= reaches(function).unwrap_or(0)
    } else {
        // Set to something else: a register like any other. Not set at all: another function's.
        function.iter().any(|i| sets(&i))
    };
    if unused { RedZone::Unused } else { RedZone::Used }
}

/// The register, other than the frame pointer, that gets an address on the stack, and how far above the stack pointer that is.
fn copy(i: &Instruction) -> Option<(Register, i64)> {
    let to = i.op_count() > 1 && i.op0_kind() == OpKind::Register && !matches!(i.op0_register(), Register::RBP | Register::RSP);
    match i.mnemonic() {
        Mnemonic::Mov if to && i.op1_kind() == OpKind::Register && i.op1_register() == Register::RSP => Some((i.op0_register(), 0)),
        Mnemonic::Lea if to && i.memory_base() == Register::RSP => Some((i.op0_register(), i.memory_displacement64().cast_signed())),
        _ => None,
    }
}

/// How far the frame of the function reaches below its frame pointer, by the instructions before the first branch: as a
/// displacement. None if the frame pointer is not the stack pointer of some moment.
fn reaches(function: &[Instruction]) -> Option<i64> {
    let is_set = |i: &&Instruction| i.mnemonic() == Mnemonic::Mov && i.op0_register() == Register::RBP && i.op1_register() == Register::RSP;
    let set = function.iter().position(|i| is_set(&i))?;
    let mut depth = 0_i64;
    for i in function.get(set.checked_add(1)?..)? {
        let to_rsp = i.op_count() > 1 && i.op0_kind() == OpKind::Register && i.op0_register() == Register::RSP;
        match i.mnemonic() {
            Mnemonic::Push => depth = depth.checked_sub(8)?,
            Mnemonic::Sub if to_rsp && i.op1_kind() != OpKind::Register && i.op1_kind() != OpKind::Memory => {
                depth = depth.checked_sub(i.immediate(1).cast_signed())?;
            }
            Mnemonic::And if to_rsp => {}
            _ if to_rsp || i.mnemonic() == Mnemonic::Pop => break,
            Mnemonic::Call | Mnemonic::Jmp | Mnemonic::Ret => break,
            _ if i.op_count() > 0 && i.op0_kind() == OpKind::NearBranch64 => break,
            _ => {}
        }
    }
    Some(depth)
}

fn has_memory(i: &Instruction) -> bool {
    (0..i.op_count()).any(|n| i.op_kind(n) == OpKind::Memory)
}
