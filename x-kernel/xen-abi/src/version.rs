//! `xen_version`, features, `vm_assist` (version.h, features.h, xen.h). The `xen_` of the C names is dropped here.
#![expect(non_upper_case_globals, reason = "C spelling")]

/// Interface version of the headers followed (`__XEN_LATEST_INTERFACE_VERSION__`): 4.14 layout, unchanged to 4.17.
pub const XEN_INTERFACE_VERSION: u32 = 0x0004_0e00;

/// Returns major in the upper, minor in the lower 16 bits.
pub const XENVER_version: u32 = 0;
/// Writes 16 bytes of text.
pub const XENVER_extraversion: u32 = 1;
/// Writes a [`CompileInfo`].
pub const XENVER_compile_info: u32 = 2;
/// Writes 1024 bytes of text: the guest kinds that can run.
pub const XENVER_capabilities: u32 = 3;
/// Writes 64 bytes of text.
pub const XENVER_changeset: u32 = 4;
/// Writes a [`PlatformParameters`].
pub const XENVER_platform_parameters: u32 = 5;
/// Reads and writes a [`FeatureInfo`].
pub const XENVER_get_features: u32 = 6;
/// Returns the page size.
pub const XENVER_pagesize: u32 = 7;
/// Writes the domain's 16-byte UUID.
pub const XENVER_guest_handle: u32 = 8;
/// Writes 1024 bytes of text: the hypervisor's command line.
pub const XENVER_commandline: u32 = 9;
/// Writes the build id behind a length.
pub const XENVER_build_id: u32 = 10;

/// Bytes of [`XENVER_extraversion`].
pub const XEN_EXTRAVERSION_LEN: usize = 16;
/// Bytes of [`XENVER_capabilities`].
pub const XEN_CAPABILITIES_INFO_LEN: usize = 1024;
/// Bytes of [`XENVER_changeset`].
pub const XEN_CHANGESET_INFO_LEN: usize = 64;

/// Page tables may be written directly.
pub const XENFEAT_writable_page_tables: u32 = 0;
/// Descriptor tables may be written directly.
pub const XENFEAT_writable_descriptor_tables: u32 = 1;
/// The hypervisor translates pfn to mfn.
pub const XENFEAT_auto_translated_physmap: u32 = 2;
/// The guest kernel runs in ring 0.
pub const XENFEAT_supervisor_mode_kernel: u32 = 3;
/// PAE page directories may lie above 4 GiB.
pub const XENFEAT_pae_pgdir_above_4gb: u32 = 4;
/// `MMU_PT_UPDATE_PRESERVE_AD` is available.
pub const XENFEAT_mmu_pt_update_preserve_ad: u32 = 5;
/// `MMUEXT_CLEAR_PAGE` and `MMUEXT_COPY_PAGE` are available.
pub const XENFEAT_highmem_assist: u32 = 6;
/// `GNTTABOP_map_grant_ref` honours available PTE bits.
pub const XENFEAT_gnttab_map_avail_bits: u32 = 7;
/// HVM callback vector.
pub const XENFEAT_hvm_callback_vector: u32 = 8;
/// HVM pvclock.
pub const XENFEAT_hvm_safe_pvclock: u32 = 9;
/// HVM pirqs.
pub const XENFEAT_hvm_pirqs: u32 = 10;
/// The guest can be, or is, the initial domain.
pub const XENFEAT_dom0: u32 = 11;
/// `XENMEMF_vnode` is available.
pub const XENFEAT_memory_op_vnode_supported: u32 = 13;
/// ARM SMC calling convention.
pub const XENFEAT_ARM_SMCCC_supported: u32 = 14;
/// The RSDP may lie anywhere.
pub const XENFEAT_linux_rsdp_unrestricted: u32 = 15;
/// The domain is not direct-mapped.
pub const XENFEAT_not_direct_mapped: u32 = 16;
/// It is.
pub const XENFEAT_direct_mapped: u32 = 17;
/// Pages of 32 features.
pub const XENFEAT_NR_SUBMAPS: u32 = 1;

/// `vm_assist`: on.
pub const VMASST_CMD_enable: u32 = 0;
/// `vm_assist`: off.
pub const VMASST_CMD_disable: u32 = 1;
/// 32-bit guests: full segment limits.
pub const VMASST_TYPE_4gb_segments: u32 = 0;
/// 32-bit guests: say so when that assist acts.
pub const VMASST_TYPE_4gb_segments_notify: u32 = 1;
/// Writes to level-1 tables are emulated.
pub const VMASST_TYPE_writable_pagetables: u32 = 2;
/// PAE guests: page directory pointers above 4 GiB.
pub const VMASST_TYPE_pae_extended_cr3: u32 = 3;
/// IOPL as the architecture has it.
pub const VMASST_TYPE_architectural_iopl: u32 = 4;
/// `XEN_RUNSTATE_UPDATE` is used.
pub const VMASST_TYPE_runstate_update_flag: u32 = 5;
/// The machine-to-physical table is hidden from processes.
pub const VMASST_TYPE_m2p_strict: u32 = 32;

abi_structs! {
    /// `struct xen_compile_info`: zero-terminated texts.
    pub struct CompileInfo: 144 {
        /// Compiler.
        pub compiler: [u8; 64],
        /// Who.
        pub compile_by: [u8; 16],
        /// Where.
        pub compile_domain: [u8; 32],
        /// When.
        pub compile_date: [u8; 32],
    }

    /// `struct xen_platform_parameters`.
    pub struct PlatformParameters: 8 {
        /// First address of the hypervisor.
        pub virt_start: u64,
    }

    /// `struct xen_feature_info`.
    pub struct FeatureInfo: 8 {
        /// In: which page of 32 features.
        pub submap_idx: u32,
        /// Out: bit per `XENFEAT_*`.
        pub submap: u32,
    }
}
