//! I/O APICs and the old 8259 pair. The X-Kernel takes no device interrupts yet: devices belong to a driver domain.
//! So every pin is masked here, whatever the firmware has left on.

// UNSAFETY: writes device registers.
#![expect(unsafe_code, reason = "device registers and the PIC's ports")]
#![expect(clippy::cast_possible_truncation, reason = "addresses are 64 bits wide")]

use super::acpi::IoApicInfo;
use super::port;
use crate::mm::hyp_pt;

/// Offsets: register select, window.
const SELECT: usize = 0;
const WINDOW: usize = 0x10;
const VERSION: u32 = 1;
const REDIRECTION: u32 = 0x10;
const MASKED: u32 = 1 << 16;

struct IoApic(usize);

impl IoApic {
    fn at(&self, offset: usize) -> *mut u32 {
        core::ptr::with_exposed_provenance_mut(self.0.wrapping_add(offset))
    }

    fn select(&self, register: u32) {
        // SAFETY: the mapping of the device's page lives for ever; nothing else drives it.
        unsafe { self.at(SELECT).write_volatile(register) };
    }

    fn read(&self, register: u32) -> u32 {
        self.select(register);
        // SAFETY: as in `select`.
        unsafe { self.at(WINDOW).read_volatile() }
    }

    fn write(&self, register: u32, value: u32) {
        self.select(register);
        // SAFETY: as in `select`; only mask bits are written.
        unsafe { self.at(WINDOW).write_volatile(value) };
    }
}

/// Masks every pin of `apics` and returns how many there are.
pub fn mask_all(apics: &[IoApicInfo]) -> u32 {
    let mut pins = 0u32;
    for info in apics {
        let Some(va) = hyp_pt::map_mmio(info.address.into(), 4096) else {
            log::warn!("io-apic at {:#x} cannot be mapped: its pins stay as the firmware left them", info.address);
            continue;
        };
        let apic = IoApic(va as usize);
        let last = apic.read(VERSION) >> 16 & 0xff;
        for pin in 0..=last {
            apic.write(REDIRECTION.wrapping_add(pin.wrapping_mul(2)), MASKED);
        }
        pins = pins.saturating_add(last.saturating_add(1));
    }
    pins
}

/// Moves the 8259 pair's vectors away from the exceptions', in case one is spurious, and masks it.
pub fn mask_pic() {
    const MASTER: u16 = 0x20;
    const SLAVE: u16 = 0xa0;
    /// Vectors that nothing else uses.
    const MASTER_VECTOR: u8 = 0xe0;
    const SLAVE_VECTOR: u8 = 0xe8;
    let writes = [
        (MASTER, 0x11),
        (SLAVE, 0x11),
        (MASTER + 1, MASTER_VECTOR),
        (SLAVE + 1, SLAVE_VECTOR),
        (MASTER + 1, 4),
        (SLAVE + 1, 2),
        (MASTER + 1, 1),
        (SLAVE + 1, 1),
        (MASTER + 1, 0xff),
        (SLAVE + 1, 0xff),
    ];
    for (to, value) in writes {
        // SAFETY: the initialisation sequence of the 8259 pair, which ends with everything masked.
        unsafe { port::out8(to, value) };
    }
}
