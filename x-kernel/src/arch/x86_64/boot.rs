//! The way from the boot loader into `kmain`, and what the loader says: memory, modules, command line, ACPI root.
//!
//! The boot information is copied out of the loader's memory before anything else, checked as a whole by
//! `pv_core::mb2`, and then read by the `multiboot2` crate, which may assume a well-formed chain of tags. What cannot
//! be used at all stops the machine with one line; a module that makes no sense is refused and the others go on.

// UNSAFETY: entered by assembly; reads the loader's memory.
#![expect(unsafe_code, reason = "entered by assembly; reads the loader's memory")]
#![expect(clippy::cast_possible_truncation, reason = "addresses are 64 bits wide")]

use core::arch::global_asm;
use core::cell::UnsafeCell;

use arrayvec::ArrayVec;
use multiboot2::{BootInformation, BootInformationHeader, MemoryAreaType};
use pv_core::mb2;

use super::{cpu, serial};
use crate::mm::layout::{DIRECT_MAP_BASE, IMAGE_BASE};
use crate::mm::modules::MAX_MODULES;
use crate::mm::ranges::{FrameRange, RangeSet};
use crate::mm::{self, MemoryMap, image};
use crate::percpu::{self, BLOCK_SIZE, PerCpu};
use crate::sync::InitOnce;

/// The boot path's frames begin this far below the end of the stack block, clear of the guest frame's fixed place.
const BOOT_STACK_GAP: usize = 1024;
/// The most memory ranges that are kept.
const MAX_RANGES: usize = 160;

global_asm!(
    include_str!("../../../../boot/multiboot2.S"),
    IMAGE_BASE = const IMAGE_BASE,
    BOOT_STACK = sym percpu::BOOT_BLOCK,
    BOOT_STACK_OFFSET = const BLOCK_SIZE - BOOT_STACK_GAP,
    start = sym start,
);

/// What a range of the firmware's memory map is.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum MemKind {
    /// RAM that is free.
    Available,
    /// ACPI tables.
    Acpi,
    /// Anything that must be left alone.
    Reserved,
}

/// A range of the firmware's memory map, in bytes.
#[derive(Clone, Copy, Debug)]
pub struct MemRange {
    /// Its first byte.
    pub start: u64,
    /// The byte after its last.
    pub end: u64,
    /// What it is.
    pub kind: MemKind,
}

/// A boot module. Its place in the list is its place in the boot loader's, usable or not.
#[derive(Clone, Copy, Debug)]
pub struct Module {
    /// Machine address of its first byte.
    pub start: u64,
    /// Machine address after its last.
    pub end: u64,
    /// Its line, or why the module cannot be used.
    pub line: Result<&'static str, &'static str>,
}

/// Where ACPI begins.
#[derive(Clone, Copy, Debug)]
pub struct Rsdp {
    /// 0: `root` is an RSDT; above: an XSDT.
    pub revision: u8,
    /// Machine address of the root table.
    pub root: u64,
}

/// What the boot loader says.
#[derive(Debug, Default)]
pub struct BootInfo {
    /// The memory map as given: unsorted, perhaps overlapping.
    pub memory: ArrayVec<MemRange, MAX_RANGES>,
    /// The modules, in order.
    pub modules: ArrayVec<Module, MAX_MODULES>,
    /// The X-Kernel's command line.
    pub cmdline: &'static str,
    /// The boot loader's name.
    pub loader: &'static str,
    /// ACPI's root.
    pub rsdp: Option<Rsdp>,
    /// Whether the firmware is UEFI.
    pub efi: bool,
}

/// The boot CPU's data, for a static.
struct BootCpu(PerCpu);

// SAFETY: `start` hands it to `percpu::install` for the boot CPU, and nothing else refers to it.
unsafe impl Sync for BootCpu {}

static BOOT_CPU: BootCpu = BootCpu(PerCpu::new(0));

/// The copy of the boot information.
#[repr(C, align(8))]
struct InfoCopy(UnsafeCell<[u8; mb2::MAX_SIZE]>);

// SAFETY: written once, by `copy_info` on the boot CPU before anything reads it.
unsafe impl Sync for InfoCopy {}

static INFO_COPY: InfoCopy = InfoCopy(UnsafeCell::new([0; mb2::MAX_SIZE]));

static BOOT_INFO: InitOnce<BootInfo> = InitOnce::new();

/// The first Rust code: on the boot CPU's main stack, at the link address, interrupts off.
///
/// # Safety
/// Must be entered once, by the boot assembly, with the loader's boot information at `info`.
unsafe extern "C" fn start(info: u32) -> ! {
    // SAFETY: the boot CPU runs on this block for ever, and no other does.
    unsafe { percpu::install(percpu::boot_block(), &BOOT_CPU.0) };
    crate::kmain(info)
}

/// Ends a boot that cannot go on, with one line.
pub fn refuse(why: core::fmt::Arguments<'_>) -> ! {
    log::error!("cannot boot: {why}");
    serial::write_bytes(b"X-Kernel: halted\r\n");
    cpu::halt()
}

/// Copies the boot information at machine address `at` out of the loader's memory.
fn copy_info(at: u32) -> Result<&'static [u8], mb2::Mb2Error> {
    let from = core::ptr::with_exposed_provenance::<u8>(DIRECT_MAP_BASE.wrapping_add(at.into()) as usize);
    // SAFETY: the boot code's tables map the first 4 GiB readable, and eight bytes there cannot leave them but by
    // wrapping an address that no loader gives.
    let head = unsafe { from.cast::<[u8; 8]>().read_unaligned() };
    let size = mb2::total_size(head)?;
    if u64::from(at).saturating_add(size as u64) > 1 << 32 {
        return Err(mb2::Mb2Error::Outside);
    }
    let to = INFO_COPY.0.get().cast::<u8>();
    // SAFETY: the source lies in the first 4 GiB, the target has `MAX_SIZE` bytes, `size` is at most that, and the
    // loader does not put its data into our image.
    unsafe { core::ptr::copy_nonoverlapping(from, to, size) };
    // SAFETY: initialised, and never written again: this function runs once.
    Ok(unsafe { core::slice::from_raw_parts(to, size) })
}

/// Reads the boot information at machine address `at`. Once; stops the machine if there is nothing to go on with.
pub fn read_info(at: u32) -> &'static BootInfo {
    let bytes = match copy_info(at).and_then(|bytes| mb2::check(bytes).map(|_| bytes)) {
        Ok(bytes) => bytes,
        Err(error) => refuse(format_args!("multiboot2 information at {at:#x}: {error}")),
    };
    // SAFETY: the copy is 8-byte aligned, complete, checked, and is not written any more.
    let info = match unsafe { BootInformation::load(bytes.as_ptr().cast::<BootInformationHeader>()) } {
        Ok(info) => info,
        Err(error) => refuse(format_args!("multiboot2 information at {at:#x}: {error:?}")),
    };
    let info = BOOT_INFO.get_or_init(|| collect(info));
    if !info.memory.iter().any(|range| range.kind == MemKind::Available) {
        refuse(format_args!("the boot loader gives no memory map, or one without RAM"));
    }
    info
}

/// The bytes of the copy outlive everything, but the crate's accessors borrow from their handle: keep it for ever.
fn collect(info: BootInformation<'static>) -> BootInfo {
    static HANDLE: InitOnce<BootInformation<'static>> = InitOnce::new();
    let info = HANDLE.get_or_init(|| info);
    let mut found = BootInfo {
        cmdline: info.command_line_tag().and_then(|tag| tag.cmdline().ok()).unwrap_or_default(),
        loader: info.boot_loader_name_tag().and_then(|tag| tag.name().ok()).unwrap_or("unnamed boot loader"),
        rsdp: rsdp(info),
        efi: info.efi_sdt64_tag().is_some(),
        ..BootInfo::default()
    };
    for area in info.memory_map_tag().map_or(&[][..], |tag| tag.memory_areas()) {
        let kind = match area.typ() {
            MemoryAreaType::Available => MemKind::Available,
            MemoryAreaType::AcpiAvailable => MemKind::Acpi,
            _ => MemKind::Reserved,
        };
        let range = MemRange { start: area.start_address(), end: area.start_address().saturating_add(area.size()), kind };
        if found.memory.try_push(range).is_err() {
            // Losing RAM is harmless; losing a reservation is not: forget some RAM for it.
            let victim = found.memory.iter_mut().rev().find(|r| r.kind == MemKind::Available);
            if let (Some(victim), true) = (victim, kind != MemKind::Available) {
                *victim = range;
            }
        }
    }
    for tag in info.module_tags() {
        let module = Module {
            start: tag.start_address().into(),
            end: tag.end_address().into(),
            line: tag.cmdline().map_err(|_| "its line is not terminated UTF-8 text"),
        };
        if found.modules.try_push(module).is_err() {
            log::error!("more than {MAX_MODULES} boot modules: the rest is ignored");
            break;
        }
    }
    judge_modules(&mut found);
    found
}

fn rsdp(info: &BootInformation<'_>) -> Option<Rsdp> {
    let new = info.rsdp_v2_tag().filter(|tag| tag.checksum_is_valid() && tag.xsdt_address() != 0);
    if let Some(tag) = new {
        return Some(Rsdp { revision: tag.revision().max(1), root: tag.xsdt_address() as u64 });
    }
    let old = info.rsdp_v1_tag().filter(|tag| tag.checksum_is_valid())?;
    Some(Rsdp { revision: 0, root: old.rsdt_address() as u64 })
}

/// Marks the modules that cannot be what the loader says.
fn judge_modules(info: &mut BootInfo) {
    let ram = usable_ram(info);
    let image = image::frames();
    let mut seen: ArrayVec<(u64, u64), MAX_MODULES> = ArrayVec::new();
    for module in &mut info.modules {
        let frames = FrameRange::around(module.start, module.end.saturating_sub(module.start));
        let problem = if module.end < module.start {
            Some("it ends before it begins")
        } else if module.end == module.start {
            Some("it is empty")
        } else if !frames.and(&image).is_empty() {
            Some("it overlaps the X-Kernel")
        } else if !ram.as_slice().iter().any(|range| range.and(&frames) == frames) {
            Some("it lies outside RAM")
        } else if seen.iter().any(|&(start, end)| module.start < end && start < module.end) {
            Some("it overlaps an earlier module")
        } else {
            None
        };
        match problem {
            Some(why) => module.line = Err(why),
            None => drop(seen.try_push((module.start, module.end))),
        }
    }
}

/// RAM by the memory map: what is available and nothing else claims.
fn usable_ram(info: &BootInfo) -> RangeSet {
    let mut ram = RangeSet::new();
    let mut fits = true;
    for range in info.memory.iter().filter(|r| r.kind == MemKind::Available) {
        // A range that does not fit is RAM that stays unused.
        let _ = ram.insert(FrameRange::inside(range.start, range.end.saturating_sub(range.start)));
    }
    for range in info.memory.iter().filter(|r| r.kind != MemKind::Available) {
        fits &= ram.remove(FrameRange::around(range.start, range.end.saturating_sub(range.start)));
    }
    if !fits {
        log::warn!("memory map in too many pieces: some RAM stays unused");
    }
    ram
}

/// What `mm` needs to know, with the last `reserve` bytes of RAM left out.
pub fn memory_map(info: &BootInfo, reserve: u64) -> MemoryMap {
    let mut map = MemoryMap { ram: usable_ram(info), ..MemoryMap::default() };
    let mut left = reserve.div_ceil(mm::layout::FRAME_SIZE);
    while left > 0 {
        let Some(last) = map.ram.as_slice().last().copied() else { break };
        let gone = left.min(last.len());
        if !map.ram.remove(FrameRange::new(last.end.saturating_sub(gone), last.end)) {
            break;
        }
        left = left.saturating_sub(gone);
    }
    for module in info.modules.iter().filter(|m| m.line.is_ok()) {
        let _ = map.modules.try_push((module.start, module.end.saturating_sub(module.start)));
    }
    map
}

/// Says what there is, and which modules are of no use.
pub fn log_memory(info: &BootInfo) {
    let ram = usable_ram(info);
    log::info!("memory: {} MiB in {} ranges, {} modules", ram.frames() >> 8, ram.as_slice().len(), info.modules.len());
    for range in &info.memory {
        log::debug!("memory: {:#012x} to {:#012x} {:?}", range.start, range.end, range.kind);
    }
    for (index, module) in info.modules.iter().enumerate() {
        match module.line {
            Ok(line) => log::debug!("module {index}: {:#x} to {:#x}: {line}", module.start, module.end),
            Err(why) => log::error!("module {index} at {:#x} to {:#x} is refused: {why}", module.start, module.end),
        }
    }
}
