//! What the CPU can do, found once; what of it the X-Kernel switches on; idling.

// UNSAFETY: sets control registers and MSRs, opens interrupt windows.
#![expect(unsafe_code, reason = "control registers, MSRs, STI and HLT")]

use core::arch::asm;

use raw_cpuid::CpuId;

use super::cr::{self, Cr4};
use super::msr;
use crate::sync::InitOnce;

/// WB, WT, UC-, UC, WC, WP, UC, UC: what guests of the PV ABI see and use in their entries.
pub const PAT: u64 = 0x0000_0501_0007_0406;

/// Features that the X-Kernel itself asks about.
#[derive(Clone, Copy, Debug, Default)]
pub struct Features {
    pub apic: bool,
    pub tsc_deadline: bool,
    pub pcid: bool,
    pub invpcid: bool,
    pub smep: bool,
    pub smap: bool,
    pub fsgsbase: bool,
    pub xsave: bool,
    pub pages_1g: bool,
    pub pat: bool,
    pub machine_check: bool,
    pub invariant_tsc: bool,
    /// Bits of a physical address.
    pub physical_bits: u8,
    /// CPUID.7.0:EDX: speculation controls.
    pub speculation: u32,
}

static FEATURES: InitOnce<Features> = InitOnce::new();

fn detect() -> Features {
    let id = CpuId::new();
    let basic = id.get_feature_info();
    let basic = basic.as_ref();
    let more = id.get_extended_feature_info();
    let more = more.as_ref();
    let extended = id.get_extended_processor_and_feature_identifiers();
    let sizes = id.get_processor_capacity_feature_info();
    let power = id.get_advanced_power_mgmt_info();
    let leaf7 = if core::arch::x86_64::__cpuid(0).eax >= 7 { core::arch::x86_64::__cpuid_count(7, 0).edx } else { 0 };
    Features {
        apic: basic.is_some_and(|f| f.has_apic()),
        tsc_deadline: basic.is_some_and(|f| f.has_tsc_deadline()),
        pcid: basic.is_some_and(|f| f.has_pcid()),
        xsave: basic.is_some_and(|f| f.has_xsave()),
        pat: basic.is_some_and(|f| f.has_pat()),
        machine_check: basic.is_some_and(|f| f.has_mce()),
        invpcid: more.is_some_and(|f| f.has_invpcid()),
        smep: more.is_some_and(|f| f.has_smep()),
        smap: more.is_some_and(|f| f.has_smap()),
        fsgsbase: more.is_some_and(|f| f.has_fsgsbase()),
        pages_1g: extended.is_some_and(|f| f.has_1gib_pages()),
        invariant_tsc: power.is_some_and(|f| f.has_invariant_tsc()),
        physical_bits: sizes.map_or(36, |f| f.physical_address_bits()),
        speculation: leaf7,
    }
}

/// The features of this machine.
pub fn features() -> &'static Features {
    FEATURES.get_or_init(detect)
}

/// Programs this CPU: protection of ring 0, PAT, machine checks. Says what it found.
pub fn init() {
    let f = features();
    let mut bits = Cr4::empty();
    bits.set(Cr4::SMEP, f.smep);
    bits.set(Cr4::SMAP, f.smap);
    bits.set(Cr4::MCE, f.machine_check);
    // SAFETY: ring 0 never executes from user pages, and touches them only between STAC and CLAC in guest_access.
    unsafe { cr::set_cr4(bits) };
    if f.pat {
        // SAFETY: the types of entries 0 and 3 (cached, uncached), which our own mappings use, stay as they are.
        unsafe { msr::write_any(msr::PAT, PAT) };
    }
    let id = CpuId::new();
    let brand = id.get_processor_brand_string();
    let vendor = id.get_vendor_info();
    log::info!(
        "cpu: {}, {} physical address bits",
        brand.as_ref().map_or_else(|| vendor.as_ref().map_or("unknown", |v| v.as_str()), |b| b.as_str().trim()),
        f.physical_bits
    );
    let names = [
        ("smep", f.smep),
        ("smap", f.smap),
        ("fsgsbase", f.fsgsbase),
        ("xsave", f.xsave),
        ("pcid", f.pcid),
        ("invpcid", f.invpcid),
        ("pat", f.pat),
        ("1g-pages", f.pages_1g),
        ("tsc-deadline", f.tsc_deadline),
        ("invariant-tsc", f.invariant_tsc),
    ];
    log::info!("cpu features: {}", Have(&names, true));
    log::info!("cpu lacks: {}", Have(&names, false));
    report_mitigations(f);
}

/// Names whose flag is as asked.
struct Have<'a>(&'a [(&'static str, bool)], bool);

impl core::fmt::Display for Have<'_> {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        let mut any = false;
        for (name, _) in self.0.iter().filter(|(_, has)| *has == self.1) {
            write!(f, "{}{name}", if core::mem::replace(&mut any, true) { " " } else { "" })?;
        }
        if any { Ok(()) } else { f.write_str("nothing") }
    }
}

/// Speculation controls that the CPU offers. None is used yet: docs/CAVEATS.md.
fn report_mitigations(f: &Features) {
    let names = [
        ("ibrs-ibpb", f.speculation >> 26 & 1 != 0),
        ("stibp", f.speculation >> 27 & 1 != 0),
        ("ssbd", f.speculation >> 31 & 1 != 0),
        ("md-clear", f.speculation >> 10 & 1 != 0),
        ("l1d-flush", f.speculation >> 28 & 1 != 0),
    ];
    log::info!("cpu speculation controls: offered {}; in use nothing", Have(&names, true));
}

/// Lets pending interrupts in for a moment. No lock may be held.
pub fn irq_window() {
    // SAFETY: handlers only note what happened; the X-Kernel is between two steps that tolerate that. STI takes
    // effect after the next instruction, hence the NOP.
    unsafe { asm!("sti", "nop", "cli", options(nostack)) };
}

/// Waits for an interrupt and serves it. No lock may be held.
pub fn idle_until_interrupt() {
    // SAFETY: as in `irq_window`. STI's shadow covers HLT: an interrupt cannot slip in between and be slept through.
    unsafe { asm!("sti", "hlt", "cli", options(nostack)) };
}

/// Stops this CPU for ever.
pub fn halt() -> ! {
    loop {
        // SAFETY: interrupts are off and stay off; an NMI only ends one round.
        unsafe { asm!("cli", "hlt", options(nomem, nostack)) };
    }
}
