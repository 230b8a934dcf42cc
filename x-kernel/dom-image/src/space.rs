//! Which virtual addresses a guest may be given: canonical ones, outside the hypervisor's hole.

use xen_abi::arch_x86::{HYPERVISOR_VIRT_END, HYPERVISOR_VIRT_START};

use crate::error::{ImageError, Result};

/// The first address of the lower half that is not canonical.
const LOW_END: u64 = 1 << 47;

/// Checks that `len` bytes from `va` are the guest's to have.
///
/// # Errors
/// About `what`, if they are not.
pub fn check(what: &'static str, va: u64, len: u64) -> Result<()> {
    // The last byte of the address space is given to nobody, so that an end is always a number.
    let end = va.checked_add(len).ok_or(ImageError::Value { what, value: va, rule: "it is too close to the end of the address space" })?;
    let low = end <= LOW_END;
    let high = va >= HYPERVISOR_VIRT_END;
    if low || high {
        return Ok(());
    }
    let rule =
        if va < HYPERVISOR_VIRT_START { "it reaches addresses that are not canonical" } else { "these addresses are the hypervisor's" };
    Err(ImageError::Value { what, value: va, rule })
}
