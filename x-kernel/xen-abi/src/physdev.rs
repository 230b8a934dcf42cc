//! `physdev_op`: physical interrupts, PCI, I/O ports (physdev.h).
#![expect(non_upper_case_globals, reason = "C spelling")]

/// Obsolete.
pub const PHYSDEVOP_IRQ_UNMASK_NOTIFY: u32 = 4;
/// [`PhysdevIrqStatusQuery`].
pub const PHYSDEVOP_irq_status_query: u32 = 5;
/// [`PhysdevSetIopl`].
pub const PHYSDEVOP_set_iopl: u32 = 6;
/// [`PhysdevSetIobitmap`].
pub const PHYSDEVOP_set_iobitmap: u32 = 7;
/// [`PhysdevApic`].
pub const PHYSDEVOP_apic_read: u32 = 8;
/// [`PhysdevApic`].
pub const PHYSDEVOP_apic_write: u32 = 9;
/// [`PhysdevIrq`].
pub const PHYSDEVOP_alloc_irq_vector: u32 = 10;
/// [`PhysdevIrq`].
pub const PHYSDEVOP_free_irq_vector: u32 = 11;
/// [`PhysdevEoi`].
pub const PHYSDEVOP_eoi: u32 = 12;
/// [`PhysdevMapPirq`].
pub const PHYSDEVOP_map_pirq: u32 = 13;
/// [`PhysdevUnmapPirq`].
pub const PHYSDEVOP_unmap_pirq: u32 = 14;
/// [`PhysdevManagePci`].
pub const PHYSDEVOP_manage_pci_add: u32 = 15;
/// [`PhysdevManagePci`].
pub const PHYSDEVOP_manage_pci_remove: u32 = 16;
/// [`PhysdevPirqEoiGmfn`].
pub const PHYSDEVOP_pirq_eoi_gmfn_v1: u32 = 17;
/// [`PhysdevManagePci`].
pub const PHYSDEVOP_restore_msi: u32 = 19;
/// A PCI function with its physical function.
pub const PHYSDEVOP_manage_pci_add_ext: u32 = 20;
/// [`PhysdevSetupGsi`].
pub const PHYSDEVOP_setup_gsi: u32 = 21;
/// [`PhysdevGetFreePirq`].
pub const PHYSDEVOP_get_free_pirq: u32 = 23;
/// [`PhysdevPciMmcfgReserved`].
pub const PHYSDEVOP_pci_mmcfg_reserved: u32 = 24;
/// [`PhysdevPciDeviceAdd`].
pub const PHYSDEVOP_pci_device_add: u32 = 25;
/// [`PhysdevPciDevice`].
pub const PHYSDEVOP_pci_device_remove: u32 = 26;
/// [`PhysdevPciDevice`].
pub const PHYSDEVOP_restore_msi_ext: u32 = 27;
/// [`PhysdevPirqEoiGmfn`].
pub const PHYSDEVOP_pirq_eoi_gmfn_v2: u32 = 28;
/// USB debug port.
pub const PHYSDEVOP_dbgp_op: u32 = 29;
/// [`PhysdevPciDevice`].
pub const PHYSDEVOP_prepare_msix: u32 = 30;
/// [`PhysdevPciDevice`].
pub const PHYSDEVOP_release_msix: u32 = 31;

/// The interrupt wants an end-of-interrupt call.
pub const XENIRQSTAT_needs_eoi: u32 = 1 << 0;
/// Several guests share it.
pub const XENIRQSTAT_shared: u32 = 1 << 1;

/// An MSI.
pub const MAP_PIRQ_TYPE_MSI: i32 = 0;
/// A global system interrupt.
pub const MAP_PIRQ_TYPE_GSI: i32 = 1;
/// Unknown.
pub const MAP_PIRQ_TYPE_UNKNOWN: i32 = 2;
/// An MSI with a PCI segment.
pub const MAP_PIRQ_TYPE_MSI_SEG: i32 = 3;
/// Several MSIs.
pub const MAP_PIRQ_TYPE_MULTI_MSI: i32 = 4;

abi_structs! {
    /// `struct physdev_irq_status_query`.
    pub struct PhysdevIrqStatusQuery: 8 {
        /// In.
        pub irq: u32,
        /// Out: `XENIRQSTAT_*`.
        pub flags: u32,
    }

    /// `struct physdev_set_iopl`.
    pub struct PhysdevSetIopl: 4 {
        /// In: 0 to 3.
        pub iopl: u32,
    }

    /// `struct physdev_set_iobitmap`.
    pub struct PhysdevSetIobitmap: 16 {
        /// In: guest address of the bitmap.
        pub bitmap: u64,
        /// In: its bits.
        pub nr_ports: u32,
        /// Padding.
        pub _pad0: u32,
    }

    /// `struct physdev_apic`.
    pub struct PhysdevApic: 16 {
        /// In: the I/O APIC's physical address.
        pub apic_physbase: u64,
        /// In: the register.
        pub reg: u32,
        /// In or out.
        pub value: u32,
    }

    /// `struct physdev_irq`.
    pub struct PhysdevIrq: 8 {
        /// In.
        pub irq: u32,
        /// In or out.
        pub vector: u32,
    }

    /// `struct physdev_eoi`.
    pub struct PhysdevEoi: 4 {
        /// In.
        pub irq: u32,
    }

    /// `struct physdev_pirq_eoi_gmfn`.
    pub struct PhysdevPirqEoiGmfn: 8 {
        /// In: frame of a bitmap.
        pub gmfn: u64,
    }

    /// `struct physdev_map_pirq`.
    pub struct PhysdevMapPirq: 40 {
        /// In.
        pub domid: u16,
        /// Padding.
        pub _pad0: u16,
        /// In: `MAP_PIRQ_TYPE_*`.
        pub r#type: i32,
        /// In.
        pub index: i32,
        /// In or out.
        pub pirq: i32,
        /// In: bus; segment in the upper half.
        pub bus: i32,
        /// In.
        pub devfn: i32,
        /// In or out.
        pub entry_nr: i32,
        /// Padding.
        pub _pad1: u32,
        /// In.
        pub table_base: u64,
    }

    /// `struct physdev_unmap_pirq`.
    pub struct PhysdevUnmapPirq: 8 {
        /// In.
        pub domid: u16,
        /// Padding.
        pub _pad0: u16,
        /// In.
        pub pirq: i32,
    }

    /// `struct physdev_manage_pci`.
    pub struct PhysdevManagePci: 2 {
        /// In.
        pub bus: u8,
        /// In.
        pub devfn: u8,
    }

    /// `struct physdev_setup_gsi`.
    pub struct PhysdevSetupGsi: 8 {
        /// In.
        pub gsi: i32,
        /// In: 0 edge, 1 level.
        pub triggering: u8,
        /// In: 0 active high, 1 active low.
        pub polarity: u8,
        /// Padding.
        pub _pad0: u16,
    }

    /// `struct physdev_get_free_pirq`.
    pub struct PhysdevGetFreePirq: 8 {
        /// In: `MAP_PIRQ_TYPE_*`.
        pub r#type: i32,
        /// Out.
        pub pirq: u32,
    }

    /// `struct physdev_pci_mmcfg_reserved`.
    pub struct PhysdevPciMmcfgReserved: 16 {
        /// In: physical address.
        pub address: u64,
        /// In.
        pub segment: u16,
        /// In.
        pub start_bus: u8,
        /// In.
        pub end_bus: u8,
        /// In.
        pub flags: u32,
    }

    /// `struct physdev_pci_device_add`; optional parameters follow it.
    pub struct PhysdevPciDeviceAdd: 12 {
        /// In.
        pub seg: u16,
        /// In.
        pub bus: u8,
        /// In.
        pub devfn: u8,
        /// In.
        pub flags: u32,
        /// In: bus and devfn of the physical function.
        pub physfn: [u8; 2],
        /// Padding.
        pub _pad0: u16,
    }

    /// `struct physdev_pci_device`.
    pub struct PhysdevPciDevice: 4 {
        /// In.
        pub seg: u16,
        /// In.
        pub bus: u8,
        /// In.
        pub devfn: u8,
    }
}
