//! Where this crate's own errors become the errno that a guest sees.
//!
//! Those of `pv_core` are turned there. Policy: return an errno where the caller can cope; crash the domain where only
//! its guest is broken; panic only where going on would risk the boundary.

use xen_abi::errno::Errno;

use crate::mm::guest_access::Fault;

impl From<Fault> for Errno {
    fn from(_: Fault) -> Self {
        Self::EFAULT
    }
}
