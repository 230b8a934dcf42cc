//! The two consoles: `console_io`, and the ring of an ordinary domain (xen.h, io/console.h).
#![expect(non_upper_case_globals, reason = "C spelling")]

/// `console_io`: writes `count` bytes.
pub const CONSOLEIO_write: u32 = 0;
/// `console_io`: reads up to `count` bytes.
pub const CONSOLEIO_read: u32 = 1;

/// Bytes of `in` in [`XenconsInterface`]; a power of two.
pub const XENCONS_IN_BYTES: usize = 1024;
/// Bytes of its `out`; a power of two.
pub const XENCONS_OUT_BYTES: usize = 2048;

abi_structs! {
    /// The ring page (`struct xencons_interface`). Indices run freely and are reduced modulo the ring's size; each
    /// side trusts nothing that the other writes.
    pub struct XenconsInterface: 3088 {
        /// To the guest.
        pub r#in: [u8; XENCONS_IN_BYTES],
        /// From the guest.
        pub out: [u8; XENCONS_OUT_BYTES],
        /// Written by the guest: next byte of `in` that it reads.
        pub in_cons: u32,
        /// Written by the hypervisor: next byte of `in` to fill.
        pub in_prod: u32,
        /// Written by the hypervisor: next byte of `out` that it reads.
        pub out_cons: u32,
        /// Written by the guest: next byte of `out` to fill.
        pub out_prod: u32,
    }
}

/// Byte offsets in the ring page.
pub mod offset {
    use super::XenconsInterface;
    use core::mem::offset_of;

    /// `in`, [`XENCONS_IN_BYTES`](super::XENCONS_IN_BYTES).
    pub const IN: usize = offset_of!(XenconsInterface, r#in);
    /// `out`, [`XENCONS_OUT_BYTES`](super::XENCONS_OUT_BYTES).
    pub const OUT: usize = offset_of!(XenconsInterface, out);
    /// `in_cons`.
    pub const IN_CONS: usize = offset_of!(XenconsInterface, in_cons);
    /// `in_prod`.
    pub const IN_PROD: usize = offset_of!(XenconsInterface, in_prod);
    /// `out_cons`.
    pub const OUT_CONS: usize = offset_of!(XenconsInterface, out_cons);
    /// `out_prod`.
    pub const OUT_PROD: usize = offset_of!(XenconsInterface, out_prod);
}
