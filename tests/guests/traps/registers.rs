//! Registers that a guest sets by a call or by an emulated instruction: every bit is looked at (XSA-12, XSA-54, XSA-193,
//! XSA-293, XSA-333, XSA-444).

use ptk::check::{equal, holds, one_of};
use ptk::instr;
use ptk::trap::fault_of;
use ptk::{hypercall, memory};
use xen_abi::arch_x86::{SEGBASE_FS, SEGBASE_GS_KERNEL, SEGBASE_GS_USER, SEGBASE_GS_USER_SEL};
use xen_abi::hypercall::{__HYPERVISOR_get_debugreg, __HYPERVISOR_set_debugreg, __HYPERVISOR_set_segment_base};

pub fn run() {
    segment_bases();
    debug_registers();
    debug_registers_by_mov();
    control_registers();
    extended_state();
    model_specific();
}

fn segment_bases() {
    for which in [SEGBASE_FS, SEGBASE_GS_USER, SEGBASE_GS_KERNEL] {
        for base in [0x0000_8000_0000_0000u64, 0xffff_7fff_ffff_ffff, 0x8000_0000_0000_0000, 1 << 62] {
            let answer = hypercall(__HYPERVISOR_set_segment_base, &[which.into(), base]);
            equal("XSA-193 a segment base at no address", answer, -22);
        }
        equal("a segment base", hypercall(__HYPERVISOR_set_segment_base, &[which.into(), 0x1000]), 0);
    }
    holds("a kind of base that is none", hypercall(__HYPERVISOR_set_segment_base, &[77, 0]) < 0);
    for selector in [0u64, 3, 0xe008, 0xe040, 0x7ff8, 0xffff] {
        one_of("a user GS by selector", hypercall(__HYPERVISOR_set_segment_base, &[SEGBASE_GS_USER_SEL.into(), selector]), &[0, -22]);
    }
    for msr in [0xc000_0100u32, 0xc000_0101, 0xc000_0102] {
        holds("XSA-193 a segment base at no address, by wrmsr", fault_of(|| instr::wrmsr(msr, 1 << 62)).is_some());
    }
}

fn debug_registers() {
    let set = |n: u64, value: u64| hypercall(__HYPERVISOR_set_debugreg, &[n, value]);
    let get = |n: u64| hypercall(__HYPERVISOR_get_debugreg, &[n]);
    for n in 0..4 {
        for address in [0xffff_8000_0000_0000u64, 0xffff_8080_0010_0000, 0xffff_8280_0000_0000, 1 << 62] {
            holds("XSA-444 a breakpoint on the hypervisor", set(n, address) < 0);
        }
        equal("a breakpoint register", set(n, 0x1000), 0);
        equal("and back", get(n), 0x1000);
    }
    for bit in 0..64 {
        let _ = set(7, 1 << bit);
        holds("XSA-12 a bit of DR7", get(7) as u64 >> 32 == 0 && get(7) & 0x2000 == 0);
    }
    for bit in 0..64 {
        let _ = set(6, 1 << bit);
        holds("a bit of DR6", get(6) as u64 >> 32 == 0);
    }
    for n in [8, 15, 31, u64::MAX] {
        holds("a debug register that is none", set(n, 0) < 0);
    }
    // A breakpoint on the guest's own data: it hits, with events delivered once (XSA-265: sticky bits are no harm).
    let word = memory::page();
    let _ = set(6, 0xffff_0ff0);
    equal("a data breakpoint is set", (set(0, word), set(7, 0x1_0001 | 0x400)), (0, 0));
    equal("XSA-265 a data breakpoint hits", fault_of(|| instr::store(word, 1)), Some((1, 0)));
    let _ = set(7, 0x400);
    // The instruction after a load of SS holds breakpoints back; here it is the way into the hypervisor.
    instr::store64(word, xen_abi::arch_x86::FLAT_KERNEL_SS.into());
    equal("a breakpoint on reads too", set(7, 0x3_0001 | 0x400), 0);
    let late = ptk::trap::catch(|| movss_then_syscall(word));
    holds("XSA-260 a breakpoint held back over a call", late.is_none_or(|f| f.vector == 1));
    let _ = (set(7, 0x400), set(6, 0xffff_0ff0));
}

fn write_dr0(value: u64) {
    unsafe { core::arch::asm!("mov dr0, {}", in(reg) value) }
}

fn write_dr7(value: u64) {
    unsafe { core::arch::asm!("mov dr7, {}", in(reg) value) }
}

fn read_dr() -> [u64; 3] {
    let [dr0, dr6, dr7]: [u64; 3];
    unsafe { core::arch::asm!("mov {}, dr0", "mov {}, dr6", "mov {}, dr7", out(reg) dr0, out(reg) dr6, out(reg) dr7) };
    [dr0, dr6, dr7]
}

/// The same registers by `mov`. A breakpoint on ports needs CR4.DE; it can be seen, and never hits.
fn debug_registers_by_mov() {
    const DE: u64 = 1 << 3;
    const ON_PORT: u64 = 0x2_0602;
    equal("a breakpoint register by mov", fault_of(|| write_dr0(0x1234)), None);
    equal("XSA-444 a breakpoint on the hypervisor, by mov", fault_of(|| write_dr0(0xffff_8080_0010_0000)), Some((13, 0)));
    equal("XSA-12 a bit of DR7 that is none, by mov", fault_of(|| write_dr7(1 << 32)), Some((13, 0)));
    equal("what stands in them", read_dr(), [0x1234, 0xffff_0ff0, 0x400]);
    let word = memory::page();
    equal("a data breakpoint by mov", fault_of(|| (write_dr0(word), write_dr7(0x1_0402)).1), None);
    equal("hits", fault_of(|| instr::store(word, 1)), Some((1, 0)));
    let cr4 = instr::control_registers().2;
    equal("a breakpoint on a port without CR4.DE", fault_of(|| write_dr7(ON_PORT)), Some((13, 0)));
    equal("changes nothing", read_dr()[2], 0x1_0402);
    instr::write_cr4(cr4 | DE);
    equal("a breakpoint on a port with CR4.DE", fault_of(|| write_dr7(ON_PORT)), None);
    equal("is seen", read_dr()[2], ON_PORT);
    equal("and does not hit", fault_of(|| instr::store(word, 1)), None);
    instr::write_cr4(cr4);
    write_dr7(0x400);
    equal("no branch is recorded", fault_of(|| equal("DEBUGCTL", instr::rdmsr(0x1d9), 0)), None);
    equal("nor can be", fault_of(|| instr::wrmsr(0x1d9, 1)), Some((13, 0)));
}

/// With TSD ring 3 may not read the counter, which is where the guest's kernel is, too.
fn time_stamp() {
    const TSD: u64 = 1 << 2;
    let cr4 = instr::control_registers().2;
    instr::write_cr4(cr4 | TSD);
    holds("TSD is seen", instr::control_registers().2 & TSD != 0);
    let (mut first, mut second, mut third) = (0, 0, 0);
    equal("the counter with CR4.TSD", fault_of(|| first = instr::rdtsc()), None);
    equal("with the processor's number", fault_of(|| second = unsafe { core::arch::x86_64::__rdtscp(&mut 0) }), None);
    instr::write_cr4(cr4);
    equal("without CR4.TSD", fault_of(|| third = instr::rdtsc()), None);
    holds("it goes on", first != 0 && first < second && second < third);
}

fn movss_then_syscall(word: u64) {
    // The watched word holds a stack selector.
    unsafe {
        core::arch::asm!("mov ss, [{w}]", "syscall", w = in(reg) word, inout("rax") 17u64 => _, in("rdi") 0u64,
            out("rcx") _, out("r11") _)
    };
}

fn control_registers() {
    time_stamp();
    let (cr0, cr3, cr4) = instr::control_registers();
    holds("CR0 looks like a protected machine's", cr0 & 0x8000_0001 == 0x8000_0001);
    holds("CR3 is the guest's own root", memory::m2p(cr3 >> 12) == memory::pfn(ptk::start::start_info().pt_base));
    for bit in 0..64 {
        let _ = fault_of(|| instr::write_cr4(cr4 ^ 1 << bit));
        let _ = fault_of(|| instr::write_cr0(cr0 ^ 1 << bit));
    }
    let now = instr::control_registers();
    holds("XSA-293 CR0 and CR4 keep what a guest may not change", now.1 == cr3 && now.0 & 0x8000_0001 == 0x8000_0001);
    let _ = fault_of(|| instr::write_cr0(cr0));
    let _ = fault_of(|| instr::write_cr4(cr4));
}

fn extended_state() {
    let has = instr::cpuid(1, 0)[2] & 1 << 27 != 0;
    for value in (0..256).chain([1 << 9, 1 << 62, 1 << 63, u64::MAX]) {
        let _ = fault_of(|| instr::xsetbv(0, value));
    }
    for index in [1, 2, u32::MAX] {
        holds("XSA-54 another XCR", fault_of(|| instr::xsetbv(index, 7)).is_some());
    }
    if has {
        holds("XSA-54 XCR0 without x87", fault_of(|| instr::xsetbv(0, 0)).is_some());
        holds("XSA-54 XCR0 with AVX but not SSE", fault_of(|| instr::xsetbv(0, 5)).is_some());
        equal("XCR0 with x87 and SSE", fault_of(|| instr::xsetbv(0, 3)), None);
    }
}

/// Every MSR of the usual ranges, read and written with zero, ones and noise: a fault or nothing (XSA-333).
fn model_specific() {
    let mut noise = ptk::rng::Rng::new(1);
    let mut looked = 0u32;
    let (mut reads, mut writes) = (0u32, 0u32);
    for (base, count) in [(0, 0x2000u32), (0x4000_0000, 0x100), (0xc000_0000, 0x200), (0xc001_0000, 0x200)] {
        for msr in base..base + count {
            reads += u32::from(fault_of(|| _ = instr::rdmsr(msr)).is_none());
            // The segment bases are the guest's to write, and it uses none.
            for value in [0, u64::MAX, noise.next()] {
                writes += u32::from(fault_of(|| instr::wrmsr(msr, value)).is_none());
            }
            looked += 1;
        }
    }
    ptk::println!("MSRs: {looked} looked at, {reads} reads and {writes} writes went through");
    holds("XSA-333 every MSR read and written", looked == 0x2500);
}
