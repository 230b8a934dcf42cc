//! `sched_op`: yield, block, poll, shut down (sched.h).
#![expect(non_upper_case_globals, reason = "C spelling")]

/// Lets others run.
pub const SCHEDOP_yield: u32 = 0;
/// Unmasks events and waits for one.
pub const SCHEDOP_block: u32 = 1;
/// Ends the domain: [`SchedShutdown`].
pub const SCHEDOP_shutdown: u32 = 2;
/// Waits for certain ports: [`SchedPoll`].
pub const SCHEDOP_poll: u32 = 3;
/// Ends another domain: [`SchedRemoteShutdown`].
pub const SCHEDOP_remote_shutdown: u32 = 4;
/// Sets the reason to report at a later end: [`SchedShutdown`].
pub const SCHEDOP_shutdown_code: u32 = 5;
/// Sets, pokes or removes a watchdog: [`SchedWatchdog`].
pub const SCHEDOP_watchdog: u32 = 6;
/// Pins the caller to a processor for a while: [`SchedPinOverride`].
pub const SCHEDOP_pin_override: u32 = 7;

/// The domain is done.
pub const SHUTDOWN_poweroff: u32 = 0;
/// It wants to be started again.
pub const SHUTDOWN_reboot: u32 = 1;
/// It is ready to be saved.
pub const SHUTDOWN_suspend: u32 = 2;
/// Its kernel has crashed.
pub const SHUTDOWN_crash: u32 = 3;
/// Its watchdog has expired.
pub const SHUTDOWN_watchdog: u32 = 4;
/// It wants its hypervisor state reset.
pub const SHUTDOWN_soft_reset: u32 = 5;
/// The highest reason.
pub const SHUTDOWN_MAX: u32 = 5;

abi_structs! {
    /// `struct sched_shutdown`.
    pub struct SchedShutdown: 4 {
        /// `SHUTDOWN_*`.
        pub reason: u32,
    }

    /// `struct sched_poll`.
    pub struct SchedPoll: 24 {
        /// Guest address of an array of ports.
        pub ports: u64,
        /// Its length.
        pub nr_ports: u32,
        /// Padding.
        pub _pad0: u32,
        /// System time in ns at which to give up; 0 never.
        pub timeout: u64,
    }

    /// `struct sched_remote_shutdown`.
    pub struct SchedRemoteShutdown: 8 {
        /// The domain.
        pub domain_id: u16,
        /// Padding.
        pub _pad0: u16,
        /// `SHUTDOWN_*`.
        pub reason: u32,
    }

    /// `struct sched_watchdog`.
    pub struct SchedWatchdog: 8 {
        /// 0 to make a new one.
        pub id: u32,
        /// Seconds; 0 removes it.
        pub timeout: u32,
    }

    /// `struct sched_pin_override`.
    pub struct SchedPinOverride: 4 {
        /// The processor; negative undoes.
        pub pcpu: i32,
    }
}
