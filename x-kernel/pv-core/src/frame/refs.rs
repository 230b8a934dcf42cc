//! Taking and dropping references and types.
//!
//! The order of a type change is the security argument: the first count is claimed by compare-and-exchange, from
//! then on nobody can take another type; then every translation is flushed through which the frame could still be
//! written, or walked, as what it was; then the content is checked; then VALIDATED is published. Flushing before the
//! claim would let a new writable translation slip in between (XSA-401).
//!
//! An L1 change between data frames owes no flush: a stale entry still points to a frame of which nothing is believed.
//! It becomes dangerous only when that frame changes type, which flushes here, or owner, which flushes in
//! `Machine::freed` or in the caller of [`steal`].

use super::info::{FrameInfo, TypeWord};
use super::{DomId, FrameError, FrameKind, Level, Machine, Mfn, Mm, defer};
use crate::descriptor::descriptor_allowed;
use crate::pt::{self, Slot};

/// Takes a reference to a frame of `dom`.
///
/// # Errors
/// [`FrameError::NotRam`], [`FrameError::NotOwner`], [`FrameError::Busy`] with too many references.
pub fn get_ref(m: &impl Machine, mfn: Mfn, dom: DomId) -> Result<(), FrameError> {
    let info = m.frame(mfn).ok_or(FrameError::NotRam)?;
    info.add_ref()?;
    // Only now is the owner certain to stay: a frame changes hands with no reference but its allocation's.
    if info.owner() != Some(dom) {
        put_ref(m, mfn);
        return Err(FrameError::NotOwner);
    }
    Ok(())
}

/// Drops a reference; the last one frees the frame.
pub fn put_ref(m: &impl Machine, mfn: Mfn) {
    let Some(info) = m.frame(mfn) else { return };
    if info.sub_ref()
        && let Some(owner) = info.owner()
    {
        debug_assert!(info.type_count() == 0, "freed while its type is in use");
        info.reset();
        info.set_owner(None);
        m.freed(mfn, owner);
    }
}

/// Takes a reference to a frame of `dom` as segment descriptors or writable memory.
///
/// # Errors
/// As [`get_ref`]; [`FrameError::WrongType`] if it is in use as something else, a page table half undone included;
/// [`FrameError::BadEntry`] for a descriptor that a guest may not have.
pub fn get_typed(m: &impl Machine, mfn: Mfn, dom: DomId, kind: FrameKind) -> Result<(), FrameError> {
    debug_assert!(kind.level().is_none());
    get_ref(m, mfn, dom)?;
    let taken = m.frame(mfn).ok_or(FrameError::NotRam).and_then(|info| get_plain(m, mfn, dom, info, kind));
    if taken.is_err() {
        put_ref(m, mfn);
    }
    taken
}

fn get_plain(m: &impl Machine, mfn: Mfn, dom: DomId, info: &FrameInfo, kind: FrameKind) -> Result<(), FrameError> {
    loop {
        let word = info.load();
        if word.count() > 0 || word.partial() {
            if word.kind() != kind || word.partial() {
                return Err(FrameError::WrongType);
            }
            if !word.validated() {
                return Err(FrameError::Busy);
            }
            if info.replace(word, word.plus().ok_or(FrameError::Busy)?) {
                return Ok(());
            }
            continue;
        }
        let claimed = TypeWord::fresh(kind);
        if !info.replace(word, claimed) {
            continue;
        }
        if word.kind() != kind && word.kind() != FrameKind::None {
            m.flush_stale(dom);
        }
        let checked = if kind == FrameKind::SegDesc { check_descriptors(m, mfn) } else { Ok(()) };
        match checked {
            Ok(()) => info.store(claimed.with_validated()),
            // Nothing has been believed of it: it is what it was, as far as stale translations go.
            Err(_) => info.store(TypeWord::idle(word.kind())),
        }
        return checked;
    }
}

/// Checks a frame of descriptors, and raises those of ring 0 to ring 3.
fn check_descriptors(m: &impl Machine, mfn: Mfn) -> Result<(), FrameError> {
    for slot in Slot::all() {
        let found = m.read_entry(mfn, slot);
        let allowed = descriptor_allowed(found).ok_or(FrameError::BadEntry(found))?;
        if allowed != found {
            m.cmpxchg_entry(mfn, slot, found, allowed).map_err(|_| FrameError::Busy)?;
        }
    }
    Ok(())
}

/// Drops a reference to a frame as descriptors or writable memory.
pub fn put_typed(m: &impl Machine, mfn: Mfn) {
    let Some(info) = m.frame(mfn) else { return };
    loop {
        let word = info.load();
        debug_assert!(word.kind().level().is_none(), "a table dropped as plain memory");
        // The last count leaves the kind: it tells the next type what may be stale.
        let Some(less) = word.minus() else {
            debug_assert!(false, "a type dropped that was not held");
            return;
        };
        let less = if less.count() == 0 { TypeWord::idle(word.kind()) } else { less };
        if info.replace(word, less) {
            break;
        }
    }
    put_ref(m, mfn);
}

/// Takes a reference to a frame of the domain as a page table of `level`, checking its content if it is not in use as
/// one already. What has to be undone is left pending.
///
/// # Errors
/// As [`get_ref`]; [`FrameError::WrongType`]; [`FrameError::BadEntry`] or what an entry's target was refused for;
/// [`FrameError::Preempted`] with the progress kept: the same call goes on.
pub fn get_table(m: &impl Machine, mm: &mut Mm, mfn: Mfn, level: Level) -> Result<(), FrameError> {
    get_ref(m, mfn, mm.dom())?;
    let taken = m.frame(mfn).ok_or(FrameError::NotRam).and_then(|info| get_level(m, mm, mfn, info, level));
    if taken.is_err() {
        put_ref(m, mfn);
    }
    taken
}

fn get_level(m: &impl Machine, mm: &mut Mm, mfn: Mfn, info: &FrameInfo, level: Level) -> Result<(), FrameError> {
    let kind = level.kind();
    loop {
        let word = info.load();
        if word.pending() {
            // On its way out: the caller pays for that first.
            return Err(FrameError::Preempted);
        }
        if word.partial() {
            if word.kind() != kind {
                defer(m, mm, mfn);
                return Err(FrameError::Preempted);
            }
            // Stopped on the way up: go on. Its own reference is ours now.
            info.store(TypeWord::fresh(kind));
            put_ref(m, mfn);
            return validate(m, mm, mfn, info, level);
        }
        if word.count() > 0 {
            if word.kind() != kind {
                return Err(FrameError::WrongType);
            }
            if !word.validated() {
                // A table below itself: met again while it is being checked.
                return Err(FrameError::WrongType);
            }
            if info.replace(word, word.plus().ok_or(FrameError::Busy)?) {
                return Ok(());
            }
            continue;
        }
        if !info.replace(word, TypeWord::fresh(kind)) {
            continue;
        }
        if word.kind() != kind && word.kind() != FrameKind::None {
            m.flush_stale(mm.dom());
        }
        info.set_progress(0);
        return validate(m, mm, mfn, info, level);
    }
}

/// Checks the entries from `progress` on and takes what they point to. The recursion is as deep as there are levels.
fn validate(m: &impl Machine, mm: &mut Mm, mfn: Mfn, info: &FrameInfo, level: Level) -> Result<(), FrameError> {
    let start = info.progress();
    let mut next = Slot::new(start);
    let mut entries = [0; Slot::BATCH as usize];
    while let Some(first) = next {
        // Not at the first entry: each call gets somewhere.
        if first.number() > start && m.preempt() {
            return stopped(m, mm, mfn, info, level, first, FrameError::Preempted);
        }
        let occupied = m.read_batch(mfn, first, &mut entries);
        for (slot, entry) in first.occupied(&entries, occupied).filter(|(slot, _)| *slot >= first) {
            if let Err(error) = pt::adopt(m, mm, level, mfn, slot, entry) {
                return stopped(m, mm, mfn, info, level, slot, error);
            }
        }
        next = first.batch().last().and_then(|last| Slot::new(last.number().saturating_add(1)));
    }
    if level == Level::L4 {
        m.install_hypervisor_slots(mfn, mm.dom());
    }
    info.store(TypeWord::fresh(level.kind()).with_validated());
    Ok(())
}

/// Leaves a table before the entry in `slot`, because of `error`.
fn stopped(
    m: &impl Machine,
    mm: &mut Mm,
    mfn: Mfn,
    info: &FrameInfo,
    level: Level,
    slot: Slot,
    error: FrameError,
) -> Result<(), FrameError> {
    info.set_progress(slot.number());
    park(m, mm, mfn, info, level, error == FrameError::Preempted);
    Err(error)
}

/// Leaves a table with count 0 and some entries taken: to be gone on with (`keep`), or to be undone.
fn park(m: &impl Machine, mm: &mut Mm, mfn: Mfn, info: &FrameInfo, level: Level, keep: bool) {
    // The reference of the state itself: a frame that holds counts must not be freed.
    let held = info.add_ref();
    debug_assert!(held.is_ok(), "the caller holds a reference");
    info.store(TypeWord::parked(level.kind(), false));
    if !keep {
        defer(m, mm, mfn);
    }
}

/// Drops a reference to a frame as a page table. The last one leaves it pending, to be undone in bounded steps.
pub fn put_table(m: &impl Machine, mm: &mut Mm, mfn: Mfn) {
    let Some(info) = m.frame(mfn) else { return };
    loop {
        let word = info.load();
        let Some(less) = word.minus() else {
            debug_assert!(false, "a table dropped that was not held");
            return;
        };
        if less.count() > 0 {
            if info.replace(word, less) {
                break;
            }
            continue;
        }
        if info.replace(word, TypeWord::parked(word.kind(), false)) {
            let held = info.add_ref();
            debug_assert!(held.is_ok(), "the caller holds a reference");
            info.set_progress(Slot::COUNT);
            defer(m, mm, mfn);
            break;
        }
    }
    put_ref(m, mfn);
}

/// Makes a frame that nobody owns a frame of `dom`.
pub fn assign(m: &impl Machine, mfn: Mfn, dom: DomId) {
    publish(m, mfn, dom, TypeWord::idle(FrameKind::None));
}

/// Makes a frame that nobody owns a frame of `dom`, in use as `word` says. The first reference comes last: until then
/// nobody can take one, and so nobody can give the frame a type of its own choice first.
fn publish(m: &impl Machine, mfn: Mfn, dom: DomId, word: TypeWord) {
    let Some(info) = m.frame(mfn) else { return };
    debug_assert!(info.owner().is_none() && info.refs() == 0, "assigned twice");
    info.reset();
    info.store(word);
    info.set_owner(Some(dom));
    let fresh = info.swap_refs(0, 1);
    debug_assert!(fresh, "assigned while referenced");
}

/// Takes a frame from `dom`, if nothing but its allocation refers to it. The caller flushes before anyone else has it.
///
/// # Errors
/// [`FrameError::NotRam`], [`FrameError::NotOwner`], [`FrameError::Busy`] while it is in use (XSA-252: a pin is a use).
pub fn steal(m: &impl Machine, mfn: Mfn, dom: DomId) -> Result<(), FrameError> {
    get_ref(m, mfn, dom)?;
    let info = m.frame(mfn).ok_or(FrameError::NotRam)?;
    // Ours and the allocation's: nobody else can add one between, because adding needs the owner to stay.
    if info.type_count() != 0 || info.is_partial() || !info.swap_refs(2, 0) {
        put_ref(m, mfn);
        return Err(FrameError::Busy);
    }
    info.reset();
    info.set_owner(None);
    Ok(())
}

/// Makes a frame of the X-Kernel's one that `dom` may map, for as long as the X-Kernel wants: writable, and nothing else.
pub fn share(m: &impl Machine, mfn: Mfn, dom: DomId) {
    publish(m, mfn, dom, TypeWord::fresh(FrameKind::Writable).with_validated());
}

/// Takes such a frame back. No guest may have it mapped any more.
pub fn unshare(m: &impl Machine, mfn: Mfn) {
    let Some(info) = m.frame(mfn) else { return };
    debug_assert!(info.refs() == 1, "taken back while it is mapped");
    info.reset();
    info.set_owner(None);
    info.swap_refs(1, 0);
}
