//! Changing one entry of a table in use.

use super::counts::{give, release, take};
use super::entry::{Checked, Slot, bits, check, target};
use crate::frame::{self, DomId, FrameError, FrameKind, Level, Machine, Mfn, Mm, settle};

/// Attempts at an entry whose accessed and dirty bits the CPU keeps changing.
const ATTEMPTS: u32 = 16;

/// Writes `alleged` to `slot` of the domain's frame `table`: a page-table entry, checked and counted, if the frame is in
/// use as a table, else eight bytes of plain memory. Data frames that the entry maps are `owner`'s. With
/// `keep_ad` the accessed and dirty bits of the old entry stay (MMU_PT_UPDATE_PRESERVE_AD).
///
/// # Errors
/// [`FrameError::Preempted`]: pay and do the same again. Otherwise why the frame or the entry was refused; nothing has
/// changed then.
pub fn update(m: &impl Machine, mm: &mut Mm, owner: DomId, table: Mfn, slot: Slot, alleged: u64, keep_ad: bool) -> Result<(), FrameError> {
    settle(m, mm)?;
    frame::get_ref(m, table, mm.dom())?;
    let info = m.frame(table).ok_or(FrameError::NotRam)?;
    let level = if info.is_table() { info.kind().level() } else { None };
    let done = match level {
        Some(level) => change(m, mm, owner, (table, level, slot), alleged, keep_ad),
        None => write_plain(m, mm, table, slot, alleged),
    };
    frame::put_ref(m, table);
    done
}

/// Changes an entry of a validated table.
fn change(
    m: &impl Machine,
    mm: &mut Mm,
    owner: DomId,
    (table, level, slot): (Mfn, Level, Slot),
    alleged: u64,
    keep_ad: bool,
) -> Result<(), FrameError> {
    if level == Level::L4 && slot.is_hypervisor() {
        return Err(FrameError::BadEntry(alleged));
    }
    let checked = check(level, alleged, mm.kernel_pages())?;
    let mut old = m.read_entry(table, slot);
    let (entry, taken) = match checked {
        Checked::Absent(entry) => (entry, None),
        Checked::Present { entry, to } if holds_the_same(level, old, entry) && owner == mm.dom() => (entry, Some((to, false))),
        Checked::Present { entry, to } => {
            take(m, mm, owner, level, entry, to)?;
            (entry, Some((to, true)))
        }
    };
    for _ in 0..ATTEMPTS {
        let kept = if keep_ad && entry & bits::PRESENT != 0 { old & (bits::ACCESSED | bits::DIRTY) } else { 0 };
        match m.cmpxchg_entry(table, slot, old, entry | kept) {
            Ok(()) => {
                if !matches!(taken, Some((_, false))) {
                    release(m, mm, level, old, slot);
                }
                return Ok(());
            }
            // Only the CPU's own marks change under the mm lock; anything else would make the counts wrong.
            Err(now) if (now ^ old) & !(bits::ACCESSED | bits::DIRTY) == 0 => old = now,
            Err(_) => break,
        }
    }
    if let Some((to, true)) = taken {
        give(m, mm, level, entry, to);
    }
    Err(FrameError::Busy)
}

/// Whether two entries hold the same counts of the same frame: then none move. The new one has been checked like any
/// other, so its other bits are as harmless as in a change that moves counts (XSA-182).
fn holds_the_same(level: Level, old: u64, new: u64) -> bool {
    let writes = if level == Level::L1 { bits::WRITE } else { 0 };
    let matters = bits::FRAME | bits::PRESENT | writes;
    (old ^ new) & matters == 0 && target(old).is_some()
}

/// Writes eight bytes of a frame that is not a table.
fn write_plain(m: &impl Machine, mm: &mut Mm, mfn: Mfn, slot: Slot, value: u64) -> Result<(), FrameError> {
    if m.frame(mfn).is_some_and(frame::FrameInfo::is_partial) {
        frame::defer(m, mm, mfn);
        return Err(FrameError::Preempted);
    }
    frame::get_typed(m, mfn, mm.dom(), FrameKind::Writable)?;
    let mut old = m.read_entry(mfn, slot);
    let mut done = Err(FrameError::Busy);
    for _ in 0..ATTEMPTS {
        match m.cmpxchg_entry(mfn, slot, old, value) {
            Ok(()) => {
                done = Ok(());
                break;
            }
            Err(now) => old = now,
        }
    }
    frame::put_typed(m, mfn);
    done
}
