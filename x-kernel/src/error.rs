//! Where the modules' own errors become the errno that a guest sees, all in one place.
//!
//! Policy: return an errno where the caller can cope; crash the domain where only its guest is broken; panic
//! only where going on would risk the boundary.

use xen_abi::errno::Errno;

use crate::mm::guest_access::Fault;

impl From<Fault> for ErrnoOf {
    fn from(_: Fault) -> Self {
        Self(Errno::EFAULT)
    }
}

/// An [`Errno`] made from an error of this crate.
pub struct ErrnoOf(pub Errno);
