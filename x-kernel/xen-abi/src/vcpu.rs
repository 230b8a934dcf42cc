//! `vcpu_op`: state and timers of virtual CPUs (vcpu.h). Times are system time in nanoseconds.
#![expect(non_upper_case_globals, reason = "C spelling")]

pub use crate::shared_info::{ArchVcpuInfo, VcpuInfo, VcpuTimeInfo};

/// Gives a vCPU its first state, [`VcpuGuestContext`](crate::arch_x86::VcpuGuestContext).
pub const VCPUOP_initialise: u32 = 0;
/// Lets it run.
pub const VCPUOP_up: u32 = 1;
/// Stops it.
pub const VCPUOP_down: u32 = 2;
/// Returns 1 if it is up.
pub const VCPUOP_is_up: u32 = 3;
/// Reads a [`VcpuRunstateInfo`].
pub const VCPUOP_get_runstate_info: u32 = 4;
/// [`VcpuRegisterRunstateMemoryArea`].
pub const VCPUOP_register_runstate_memory_area: u32 = 5;
/// [`VcpuSetPeriodicTimer`].
pub const VCPUOP_set_periodic_timer: u32 = 6;
/// Stops the periodic timer.
pub const VCPUOP_stop_periodic_timer: u32 = 7;
/// [`VcpuSetSingleshotTimer`].
pub const VCPUOP_set_singleshot_timer: u32 = 8;
/// Stops the single-shot timer.
pub const VCPUOP_stop_singleshot_timer: u32 = 9;
/// [`VcpuRegisterVcpuInfo`].
pub const VCPUOP_register_vcpu_info: u32 = 10;
/// Sends an NMI.
pub const VCPUOP_send_nmi: u32 = 11;
/// [`VcpuGetPhysid`].
pub const VCPUOP_get_physid: u32 = 12;
/// [`VcpuRegisterTimeMemoryArea`].
pub const VCPUOP_register_vcpu_time_memory_area: u32 = 13;

/// On a processor.
pub const RUNSTATE_running: i32 = 0;
/// Waiting for a processor.
pub const RUNSTATE_runnable: i32 = 1;
/// Waiting for an event.
pub const RUNSTATE_blocked: i32 = 2;
/// Neither: down or paused.
pub const RUNSTATE_offline: i32 = 3;
/// In `state_entry_time` of a registered area: an update is under way.
pub const XEN_RUNSTATE_UPDATE: u64 = 1 << 63;

/// Fail with `-ETIME` if the time is past.
pub const VCPU_SSHOTTMR_future: u32 = 1 << 0;

abi_structs! {
    /// `struct vcpu_runstate_info`.
    pub struct VcpuRunstateInfo: 48 {
        /// `RUNSTATE_*`.
        pub state: i32,
        /// Padding.
        pub _pad0: u32,
        /// When it was entered.
        pub state_entry_time: u64,
        /// Time spent in each state.
        pub time: [u64; 4],
    }

    /// `struct vcpu_register_runstate_memory_area`.
    pub struct VcpuRegisterRunstateMemoryArea: 8 {
        /// Guest address of a [`VcpuRunstateInfo`].
        pub addr: u64,
    }

    /// `struct vcpu_set_periodic_timer`.
    pub struct VcpuSetPeriodicTimer: 8 {
        /// Period in ns.
        pub period_ns: u64,
    }

    /// `struct vcpu_set_singleshot_timer`.
    pub struct VcpuSetSingleshotTimer: 16 {
        /// When, in system time.
        pub timeout_abs_ns: u64,
        /// `VCPU_SSHOTTMR_*`.
        pub flags: u32,
        /// Padding.
        pub _pad0: u32,
    }

    /// `struct vcpu_register_vcpu_info`.
    pub struct VcpuRegisterVcpuInfo: 16 {
        /// Frame of the new place.
        pub mfn: u64,
        /// Byte offset in it; the structure must not cross the page.
        pub offset: u32,
        /// Unused.
        pub rsvd: u32,
    }

    /// `struct vcpu_get_physid`.
    pub struct VcpuGetPhysid: 8 {
        /// APIC id in the low half, ACPI id in the high half.
        pub phys_id: u64,
    }

    /// `struct vcpu_register_time_memory_area`.
    pub struct VcpuRegisterTimeMemoryArea: 8 {
        /// Guest address of a [`VcpuTimeInfo`].
        pub addr: u64,
    }
}
