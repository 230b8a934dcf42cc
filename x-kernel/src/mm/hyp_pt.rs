//! The X-Kernel's own page tables: what every address space has in slots 256..=271, and the per-domain area.
//!
//! Built once at boot, section by section: text read-execute, read-only data read-only, everything else writable
//! and not executable; what is written only at boot becomes read-only by [`seal`]. Only the machine-to-physical
//! table is visible to guests. Every slot has its tables from the start, so later mappings appear in all address
//! spaces at once. The image is not in the direct map, except for the area of the entry stubs: its text has no
//! writable alias. Answers to Xen's `arch/x86/x86_64/mm.c` and `arch/x86/setup.c`.

// UNSAFETY: loads CR3; takes tables that it has just allocated for its own.
#![expect(unsafe_code, reason = "the X-Kernel's own page tables")]

use pv_core::bootline::Flush;
use pv_core::frame::Mfn;

use super::layout::{
    DIRECT_MAP_BASE, FIRST_SLOT, FIXMAP_BASE, FRAME_SHIFT, FRAME_SIZE, IMAGE_BASE, LAST_SLOT, MAX_RAM, PERDOMAIN_BASE, PERDOMAIN_SLOT,
    SIZE_1G, SIZE_2M, SLOT_SIZE, guest_gdt_offset,
};
use super::page_table::{Leaf, TableSource, Tree, bits};
use super::ranges::{FrameRange, RangeSet};
use super::window::FrameWindow;
use super::{frame_alloc, image};
use crate::arch::x86_64::tlb;
use crate::cmdline;
use crate::sync::{InitOnce, SpinLock, level};

/// The tree that the X-Kernel runs on when no guest is loaded.
#[unsafe(link_section = ".ro_after_init")]
static TREE: InitOnce<Tree> = InitOnce::new();

/// Held while tables change. The value is the next free address for mappings made at run time.
static FIXMAP_NEXT: SpinLock<u64, level::HypPt> = SpinLock::new(FIXMAP_BASE);

/// The address of `mfn` in the direct map. It is mapped only if the frame is RAM outside the image.
pub(super) fn direct_map_va(mfn: Mfn) -> u64 {
    DIRECT_MAP_BASE.wrapping_add(mfn.raw() << FRAME_SHIFT)
}

/// The frame at `va` of the direct map.
pub(super) fn direct_map_mfn(va: u64) -> Option<Mfn> {
    Mfn::new(va.checked_sub(DIRECT_MAP_BASE)? >> FRAME_SHIFT)
}

/// CPUID.80000001:EDX, 1 GiB pages.
const CPUID_1G: u32 = 1 << 26;

fn largest_page() -> u64 {
    let most = core::arch::x86_64::__cpuid(0x8000_0000).eax;
    if most >= 0x8000_0001 && core::arch::x86_64::__cpuid(0x8000_0001).edx & CPUID_1G != 0 { SIZE_1G } else { SIZE_2M }
}

/// Builds the image's mappings, the direct map of `ram` and the tops of all slots, and loads them. `source` gives
/// zeroed frames that the boot code's tables reach. None when memory is short.
pub(super) fn init(ram: &RangeSet, source: TableSource<'_>) -> Option<()> {
    let root = source()?;
    // SAFETY: the frame is ours alone, zeroed, and within reach of the boot code's direct map; from here on it and
    // the tables under it are changed by this module only, and never freed.
    let tree = unsafe { Tree::new(root, 4) };
    for slot in (FIRST_SLOT..=LAST_SLOT).filter(|&slot| slot != PERDOMAIN_SLOT) {
        let user = if slot == FIRST_SLOT { bits::US } else { 0 };
        tree.set_root_entry(slot, source()? | bits::TABLE | user);
    }
    for section in image::sections() {
        let maddr = section.start.checked_sub(IMAGE_BASE)?;
        tree.map(section.start, maddr, section.end.checked_sub(section.start)?, section.flags, FRAME_SIZE, source)?;
    }
    let largest = largest_page();
    let mut mapped = ram.clone();
    if !mapped.remove(image::frames()) {
        return None;
    }
    for range in mapped.as_slice() {
        map_direct(tree, range, largest, source)?;
    }
    map_direct(tree, &image::stub_frames(), FRAME_SIZE, source)?;
    // SAFETY: the new tables map the running code, the stack (in the image) and everything reached through the
    // direct map at the same addresses as before. What the boot code mapped elsewhere is not used any more.
    unsafe { core::arch::asm!("mov cr3, {}", in(reg) root, options(nostack, preserves_flags)) };
    TREE.set(tree).ok()
}

fn map_direct(tree: Tree, range: &FrameRange, largest: u64, source: TableSource<'_>) -> Option<()> {
    let maddr = range.start << FRAME_SHIFT;
    let len = range.len() << FRAME_SHIFT;
    if maddr.checked_add(len)? > MAX_RAM {
        return None;
    }
    tree.map(DIRECT_MAP_BASE.checked_add(maddr)?, maddr, len, bits::DATA, largest, source)
}

/// Maps boot-time storage at a fixed place.
pub(super) fn map_at_boot(va: u64, maddr: u64, len: u64, flags: u64, source: TableSource<'_>) -> Option<()> {
    TREE.get()?.map(va, maddr, len, flags, SIZE_2M, source)
}

fn private_table() -> Option<u64> {
    Some(frame_alloc::alloc_private(0)?.raw() << FRAME_SHIFT)
}

/// Maps `len` bytes of device registers at machine address `paddr`, uncached, and returns their address. None when
/// memory is short or the range is RAM that the X-Kernel manages.
pub fn map_mmio(paddr: u64, len: u64) -> Option<u64> {
    map_fixed(paddr, len, bits::MMIO)
}

/// Maps `len` bytes of firmware data at machine address `paddr`, read-only, and returns their address.
pub fn map_firmware(paddr: u64, len: u64) -> Option<u64> {
    map_fixed(paddr, len, bits::RO)
}

fn map_fixed(paddr: u64, len: u64, flags: u64) -> Option<u64> {
    let frames = FrameRange::around(paddr, len);
    if frames.is_empty() || frames.end > bits::ADDR >> FRAME_SHIFT || frame_alloc::manages(&frames) {
        return None;
    }
    let tree = TREE.get()?;
    let mut next = FIXMAP_NEXT.lock();
    let va = *next;
    let bytes = frames.len() << FRAME_SHIFT;
    // One page stays unmapped after each mapping.
    let after = va.checked_add(bytes)?.checked_add(FRAME_SIZE)?;
    if after > FIXMAP_BASE.checked_add(SLOT_SIZE)? {
        return None;
    }
    *next = after;
    tree.map(va, frames.start << FRAME_SHIFT, bytes, flags, FRAME_SIZE, &mut private_table)?;
    va.checked_add(paddr & FRAME_SIZE.wrapping_sub(1))
}

/// Makes what is written only at boot read-only. After this a write to an `InitOnce` there is a fault.
pub fn seal() {
    let (start, end) = image::ro_after_init();
    protect(start, end);
}

/// Makes one page of the image's data read-only in the table alone: what the TLB says stays. For tests of it.
pub fn write_protect_unflushed(va: u64) -> bool {
    let (Some(tree), Some(maddr)) = (TREE.get(), va.checked_sub(IMAGE_BASE)) else { return false };
    tree.replace_small(va, maddr | bits::RO).is_some()
}

/// Makes whole pages of the image's data read-only. The flush takes global entries along, as these are; a reload of
/// CR3 would leave them writable.
pub fn protect(start: u64, end: u64) {
    let Some(tree) = TREE.get() else { return };
    let _guard = FIXMAP_NEXT.lock();
    let mut va = start;
    while va < end {
        if let Some(maddr) = va.checked_sub(IMAGE_BASE) {
            tree.replace_small(va, maddr | bits::RO);
        }
        va = va.saturating_add(FRAME_SIZE);
    }
    if cmdline::leaves_out(Flush::Protect) {
        tlb::flush_mask(tlb::online_mask(), tlb::Scope::NonGlobal);
    } else {
        tlb::flush_mask(tlb::online_mask(), tlb::Scope::Global);
    }
}

/// The machine frame of the X-Kernel's own root, which is loaded while no guest runs.
///
/// # Panics
/// Before [`super::init`].
pub fn idle_l4() -> Mfn {
    match TREE.get().and_then(|tree| Mfn::new(tree.root() >> FRAME_SHIFT)) {
        Some(mfn) => mfn,
        None => panic!("the X-Kernel's page tables are asked for before they are built"),
    }
}

/// Writes slots 256..=271 of a guest's L4 table. Slot 258 gets `perdomain`, the table from
/// [`PerDomain::table`], or nothing. False if `l4` cannot be reached.
#[must_use]
pub fn install_hypervisor_slots(l4: Mfn, perdomain: Option<Mfn>) -> bool {
    let (Some(tree), Some(window)) = (TREE.get(), FrameWindow::new(l4)) else { return false };
    for index in FIRST_SLOT..=LAST_SLOT {
        let entry =
            if index == PERDOMAIN_SLOT { perdomain.map_or(0, |l3| l3.raw() << FRAME_SHIFT | bits::TABLE) } else { tree.root_entry(index) };
        window.write_u64_at(index.wrapping_mul(8), entry);
    }
    true
}

/// Clears slots 256..=271 of a frame that is no guest's L4 table any more, so that a guest cannot read them. False if
/// it cannot be reached.
#[must_use]
pub fn clear_hypervisor_slots(l4: Mfn) -> bool {
    let Some(window) = FrameWindow::new(l4) else { return false };
    for index in FIRST_SLOT..=LAST_SLOT {
        window.write_u64_at(index.wrapping_mul(8), 0);
    }
    true
}

/// Shows every page that the X-Kernel maps for itself to `visit`, for checks.
pub fn walk(visit: &mut dyn FnMut(Leaf)) {
    let _guard = FIXMAP_NEXT.lock();
    if let Some(tree) = TREE.get() {
        tree.walk(visit);
    }
}

/// The writable address of `len` bytes of the entry stub area at `va`.
pub(super) fn stub_area_alias(va: u64, len: usize) -> Option<u64> {
    let (start, end) = image::stub_area();
    let last = va.checked_add(len as u64)?;
    if va < start || last > end {
        return None;
    }
    DIRECT_MAP_BASE.checked_add(va.checked_sub(IMAGE_BASE)?)
}

/// vCPUs whose tables a per-domain area has from the start, so that mapping for them cannot fail.
pub const READY_VCPUS: u32 = 64;

/// A domain's own part of the X-Kernel's address space: slot 258 of each of its L4 tables. Holds the mappings of
/// its vCPUs' GDTs and LDTs. Its entries are not global, so a switch to another domain forgets them.
#[derive(Debug)]
pub struct PerDomain {
    tree: Tree,
}

impl PerDomain {
    /// An empty area, with the tables for the first [`READY_VCPUS`] vCPUs. None when memory is short.
    pub fn new() -> Option<Self> {
        let root = private_table()?;
        // SAFETY: the frame is a private one, zeroed; this value owns it and every table below it until `drop`,
        // when by then no L4 table refers to it (the domain's tables are gone).
        let area = Self { tree: unsafe { Tree::new(root, 3) } };
        let mut offset = 0;
        while offset < guest_gdt_offset(READY_VCPUS) {
            area.tree.prepare(Self::va(offset)?, 1, &mut private_table)?;
            offset = offset.checked_add(SIZE_2M)?;
        }
        Some(area)
    }

    /// The frame to put in slot 258.
    pub fn table(&self) -> Option<Mfn> {
        Mfn::new(self.tree.root() >> FRAME_SHIFT)
    }

    /// Maps `mfn` at `offset` (a multiple of 4 KiB) of the area, in place of what was there. The caller holds a
    /// count on the frame for as long as it is mapped. None when memory is short or the offset is out of range.
    pub fn map_page(&self, offset: u64, mfn: Mfn, writable: bool) -> Option<()> {
        let va = Self::va(offset)?;
        let _guard = FIXMAP_NEXT.lock();
        self.tree.prepare(va, 1, &mut private_table)?;
        let flags = if writable { bits::DATA } else { bits::RO } & !bits::G;
        let old = self.tree.replace_small(va, mfn.raw() << FRAME_SHIFT | flags)?;
        if old & bits::P != 0 {
            tlb::flush_page(va);
        }
        Some(())
    }

    /// Takes away what is mapped at `offset`. This CPU's translation is flushed; before the frame's count is given
    /// up the caller flushes the domain's other CPUs.
    pub fn unmap_page(&self, offset: u64) {
        let Some(va) = Self::va(offset) else { return };
        let _guard = FIXMAP_NEXT.lock();
        if self.tree.replace_small(va, 0).is_some_and(|old| old & bits::P != 0) {
            tlb::flush_page(va);
        }
    }

    fn va(offset: u64) -> Option<u64> {
        (offset < SLOT_SIZE && offset & FRAME_SIZE.wrapping_sub(1) == 0).then(|| PERDOMAIN_BASE.wrapping_add(offset))
    }
}

impl Drop for PerDomain {
    fn drop(&mut self) {
        // Another address space may be loaded, but paging-structure caches may still know this area.
        tlb::flush_mask(tlb::online_mask(), tlb::Scope::NonGlobal);
        let give_back = |maddr: u64| {
            if let Some(mfn) = Mfn::new(maddr >> FRAME_SHIFT) {
                frame_alloc::free_private(mfn, 0);
            }
        };
        self.tree.tables_below(&mut |maddr| give_back(maddr));
        give_back(self.tree.root());
    }
}
