//! The local APIC: end of interrupt, the CPU's one timer, inter-processor interrupts.
//!
//! xAPIC through its page, or x2APIC if the firmware has left it on. The timer runs in TSC-deadline mode where the
//! CPU has it, else as a one-shot counter that has been measured against the TSC. Answers to Xen's `arch/x86/apic.c`.

// UNSAFETY: writes device registers and MSRs.
#![expect(unsafe_code, reason = "device registers and MSRs")]
#![expect(clippy::cast_possible_truncation, reason = "addresses are 64 bits wide")]

use arrayvec::ArrayVec;

use super::acpi::Platform;
use super::irq::{VECTOR_RESCHEDULE, VECTOR_SHOOTDOWN, VECTOR_SPURIOUS, VECTOR_TIMER};
use super::{cpu, msr, tsc};
use crate::mm::hyp_pt;
use crate::percpu::MAX_CPUS;
use crate::sync::InitOnce;

/// Register offsets of the xAPIC page; an x2APIC register is MSR 0x800 + offset / 16.
mod reg {
    pub const ID: u32 = 0x20;
    pub const TASK_PRIORITY: u32 = 0x80;
    pub const EOI: u32 = 0xb0;
    pub const SPURIOUS: u32 = 0xf0;
    pub const ERROR: u32 = 0x280;
    pub const COMMAND: u32 = 0x300;
    pub const COMMAND_HIGH: u32 = 0x310;
    pub const TIMER: u32 = 0x320;
    pub const THERMAL: u32 = 0x330;
    pub const PERFORMANCE: u32 = 0x340;
    pub const LINT0: u32 = 0x350;
    pub const LINT1: u32 = 0x360;
    pub const LVT_ERROR: u32 = 0x370;
    pub const INITIAL_COUNT: u32 = 0x380;
    pub const CURRENT_COUNT: u32 = 0x390;
    pub const DIVIDE: u32 = 0x3e0;
}

const ENABLED: u64 = 1 << 11;
const X2APIC: u64 = 1 << 10;
const MASKED: u32 = 1 << 16;
const SOFTWARE_ENABLE: u32 = 1 << 8;
const TSC_DEADLINE_MODE: u32 = 2 << 17;
const DIVIDE_BY_1: u32 = 0b1011;
const COMMAND_PENDING: u32 = 1 << 12;
const USUAL_ADDRESS: u64 = 0xfee0_0000;

/// How registers are reached.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Access {
    /// The page is mapped here.
    Page(usize),
    /// By MSR.
    Msr,
}

#[derive(Clone, Copy, Debug)]
enum Timer {
    Deadline,
    /// Counts per nanosecond, as a 32.32 fixed-point number.
    OneShot(u64),
}

#[derive(Clone, Copy, Debug)]
struct LocalApic {
    access: Access,
    timer: Timer,
}

static APIC: InitOnce<LocalApic> = InitOnce::new();

impl Access {
    fn read(self, register: u32) -> u32 {
        match self {
            Self::Page(base) => {
                let at = core::ptr::with_exposed_provenance::<u32>(base.wrapping_add(register as usize));
                // SAFETY: the mapping of this CPU's registers lives for ever.
                unsafe { at.read_volatile() }
            }
            Self::Msr => (msr::read(0x800 | register >> 4) & 0xffff_ffff) as u32,
        }
    }

    fn write(self, register: u32, value: u32) {
        match self {
            Self::Page(base) => {
                let at = core::ptr::with_exposed_provenance_mut::<u32>(base.wrapping_add(register as usize));
                // SAFETY: as in `read`; vectors that are written have handlers.
                unsafe { at.write_volatile(value) }
            }
            // SAFETY: x2APIC mode is on, and the register exists in it.
            Self::Msr => unsafe { msr::write_any(0x800 | register >> 4, value.into()) },
        }
    }
}

/// Local APIC identifiers by CPU number.
static IDS: InitOnce<ArrayVec<u32, MAX_CPUS>> = InitOnce::new();

/// Sets up the boot CPU's local APIC, where `platform` says unless it is in x2APIC mode; measures the timer. Needs the
/// clock. False if there is no usable APIC, and then no timer.
pub fn init(platform: &Platform) -> bool {
    let Some(base) = msr::try_read(msr::APIC_BASE).filter(|_| cpu::features().apic) else { return false };
    let access = if base & X2APIC != 0 {
        Access::Msr
    } else {
        let at = if base & ENABLED != 0 { base & 0x000f_ffff_ffff_f000 } else { platform.local_apic.unwrap_or(USUAL_ADDRESS) };
        // SAFETY: switches the APIC on at the address where it is mapped below.
        if base & ENABLED == 0 && unsafe { msr::try_write(msr::APIC_BASE, at | base & 0xfff | ENABLED) }.is_err() {
            return false;
        }
        let Some(va) = hyp_pt::map_mmio(at, 4096) else { return false };
        Access::Page(va as usize)
    };
    for register in [reg::TIMER, reg::LINT0, reg::LINT1, reg::LVT_ERROR] {
        access.write(register, MASKED | u32::from(VECTOR_SPURIOUS));
    }
    // Entries that not every APIC has: a write to a missing one is lost (xAPIC) or refused (x2APIC).
    for register in [reg::THERMAL, reg::PERFORMANCE] {
        if let Access::Page(_) = access {
            access.write(register, MASKED | u32::from(VECTOR_SPURIOUS));
        }
    }
    access.write(reg::TASK_PRIORITY, 0);
    access.write(reg::ERROR, 0);
    access.write(reg::SPURIOUS, SOFTWARE_ENABLE | u32::from(VECTOR_SPURIOUS));
    access.write(reg::DIVIDE, DIVIDE_BY_1);
    let timer = if cpu::features().tsc_deadline {
        access.write(reg::TIMER, TSC_DEADLINE_MODE | u32::from(VECTOR_TIMER));
        Timer::Deadline
    } else {
        let rate = measure(access);
        access.write(reg::TIMER, VECTOR_TIMER.into());
        Timer::OneShot(rate)
    };
    let mode = if access == Access::Msr { "x2apic" } else { "xapic" };
    match timer {
        Timer::Deadline => log::info!("local apic: {mode}, id {}, tsc-deadline timer", id(access)),
        Timer::OneShot(rate) => {
            let khz = u128::from(rate).saturating_mul(1_000_000) >> 32;
            log::info!("local apic: {mode}, id {}, one-shot timer at {} MHz", id(access), khz / 1000);
        }
    }
    let here = id(access);
    // CPU 0 is the one that boots, the others follow in the firmware's order.
    let mut ids = ArrayVec::from_iter([here]);
    for other in platform.cpus.iter().filter(|&&other| other != here) {
        let _ = ids.try_push(*other);
    }
    let _ = IDS.set(ids);
    let _ = APIC.set(LocalApic { access, timer });
    true
}

fn id(access: Access) -> u32 {
    let raw = access.read(reg::ID);
    if access == Access::Msr { raw } else { raw >> 24 }
}

/// Counts per nanosecond of the timer, 32.32, by watching it for 2 ms.
fn measure(access: Access) -> u64 {
    const WATCH_US: u64 = 2_000;
    access.write(reg::INITIAL_COUNT, u32::MAX);
    let (start, from) = (tsc::now_ns(), access.read(reg::CURRENT_COUNT));
    tsc::delay_us(WATCH_US);
    let (to, end) = (access.read(reg::CURRENT_COUNT), tsc::now_ns());
    access.write(reg::INITIAL_COUNT, 0);
    let counts = u64::from(from.wrapping_sub(to));
    let ns = end.saturating_sub(start).max(1);
    // A timer that stands still would never fire: treat it as one count per µs, which at worst fires early.
    (counts << 32).checked_div(ns).unwrap_or(0).max((1 << 32) / 1000)
}

/// Acknowledges the interrupt being served.
pub fn end_of_interrupt() {
    if let Some(apic) = APIC.get() {
        apic.access.write(reg::EOI, 0);
    }
}

/// Makes the timer interrupt come at `deadline_ns` since boot, or at once if that has passed. It replaces any earlier
/// deadline, and may come early: whoever armed it looks at the clock.
pub fn arm_timer(deadline_ns: u64) {
    let Some(apic) = APIC.get() else { return };
    match apic.timer {
        // SAFETY: the CPU has the register; 0 would disarm it.
        Timer::Deadline => unsafe { msr::write_any(msr::TSC_DEADLINE, tsc::at_ns(deadline_ns).max(1)) },
        Timer::OneShot(rate) => {
            let ns = deadline_ns.saturating_sub(tsc::now_ns());
            let counts = u128::from(ns).saturating_mul(rate.into()) >> 32;
            apic.access.write(reg::INITIAL_COUNT, u32::try_from(counts).unwrap_or(u32::MAX).max(1));
        }
    }
}

/// Sends the interrupt `vector` to the CPU with the local APIC identifier `target`.
fn send_ipi(target: u32, vector: u8) {
    let Some(apic) = APIC.get() else { return };
    match apic.access {
        Access::Page(_) => {
            // One command at a time: the last one has been taken within microseconds.
            for _ in 0..100_000 {
                if apic.access.read(reg::COMMAND) & COMMAND_PENDING == 0 {
                    break;
                }
                core::hint::spin_loop();
            }
            apic.access.write(reg::COMMAND_HIGH, target << 24);
            apic.access.write(reg::COMMAND, vector.into());
        }
        // SAFETY: a fixed interrupt with a vector that has a handler.
        Access::Msr => unsafe { msr::write_any(0x830, u64::from(target) << 32 | u64::from(vector)) },
    }
}

/// Sends an interrupt to CPU number `cpu`, which is not the identifier that the hardware knows it by.
fn send_to(cpu: u32, vector: u8) {
    if let Some(target) = IDS.get().and_then(|ids| ids.get(cpu as usize)) {
        send_ipi(*target, vector);
    }
}

/// Sends the shootdown interrupt to CPU number `cpu`.
pub fn send_shootdown(cpu: u32) {
    send_to(cpu, VECTOR_SHOOTDOWN);
}

/// Makes CPU number `cpu` pass through its scheduler.
pub fn send_reschedule(cpu: u32) {
    send_to(cpu, VECTOR_RESCHEDULE);
}
