//! `mmuext_op`: pins, page-table roots, flushes, LDT, clearing and copying pages.

use alloc::sync::Arc;

use pv_core::frame::{self, FrameKind, Level, Mfn};
use xen_abi::errno::Errno;
use xen_abi::mmu::{
    MMUEXT_CLEAR_PAGE, MMUEXT_COPY_PAGE, MMUEXT_FLUSH_CACHE, MMUEXT_FLUSH_CACHE_GLOBAL, MMUEXT_INVLPG_ALL, MMUEXT_INVLPG_LOCAL,
    MMUEXT_INVLPG_MULTI, MMUEXT_NEW_BASEPTR, MMUEXT_NEW_USER_BASEPTR, MMUEXT_PIN_L1_TABLE, MMUEXT_PIN_L2_TABLE, MMUEXT_PIN_L3_TABLE,
    MMUEXT_PIN_L4_TABLE, MMUEXT_SET_LDT, MMUEXT_TLB_FLUSH_ALL, MMUEXT_TLB_FLUSH_LOCAL, MMUEXT_TLB_FLUSH_MULTI, MMUEXT_UNPIN_TABLE,
    MmuextOp,
};

use super::descriptor;
use super::hypercall::{Args, HcCx, HcResult, Outcome};
use super::mmu::{self, CONTINUED};
use crate::arch::x86_64::tlb::{self, Scope};
use crate::domain::{self, Domain};
use crate::mm::guest_access::GuestPtr;
use crate::mm::layout::is_guest_address;
use crate::mm::machine::machine;
use crate::mm::window::FrameWindow;
use crate::sched;

/// `mmuext_op(ops, count, done, domain)`.
///
/// # Errors
/// `-EFAULT`, `-EPERM` for another domain, `-EINVAL`, `-EBUSY`, `-ENOSYS`. Operations before the failing one have
/// been done; `done` tells how many.
pub fn mmuext_op(cx: &mut HcCx<'_>, args: &mut Args) -> HcResult {
    let mut ops = args.ptr::<MmuextOp, 0>();
    let done_at = args.ptr::<u32, 2>();
    let count = args.u32::<1>();
    let mut left = count & !CONTINUED;
    let mut done = if count & CONTINUED != 0 && !done_at.is_null() { done_at.read()? } else { 0 };
    let named = (args.u32::<3>() & 0xffff) as u16;
    let target = domain::find_for(cx.domain, named).ok_or(Errno::ESRCH)?;
    if !Arc::ptr_eq(&target, cx.domain) {
        return Err(Errno::EPERM);
    }
    let mut answer = Ok(Outcome::Done(0));
    let mut first = true;
    while left > 0 {
        let interrupted = !first && sched::preempt_pending();
        first = false;
        let step = if interrupted { Err(Errno::ERESTART) } else { ops.read().map_err(Errno::from).and_then(|op| one(cx, &op)) };
        match step {
            Ok(()) => {}
            Err(Errno::ERESTART) => {
                args.set::<0>(ops.raw());
                args.set::<1>(u64::from(left | CONTINUED));
                answer = Ok(Outcome::Preempted);
                break;
            }
            Err(errno) => {
                answer = Err(errno);
                break;
            }
        }
        done = done.saturating_add(1);
        left = left.saturating_sub(1);
        if left > 0 {
            ops = ops.add(1)?;
        }
    }
    if !done_at.is_null() {
        done_at.write(&done)?;
    }
    answer
}

/// One operation. `-ERESTART`: preempted, do it again.
fn one(cx: &mut HcCx<'_>, op: &MmuextOp) -> Result<(), Errno> {
    let domain = cx.domain;
    let frame = || Mfn::new(op.mfn()).ok_or(Errno::EINVAL);
    match op.cmd {
        MMUEXT_PIN_L1_TABLE => mmu::pin(domain, frame()?, Level::L1),
        MMUEXT_PIN_L2_TABLE => mmu::pin(domain, frame()?, Level::L2),
        MMUEXT_PIN_L3_TABLE => mmu::pin(domain, frame()?, Level::L3),
        MMUEXT_PIN_L4_TABLE => mmu::pin(domain, frame()?, Level::L4),
        MMUEXT_UNPIN_TABLE => mmu::unpin(domain, frame()?),
        MMUEXT_NEW_BASEPTR => mmu::new_base(domain, cx.state, op.mfn()),
        MMUEXT_NEW_USER_BASEPTR => mmu::new_user_base(domain, cx.state, op.mfn()),
        MMUEXT_TLB_FLUSH_LOCAL => {
            domain.counters.flushes_asked.bump();
            tlb::flush_local();
            Ok(())
        }
        MMUEXT_INVLPG_LOCAL => {
            domain.counters.flushes_asked.bump();
            if is_guest_address(op.linear_addr()) {
                tlb::flush_page(op.linear_addr());
            }
            Ok(())
        }
        MMUEXT_TLB_FLUSH_MULTI | MMUEXT_INVLPG_MULTI => {
            // The mask is read to tell a bad pointer; every CPU that may hold the domain's entries is flushed.
            GuestPtr::<u64>::new(op.vcpumask()).read()?;
            flush_all(cx, op)
        }
        MMUEXT_TLB_FLUSH_ALL | MMUEXT_INVLPG_ALL => flush_all(cx, op),
        // A domain without devices has no reason to write back caches; the reference refuses it then, too.
        MMUEXT_FLUSH_CACHE | MMUEXT_FLUSH_CACHE_GLOBAL => Err(Errno::EACCES),
        MMUEXT_SET_LDT => descriptor::set_ldt(domain, cx.vcpu, cx.state, op.linear_addr(), u64::from(op.nr_ents())),
        MMUEXT_CLEAR_PAGE => with_writable(domain, frame()?, |to| {
            to.zero();
            Ok(())
        }),
        MMUEXT_COPY_PAGE => {
            let (from, to) = (Mfn::new(op.src_mfn()).ok_or(Errno::EINVAL)?, frame()?);
            frame::get_ref(machine(), from, domain.id).map_err(|_| Errno::EINVAL)?;
            let copied = with_writable(domain, to, |to| {
                to.copy_frame(&FrameWindow::new(from).ok_or(Errno::EINVAL)?);
                Ok(())
            });
            mmu::put_ref(from);
            copied
        }
        _ => Err(Errno::ENOSYS),
    }
}

/// Runs `f` on a frame of the domain's that is writable memory while it runs.
fn with_writable(domain: &Arc<Domain>, mfn: Mfn, f: impl FnOnce(FrameWindow) -> Result<(), Errno>) -> Result<(), Errno> {
    frame::get_typed(machine(), mfn, domain.id, FrameKind::Writable).map_err(|_| Errno::EINVAL)?;
    let done = FrameWindow::new(mfn).ok_or(Errno::EINVAL).and_then(f);
    mmu::put_typed(mfn);
    done
}

/// Flushes on every CPU that may hold translations of the domain.
fn flush_all(cx: &HcCx<'_>, op: &MmuextOp) -> Result<(), Errno> {
    let domain = cx.domain;
    domain.counters.flushes_asked.bump();
    let one_page = matches!(op.cmd, MMUEXT_INVLPG_ALL | MMUEXT_INVLPG_MULTI);
    if one_page && !is_guest_address(op.linear_addr()) {
        return Ok(());
    }
    // Named CPUs are told of processes' pages only; a page is gone whatever it was.
    let scope = if op.cmd == MMUEXT_TLB_FLUSH_MULTI { Scope::NonGlobal } else { mmu::everything(cx.state) };
    tlb::flush_mask(domain.dirty_mask(), scope);
    Ok(())
}
