//! Privileged instructions of a guest, emulated after their `#GP`, and the forced-emulation `cpuid`.
//!
//! Answers to Xen's pv/emul-priv-op.c. They are the guest kernel's; in user mode they fault as they would on bare
//! hardware (XSA-105, 110), but for the few that the I/O privilege level opens. What is not listed is refused.

use alloc::sync::Arc;
use core::sync::atomic::Ordering;

use iced_x86::{Instruction, Mnemonic, OpKind, Register};
use pv_core::cmos;
use xen_abi::errno::Errno;
use xen_abi::version::VMASST_TYPE_architectural_iopl;

use super::{cpuid, debugreg, fetch, gpr, msr, vcpu_info};
use crate::arch::x86_64::entry::GuestRegs;
use crate::arch::x86_64::{context, fpu, rtc, tsc};
use crate::domain::Domain;
use crate::domain::vcpu::{Vcpu, VcpuState};
use crate::mm::guest_access;

/// `ud2; .ascii "xen"`: the prefix of an instruction that a guest wants emulated (XEN_EMULATE_PREFIX).
const FORCED: [u8; 5] = [0x0f, 0x0b, b'x', b'e', b'n'];
/// `cpuid`.
const CPUID: [u8; 2] = [0x0f, 0xa2];

/// CR0 bits that a guest sees set: PE, MP, ET, NE, WP, AM, PG.
const CR0_SHOWN: u64 = 0x8005_0033;
/// CR0.TS
const CR0_TS: u64 = 1 << 3;

/// CR4 bits.
pub mod cr4 {
    /// Time-stamp disable.
    pub const TSD: u64 = 1 << 2;
    /// Debugging extensions.
    pub const DE: u64 = 1 << 3;
    /// rdfsbase and its kin.
    pub const FSGSBASE: u64 = 1 << 16;
    /// xsave and its kin.
    pub const OSXSAVE: u64 = 1 << 18;
    /// What a guest always sees: PAE, OSFXSR, OSXMMEXCPT.
    pub const SHOWN: u64 = 1 << 5 | 1 << 9 | 1 << 10;
    /// What a guest may choose.
    pub const CHOICE: u64 = TSD | DE | FSGSBASE | OSXSAVE;
}

/// Serves `ud2; "xen"; cpuid`. False when the bytes at rip are something else.
pub fn forced_cpuid(regs: &mut GuestRegs, domain: &Domain, vcpu: &Vcpu, state: &VcpuState) -> bool {
    let mut bytes = [0u8; 7];
    if guest_access::copy_in(regs.rip, &mut bytes).is_err() || bytes[..5] != FORCED || bytes[5..] != CPUID {
        return false;
    }
    domain.counters.instructions_emulated.bump();
    regs.rip = regs.rip.wrapping_add(7);
    load_cpuid(regs, vcpu, state);
    true
}

/// Executes `cpuid` for a guest.
fn load_cpuid(regs: &mut GuestRegs, vcpu: &Vcpu, state: &VcpuState) {
    let [a, b, c, d] = cpuid::guest(vcpu, state, (regs.rax & 0xffff_ffff) as u32, (regs.rcx & 0xffff_ffff) as u32);
    regs.rax = u64::from(a);
    regs.rbx = u64::from(b);
    regs.rcx = u64::from(c);
    regs.rdx = u64::from(d);
}

/// Emulates the privileged instruction at rip. False: the guest gets its `#GP`.
pub fn privileged(regs: &mut GuestRegs, domain: &Arc<Domain>, vcpu: &Vcpu, state: &mut VcpuState) -> bool {
    let Some(instruction) = fetch::instruction(regs.rip) else { return false };
    let allowed = match instruction.mnemonic() {
        Mnemonic::In | Mnemonic::Out | Mnemonic::Cli | Mnemonic::Sti => has_io_privilege(domain, state),
        _ => state.in_kernel,
    };
    if !allowed {
        return false;
    }
    let mut after = *regs;
    after.rip = instruction.next_ip();
    let done = execute(&mut after, &instruction, domain, vcpu, state).is_some();
    if done {
        *regs = after;
    }
    done
}

/// Whether the I/O privilege level that the guest has set lets it use ports and the interrupt flag in its present mode.
/// Its kernel counts as ring 1, with the assist as ring 0; its processes as ring 3.
fn has_io_privilege(domain: &Domain, state: &VcpuState) -> bool {
    let ring = match (state.in_kernel, domain.has_assist(VMASST_TYPE_architectural_iopl)) {
        (true, true) => 0,
        (true, false) => 1,
        (false, _) => 3,
    };
    state.iopl >= ring
}

fn execute(regs: &mut GuestRegs, instruction: &Instruction, domain: &Arc<Domain>, vcpu: &Vcpu, state: &mut VcpuState) -> Option<()> {
    let wide = |regs: &GuestRegs| (regs.rdx & 0xffff_ffff) << 32 | (regs.rax & 0xffff_ffff);
    match instruction.mnemonic() {
        Mnemonic::Cpuid => load_cpuid(regs, vcpu, state),
        Mnemonic::Rdmsr => set_wide(regs, msr::read((regs.rcx & 0xffff_ffff) as u32, state)?),
        Mnemonic::Wrmsr => msr::write((regs.rcx & 0xffff_ffff) as u32, wide(regs), state)?,
        Mnemonic::Mov => move_system(regs, instruction, domain, vcpu, state)?,
        Mnemonic::Clts => {
            state.task_switched = false;
            context::clear_ts();
        }
        Mnemonic::Xsetbv => {
            let value = wide(regs);
            if regs.rcx & 0xffff_ffff != 0 || !fpu::valid_xcr0(value) {
                return None;
            }
            fpu::switch_xcr0(state, value);
        }
        // A kernel that has set TSD reads on.
        Mnemonic::Rdtsc => set_wide(regs, tsc::read()),
        Mnemonic::Rdtscp => {
            let (counter, aux) = tsc::read_beside_aux();
            set_wide(regs, counter);
            regs.rcx = u64::from(aux);
        }
        // A domain without devices has nothing to write back, and cannot mask the machine's interrupts.
        Mnemonic::Wbinvd | Mnemonic::Invd | Mnemonic::Cli | Mnemonic::Sti => {}
        Mnemonic::In => {
            let (destination, from) = (instruction.op0_register(), gpr::source(regs, instruction, 1)?);
            let all_ones = gpr::mask(gpr::size(destination)?);
            gpr::write(regs, destination, clock_byte(domain, from).map_or(all_ones, u64::from))?;
        }
        Mnemonic::Out => {
            let (to, value) = (gpr::source(regs, instruction, 0)?, gpr::source(regs, instruction, 1)?);
            choose_clock_byte(domain, to, value);
        }
        _ => return None,
    }
    Some(())
}

/// Puts a value into edx and eax.
fn set_wide(regs: &mut GuestRegs, value: u64) {
    regs.rax = value & 0xffff_ffff;
    regs.rdx = value >> 32;
}

/// The ports of the clock in CMOS. The initial domain is shown one, because its kernel looks for it, and waits for a long
/// time where there is none.
const CMOS_INDEX: u64 = 0x70;
const CMOS_DATA: u64 = 0x71;

/// What the clock says at `port`, if it is there.
fn clock_byte(domain: &Domain, port: u64) -> Option<u8> {
    let there = domain.initial && port & 0xffff == CMOS_DATA;
    there.then(|| cmos::register(domain.cmos_index.load(Ordering::Relaxed), rtc::wall_seconds()))
}

/// Chooses what the clock says. It cannot be set.
fn choose_clock_byte(domain: &Domain, port: u64, value: u64) {
    if domain.initial && port & 0xffff == CMOS_INDEX {
        // The top bit is another matter.
        domain.cmos_index.store((value & 0x7f) as u8, Ordering::Relaxed);
    }
}

/// The number of a debug register. The decoder numbers them in order; the last eight exist in no CPU.
fn debug_register(register: Register) -> Option<u32> {
    (register as u32).checked_sub(Register::DR0 as u32).filter(|&n| n < 8)
}

/// `mov` between a general register and a control or debug register.
fn move_system(regs: &mut GuestRegs, instruction: &Instruction, domain: &Arc<Domain>, vcpu: &Vcpu, state: &mut VcpuState) -> Option<()> {
    if instruction.op0_kind() != OpKind::Register || instruction.op1_kind() != OpKind::Register {
        return None;
    }
    let (to, from) = (instruction.op0_register(), instruction.op1_register());
    if let Some(n) = debug_register(from) {
        return gpr::write(regs, to, debugreg::get(state, n).ok()?);
    }
    if let Some(n) = debug_register(to) {
        return debugreg::set(state, n, gpr::read(regs, from)?).ok();
    }
    if gpr::size(from).is_none() {
        let value = match from {
            Register::CR0 => CR0_SHOWN | if state.task_switched { CR0_TS } else { 0 },
            Register::CR2 => vcpu_info::cr2(vcpu),
            Register::CR3 => state.kernel_root?.raw() << 12,
            Register::CR4 => cr4::SHOWN | state.cr4,
            _ => return None,
        };
        return gpr::write(regs, to, value);
    }
    let value = gpr::read(regs, from)?;
    match to {
        Register::CR0 => {
            if (value ^ CR0_SHOWN) & !CR0_TS != 0 {
                return None;
            }
            state.task_switched = value & CR0_TS != 0;
            context::apply_ts(state);
        }
        Register::CR2 => vcpu_info::set_cr2(vcpu, value),
        Register::CR3 => match super::mmu::new_base(domain, state, value >> 12) {
            // Checking the table takes longer than a turn: the instruction faults again and goes on.
            Err(Errno::ERESTART) => regs.rip = instruction.ip(),
            done => done.ok()?,
        },
        Register::CR4 => {
            state.cr4 = value & cr4::CHOICE & context::cr4_offered();
            context::apply_cr4(state);
        }
        _ => return None,
    }
    Some(())
}
