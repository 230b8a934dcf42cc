//! ELF notes of a PV kernel, owner `Xen` (elfnote.h). Numbers are 4 or 8 bytes, texts zero-terminated.

/// `NAME=VALUE` text.
pub const XEN_ELFNOTE_INFO: u32 = 0;
/// Entry point, virtual.
pub const XEN_ELFNOTE_ENTRY: u32 = 1;
/// Hypercall page, virtual.
pub const XEN_ELFNOTE_HYPERCALL_PAGE: u32 = 2;
/// Virtual address of pfn 0 of the image.
pub const XEN_ELFNOTE_VIRT_BASE: u32 = 3;
/// What to subtract from ELF physical addresses.
pub const XEN_ELFNOTE_PADDR_OFFSET: u32 = 4;
/// Text `xen-3.0`.
pub const XEN_ELFNOTE_XEN_VERSION: u32 = 5;
/// Text: the guest's name.
pub const XEN_ELFNOTE_GUEST_OS: u32 = 6;
/// Text: its version.
pub const XEN_ELFNOTE_GUEST_VERSION: u32 = 7;
/// Text: loader type.
pub const XEN_ELFNOTE_LOADER: u32 = 8;
/// Text: PAE, 32-bit guests.
pub const XEN_ELFNOTE_PAE_MODE: u32 = 9;
/// Text: features, `|` between them, `!` before the required ones.
pub const XEN_ELFNOTE_FEATURES: u32 = 10;
/// Text `yes`: load the symbol table.
pub const XEN_ELFNOTE_BSD_SYMTAB: u32 = 11;
/// Lowest address at which the hypervisor may begin.
pub const XEN_ELFNOTE_HV_START_LOW: u32 = 12;
/// Mask and value pairs: which non-present L1 entries hold frame numbers.
pub const XEN_ELFNOTE_L1_MFN_VALID: u32 = 13;
/// 1: suspend may be cancelled.
pub const XEN_ELFNOTE_SUSPEND_CANCEL: u32 = 14;
/// Where to map the initial p2m list.
pub const XEN_ELFNOTE_INIT_P2M: u32 = 15;
/// 1: the module may be given by pfn, unmapped.
pub const XEN_ELFNOTE_MOD_START_PFN: u32 = 16;
/// Bits of supported features.
pub const XEN_ELFNOTE_SUPPORTED_FEATURES: u32 = 17;
/// 32-bit physical entry point, PVH guests.
pub const XEN_ELFNOTE_PHYS32_ENTRY: u32 = 18;
/// The highest note that a kernel carries.
pub const XEN_ELFNOTE_MAX: u32 = 18;
