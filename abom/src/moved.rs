//! Instructions that a stub executes in the site's stead.

use arrayvec::ArrayVec;
use iced_x86::{ConstantOffsets, Decoder, DecoderOptions, Instruction, Mnemonic, OpKind, Register};

use crate::code::Code;
use crate::effect::{self, Flow};
use crate::length::LONGEST;

/// The bytes of one instruction.
pub type Bytes = ArrayVec<u8, LONGEST>;

/// How far from what was accessed just before something is taken to be there: a field of the same object.
const NEXT: u64 = 64;

/// Whether the instruction does the same at another address, once [`relocate`] has been at it. `earlier` are those that lead
/// to it, the nearest first.
///
/// Calls are not moved: their return address would be seen. Nor are instructions that may fault for all one knows: the
/// address of the fault would be. The stack, and what is addressed from rip, is taken to be there, and so is what is next to
/// something that was accessed in the same way just before.
#[must_use]
pub fn movable(i: &Instruction, earlier: &[Instruction]) -> bool {
    let Some(effect) = effect::of(i) else { return false };
    let flows = match effect.flow {
        Flow::Next | Flow::Branch(_) | Flow::Jump(_) | Flow::Return => true,
        Flow::Call | Flow::Syscall | Flow::Unknown => false,
        Flow::Stop => i.mnemonic() == Mnemonic::Int3,
    };
    let memory = !effect::has_memory(i) || effect.address_only || is_there(i) || was_there(i, earlier);
    flows && memory && i.memory_base() != Register::EIP && !i.has_lock_prefix()
}

/// Whether the memory operand is one that the ABI says is there.
fn is_there(i: &Instruction) -> bool {
    let plain = i.memory_index() == Register::None;
    match i.memory_base() {
        Register::RSP | Register::RBP | Register::RIP => plain,
        Register::None => plain && i.memory_segment() == Register::FS,
        _ => false,
    }
}

/// Whether what is next to the memory operand was accessed by one of the `earlier` instructions: written, if it is written.
fn was_there(i: &Instruction, earlier: &[Instruction]) -> bool {
    let base = i.memory_base();
    let place = |i: &Instruction| (i.memory_base(), i.memory_index(), i.segment_prefix());
    if place(i) != (base, Register::None, Register::None) {
        return false;
    }
    let accesses = |j: &Instruction| {
        let Some(effect) = effect::of(j).filter(|e| effect::has_memory(j) && !e.address_only && place(j) == place(i)) else { return false };
        let near = i.memory_displacement64().cast_signed().abs_diff(j.memory_displacement64().cast_signed()) < NEXT;
        near && (effect.store || i.op0_kind() != OpKind::Memory)
    };
    earlier.iter().take_while(|j| effect::keeps(j, base)).any(accesses)
}

/// The instruction's bytes for address `to`. None if they cannot be made.
#[must_use]
pub fn relocate(code: &Code<'_>, i: &Instruction, to: u64) -> Option<Bytes> {
    let old = code.bytes(i.ip(), i.len())?;
    if i.op_count() > 0 && i.op0_kind() == OpKind::NearBranch64 {
        return branch(old, i.near_branch64(), to);
    }
    let mut new = Bytes::new();
    new.try_extend_from_slice(old).ok()?;
    if effect::has_memory(i) && i.memory_base() == Register::RIP {
        let at = constants(old, i).displacement_offset();
        let end = to.checked_add(i.len() as u64)?;
        new.get_mut(at..at.checked_add(4)?)?.copy_from_slice(&distance(end, i.memory_displacement64())?);
    }
    Some(new)
}

/// Where displacement and immediates are in the bytes of an instruction.
pub fn constants(bytes: &[u8], i: &Instruction) -> ConstantOffsets {
    let mut decoder = Decoder::with_ip(64, bytes, i.ip(), DecoderOptions::NONE);
    let mut again = Instruction::default();
    decoder.decode_out(&mut again);
    decoder.get_constant_offsets(&again)
}

/// A jump or conditional jump with a 32-bit distance.
fn branch(old: &[u8], target: u64, to: u64) -> Option<Bytes> {
    let mut new = Bytes::new();
    match *old {
        [0xeb, _] | [0xe9, _, _, _, _] => new.push(0xe9),
        [short @ 0x70..=0x7f, _] => new.extend([0x0f, short.wrapping_add(0x10)]),
        [0x0f, near @ 0x80..=0x8f, _, _, _, _] => new.extend([0x0f, near]),
        _ => return None,
    }
    let end = to.checked_add(new.len() as u64)?.checked_add(4)?;
    new.extend(distance(end, target)?);
    Some(new)
}

/// The 32-bit distance from `from`, the end of an instruction, to `to`.
#[must_use]
pub fn distance(from: u64, to: u64) -> Option<[u8; 4]> {
    i32::try_from(to.wrapping_sub(from).cast_signed()).ok().map(i32::to_le_bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn moved(bytes: &[u8], to: u64) -> Option<Bytes> {
        let code = Code::new(bytes, 0x1000);
        relocate(&code, &code.instruction(0x1000)?, to)
    }

    #[test]
    fn what_names_a_place_still_names_it() {
        // mov eax,[rip+0x10]
        assert_eq!(moved(&[0x8b, 0x05, 0x10, 0, 0, 0], 0x1100).as_deref(), Some(&[0x8b, 0x05, 0x10, 0xff, 0xff, 0xff][..]));
        // ja +2
        assert_eq!(moved(&[0x77, 0x02], 0x1000).as_deref(), Some(&[0x0f, 0x87, 0xfe, 0xff, 0xff, 0xff][..]));
        // jmp -2
        assert_eq!(moved(&[0xeb, 0xfe], 0x2000).as_deref(), Some(&[0xe9, 0xfb, 0xef, 0xff, 0xff][..]));
        assert_eq!(moved(&[0xeb, 0xfe], 0x1_0000_0000), None);
    }

    #[test]
    fn what_cannot_be_moved() {
        let movable = |bytes: &[u8]| movable(&Code::new(bytes, 0).instruction(0).expect("an instruction"), &[]);
        assert!(movable(&[0x48, 0x3d, 0x00, 0xf0, 0xff, 0xff]));
        assert!(movable(&[0x64, 0x8b, 0x04, 0x25, 0x18, 0, 0, 0]));
        assert!(movable(&[0x4c, 0x89, 0x5c, 0x24, 0x08]));
        assert!(!movable(&[0xe8, 0, 0, 0, 0]));
        assert!(!movable(&[0x0f, 0x05]));
        assert!(!movable(&[0x8b, 0x07]));
        assert!(!movable(&[0xe2, 0xfe]));
        assert!(!movable(&[0xf4]));
    }

    #[test]
    fn next_to_what_was_accessed() {
        let movable = |bytes: &[u8]| {
            let code = Code::new(bytes, 0);
            let mut all: std::vec::Vec<_> = code.starts(0).map(|at| code.instruction(at).expect("an instruction")).collect();
            all.reverse();
            movable(&all[0], &all[1..])
        };
        const STORE: [u8; 11] = [0x48, 0xc7, 0x83, 0xe8, 0x02, 0, 0, 0xe0, 0xff, 0xff, 0xff];
        let behind_store = |between: &[u8], last: &[u8]| movable(&[&STORE, between, last].concat());
        // mov qword [rbx+0x2e8],-32; movq xmm0,rdi; movups [rbx+0x2d8],xmm0: as glibc sets up a thread
        let movups = [0x0f, 0x11, 0x83, 0xd8, 0x02, 0, 0];
        assert!(behind_store(&[0x66, 0x48, 0x0f, 0x6e, 0xc7], &movups));
        // The same by another register, behind one that changes it, behind a call, and too far off.
        assert!(!behind_store(&[], &[0x0f, 0x11, 0x86, 0xd8, 0x02, 0, 0]));
        assert!(!behind_store(&[0x31, 0xdb], &movups));
        assert!(!behind_store(&[0xe8, 0, 0, 0, 0], &movups));
        assert!(!behind_store(&[], &[0x0f, 0x11, 0x83, 0xd8, 0, 0, 0]));
        // Read behind a store: yes. Written behind what was read only: no.
        assert!(behind_store(&[], &[0x48, 0x8b, 0xbb, 0xe0, 0x02, 0, 0]));
        assert!(!movable(&[0x48, 0x8b, 0x43, 0x08, 0x48, 0x89, 0x5b, 0x10]));
        assert!(movable(&[0x48, 0x89, 0x1b, 0x48, 0x89, 0x5b, 0x10]));
        // An address was only made; a multiplication changes rdx.
        assert!(!movable(&[0x48, 0x8d, 0x43, 0x08, 0x48, 0x8b, 0x4b, 0x10]));
        assert!(!movable(&[0x48, 0x8b, 0x42, 0x08, 0x48, 0xf7, 0xe1, 0x48, 0x8b, 0x4a, 0x10]));
    }
}
