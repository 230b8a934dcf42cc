//! Single instructions, most of them to see how they fault.

use core::arch::asm;

/// Runs an instruction without operands.
#[macro_export]
macro_rules! bare {
    ($text:literal) => {
        // SAFETY: one instruction, whose fault is the experiment.
        unsafe { core::arch::asm!($text) }
    };
}

/// Reads an MSR.
pub fn rdmsr(number: u32) -> u64 {
    let (low, high): (u32, u32);
    // SAFETY: faults or is emulated.
    unsafe { asm!("rdmsr", in("ecx") number, out("eax") low, out("edx") high) };
    u64::from(high) << 32 | u64::from(low)
}

/// Writes an MSR.
pub fn wrmsr(number: u32, value: u64) {
    // SAFETY: faults or is emulated.
    unsafe { asm!("wrmsr", in("ecx") number, in("eax") value as u32, in("edx") (value >> 32) as u32) };
}

/// Writes XCR0.
pub fn xsetbv(index: u32, value: u64) {
    // SAFETY: faults or is emulated.
    unsafe { asm!("xsetbv", in("ecx") index, in("eax") value as u32, in("edx") (value >> 32) as u32) };
}

/// Reads a byte.
pub fn load(va: u64) -> u8 {
    // SAFETY: the fault, if there is one, is the experiment.
    unsafe { (va as *const u8).read_volatile() }
}

/// Writes a byte.
pub fn store(va: u64, value: u8) {
    // SAFETY: as above.
    unsafe { (va as *mut u8).write_volatile(value) }
}

/// Reads a word of memory.
pub fn load64(va: u64) -> u64 {
    // SAFETY: as above.
    unsafe { (va as *const u64).read_volatile() }
}

/// Writes a word of memory.
pub fn store64(va: u64, value: u64) {
    // SAFETY: as above.
    unsafe { (va as *mut u64).write_volatile(value) }
}

/// Sets the bit that is so many bits from the word at `va`.
pub fn set_bit(va: u64, bit: i64) {
    // SAFETY: as above.
    unsafe { asm!("bts qword ptr [{}], {}", in(reg) va, in(reg) bit) }
}

/// Jumps to an address.
pub fn jump(va: u64) {
    // SAFETY: as above.
    unsafe { asm!("call {}", in(reg) va, clobber_abi("C")) }
}

/// Reads CR0, CR3 and CR4: emulated by the hypervisor.
pub fn control_registers() -> (u64, u64, u64) {
    let (cr0, cr3, cr4): (u64, u64, u64);
    // SAFETY: emulated.
    unsafe {
        asm!("mov {}, cr0", out(reg) cr0);
        asm!("mov {}, cr3", out(reg) cr3);
        asm!("mov {}, cr4", out(reg) cr4);
    }
    (cr0, cr3, cr4)
}

/// Writes CR4.
pub fn write_cr4(value: u64) {
    // SAFETY: emulated, or a fault.
    unsafe { asm!("mov cr4, {}", in(reg) value) }
}

/// Writes CR0.
pub fn write_cr0(value: u64) {
    // SAFETY: emulated, or a fault.
    unsafe { asm!("mov cr0, {}", in(reg) value) }
}

/// Reads the flags.
pub fn rflags() -> u64 {
    let flags: u64;
    // SAFETY: reads a register by the stack.
    unsafe { asm!("pushfq", "pop {}", out(reg) flags) };
    flags
}

/// Loads DS with a selector.
pub fn load_ds(selector: u16) {
    // SAFETY: a fault, or harmless in 64-bit mode.
    unsafe { asm!("mov ds, {:x}", in(reg) selector) }
}

/// Loads FS with a selector and reads the word at its start.
pub fn word_by_fs(selector: u16) -> u64 {
    let value: u64;
    // SAFETY: a fault, or a read of the guest's own memory.
    unsafe { asm!("mov fs, {:x}", "mov {}, fs:[0]", in(reg) selector, lateout(reg) value) };
    value
}

/// CPUID as a program sees it.
pub fn cpuid(leaf: u32, subleaf: u32) -> [u32; 4] {
    let r = core::arch::x86_64::__cpuid_count(leaf, subleaf);
    [r.eax, r.ebx, r.ecx, r.edx]
}

/// CPUID by the prefix that asks the hypervisor.
pub fn forced_cpuid(leaf: u32, subleaf: u32) -> [u32; 4] {
    let (a, b, c, d): (u32, u64, u32, u32);
    // SAFETY: the ABI's emulation prefix before CPUID.
    unsafe {
        asm!("mov {b}, rbx", ".byte 0x0f, 0x0b, 0x78, 0x65, 0x6e", "cpuid", "xchg {b}, rbx", b = out(reg) b,
            inlateout("eax") leaf => a, inlateout("ecx") subleaf => c, out("edx") d);
    }
    [a, b as u32, c, d]
}

/// The time-stamp counter.
pub fn rdtsc() -> u64 {
    // SAFETY: reads a counter.
    unsafe { core::arch::x86_64::_rdtsc() }
}
