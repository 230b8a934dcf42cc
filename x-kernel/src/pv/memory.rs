//! `memory_op`: how much memory, where it is, and giving it back or taking more.
//!
//! Extents are handled one by one with a preemption point between them; the number done so far travels in the
//! command's upper bits. A guest sees that only as an argument that a preempted call leaves behind: the public ABI does
//! not have it, and where the number begins is the reference's own choice (`MEMOP_EXTENT_SHIFT`), kept because commands
//! end there. Answers to Xen's xen/common/memory.c.

use core::sync::atomic::Ordering;

use pv_core::frame::{Mfn, Pfn};
use xen_abi::errno::Errno;
use xen_abi::memory::{
    E820Entry, XENMEM_current_reservation, XENMEM_decrease_reservation, XENMEM_exchange, XENMEM_increase_reservation,
    XENMEM_machine_memory_map, XENMEM_machphys_mapping, XENMEM_machphys_mfn_list, XENMEM_maximum_gpfn, XENMEM_maximum_ram_page,
    XENMEM_maximum_reservation, XENMEM_memory_map, XENMEM_populate_physmap, XenMachphysMapping, XenMachphysMfnList, XenMemoryExchange,
    XenMemoryMap, XenMemoryReservation,
};

use super::hypercall::{Args, HcCx, HcResult, OK, Outcome};
use super::mmu;
use crate::domain::memory;
use crate::domain::{self, Domain};
use crate::mm::guest_access::GuestPtr;
use crate::mm::{frame_table, layout, m2p};
use crate::sched;

/// Where the command's number ends and the count of extents done begins.
const EXTENT_SHIFT: u32 = 6;
const COMMAND_MASK: u32 = (1 << EXTENT_SHIFT) - 1;
/// The largest extent that a guest may ask for: 2 MiB, as for a domain without hardware in the reference.
const MAX_ORDER: u32 = 9;
/// E820 type of RAM.
const E820_RAM: u32 = 1;

/// `memory_op(cmd, arg)`. The reservation operations return how many extents were done.
///
/// # Errors
/// `-EFAULT`, `-ESRCH`, `-EPERM` for another domain's memory, `-EINVAL` for sizes out of range, `-ENOSYS`.
pub fn memory_op(cx: &mut HcCx<'_>, args: &mut Args) -> HcResult {
    // A page table that is not in use any more still refers to frames, and is one itself.
    match mmu::settle(cx.domain) {
        Err(Errno::ERESTART) => return Ok(Outcome::Preempted),
        settled => settled?,
    }
    let raw = args.u32::<0>();
    let (command, done) = (raw & COMMAND_MASK, u64::from(raw >> EXTENT_SHIFT));
    match command {
        c if [XENMEM_increase_reservation, XENMEM_decrease_reservation, XENMEM_populate_physmap].contains(&c) => {
            reservation(cx, args, c, done)
        }
        c if c == XENMEM_exchange => super::memory_exchange::exchange(cx, args.ptr::<XenMemoryExchange, 1>()),
        c if c == XENMEM_maximum_ram_page => value(frame_table::max_mfn()),
        c if c == XENMEM_current_reservation => value(named(cx, args)?.pages.load(Ordering::Relaxed)),
        c if c == XENMEM_maximum_reservation => value(named(cx, args)?.max_pages.load(Ordering::Relaxed)),
        c if c == XENMEM_maximum_gpfn => value(cx.domain.max_pages.load(Ordering::Relaxed).saturating_sub(1)),
        c if c == XENMEM_memory_map => memory_map(cx, args),
        c if c == XENMEM_machine_memory_map => {
            // The initial domain asks for the machine's map; what it gets is its own memory, all of it RAM, because
            // no device of the machine is its.
            if !cx.domain.initial {
                return Err(Errno::EPERM);
            }
            memory_map(cx, args)
        }
        c if c == XENMEM_machphys_mapping => {
            let mapping = XenMachphysMapping {
                v_start: layout::M2P_BASE,
                v_end: layout::M2P_BASE + layout::SLOT_SIZE,
                max_mfn: frame_table::max_mfn(),
            };
            args.ptr::<XenMachphysMapping, 1>().write(&mapping)?;
            OK
        }
        c if c == XENMEM_machphys_mfn_list => {
            // Only save and restore use the list; there is none.
            let pointer = args.ptr::<XenMachphysMfnList, 1>();
            let mut list = pointer.read()?;
            list.nr_extents = 0;
            pointer.write(&list)?;
            OK
        }
        _ => Err(Errno::ENOSYS),
    }
}

fn value(n: u64) -> HcResult {
    Ok(Outcome::Done(i64::try_from(n).unwrap_or(i64::MAX)))
}

/// The domain whose id lies at the argument: the caller's own.
fn named<'a>(cx: &HcCx<'a>, args: &Args) -> Result<&'a Domain, Errno> {
    let id = args.ptr::<u16, 1>().read()?;
    own(cx, id)?;
    Ok(cx.domain)
}

/// Accepts the caller's own domain only.
fn own(cx: &HcCx<'_>, alleged: u16) -> Result<(), Errno> {
    let found = domain::find_for(cx.domain, alleged).ok_or(Errno::ESRCH)?;
    if found.id == cx.domain.id { Ok(()) } else { Err(Errno::EPERM) }
}

/// Increase, decrease, populate: works through the extents from number `done`.
fn reservation(cx: &HcCx<'_>, args: &mut Args, command: u32, done: u64) -> HcResult {
    let r = args.ptr::<XenMemoryReservation, 1>().read()?;
    own(cx, r.domid)?;
    if r.extent_order > MAX_ORDER || r.nr_extents >> (32 - EXTENT_SHIFT) != 0 {
        return value(done);
    }
    let extents = GuestPtr::<u64>::new(r.extent_start);
    for i in done..r.nr_extents {
        if i != done && sched::preempt_pending() {
            args.set::<0>(u64::from(command) | i << EXTENT_SHIFT);
            return Ok(Outcome::Preempted);
        }
        let step = match command {
            c if c == XENMEM_decrease_reservation => decrease(cx, extents, i, r.extent_order),
            c if c == XENMEM_populate_physmap => populate(cx, extents, i, r.extent_order, true),
            _ => populate(cx, extents, i, r.extent_order, false),
        };
        if step.is_err() {
            return value(i);
        }
    }
    value(r.nr_extents)
}

/// Gives back the extent whose first frame the list names.
fn decrease(cx: &HcCx<'_>, extents: GuestPtr<u64>, i: u64, order: u32) -> Result<(), Errno> {
    let first = extents.add(i)?.read()?;
    for k in 0..1u64 << order {
        let mfn = first.checked_add(k).and_then(Mfn::new).ok_or(Errno::EINVAL)?;
        memory::give_back(cx.domain, mfn)?;
    }
    Ok(())
}

/// Adds an extent. With `physmap` the list names the pfns to record; the mfn goes to the list.
fn populate(cx: &HcCx<'_>, extents: GuestPtr<u64>, i: u64, order: u32, physmap: bool) -> Result<(), Errno> {
    let slot = extents.add(i)?;
    let gpfn = slot.read()?;
    let mfn = memory::take_more(cx.domain, order)?;
    if physmap {
        for k in 0..1u64 << order {
            let (Some(m), Some(p)) = (mfn.checked_add(k), gpfn.checked_add(k).and_then(Pfn::new)) else { break };
            m2p::set(m, p);
        }
    }
    slot.write(&mfn.raw())?;
    Ok(())
}

/// Writes the one-entry map of the domain's pseudo-physical memory.
fn memory_map(cx: &HcCx<'_>, args: &Args) -> HcResult {
    let pointer = args.ptr::<XenMemoryMap, 1>();
    let mut map = pointer.read()?;
    if map.nr_entries == 0 {
        return Err(Errno::EINVAL);
    }
    let entry = E820Entry { addr: 0, size: cx.domain.max_pages.load(Ordering::Relaxed) << layout::FRAME_SHIFT, r#type: E820_RAM };
    GuestPtr::<E820Entry>::new(map.buffer).write(&entry)?;
    map.nr_entries = 1;
    pointer.write(&map)?;
    const { assert!(size_of::<E820Entry>() == 20) };
    OK
}
