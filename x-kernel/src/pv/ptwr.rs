//! Page-table writes by ordinary instructions: the guest kernel writes to its read-only page table, faults, and
//! the X-Kernel makes the write through the validated path. Answers to Xen's pv/ro-page-fault.c.
//!
//! The fault's address is walked through the guest's own tables, never through a mapping that may be stale
//! (XSA-286). Only aligned 8-byte operands of a few instructions are taken; everything else is the guest's
//! own page fault.

use alloc::sync::Arc;

use iced_x86::{Instruction, MemorySize, Mnemonic, OpKind};
use pv_core::pt::Slot;

use super::{fetch, gpr, mmu};
use crate::arch::x86_64::entry::GuestRegs;
use crate::arch::x86_64::entry::regs::rflags;
use crate::domain::Domain;
use crate::domain::vcpu::VcpuState;
use crate::mm::window::FrameWindow;

/// Condition flags that the emulated arithmetic sets.
const ARITH: u64 = 0x8d5;
const ZF: u64 = 1 << 6;
const SF: u64 = 1 << 7;
const PF: u64 = 1 << 2;

/// Whether the memory operand is a quadword.
fn eight_bytes(instruction: &Instruction) -> bool {
    matches!(instruction.memory_size(), MemorySize::UInt64 | MemorySize::Int64)
}

/// Emulates the write at rip that faulted at `cr2`. False: not a page-table write, the fault is the guest's.
pub fn emulate(regs: &mut GuestRegs, domain: &Arc<Domain>, state: &VcpuState, cr2: u64) -> bool {
    attempt(regs, domain, state, cr2).is_some()
}

fn attempt(regs: &mut GuestRegs, domain: &Arc<Domain>, state: &VcpuState, cr2: u64) -> Option<()> {
    if cr2 & 7 != 0 {
        return None;
    }
    let entry = mmu::walk(state.kernel_root?, cr2)?;
    if entry & 2 != 0 {
        return None;
    }
    let table = pv_core::frame::Mfn::new((entry >> 12) & 0xff_ffff_ffff)?;
    if !mmu::is_page_table(domain, table) {
        return None;
    }
    let slot = Slot::new(((cr2 >> 3) & 511) as u16)?;
    let instruction = fetch::instruction(regs.rip)?;
    if instruction.op0_kind() != OpKind::Memory || !eight_bytes(&instruction) {
        return None;
    }
    let old = FrameWindow::new(table)?.read_u64_at(slot.index() * 8);
    let mut after = *regs;
    let mut flags = regs.rflags;
    let new = match instruction.mnemonic() {
        Mnemonic::Mov => gpr::source(regs, &instruction, 1)?,
        Mnemonic::Xchg => {
            gpr::write(&mut after, instruction.op1_register(), old)?;
            gpr::read(regs, instruction.op1_register())?
        }
        Mnemonic::Cmpxchg => {
            if regs.rax == old {
                flags |= ZF;
                gpr::read(regs, instruction.op1_register())?
            } else {
                after.rax = old;
                flags &= !ZF;
                old
            }
        }
        Mnemonic::And | Mnemonic::Or => {
            let operand = gpr::source(regs, &instruction, 1)?;
            let new = if instruction.mnemonic() == Mnemonic::And { old & operand } else { old | operand };
            flags = (flags & !ARITH)
                | if new == 0 { ZF } else { 0 }
                | if new >> 63 != 0 { SF } else { 0 }
                | if (new as u8).count_ones() % 2 == 0 { PF } else { 0 };
            new
        }
        Mnemonic::Btr | Mnemonic::Bts => {
            // A register offset may reach beyond the quadword; the fault address has been moved by it already
            // (XSA-195), so only its low bits name the bit.
            let bit = gpr::source(regs, &instruction, 1)? & 63;
            flags = (flags & !rflags::CF) | (old >> bit & 1);
            if instruction.mnemonic() == Mnemonic::Btr { old & !(1 << bit) } else { old | 1 << bit }
        }
        _ => return None,
    };
    if new != old && !mmu::emulated_write(domain, table, slot, old, new) {
        return None;
    }
    after.rip = instruction.next_ip();
    after.rflags = flags;
    *regs = after;
    Some(())
}
