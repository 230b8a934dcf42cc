//! Page-table hypercalls: `mmu_update`, `mmuext_op`, `update_va_mapping` (xen.h).
//!
//! All frame numbers and entries are machine ones: PV guests see through no translation.

/// Replaces a page-table entry.
pub const MMU_NORMAL_PT_UPDATE: u64 = 0;
/// Sets the machine-to-physical entry of a frame.
pub const MMU_MACHPHYS_UPDATE: u64 = 1;
/// Replaces a page-table entry, keeping its accessed and dirty bits set where they are.
pub const MMU_PT_UPDATE_PRESERVE_AD: u64 = 2;
/// Replaces a page-table entry whose value is never translated.
pub const MMU_PT_UPDATE_NO_TRANSLATE: u64 = 3;

/// Pins a frame as a level-1 table.
pub const MMUEXT_PIN_L1_TABLE: u32 = 0;
/// Pins a frame as a level-2 table.
pub const MMUEXT_PIN_L2_TABLE: u32 = 1;
/// Pins a frame as a level-3 table.
pub const MMUEXT_PIN_L3_TABLE: u32 = 2;
/// Pins a frame as a level-4 table.
pub const MMUEXT_PIN_L4_TABLE: u32 = 3;
/// Unpins a table of any level.
pub const MMUEXT_UNPIN_TABLE: u32 = 4;
/// Loads the kernel's level-4 table.
pub const MMUEXT_NEW_BASEPTR: u32 = 5;
/// Flushes the TLB of this vCPU.
pub const MMUEXT_TLB_FLUSH_LOCAL: u32 = 6;
/// Flushes one address on this vCPU.
pub const MMUEXT_INVLPG_LOCAL: u32 = 7;
/// Flushes the TLBs of the vCPUs of a bitmap.
pub const MMUEXT_TLB_FLUSH_MULTI: u32 = 8;
/// Flushes one address on the vCPUs of a bitmap.
pub const MMUEXT_INVLPG_MULTI: u32 = 9;
/// Flushes the TLBs of all vCPUs.
pub const MMUEXT_TLB_FLUSH_ALL: u32 = 10;
/// Flushes one address on all vCPUs.
pub const MMUEXT_INVLPG_ALL: u32 = 11;
/// Writes back and invalidates this processor's caches.
pub const MMUEXT_FLUSH_CACHE: u32 = 12;
/// Sets the LDT.
pub const MMUEXT_SET_LDT: u32 = 13;
/// Sets the level-4 table of user mode.
pub const MMUEXT_NEW_USER_BASEPTR: u32 = 15;
/// Zeroes a frame.
pub const MMUEXT_CLEAR_PAGE: u32 = 16;
/// Copies a frame.
pub const MMUEXT_COPY_PAGE: u32 = 17;
/// Writes back and invalidates all processors' caches.
pub const MMUEXT_FLUSH_CACHE_GLOBAL: u32 = 18;
/// Marks a superpage.
pub const MMUEXT_MARK_SUPER: u32 = 19;
/// Unmarks a superpage.
pub const MMUEXT_UNMARK_SUPER: u32 = 20;

/// `update_va_mapping` flushes nothing.
pub const UVMF_NONE: u64 = 0;
/// It flushes whole TLBs.
pub const UVMF_TLB_FLUSH: u64 = 1;
/// It flushes the one address.
pub const UVMF_INVLPG: u64 = 2;
/// The bits that say what to flush.
pub const UVMF_FLUSHTYPE_MASK: u64 = 3;
/// Flush on the vCPUs of a bitmap: the rest of the argument is its address.
pub const UVMF_MULTI: u64 = 0;
/// Flush on this vCPU: [`UVMF_MULTI`] without a bitmap.
pub const UVMF_LOCAL: u64 = 0;
/// Flush on all vCPUs.
pub const UVMF_ALL: u64 = 4;

abi_structs! {
    /// One request of `mmu_update` (`struct mmu_update`).
    pub struct MmuUpdate: 16 {
        /// Machine address of the entry; the two low bits are the `MMU_*` command.
        pub ptr: u64,
        /// The new value.
        pub val: u64,
    }

    /// One request of `mmuext_op` (`struct mmuext_op`).
    pub struct MmuextOp: 24 {
        /// `MMUEXT_*`.
        pub cmd: u32,
        /// Padding.
        pub _pad0: u32,
        /// `mfn` or `linear_addr`.
        pub arg1: u64,
        /// `nr_ents`, `vcpumask` or `src_mfn`.
        pub arg2: u64,
    }
}

impl MmuUpdate {
    /// The `MMU_*` command.
    pub const fn command(&self) -> u64 {
        self.ptr & 3
    }

    /// The machine address without the command.
    pub const fn maddr(&self) -> u64 {
        self.ptr & !3
    }
}

impl MmuextOp {
    /// The frame: pins, bases, `CLEAR_PAGE`, destination of `COPY_PAGE`, superpages.
    pub const fn mfn(&self) -> u64 {
        self.arg1
    }

    /// The virtual address: `INVLPG_*`, `SET_LDT`.
    pub const fn linear_addr(&self) -> u64 {
        self.arg1
    }

    /// Entries of the LDT: `SET_LDT`.
    pub const fn nr_ents(&self) -> u32 {
        (self.arg2 & 0xffff_ffff) as u32
    }

    /// Guest address of the vCPU bitmap: `*_MULTI`.
    pub const fn vcpumask(&self) -> u64 {
        self.arg2
    }

    /// The source frame: `COPY_PAGE`.
    pub const fn src_mfn(&self) -> u64 {
        self.arg2
    }
}
