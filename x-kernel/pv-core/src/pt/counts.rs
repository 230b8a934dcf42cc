//! What an entry holds: a reference to a data frame, as writable memory if the entry allows writing, or to a table.

use super::entry::{Checked, Slot, bits, check, target};
use crate::frame::{self, DomId, FrameError, FrameKind, Level, Machine, Mfn, Mm};

/// Takes what a checked entry points to. Data frames are `owner`'s, tables are the domain's own.
pub(super) fn take(m: &impl Machine, mm: &mut Mm, owner: DomId, level: Level, entry: u64, to: Mfn) -> Result<(), FrameError> {
    match level.below() {
        Some(below) => frame::get_table(m, mm, to, below),
        None if entry & bits::WRITE != 0 => match frame::get_typed(m, to, owner, FrameKind::Writable) {
            // A table that was left half checked, or is on its way out, keeps its frame only until it is undone.
            Err(FrameError::WrongType) if owner == mm.dom() && m.frame(to).is_some_and(frame::FrameInfo::is_partial) => {
                frame::defer(m, mm, to);
                Err(FrameError::Preempted)
            }
            taken => taken,
        },
        None => frame::get_ref(m, to, owner),
    }
}

/// Checks the entry `found` in `slot` of a table that is being validated, takes what it points to, and writes it as it is
/// to be. From before it was read until the table is validated nobody else may write it: the flush before has ended the
/// guest's last writable translation.
#[inline]
pub(crate) fn adopt(m: &impl Machine, mm: &mut Mm, level: Level, table: Mfn, slot: Slot, found: u64) -> Result<(), FrameError> {
    if found & bits::PRESENT == 0 || (level == Level::L4 && slot.is_hypervisor()) {
        return Ok(());
    }
    let Checked::Present { entry, to } = check(level, found, mm.kernel_pages())? else { return Ok(()) };
    take(m, mm, mm.dom(), level, entry, to)?;
    if entry != found && m.cmpxchg_entry(table, slot, found, entry).is_err() {
        give(m, mm, level, entry, to);
        return Err(FrameError::Busy);
    }
    Ok(())
}

/// Shows what each entry of `table` that holds counts points to, and as what: None where a reference is all.
pub fn each_held(m: &impl Machine, table: Mfn, mut visit: impl FnMut(Mfn, Option<FrameKind>)) {
    let Some((info, level)) = m.frame(table).and_then(|info| Some((info, info.kind().level()?))) else { return };
    for slot in Slot::all().take(usize::from(info.held_entries())) {
        let entry = m.read_entry(table, slot);
        if entry & bits::PRESENT == 0 || (level == Level::L4 && slot.is_hypervisor()) {
            continue;
        }
        let writable = (entry & bits::WRITE != 0).then_some(FrameKind::Writable);
        if let Some(to) = target(entry) {
            visit(to, level.below().map_or(writable, |below| Some(below.kind())));
        }
    }
}

/// Gives back what an entry that has left its table held.
#[inline]
pub(crate) fn release(m: &impl Machine, mm: &mut Mm, level: Level, entry: u64, slot: Slot) {
    if entry & bits::PRESENT == 0 || (level == Level::L4 && slot.is_hypervisor()) {
        return;
    }
    if let Some(to) = target(entry) {
        give(m, mm, level, entry, to);
    }
}

/// Gives back what `take` took.
pub(super) fn give(m: &impl Machine, mm: &mut Mm, level: Level, entry: u64, to: Mfn) {
    match level.below() {
        Some(_) => frame::put_table(m, mm, to),
        None if entry & bits::WRITE != 0 => frame::put_typed(m, to),
        None => frame::put_ref(m, to),
    }
}
