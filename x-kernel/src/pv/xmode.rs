//! X-mode: a guest kernel in one page table with its processes.
//!
//! Nothing here is trusted more than in an ordinary guest: entries are checked and counted as ever, and who runs, kernel
//! or process, decides only which of the guest's own handlers is entered. A guest that lies about its stack harms itself.
//! What is new for the boundary are global pages of guests: every flush for a change of type or owner reaches global
//! entries (`mm::machine`), and so does the switch to another domain (`arch::x86_64::context::load`).

use core::sync::atomic::Ordering;

use pv_core::pt::KernelPages;
use xen_abi::errno::Errno;
use xen_abi::xmode::{
    XMODE_VERSION, XMODEOP_annex, XMODEOP_drop, XMODEOP_enable, XMODEOP_exit, XMODEOP_patch, XMODEOP_query, XMODEOP_sites, XmodeAnnex,
    XmodeDrop, XmodeEnable, XmodeExit, XmodePatch, XmodeQuery, XmodeSites,
};

use super::hypercall::{Args, HcCx, HcResult, OK, Outcome};
use super::{abom, mmu};
use crate::domain::vcpu::XMode;
use crate::mm::layout::is_guest_range;

/// `arch_7(cmd, arg)`: X-mode's operations, under the name that the ABI has for the number.
///
/// # Errors
/// `-ENOSYS` for an unknown command, and for those of X-mode in a domain that may not use it; `-EINVAL` for a version or
/// flags that are unknown, or a word that is not one of the guest kernel's; `-EFAULT`.
pub fn arch_7(cx: &mut HcCx<'_>, args: &mut Args) -> HcResult {
    match args.u32::<0>() {
        c if c == XMODEOP_exit => exit(cx, &args.ptr::<XmodeExit, 1>().read()?)?,
        _ if !cx.domain.xmode => return Err(Errno::ENOSYS),
        c if c == XMODEOP_query => args.ptr::<XmodeQuery, 1>().write(&XmodeQuery { version: XMODE_VERSION, features: 0 })?,
        c if c == XMODEOP_enable => enable(cx, &args.ptr::<XmodeEnable, 1>().read()?)?,
        c if c == XMODEOP_sites => abom::keep(cx, &args.ptr::<XmodeSites, 1>().read()?)?,
        c if c == XMODEOP_annex => abom::offer(cx, &args.ptr::<XmodeAnnex, 1>().read()?)?,
        c if c == XMODEOP_drop => abom::drop_page(cx.domain, &args.ptr::<XmodeDrop, 1>().read()?)?,
        c if c == XMODEOP_patch => {
            let to = args.ptr::<XmodePatch, 1>();
            let mut wish = to.read()?;
            let done = abom::patch(cx, &mut wish);
            if done == Err(Errno::EFAULT) {
                to.write(&wish)?;
            }
            return Ok(Outcome::Done(i64::try_from(done?).unwrap_or(0)));
        }
        _ => return Err(Errno::ENOSYS),
    }
    OK
}

/// Keeps the status for whoever reads the log or the counters.
fn exit(cx: &HcCx<'_>, said: &XmodeExit) -> Result<(), Errno> {
    if said.flags != 0 || said.status > 255 {
        return Err(Errno::EINVAL);
    }
    cx.domain.exit_status.store(said.status, Ordering::Relaxed);
    Ok(())
}

/// Switches it on for the calling vCPU, or moves its word.
fn enable(cx: &mut HcCx<'_>, wish: &XmodeEnable) -> Result<(), Errno> {
    let at = wish.kernel_sp;
    if wish.version != XMODE_VERSION || wish.flags != 0 || at & 7 != 0 || at >> 63 == 0 || !is_guest_range(at, 8) {
        return Err(Errno::EINVAL);
    }
    // The processes' page table, if there is one, is of no more use. It is the kernel's that is loaded.
    mmu::new_user_base(cx.domain, cx.state, 0)?;
    cx.domain.mm.lock().set_kernel_pages(KernelPages::Global);
    cx.state.xmode = Some(XMode { kernel_sp_at: at });
    Ok(())
}
