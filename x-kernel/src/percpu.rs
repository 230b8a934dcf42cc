//! Per-CPU data, found from the stack pointer.
//!
//! Each CPU owns one 64 KiB block, aligned to its size, that holds its stacks: four interrupt-stack-table
//! stacks of 8 KiB (NMI, #DF, #MC, #DB) and the main stack above them. The block's last eight bytes point
//! to the CPU's [`PerCpu`], so masking `rsp` finds it from any of these stacks; GS and FS always belong to
//! the guest. The X-Kernel runs with interrupts off and never moves between CPUs, so a `&PerCpu` stays
//! the right one for as long as it can be held; `PerCpu` is not `Sync`, so it cannot be sent elsewhere.
//! What other CPUs may touch lives in [`PerCpuShared`].

// UNSAFETY: reads the pointer at the end of the stack block and publishes it there.
#![expect(unsafe_code, reason = "the per-CPU pointer is found from the stack pointer")]

use alloc::sync::Arc;
use core::cell::{Cell, Ref, RefCell};
use core::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use crate::domain::Domain;
use crate::domain::vcpu::Vcpu;
use crate::perf::CpuCounters;

/// Bytes in one CPU's stack block, and its alignment.
pub const BLOCK_SIZE: usize = 64 * 1024;
/// Bytes in each interrupt stack; NMI, #DF, #MC and #DB follow each other from the block's start.
pub const IST_SIZE: usize = 8 * 1024;
/// Distance of the initial stack pointer (TSS.RSP0) from the block's end; keeps 16-byte alignment.
pub const TOP_GAP: usize = 16;
/// The most CPUs that the X-Kernel will run on.
pub const MAX_CPUS: usize = 64;

/// One CPU's stack memory.
#[repr(C, align(65536))]
pub struct StackBlock(core::cell::UnsafeCell<[u8; BLOCK_SIZE]>);

// SAFETY: the bytes are touched only by the CPU that runs on the block, and by `install` before it does.
unsafe impl Sync for StackBlock {}

impl StackBlock {
    /// A zeroed block, for a static.
    pub const fn new() -> Self {
        Self(core::cell::UnsafeCell::new([0; BLOCK_SIZE]))
    }

    /// The address just past the block.
    pub fn end(&self) -> u64 {
        (self.0.get() as u64).wrapping_add(BLOCK_SIZE as u64)
    }
}

/// What other CPUs may read or write of a CPU.
#[derive(Debug, Default)]
pub struct PerCpuShared {
    /// The CPU should look at its run queue before it returns to a guest.
    pub need_resched: AtomicBool,
    /// Machine address of the page-table root that the CPU runs on, for diagnostics and shootdowns.
    pub root: AtomicU64,
}

/// Who runs on a CPU.
pub struct Running {
    /// The vCPU.
    pub vcpu: Arc<Vcpu>,
    /// Its domain, which stays at least as long.
    pub domain: Arc<Domain>,
}

/// One CPU's own data.
pub struct PerCpu {
    /// Dense number of the CPU, from 0.
    pub id: u32,
    /// Who runs, or none while the CPU is idle.
    current: RefCell<Option<Running>>,
    /// Time at which the current vCPU was switched in or last charged, in ns since boot.
    pub charged_at_ns: Cell<u64>,
    /// Time at which the current vCPU's slice ends, in ns since boot.
    pub slice_end_ns: Cell<u64>,
    /// XCR0 as it is loaded.
    pub xcr0: Cell<u64>,
    /// Ring crossings and what caused them.
    pub counters: CpuCounters,
    /// The part that other CPUs may touch.
    pub shared: PerCpuShared,
}

impl PerCpu {
    /// A CPU that runs nothing yet.
    pub const fn new(id: u32) -> Self {
        Self {
            id,
            current: RefCell::new(None),
            charged_at_ns: Cell::new(0),
            slice_end_ns: Cell::new(0),
            xcr0: Cell::new(0),
            counters: CpuCounters::new(),
            shared: PerCpuShared { need_resched: AtomicBool::new(false), root: AtomicU64::new(0) },
        }
    }

    /// Who runs on this CPU. The answer must be let go before [`Self::set_current`].
    pub fn running(&self) -> Option<Ref<'_, Running>> {
        Ref::filter_map(self.current.try_borrow().ok()?, Option::as_ref).ok()
    }

    /// The vCPU that runs on this CPU.
    pub fn current(&self) -> Option<Arc<Vcpu>> {
        self.running().map(|running| running.vcpu.clone())
    }

    /// Replaces who runs.
    ///
    /// # Panics
    /// While an answer of [`Self::running`] is held.
    pub fn set_current(&self, next: Option<Running>) {
        self.current.replace(next);
    }

    /// Asks this CPU to pass through the scheduler before it returns to a guest.
    pub fn kick(&self) {
        self.shared.need_resched.store(true, Ordering::Release);
    }
}

/// Publishes `cpu` as the owner of `block`.
///
/// # Safety
/// The calling CPU must be the only one that ever runs on `block`.
pub unsafe fn install(block: &'static StackBlock, cpu: &'static PerCpu) {
    let slot = (block.end().wrapping_sub(8)) as *mut *const PerCpu;
    // SAFETY: the slot is the block's last eight bytes, above every stack in it.
    unsafe { slot.write(cpu) };
}

/// The running CPU's data. Must be called on a stack block on which [`install`] has run.
pub fn this() -> &'static PerCpu {
    let cpu: *const PerCpu;
    // SAFETY: reads one word at the end of the block that the stack pointer lies in; `install` put a
    // pointer to a `'static` there before any Rust code on this block asks for it.
    unsafe {
        core::arch::asm!(
            "mov {p}, rsp",
            "or {p}, 0xffff",
            "mov {p}, [{p} - 7]",
            p = out(reg) cpu,
            options(nostack, readonly, preserves_flags)
        );
    }
    // SAFETY: as above; the target is a `'static PerCpu` that only this CPU uses.
    unsafe { &*cpu }
}

/// The boot CPU's stack block; public for the assembly that starts on it.
pub static BOOT_BLOCK: StackBlock = StackBlock::new();

/// The boot CPU's stack block, on which the X-Kernel starts.
pub fn boot_block() -> &'static StackBlock {
    &BOOT_BLOCK
}
