//! X-mode: our extension of the ABI. A guest kernel that switches it on runs in one page table with its processes, and
//! is told from them by the stack pointer. docs/ABI.md has the contract.
//!
//! Other hypervisors answer the hypercall with `-ENOSYS` and do not have the CPUID leaves.
#![expect(non_upper_case_globals, reason = "C spelling")]

pub use crate::hypercall::__HYPERVISOR_arch_7 as __HYPERVISOR_xmode_op;

/// The version of the contract.
pub const XMODE_VERSION: u32 = 1;

/// Reads [`XmodeQuery`].
pub const XMODEOP_query: u32 = 0;
/// Switches X-mode on for the calling vCPU: [`XmodeEnable`].
pub const XMODEOP_enable: u32 = 1;
/// Says with which status the domain's work ended: [`XmodeExit`]. Not only in X-mode.
pub const XMODEOP_exit: u32 = 2;
/// Says where the calling vCPU's kernel wants to hear of sites that can be patched: [`XmodeSites`].
pub const XMODEOP_sites: u32 = 3;
/// Patches a site: [`XmodePatch`].
pub const XMODEOP_patch: u32 = 4;
/// Has no more of a page patched: [`XmodeDrop`].
pub const XMODEOP_drop: u32 = 5;
/// Offers a page for stubs: [`XmodeAnnex`].
pub const XMODEOP_annex: u32 = 6;

/// The page may be patched further without asking, until [`XMODEOP_drop`].
pub const XMODE_PATCH_MORE: u64 = 1 << 1;
/// What may be written is the page before the site's: the one before the alias maps it.
pub const XMODE_PATCH_AHEAD: u64 = 1 << 0;

/// CPUID leaf with the highest leaf of ours in eax and [`XMODE_CPUID_SIGNATURE`] in ebx, ecx, edx.
pub const XMODE_CPUID: u32 = 0x4000_0100;
/// CPUID leaf with the version in eax.
pub const XMODE_CPUID_VERSION: u32 = 0x4000_0101;
/// What tells our leaves from others'.
pub const XMODE_CPUID_SIGNATURE: &[u8; 12] = b"XContainers\0";

abi_structs! {
    /// What there is.
    pub struct XmodeQuery: 8 {
        /// [`XMODE_VERSION`].
        pub version: u32,
        /// None is defined yet.
        pub features: u32,
    }

    /// What a vCPU wants.
    pub struct XmodeEnable: 16 {
        /// [`XMODE_VERSION`], or the call is refused.
        pub version: u32,
        /// Zero.
        pub flags: u32,
        /// Virtual address, aligned and in the upper half, of the word that holds the kernel stack that entries from
        /// processes start on. It is read at each of them.
        pub kernel_sp: u64,
    }

    /// Where to tell of sites.
    pub struct XmodeSites: 16 {
        /// Virtual address, aligned and in the upper half, of two words. The address of a `syscall` instruction is written
        /// to the first when it has trapped, and could be a call if the process had a page of its own. In the second the
        /// kernel may count the system calls that are function calls, for the counters.
        pub word: u64,
        /// Zero.
        pub flags: u64,
    }

    /// A site whose page is the process's own now.
    pub struct XmodePatch: 40 {
        /// The address of the `syscall` instruction in the process, as told last.
        pub site: u64,
        /// The same place in a writable mapping of the kernel's.
        pub alias: u64,
        /// Where the first page of the module is mapped in the process, or 0: its unwind table says where functions begin.
        pub module: u64,
        /// Any of `XMODE_PATCH_*`.
        pub flags: u64,
        /// With `-EFAULT`: an address that was needed and is not mapped. To ask again once it is goes on.
        pub missing: u64,
    }

    /// A page that the kernel has other plans for.
    pub struct XmodeDrop: 16 {
        /// An address in the kernel's mapping of the page.
        pub alias: u64,
        /// Zero.
        pub flags: u64,
    }

    /// A page that has room for stubs.
    pub struct XmodeAnnex: 24 {
        /// Where processes execute it: the address of a page that a 32-bit displacement can name.
        pub at: u64,
        /// The same page in a writable mapping of the kernel's; it may be the same one.
        pub alias: u64,
        /// Zero.
        pub flags: u64,
    }

    /// What the domain's work ended with; it goes on all the same.
    pub struct XmodeExit: 8 {
        /// As of a process: 0 to 255. The last one said counts.
        pub status: u32,
        /// Zero.
        pub flags: u32,
    }
}
