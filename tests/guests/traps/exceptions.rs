//! Each exception arrives once, with its error code (XSA-259, XSA-339, XSA-44, XSA-204).

use core::arch::asm;

use ptk::check::{equal, holds, one_of};
use ptk::trap::{catch, fault_of, taken};
use ptk::{hypercall, instr, memory};
use xen_abi::hypercall::__HYPERVISOR_fpu_taskswitch;

pub fn run() {
    software_interrupts();
    pages();
    arithmetic();
    debug();
    let gp = fault_of(|| _ = instr::load(0x8000_0000_0000_0000));
    equal("a non-canonical address", gp, Some((13, 0)));
    equal("an undefined instruction", fault_of(|| unsafe { asm!("ud2") }), Some((6, 0)));
    equal("a selector that is not there", fault_of(|| instr::load_ds(0x7ff8)), Some((13, 0x7ff8)));
    holds("XSA-298 a selector past the limit of an empty table", fault_of(|| instr::load_ds(0x000c)).is_some());
    equal(
        "the FPU after a task switch",
        fault_of(|| {
            hypercall(__HYPERVISOR_fpu_taskswitch, &[1]);
            unsafe { asm!("fninit") }
        }),
        Some((7, 0)),
    );
    hypercall(__HYPERVISOR_fpu_taskswitch, &[0]);
    equal("the FPU after that", fault_of(|| unsafe { asm!("fninit") }), None);
}

/// Whether the emulator has every exception, as the command line says.
fn all() -> bool {
    ptk::start::option("all-exceptions") == Some(1)
}

/// `int n` for every n: breakpoint and overflow are open to all, the others are not.
fn software_interrupts() {
    let code = memory::page();
    let before: u32 = (0..32).map(taken).sum();
    let mut wrong = 0;
    for n in 0..=255u8 {
        for (at, byte) in (0..).zip([0xcd, n, 0xc3]) {
            instr::store(code + at, byte);
        }
        let want = if n == 3 || n == 4 { (u64::from(n), 0) } else { (13, u64::from(n) * 8 + 2) };
        if fault_of(|| instr::jump(code)) != Some(want) {
            ptk::println!("int {n}: {:?}, want {want:?}", fault_of(|| instr::jump(code)));
            wrong += 1;
        }
    }
    equal("XSA-259 every int n without a handler", wrong, 0);
    let after: u32 = (0..32).map(taken).sum();
    equal("XSA-339 each fault arrives once", after - before, 256);
}

fn pages() {
    const NOWHERE: u64 = 0x5000_0000_0000;
    let fault = catch(|| _ = instr::load(NOWHERE + 0x123));
    equal("a read of nothing", fault.map(|f| (f.vector, f.error, f.cr2)), Some((14, 0, NOWHERE + 0x123)));
    equal("a write to nothing", fault_of(|| instr::store(NOWHERE, 1)), Some((14, 2)));
    holds("a jump to nothing", fault_of(|| instr::jump(NOWHERE)).is_some_and(|f| f.0 == 14 && f.1 & !0x10 == 0));
    let page = memory::page();
    memory::write_protect(page);
    equal("a write to a read-only page", fault_of(|| instr::store(page, 1)), Some((14, 3)));
    memory::unprotect(page);
    for va in [0xffff_8080_0010_0000u64, 0xffff_8180_0000_0000, 0xffff_8280_0000_0000, 0xffff_87ff_ffff_f000] {
        holds("a read of the hypervisor's memory", fault_of(|| _ = instr::load(va)).is_some_and(|f| f.0 == 14));
        holds("a write to the hypervisor's memory", fault_of(|| instr::store(va, 1)).is_some_and(|f| f.0 == 14));
    }
    holds("a write to the machine-to-physical table", fault_of(|| instr::store(0xffff_8000_0000_0000, 1)).is_some_and(|f| f.0 == 14));
}

fn arithmetic() {
    equal(
        "a division by zero",
        fault_of(|| unsafe { asm!("div {0:e}", in(reg) 0u32, inout("eax") 1u32 => _, inout("edx") 0u32 => _) }),
        Some((0, 0)),
    );
    equal(
        "an unmasked x87 exception",
        fault_of(|| unsafe {
            let control: u16 = 0x037b;
            asm!("fninit", "fldcw [{}]", "fld1", "fldz", "fdivp", "fwait", in(reg) &control)
        }),
        Some((16, 0)),
    );
    unsafe { asm!("fninit") };
    // QEMU's TCG never raises this one.
    let sse = fault_of(|| unsafe {
        let control: u32 = 0x1d80;
        asm!("ldmxcsr [{}]", "xorps xmm0, xmm0", "mov eax, 0x3f800000", "movd xmm1, eax", "divss xmm1, xmm0", in(reg) &control, out("eax") _, out("xmm0") _, out("xmm1") _)
    });
    one_of("an unmasked SSE exception", sse, if all() { &[Some((19, 0))] } else { &[Some((19, 0)), None] });
    let control: u32 = 0x1f80;
    unsafe { asm!("ldmxcsr [{}]", in(reg) &control) };
}

/// Single steps: one after the instruction, none inside the hypervisor at a call (XSA-204).
fn debug() {
    equal("a single step", fault_of(|| unsafe { asm!("pushfq", "or qword ptr [rsp], 0x100", "popfq", "nop") }), Some((1, 0)));
    // Nor this.
    let icebp = fault_of(|| unsafe { asm!(".byte 0xf1", "nop") });
    one_of("icebp", icebp.map(|f| f.0), if all() { &[Some(1)] } else { &[Some(1), Some(6), None] });
    let step = catch(|| unsafe {
        // The trap comes after the call, in the guest, with its flags.
        asm!("pushfq", "or qword ptr [rsp], 0x100", "popfq", "syscall", "nop",
            inout("rax") 17u64 => _, in("rdi") 0u64, out("rcx") _, out("r11") _)
    });
    holds("XSA-204 a hypercall under single step", step.is_none_or(|f| f.vector == 1));
    holds(
        "XSA-44 a call with NT, AC and DF set",
        fault_of(|| unsafe {
            asm!("pushfq", "or qword ptr [rsp], 0x44400", "popfq", "syscall", "cld", "pushfq", "and qword ptr [rsp], ~0x44400", "popfq",
            inout("rax") 17u64 => _, in("rdi") 0u64, out("rcx") _, out("r11") _)
        })
        .is_none(),
    );
}
