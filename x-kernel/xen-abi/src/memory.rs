//! `memory_op`: a domain's memory and its maps (memory.h).
//!
//! The sub-operation is in the low 6 bits of the first argument; the rest, zero in a guest's first call, carries
//! the progress of a preempted one.
#![expect(non_upper_case_globals, reason = "C spelling")]

/// Adds memory: [`XenMemoryReservation`].
pub const XENMEM_increase_reservation: u32 = 0;
/// Gives memory back: [`XenMemoryReservation`].
pub const XENMEM_decrease_reservation: u32 = 1;
/// Returns the highest mfn of RAM.
pub const XENMEM_maximum_ram_page: u32 = 2;
/// Returns a domain's pages: [`XenMemoryDomain`].
pub const XENMEM_current_reservation: u32 = 3;
/// Returns its limit: [`XenMemoryDomain`].
pub const XENMEM_maximum_reservation: u32 = 4;
/// Lists the frames of the machine-to-physical table: [`XenMachphysMfnList`].
pub const XENMEM_machphys_mfn_list: u32 = 5;
/// Adds memory at given pfns: [`XenMemoryReservation`].
pub const XENMEM_populate_physmap: u32 = 6;
/// Translated guests: places a page: [`XenAddToPhysmap`].
pub const XENMEM_add_to_physmap: u32 = 7;
/// Writes the domain's memory map: [`XenMemoryMap`].
pub const XENMEM_memory_map: u32 = 9;
/// Writes the machine's memory map: [`XenMemoryMap`].
pub const XENMEM_machine_memory_map: u32 = 10;
/// Swaps memory for memory of another shape: [`XenMemoryExchange`].
pub const XENMEM_exchange: u32 = 11;
/// Says where the machine-to-physical table is: [`XenMachphysMapping`].
pub const XENMEM_machphys_mapping: u32 = 12;
/// Sets a domain's memory map: [`XenForeignMemoryMap`].
pub const XENMEM_set_memory_map: u32 = 13;
/// Returns a domain's highest gfn: [`XenMemoryDomain`].
pub const XENMEM_maximum_gpfn: u32 = 14;
/// Translated guests: removes a page: [`XenRemoveFromPhysmap`].
pub const XENMEM_remove_from_physmap: u32 = 15;
/// Populate on demand: [`XenPodTarget`].
pub const XENMEM_set_pod_target: u32 = 16;
/// Populate on demand: [`XenPodTarget`].
pub const XENMEM_get_pod_target: u32 = 17;
/// Toolstack: sharing.
pub const XENMEM_get_sharing_freed_pages: u32 = 18;
/// Toolstack: sharing.
pub const XENMEM_get_sharing_shared_pages: u32 = 19;
/// Toolstack: paging.
pub const XENMEM_paging_op: u32 = 20;
/// Toolstack: access rights.
pub const XENMEM_access_op: u32 = 21;
/// Toolstack: sharing.
pub const XENMEM_sharing_op: u32 = 22;
/// Translated guests: places pages: [`XenAddToPhysmapBatch`].
pub const XENMEM_add_to_physmap_batch: u32 = 23;
/// Toolstack: reserves memory for a domain.
pub const XENMEM_claim_pages: u32 = 24;
/// As [`XENMEM_machphys_mfn_list`], of the 32-bit table.
pub const XENMEM_machphys_compat_mfn_list: u32 = 25;
/// Virtual NUMA: [`XenVnumaTopologyInfo`].
pub const XENMEM_get_vnumainfo: u32 = 26;
/// Toolstack: memory reserved for devices.
pub const XENMEM_reserved_device_memory_map: u32 = 27;
/// Toolstack: maps a domain's resource: [`XenMemAcquireResource`].
pub const XENMEM_acquire_resource: u32 = 28;

/// Low bits of `memory_op`'s first argument: the sub-operation; above them the progress of a preempted call.
pub const MEMOP_CMD_MASK: u64 = 0x3f;

/// `XenMemoryReservation::mem_flags`: populate on demand.
pub const XENMEMF_populate_on_demand: u32 = 1 << 16;
/// Only from the node given.
pub const XENMEMF_exact_node_request: u32 = 1 << 17;
/// The node is a virtual one.
pub const XENMEMF_vnode: u32 = 1 << 18;
/// Low bits of `mem_flags`: width of the addresses wanted; 0 any (`XENMEMF_get_address_bits`).
pub const XENMEMF_ADDRESS_BITS_MASK: u32 = 0xff;

/// `XenAddToPhysmap::space`: the shared_info page.
pub const XENMAPSPACE_shared_info: u32 = 0;
/// A grant table page.
pub const XENMAPSPACE_grant_table: u32 = 1;
/// A page of the domain.
pub const XENMAPSPACE_gmfn: u32 = 2;
/// A range of them.
pub const XENMAPSPACE_gmfn_range: u32 = 3;
/// A page of another domain.
pub const XENMAPSPACE_gmfn_foreign: u32 = 4;
/// Device memory, ARM.
pub const XENMAPSPACE_dev_mmio: u32 = 5;
/// `XenAddToPhysmap::idx`: a status page of the grant table.
pub const XENMAPIDX_grant_table_status: u32 = 0x8000_0000;

/// `XenMemAcquireResource::type`: ioreq server.
pub const XENMEM_resource_ioreq_server: u16 = 0;
/// Grant table.
pub const XENMEM_resource_grant_table: u16 = 1;
/// Trace buffer.
pub const XENMEM_resource_vmtrace_buf: u16 = 2;

/// `E820Entry::type`: usable memory. (The ABI takes these numbers from the PC firmware's INT 15h, E820h.)
pub const E820_RAM: u32 = 1;
/// Reserved.
pub const E820_RESERVED: u32 = 2;
/// ACPI tables.
pub const E820_ACPI: u32 = 3;
/// ACPI memory to be preserved.
pub const E820_NVS: u32 = 4;
/// Unusable.
pub const E820_UNUSABLE: u32 = 5;

/// One range of a memory map: packed, 20 bytes.
#[derive(
    Clone, Copy, Debug, Default, Eq, PartialEq, zerocopy::FromBytes, zerocopy::Immutable, zerocopy::IntoBytes, zerocopy::KnownLayout,
)]
#[repr(C, packed)]
pub struct E820Entry {
    /// First byte.
    pub addr: u64,
    /// Bytes.
    pub size: u64,
    /// `E820_*`.
    pub r#type: u32,
}

const _: () = assert!(size_of::<E820Entry>() == 20);

abi_structs! {
    /// `struct xen_memory_reservation`.
    pub struct XenMemoryReservation: 32 {
        /// Guest address of an array of frame numbers, one per extent.
        pub extent_start: u64,
        /// Extents.
        pub nr_extents: u64,
        /// Pages of an extent: 2 to this power.
        pub extent_order: u32,
        /// `XENMEMF_*`.
        pub mem_flags: u32,
        /// The domain.
        pub domid: u16,
        /// Padding.
        pub _pad0: [u16; 3],
    }

    /// `struct xen_memory_exchange`.
    pub struct XenMemoryExchange: 72 {
        /// What is given. C name `in`.
        pub r#in: XenMemoryReservation,
        /// What is wanted: pfns in, mfns out.
        pub out: XenMemoryReservation,
        /// In: 0. Out: extents of `in` done.
        pub nr_exchanged: u64,
    }

    /// `struct xen_memory_domain`.
    pub struct XenMemoryDomain: 2 {
        /// The domain.
        pub domid: u16,
    }

    /// `struct xen_machphys_mfn_list`.
    pub struct XenMachphysMfnList: 24 {
        /// In: length of the array.
        pub max_extents: u32,
        /// Padding.
        pub _pad0: u32,
        /// In: guest address of an array of mfns, one per 2 MiB.
        pub extent_start: u64,
        /// Out: entries written.
        pub nr_extents: u32,
        /// Padding.
        pub _pad1: u32,
    }

    /// `struct xen_machphys_mapping`.
    pub struct XenMachphysMapping: 24 {
        /// First virtual address.
        pub v_start: u64,
        /// End.
        pub v_end: u64,
        /// Highest mfn with an entry.
        pub max_mfn: u64,
    }

    /// `struct xen_add_to_physmap`.
    pub struct XenAddToPhysmap: 24 {
        /// The domain.
        pub domid: u16,
        /// Pages of a range.
        pub size: u16,
        /// `XENMAPSPACE_*`.
        pub space: u32,
        /// Index in it.
        pub idx: u64,
        /// Where to put it.
        pub gpfn: u64,
    }

    /// `struct xen_add_to_physmap_batch`.
    pub struct XenAddToPhysmapBatch: 32 {
        /// The domain.
        pub domid: u16,
        /// `XENMAPSPACE_*`.
        pub space: u16,
        /// Pages.
        pub size: u16,
        /// Owner of the pages, for `XENMAPSPACE_gmfn_foreign`.
        pub foreign_domid: u16,
        /// Guest address of indices.
        pub idxs: u64,
        /// Guest address of places.
        pub gpfns: u64,
        /// Guest address of errors.
        pub errs: u64,
    }

    /// `struct xen_remove_from_physmap`.
    pub struct XenRemoveFromPhysmap: 16 {
        /// The domain.
        pub domid: u16,
        /// Padding.
        pub _pad0: [u16; 3],
        /// The page.
        pub gpfn: u64,
    }

    /// `struct xen_memory_map`.
    pub struct XenMemoryMap: 16 {
        /// In: entries that fit. Out: entries written.
        pub nr_entries: u32,
        /// Padding.
        pub _pad0: u32,
        /// Guest address of an array of [`E820Entry`].
        pub buffer: u64,
    }

    /// `struct xen_foreign_memory_map`.
    pub struct XenForeignMemoryMap: 24 {
        /// The domain.
        pub domid: u16,
        /// Padding.
        pub _pad0: [u16; 3],
        /// Its map.
        pub map: XenMemoryMap,
    }

    /// `struct xen_pod_target`.
    pub struct XenPodTarget: 40 {
        /// In.
        pub target_pages: u64,
        /// Out.
        pub tot_pages: u64,
        /// Out.
        pub pod_cache_pages: u64,
        /// Out.
        pub pod_entries: u64,
        /// In.
        pub domid: u16,
        /// Padding.
        pub _pad0: [u16; 3],
    }

    /// `struct xen_mem_acquire_resource`.
    pub struct XenMemAcquireResource: 32 {
        /// In: the domain.
        pub domid: u16,
        /// In: `XENMEM_resource_*`.
        pub r#type: u16,
        /// In: which one.
        pub id: u32,
        /// In and out.
        pub nr_frames: u32,
        /// Zero.
        pub pad: u32,
        /// In: first frame.
        pub frame: u64,
        /// Guest address of an array of frame numbers.
        pub frame_list: u64,
    }

    /// `struct xen_vmemrange`.
    pub struct XenVmemrange: 24 {
        /// First address.
        pub start: u64,
        /// End.
        pub end: u64,
        /// Zero.
        pub flags: u32,
        /// Node.
        pub nid: u32,
    }

    /// `struct xen_vnuma_topology_info`.
    pub struct XenVnumaTopologyInfo: 40 {
        /// In.
        pub domid: u16,
        /// Zero.
        pub pad: u16,
        /// In and out.
        pub nr_vnodes: u32,
        /// In and out.
        pub nr_vcpus: u32,
        /// In and out.
        pub nr_vmemranges: u32,
        /// Guest address of distances.
        pub vdistance: u64,
        /// Guest address of nodes per vCPU.
        pub vcpu_to_vnode: u64,
        /// Guest address of [`XenVmemrange`]s.
        pub vmemrange: u64,
    }
}
