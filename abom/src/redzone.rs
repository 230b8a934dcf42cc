//! What a whole function does below its stack pointer.
//!
//! A compiler may have put parts of a function elsewhere, with an entry of their own in the unwind table. Such a part jumps
//! back into the middle of the function ([`exits`]), whose red zone it shares: nothing is known of it by itself.

use core::cell::Cell;
use core::ops::Range;

use arrayvec::ArrayVec;
use iced_x86::{Instruction, Mnemonic, OpKind, Register};

use crate::code::{Code, Reader};
use crate::effect::has_memory;
use crate::facts::{RED_ZONE, RedZone};

/// Whether a function with these instructions, all of them in order, has, or may have, data below its stack pointer.
///
/// By the stack pointer: any operand or address with a negative displacement. By a register that has an address on the stack:
/// any that leads into the red zone. By the frame pointer: any that is further below it than the frame is known to reach. A
/// frame pointer that the function has not set is another's, and not known.
#[must_use]
pub fn of<I: IntoIterator<Item = Instruction>>(function: impl Fn() -> I) -> RedZone {
    let mut flow = Flow::default();
    let mut frame = Frame::default();
    for i in function() {
        flow.step(&i);
        frame.step(&i);
    }
    // Jumps may lead anywhere, so the first time tells what registers may have everywhere.
    let mut again = Flow { anywhere: flow.anywhere, ..Flow::default() };
    let used = frame.is_left() || function().into_iter().any(|i| again.step(&i));
    if used { RedZone::Used } else { RedZone::Unused }
}

/// Where the instructions of `function` jump to outside of it: to other functions, or back to what it is a part of.
pub fn exits(instructions: impl Iterator<Item = Instruction>, function: &Range<u64>) -> impl Iterator<Item = u64> {
    let jumps = instructions.filter(|i| i.op_count() > 0 && i.op0_kind() == OpKind::NearBranch64 && i.mnemonic() != Mnemonic::Call);
    jumps.map(|i| i.near_branch64()).filter(|to| !function.contains(to))
}

/// The instructions of a function, as far as there are any.
fn instructions<'a>(code: &Code<'a>, function: &Range<u64>) -> impl Iterator<Item = Instruction> + use<'a> {
    let (mut reader, mut instruction, mut at, end) = (Reader::new(*code), Instruction::default(), function.start, function.end);
    core::iter::from_fn(move || {
        let read = at < end && reader.read(at, &mut instruction);
        read.then(|| {
            at = instruction.next_ip();
            instruction
        })
    })
}

/// To so many places a function may jump outside of it, for anything to be known of it ([`of_whole`]).
const MOST_EXITS: usize = 32;

/// [`of_code`] of a function that is no part of another: `is_beginning` tells whether one begins at an address.
///
/// # Errors
/// Those of `is_beginning`.
pub fn of_whole<E>(code: &Code<'_>, function: &Range<u64>, mut is_beginning: impl FnMut(u64) -> Result<bool, E>) -> Result<RedZone, E> {
    let red_zone = of_code(code, function);
    if red_zone != RedZone::Unused {
        return Ok(red_zone);
    }
    let mut leads_to: ArrayVec<u64, MOST_EXITS> = ArrayVec::new();
    for to in exits(instructions(code, function), function) {
        if !leads_to.contains(&to) && leads_to.try_push(to).is_err() {
            return Ok(RedZone::Unknown);
        }
    }
    for to in leads_to {
        if !is_beginning(to)? {
            return Ok(RedZone::Unknown);
        }
    }
    Ok(RedZone::Unused)
}

/// [`of`] a function by its bytes: nothing is known if they are not instructions from its beginning to its end.
#[must_use]
fn of_code(code: &Code<'_>, function: &Range<u64>) -> RedZone {
    let end = Cell::new(function.start);
    let red_zone = of(|| instructions(code, function).inspect(|i| end.set(end.get().max(i.next_ip()))));
    if end.get() == function.end { red_zone } else { RedZone::Unknown }
}

/// General-purpose registers of 64 bits.
const REGISTERS: usize = 16;
/// Those that a call leaves as they are: rbx, rsp, rbp, r12 to r15.
const KEPT_BY_CALLS: [usize; 7] = [3, 4, 5, 12, 13, 14, 15];
/// The longest operand reaches so far into the red zone from below.
const LONGEST_OPERAND: i64 = 64;

fn number(register: Register) -> Option<usize> {
    (register as usize).checked_sub(Register::RAX as usize).filter(|n| *n < REGISTERS)
}

/// How far above the stack pointer the addresses are that a register may have: the least and the most.
type Above = Option<(i64, i64)>;

/// Registers that have addresses on the stack, by instructions in their order.
#[derive(Default)]
struct Flow {
    /// By the last instruction.
    now: [Above; REGISTERS],
    /// When there was a jump.
    anywhere: [Above; REGISTERS],
}

impl Flow {
    /// One more instruction: whether it may have to do with the red zone.
    fn step(&mut self, i: &Instruction) -> bool {
        let displacement = i.memory_displacement64().cast_signed();
        let base = if has_memory(i) { number(i.memory_base()) } else { None };
        let leads_there = |above: &Above| {
            let into = |(least, most): (i64, i64)| {
                let lowest = (RED_ZONE as i64).saturating_add(LONGEST_OPERAND).saturating_neg();
                least.saturating_add(displacement) < 0 && most.saturating_add(displacement) >= lowest
            };
            above.is_some_and(into)
        };
        let registers = || [&self.now, &self.anywhere].into_iter().filter_map(|all| all.get(base?));
        let used = i.memory_base() == Register::RSP && base.is_some() && displacement < 0 || registers().any(leads_there);
        self.go(i);
        self.set(i, displacement);
        used
    }

    /// What becomes of addresses where control goes elsewhere.
    fn go(&mut self, i: &Instruction) {
        let jumps = matches!(i.mnemonic(), Mnemonic::Jmp | Mnemonic::Ret) || i.op_count() > 0 && i.op0_kind() == OpKind::NearBranch64;
        if i.mnemonic() == Mnemonic::Call {
            for (n, now) in self.now.iter_mut().enumerate() {
                *now = now.filter(|_| KEPT_BY_CALLS.contains(&n));
            }
        } else if jumps {
            for (anywhere, now) in self.anywhere.iter_mut().zip(self.now) {
                *anywhere = match (*anywhere, now) {
                    (Some((a, b)), Some((c, d))) => Some((a.min(c), b.max(d))),
                    (one, other) => one.or(other),
                };
            }
        }
    }

    /// What becomes of the address in a register that is written.
    fn set(&mut self, i: &Instruction, displacement: i64) {
        if i.op_count() == 0 || i.op0_kind() != OpKind::Register || matches!(i.op0_register(), Register::RBP | Register::RSP) {
            return;
        }
        let Some(now) = number(i.op0_register()).and_then(|n| self.now.get_mut(n)) else { return };
        match i.mnemonic() {
            Mnemonic::Lea if i.memory_base() == Register::RSP => *now = Some((displacement, displacement)),
            Mnemonic::Mov if i.op1_kind() == OpKind::Register && i.op1_register() == Register::RSP => *now = Some((0, 0)),
            Mnemonic::Mov | Mnemonic::Lea | Mnemonic::Pop | Mnemonic::Movsxd => *now = None,
            _ => {}
        }
    }
}

/// What the frame pointer is.
#[derive(Clone, Copy, Default, Eq, PartialEq)]
enum Base {
    /// Another function's.
    #[default]
    Unset,
    /// A register like any other.
    Register,
    /// An address on the stack.
    Stack,
}

/// How far the frame reaches below the frame pointer, by the instructions before the first branch: as a displacement.
#[derive(Clone, Copy, Default)]
enum Depth {
    /// The frame pointer is not the stack pointer of some moment, yet.
    #[default]
    Unset,
    /// So far by now.
    Growing(i64),
    /// So far.
    Known(i64),
    /// The numbers are out of any range.
    Unknown,
}

/// What the frame pointer is used for.
#[derive(Default)]
struct Frame {
    base: Base,
    depth: Depth,
    /// The lowest displacement from it, or 0.
    lowest: i64,
}

impl Frame {
    fn step(&mut self, i: &Instruction) {
        if has_memory(i) && i.memory_base() == Register::RBP {
            self.lowest = self.lowest.min(i.memory_displacement64().cast_signed());
        }
        if i.op_count() > 1 && i.op0_kind() == OpKind::Register && i.op0_register() == Register::RBP {
            let is_copy = i.op1_kind() == OpKind::Register && i.op1_register() == Register::RSP;
            let is_address = i.mnemonic() == Mnemonic::Lea && i.memory_base() == Register::RSP;
            if is_copy || is_address {
                self.base = Base::Stack;
            } else if self.base == Base::Unset {
                self.base = Base::Register;
            }
        }
        self.depth = self.depth.after(i);
    }

    /// Whether something is, or may be, below it.
    const fn is_left(&self) -> bool {
        match (self.lowest, self.base) {
            (0, _) | (_, Base::Register) => false,
            (_, Base::Unset) => true,
            (lowest, Base::Stack) => match self.depth {
                Depth::Growing(depth) | Depth::Known(depth) => lowest < depth,
                Depth::Unset | Depth::Unknown => true,
            },
        }
    }
}

impl Depth {
    fn after(self, i: &Instruction) -> Self {
        let is_set = i.mnemonic() == Mnemonic::Mov && i.op0_register() == Register::RBP && i.op1_register() == Register::RSP;
        let depth = match self {
            Self::Unset if is_set => return Self::Growing(0),
            Self::Growing(depth) => depth,
            _ => return self,
        };
        let to_rsp = i.op_count() > 1 && i.op0_kind() == OpKind::Register && i.op0_register() == Register::RSP;
        let by = match i.mnemonic() {
            Mnemonic::Push => 8,
            Mnemonic::Sub if to_rsp && i.op1_kind() != OpKind::Register && i.op1_kind() != OpKind::Memory => i.immediate(1).cast_signed(),
            Mnemonic::And if to_rsp => 0,
            Mnemonic::Pop | Mnemonic::Call | Mnemonic::Jmp | Mnemonic::Ret => return Self::Known(depth),
            _ if to_rsp || i.op_count() > 0 && i.op0_kind() == OpKind::NearBranch64 => return Self::Known(depth),
            _ => 0,
        };
        depth.checked_sub(by).map_or(Self::Unknown, Self::Growing)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn red_zone(bytes: &[u8]) -> RedZone {
        of_code(&Code::new(bytes, 0x1000), &(0x1000..0x1000 + bytes.len() as u64))
    }

    #[test]
    fn only_whole_functions() {
        // ret; nop; and then the beginning of something, or what is no instruction
        assert_eq!(red_zone(&[0xc3, 0x90]), RedZone::Unused);
        assert_eq!(red_zone(&[0xc3, 0x90, 0x48]), RedZone::Unknown);
        assert_eq!(red_zone(&[0xc3, 0x06, 0x90]), RedZone::Unknown);
        // An instruction that does not end with the function.
        assert_eq!(of_code(&Code::new(&[0xc3, 0x31, 0xc0], 0x1000), &(0x1000..0x1002)), RedZone::Unknown);
    }

    #[test]
    fn by_the_stack_pointer() {
        // mov rax,[rsp+8]; ret
        assert_eq!(red_zone(&[0x48, 0x8b, 0x44, 0x24, 0x08, 0xc3]), RedZone::Unused);
        // mov rax,[rsp-8]; ret
        assert_eq!(red_zone(&[0x48, 0x8b, 0x44, 0x24, 0xf8, 0xc3]), RedZone::Used);
        // lea rdi,[rsp-16]; ret
        assert_eq!(red_zone(&[0x48, 0x8d, 0x7c, 0x24, 0xf0, 0xc3]), RedZone::Used);
    }

    #[test]
    fn by_a_copy_of_it() {
        // lea rbx,[rsp+16]; mov rax,[rbx-16]; ret, and the same with -24
        assert_eq!(red_zone(&[0x48, 0x8d, 0x5c, 0x24, 0x10, 0x48, 0x8b, 0x43, 0xf0, 0xc3]), RedZone::Unused);
        assert_eq!(red_zone(&[0x48, 0x8d, 0x5c, 0x24, 0x10, 0x48, 0x8b, 0x43, 0xe8, 0xc3]), RedZone::Used);
        // mov rbx,rsp; mov rax,[rbx-8]; ret
        assert_eq!(red_zone(&[0x48, 0x89, 0xe3, 0x48, 0x8b, 0x43, 0xf8, 0xc3]), RedZone::Used);
        // mov rax,[rbx-8]; ret: another's
        assert_eq!(red_zone(&[0x48, 0x8b, 0x43, 0xf8, 0xc3]), RedZone::Unused);
        // The same with -0x4000: too far for the red zone
        assert_eq!(red_zone(&[0x48, 0x8d, 0x5c, 0x24, 0x10, 0x48, 0x8d, 0xb3, 0x00, 0xc0, 0xff, 0xff, 0xc3]), RedZone::Unused);
        // lea rbx,[rsp+16]; lea rbx,[rsp+8]; mov rax,[rbx-16]; ret
        assert_eq!(red_zone(&[0x48, 0x8d, 0x5c, 0x24, 0x10, 0x48, 0x8d, 0x5c, 0x24, 0x08, 0x48, 0x8b, 0x43, 0xf0, 0xc3]), RedZone::Used);
    }

    #[test]
    fn as_long_as_it_has_that_address() {
        const COPY: [u8; 3] = [0x48, 0x89, 0xe6];
        const BELOW: [u8; 4] = [0x48, 0x8b, 0x46, 0xf8];
        let between = |code: &[u8]| red_zone(&[&COPY, code, &BELOW, &[0xc3]].concat());
        // mov rsi,rsp; …; mov rax,[rsi-8]; ret
        assert_eq!(between(&[]), RedZone::Used);
        // syscall; add rsi,8: it may still be below
        assert_eq!(between(&[0x0f, 0x05]), RedZone::Used);
        assert_eq!(between(&[0x48, 0x83, 0xc6, 0x08]), RedZone::Used);
        // mov rsi,rdi; call: it has another value, or none
        assert_eq!(between(&[0x48, 0x89, 0xfe]), RedZone::Unused);
        assert_eq!(between(&[0xe8, 0, 0, 0, 0]), RedZone::Unused);
        // je +3; mov rsi,rdi: by the jump it has the one from before
        assert_eq!(between(&[0x74, 0x03, 0x48, 0x89, 0xfe]), RedZone::Used);
        // mov rax,[rsi-8]; ret; mov rsi,rsp; jmp -10
        assert_eq!(red_zone(&[&BELOW[..], &[0xc3], &COPY, &[0xeb, 0xf6]].concat()), RedZone::Used);
        // The same with a loop that sets it anew: mov rsi,rdi; mov rax,[rsi-8]; mov rsi,rsp; call; jmp back
        let loops = [&[0x48, 0x89, 0xfe][..], &BELOW, &COPY, &[0xe8, 0, 0, 0, 0, 0xeb, 0xef]].concat();
        assert_eq!(red_zone(&loops), RedZone::Unused);
    }

    #[test]
    fn by_the_frame_pointer() {
        // mov eax,[rbp-4]; ret: of another function's frame
        assert_eq!(red_zone(&[0x8b, 0x45, 0xfc, 0xc3]), RedZone::Used);
        // mov rbp,rdi; mov eax,[rbp-4]; ret: a register like any other
        assert_eq!(red_zone(&[0x48, 0x89, 0xfd, 0x8b, 0x45, 0xfc, 0xc3]), RedZone::Unused);
        // push rbp; mov rbp,rsp; mov eax,[rbp-4]; ret: a leaf
        assert_eq!(red_zone(&[0x55, 0x48, 0x89, 0xe5, 0x8b, 0x45, 0xfc, 0xc3]), RedZone::Used);
        // push rbp; mov rbp,rsp; sub rsp,16; mov eax,[rbp-16]; ret, and the same with -20
        let framed = |to| red_zone(&[0x55, 0x48, 0x89, 0xe5, 0x48, 0x83, 0xec, 0x10, 0x8b, 0x45, to, 0xc3]);
        assert_eq!((framed(0xf0), framed(0xec)), (RedZone::Unused, RedZone::Used));
        // lea rbp,[rsp+16]; mov eax,[rbp-4]; ret: not by how much
        assert_eq!(red_zone(&[0x48, 0x8d, 0x6c, 0x24, 0x10, 0x8b, 0x45, 0xfc, 0xc3]), RedZone::Used);
    }

    #[test]
    fn jumps_out_of_it() {
        // je +1; ret; jmp -32; call +256; jmp [rax]
        let bytes = [0x74, 0x01, 0xc3, 0xeb, 0xe0, 0xe8, 0, 1, 0, 0, 0xff, 0x20];
        let (code, all) = (Code::new(&bytes, 0x1000), 0x1000..0x100c);
        assert!(exits(instructions(&code, &all), &all).eq([0xfe5]));
        let first = 0x1000..0x1003;
        assert!(exits(instructions(&code, &first), &first).eq([0x1003]));
        let whole = |begins: bool| of_whole(&code, &first, |_| Ok::<_, ()>(begins));
        assert_eq!((whole(true), whole(false)), (Ok(RedZone::Unused), Ok(RedZone::Unknown)));
        assert_eq!(of_whole(&code, &first, |_| Err(())), Err(()));
    }
}
