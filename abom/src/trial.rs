//! For tests of plans: code, and what is executed of it once it is changed.

use core::ops::Range;
use std::vec::Vec;

use iced_x86::{Mnemonic, OpKind, Register};

use crate::code::Code;
use crate::facts::{Facts, Inside, RedZone, Seen};
use crate::hop::Hop;
use crate::table::Table;

pub use crate::gaps::find;

/// Where the code is.
pub const AT: u64 = 0x7f00_0000_1000;
/// glibc 2.36's `read`, from its first byte to the next function.
pub const READ: [u8; 0xa0] = [
    0x80, 0x3d, 0x31, 0x33, 0x0e, 0x00, 0x00, 0x74, 0x17, 0x31, 0xc0, 0x0f, 0x05, 0x48, 0x3d, 0x00, 0xf0, 0xff, 0xff, 0x77, 0x5b, 0xc3,
    0x66, 0x2e, 0x0f, 0x1f, 0x84, 0x00, 0x00, 0x00, 0x00, 0x00, 0x48, 0x83, 0xec, 0x28, 0x48, 0x89, 0x54, 0x24, 0x18, 0x48, 0x89, 0x74,
    0x24, 0x10, 0x89, 0x7c, 0x24, 0x08, 0xe8, 0x49, 0xd5, 0xf8, 0xff, 0x48, 0x8b, 0x54, 0x24, 0x18, 0x48, 0x8b, 0x74, 0x24, 0x10, 0x41,
    0x89, 0xc0, 0x8b, 0x7c, 0x24, 0x08, 0x31, 0xc0, 0x0f, 0x05, 0x48, 0x3d, 0x00, 0xf0, 0xff, 0xff, 0x77, 0x34, 0x44, 0x89, 0xc7, 0x48,
    0x89, 0x44, 0x24, 0x08, 0xe8, 0x9f, 0xd5, 0xf8, 0xff, 0x48, 0x8b, 0x44, 0x24, 0x08, 0x48, 0x83, 0xc4, 0x28, 0xc3, 0x0f, 0x1f, 0x44,
    0x00, 0x00, 0x48, 0x8b, 0x15, 0xc9, 0xaa, 0x0d, 0x00, 0xf7, 0xd8, 0x64, 0x89, 0x02, 0x48, 0xc7, 0xc0, 0xff, 0xff, 0xff, 0xff, 0xc3,
    0x0f, 0x1f, 0x40, 0x00, 0x48, 0x8b, 0x15, 0xb1, 0xaa, 0x0d, 0x00, 0xf7, 0xd8, 0x64, 0x89, 0x02, 0x48, 0xc7, 0xc0, 0xff, 0xff, 0xff,
    0xff, 0xeb, 0xb7, 0x0f, 0x1f, 0x00,
];

pub fn starts(code: &Code<'_>) -> Vec<u64> {
    code.starts(code.start()).collect()
}

pub fn facts<'a>(starts: &'a [u64], taken: &'a [Range<u64>]) -> Facts<'a> {
    Facts {
        starts: Some(starts),
        inside: Inside::Caught,
        red_zone: RedZone::Unknown,
        taken,
        tail: None,
        page: None,
        seen: Some(Seen::default()),
    }
}

/// What is executed from `at` on, once the patches are written: until `behind`.
pub fn walk(bytes: &[u8], mut at: u64, behind: u64) -> Vec<Mnemonic> {
    let code = Code::new(bytes, AT);
    // Where the jump entry goes back to, and a call.
    let (mut seen, mut rcx, mut pushed) = (Vec::new(), 0, None);
    while at != behind {
        let i = code.instruction(at).expect("an instruction");
        seen.push(i.mnemonic());
        assert!(seen.len() < 10);
        at = match i.mnemonic() {
            Mnemonic::Jmp if i.op0_kind() == OpKind::Memory => {
                let slot = i.memory_displacement64();
                let back = if slot == Table::X_CONTAINER.any() { pushed.take() } else { None };
                back.unwrap_or_else(|| {
                    assert_eq!(Some(slot), Table::X_CONTAINER.jump());
                    rcx
                })
            }
            Mnemonic::Call if i.op0_kind() == OpKind::NearBranch64 => {
                pushed = Some(i.next_ip());
                i.near_branch_target()
            }
            Mnemonic::Jmp => i.near_branch_target(),
            _ => i.next_ip(),
        };
        if i.mnemonic() == Mnemonic::Lea && i.op0_register() == Register::RCX {
            rcx = i.memory_displacement64();
        }
    }
    seen
}

pub fn written(mut bytes: Vec<u8>, hop: &Hop) -> Vec<u8> {
    for patch in hop.gaps.iter().chain([&hop.site]) {
        let at = (patch.address() - AT) as usize;
        assert_eq!(&bytes[at..at + patch.old().len()], patch.old());
        bytes[at..at + patch.old().len()].copy_from_slice(patch.new_bytes());
    }
    bytes
}
