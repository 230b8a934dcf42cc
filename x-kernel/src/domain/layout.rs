//! Where everything lies in a domain's first memory, in pseudo-physical frames.
//!
//! ```text
//! virt_base  kernel | start_info | console | page tables | stack | padding to 4 MiB   mapped
//! then       initrd | p2m list | page tables of the p2m list                          not mapped, or at INIT_P2M
//! ```
//! (Public header xen.h, "Start-of-day memory layout".)

use dom_image::Kernel;

use super::build::Memory;
use crate::mm::window::FrameWindow;

const MIB: u64 = 1 << 20;
/// Present, accessed; writable; dirty; user.
const TABLE: u64 = 0x67;
const PAGE_RW: u64 = 0x67;
const PAGE_RO: u64 = 0x25;

/// The plan. Frame numbers are pseudo-physical, addresses the guest's virtual ones.
#[derive(Debug)]
pub struct Plan {
    /// Address that pseudo-physical frame 0 is mapped at.
    pub virt_base: u64,
    /// End of the first mapping.
    pub virt_end: u64,
    /// First frame of the initrd.
    pub initrd_pfn: u64,
    /// Whether the initrd is part of the mapping.
    pub initrd_mapped: bool,
    /// First frame of the list, and its length in frames.
    pub p2m_pfn: u64,
    /// See `p2m_pfn`.
    pub p2m_frames: u64,
    /// Address of the list.
    pub p2m_va: u64,
    /// Frames of the list's own tables, after the list; 0 if it lies in the mapping.
    pub p2m_tables: u64,
    /// Address of start_info.
    pub start_info_va: u64,
    /// Frame of the console ring.
    pub console_pfn: u64,
    /// First frame of the tables: the L4, then L3s, L2s, L1s.
    pub root_pfn: u64,
    /// How many tables.
    pub tables: u64,
    /// Top of the first stack.
    pub stack_va: u64,
}

/// How many tables of each level map `[start, end)`: L3, L2, L1.
fn tables(start: u64, end: u64) -> [u64; 3] {
    [39, 30, 21].map(|shift| ((end - 1) >> shift) - (start >> shift) + 1)
}

impl Plan {
    /// Plans for `kernel` with an initrd of `initrd_len` bytes in `pages` frames.
    ///
    /// # Errors
    /// What is too big.
    pub fn new(kernel: &Kernel, initrd_len: u64, pages: u64, _initial: bool) -> Result<Self, &'static str> {
        let base = kernel.virt_base;
        let kernel_end = kernel.vend.checked_sub(base).ok_or("kernel: lies below its virtual base")?.div_ceil(4096);
        let initrd_frames = initrd_len.div_ceil(4096);
        let p2m_frames = (pages * 8).div_ceil(4096);
        let mut at = kernel_end;
        let mut take = |n: u64| {
            let first = at;
            at += n;
            first
        };
        let initrd_mapped = !kernel.mod_start_pfn;
        let mapped_initrd = if initrd_mapped { take(initrd_frames) } else { 0 };
        let mapped_p2m = if kernel.init_p2m.is_none() { take(p2m_frames) } else { 0 };
        let start_info = take(1);
        let console_pfn = take(1);
        // The tables map themselves: try sizes until they fit.
        let (mut count, mut end) = (4, 0);
        for _ in 0..8 {
            let size = ((start_info + 2 + count + 1) * 4096 + MIB / 2).next_multiple_of(4 * MIB);
            end = base.checked_add(size).ok_or("kernel: its first mapping passes the end of the address space")?;
            let need = 1 + tables(base, end).iter().sum::<u64>();
            if need <= count {
                break;
            }
            count = need;
        }
        let root_pfn = take(count);
        let stack = take(1);
        let mapped_frames = (end - base) / 4096;
        let mut free = mapped_frames;
        let initrd_pfn = if initrd_mapped {
            mapped_initrd
        } else {
            free += initrd_frames;
            free - initrd_frames
        };
        let (p2m_pfn, p2m_va, p2m_tables) = match kernel.init_p2m {
            None => (mapped_p2m, base + mapped_p2m * 4096, 0),
            Some(va) => {
                let own = tables(va, va + p2m_frames * 4096).iter().sum::<u64>();
                free += p2m_frames + own;
                (free - p2m_frames - own, va, own)
            }
        };
        if free > pages {
            return Err("kernel, initrd and page tables do not fit in the domain's memory");
        }
        Ok(Self {
            virt_base: base,
            virt_end: end,
            initrd_pfn,
            initrd_mapped,
            p2m_pfn,
            p2m_frames,
            p2m_va,
            p2m_tables,
            start_info_va: base + start_info * 4096,
            console_pfn,
            root_pfn,
            tables: count,
            stack_va: base + (stack + 1) * 4096,
        })
    }

    /// Writes the list of machine frames.
    pub fn write_p2m(&self, memory: &Memory, pages: u64) -> Option<()> {
        for pfn in 0..pages {
            memory.write(self.p2m_pfn * 4096 + pfn * 8, &memory.mfn(pfn)?.raw().to_le_bytes())?;
        }
        Some(())
    }

    /// Writes the page tables.
    pub fn write_tables(&self, memory: &Memory) -> Option<()> {
        let tables_end = self.root_pfn + self.tables;
        let mut next = self.root_pfn + 1;
        for pfn in 0..(self.virt_end - self.virt_base) / 4096 {
            let flags = if (self.root_pfn..tables_end).contains(&pfn) { PAGE_RO } else { PAGE_RW };
            self.map(memory, &mut next, self.virt_base + pfn * 4096, pfn, flags)?;
        }
        if self.p2m_tables > 0 {
            let mut next = self.p2m_pfn + self.p2m_frames;
            for i in 0..self.p2m_frames {
                self.map(memory, &mut next, self.p2m_va + i * 4096, self.p2m_pfn + i, PAGE_RW)?;
            }
        }
        Some(())
    }

    /// Maps one page, taking tables from `next` on.
    fn map(&self, memory: &Memory, next: &mut u64, va: u64, pfn: u64, flags: u64) -> Option<()> {
        let mut table = memory.mfn(self.root_pfn)?;
        for shift in [39, 30, 21] {
            let window = FrameWindow::new(table)?;
            let at = ((va >> shift) & 511) as usize * 8;
            let mut entry = window.read_u64_at(at);
            if entry == 0 {
                entry = memory.mfn(*next)?.maddr().raw() | TABLE;
                *next += 1;
                window.write_u64_at(at, entry);
            }
            table = Mfn::new((entry >> 12) & 0xff_ffff_ffff)?;
        }
        FrameWindow::new(table)?.write_u64_at(((va >> 12) & 511) as usize * 8, memory.mfn(pfn)?.maddr().raw() | flags);
        Some(())
    }
}

use pv_core::frame::Mfn;
