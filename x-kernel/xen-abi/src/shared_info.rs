//! The pages that hypervisor and guest share while it runs (xen.h, arch-x86/xen.h).
//!
//! The structures give the shapes; memory shared with a running guest is read and written a word at a time, so
//! most code wants the byte offsets ([`offset`], [`vcpu_info_offset`]).

/// vCPUs whose `vcpu_info` begins in the shared_info page; others register a place of their own.
pub const XEN_LEGACY_MAX_VCPUS: usize = 32;
/// Event channels of the two-level ABI.
pub const EVTCHN_2L_NR_CHANNELS: u32 = 4096;

/// `VcpuTimeInfo::flags`: the TSCs of all vCPUs are in step.
pub const XEN_PVCLOCK_TSC_STABLE_BIT: u8 = 1 << 0;
/// `VcpuTimeInfo::flags`: the guest has been stopped by its host.
pub const XEN_PVCLOCK_GUEST_STOPPED: u8 = 1 << 1;

abi_structs! {
    /// A vCPU's clock (`struct vcpu_time_info`). System time in ns is
    /// `system_time + (((tsc - tsc_timestamp) << tsc_shift) * tsc_to_system_mul >> 32)`.
    pub struct VcpuTimeInfo: 32 {
        /// Odd while the hypervisor writes; unequal before and after if it wrote meanwhile.
        pub version: u32,
        /// Padding.
        pub pad0: u32,
        /// TSC at the last update.
        pub tsc_timestamp: u64,
        /// System time at the last update, ns since boot.
        pub system_time: u64,
        /// 32.32 fixed-point multiplier.
        pub tsc_to_system_mul: u32,
        /// Shift before the multiplication; negative to the right.
        pub tsc_shift: i8,
        /// `XEN_PVCLOCK_*`.
        pub flags: u8,
        /// Padding.
        pub pad1: [u8; 2],
    }

    /// `struct arch_vcpu_info`.
    pub struct ArchVcpuInfo: 16 {
        /// Address of the last page fault.
        pub cr2: u64,
        /// Padding.
        pub pad: u64,
    }

    /// What one vCPU shares (`struct vcpu_info`).
    pub struct VcpuInfo: 64 {
        /// Non-zero: an upcall is due.
        pub evtchn_upcall_pending: u8,
        /// Non-zero: no upcall now, the virtual interrupt flag inverted.
        pub evtchn_upcall_mask: u8,
        /// Padding.
        pub _pad0: [u8; 6],
        /// Bit per word of `evtchn_pending` to look at.
        pub evtchn_pending_sel: u64,
        /// cr2.
        pub arch: ArchVcpuInfo,
        /// Clock.
        pub time: VcpuTimeInfo,
    }

    /// `struct arch_shared_info`, all written by the guest but `nmi_reason`.
    pub struct ArchSharedInfo: 48 {
        /// Entries of the p2m table.
        pub max_pfn: u64,
        /// Frame of the list of lists of p2m frames; 0 none yet, all ones none ever.
        pub pfn_to_mfn_frame_list_list: u64,
        /// Why the last NMI came, `XEN_NMIREASON_*`.
        pub nmi_reason: u64,
        /// Root of the address space where the next field holds; 0 if it does not.
        pub p2m_cr3: u64,
        /// Virtual address of the p2m list.
        pub p2m_vaddr: u64,
        /// Odd while the list's mapping changes.
        pub p2m_generation: u64,
    }

    /// What a domain shares (`struct shared_info`); the rest of its page is unused.
    pub struct SharedInfo: 3136 {
        /// Per vCPU, until it registers another place.
        pub vcpu_info: [VcpuInfo; XEN_LEGACY_MAX_VCPUS],
        /// Bit per event channel: an event is pending.
        pub evtchn_pending: [u64; 64],
        /// Bit per event channel: it is masked.
        pub evtchn_mask: [u64; 64],
        /// Odd while the wall clock is written.
        pub wc_version: u32,
        /// Wall clock at system time 0, seconds since 1970, low half.
        pub wc_sec: u32,
        /// And nanoseconds.
        pub wc_nsec: u32,
        /// Seconds, high half.
        pub wc_sec_hi: u32,
        /// Where the guest keeps its p2m.
        pub arch: ArchSharedInfo,
    }
}

/// Byte offsets in the shared_info page.
pub mod offset {
    use super::{SharedInfo, VcpuInfo};
    use core::mem::offset_of;

    /// `vcpu_info[0]`; the others follow at [`VCPU_INFO_STRIDE`].
    pub const VCPU_INFO: usize = offset_of!(SharedInfo, vcpu_info);
    /// Bytes of one `vcpu_info`.
    pub const VCPU_INFO_STRIDE: usize = size_of::<VcpuInfo>();
    /// `evtchn_pending`, 64 words.
    pub const EVTCHN_PENDING: usize = offset_of!(SharedInfo, evtchn_pending);
    /// `evtchn_mask`, 64 words.
    pub const EVTCHN_MASK: usize = offset_of!(SharedInfo, evtchn_mask);
    /// `wc_version`.
    pub const WC_VERSION: usize = offset_of!(SharedInfo, wc_version);
    /// `wc_sec`.
    pub const WC_SEC: usize = offset_of!(SharedInfo, wc_sec);
    /// `wc_nsec`.
    pub const WC_NSEC: usize = offset_of!(SharedInfo, wc_nsec);
    /// `wc_sec_hi`.
    pub const WC_SEC_HI: usize = offset_of!(SharedInfo, wc_sec_hi);
    /// `arch.max_pfn`.
    pub const MAX_PFN: usize = offset_of!(SharedInfo, arch.max_pfn);
    /// `arch.pfn_to_mfn_frame_list_list`.
    pub const PFN_TO_MFN_FRAME_LIST_LIST: usize = offset_of!(SharedInfo, arch.pfn_to_mfn_frame_list_list);
    /// `arch.nmi_reason`.
    pub const NMI_REASON: usize = offset_of!(SharedInfo, arch.nmi_reason);
    /// `arch.p2m_cr3`.
    pub const P2M_CR3: usize = offset_of!(SharedInfo, arch.p2m_cr3);
    /// `arch.p2m_vaddr`.
    pub const P2M_VADDR: usize = offset_of!(SharedInfo, arch.p2m_vaddr);
    /// `arch.p2m_generation`.
    pub const P2M_GENERATION: usize = offset_of!(SharedInfo, arch.p2m_generation);
}

/// Byte offsets in a `vcpu_info`, wherever it is.
pub mod vcpu_info_offset {
    use super::{VcpuInfo, VcpuTimeInfo};
    use core::mem::offset_of;

    /// `evtchn_upcall_pending`, a byte.
    pub const UPCALL_PENDING: usize = offset_of!(VcpuInfo, evtchn_upcall_pending);
    /// `evtchn_upcall_mask`, a byte.
    pub const UPCALL_MASK: usize = offset_of!(VcpuInfo, evtchn_upcall_mask);
    /// `evtchn_pending_sel`.
    pub const PENDING_SEL: usize = offset_of!(VcpuInfo, evtchn_pending_sel);
    /// `arch.cr2`.
    pub const CR2: usize = offset_of!(VcpuInfo, arch.cr2);
    /// `time`, a [`VcpuTimeInfo`].
    pub const TIME: usize = offset_of!(VcpuInfo, time);
    /// `time.version`.
    pub const TIME_VERSION: usize = offset_of!(VcpuInfo, time.version);
    /// Bytes of the clock.
    pub const TIME_SIZE: usize = size_of::<VcpuTimeInfo>();
}
