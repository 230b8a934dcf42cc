//! What the firmware's ACPI tables say: CPUs, interrupt controllers, the HPET. AML is a driver domain's business.
//!
//! The tables are the firmware's and are believed once their checksums hold, but their absence is not an error:
//! then there is one CPU, the local APIC at its usual place, and no HPET.

// UNSAFETY: gives the `acpi` crate views of firmware memory.
#![expect(unsafe_code, reason = "maps firmware tables")]
#![expect(clippy::cast_possible_truncation, reason = "addresses are 64 bits wide")]

use core::ptr::NonNull;

use acpi::address::AddressSpace;
use acpi::fadt::Fadt;
use acpi::hpet::HpetInfo;
use acpi::madt::{Madt, MadtEntry};
use acpi::{AcpiError, AcpiHandler, AcpiTables, PhysicalMapping};
use arrayvec::ArrayVec;

use super::boot::Rsdp;
use super::power::{self, Reset, SoftOff};
use crate::mm::hyp_pt;
use crate::percpu::MAX_CPUS;

/// The most I/O APICs that are kept.
pub const MAX_IO_APICS: usize = 16;
/// Entries of the MADT that are looked at, whatever it says.
const MAX_ENTRIES: usize = 4096;
/// Bytes of the DSDT that are looked at.
const MAX_DSDT: u32 = 4 << 20;

/// An I/O APIC.
#[derive(Clone, Copy, Debug)]
pub struct IoApicInfo {
    /// Machine address of its registers.
    pub address: u32,
}

/// Summary of the tables.
#[derive(Clone, Debug, Default)]
pub struct Platform {
    /// Local APIC identifiers of the usable CPUs.
    pub cpus: ArrayVec<u32, MAX_CPUS>,
    /// I/O APICs.
    pub io_apics: ArrayVec<IoApicInfo, MAX_IO_APICS>,
    /// Machine address of the local APIC, if the tables name one.
    pub local_apic: Option<u64>,
    /// Machine address of the HPET.
    pub hpet: Option<u64>,
}

/// What the `acpi` crate sees where a table cannot be mapped: no signature matches zeroes.
static NOTHING: [u64; 512] = [0; 512];

#[derive(Clone, Copy)]
struct Mapper;

impl AcpiHandler for Mapper {
    unsafe fn map_physical_region<T>(&self, physical_address: usize, size: usize) -> PhysicalMapping<Self, T> {
        let mapped = hyp_pt::map_firmware(physical_address as u64, size.max(1) as u64);
        let at = mapped.and_then(|va| NonNull::new(core::ptr::with_exposed_provenance_mut::<T>(va as usize)));
        let at = at.unwrap_or_else(|| {
            assert!(size <= size_of_val(&NOTHING), "acpi: a table of {size} bytes at {physical_address:#x} cannot be mapped");
            NonNull::from(&NOTHING).cast()
        });
        // SAFETY: the mapping is read-only, as long as it was asked for, and lasts for ever.
        unsafe { PhysicalMapping::new(physical_address, at, size, size, *self) }
    }

    fn unmap_physical_region<T>(_: &PhysicalMapping<Self, T>) {
        // A handful of pages of address space: not worth giving back.
    }
}

/// Reads the tables that `rsdp` leads to.
pub fn read(rsdp: Option<Rsdp>) -> Platform {
    let mut platform = Platform::default();
    let Some(rsdp) = rsdp else {
        log::info!("acpi: no tables");
        return platform;
    };
    // SAFETY: the boot loader's copy of the RSDP has been checked; the crate checks the table itself.
    let tables = match unsafe { AcpiTables::from_rsdt(Mapper, rsdp.revision, rsdp.root as usize) } {
        Ok(tables) => tables,
        Err(error) => {
            log::warn!("acpi: the root table at {:#x} is unusable: {error:?}", rsdp.root);
            return platform;
        }
    };
    match tables.find_table::<Madt>() {
        Ok(madt) => read_madt(&madt, &mut platform),
        Err(error) => log_missing("MADT", &error),
    }
    match HpetInfo::new(&tables) {
        Ok(hpet) => platform.hpet = Some(hpet.base_address as u64),
        Err(error) => log_missing("HPET", &error),
    }
    match tables.find_table::<Fadt>() {
        Ok(fadt) => read_fadt(&fadt.get()),
        Err(error) => log_missing("FADT", &error),
    }
    platform
}

/// An I/O port that a table names; none where it names memory, or nothing.
fn io_port(address: Option<acpi::address::GenericAddress>) -> Option<u16> {
    address.filter(|a| a.address_space == AddressSpace::SystemIo).and_then(|a| u16::try_from(a.address).ok()).filter(|&port| port != 0)
}

/// How the machine is switched off and reset.
fn read_fadt(fadt: &Fadt) {
    let reset = io_port(fadt.reset_register().ok()).filter(|_| { fadt.flags }.supports_system_reset_via_fadt());
    power::set_reset(reset.map(|port| Reset { port, value: fadt.reset_value }));
    let types = fadt.dsdt_address().ok().and_then(|at| {
        let header = NonNull::new(core::ptr::with_exposed_provenance_mut::<[u8; 8]>(hyp_pt::map_firmware(at as u64, 8)? as usize))?;
        // SAFETY: eight bytes of a table's header, mapped just now: its signature and length.
        let [.., a, b, c, d] = unsafe { header.read() };
        let len = u32::from_le_bytes([a, b, c, d]).min(MAX_DSDT);
        let aml = NonNull::new(core::ptr::with_exposed_provenance_mut::<u8>(hyp_pt::map_firmware(at as u64, len.into())? as usize))?;
        // SAFETY: mapped just now, read-only, for ever, and as long.
        pv_core::s5::sleep_types(unsafe { core::slice::from_raw_parts(aml.as_ptr(), len as usize) })
    });
    let pm1a = io_port(fadt.pm1a_control_block().ok());
    let (Some((type_a, type_b)), Some(pm1a)) = (types, pm1a) else {
        log::info!("acpi: nothing says how to switch this machine off");
        return;
    };
    let pm1b = io_port(fadt.pm1b_control_block().ok().flatten());
    let enable = u16::try_from(fadt.smi_cmd_port).ok().filter(|&port| port != 0).map(|port| (port, fadt.acpi_enable));
    power::set_off(SoftOff { pm1a, pm1b, type_a, type_b, enable });
}

fn log_missing(table: &str, error: &AcpiError) {
    log::info!("acpi: no {table}: {error:?}");
}

fn read_madt(madt: &PhysicalMapping<Mapper, Madt>, platform: &mut Platform) {
    let pinned = madt.get();
    platform.local_apic = Some(pinned.local_apic_address.into());
    /// A processor that can be used: enabled, in the flags of its entry.
    const ENABLED: u32 = 1;
    let mut dropped = 0u32;
    for entry in pinned.entries().take(MAX_ENTRIES) {
        let kept = match entry {
            MadtEntry::LocalApic(cpu) if cpu.flags & ENABLED != 0 => platform.cpus.try_push(cpu.apic_id.into()).is_ok(),
            MadtEntry::LocalX2Apic(cpu) if cpu.flags & ENABLED != 0 => platform.cpus.try_push(cpu.x2apic_id).is_ok(),
            MadtEntry::IoApic(io) => platform.io_apics.try_push(IoApicInfo { address: io.io_apic_address }).is_ok(),
            MadtEntry::LocalApicAddressOverride(over) => {
                platform.local_apic = Some(over.local_apic_address);
                true
            }
            _ => true,
        };
        dropped = dropped.saturating_add(u32::from(!kept));
    }
    if dropped > 0 {
        log::warn!("acpi: {dropped} CPUs or I/O APICs are beyond what is supported and stay unused");
    }
}
