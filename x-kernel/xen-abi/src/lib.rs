//! Shapes and numbers of the public Xen PV x86-64 guest ABI, and nothing else.
//!
//! One module per public header (Debian package `libxen-dev`, `/usr/include/xen`, interface version
//! [`version::XEN_INTERFACE_VERSION`]). Structures are plain memory: `repr(C)`, every padding byte named, so that
//! they are copied in from a guest and out to it as bytes. Constants keep their C spelling, because that is what a
//! reader searches for; structures take the CamelCase of their C name, fields keep theirs.
//!
//! Values that a guest chooses are plain integers here, open to anything: this crate checks nothing and decides
//! nothing. A C `union` becomes the words it occupies, with methods that name the readings. A guest pointer
//! (`XEN_GUEST_HANDLE`) is a `u64`.
//!
//! Left out: 32-bit and HVM guests, and the toolstack's interfaces (`domctl`, `sysctl`). Added: [`xmode`], which is our own.
//! `tests/c_abi` compares every size, offset and constant with the C headers.
#![no_std]
#![forbid(unsafe_code)]

/// Declares structures of the ABI: C layout, convertible from and to bytes, of the stated size in bytes.
///
/// All fields are public, the padding too: zero it when writing to a guest, ignore it when reading.
/// `Default` is all zeroes.
macro_rules! abi_structs {
    ($($(#[$meta:meta])* pub struct $name:ident: $size:literal { $($(#[$fmeta:meta])* pub $field:ident: $ty:ty,)* })*) => {$(
        $(#[$meta])*
        #[derive(Clone, Copy, Debug, Eq, PartialEq)]
        #[derive(zerocopy::FromBytes, zerocopy::Immutable, zerocopy::IntoBytes, zerocopy::KnownLayout)]
        #[repr(C)]
        pub struct $name { $($(#[$fmeta])* pub $field: $ty,)* }

        const _: () = assert!(size_of::<$name>() == $size);

        impl Default for $name {
            fn default() -> Self {
                zerocopy::FromZeros::new_zeroed()
            }
        }
    )*};
}

pub mod arch_x86;
pub mod callback;
pub mod console;
pub mod cpuid;
pub mod domid;
pub mod elfnote;
pub mod errno;
pub mod event_channel;
pub mod grant_table;
pub mod hypercall;
pub mod memory;
pub mod mmu;
pub mod physdev;
pub mod platform;
pub mod sched;
pub mod shared_info;
pub mod start_info;
pub mod vcpu;
pub mod version;
pub mod xenstore;
pub mod xmode;
