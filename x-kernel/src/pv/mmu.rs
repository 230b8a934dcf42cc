//! Page-table hypercalls: mmu_update, update_va_mapping and mmuext_op. Answers to Xen's xen/arch/x86/mm.c.
//!
//! What may be written where is decided by `pv_core::pt`; here arguments are read, the current tables walked, and
//! the flushes paid: those that our own safety needs before anything that relies on them is released, then those
//! that the guest asks for. A domain's page-table changes are serialised by its `mm` lock.

use alloc::sync::Arc;
use core::sync::atomic::Ordering;

use pv_core::frame::{self, DomId, Level, Mfn, Pfn};
use pv_core::grant::GrantError;
use pv_core::pt::{self, Slot};
use xen_abi::errno::Errno;
use xen_abi::mmu::{
    MMU_MACHPHYS_UPDATE, MMU_NORMAL_PT_UPDATE, MMU_PT_UPDATE_NO_TRANSLATE, MMU_PT_UPDATE_PRESERVE_AD, MmuUpdate, UVMF_ALL,
    UVMF_FLUSHTYPE_MASK, UVMF_INVLPG, UVMF_TLB_FLUSH,
};

use super::hypercall::{Args, HcCx, HcResult, Outcome};
use crate::arch::x86_64::context;
use crate::arch::x86_64::tlb::{self, Scope};
use crate::domain::vcpu::VcpuState;
use crate::domain::{self, Domain};
use crate::mm::guest_access::GuestPtr;
use crate::mm::machine::machine;
use crate::mm::window::FrameWindow;
use crate::mm::{frame_table, layout, m2p};
use crate::sched;

/// Bit of a count argument that marks a continuation (`MMU_UPDATE_PREEMPTED` in the reference).
pub const CONTINUED: u32 = 1 << 31;

/// `mmu_update(requests, count, done, domains)`.
///
/// # Errors
/// `-EFAULT`, `-ESRCH`, `-EPERM`, `-EINVAL`, `-EBUSY`, `-ENOSYS` for an unknown command. Requests before the
/// failing one have been made; `done` tells how many.
pub fn mmu_update(cx: &mut HcCx<'_>, args: &mut Args) -> HcResult {
    let mut requests = args.ptr::<MmuUpdate, 0>();
    let done_at = args.ptr::<u32, 2>();
    let count = args.u32::<1>();
    let mut left = count & !CONTINUED;
    let mut done = if count & CONTINUED != 0 && !done_at.is_null() { done_at.read()? } else { 0 };
    let owner = foreign(cx.domain, args.u32::<3>())?;
    let mut answer = Ok(Outcome::Done(0));
    let mut first = true;
    while left > 0 {
        if !first && sched::preempt_pending() {
            args.set::<0>(requests.raw());
            args.set::<1>(u64::from(left | CONTINUED));
            answer = Ok(Outcome::Preempted);
            break;
        }
        first = false;
        let step = requests.read().map_err(Errno::from).and_then(|request| one_update(cx.domain, owner, &request));
        match step {
            Ok(()) => {}
            Err(Errno::ERESTART) => {
                args.set::<0>(requests.raw());
                args.set::<1>(u64::from(left | CONTINUED));
                answer = Ok(Outcome::Preempted);
                break;
            }
            Err(errno) => {
                answer = Err(errno);
                break;
            }
        }
        cx.domain.counters.pt_entries_updated.bump();
        done = done.saturating_add(1);
        left = left.saturating_sub(1);
        if left > 0 {
            requests = requests.add(1)?;
        }
    }
    if !done_at.is_null() {
        done_at.write(&done)?;
    }
    answer
}

/// The owner of the frames that new entries may map, from the `domains` argument. Its upper half names the owner
/// of the tables, which is always the caller.
fn foreign(domain: &Arc<Domain>, alleged: u32) -> Result<DomId, Errno> {
    let (frames, tables) = ((alleged & 0xffff) as u16, (alleged >> 16) as u16);
    if tables != 0 && domain::find_for(domain, tables.wrapping_sub(1)).is_none_or(|d| d.id != domain.id) {
        return Err(Errno::EPERM);
    }
    let id = DomId::new(frames);
    if id == DomId::SELF || id == domain.id {
        return Ok(domain.id);
    }
    if [DomId::IO, DomId::XEN].contains(&id) {
        return Err(Errno::EPERM);
    }
    // Another domain's memory is mapped by grants only.
    Err(if domain::find(id).is_some() { Errno::EPERM } else { Errno::ESRCH })
}

/// One request of `mmu_update`.
fn one_update(domain: &Arc<Domain>, owner: DomId, request: &MmuUpdate) -> Result<(), Errno> {
    let maddr = request.maddr();
    match request.command() {
        MMU_NORMAL_PT_UPDATE | MMU_PT_UPDATE_PRESERVE_AD | MMU_PT_UPDATE_NO_TRANSLATE => {
            let table = Mfn::new(maddr >> 12).ok_or(Errno::EINVAL)?;
            let slot = Slot::new(((maddr >> 3) & 511) as u16).ok_or(Errno::EINVAL)?;
            if maddr & 7 & !3 != 0 {
                return Err(Errno::EINVAL);
            }
            update_entry(domain, owner, table, slot, request.val, request.command() == MMU_PT_UPDATE_PRESERVE_AD)
        }
        MMU_MACHPHYS_UPDATE => {
            let mfn = Mfn::new(maddr >> 12).ok_or(Errno::EINVAL)?;
            frame::get_ref(machine(), mfn, domain.id).map_err(|_| Errno::EINVAL)?;
            let set = Pfn::new(request.val).is_some_and(|pfn| m2p::set(mfn, pfn));
            put_ref(mfn);
            if set { Ok(()) } else { Err(Errno::EINVAL) }
        }
        _ => Err(Errno::ENOSYS),
    }
}

/// Changes one entry of a table, or eight bytes of a frame that is plain memory.
fn update_entry(domain: &Arc<Domain>, owner: DomId, table: Mfn, slot: Slot, value: u64, preserve_ad: bool) -> Result<(), Errno> {
    Ok(pt::update(machine(), &mut domain.mm.lock(), owner, table, slot, value, preserve_ad)?)
}

/// Entry `slot` of the table in `table`; None if that is no memory.
pub fn read_entry(table: Mfn, slot: Slot) -> Option<u64> {
    Some(FrameWindow::new(table)?.read_u64_at(slot.index() << 3))
}

/// The entry of `va` at level 1 of the tables below `root`, read through frame windows; None where a level is
/// missing.
pub fn walk(root: Mfn, va: u64) -> Option<u64> {
    let (table, slot) = l1_slot(root, va)?;
    read_entry(table, slot)
}

/// Where the level-1 entry of `va` is.
fn l1_slot(root: Mfn, va: u64) -> Option<(Mfn, Slot)> {
    if !layout::is_guest_address(va) {
        return None;
    }
    let mut table = root;
    for shift in [39, 30, 21] {
        let entry = read_entry(table, Slot::new(((va >> shift) & 511) as u16)?)?;
        if entry & 1 == 0 || entry & 0x80 != 0 {
            return None;
        }
        table = pt::target(entry)?;
    }
    Some((table, Slot::new(((va >> 12) & 511) as u16)?))
}

/// Whether `mfn` is a page table of the domain's: what emulated writes may reach.
pub fn is_page_table(domain: &Domain, mfn: Mfn) -> bool {
    frame_table::info(mfn).is_some_and(|info| info.owner() == Some(domain.id) && info.is_table())
}

/// Makes the emulated write of `new` over `old`.
///
/// # Errors
/// `-EBUSY` when the entry is not `old` any more, `-ERESTART` when preempted, and why `new` is refused.
pub fn emulated_write(domain: &Arc<Domain>, table: Mfn, slot: Slot, old: u64, new: u64) -> Result<(), Errno> {
    if read_entry(table, slot) != Some(old) {
        return Err(Errno::EBUSY);
    }
    update_entry(domain, domain.id, table, slot, new, false)
}

/// `update_va_mapping(va, value, flags)`.
///
/// # Errors
/// `-EINVAL` where `va` has no level-1 table or the entry is refused.
pub fn update_va_mapping(cx: &mut HcCx<'_>, args: &mut Args) -> HcResult {
    let owner = cx.domain.id;
    update_va(cx, args, owner)
}

/// `update_va_mapping_otherdomain(va, value, flags, domid)`.
///
/// # Errors
/// As [`update_va_mapping`]; `-ESRCH`, `-EPERM` for a domain that does not let its frames be mapped.
pub fn update_va_mapping_otherdomain(cx: &mut HcCx<'_>, args: &mut Args) -> HcResult {
    let owner = foreign(cx.domain, args.u32::<3>() & 0xffff)?;
    update_va(cx, args, owner)
}

fn update_va(cx: &mut HcCx<'_>, args: &mut Args, owner: DomId) -> HcResult {
    let (va, value, flags) = (args.u64::<0>(), args.u64::<1>(), args.u64::<2>());
    let root = cx.state.kernel_root.ok_or(Errno::EINVAL)?;
    let (table, slot) = l1_slot(root, va).ok_or(Errno::EINVAL)?;
    let done = update_entry(cx.domain, owner, table, slot, value, false);
    if done == Err(Errno::ERESTART) {
        return Ok(Outcome::Preempted);
    }
    done?;
    cx.domain.counters.pt_entries_updated.bump();
    flush_asked(cx, va, flags)?;
    Ok(Outcome::Done(0))
}

/// The flush that the flags of an update_va_mapping ask for. `va` is a guest address here (XSA-279).
fn flush_asked(cx: &HcCx<'_>, va: u64, flags: u64) -> Result<(), Errno> {
    let (domain, everything) = (cx.domain, everything(cx.state));
    let kind = flags & UVMF_FLUSHTYPE_MASK;
    if kind == 0 {
        return Ok(());
    }
    if ![UVMF_TLB_FLUSH, UVMF_INVLPG].contains(&kind) {
        return Err(Errno::EINVAL);
    }
    domain.counters.flushes_asked.bump();
    // The rest of the flags is a pointer to a mask of vCPUs, UVMF_ALL, or nothing for this vCPU alone.
    match flags & !UVMF_FLUSHTYPE_MASK {
        0 if kind == UVMF_INVLPG => tlb::flush_page(va),
        // What is asked for an address of the kernel's concerns its global pages.
        0 => tlb::flush_local_scope(if va >> 63 != 0 { everything } else { Scope::NonGlobal }),
        UVMF_ALL => tlb::flush_mask(domain.dirty_mask(), everything),
        mask => {
            GuestPtr::<u64>::new(mask).read()?;
            tlb::flush_mask(domain.dirty_mask(), everything);
        }
    }
    Ok(())
}

/// What a flush of everything concerns: global pages too, if the guest has any.
pub fn everything(state: &VcpuState) -> Scope {
    if state.xmode.is_some() { Scope::Global } else { Scope::NonGlobal }
}

/// Drops a reference to a frame.
pub fn put_ref(mfn: Mfn) {
    frame::put_ref(machine(), mfn);
}

/// Drops a reference and a type.
pub fn put_typed(mfn: Mfn) {
    frame::put_typed(machine(), mfn);
}

/// Pins a page table.
///
/// # Errors
/// `-EINVAL`, `-EPERM`, `-EBUSY`; `-ERESTART` when preempted.
pub fn pin(domain: &Arc<Domain>, mfn: Mfn, level: Level) -> Result<(), Errno> {
    Ok(frame::pin(machine(), &mut domain.mm.lock(), mfn, level)?)
}

/// Unpins a page table.
///
/// # Errors
/// `-EINVAL` if it is not pinned; `-ERESTART` when preempted.
pub fn unpin(domain: &Arc<Domain>, mfn: Mfn) -> Result<(), Errno> {
    Ok(frame::unpin(machine(), &mut domain.mm.lock(), mfn)?)
}

/// Takes a root for use in CR3.
///
/// # Errors
/// As [`pin`].
pub fn take_base(domain: &Arc<Domain>, root: Mfn) -> Result<(), Errno> {
    let mut mm = domain.mm.lock();
    frame::settle(machine(), &mut mm)?;
    Ok(frame::get_table(machine(), &mut mm, root, Level::L4)?)
}

/// Gives back a root that no CPU has loaded.
pub fn give_base(domain: &Arc<Domain>, root: Mfn) {
    frame::put_table(machine(), &mut domain.mm.lock(), root);
}

/// Undoes page tables that are not in use any more, before anything else is done with page tables.
///
/// # Errors
/// `-ERESTART` when preempted.
pub fn settle(domain: &Domain) -> Result<(), Errno> {
    Ok(frame::settle(machine(), &mut domain.mm.lock())?)
}

/// Installs the kernel's root (MMUEXT_NEW_BASEPTR) and loads it.
///
/// # Errors
/// As [`pin`].
pub fn new_base(domain: &Arc<Domain>, state: &mut VcpuState, mfn: u64) -> Result<(), Errno> {
    let root = Mfn::new(mfn).ok_or(Errno::EINVAL)?;
    if state.kernel_root != Some(root) {
        take_base(domain, root)?;
        let old = state.kernel_root.replace(root);
        context::load_guest_root(domain, state);
        if let Some(old) = old {
            give_base(domain, old);
        }
    } else {
        context::load_guest_root(domain, state);
    }
    Ok(())
}

/// Installs the processes' root (MMUEXT_NEW_USER_BASEPTR); 0 for none.
///
/// # Errors
/// As [`pin`].
pub fn new_user_base(domain: &Arc<Domain>, state: &mut VcpuState, mfn: u64) -> Result<(), Errno> {
    // One page table is all that there is in X-mode.
    let root = if mfn == 0 || state.xmode.is_some() { None } else { Some(Mfn::new(mfn).ok_or(Errno::EINVAL)?) };
    if state.user_root == root {
        return Ok(());
    }
    if let Some(root) = root {
        take_base(domain, root)?;
    }
    if let Some(old) = core::mem::replace(&mut state.user_root, root) {
        give_base(domain, old);
    }
    Ok(())
}

/// Writes the entry of a grant mapping: at a linear address, or at a PTE's machine address. The entry takes its own
/// counts of the frame, which it loses like any other entry when it is replaced.
///
/// # Errors
/// `BadAddress` where there is no level-1 entry (XSA-227: or it is misaligned) or the update is refused.
pub fn map_granted(
    domain: &Arc<Domain>,
    host: u64,
    contains_pte: bool,
    frame: Mfn,
    granter: DomId,
    writable: bool,
) -> Result<(), GrantError> {
    let (table, slot) = granted_slot(domain, host, contains_pte)?;
    if !is_page_table(domain, table) {
        return Err(GrantError::BadAddress);
    }
    // Present, accessed, dirty.
    let value = frame.maddr().raw() | 0x61 | if writable { 2 } else { 0 };
    update_entry(domain, granter, table, slot, value, false).map_err(|_| GrantError::BadAddress)
}

/// Clears the entry of a grant mapping if it is still the one that was made.
///
/// # Errors
/// `BadAddress` if it is not.
pub fn unmap_granted(domain: &Arc<Domain>, host: u64, contains_pte: bool, made: impl Fn(Mfn, bool) -> bool) -> Result<(), GrantError> {
    let (table, slot) = granted_slot(domain, host, contains_pte)?;
    let entry = read_entry(table, slot).unwrap_or(0);
    let mapped = pt::target(entry).filter(|_| entry & 1 != 0).ok_or(GrantError::BadAddress)?;
    if !is_page_table(domain, table) || !made(mapped, entry & 2 != 0) {
        return Err(GrantError::BadAddress);
    }
    update_entry(domain, domain.id, table, slot, 0, false).map_err(|_| GrantError::BadAddress)?;
    crate::mm::machine::flush_domain(domain);
    Ok(())
}

/// The level-1 entry that a grant operation names.
fn granted_slot(domain: &Arc<Domain>, host: u64, contains_pte: bool) -> Result<(Mfn, Slot), GrantError> {
    if contains_pte {
        if host & 7 != 0 {
            return Err(GrantError::BadAddress);
        }
        let table = Mfn::new(host >> 12).ok_or(GrantError::BadAddress)?;
        let slot = Slot::new(((host >> 3) & 511) as u16).ok_or(GrantError::BadAddress)?;
        return Ok((table, slot));
    }
    let root = crate::percpu::this()
        .running()
        .filter(|on| Arc::ptr_eq(&on.domain, domain))
        .map(|_| crate::percpu::this().shared.root.load(Ordering::Acquire))
        .and_then(|maddr| Mfn::new(maddr >> 12))
        .ok_or(GrantError::BadAddress)?;
    l1_slot(root, host).ok_or(GrantError::BadAddress)
}
