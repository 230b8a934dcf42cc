//! `platform_op`: the few operations that an initial domain's kernel makes on its own (platform.h).
#![expect(non_upper_case_globals, reason = "C spelling")]

/// `XenPlatformOp::interface_version` must be this.
pub const XENPF_INTERFACE_VERSION: u32 = 0x0300_0001;
/// Sets the wall clock, 32-bit seconds.
pub const XENPF_settime32: u32 = 17;
/// Adds an MTRR.
pub const XENPF_add_memtype: u32 = 31;
/// Deletes an MTRR.
pub const XENPF_del_memtype: u32 = 32;
/// Reads an MTRR.
pub const XENPF_read_memtype: u32 = 33;
/// Loads microcode.
pub const XENPF_microcode_update: u32 = 35;
/// Works around a platform's fault.
pub const XENPF_platform_quirk: u32 = 39;
/// Reads a processor's version.
pub const XENPF_get_cpu_version: u32 = 48;
/// Calls EFI.
pub const XENPF_efi_runtime_call: u32 = 49;
/// Reads what the firmware said.
pub const XENPF_firmware_info: u32 = 50;
/// Sleeps.
pub const XENPF_enter_acpi_sleep: u32 = 51;
/// Sets a frequency.
pub const XENPF_change_freq: u32 = 52;
/// Reads idle times.
pub const XENPF_getidletime: u32 = 53;
/// Uploads processor power data.
pub const XENPF_set_processor_pminfo: u32 = 54;
/// Reads a processor's state: [`XenpfPcpuinfo`].
pub const XENPF_get_cpuinfo: u32 = 55;
/// Takes a processor into use.
pub const XENPF_cpu_online: u32 = 56;
/// Takes it out of use.
pub const XENPF_cpu_offline: u32 = 57;
/// Adds a processor.
pub const XENPF_cpu_hotadd: u32 = 58;
/// Adds memory.
pub const XENPF_mem_hotadd: u32 = 59;
/// Parks cores.
pub const XENPF_core_parking: u32 = 60;
/// Reads and writes MSRs.
pub const XENPF_resource_op: u32 = 61;
/// Sets the wall clock: [`XenpfSettime64`].
pub const XENPF_settime64: u32 = 62;
/// Reads the hypervisor's symbols.
pub const XENPF_get_symbol: u32 = 63;

abi_structs! {
    /// `struct xen_platform_op`.
    pub struct XenPlatformOp: 136 {
        /// `XENPF_*`.
        pub cmd: u32,
        /// [`XENPF_INTERFACE_VERSION`].
        pub interface_version: u32,
        /// The operation's own structure.
        pub u: [u8; 128],
    }

    /// `struct xenpf_settime64`: the wall clock would show this at that system time.
    pub struct XenpfSettime64: 24 {
        /// Seconds since 1970.
        pub secs: u64,
        /// Nanoseconds.
        pub nsecs: u32,
        /// Zero.
        pub mbz: u32,
        /// System time in ns.
        pub system_time: u64,
    }

    /// `struct xenpf_pcpuinfo`.
    pub struct XenpfPcpuinfo: 20 {
        /// In: processor.
        pub xen_cpuid: u32,
        /// Out: highest processor.
        pub max_present: u32,
        /// Out: `XEN_PCPU_FLAGS_*`.
        pub flags: u32,
        /// Out: its APIC id.
        pub apic_id: u32,
        /// Out: its ACPI id.
        pub acpi_id: u32,
    }
}

/// `XenpfPcpuinfo::flags`: in use.
pub const XEN_PCPU_FLAGS_ONLINE: u32 = 1;
/// `XenpfPcpuinfo::flags`: there is no such processor.
pub const XEN_PCPU_FLAGS_INVALID: u32 = 2;
