//! Debug registers of the running vCPU, by hypercall and by `mov`. What may be in them is `pv_core::debugreg`.

use pv_core::debugreg;
use xen_abi::errno::Errno;

use super::emulate::cr4;
use super::hypercall::{Args, HcCx, HcResult, OK, Outcome};
use crate::arch::x86_64::context;
use crate::domain::vcpu::VcpuState;
use crate::mm::layout::is_guest_address;

/// `set_debugreg(reg, value)`.
///
/// # Errors
/// As [`set`].
pub fn set_debugreg(cx: &mut HcCx<'_>, args: &mut Args) -> HcResult {
    set(cx.state, args.u32::<0>(), args.u64::<1>())?;
    OK
}

/// `get_debugreg(reg)`: the value, or `-EINVAL`.
pub fn get_debugreg(cx: &mut HcCx<'_>, args: &mut Args) -> HcResult {
    Ok(Outcome::Done(get(cx.state, args.u32::<0>())? as i64))
}

/// Writes register `n` and loads it.
///
/// # Errors
/// `-EINVAL` for a register that does not exist, `-EPERM` for an address or a DR7 that could reach the X-Kernel
/// (XSA-444, XSA-12).
pub fn set(state: &mut VcpuState, n: u32, value: u64) -> Result<(), Errno> {
    let place = place(n)?;
    let stored = match place {
        DR6 => debugreg::dr6(value),
        DR7 => debugreg::dr7(value, state.cr4 & cr4::DE != 0),
        _ => is_guest_address(value).then_some(value),
    };
    *state.debug.get_mut(place).ok_or(Errno::EINVAL)? = stored.ok_or(Errno::EPERM)?;
    context::load_debug(&state.debug);
    Ok(())
}

/// Reads register `n`.
///
/// # Errors
/// `-EINVAL` for a register that does not exist.
pub fn get(state: &VcpuState, n: u32) -> Result<u64, Errno> {
    state.debug.get(place(n)?).copied().ok_or(Errno::EINVAL)
}

const DR6: usize = 4;
const DR7: usize = 5;

/// Where [`VcpuState::debug`] has register `n`. DR4 and DR5 are other names of DR6 and DR7.
fn place(n: u32) -> Result<usize, Errno> {
    match n {
        0..=3 => Ok(n as usize),
        4 | 6 => Ok(DR6),
        5 | 7 => Ok(DR7),
        _ => Err(Errno::EINVAL),
    }
}
