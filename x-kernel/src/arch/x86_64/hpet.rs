//! The high-precision event timer, used only to measure other clocks by.

// UNSAFETY: reads device registers.
#![expect(unsafe_code, reason = "device registers")]
#![expect(clippy::cast_possible_truncation, reason = "addresses are 64 bits wide")]

use crate::mm::hyp_pt;
use crate::sync::InitOnce;

const CAPABILITIES: usize = 0;
const CONFIGURATION: usize = 0x10;
const COUNTER: usize = 0xf0;
const ENABLE: u32 = 1;
const FS_PER_S: u64 = 1_000_000_000_000_000;
/// The longest period that the specification allows, in fs.
const MAX_PERIOD_FS: u64 = 0x05f5_e100;

/// The timer's main counter.
#[derive(Debug)]
pub struct Hpet {
    registers: usize,
    period_fs: u64,
}

static HPET: InitOnce<Hpet> = InitOnce::new();

impl Hpet {
    fn read(&self, offset: usize) -> u32 {
        let at = core::ptr::with_exposed_provenance::<u32>(self.registers.wrapping_add(offset));
        // SAFETY: `registers` is a mapping of the device's page that lives for ever; offsets are its registers'.
        unsafe { at.read_volatile() }
    }

    /// The low half of the counter: all that some machines have, and enough for what is measured here.
    pub fn counter(&self) -> u32 {
        self.read(COUNTER)
    }

    /// Ticks from one reading to a later one.
    pub fn elapsed(&self, from: u32, to: u32) -> u64 {
        to.wrapping_sub(from).into()
    }

    /// Ticks per second.
    pub fn hz(&self) -> u64 {
        FS_PER_S.checked_div(self.period_fs).unwrap_or(1)
    }
}

/// Starts the counter of the timer at machine address `base`, as ACPI gives it. False if it makes no sense.
pub fn init(base: u64) -> bool {
    let Some(registers) = hyp_pt::map_mmio(base, 1024) else { return false };
    let mut hpet = Hpet { registers: registers as usize, period_fs: 0 };
    hpet.period_fs = hpet.read(CAPABILITIES.wrapping_add(4)).into();
    if !(1..=MAX_PERIOD_FS).contains(&hpet.period_fs) {
        return false;
    }
    let configuration = hpet.read(CONFIGURATION);
    let at = core::ptr::with_exposed_provenance_mut::<u32>(hpet.registers.wrapping_add(CONFIGURATION));
    // SAFETY: as in `read`; enabling the counter raises no interrupt, since no comparator is enabled by us.
    unsafe { at.write_volatile(configuration | ENABLE) };
    let _ = HPET.set(hpet);
    true
}

/// The timer, if there is one.
pub fn get() -> Option<&'static Hpet> {
    HPET.get()
}
