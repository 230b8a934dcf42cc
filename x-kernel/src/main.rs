//! The X-Kernel: a type-1 hypervisor that runs paravirtual Linux guests without hardware virtualization.
//!
//! `kmain` below is the story of a boot; docs/ARCHITECTURE.md is the story of everything after it.

#![no_std]
#![no_main]

extern crate alloc;

mod arch;
mod cmdline;
mod debugkeys;
mod domain;
mod error;
mod mm;
mod panic;
mod percpu;
mod perf;
mod pv;
mod sched;
mod selftest;
mod stats;
mod symbols;
mod sync;
mod trace;

use arch::x86_64::power::{self, Verdict};
use arch::x86_64::{acpi, apic, boot, context, cpu, entry, fpu, gdt, hpet, idt, ioapic, rtc, serial, tlb, tsc};

/// Boots the machine on its first CPU: `info` is the machine address of the multiboot2 information. Entered once, from
/// `arch::x86_64::boot`, with per-CPU data in place and interrupts off.
fn kmain(info: u32) -> ! {
    serial::init();
    log::info!("version {}, an X-Container hypervisor", env!("CARGO_PKG_VERSION"));
    let info = boot::read_info(info);
    cmdline::init(info);
    log::info!("booted by {} ({}), command line \"{}\"", info.loader, if info.efi { "uefi" } else { "bios" }, info.cmdline);

    // Faults are told from here on.
    gdt::init(0, gdt::boot_tables(), percpu::boot_block());
    idt::init();
    idt::load();
    cpu::init();

    // Memory: from here on there is a heap, and only the X-Kernel's own page tables.
    boot::log_memory(info);
    mm::init(&boot::memory_map(info, cmdline::options().reserve));
    fpu::init();
    context::init();

    // Devices: the firmware's tables, then what tells the time, then what interrupts.
    let platform = acpi::read(info.rsdp);
    let has_hpet = platform.hpet.is_some_and(hpet::init);
    log::info!("acpi: {} CPUs, {} io-apics, {}", platform.cpus.len(), platform.io_apics.len(), if has_hpet { "hpet" } else { "no hpet" });
    tsc::init();
    rtc::init();
    ioapic::mask_pic();
    let pins = ioapic::mask_all(&platform.io_apics);
    log::info!("interrupts: pic and {pins} io-apic pins masked");
    if !apic::init(&platform) {
        boot::refuse(format_args!("there is no local apic, and with it no timer"));
    }
    tlb::set_ipi_sender(apic::send_shootdown);
    if platform.cpus.len() > 1 {
        log::info!("cpus: this one runs; the other {} stay off", platform.cpus.len().saturating_sub(1));
    }

    // The ways in from guests.
    let (lstar, cstar) = entry::install_stubs(0, percpu::boot_block());
    gdt::syscall_msrs(lstar, cstar);
    mm::hyp_pt::seal();

    if cmdline::options().selftest {
        power::stop(if selftest::run() { Verdict::Success } else { Verdict::Failure });
    }
    assert!(!cmdline::options().panic_test, "the command line asks for a panic");
    log::info!("boot took {} ms", tsc::now_ns() / 1_000_000);
    domain::build::boot_domains(info);
    sched::run()
}
