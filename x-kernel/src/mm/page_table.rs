//! Walking and building the X-Kernel's own page tables. Never used on a guest's tables: those are untrusted and
//! go through `pv-core` and windows.
//!
//! Tables are reached through the direct map, which the boot code's tables provide for the first 4 GiB and the
//! final ones for all RAM. Interrupts are off and callers hold the [`super::hyp_pt`] lock, so nothing else changes
//! a table meanwhile; the CPU may set A and D bits at any time, hence atomics.

// UNSAFETY: reads and writes page tables at addresses found in page tables.
#![expect(unsafe_code, reason = "the X-Kernel's own page tables")]

use core::sync::atomic::{AtomicU64, Ordering};

use super::layout::{DIRECT_MAP_BASE, FRAME_SIZE, SIZE_1G, SIZE_2M, to_usize};

/// Page-table entry bits (SDM vol. 3, 4.5).
pub mod bits {
    /// Present.
    pub const P: u64 = 1;
    /// Writable.
    pub const RW: u64 = 1 << 1;
    /// Accessible from ring 3.
    pub const US: u64 = 1 << 2;
    /// With [`PCD`] and the architectural PAT: uncached.
    pub const PWT: u64 = 1 << 3;
    /// Cache disabled.
    pub const PCD: u64 = 1 << 4;
    /// Accessed.
    pub const A: u64 = 1 << 5;
    /// Dirty.
    pub const D: u64 = 1 << 6;
    /// Large page, in an L2 or L3 entry.
    pub const PS: u64 = 1 << 7;
    /// Global.
    pub const G: u64 = 1 << 8;
    /// Not executable.
    pub const NX: u64 = 1 << 63;
    /// The address field.
    pub const ADDR: u64 = 0x000f_ffff_ffff_f000;
    /// Supervisor data.
    pub const DATA: u64 = P | RW | A | D | G | NX;
    /// Supervisor data, not writable.
    pub const RO: u64 = P | A | G | NX;
    /// Supervisor code.
    pub const CODE: u64 = P | A | G;
    /// Device registers.
    pub const MMIO: u64 = DATA | PCD | PWT;
    /// Read by guests too, written by nobody.
    pub const GUEST_RO: u64 = RO | US;
    /// Entries that point to tables.
    pub const TABLE: u64 = P | RW | A;
}

/// A table: 512 entries.
type Table = [AtomicU64; 512];

/// Where zeroed frames for new tables come from: the machine address of one, or None.
pub type TableSource<'a> = &'a mut dyn FnMut() -> Option<u64>;

/// A tree of page tables, by the machine address of its root.
#[derive(Clone, Copy, Debug)]
pub struct Tree {
    root: u64,
    /// Level of the root: 4, or 3 for a per-domain area.
    top: u32,
}

/// A large or small page, or a table on the way, as [`Tree::walk`] finds them.
#[derive(Clone, Copy, Debug)]
pub struct Leaf {
    /// The first address that it maps.
    pub va: u64,
    /// How many bytes it maps.
    pub size: u64,
    /// The entry.
    pub entry: u64,
    /// The AND of RW and US over the entries above.
    pub upper: u64,
}

/// Shift of the index into a table of level `level`.
const fn shift(level: u32) -> u32 {
    level.wrapping_mul(9).wrapping_add(3)
}

fn index(va: u64, level: u32) -> usize {
    to_usize(va >> shift(level) & 511)
}

impl Tree {
    /// The tree whose root, of level `top`, is at `root`.
    ///
    /// # Safety
    /// `root` must be the machine address of a table of the X-Kernel's own that the direct map reaches, every
    /// table under it must be such a table too, and they must stay so for as long as the value is used.
    pub const unsafe fn new(root: u64, top: u32) -> Self {
        Self { root, top }
    }

    /// Machine address of the root.
    pub const fn root(self) -> u64 {
        self.root
    }

    fn table(&self, maddr: u64) -> &Table {
        let at = core::ptr::with_exposed_provenance::<Table>(to_usize(DIRECT_MAP_BASE.wrapping_add(maddr)));
        // SAFETY: `maddr` is the root or comes from a table entry that this module wrote: a table of our own,
        // mapped in the direct map (promised to `new`), accessed by atomics only.
        unsafe { &*at }
    }

    /// The table of level `level` on the way to `va`, made if missing. None when memory is short or a large page
    /// is in the way.
    fn descend(&self, va: u64, level: u32, extra: u64, source: TableSource<'_>) -> Option<&Table> {
        let mut table = self.table(self.root);
        for above in (level.wrapping_add(1)..=self.top).rev() {
            let slot = table.get(index(va, above))?;
            let mut entry = slot.load(Ordering::Relaxed);
            if entry & bits::P == 0 {
                entry = source()? | bits::TABLE | extra;
                // Release: the zeroes of the new table come first.
                slot.store(entry, Ordering::Release);
            } else if entry & bits::PS != 0 {
                return None;
            }
            table = self.table(entry & bits::ADDR);
        }
        Some(table)
    }

    /// Makes sure that the tables down to level `level` exist for `va`.
    pub fn prepare(&self, va: u64, level: u32, source: TableSource<'_>) -> Option<()> {
        self.descend(va, level, 0, source).map(|_| ())
    }

    /// Maps `len` bytes at `va` to `maddr`, all multiples of 4 KiB, in the largest pages up to `largest` bytes.
    /// None when memory is short; part of it may be mapped then.
    pub fn map(&self, va: u64, maddr: u64, len: u64, flags: u64, largest: u64, source: TableSource<'_>) -> Option<()> {
        let extra = flags & bits::US;
        let mut done = 0u64;
        while done < len {
            let (to, at, left) = (va.checked_add(done)?, maddr.checked_add(done)?, len.checked_sub(done)?);
            let fits = |size: u64| size <= largest && (to | at) & size.wrapping_sub(1) == 0 && left >= size;
            let (level, size, ps) = if fits(SIZE_1G) {
                (3, SIZE_1G, bits::PS)
            } else if fits(SIZE_2M) {
                (2, SIZE_2M, bits::PS)
            } else {
                (1, FRAME_SIZE, 0)
            };
            let table = self.descend(to, level, extra, source)?;
            table.get(index(to, level))?.store(at | flags | ps, Ordering::Release);
            done = done.checked_add(size)?;
        }
        Some(())
    }

    /// The slot of the 4 KiB page at `va`, if the tables down to it exist.
    fn small_slot(&self, va: u64) -> Option<&AtomicU64> {
        let mut table = self.table(self.root);
        for level in (2..=self.top).rev() {
            let entry = table.get(index(va, level))?.load(Ordering::Acquire);
            if entry & bits::P == 0 || entry & bits::PS != 0 {
                return None;
            }
            table = self.table(entry & bits::ADDR);
        }
        table.get(index(va, 1))
    }

    /// Replaces the entry of the 4 KiB page at `va` and returns the old one. The caller flushes.
    pub fn replace_small(&self, va: u64, entry: u64) -> Option<u64> {
        Some(self.small_slot(va)?.swap(entry, Ordering::AcqRel))
    }

    /// Entry `slot` of the root.
    pub fn root_entry(&self, slot: usize) -> u64 {
        self.table(self.root).get(slot).map_or(0, |entry| entry.load(Ordering::Acquire))
    }

    /// Replaces entry `slot` of the root.
    pub fn set_root_entry(&self, slot: usize, entry: u64) {
        if let Some(place) = self.table(self.root).get(slot) {
            place.store(entry, Ordering::Release);
        }
    }

    /// Shows every page of the tree to `visit`.
    pub fn walk(&self, visit: &mut dyn FnMut(Leaf)) {
        self.walk_table(self.root, self.top, 0, bits::RW | bits::US, visit);
    }

    fn walk_table(&self, maddr: u64, level: u32, base: u64, upper: u64, visit: &mut dyn FnMut(Leaf)) {
        for (i, slot) in self.table(maddr).iter().enumerate() {
            let entry = slot.load(Ordering::Acquire);
            if entry & bits::P == 0 {
                continue;
            }
            let mut va = base | (i as u64) << shift(level);
            if level == 4 && i >= 256 {
                va |= 0xffff_0000_0000_0000;
            }
            if level == 1 || entry & bits::PS != 0 {
                visit(Leaf { va, size: 1 << shift(level), entry, upper });
            } else {
                self.walk_table(entry & bits::ADDR, level.wrapping_sub(1), va, upper & entry, visit);
            }
        }
    }

    /// Shows the machine address of every table below the root to `visit`, deepest first.
    pub fn tables_below(&self, visit: &mut dyn FnMut(u64)) {
        self.tables_of(self.root, self.top, visit);
    }

    fn tables_of(&self, maddr: u64, level: u32, visit: &mut dyn FnMut(u64)) {
        if level == 1 {
            return;
        }
        for slot in self.table(maddr) {
            let entry = slot.load(Ordering::Acquire);
            if entry & bits::P != 0 && entry & bits::PS == 0 {
                self.tables_of(entry & bits::ADDR, level.wrapping_sub(1), visit);
                visit(entry & bits::ADDR);
            }
        }
    }
}
