//! `grant_table_op`, version 1. Answers to Xen's xen/common/grant_table.c.
//!
//! Who may use what is `pv_core::grant`; here each use takes a reference of the right type to the frame from its
//! owner, and a mapping is an ordinary page-table entry made through the validated path. Batches stop at preemption
//! points with the arguments moved on (XSA-318: each element's status is written before the next is begun).

use alloc::sync::Arc;

use pv_core::frame::{self, DomId, FrameKind, Mfn};
use pv_core::grant::{
    CopyEnd, CopyRange, Entry, EntryPlace, GrantError, GrantRef, Handle, Header, MapFlags, Mapping, Parts, SharedEntries, Use,
};
use xen_abi::errno::Errno;
use xen_abi::grant_table::{
    GNTTABOP_copy, GNTTABOP_get_version, GNTTABOP_map_grant_ref, GNTTABOP_query_size, GNTTABOP_set_version, GNTTABOP_setup_table,
    GNTTABOP_swap_grant_ref, GNTTABOP_unmap_grant_ref, GnttabCopy, GnttabGetVersion, GnttabMapGrantRef, GnttabQuerySize, GnttabSetVersion,
    GnttabSetupTable, GnttabSwapGrantRef, GnttabUnmapGrantRef,
};

use super::hypercall::{Args, HcCx, HcResult, OK, Outcome};
use super::mmu;
use crate::domain::{self, Domain};
use crate::mm::frame_alloc;
use crate::mm::guest_access::GuestPtr;
use crate::mm::machine::machine;
use crate::mm::window::FrameWindow;
use crate::sched;

/// The shared entries in guest memory.
pub struct Shared;

impl SharedEntries for Shared {
    fn read(&self, at: EntryPlace) -> Entry {
        let Some(w) = FrameWindow::new(at.frame) else { return Entry::default() };
        let word = w.read_u64_at(usize::from(at.offset));
        Entry { header: Header::from_word((word & 0xffff_ffff) as u32), frame: (word >> 32) as u32 }
    }

    fn compare_exchange(&self, at: EntryPlace, old: Header, new: Header) -> Result<(), Header> {
        let Some(w) = FrameWindow::new(at.frame) else { return Err(Header::default()) };
        w.cmpxchg_u32(usize::from(at.offset), old.to_word(), new.to_word()).map(|_| ()).map_err(Header::from_word)
    }

    fn clear_flags(&self, at: EntryPlace, bits: u16) {
        if let Some(w) = FrameWindow::new(at.frame) {
            w.fetch_and_u16(usize::from(at.offset), !bits);
        }
    }

    fn write(&self, at: EntryPlace, entry: Entry) {
        if let Some(w) = FrameWindow::new(at.frame) {
            w.write_u64_at(usize::from(at.offset), u64::from(entry.header.to_word()) | u64::from(entry.frame) << 32);
        }
    }
}

/// Works through `count` elements at the argument pointer; `one` fills in each element's status.
///
/// Page tables that are to be undone are undone before each element: a status has no way to say "again", so a mapping
/// must not be refused for their sake.
fn batch<T>(domain: &Domain, args: &mut Args, mut one: impl FnMut(&mut T) -> Result<(), Errno>) -> HcResult
where
    T: zerocopy::FromBytes + zerocopy::IntoBytes + zerocopy::Immutable,
{
    let (mut at, mut left) = (args.ptr::<T, 1>(), args.u32::<2>());
    let mut first = true;
    while left > 0 {
        let settled = mmu::settle(domain);
        if settled == Err(Errno::ERESTART) || !first && sched::preempt_pending() {
            args.set::<1>(at.raw());
            args.set::<2>(u64::from(left));
            return Ok(Outcome::Preempted);
        }
        settled?;
        first = false;
        let mut op = at.read()?;
        one(&mut op)?;
        at.write(&op)?;
        left = left.saturating_sub(1);
        if left > 0 {
            at = at.add(1)?;
        }
    }
    OK
}

/// `grant_table_op(cmd, ops, count)`.
///
/// # Errors
/// `-EFAULT`; `-EINVAL` for a batch where one operation is meant; `-ENOSYS` for transfer, cache_flush and
/// everything of version 2. What each operation came to is in its status.
pub fn grant_table_op(cx: &mut HcCx<'_>, args: &mut Args) -> HcResult {
    let domain = cx.domain;
    match args.u32::<0>() {
        c if c == GNTTABOP_map_grant_ref => batch(domain, args, |op: &mut GnttabMapGrantRef| {
            op.status = status(map(domain, op));
            Ok(())
        }),
        c if c == GNTTABOP_unmap_grant_ref => batch(domain, args, |op: &mut GnttabUnmapGrantRef| {
            op.status = status(unmap(domain, op));
            Ok(())
        }),
        c if c == GNTTABOP_copy => batch(domain, args, |op: &mut GnttabCopy| {
            op.status = status(copy(domain, op));
            Ok(())
        }),
        c if c == GNTTABOP_setup_table => single(domain, args, |op: &mut GnttabSetupTable| {
            op.status = match own(domain, op.dom) {
                Ok(()) => status(setup(domain, op)),
                Err(e) => e.status(),
            };
            Ok(())
        }),
        c if c == GNTTABOP_query_size => single(domain, args, |op: &mut GnttabQuerySize| {
            let table = domain.grants.lock();
            (op.nr_frames, op.max_nr_frames) = (table.nr_frames(), table.max_frames());
            op.status = status(own(domain, op.dom));
            Ok(())
        }),
        c if c == GNTTABOP_get_version => single(domain, args, |op: &mut GnttabGetVersion| {
            own(domain, op.dom).map_err(Errno::from)?;
            op.version = 1;
            Ok(())
        }),
        c if c == GNTTABOP_set_version => single(domain, args, |op: &mut GnttabSetVersion| {
            let accepted = pv_core::grant::set_version(op.version);
            op.version = 1;
            accepted.map(|_| ()).map_err(Errno::from)
        }),
        c if c == GNTTABOP_swap_grant_ref => batch(domain, args, |op: &mut GnttabSwapGrantRef| {
            op.status = status(domain.grants.lock().swap(&Shared, GrantRef(op.ref_a), GrantRef(op.ref_b)));
            Ok(())
        }),
        _ => Err(Errno::ENOSYS),
    }
}

/// As [`batch`], for operations that take one element.
fn single<T>(domain: &Domain, args: &mut Args, one: impl FnMut(&mut T) -> Result<(), Errno>) -> HcResult
where
    T: zerocopy::FromBytes + zerocopy::IntoBytes + zerocopy::Immutable,
{
    if args.u32::<2>() != 1 {
        return Err(Errno::EINVAL);
    }
    batch(domain, args, one)
}

fn status(result: Result<(), GrantError>) -> i16 {
    result.map_or_else(GrantError::status, |()| 0)
}

/// Accepts the caller's own domain only.
fn own(domain: &Domain, alleged: u16) -> Result<(), GrantError> {
    let id = DomId::new(alleged);
    if id == DomId::SELF || id == domain.id { Ok(()) } else { Err(GrantError::Permission) }
}

/// Takes a reference of the right type from the frame's owner.
fn take(frame: Mfn, owner: DomId, writable: bool) -> Result<(), GrantError> {
    let taken =
        if writable { frame::get_typed(machine(), frame, owner, FrameKind::Writable) } else { frame::get_ref(machine(), frame, owner) };
    taken.map_err(|_| GrantError::BadPage)
}

/// Gives it back.
fn give(frame: Mfn, writable: bool) {
    if writable {
        frame::put_typed(machine(), frame);
    } else {
        mmu::put_ref(frame);
    }
}

/// `GNTTABOP_map_grant_ref`.
fn map(domain: &Arc<Domain>, op: &mut GnttabMapGrantRef) -> Result<(), GrantError> {
    let flags = MapFlags::decode(op.flags)?;
    let granter = domain::find_for(domain, op.dom).ok_or(GrantError::BadDomain)?;
    domain.maptrack.lock().reserve()?;
    let gref = GrantRef(op.r#ref);
    let granted = {
        let mut table = granter.grants.lock();
        let granted = table.begin_map(&Shared, gref, domain.id, flags.parts)?;
        for (taken, _) in flags.parts.uses().enumerate() {
            if take(granted.frame, granter.id, flags.parts.writable).is_err() {
                for _ in 0..taken {
                    give(granted.frame, flags.parts.writable);
                }
                let _ = table.end_map(&Shared, gref, domain.id, flags.parts);
                return Err(GrantError::BadPage);
            }
        }
        granted
    };
    let undo = |parts: Parts| {
        let mut table = granter.grants.lock();
        let _ = table.end_map(&Shared, gref, domain.id, parts);
        for _ in parts.uses() {
            give(granted.frame, parts.writable);
        }
    };
    if flags.parts.host
        && let Err(error) = mmu::map_granted(domain, op.host_addr, flags.contains_pte, granted.frame, granter.id, flags.parts.writable)
    {
        undo(flags.parts);
        return Err(error);
    }
    let mapping = Mapping {
        granter: granter.id,
        gref,
        frame: granted.frame,
        parts: flags.parts,
        contains_pte: flags.contains_pte,
        host_addr: op.host_addr,
    };
    let inserted = domain.maptrack.lock().insert(mapping);
    match inserted {
        Ok(handle) => op.handle = handle.0,
        Err(error) => {
            if flags.parts.host {
                let made = |frame, writable| frame == granted.frame && writable == flags.parts.writable;
                let _ = mmu::unmap_granted(domain, op.host_addr, flags.contains_pte, made);
            }
            undo(flags.parts);
            return Err(error);
        }
    }
    op.dev_bus_addr = granted.frame.maddr().raw();
    Ok(())
}

/// `GNTTABOP_unmap_grant_ref`.
fn unmap(domain: &Arc<Domain>, op: &GnttabUnmapGrantRef) -> Result<(), GrantError> {
    let mut track = domain.maptrack.lock();
    let unmap = track.begin_unmap(Handle(op.handle), op.host_addr, op.dev_bus_addr)?;
    let mapping = unmap.mapping;
    if unmap.parts.host {
        mmu::unmap_granted(domain, mapping.host_addr, mapping.contains_pte, |frame, writable| unmap.made(frame, writable))?;
    }
    let parts = unmap.parts;
    track.commit_unmap(unmap)?;
    drop(track);
    release(domain.id, &mapping, parts);
    Ok(())
}

/// Gives back the uses `parts` of a mapping whose entry is gone.
pub fn release(mapper: DomId, mapping: &Mapping, parts: Parts) {
    let Some(granter) = domain::find(mapping.granter) else { return };
    let _ = granter.grants.lock().end_map(&Shared, mapping.gref, mapper, parts);
    for _ in parts.uses() {
        give(mapping.frame, parts.writable);
    }
}

/// One end of a copy, held while the bytes move.
struct Held {
    frame: Mfn,
    writable: bool,
    grant: Option<(Arc<Domain>, GrantRef)>,
    by: DomId,
}

impl Drop for Held {
    fn drop(&mut self) {
        if let Some((granter, gref)) = &self.grant {
            let _ = granter.grants.lock().end_use(&Shared, *gref, self.by, Use::host(self.writable));
        }
        give(self.frame, self.writable);
    }
}

/// Takes one end of a copy.
fn hold(domain: &Arc<Domain>, by_gref: bool, alleged: u16, number: u64, writable: bool) -> Result<Held, GrantError> {
    if !by_gref {
        let frame = Mfn::new(number).ok_or(GrantError::BadPage)?;
        take(frame, domain.id, writable)?;
        return Ok(Held { frame, writable, grant: None, by: domain.id });
    }
    let granter = domain::find_for(domain, alleged).ok_or(GrantError::BadDomain)?;
    let gref = GrantRef(u32::try_from(number).map_err(|_| GrantError::BadRef)?);
    let frame = {
        let mut table = granter.grants.lock();
        let how = Use::host(writable);
        let granted = table.begin_use(&Shared, gref, domain.id, how)?;
        if let Err(error) = take(granted.frame, granter.id, writable) {
            let _ = table.end_use(&Shared, gref, domain.id, how);
            return Err(error);
        }
        granted.frame
    };
    Ok(Held { frame, writable, grant: Some((granter, gref)), by: domain.id })
}

/// `GNTTABOP_copy`.
fn copy(domain: &Arc<Domain>, op: &GnttabCopy) -> Result<(), GrantError> {
    let source = CopyEnd { domain: DomId::new(op.source.domid), offset: op.source.offset };
    let dest = CopyEnd { domain: DomId::new(op.dest.domid), offset: op.dest.offset };
    let range = CopyRange::decode(op.flags, source, dest, op.len)?;
    let from = hold(domain, range.source_is_gref, op.source.domid, op.source.number(range.source_is_gref), false)?;
    let to = hold(domain, range.dest_is_gref, op.dest.domid, op.dest.number(range.dest_is_gref), true)?;
    let (Some(a), Some(b)) = (FrameWindow::new(from.frame), FrameWindow::new(to.frame)) else { return Err(GrantError::BadPage) };
    b.copy_part(usize::from(range.dest_offset), &a, usize::from(range.source_offset), usize::from(range.len));
    Ok(())
}

/// `GNTTABOP_setup_table`: grows the table and tells the guest its frames.
fn setup(domain: &Arc<Domain>, op: &GnttabSetupTable) -> Result<(), GrantError> {
    let missing = domain.grants.lock().missing_frames(op.nr_frames)?;
    for _ in 0..missing {
        let frame = frame_alloc::alloc_zeroed(0).ok_or(GrantError::NoSpace)?;
        frame::share(machine(), frame, domain.id);
        let added = domain.grants.lock().add_frame(frame);
        if let Err(error) = added {
            frame::unshare(machine(), frame);
            frame_alloc::free(frame, 0);
            return Err(error);
        }
    }
    let list = GuestPtr::<u64>::new(op.frame_list);
    for i in 0..op.nr_frames {
        let frame = domain.grants.lock().frames().get(i as usize).copied().ok_or(GrantError::Invalid)?;
        list.add(u64::from(i)).and_then(|p| p.write(&frame.raw())).map_err(|_| GrantError::BadAddress)?;
    }
    Ok(())
}
