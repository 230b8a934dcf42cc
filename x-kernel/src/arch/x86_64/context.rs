//! What a CPU carries for the vCPU that runs on it, beyond the general registers: page-table root, segments and
//! their bases, debug registers, CR0.TS, CR4 and the FPU; loading and saving it, and switching a PV guest
//! between its kernel and its user page table.

// UNSAFETY: loads control, segment and debug registers.
#![expect(unsafe_code, reason = "the instructions that hold a vCPU's context")]

use core::arch::asm;

use pv_core::debugreg;
use pv_core::frame::Mfn;

use super::msr;
use super::tlb;
use crate::domain::Domain;
use crate::domain::vcpu::{Segments, VcpuState};
use crate::percpu;
use crate::perf;
use crate::pv::emulate::cr4;
use crate::sync::InitOnce;

const FS_BASE: u32 = 0xc000_0100;
const GS_BASE: u32 = 0xc000_0101;
const KERNEL_GS_BASE: u32 = 0xc000_0102;
const CR0_TS: u64 = 1 << 3;
/// DR7 bits that are set whatever is written, and DR6's.
const DR7_FIXED: u64 = 0x400;

/// CR4 as the X-Kernel wants it, before a guest's choice.
static BASE_CR4: InitOnce<u64> = InitOnce::new();

fn read_cr4() -> u64 {
    let value: u64;
    // SAFETY: reads a register.
    unsafe { asm!("mov {}, cr4", out(reg) value, options(nomem, nostack, preserves_flags)) };
    value
}

/// Records CR4 as the boot path has left it. After `fpu::init`.
pub fn init() {
    let _ = BASE_CR4.set(read_cr4() & !(cr4::TSD | cr4::DE | cr4::FSGSBASE));
}

/// The CR4 bits that this machine lets a guest choose.
pub fn cr4_offered() -> u64 {
    let leaf7 = if core::arch::x86_64::__cpuid(0).eax >= 7 { core::arch::x86_64::__cpuid_count(7, 0).ebx } else { 0 };
    let fsgsbase = if leaf7 & 1 != 0 { cr4::FSGSBASE } else { 0 };
    let osxsave = if super::fpu::format().xcr0 != 0 { cr4::OSXSAVE } else { 0 };
    cr4::TSD | cr4::DE | fsgsbase | osxsave
}

/// Loads CR4 with the guest's choice over the X-Kernel's own (XSA-293: never from the live register).
pub fn apply_cr4(state: &VcpuState) {
    let Some(base) = BASE_CR4.get() else { return };
    let value = base | (state.cr4 & (cr4::TSD | cr4::DE | cr4::FSGSBASE));
    if value != read_cr4() {
        // SAFETY: only bits that concern ring 3 differ from what the boot path set.
        unsafe { asm!("mov cr4, {}", in(reg) value, options(nostack, preserves_flags)) };
    }
}

/// The faulting address of the last page fault.
pub fn read_cr2() -> u64 {
    let value: u64;
    // SAFETY: reads a register.
    unsafe { asm!("mov {}, cr2", out(reg) value, options(nomem, nostack, preserves_flags)) };
    value
}

/// Clears CR0.TS.
pub fn clear_ts() {
    // SAFETY: the X-Kernel uses no FPU instructions but those that save and restore.
    unsafe { asm!("clts", options(nomem, nostack, preserves_flags)) };
}

/// Sets CR0.TS if the guest has it set.
pub fn apply_ts(state: &VcpuState) {
    if !state.task_switched {
        clear_ts();
        return;
    }
    // SAFETY: as in `clear_ts`.
    unsafe {
        asm!("mov {0}, cr0", "or {0}, {1}", "mov cr0, {0}", out(reg) _, in(reg) CR0_TS, options(nostack));
    }
}

/// Takes DR6's condition bits and clears them.
pub fn take_dr6() -> u64 {
    let value: u64;
    // SAFETY: reads DR6 and sets it to its quiet value.
    unsafe { asm!("mov {0}, dr6", "mov dr6, {1}", out(reg) value, in(reg) 0xffff_0ff0u64, options(nomem, nostack, preserves_flags)) };
    value & 0xe00f
}

/// Loads the debug registers if the vCPU uses breakpoints.
pub fn load_debug(debug: &[u64; 6]) {
    // SAFETY: the addresses were checked to be canonical and outside the X-Kernel when the guest set them.
    unsafe {
        asm!("mov dr0, {}", "mov dr1, {}", "mov dr2, {}", "mov dr3, {}", "mov dr6, {}", "mov dr7, {}",
            in(reg) debug[0], in(reg) debug[1], in(reg) debug[2], in(reg) debug[3], in(reg) debug[4], in(reg) debugreg::for_cpu(debug[5]),
            options(nomem, nostack, preserves_flags));
    }
}

/// Switches all breakpoints off.
fn quiet_debug() {
    // SAFETY: no breakpoint is armed afterwards.
    unsafe { asm!("mov dr7, {}", in(reg) DR7_FIXED, options(nomem, nostack, preserves_flags)) };
}

/// Loads CR3 with `root`, which the caller holds counted as an L4 table (or is the X-Kernel's own).
fn load_root(root: Mfn) {
    let cpu = percpu::this();
    let maddr = root.maddr().raw();
    cpu.shared.root.store(maddr, core::sync::atomic::Ordering::Release);
    perf::bump(&cpu.counters.cr3_loads);
    // SAFETY: every L4 that is validated carries the X-Kernel's own slots, so its code and stack stay mapped.
    unsafe { asm!("mov cr3, {}", in(reg) maddr, options(nostack, preserves_flags)) };
}

/// Loads the root that the vCPU's mode needs.
pub fn load_guest_root(domain: &Domain, state: &VcpuState) {
    match state.root() {
        Some(root) => {
            domain.counters.cr3_loads.bump();
            load_root(root);
        }
        None => load_idle_root(),
    }
}

/// Leaves every guest's address space.
pub fn load_idle_root() {
    load_root(crate::mm::hyp_pt::idle_l4());
}

/// Exchanges GS_BASE and KERNEL_GS_BASE.
fn swapgs() {
    // SAFETY: the X-Kernel does not use GS.
    unsafe { asm!("swapgs", options(nomem, nostack, preserves_flags)) };
}

/// From user to kernel mode: the guest kernel's page table and GS base.
pub fn to_kernel_mode(domain: &Domain, state: &mut VcpuState) {
    if state.in_kernel {
        return;
    }
    state.in_kernel = true;
    switch_tables(domain, state);
}

/// From kernel to user mode. The caller has seen a user root.
pub fn to_user_mode(domain: &Domain, state: &mut VcpuState) {
    if !state.in_kernel {
        return;
    }
    state.in_kernel = false;
    switch_tables(domain, state);
}

/// Loads what belongs to the mode that has just been entered, where the modes differ.
fn switch_tables(domain: &Domain, state: &VcpuState) {
    if state.xmode.is_none() {
        domain.counters.mode_switches.bump();
        swapgs();
        load_guest_root(domain, state);
    }
}

/// Reads the segment bases of the running vCPU into its state: user code may have changed them by `wrfsbase`.
pub fn save_bases(state: &mut VcpuState) {
    let kernel_active = state.has_kernel_tables();
    let s = &mut state.segments;
    s.fs_base = msr::read(FS_BASE);
    let (active, inactive) = (msr::read(GS_BASE), msr::read(KERNEL_GS_BASE));
    (s.gs_base_kernel, s.gs_base_user) = if kernel_active { (active, inactive) } else { (inactive, active) };
}

/// Loads the segment bases of the running vCPU. They are canonical: checked where guests set them.
pub fn load_bases(state: &VcpuState) {
    let s = &state.segments;
    let (active, inactive) =
        if state.has_kernel_tables() { (s.gs_base_kernel, s.gs_base_user) } else { (s.gs_base_user, s.gs_base_kernel) };
    msr::write(FS_BASE, s.fs_base);
    msr::write(GS_BASE, active);
    msr::write(KERNEL_GS_BASE, inactive);
}

macro_rules! selectors {
    ($($save:ident $load:ident $reg:literal;)*) => {$(
        fn $save() -> u16 {
            let value: u16;
            // SAFETY: reads a selector.
            unsafe { asm!(concat!("mov {0:x}, ", $reg), out(reg) value, options(nomem, nostack, preserves_flags)) };
            value
        }

        /// Loads the selector; false, and a null selector instead, when its descriptor does not allow it.
        fn $load(value: u16) -> bool {
            let failed: u32;
            // SAFETY: a refused load is caught by the exception table and replaced by the null selector; the
            // X-Kernel itself addresses nothing through this register.
            unsafe {
                asm!(
                    "xor {failed:e}, {failed:e}",
                    concat!("2: mov ", $reg, ", {value:x}"),
                    "jmp 4f",
                    "3: mov {failed:e}, 0",
                    concat!("mov ", $reg, ", {failed:x}"),
                    "mov {failed:e}, 1",
                    "4:",
                    ".pushsection .ex_table, \"a\"",
                    ".balign 8",
                    ".quad 2b, 3b",
                    ".popsection",
                    failed = out(reg) failed,
                    value = in(reg) value,
                    options(nostack)
                );
            }
            failed == 0
        }
    )*};
}

selectors! {
    save_ds load_ds "ds";
    save_es load_es "es";
    save_fs load_fs "fs";
    save_gs load_gs "gs";
}

/// Takes the running vCPU's context off the CPU.
pub fn save(state: &mut VcpuState) {
    if state.task_switched {
        clear_ts();
    }
    state.fpu.save();
    save_bases(state);
    let Segments { ds, es, fs, gs, .. } = &mut state.segments;
    (*ds, *es, *fs, *gs) = (save_ds(), save_es(), save_fs(), save_gs());
    if debugreg::arms(state.debug[5]) {
        quiet_debug();
    }
}

/// Puts a vCPU's context on the CPU: tables first, because the selectors need them.
pub fn load(domain: &Domain, vcpu_id: u32, state: &mut VcpuState) {
    load_guest_root(domain, state);
    tlb::flush_local_global();
    load_descriptor_tables(vcpu_id, state);
    let s = state.segments;
    let loaded = [load_ds(s.ds), load_es(s.es), load_fs(s.fs), load_gs(s.gs)];
    if loaded.contains(&false) {
        state.failsafe_pending = true;
    }
    load_bases(state);
    apply_cr4(state);
    clear_ts();
    state.fpu.restore(state.xcr0);
    apply_ts(state);
    if debugreg::arms(state.debug[5]) {
        load_debug(&state.debug);
    }
}

/// Points the CPU at the vCPU's GDT and LDT, which its domain's own area maps.
pub fn load_descriptor_tables(vcpu_id: u32, state: &VcpuState) {
    super::gdt::load_guest(crate::mm::layout::guest_gdt(vcpu_id), crate::mm::layout::guest_ldt(vcpu_id), state.ldt_entries);
}

/// Puts the CPU's own descriptor tables and root back, before a domain's tables go away.
pub fn leave_guest() {
    super::gdt::load_own();
    load_idle_root();
}

/// Loads `selector` as the GS of user mode (SEGBASE_GS_USER_SEL): its base becomes the user base.
pub fn load_user_gs(state: &mut VcpuState, selector: u16) {
    save_bases(state);
    swapgs();
    let loaded = load_gs(selector);
    let base = msr::read(GS_BASE);
    swapgs();
    if loaded {
        state.segments.gs_base_user = base;
    }
    load_bases(state);
}
