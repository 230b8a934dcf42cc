//! Page-table writes by ordinary instructions: the guest kernel writes to its read-only page table, faults, and
//! the X-Kernel makes the write through the validated path. Answers to Xen's pv/ro-page-fault.c.
//!
//! The fault's address is walked through the guest's own tables, never through a mapping that may be stale
//! (XSA-286). Only aligned operands of a few instructions are taken; everything else is the guest's own page
//! fault.

use alloc::sync::Arc;

use iced_x86::{Instruction, MemorySize, Mnemonic, OpKind, Register};
use pv_core::pt::{self, Slot};
use xen_abi::errno::Errno;

use super::{fetch, gpr, mmu};
use crate::arch::x86_64::entry::GuestRegs;
use crate::arch::x86_64::entry::regs::rflags;
use crate::domain::Domain;
use crate::domain::vcpu::VcpuState;

/// Condition flags that the emulated arithmetic sets.
const ARITH: u64 = 0x8d5;
const ZF: u64 = 1 << 6;
const SF: u64 = 1 << 7;
const PF: u64 = 1 << 2;

/// Bytes of the memory operand, where the instruction has one of a size that can lie in an entry.
fn operand_size(instruction: &Instruction) -> Option<usize> {
    match instruction.memory_size() {
        MemorySize::UInt8 | MemorySize::Int8 => Some(1),
        MemorySize::UInt16 | MemorySize::Int16 => Some(2),
        MemorySize::UInt32 | MemorySize::Int32 => Some(4),
        MemorySize::UInt64 | MemorySize::Int64 => Some(8),
        _ => None,
    }
}

/// Emulates the write at rip that faulted at `cr2`. False: not a page-table write, the fault is the guest's.
pub fn emulate(regs: &mut GuestRegs, domain: &Arc<Domain>, state: &VcpuState, cr2: u64) -> bool {
    attempt(regs, domain, state, cr2).is_some()
}

fn attempt(regs: &mut GuestRegs, domain: &Arc<Domain>, state: &VcpuState, cr2: u64) -> Option<()> {
    let entry = mmu::walk(state.kernel_root?, cr2)?;
    if entry & 2 != 0 {
        return None;
    }
    let table = pt::target(entry)?;
    if !mmu::is_page_table(domain, table) {
        return None;
    }
    let instruction = fetch::instruction(regs.rip)?;
    let size = operand_size(&instruction).filter(|_| instruction.op0_kind() == OpKind::Memory)?;
    let within = (cr2 & 7) as usize;
    if !within.is_multiple_of(size) {
        return None;
    }
    let slot = Slot::new(((cr2 >> 3) & 511) as u16)?;
    let whole = mmu::read_entry(table, slot)?;
    let (shift, mask) = (within << 3, gpr::mask(size));
    let mut after = *regs;
    let part = compute(&mut after, &instruction, whole >> shift & mask, size)? & mask;
    let new = (whole & !(mask << shift)) | part << shift;
    if new != whole {
        match mmu::emulated_write(domain, table, slot, whole, new) {
            Ok(()) => {}
            // Nothing has been done: the instruction faults again and is begun anew.
            Err(Errno::ERESTART | Errno::EBUSY) => return Some(()),
            Err(_) => return None,
        }
    }
    after.rip = instruction.next_ip();
    *regs = after;
    Some(())
}

/// What `instruction` makes of a memory operand of `size` bytes that holds `old`; registers and flags change in
/// `regs`. None for an instruction that is not emulated.
fn compute(regs: &mut GuestRegs, instruction: &Instruction, old: u64, size: usize) -> Option<u64> {
    let set = |flags: u64, bit: u64, on: bool| if on { flags | bit } else { flags & !bit };
    Some(match instruction.mnemonic() {
        Mnemonic::Mov => gpr::source(regs, instruction, 1)?,
        Mnemonic::Xchg => {
            let register = instruction.op1_register();
            let new = gpr::read(regs, register)?;
            gpr::write(regs, register, old)?;
            new
        }
        Mnemonic::Cmpxchg => {
            let accumulator = [(1, Register::AL), (2, Register::AX), (4, Register::EAX), (8, Register::RAX)];
            let register = accumulator.into_iter().find(|(n, _)| *n == size)?.1;
            let equal = gpr::read(regs, register)? == old;
            regs.rflags = set(regs.rflags, ZF, equal);
            if equal {
                gpr::read(regs, instruction.op1_register())?
            } else {
                gpr::write(regs, register, old)?;
                old
            }
        }
        Mnemonic::And | Mnemonic::Or | Mnemonic::Xor => {
            let operand = gpr::source(regs, instruction, 1)?;
            let new = match instruction.mnemonic() {
                Mnemonic::And => old & operand,
                Mnemonic::Or => old | operand,
                _ => old ^ operand,
            } & gpr::mask(size);
            let mut flags = regs.rflags & !ARITH;
            flags = set(flags, ZF, new == 0);
            flags = set(flags, SF, new > gpr::mask(size) >> 1);
            regs.rflags = set(flags, PF, (new & 0xff).count_ones().is_multiple_of(2));
            new
        }
        Mnemonic::Btr | Mnemonic::Bts => {
            // A register offset may reach beyond the operand; the fault address has been moved by it already
            // (XSA-195), so only its low bits name the bit.
            let bit = gpr::source(regs, instruction, 1)? & ((size as u64) << 3).wrapping_sub(1);
            regs.rflags = set(regs.rflags, rflags::CF, old >> bit & 1 != 0);
            if instruction.mnemonic() == Mnemonic::Btr { old & !(1 << bit) } else { old | 1 << bit }
        }
        _ => return None,
    })
}
