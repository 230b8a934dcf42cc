//! Interrupt descriptor table: one for all CPUs, made once from what the entry code says of each vector.

// UNSAFETY: loads the table register; names a linker section.
#![expect(unsafe_code, reason = "LIDT")]

use core::arch::asm;
use core::sync::atomic::{AtomicU64, Ordering};

use super::{entry, gdt};

/// A present 64-bit interrupt gate.
const GATE: u64 = 0x8e << 40;

/// The table. Written by [`init`] only, and read-only once mm has sealed the section.
#[repr(C, align(4096))]
struct Table([[AtomicU64; 2]; 256]);

// SAFETY: a section of the image that is loaded as data, with nothing else's layout depending on it.
#[unsafe(link_section = ".ro_after_init")]
static IDT: Table = Table([const { [AtomicU64::new(0), AtomicU64::new(0)] }; 256]);

/// A gate to `handler` on interrupt stack `ist`, for `int n` from privilege level `dpl` and below (SDM vol. 3, 6.14.1).
const fn gate(handler: u64, ist: u8, dpl: u8) -> [u64; 2] {
    let low = (handler & 0xffff)
        | (gdt::CS as u64) << 16
        | (ist as u64 & 7) << 32
        | GATE
        | (dpl as u64 & 3) << 45
        | (handler >> 16 & 0xffff) << 48;
    [low, handler >> 32]
}

/// Fills the table. Once, on the boot CPU.
pub fn init() {
    for (vector, slot) in (0u8..=255).zip(&IDT.0) {
        let [low, high] = gate(entry::trap_stub(vector), entry::ist_for(vector), entry::gate_dpl(vector));
        for (word, value) in slot.iter().zip([low, high]) {
            word.store(value, Ordering::Relaxed);
        }
    }
}

/// Loads the table on this CPU.
pub fn load() {
    #[repr(C, packed)]
    struct TablePointer {
        limit: u16,
        base: u64,
    }
    let pointer = TablePointer { limit: 4095, base: &raw const IDT as u64 };
    // SAFETY: the table lives for ever and its gates lead to the entry code.
    unsafe { asm!("lidt [{}]", in(reg) &pointer, options(readonly, nostack, preserves_flags)) };
}

/// Resets the CPU: an exception with no table to look it up in.
pub fn triple_fault() -> ! {
    let none = [0u16; 5];
    // SAFETY: the machine is to be reset; nothing runs after this.
    unsafe { asm!("lidt [{}]", "ud2", in(reg) &none, options(noreturn)) }
}
