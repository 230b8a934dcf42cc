//! A virtual CPU: what the guest has set up, what it had in its registers, and what others may ask of it.
//!
//! [`VcpuState`] is touched only by the CPU that runs the vCPU, or by whoever holds its lock while it does not
//! run. [`Vcpu`]'s other fields are atomics, because event channels reach them from any CPU.

use alloc::boxed::Box;
use alloc::sync::{Arc, Weak};
use alloc::vec::Vec;
use core::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};

use pv_core::debugreg;
use pv_core::frame::Mfn;
use xen_abi::vcpu::{RUNSTATE_blocked, RUNSTATE_offline, RUNSTATE_runnable, RUNSTATE_running};

use super::Domain;
use crate::arch::x86_64::entry::GuestRegs;
use crate::arch::x86_64::fpu::FpuArea;
use crate::pv::abom::Wishes;
use crate::sync::{SpinLock, level};

/// The most entries of a guest's GDT; the page above them is the X-Kernel's.
pub const MAX_GDT_ENTRIES: u32 = 14 * 512;
/// Frames that they fill.
pub const GDT_FRAMES: usize = MAX_GDT_ENTRIES as usize / 512;
/// The most vCPUs of a domain: as many as have a `vcpu_info` in the shared page.
pub const MAX_VCPUS: u32 = 32;

/// A guest's handler for one exception vector (`struct trap_info`). The selector that it names is not kept: a handler is
/// entered with the flat kernel code segment.
#[derive(Clone, Copy, Debug, Default)]
pub struct TrapGate {
    /// Address of the handler, canonical; 0 where none is registered.
    pub address: u64,
    /// The least privileged mode that may enter it by `int n`: 0 (kernel) or 3 (user).
    pub dpl: u8,
    /// Whether entering it masks events.
    pub masks_events: bool,
}

/// A guest's entry point for one kind of callback.
#[derive(Clone, Copy, Debug, Default)]
pub struct Callback {
    /// Address, canonical; 0 where none is registered.
    pub address: u64,
    /// Whether entering it masks events.
    pub masks_events: bool,
}

/// Segment state that is neither in the frame nor in memory.
#[derive(Clone, Copy, Debug, Default)]
pub struct Segments {
    pub ds: u16,
    pub es: u16,
    pub fs: u16,
    pub gs: u16,
    pub fs_base: u64,
    /// The base that GS has in guest kernel mode.
    pub gs_base_kernel: u64,
    /// The base that GS has in guest user mode.
    pub gs_base_user: u64,
}

/// What a vCPU in X-mode has set up.
#[derive(Clone, Copy, Debug)]
pub struct XMode {
    /// Address of the word that holds the kernel stack.
    pub kernel_sp_at: u64,
}

/// What only the running CPU, or the holder of the lock, may touch.
pub struct VcpuState {
    /// The registers, while the vCPU does not run.
    pub regs: GuestRegs,
    /// Whether it runs its kernel (else a process).
    pub in_kernel: bool,
    /// Root of the kernel's page table: pinned or counted as in use.
    pub kernel_root: Option<Mfn>,
    /// Root of the processes' page table.
    pub user_root: Option<Mfn>,
    /// X-mode, if it is on: one page table and one GS base for kernel and processes, told apart by the stack pointer.
    pub xmode: Option<XMode>,
    /// Where its kernel hears of sites that can be patched.
    pub wishes: Wishes,
    /// Stack that an entry from user mode starts on, unless X-mode is on.
    pub kernel_sp: u64,
    /// Its segment, kept because the ABI has it.
    pub kernel_ss: u64,
    /// Exception handlers by vector.
    pub traps: Box<[TrapGate; 256]>,
    /// Event upcall.
    pub event: Callback,
    /// Entered when the return to the guest fails.
    pub failsafe: Callback,
    /// Entered by `syscall` from user mode.
    pub syscall: Callback,
    /// Entered by `syscall` from compatibility mode.
    pub syscall32: Callback,
    /// Entered by `sysenter`; kept, never entered.
    pub sysenter: Callback,
    /// NMI handler.
    pub nmi: Callback,
    /// Frames of the GDT, each counted as a segment-descriptor frame.
    pub gdt: [Option<Mfn>; GDT_FRAMES],
    /// Entries of the GDT.
    pub gdt_entries: u32,
    /// Linear address of the LDT.
    pub ldt_base: u64,
    /// Entries of the LDT.
    pub ldt_entries: u32,
    /// Frames of the LDT that are mapped, by page.
    pub ldt: [Option<Mfn>; 16],
    /// Segment registers.
    pub segments: Segments,
    /// CR0.TS as the guest sees it.
    pub task_switched: bool,
    /// CR4 bits that the guest believes it has set.
    pub cr4: u64,
    /// I/O privilege level as the guest has set it: who of it may use port instructions, which are emulated. Never loaded.
    pub iopl: u8,
    /// XCR0 as the guest has set it.
    pub xcr0: u64,
    /// DR0–DR3, DR6, DR7.
    pub debug: [u64; 6],
    /// Floating-point and vector state.
    pub fpu: FpuArea,
    /// A return to the guest failed: enter the failsafe callback.
    pub failsafe_pending: bool,
}

/// A virtual CPU.
pub struct Vcpu {
    /// Number within the domain.
    pub id: u32,
    /// Number within the machine, for the scheduler and the timer queue.
    pub key: u32,
    /// The domain. Weak, because the domain owns its vCPUs.
    domain: Weak<Domain>,
    /// See [`VcpuState`]. Held by the entry door while the vCPU's own trap or call is served.
    pub state: SpinLock<VcpuState, level::VcpuState>,
    /// Machine address of the `vcpu_info` structure.
    pub info_maddr: AtomicU64,
    /// Brought up by `VCPUOP_up` (vCPU 0: by the builder).
    pub online: AtomicBool,
    /// Waits for an event.
    pub blocked: AtomicBool,
    /// Waits in `SCHEDOP_poll` for one port, any port (`POLL_ANY`), or does not (0).
    pub polling: AtomicU32,
    /// Initialised by `VCPUOP_initialise`.
    pub initialised: AtomicBool,
    /// The CPU that ran it last; `NO_CPU` before the first.
    pub last_cpu: AtomicU32,
    /// A CPU has its registers or its page tables: nobody else may run it, or take its tables away.
    pub on_cpu: AtomicBool,
    /// An NMI is to be delivered.
    pub nmi_pending: AtomicBool,
    /// Singleshot timer's deadline, ns since boot; 0 when off.
    pub singleshot_ns: AtomicU64,
    /// Period of the periodic timer in ns; 0 when off.
    pub period_ns: AtomicU64,
    /// Next deadline of the periodic timer.
    pub period_next_ns: AtomicU64,
    /// Deadline of `set_timer_op`... the same virtual timer as the singleshot one, kept apart because the ABI has both.
    pub timer_ns: AtomicU64,
    /// Deadline of `SCHEDOP_poll`; 0 when none.
    pub poll_ns: AtomicU64,
    /// Runstate accounting.
    pub runstate: SpinLock<Runstate, level::Runstate>,
}

/// `last_cpu` of a vCPU that has not run.
pub const NO_CPU: u32 = u32::MAX;
/// `polling` value that waits for any port.
pub const POLL_ANY: u32 = u32::MAX;

/// Time spent in each `RUNSTATE_*`.
#[derive(Clone, Copy, Debug, Default)]
pub struct Runstate {
    /// The state now.
    pub state: i32,
    /// Since when, ns since boot.
    pub entered_ns: u64,
    /// Sum per state, ns.
    pub time_ns: [u64; 4],
    /// Where the guest wants it: a linear address of its kernel.
    pub guest_area: u64,
}

impl Runstate {
    /// Moves to `state` at `now`.
    pub fn enter(&mut self, state: i32, now_ns: u64) {
        let spent = now_ns.saturating_sub(self.entered_ns);
        if let Some(sum) = usize::try_from(self.state).ok().and_then(|i| self.time_ns.get_mut(i)) {
            *sum = sum.saturating_add(spent);
        }
        self.state = state;
        self.entered_ns = now_ns;
    }

    /// How long it has run in all, at `now`.
    pub fn ran_ns(&self, now_ns: u64) -> u64 {
        let before = usize::try_from(RUNSTATE_running).ok().and_then(|i| self.time_ns.get(i)).copied().unwrap_or(0);
        let since = if self.state == RUNSTATE_running { now_ns.saturating_sub(self.entered_ns) } else { 0 };
        before.saturating_add(since)
    }
}

impl VcpuState {
    /// A vCPU with nothing set up.
    ///
    /// # Errors
    /// None when memory is short.
    pub fn new() -> Option<Self> {
        let mut traps = Vec::new();
        traps.try_reserve_exact(256).ok()?;
        traps.resize(256, TrapGate::default());
        let traps: Box<[TrapGate; 256]> = traps.into_boxed_slice().try_into().ok()?;
        Some(Self {
            regs: GuestRegs::default(),
            in_kernel: true,
            kernel_root: None,
            user_root: None,
            xmode: None,
            wishes: Wishes::default(),
            kernel_sp: 0,
            kernel_ss: 0,
            traps,
            event: Callback::default(),
            failsafe: Callback::default(),
            syscall: Callback::default(),
            syscall32: Callback::default(),
            sysenter: Callback::default(),
            nmi: Callback::default(),
            gdt: [None; GDT_FRAMES],
            gdt_entries: 0,
            ldt_base: 0,
            ldt_entries: 0,
            ldt: [None; 16],
            segments: Segments::default(),
            task_switched: false,
            cr4: 0,
            iopl: 0,
            xcr0: 1,
            debug: [0, 0, 0, 0, debugreg::RESET[0], debugreg::RESET[1]],
            fpu: FpuArea::new()?,
            failsafe_pending: false,
        })
    }

    /// The handler of exception `vector`.
    pub fn gate(&self, vector: u8) -> TrapGate {
        // There is one for every vector.
        self.traps.get(usize::from(vector)).copied().unwrap_or_default()
    }

    /// The root that belongs in CR3 now.
    pub fn root(&self) -> Option<Mfn> {
        if self.has_kernel_tables() { self.kernel_root } else { self.user_root }
    }

    /// Whether the kernel's page table and GS base are loaded while it runs: in X-mode they always are.
    pub fn has_kernel_tables(&self) -> bool {
        self.in_kernel || self.xmode.is_some()
    }

    /// In X-mode, tells by the stack pointer who runs: the kernel has the upper half.
    pub fn see_mode(&mut self, rsp: u64) {
        if self.xmode.is_some() {
            self.in_kernel = rsp >> 63 != 0;
        }
    }
}

impl Vcpu {
    /// vCPU `id` of `domain`, offline.
    ///
    /// # Errors
    /// None when memory is short.
    pub fn new(domain: &Weak<Domain>, id: u32, key: u32, info_maddr: u64) -> Option<Arc<Self>> {
        Some(Arc::new(Self {
            id,
            key,
            domain: domain.clone(),
            state: SpinLock::new(VcpuState::new()?),
            info_maddr: AtomicU64::new(info_maddr),
            online: AtomicBool::new(false),
            blocked: AtomicBool::new(false),
            polling: AtomicU32::new(0),
            initialised: AtomicBool::new(false),
            last_cpu: AtomicU32::new(NO_CPU),
            on_cpu: AtomicBool::new(false),
            nmi_pending: AtomicBool::new(false),
            singleshot_ns: AtomicU64::new(0),
            period_ns: AtomicU64::new(0),
            period_next_ns: AtomicU64::new(0),
            timer_ns: AtomicU64::new(0),
            poll_ns: AtomicU64::new(0),
            runstate: SpinLock::new(Runstate { state: RUNSTATE_offline, ..Runstate::default() }),
        }))
    }

    /// The domain, unless it is being taken apart.
    pub fn domain(&self) -> Option<Arc<Domain>> {
        self.domain.upgrade()
    }

    /// The earliest deadline of its timers, ns since boot.
    pub fn next_deadline(&self) -> Option<u64> {
        let period = if self.period_ns.load(Ordering::Relaxed) == 0 { 0 } else { self.period_next_ns.load(Ordering::Relaxed) };
        [self.singleshot_ns.load(Ordering::Relaxed), self.timer_ns.load(Ordering::Relaxed), self.poll_ns.load(Ordering::Relaxed), period]
            .into_iter()
            .filter(|&t| t != 0)
            .min()
    }

    /// Whether the scheduler may run it.
    pub fn runnable(&self) -> bool {
        self.online.load(Ordering::Acquire) && !self.blocked.load(Ordering::Acquire)
    }

    /// The `RUNSTATE_*` that describes it while it does not run.
    pub fn idle_runstate(&self) -> i32 {
        if !self.online.load(Ordering::Acquire) {
            RUNSTATE_offline
        } else if self.blocked.load(Ordering::Acquire) {
            RUNSTATE_blocked
        } else {
            RUNSTATE_runnable
        }
    }

    /// The `RUNSTATE_*` of a running vCPU.
    pub const RUNNING: i32 = RUNSTATE_running;
}
