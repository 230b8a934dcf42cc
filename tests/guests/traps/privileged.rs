//! What only a guest's kernel may have emulated, and what nobody may.

use core::arch::asm;

use ptk::check::{equal, holds};
use ptk::instr;
use ptk::trap::fault_of;
use xen_abi::hypercall::__HYPERVISOR_physdev_op;
use xen_abi::physdev::{PHYSDEVOP_set_iopl, PhysdevSetIopl};

/// Instructions that fault for a guest's kernel too.
const FORBIDDEN: [(&str, &[u8]); 11] = [
    ("hlt", &[0xf4]),
    ("lgdt", &[0x0f, 0x01, 0x14, 0x24]),
    ("lidt", &[0x0f, 0x01, 0x1c, 0x24]),
    ("lldt", &[0x0f, 0x00, 0xd0]),
    ("ltr", &[0x0f, 0x00, 0xd8]),
    ("invlpg", &[0x0f, 0x01, 0x3c, 0x24]),
    ("swapgs", &[0x0f, 0x01, 0xf8]),
    ("sysret", &[0x48, 0x0f, 0x07]),
    ("mov to cr8", &[0x44, 0x0f, 0x22, 0xc0]),
    ("vmcall", &[0x0f, 0x01, 0xc1]),
    ("iretq to ring 0", &[0x6a, 0x00, 0x54, 0x6a, 0x02, 0x68, 0x08, 0xe0, 0x00, 0x00, 0x6a, 0x00, 0x48, 0xcf]),
];

/// What a kernel may have emulated, and a process may not (XSA-105, XSA-110).
pub const KERNEL_ONLY: [(&str, &[u8]); 11] = [
    ("mov from cr0", &[0x0f, 0x20, 0xc0]),
    ("mov to cr0", &[0x0f, 0x22, 0xc0]),
    ("mov from cr3", &[0x0f, 0x20, 0xd8]),
    ("mov to cr3", &[0x0f, 0x22, 0xd8]),
    ("mov to cr4", &[0x0f, 0x22, 0xe0]),
    ("mov to dr7", &[0x0f, 0x23, 0xf8]),
    ("clts", &[0x0f, 0x06]),
    ("rdmsr", &[0x0f, 0x32]),
    ("wrmsr", &[0x0f, 0x30]),
    ("in", &[0xec]),
    ("out", &[0xee]),
];

/// Sets the I/O privilege level.
pub fn set_iopl(iopl: u32) -> i64 {
    ptk::call(__HYPERVISOR_physdev_op, PHYSDEVOP_set_iopl, &mut PhysdevSetIopl { iopl })
}

/// The kernel uses ports and the interrupt flag from level 1 of I/O privilege on.
fn io_privilege() {
    for (level, want) in [(0, Some((13, 0))), (1, None), (3, None)] {
        equal("a level of I/O privilege", set_iopl(level), 0);
        equal("cli at it", fault_of(|| unsafe { asm!("cli") }), want);
        equal("out at it", fault_of(|| unsafe { asm!("out 0x80, al", in("al") 0u8) }), want);
    }
    equal("a level that is none", set_iopl(4), -22);
    equal("the lowest level", set_iopl(0), 0);
}

pub fn run() {
    let code = ptk::memory::page();
    for (name, bytes) in FORBIDDEN {
        for (at, byte) in (0..).zip(bytes.iter().chain(&[0xc3])) {
            instr::store(code + at, *byte);
        }
        let fault = fault_of(|| instr::jump(code));
        holds(name, fault.is_some_and(|f| f.0 == 13 || f.0 == 6));
    }
    let ports = fault_of(|| unsafe { asm!("in al, dx", in("dx") 0x60u16, out("al") _) });
    holds("in from the keyboard faults or reads ones", ports.is_none_or(|f| f.0 == 13));
    io_privilege();
    // Operands with prefixes, through an emulator that must not read past a segment (XSA-67).
    holds("XSA-67 outs by FS", fault_of(|| unsafe { asm!("fs", "outsb", in("dx") 0x80u16, inout("rsi") 0u64 => _) }).is_some());
    let plain = instr::cpuid(1, 0);
    let forced = instr::forced_cpuid(1, 0);
    equal("CPUID by prefix names the same processor", forced[0], plain[0]);
    let signature = instr::forced_cpuid(0x4000_0000, 0);
    let name = [signature[1], signature[2], signature[3]].map(u32::to_le_bytes);
    equal("the hypervisor's signature", name.as_flattened(), b"XenVMMXenVMM");
}
