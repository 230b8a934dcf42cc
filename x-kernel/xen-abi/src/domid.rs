//! Domain numbers with a meaning of their own (xen.h).
//!
//! Ordinary domains are numbered below [`DOMID_FIRST_RESERVED`].

/// The first number that no ordinary domain can have.
pub const DOMID_FIRST_RESERVED: u16 = 0x7ff0;
/// The caller itself, where a call takes a domain.
pub const DOMID_SELF: u16 = 0x7ff0;
/// Owner of memory-mapped devices, as the foreign domain of a page-table update.
pub const DOMID_IO: u16 = 0x7ff1;
/// Owner of the hypervisor's own pages that privileged guests may map.
pub const DOMID_XEN: u16 = 0x7ff2;
/// Owner of shared copy-on-write pages.
pub const DOMID_COW: u16 = 0x7ff3;
/// No domain.
pub const DOMID_INVALID: u16 = 0x7ff4;
/// The idle domain.
pub const DOMID_IDLE: u16 = 0x7fff;
/// The bits of a domain number.
pub const DOMID_MASK: u16 = 0x7fff;
