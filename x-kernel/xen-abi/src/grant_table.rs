//! `grant_table_op`: sharing pages between domains (grant_table.h).
//!
//! A grant reference and a handle are `u32`. Each structure carries its own `status`, `GNTST_*`; the hypercall
//! itself fails only where the array cannot be read or written.
#![expect(non_upper_case_globals, reason = "C spelling")]

/// [`GnttabMapGrantRef`].
pub const GNTTABOP_map_grant_ref: u32 = 0;
/// [`GnttabUnmapGrantRef`].
pub const GNTTABOP_unmap_grant_ref: u32 = 1;
/// [`GnttabSetupTable`].
pub const GNTTABOP_setup_table: u32 = 2;
/// [`GnttabDumpTable`].
pub const GNTTABOP_dump_table: u32 = 3;
/// [`GnttabTransfer`].
pub const GNTTABOP_transfer: u32 = 4;
/// [`GnttabCopy`].
pub const GNTTABOP_copy: u32 = 5;
/// [`GnttabQuerySize`].
pub const GNTTABOP_query_size: u32 = 6;
/// [`GnttabUnmapAndReplace`].
pub const GNTTABOP_unmap_and_replace: u32 = 7;
/// [`GnttabSetVersion`].
pub const GNTTABOP_set_version: u32 = 8;
/// [`GnttabGetStatusFrames`].
pub const GNTTABOP_get_status_frames: u32 = 9;
/// [`GnttabGetVersion`].
pub const GNTTABOP_get_version: u32 = 10;
/// [`GnttabSwapGrantRef`].
pub const GNTTABOP_swap_grant_ref: u32 = 11;
/// [`GnttabCacheFlush`].
pub const GNTTABOP_cache_flush: u32 = 12;

/// Entries kept for the toolstack.
pub const GNTTAB_NR_RESERVED_ENTRIES: u32 = 8;
/// The console ring's entry.
pub const GNTTAB_RESERVED_CONSOLE: u32 = 0;
/// The store ring's entry.
pub const GNTTAB_RESERVED_XENSTORE: u32 = 1;

/// Entry: unused.
pub const GTF_invalid: u16 = 0;
/// Entry: the domain may access the frame.
pub const GTF_permit_access: u16 = 1;
/// Entry: the domain may give a frame.
pub const GTF_accept_transfer: u16 = 2;
/// Entry: stands for another entry (version 2).
pub const GTF_transitive: u16 = 3;
/// The bits of the entry's type.
pub const GTF_type_mask: u16 = 3;
/// Access only for reading.
pub const GTF_readonly: u16 = 1 << 2;
/// Set by the hypervisor: mapped or being read.
pub const GTF_reading: u16 = 1 << 3;
/// Set by the hypervisor: mapped or being written.
pub const GTF_writing: u16 = 1 << 4;
/// Cache attribute.
pub const GTF_PWT: u16 = 1 << 5;
/// Cache attribute.
pub const GTF_PCD: u16 = 1 << 6;
/// Cache attribute.
pub const GTF_PAT: u16 = 1 << 7;
/// Only part of the page (version 2).
pub const GTF_sub_page: u16 = 1 << 8;
/// Transfer: the other domain has begun.
pub const GTF_transfer_committed: u16 = 1 << 2;
/// Transfer: the frame is there.
pub const GTF_transfer_completed: u16 = 1 << 3;

/// Map for devices.
pub const GNTMAP_device_map: u32 = 1 << 0;
/// Map for processors.
pub const GNTMAP_host_map: u32 = 1 << 1;
/// Only for reading.
pub const GNTMAP_readonly: u32 = 1 << 2;
/// For the guest's processes too.
pub const GNTMAP_application_map: u32 = 1 << 3;
/// `host_addr` is the machine address of a page-table entry.
pub const GNTMAP_contains_pte: u32 = 1 << 4;
/// First of the bits for the entry's available bits.
pub const _GNTMAP_guest_avail0: u32 = 16;
/// Those bits.
pub const GNTMAP_guest_avail_mask: u32 = u32::MAX << _GNTMAP_guest_avail0;

/// `GnttabCopy::flags`: the source is a grant reference.
pub const GNTCOPY_source_gref: u16 = 1 << 0;
/// `GnttabCopy::flags`: the destination is a grant reference.
pub const GNTCOPY_dest_gref: u16 = 1 << 1;

/// `GnttabCacheFlush::op`: write back.
pub const GNTTAB_CACHE_CLEAN: u32 = 1 << 0;
/// `GnttabCacheFlush::op`: invalidate.
pub const GNTTAB_CACHE_INVAL: u32 = 1 << 1;
/// `GnttabCacheFlush::op`: the page is given by reference.
pub const GNTTAB_CACHE_SOURCE_GREF: u32 = 1 << 31;

/// Done.
pub const GNTST_okay: i16 = 0;
/// None of the others.
pub const GNTST_general_error: i16 = -1;
/// No such domain.
pub const GNTST_bad_domain: i16 = -2;
/// No such grant, or not for this.
pub const GNTST_bad_gntref: i16 = -3;
/// No such handle, or not for this.
pub const GNTST_bad_handle: i16 = -4;
/// The place to map at is wrong.
pub const GNTST_bad_virt_addr: i16 = -5;
/// The device address is wrong.
pub const GNTST_bad_dev_addr: i16 = -6;
/// The I/O MMU is full.
pub const GNTST_no_device_space: i16 = -7;
/// Not allowed.
pub const GNTST_permission_denied: i16 = -8;
/// The page is wrong.
pub const GNTST_bad_page: i16 = -9;
/// A copy crosses its page.
pub const GNTST_bad_copy_arg: i16 = -10;
/// A transferred page's address is too high.
pub const GNTST_address_too_big: i16 = -11;
/// Try again.
pub const GNTST_eagain: i16 = -12;
/// No room for another handle or entry.
pub const GNTST_no_space: i16 = -13;

abi_structs! {
    /// Version 1 entry of the shared table (`struct grant_entry_v1`).
    pub struct GrantEntryV1: 8 {
        /// `GTF_*`; the hypervisor sets `GTF_reading` and `GTF_writing` by compare-and-exchange.
        pub flags: u16,
        /// Whom it is for.
        pub domid: u16,
        /// The frame.
        pub frame: u32,
    }

    /// Version 2 entry (`union grant_entry_v2`), whole-page and sub-page readings.
    pub struct GrantEntryV2: 16 {
        /// `GTF_*`.
        pub flags: u16,
        /// Whom it is for.
        pub domid: u16,
        /// Sub-page: first byte.
        pub page_off: u16,
        /// Sub-page: bytes.
        pub length: u16,
        /// The frame.
        pub frame: u64,
    }

    /// `struct gnttab_map_grant_ref`.
    pub struct GnttabMapGrantRef: 32 {
        /// In: virtual address, or machine address of an entry ([`GNTMAP_contains_pte`]).
        pub host_addr: u64,
        /// In: `GNTMAP_*`.
        pub flags: u32,
        /// In: reference.
        pub r#ref: u32,
        /// In: who grants.
        pub dom: u16,
        /// Out: `GNTST_*`.
        pub status: i16,
        /// Out: handle.
        pub handle: u32,
        /// Out: machine address for devices.
        pub dev_bus_addr: u64,
    }

    /// `struct gnttab_unmap_grant_ref`.
    pub struct GnttabUnmapGrantRef: 24 {
        /// In: as given to map; 0 not to be unmapped.
        pub host_addr: u64,
        /// In: as returned by map; 0 not to be unmapped.
        pub dev_bus_addr: u64,
        /// In.
        pub handle: u32,
        /// Out: `GNTST_*`.
        pub status: i16,
        /// Padding.
        pub _pad0: u16,
    }

    /// `struct gnttab_setup_table`.
    pub struct GnttabSetupTable: 24 {
        /// In: whose table.
        pub dom: u16,
        /// Padding.
        pub _pad0: u16,
        /// In: frames wanted.
        pub nr_frames: u32,
        /// Out: `GNTST_*`.
        pub status: i16,
        /// Padding.
        pub _pad1: [u16; 3],
        /// In: guest address of an array of frame numbers to fill.
        pub frame_list: u64,
    }

    /// `struct gnttab_dump_table`.
    pub struct GnttabDumpTable: 4 {
        /// In.
        pub dom: u16,
        /// Out: `GNTST_*`.
        pub status: i16,
    }

    /// `struct gnttab_transfer`.
    pub struct GnttabTransfer: 24 {
        /// In: the frame.
        pub mfn: u64,
        /// In: to whom.
        pub domid: u16,
        /// Padding.
        pub _pad0: u16,
        /// In: its reference.
        pub r#ref: u32,
        /// Out: `GNTST_*`.
        pub status: i16,
        /// Padding.
        pub _pad1: [u16; 3],
    }

    /// One end of a copy (`struct gnttab_copy_ptr`).
    pub struct GnttabCopyPtr: 16 {
        /// Reference (low half) or frame.
        pub u: u64,
        /// Whose.
        pub domid: u16,
        /// First byte.
        pub offset: u16,
        /// Padding.
        pub _pad0: u32,
    }

    /// `struct gnttab_copy`.
    pub struct GnttabCopy: 40 {
        /// In: from.
        pub source: GnttabCopyPtr,
        /// In: to.
        pub dest: GnttabCopyPtr,
        /// In: bytes.
        pub len: u16,
        /// In: `GNTCOPY_*`.
        pub flags: u16,
        /// Out: `GNTST_*`.
        pub status: i16,
        /// Padding.
        pub _pad0: u16,
    }

    /// `struct gnttab_query_size`.
    pub struct GnttabQuerySize: 16 {
        /// In: whose table.
        pub dom: u16,
        /// Padding.
        pub _pad0: u16,
        /// Out: frames now.
        pub nr_frames: u32,
        /// Out: frames at most.
        pub max_nr_frames: u32,
        /// Out: `GNTST_*`.
        pub status: i16,
        /// Padding.
        pub _pad1: u16,
    }

    /// `struct gnttab_unmap_and_replace`.
    pub struct GnttabUnmapAndReplace: 24 {
        /// In: the grant's mapping.
        pub host_addr: u64,
        /// In: the mapping that takes its place.
        pub new_addr: u64,
        /// In.
        pub handle: u32,
        /// Out: `GNTST_*`.
        pub status: i16,
        /// Padding.
        pub _pad0: u16,
    }

    /// `struct gnttab_set_version`.
    pub struct GnttabSetVersion: 4 {
        /// In and out: 1 or 2.
        pub version: u32,
    }

    /// `struct gnttab_get_status_frames`.
    pub struct GnttabGetStatusFrames: 16 {
        /// In: frames wanted.
        pub nr_frames: u32,
        /// In: whose table.
        pub dom: u16,
        /// Out: `GNTST_*`.
        pub status: i16,
        /// In: guest address of an array of frame numbers to fill.
        pub frame_list: u64,
    }

    /// `struct gnttab_get_version`.
    pub struct GnttabGetVersion: 8 {
        /// In: whose table.
        pub dom: u16,
        /// Padding.
        pub pad: u16,
        /// Out.
        pub version: u32,
    }

    /// `struct gnttab_swap_grant_ref`.
    pub struct GnttabSwapGrantRef: 12 {
        /// In.
        pub ref_a: u32,
        /// In.
        pub ref_b: u32,
        /// Out: `GNTST_*`.
        pub status: i16,
        /// Padding.
        pub _pad0: u16,
    }

    /// `struct gnttab_cache_flush`.
    pub struct GnttabCacheFlush: 16 {
        /// In: device address or reference (low half).
        pub a: u64,
        /// In: first byte.
        pub offset: u16,
        /// In: bytes.
        pub length: u16,
        /// In: `GNTTAB_CACHE_*`.
        pub op: u32,
    }
}

impl GnttabCopyPtr {
    /// The reference (`by_gref`, from [`GNTCOPY_source_gref`] or [`GNTCOPY_dest_gref`]) or the frame.
    pub const fn number(&self, by_gref: bool) -> u64 {
        if by_gref { self.u & 0xffff_ffff } else { self.u }
    }
}
