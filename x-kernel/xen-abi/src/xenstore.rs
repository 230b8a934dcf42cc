//! The store's ring page and message header (io/xs_wire.h).

/// Bytes of each ring; a power of two.
pub const XENSTORE_RING_SIZE: usize = 1024;
/// Most bytes of a message behind its header.
pub const XENSTORE_PAYLOAD_MAX: usize = 4096;
/// Most bytes of an absolute path.
pub const XENSTORE_ABS_PATH_MAX: usize = 3072;
/// Most bytes of a relative path.
pub const XENSTORE_REL_PATH_MAX: usize = 2048;
/// `server_features`: the ring can be reconnected.
pub const XENSTORE_SERVER_FEATURE_RECONNECTION: u32 = 1;
/// `server_features`: `error` is valid.
pub const XENSTORE_SERVER_FEATURE_ERROR: u32 = 2;
/// `connection`: up.
pub const XENSTORE_CONNECTED: u32 = 0;
/// `connection`: a reconnection is under way.
pub const XENSTORE_RECONNECT: u32 = 1;

abi_structs! {
    /// The ring page (`struct xenstore_domain_interface`).
    pub struct XenstoreDomainInterface: 2076 {
        /// Requests of the guest.
        pub req: [u8; XENSTORE_RING_SIZE],
        /// Answers and watch events.
        pub rsp: [u8; XENSTORE_RING_SIZE],
        /// Requests read.
        pub req_cons: u32,
        /// Requests written.
        pub req_prod: u32,
        /// Answers read.
        pub rsp_cons: u32,
        /// Answers written.
        pub rsp_prod: u32,
        /// `XENSTORE_SERVER_FEATURE_*`.
        pub server_features: u32,
        /// `XENSTORE_CONNECTED` or `XENSTORE_RECONNECT`.
        pub connection: u32,
        /// Why the store gave up; 0 if it has not.
        pub error: u32,
    }

    /// Message header (`struct xsd_sockmsg`).
    pub struct XsdSockmsg: 16 {
        /// `XS_*`.
        pub r#type: u32,
        /// Chosen by the guest, repeated in the answer.
        pub req_id: u32,
        /// Transaction; 0 none.
        pub tx_id: u32,
        /// Bytes that follow.
        pub len: u32,
    }
}
