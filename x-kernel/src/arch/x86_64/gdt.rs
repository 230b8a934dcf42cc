//! Global descriptor table, task state segment, and the registers of `syscall`.
//!
//! A guest's GDT fills pages 0 to 13 of its vCPU's part of the per-domain area; page 14 there is this CPU's own,
//! with the selectors from 0xe000 that the public ABI fixes (`FLAT_RING3_*`, xen/arch-x86/xen-x86_64.h). While no
//! guest is loaded the same selectors work through a base that puts the page at the same offset. All accessed bits
//! are set from the start, so that the CPU never writes to a guest's read-only mapping of the page.
//! Answers to Xen's `arch/x86/desc.c`.

// UNSAFETY: loads descriptor-table registers, the task register and MSRs.
#![expect(unsafe_code, reason = "LGDT, LTR, LLDT and the syscall MSRs")]

use core::arch::asm;
use core::sync::atomic::{AtomicU64, Ordering};

use x86_64::VirtAddr;
use x86_64::structures::tss::TaskStateSegment;

use super::entry::regs::rflags;
use super::msr;
use crate::mm::layout::{FRAME_SIZE, IMAGE_BASE};
use crate::percpu::{self, BLOCK_SIZE, IST_SIZE, MAX_CPUS, StackBlock, TOP_GAP};
use crate::sync::InitOnce;

/// The first selector that is ours.
pub const FIRST_SELECTOR: u16 = 0xe000;
/// Ring-0 code.
pub const CS: u16 = 0xe008;
/// Ring-0 data.
pub const SS: u16 = 0xe010;
const TSS: u16 = 0xe040;
const LDT: u16 = 0xe050;
/// Base of the selectors that `sysretq` loads: CS is 16 above, SS is 8 above.
const SYSRET_BASE: u16 = 0xe023;
/// The last byte of a GDT: 15 pages.
const GDT_LIMIT: u16 = 0xefff;

const RING0_CODE: u64 = 0x00af_9b00_0000_ffff;
const RING0_DATA: u64 = 0x00cf_9300_0000_ffff;
const RING3_CODE32: u64 = 0x00cf_fb00_0000_ffff;
const RING3_DATA: u64 = 0x00cf_f300_0000_ffff;
const RING3_CODE64: u64 = 0x00af_fb00_0000_ffff;
/// The last byte of a task state segment (SDM vol. 3, 8.7).
const TSS_LIMIT: u32 = 103;
const _: () = assert!(size_of::<TaskStateSegment>() == 104);
/// Types of system descriptors, present.
const TYPE_LDT: u64 = 0x82;
const TYPE_TSS: u64 = 0x89;

/// Page 14 of the GDT.
#[repr(C, align(4096))]
struct Page([AtomicU64; 512]);

/// The tables of one CPU.
pub struct CpuTables {
    page: Page,
    tss: InitOnce<TaskStateSegment>,
}

impl CpuTables {
    /// Tables that nothing uses yet.
    pub const fn new() -> Self {
        Self { page: Page([const { AtomicU64::new(0) }; 512]), tss: InitOnce::new() }
    }

    fn set(&self, selector: u16, descriptor: u64) {
        let index = usize::from(selector.wrapping_sub(FIRST_SELECTOR) >> 3);
        if let Some(slot) = self.page.0.get(index) {
            slot.store(descriptor, Ordering::Relaxed);
        }
    }

    /// A system descriptor takes two entries (SDM vol. 3, 8.2.3).
    fn set_system(&self, selector: u16, kind: u64, base: u64, limit: u32) {
        let limit = u64::from(limit);
        let low = (limit & 0xffff) | (base & 0xff_ffff) << 16 | kind << 40 | (limit >> 16 & 0xf) << 48 | (base >> 24 & 0xff) << 56;
        // The upper half first: it has no meaning until the lower one is present.
        self.set(selector.wrapping_add(8), base >> 32);
        self.set(selector, low);
    }
}

static BOOT_TABLES: CpuTables = CpuTables::new();

/// Each CPU's tables, by its number.
static TABLES: [InitOnce<&'static CpuTables>; MAX_CPUS] = [const { InitOnce::new() }; MAX_CPUS];

/// The boot CPU's tables.
pub fn boot_tables() -> &'static CpuTables {
    &BOOT_TABLES
}

fn task_state(block: &StackBlock) -> TaskStateSegment {
    let end = block.end();
    let start = end.wrapping_sub(BLOCK_SIZE as u64);
    let unused = VirtAddr::zero();
    let top_of = |number: u64| VirtAddr::new(start.wrapping_add(number.wrapping_mul(IST_SIZE as u64)));
    // The I/O bitmap of a new segment lies past its limit: every port traps from ring 3.
    let mut tss = TaskStateSegment::new();
    tss.privilege_stack_table = [VirtAddr::new(end.wrapping_sub(TOP_GAP as u64)), unused, unused];
    tss.interrupt_stack_table = [top_of(1), top_of(2), top_of(3), top_of(4), unused, unused, unused];
    tss
}

/// Fills the tables of CPU `cpu`, which runs on `block`, and loads them. The GDT has to be loaded again with a
/// guest's base when one is switched in; the task register stays.
///
/// # Panics
/// If `tables` are in use.
pub fn init(cpu: u32, tables: &'static CpuTables, block: &'static StackBlock) {
    tables.set(CS, RING0_CODE);
    tables.set(SS, RING0_DATA);
    tables.set(0xe020, RING3_CODE32);
    tables.set(0xe028, RING3_DATA);
    tables.set(0xe030, RING3_CODE64);
    let tss: *const TaskStateSegment = tables.tss.get_or_init(|| task_state(block));
    tables.set_system(TSS, TYPE_TSS, tss as u64, TSS_LIMIT);
    let fresh = TABLES.get(cpu as usize).is_some_and(|slot| slot.set(tables).is_ok());
    assert!(fresh, "descriptor tables of cpu {cpu} are set up twice");
    load_gdt(own_base(tables));
    reload_segments();
    // SAFETY: the descriptor has just been made, is not busy, and its TSS lives for ever.
    unsafe { asm!("ltr {:x}", in(reg) TSS, options(nostack, preserves_flags)) };
    load_ldt(0);
}

fn own_base(tables: &CpuTables) -> u64 {
    (&raw const tables.page as u64).wrapping_sub(u64::from(FIRST_SELECTOR))
}

#[repr(C, packed)]
struct TablePointer {
    limit: u16,
    base: u64,
}

fn load_gdt(base: u64) {
    let pointer = TablePointer { limit: GDT_LIMIT, base };
    // SAFETY: `base` + 0xe000 is a page like `CpuTables::page` for as long as the table is loaded: our own, or the
    // guest's area, where page 14 is mapped before the vCPU first runs.
    unsafe { asm!("lgdt [{}]", in(reg) &pointer, options(readonly, nostack, preserves_flags)) };
}

fn load_ldt(selector: u16) {
    // SAFETY: null, or the descriptor that `load_guest` has just written.
    unsafe { asm!("lldt {:x}", in(reg) selector, options(nostack, preserves_flags)) };
}

fn reload_segments() {
    // SAFETY: the selectors are flat in the table that is loaded; the X-Kernel uses no other segment.
    unsafe {
        asm!(
            "push {cs}",
            "lea {tmp}, [rip + 2f]",
            "push {tmp}",
            "retfq",
            "2:",
            "mov ss, {ss:e}",
            "mov ds, {null:e}",
            "mov es, {null:e}",
            "mov fs, {null:e}",
            "mov gs, {null:e}",
            cs = in(reg) u64::from(CS),
            ss = in(reg) u32::from(SS),
            null = in(reg) 0u32,
            tmp = out(reg) _,
            options(preserves_flags)
        );
    }
}

fn here() -> Option<&'static CpuTables> {
    TABLES.get(percpu::this().id as usize)?.get().copied()
}

/// Loads the GDT at `gdt` and an LDT of `ldt_entries` descriptors at `ldt`: the running vCPU's part of the
/// per-domain area.
pub fn load_guest(gdt: u64, ldt: u64, ldt_entries: u32) {
    load_gdt(gdt);
    // The page that the CPU reads is the same through either mapping.
    match (here(), ldt_entries.min(8192)) {
        (Some(tables), entries @ 1..) => {
            tables.set_system(LDT, TYPE_LDT, ldt, entries.wrapping_mul(8).wrapping_sub(1));
            load_ldt(LDT);
        }
        _ => load_ldt(0),
    }
}

/// Loads this CPU's own GDT and no LDT.
pub fn load_own() {
    if let Some(tables) = here() {
        load_gdt(own_base(tables));
    }
    load_ldt(0);
}

/// The machine address of page 14 of CPU `cpu`, to be mapped (read-only suffices) at 14 pages from the start of
/// each GDT area that the CPU loads. None before [`init`] has run there.
pub fn page_maddr(cpu: u32) -> Option<u64> {
    let tables = TABLES.get(usize::try_from(cpu).ok()?)?.get()?;
    let va = &raw const tables.page as u64;
    debug_assert!(va.is_multiple_of(FRAME_SIZE));
    va.checked_sub(IMAGE_BASE)
}

/// What `syscall` clears: interrupts, single-stepping, direction, nested task, resume, I/O privilege, alignment checks.
const SYSCALL_MASK: u64 = rflags::IF | rflags::TF | rflags::DF | rflags::AC | rflags::NT | rflags::RF | rflags::IOPL;

/// Points `syscall` at the entries `lstar` (64-bit code) and `cstar` (compatibility mode) on this CPU.
pub fn syscall_msrs(lstar: u64, cstar: u64) {
    let star = u64::from(SYSRET_BASE) << 48 | u64::from(CS) << 32;
    for (index, value) in [(msr::STAR, star), (msr::LSTAR, lstar), (msr::SFMASK, SYSCALL_MASK)] {
        // SAFETY: the entries are the X-Kernel's own, written for exactly these selectors and flags.
        unsafe { msr::write_any(index, value) };
    }
    // SAFETY: as above. A CPU without compatibility-mode SYSCALL may lack the register.
    let _ = unsafe { msr::try_write(msr::CSTAR, cstar) };
}
