//! What plain instructions do, by their bytes: those that most code behind a system call is made of.
//!
//! Decoding an instruction and asking [`crate::effect`] takes several times as long, and would say the same.

use crate::effect::{Flags, Flow};

/// An instruction that has nothing to do with the stack, a return apart: it leaves the stack pointer as it is, and reads no
/// memory but by an address in its own bytes.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Plain {
    /// What it does to the arithmetic flags.
    pub flags: Flags,
    /// Where control goes.
    pub flow: Flow,
    /// The address behind it.
    pub next: u64,
}

/// What the instruction does that `bytes`, which are at `address`, begin with, if it is a plain one.
#[must_use]
pub fn of(bytes: &[u8], address: u64) -> Option<Plain> {
    use Flags::{Kept, Written};
    // Of prefixes those that widen, and that of thread-local data.
    let (wide, opcode) = match bytes.split_first()? {
        (0x48 | 0x4c, rest) => (1, rest),
        _ => (0, bytes),
    };
    let (flags, length) = match *opcode {
        // cmp eax, imm
        [0x3d, _, _, _, _, ..] => (Written, 5),
        // test, xor, mov between registers, of which rsp is none
        [0x85 | 0x31, modrm, ..] if between(modrm) => (Written, 2),
        [0x89, modrm, ..] if between(modrm) => (Kept, 2),
        // neg, or with a byte
        [0xf7, 0xd8..=0xdb, ..] => (Written, 2),
        [0x83, 0xc8..=0xcb, _, ..] => (Written, 3),
        // mov reg, [rip + d]; mov [rip + d], reg
        [0x8b, modrm, _, _, _, _, ..] if modrm & 0xc7 == 0x05 && modrm != 0x25 => (Kept, 6),
        [0x89, modrm, _, _, _, _, ..] if modrm & 0xc7 == 0x05 => (Kept, 6),
        // mov reg, imm
        [0xc7, 0xc0..=0xc3, _, _, _, _, ..] => (Kept, 6),
        [0xb8..=0xbb, _, _, _, _, ..] if wide == 0 => (Kept, 5),
        // mov fs:[reg], eax
        [0x64, 0x89, modrm, ..] if wide == 0 && matches!(modrm, 0..=3) => (Kept, 3),
        _ if wide == 0 => return branch(opcode, address),
        _ => return None,
    };
    let next = address.checked_add(length)?.checked_add(wide)?;
    Some(Plain { flags, flow: Flow::Next, next })
}

/// Whether the operands of a ModRM byte are registers, the second none of rsp, rbp and those behind.
const fn between(modrm: u8) -> bool {
    modrm & 0xc4 == 0xc0
}

/// The same of jumps and returns.
fn branch(bytes: &[u8], address: u64) -> Option<Plain> {
    // JP and JNP among the conditional ones.
    let (length, by, is_conditional) = match *bytes {
        [0xc3, ..] => return Some(Plain { flags: Flags::Kept, flow: Flow::Return, next: address.checked_add(1)? }),
        [0x70..=0x7f, by, ..] => (2, i64::from(by.cast_signed()), true),
        [0x0f, 0x80..=0x8f, a, b, c, d, ..] => (6, i64::from(i32::from_le_bytes([a, b, c, d])), true),
        [0xeb, by, ..] => (2, i64::from(by.cast_signed()), false),
        [0xe9, a, b, c, d, ..] => (5, i64::from(i32::from_le_bytes([a, b, c, d])), false),
        _ => return None,
    };
    let next = address.checked_add(length)?;
    let to = next.wrapping_add_signed(by);
    let (flags, flow) = if is_conditional { (Flags::Read, Flow::Branch(to)) } else { (Flags::Kept, Flow::Jump(to)) };
    Some(Plain { flags, flow, next })
}

#[cfg(test)]
mod tests {
    use std::vec::Vec;

    use iced_x86::Register;
    use proptest::prelude::*;

    use super::*;
    use crate::code::Code;
    use crate::effect::{self, Stack};

    const AT: u64 = 0x7f00_0000_1000;

    /// Whether decoding says the same.
    fn agrees(bytes: &[u8]) -> bool {
        let Some(plain) = of(bytes, AT) else { return true };
        let Some(i) = Code::new(bytes, AT).instruction(AT) else { return false };
        let Some(e) = effect::of(&i) else { return false };
        let harmless = !effect::has_memory(&i)
            || i.memory_base() == Register::RIP
            || e.store && i.memory_segment() == Register::FS && !effect::below_stack(&i);
        (i.next_ip(), e.flags, e.flow, e.stack) == (plain.next, plain.flags, plain.flow, Stack::Kept) && harmless
    }

    #[test]
    fn the_end_of_a_wrapper_is_plain() {
        // cmp rax,-4095; jae +1; ret; mov rcx,[rip]; neg eax; mov fs:[rcx],eax; or rax,-1; ret
        let bytes = [
            0x48, 0x3d, 0x01, 0xf0, 0xff, 0xff, 0x73, 0x01, 0xc3, 0x48, 0x8b, 0x0d, 0, 0, 0, 0, 0xf7, 0xd8, 0x64, 0x89, 0x01, 0x48, 0x83,
            0xc8, 0xff, 0xc3,
        ];
        let (mut at, mut count) = (AT, 0);
        while let Some(plain) = bytes.get((at - AT) as usize..).and_then(|b| of(b, at)) {
            (at, count) = (plain.next, count + 1);
        }
        assert_eq!((at - AT, count), (bytes.len() as u64, 8));
    }

    #[test]
    fn the_first_three_bytes() {
        for number in 0..1 << 24 {
            let [a, b, c, _] = u32::to_le_bytes(number);
            let bytes = [a, b, c, 0x15, 0xe9, 0x24, 0x04, 0x25];
            assert!(agrees(&bytes), "{bytes:02x?}");
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(20_000))]

        #[test]
        fn any_bytes(
            first in prop::sample::select(&[0x48_u8, 0x4c, 0x64, 0x0f, 0x89, 0x8b, 0xe9, 0xc7, 0x83][..]),
            rest in prop::collection::vec(any::<u8>(), 0..12),
        ) {
            let bytes: Vec<u8> = [first].into_iter().chain(rest).collect();
            prop_assert!(agrees(&bytes), "{bytes:02x?}");
        }
    }
}
