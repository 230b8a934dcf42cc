//! `callback_op` and `nmi_op`: the guest's entry points (callback.h, nmi.h).
#![expect(non_upper_case_globals, reason = "C spelling")]

/// Registers an entry point: [`CallbackRegister`].
pub const CALLBACKOP_register: u32 = 0;
/// Forgets one: [`CallbackUnregister`].
pub const CALLBACKOP_unregister: u32 = 1;

/// Events.
pub const CALLBACKTYPE_event: u16 = 0;
/// The guest's state could not be restored.
pub const CALLBACKTYPE_failsafe: u16 = 1;
/// `syscall` of a 64-bit process.
pub const CALLBACKTYPE_syscall: u16 = 2;
/// `sysenter`, an old number.
pub const CALLBACKTYPE_sysenter_deprecated: u16 = 3;
/// NMI.
pub const CALLBACKTYPE_nmi: u16 = 4;
/// `sysenter` of a 32-bit process.
pub const CALLBACKTYPE_sysenter: u16 = 5;
/// `syscall` of a 32-bit process.
pub const CALLBACKTYPE_syscall32: u16 = 7;

/// Mask events on entry; implied for events and NMIs.
pub const CALLBACKF_mask_events: u16 = 1 << 0;

/// `nmi_op`: registers the NMI entry point: [`XennmiCallback`].
pub const XENNMI_register_callback: u32 = 0;
/// `nmi_op`: forgets it.
pub const XENNMI_unregister_callback: u32 = 1;

/// `ArchSharedInfo::nmi_reason`: I/O channel check.
pub const XEN_NMIREASON_io_error: u64 = 1 << 0;
/// PCI system error.
pub const XEN_NMIREASON_pci_serr: u64 = 1 << 1;
/// Unknown.
pub const XEN_NMIREASON_unknown: u64 = 1 << 2;

abi_structs! {
    /// `struct callback_register`.
    pub struct CallbackRegister: 16 {
        /// `CALLBACKTYPE_*`.
        pub r#type: u16,
        /// `CALLBACKF_*`.
        pub flags: u16,
        /// Padding.
        pub _pad0: u32,
        /// Virtual address.
        pub address: u64,
    }

    /// `struct callback_unregister`.
    pub struct CallbackUnregister: 4 {
        /// `CALLBACKTYPE_*`.
        pub r#type: u16,
        /// Padding.
        pub _unused: u16,
    }

    /// `struct xennmi_callback`.
    pub struct XennmiCallback: 16 {
        /// Virtual address.
        pub handler_address: u64,
        /// Padding.
        pub pad: u64,
    }
}
