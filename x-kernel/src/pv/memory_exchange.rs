//! `XENMEM_exchange`: trades frames for contiguous ones. Linux uses it for DMA buffers of its first domain.
//!
//! One output extent at a time: its frames are allocated first, then the input frames are stolen, so that a
//! failure leaves the guest what it had. `nr_exchanged` in the guest's structure tells how far it came, which
//! also serves as the continuation (the public memory.h states both).

use pv_core::frame::{Mfn, Pfn};
use xen_abi::errno::Errno;
use xen_abi::memory::XenMemoryExchange;

use super::hypercall::{HcCx, HcResult, OK, Outcome};
use crate::domain::memory;
use crate::mm::guest_access::GuestPtr;
use crate::mm::{frame_alloc, m2p};
use crate::sched;

/// The largest output extent.
const MAX_ORDER: u32 = 9;

/// Exchanges the extents of `in` for those of `out`.
///
/// # Errors
/// `-EINVAL` for shapes that do not match or frames that are in use, `-EPERM` for another domain, `-ENOMEM`.
pub fn exchange(cx: &mut HcCx<'_>, pointer: GuestPtr<XenMemoryExchange>) -> HcResult {
    let mut op = pointer.read()?;
    let (input, output) = (op.r#in, op.out);
    let own = |id: u16| id == cx.domain.id.raw() || id == pv_core::frame::DomId::SELF.raw();
    if !own(input.domid) || !own(output.domid) {
        return Err(Errno::EPERM);
    }
    // Only many small frames for fewer, larger ones: the shape that its one user has.
    if input.extent_order != 0 || output.extent_order > MAX_ORDER {
        return Err(Errno::EINVAL);
    }
    let per = 1u64 << output.extent_order;
    let wanted = output.nr_extents.checked_mul(per).ok_or(Errno::EINVAL)?;
    if wanted != input.nr_extents || op.nr_exchanged > input.nr_extents || !op.nr_exchanged.is_multiple_of(per) {
        return Err(Errno::EINVAL);
    }
    let bits = if output.mem_flags & 0xff == 0 { 64 } else { (output.mem_flags & 0xff).min(64) };
    let ins = GuestPtr::<u64>::new(input.extent_start);
    let outs = GuestPtr::<u64>::new(output.extent_start);
    let start = op.nr_exchanged;
    while op.nr_exchanged < input.nr_extents {
        if op.nr_exchanged != start && sched::preempt_pending() {
            return Ok(Outcome::Preempted);
        }
        let out_slot = outs.add(op.nr_exchanged >> output.extent_order)?;
        let gpfn = out_slot.read()?;
        let new = one(cx, ins, op.nr_exchanged, output.extent_order, bits)?;
        for k in 0..per {
            if let (Some(m), Some(p)) = (new.checked_add(k), gpfn.checked_add(k).and_then(Pfn::new)) {
                m2p::set(m, p);
            }
        }
        out_slot.write(&new.raw())?;
        op.nr_exchanged = op.nr_exchanged.checked_add(per).ok_or(Errno::EINVAL)?;
        pointer.write(&op)?;
    }
    OK
}

/// Trades the input frames from number `first` for one extent.
fn one(cx: &HcCx<'_>, ins: GuestPtr<u64>, first: u64, order: u32, bits: u32) -> Result<Mfn, Errno> {
    let per = 1u64 << order;
    let new = frame_alloc::alloc_below(order, bits).ok_or(Errno::ENOMEM)?;
    for k in 0..per {
        let stolen = ins
            .add(first.wrapping_add(k))
            .and_then(|p| p.read())
            .map_err(Errno::from)
            .and_then(|raw| Mfn::new(raw).ok_or(Errno::EINVAL))
            .and_then(|mfn| memory::give_back(cx.domain, mfn));
        if let Err(errno) = stolen {
            // The frames given back so far are made up for from the new extent; the rest of it is freed.
            memory::keep_part(cx.domain, new, k, order);
            return Err(errno);
        }
    }
    memory::adopt(cx.domain, new, order)?;
    Ok(new)
}
