//! Model-specific registers as a guest kernel sees them: a short list, everything else is `#GP`.

use crate::arch::x86_64::{context, tsc};
use crate::domain::vcpu::VcpuState;
use crate::mm::layout;

const TSC: u32 = 0x10;
const APIC_BASE: u32 = 0x1b;
const MICROCODE_REVISION: u32 = 0x8b;
const MISC_ENABLE: u32 = 0x1a0;
const DEBUGCTL: u32 = 0x1d9;
const PAT: u32 = 0x277;
const EFER: u32 = 0xc000_0080;
const FS_BASE: u32 = 0xc000_0100;
const GS_BASE: u32 = 0xc000_0101;
const KERNEL_GS_BASE: u32 = 0xc000_0102;
/// AMD's: what happens when the processor halts.
const INT_PENDING: u32 = 0xc001_0055;

/// The PAT of the PV ABI: WB, WT, UC-, UC, WC, WP, UC, UC by index (xen/arch-x86/xen.h leaves it to the
/// hypervisor; Linux reads it and adapts).
pub const PAT_VALUE: u64 = 0x0000_0501_0007_0406;
/// EFER as shown: SCE, LME, LMA, NXE.
const EFER_SHOWN: u64 = 1 | 1 << 8 | 1 << 10 | 1 << 11;

/// `rdmsr`; None is `#GP`.
pub fn read(index: u32, state: &mut VcpuState) -> Option<u64> {
    context::save_bases(state);
    Some(match index {
        FS_BASE => state.segments.fs_base,
        GS_BASE => state.segments.gs_base_kernel,
        KERNEL_GS_BASE => state.segments.gs_base_user,
        EFER => EFER_SHOWN,
        PAT => PAT_VALUE,
        TSC => tsc::read(),
        // Enabled, boot CPU; no APIC behind it that answers.
        APIC_BASE => 0xfee0_0900,
        // No branch is recorded or trapped.
        MICROCODE_REVISION | DEBUGCTL => 0,
        // Branch trace and precise sampling are not available.
        MISC_ENABLE => 1 << 11 | 1 << 12 | 1,
        // No C1E, which would stop timers: Linux asks on processors that have that fault.
        INT_PENDING => 0,
        _ => return None,
    })
}

/// `wrmsr`; None is `#GP`.
pub fn write(index: u32, value: u64, state: &mut VcpuState) -> Option<()> {
    match index {
        FS_BASE | GS_BASE | KERNEL_GS_BASE => {
            if !layout::is_canonical(value) {
                return None;
            }
            context::save_bases(state);
            match index {
                FS_BASE => state.segments.fs_base = value,
                GS_BASE => state.segments.gs_base_kernel = value,
                _ => state.segments.gs_base_user = value,
            }
            context::load_bases(state);
        }
        EFER => (value & !EFER_SHOWN == 0).then_some(())?,
        PAT => (value == PAT_VALUE).then_some(())?,
        DEBUGCTL => (value == 0).then_some(())?,
        MICROCODE_REVISION | MISC_ENABLE => {}
        _ => return None,
    }
    Some(())
}
