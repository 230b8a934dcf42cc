//! Writes what a domain's plan (`dom_image::Layout`) says into its memory: the first page tables and the p2m list.
//! Decides nothing: where things lie and what maps what is the plan's.

use dom_image::Layout;
use zerocopy::IntoBytes;

use super::build::Memory;
use crate::mm::window::FrameWindow;

/// An entry that maps a table or a writable page: present, writable, user, accessed, dirty.
const WRITABLE: u64 = 0x67;
/// One that maps a page table: present, user, accessed.
const READ_ONLY: u64 = 0x25;
/// Entries of a table, and of a frame of the p2m list.
const ENTRIES: usize = 512;

/// Writes the list of machine frames, a frame at a time.
pub fn write_p2m(plan: &Layout, memory: &Memory, pages: u64) -> Option<()> {
    let mut mfns = memory.mfns().take(usize::try_from(pages).ok()?);
    for n in 0..plan.p2m_frames {
        // Past the domain's last frame the list is zero, as the frame was.
        let mut list = [0u64; ENTRIES];
        for (entry, mfn) in list.iter_mut().zip(&mut mfns) {
            *entry = mfn;
        }
        FrameWindow::new(memory.mfn(plan.p2m_pfn.checked_add(n)?)?)?.copy_out(0, list.as_bytes());
    }
    Some(())
}

/// Writes the page tables.
pub fn write_tables(plan: &Layout, memory: &Memory) -> Option<()> {
    let mut open: Option<(u64, FrameWindow)> = None;
    for entry in plan.entries() {
        let window = match open {
            Some((table, window)) if table == entry.table => window,
            _ => FrameWindow::new(memory.mfn(entry.table)?)?,
        };
        open = Some((entry.table, window));
        let flags = if entry.writable { WRITABLE } else { READ_ONLY };
        let at = usize::from(entry.slot).checked_mul(size_of::<u64>())?;
        window.write_u64_at(at, memory.mfn(entry.target)?.maddr().raw() | flags);
    }
    Some(())
}
