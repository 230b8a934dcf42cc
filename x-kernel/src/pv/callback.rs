//! Entry points that a guest registers: event, failsafe, system call, NMI. Answers to Xen's pv/callback.c.

use xen_abi::callback::{
    CALLBACKF_mask_events, CALLBACKOP_register, CALLBACKOP_unregister, CALLBACKTYPE_event, CALLBACKTYPE_failsafe, CALLBACKTYPE_nmi,
    CALLBACKTYPE_syscall, CALLBACKTYPE_syscall32, CALLBACKTYPE_sysenter, CallbackRegister, CallbackUnregister,
};
use xen_abi::errno::Errno;

use super::hypercall::{Args, HcCx, HcResult, OK};
use crate::domain::vcpu::{Callback, VcpuState};
use crate::mm::layout::is_canonical;

/// `set_callbacks(event, failsafe, syscall)`: the old way to register three at once.
///
/// # Errors
/// `-EINVAL` for a non-canonical address; nothing is registered then.
pub fn set_callbacks(cx: &mut HcCx<'_>, args: &mut Args) -> HcResult {
    let [event, failsafe, syscall] = [args.u64::<0>(), args.u64::<1>(), args.u64::<2>()];
    if ![event, failsafe, syscall].into_iter().all(is_canonical) {
        return Err(Errno::EINVAL);
    }
    // Events mask events; the others do so only where `callback_op` says so.
    cx.state.event = Callback { address: event, masks_events: true };
    cx.state.failsafe.address = failsafe;
    cx.state.syscall.address = syscall;
    OK
}

/// The place of callback `kind`, and whether its mask flag is the guest's choice.
fn slot(state: &mut VcpuState, kind: u16) -> Option<(&mut Callback, bool)> {
    match kind {
        k if k == CALLBACKTYPE_event => Some((&mut state.event, false)),
        k if k == CALLBACKTYPE_failsafe => Some((&mut state.failsafe, true)),
        k if k == CALLBACKTYPE_syscall => Some((&mut state.syscall, true)),
        k if k == CALLBACKTYPE_syscall32 => Some((&mut state.syscall32, true)),
        k if k == CALLBACKTYPE_sysenter => Some((&mut state.sysenter, true)),
        k if k == CALLBACKTYPE_nmi => Some((&mut state.nmi, false)),
        _ => None,
    }
}

/// `callback_op(cmd, arg)`.
///
/// # Errors
/// `-EINVAL` for a non-canonical address (XSA-7) or unknown type, `-EFAULT`, `-ENOSYS` for an unknown command.
pub fn callback_op(cx: &mut HcCx<'_>, args: &mut Args) -> HcResult {
    match args.u32::<0>() {
        c if c == CALLBACKOP_register => {
            let register = args.ptr::<CallbackRegister, 1>().read()?;
            if !is_canonical(register.address) {
                return Err(Errno::EINVAL);
            }
            let (callback, choosable) = slot(cx.state, register.r#type).ok_or(Errno::EINVAL)?;
            callback.address = register.address;
            callback.masks_events = !choosable || register.flags & CALLBACKF_mask_events != 0;
            OK
        }
        c if c == CALLBACKOP_unregister => {
            let unregister = args.ptr::<CallbackUnregister, 1>().read()?;
            let (callback, choosable) = slot(cx.state, unregister.r#type).ok_or(Errno::EINVAL)?;
            // The event and NMI entry points can be replaced, not taken away.
            if !choosable {
                return Err(Errno::EINVAL);
            }
            *callback = Callback::default();
            OK
        }
        _ => Err(Errno::ENOSYS),
    }
}
