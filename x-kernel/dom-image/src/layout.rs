//! Where everything lies in a domain's first memory, in pseudo-physical frames (pfns, from 0).
//!
//! ```text
//! virt_base  kernel | [initrd] | [p2m list] | start_info | console | page tables | stack | padding    mapped
//! then       [initrd] | [p2m list | its page tables]                                       given by frame number
//! ```
//! (Public header xen.h, "Start-of-day memory layout".) The initrd moves behind if the kernel takes it by frame
//! number (MOD_START_PFN), the list if the kernel names an address for it (INIT_P2M).
//!
//! The plan is arithmetic only: [`Layout::entries`] says what every page-table entry must be, and the domain builder
//! writes it. Sums saturate: all inputs are bounded first, so no sum that matters comes near 2^64, and a plan that
//! needs more than the domain's frames is refused before anything is counted through.

use crate::elf::Kernel;
use crate::error::{ImageError, Result};
use crate::space;

/// The most frames that a domain may have: 8 TiB, more than the X-Kernel maps.
pub const MAX_PAGES: u64 = 1 << 31;
/// The largest initrd.
const MAX_INITRD: u64 = 1 << 40;
const PAGE: u64 = 4096;
const MIB: u64 = 1 << 20;
/// The first mapping ends at a multiple of this many bytes from its base, with this many at least to spare.
const ALIGN: u64 = 4 * MIB;
const SPARE: u64 = MIB / 2;
/// What one L3, L2 and L1 table spans, as shifts.
const SPANS: [u32; 3] = [39, 30, 21];

/// An entry of the domain's first page tables.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TableEntry {
    /// The table's pfn.
    pub table: u64,
    /// Which of its 512 entries.
    pub slot: u16,
    /// The pfn that the entry refers to.
    pub target: u64,
    /// Whether the guest may write through it. Page tables are mapped read-only.
    pub writable: bool,
}

/// Tables of one level that follow each other: for the spans `first..first + count` of the address space.
#[derive(Clone, Copy, Debug, Default)]
struct Row {
    first: u64,
    count: u64,
    pfn: u64,
}

impl Row {
    /// The pfn of the table for `span`.
    fn table(&self, span: u64) -> Option<u64> {
        let n = span.checked_sub(self.first).filter(|&n| n < self.count)?;
        self.pfn.checked_add(n)
    }

    /// Every table: its span and its pfn.
    fn iter(self) -> impl Iterator<Item = (u64, u64)> {
        (0..self.count).map(move |n| (self.first.saturating_add(n), self.pfn.saturating_add(n)))
    }
}

/// The tables of each level that map `pages` frames from `va`, none of them in memory yet.
fn rows(va: u64, pages: u64) -> [Row; 3] {
    // Without the sign extension, so that an index of the top level is a slot of the L4.
    let start = va & 0xffff_ffff_ffff;
    let last = start.saturating_add(pages.saturating_mul(PAGE)).saturating_sub(1);
    SPANS.map(|shift| {
        let (first, last) = (start >> shift, last >> shift);
        let count = if pages == 0 { 0 } else { last.saturating_sub(first).saturating_add(1) };
        Row { first, count, pfn: 0 }
    })
}

/// How many tables there are in `rows`.
fn total(rows: &[Row; 3]) -> u64 {
    rows.iter().fold(0, |sum, row| sum.saturating_add(row.count))
}

/// Gives the tables consecutive frames from `pfn`.
fn place(rows: &mut [Row; 3], mut pfn: u64) {
    for row in rows {
        row.pfn = pfn;
        pfn = pfn.saturating_add(row.count);
    }
}

/// The plan. `*_pfn` are pseudo-physical frames, `*_va` the guest's addresses.
#[derive(Debug, Clone)]
pub struct Layout {
    /// Address that pfn 0 is mapped at.
    pub virt_base: u64,
    /// Frames of the first mapping.
    pub mapped: u64,
    /// First frame of the initrd, and its length in frames.
    pub initrd_pfn: u64,
    /// See `initrd_pfn`.
    pub initrd_frames: u64,
    /// Whether the initrd is part of the mapping.
    pub initrd_mapped: bool,
    /// First frame of the p2m list, and its length in frames.
    pub p2m_pfn: u64,
    /// See `p2m_pfn`.
    pub p2m_frames: u64,
    /// Address of the list.
    pub p2m_va: u64,
    /// Frames of the list's own tables, which follow it; 0 if it lies in the first mapping.
    pub p2m_tables: u64,
    /// Whether the list lies outside the first mapping.
    pub p2m_apart: bool,
    /// Frame of start_info.
    pub start_info_pfn: u64,
    /// Frame of the console ring.
    pub console_pfn: u64,
    /// First frame of the tables: the L4, then L3s, L2s, L1s.
    pub root_pfn: u64,
    /// How many tables.
    pub tables: u64,
    /// Frame of the first stack.
    pub stack_pfn: u64,
    /// Frames that the plan takes.
    pub used: u64,
    main: [Row; 3],
    apart: [Row; 3],
}

impl Layout {
    /// Plans for `kernel` with an initrd of `initrd_len` bytes in `pages` frames.
    ///
    /// # Errors
    /// What is too big, or lies where no guest may be.
    pub fn plan(kernel: &Kernel<'_>, initrd_len: u64, pages: u64) -> Result<Self> {
        if pages > MAX_PAGES {
            return Err(ImageError::Value { what: "the domain's size in pages", value: pages, rule: "a domain has at most 8 TiB" });
        }
        if initrd_len > MAX_INITRD {
            return Err(ImageError::Value { what: "the initrd's size", value: initrd_len, rule: "it is at most 1 TiB" });
        }
        let initrd_frames = initrd_len.div_ceil(PAGE);
        let p2m_frames = pages.saturating_mul(8).div_ceil(PAGE);
        let (initrd_mapped, p2m_apart) = (!kernel.mod_start_pfn, kernel.init_p2m.is_some());

        let mut next = Frames(0);
        next.take(kernel.end.div_ceil(PAGE));
        let early_initrd = next.take(if initrd_mapped { initrd_frames } else { 0 });
        let early_p2m = next.take(if p2m_apart { 0 } else { p2m_frames });
        let start_info_pfn = next.take(1);
        let console_pfn = next.take(1);
        let root_pfn = next.0;
        if root_pfn > pages {
            return Err(ImageError::TooSmall { need: root_pfn, have: pages });
        }
        let (mut main, mapped) = self_mapping(kernel.virt_base, root_pfn)?;
        place(&mut main, root_pfn.saturating_add(1));
        let tables = next.take_counted(total(&main).saturating_add(1));
        let stack_pfn = next.take(1);

        let mut late = Frames(mapped);
        let initrd_pfn = if initrd_mapped { early_initrd } else { late.take(initrd_frames) };
        let mut apart = [Row::default(); 3];
        let (p2m_pfn, p2m_va) = match kernel.init_p2m {
            None => (early_p2m, kernel.virt_base.saturating_add(early_p2m.saturating_mul(PAGE))),
            Some(va) => {
                apart = rows_apart(&main, kernel.virt_base, mapped, va, p2m_frames)?;
                (late.take(p2m_frames), va)
            }
        };
        let p2m_tables = total(&apart);
        place(&mut apart, late.take(p2m_tables));
        if late.0 > pages {
            return Err(ImageError::TooSmall { need: late.0, have: pages });
        }
        Ok(Self {
            virt_base: kernel.virt_base,
            mapped,
            initrd_pfn,
            initrd_frames,
            initrd_mapped,
            p2m_pfn,
            p2m_frames,
            p2m_va,
            p2m_tables,
            p2m_apart,
            start_info_pfn,
            console_pfn,
            root_pfn,
            tables,
            stack_pfn,
            used: late.0,
            main,
            apart,
        })
    }

    /// The address that `pfn` is mapped at by the first mapping.
    pub fn va(&self, pfn: u64) -> u64 {
        self.virt_base.saturating_add(pfn.saturating_mul(PAGE))
    }

    /// Every entry of the first page tables, each once: those that refer to tables, then those that map pages, in
    /// the order of their addresses.
    pub fn entries(&self) -> impl Iterator<Item = TableEntry> + '_ {
        let tables = (0..SPANS.len()).flat_map(move |level| {
            let rows = [self.main.get(level), self.apart.get(level)].into_iter().flatten();
            rows.flat_map(|row| row.iter()).filter_map(move |(span, target)| {
                let table = match level.checked_sub(1) {
                    None => self.root_pfn,
                    Some(above) => self.table(above, span >> 9)?,
                };
                Some(TableEntry { table, slot: slot(span), target, writable: true })
            })
        });
        let own = self.root_pfn..self.root_pfn.saturating_add(self.tables);
        let first = self.pages(self.virt_base, 0, self.mapped).map(move |e| TableEntry { writable: !own.contains(&e.target), ..e });
        let list = self.pages(self.p2m_va, self.p2m_pfn, if self.p2m_apart { self.p2m_frames } else { 0 });
        tables.chain(first).chain(list)
    }

    /// The L1 entries that map `count` frames from `pfn` at `va`.
    fn pages(&self, va: u64, pfn: u64, count: u64) -> impl Iterator<Item = TableEntry> + '_ {
        let start = (va & 0xffff_ffff_ffff) >> 12;
        (0..count).filter_map(move |n| {
            let page = start.saturating_add(n);
            Some(TableEntry { table: self.table(2, page >> 9)?, slot: slot(page), target: pfn.saturating_add(n), writable: true })
        })
    }

    /// The table of level `level` (0: L3) for `span`.
    fn table(&self, level: usize, span: u64) -> Option<u64> {
        self.main.get(level)?.table(span).or_else(|| self.apart.get(level)?.table(span))
    }
}

/// The entry of a table that `index`, counted over all tables of its level, falls on.
fn slot(index: u64) -> u16 {
    u16::try_from(index & 511).unwrap_or(0)
}

/// Frames given out one after the other.
struct Frames(u64);

impl Frames {
    /// The first of `count` frames.
    fn take(&mut self, count: u64) -> u64 {
        let first = self.0;
        self.0 = first.saturating_add(count);
        first
    }

    /// Takes `count` frames and returns how many they are.
    fn take_counted(&mut self, count: u64) -> u64 {
        self.take(count);
        count
    }
}

/// The tables of a mapping from `base` that holds `before` frames, the tables themselves and the stack, and how many
/// frames it has. More tables may need a larger mapping, and that more tables: the first size that fits is taken.
fn self_mapping(base: u64, before: u64) -> Result<([Row; 3], u64)> {
    let mut tables = 1u64;
    loop {
        let frames = before.saturating_add(tables).saturating_add(1);
        let size = frames.saturating_mul(PAGE).saturating_add(SPARE).checked_next_multiple_of(ALIGN).unwrap_or(u64::MAX);
        space::check("the first mapping at VIRT_BASE", base, size)?;
        let mapped = size / PAGE;
        let rows = rows(base, mapped);
        let need = total(&rows).saturating_add(1);
        if need <= tables {
            return Ok((rows, mapped));
        }
        // Grows in each round, and a mapping that outgrows the address space was refused above.
        tables = need;
    }
}

/// The tables that map the list at `va` and that the first mapping, at `base`, does not have.
fn rows_apart(main: &[Row; 3], base: u64, mapped: u64, va: u64, frames: u64) -> Result<[Row; 3]> {
    let bytes = frames.saturating_mul(PAGE);
    space::check("INIT_P2M", va, bytes)?;
    let (end, main_end) = (va.saturating_add(bytes), base.saturating_add(mapped.saturating_mul(PAGE)));
    if va < main_end && base < end {
        return Err(ImageError::Value { what: "INIT_P2M", value: va, rule: "it lies in the first mapping" });
    }
    let mut apart = rows(va, frames);
    for (row, main) in apart.iter_mut().zip(main) {
        // The pages are disjoint, so at most the tables at one end are shared.
        while row.count > 0 && main.table(row.first).is_some() {
            row.first = row.first.saturating_add(1);
            row.count = row.count.saturating_sub(1);
        }
        while row.count > 0 && main.table(row.first.saturating_add(row.count).saturating_sub(1)).is_some() {
            row.count = row.count.saturating_sub(1);
        }
    }
    Ok(apart)
}
