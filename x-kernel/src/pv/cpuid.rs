//! CPUID as a guest sees it: the machine's, less what the X-Kernel keeps or a PV guest cannot use, plus the
//! hypervisor leaves of the public ABI (xen/arch-x86/cpuid.h).

use core::arch::x86_64::__cpuid_count;

use xen_abi::xmode::{XMODE_CPUID, XMODE_CPUID_SIGNATURE, XMODE_CPUID_VERSION, XMODE_VERSION};

use super::emulate::cr4;
use crate::arch::x86_64::{context, fpu};
use crate::domain::vcpu::{Vcpu, VcpuState};

/// First hypervisor leaf.
const HYPERVISOR: u32 = 0x4000_0000;
/// Xen 4.17: the version whose PV ABI is followed.
const VERSION: u32 = 4 << 16 | 17;
/// `XEN_CPUID_FEAT1_MMU_PT_UPDATE_PRESERVE_AD`
const PRESERVE_AD: u32 = 1;

/// Leaf 1 ecx: MONITOR, VMX, SMX, EST, TM2, PDCM, PCID, DCA, x2APIC, TSC-deadline are not offered.
const HIDE_1C: u32 = 1 << 2 | 1 << 3 | 1 << 5 | 1 << 6 | 1 << 7 | 1 << 8 | 1 << 15 | 1 << 17 | 1 << 18 | 1 << 21 | 1 << 24 | OSXSAVE_1C;
const OSXSAVE_1C: u32 = 1 << 27;
const HYPERVISOR_1C: u32 = 1 << 31;
/// Leaf 1 edx: VME, PSE, MCE, SEP (a guest cannot enter its kernel by `sysenter`), MTRR, PGE, MCA, PSE36, DS, ACPI, TM, PBE. Page sizes, global pages and machine checks
/// are the X-Kernel's.
const HIDE_1D: u32 =
    1 << 1 | 1 << 3 | 1 << 7 | 1 << 11 | 1 << 12 | 1 << 13 | 1 << 14 | 1 << 17 | 1 << 21 | 1 << 22 | 1 << 28 | 1 << 29 | 1 << 31;
/// Leaf 7 ebx, what is offered: FSGSBASE, BMI1, AVX2, BMI2, ERMS, AVX512F/DQ/IFMA/CD/BW/VL, RDSEED, ADX, CLFLUSHOPT, CLWB, SHA.
const SHOW_7B: u32 = 1
    | 1 << 3
    | 1 << 5
    | 1 << 8
    | 1 << 9
    | 1 << 16
    | 1 << 17
    | 1 << 18
    | 1 << 19
    | 1 << 21
    | 1 << 23
    | 1 << 24
    | 1 << 28
    | 1 << 29
    | 1 << 30
    | 1 << 31;
/// Leaf 7 ecx: AVX512-VBMI/VBMI2/VNNI/BITALG/VPOPCNTDQ, GFNI, VAES, VPCLMULQDQ.
const SHOW_7C: u32 = 1 << 1 | 1 << 6 | 1 << 8 | 1 << 9 | 1 << 10 | 1 << 11 | 1 << 12 | 1 << 14;
/// Leaf 7 edx: FSRM.
const SHOW_7D: u32 = 1 << 4;
/// 0x80000001 ecx: LAHF, ABM, SSE4A, misaligned SSE, 3DNow prefetch, XOP, FMA4, TBM.
const SHOW_E1C: u32 = 1 | 1 << 5 | 1 << 6 | 1 << 7 | 1 << 8 | 1 << 11 | 1 << 16 | 1 << 21;
/// 0x80000001 edx: PSE, MTRR, PGE, PSE36, 1 GiB pages, RDTSCP.
const HIDE_E1D: u32 = 1 << 3 | 1 << 7 | 1 << 12 | 1 << 13 | 1 << 14 | 1 << 17 | 1 << 26 | 1 << 27;

/// eax, ebx, ecx, edx of a leaf.
pub fn guest(vcpu: &Vcpu, state: &VcpuState, leaf: u32, sub: u32) -> [u32; 4] {
    if (HYPERVISOR..HYPERVISOR + 0x100).contains(&leaf) {
        return hypervisor(leaf);
    }
    if (XMODE_CPUID..XMODE_CPUID + 0x100).contains(&leaf) {
        return if vcpu.domain().is_some_and(|d| d.xmode) { xmode(leaf) } else { [0; 4] };
    }
    let max = __cpuid_count(leaf & 0x8000_0000, 0).eax;
    if leaf > max {
        return [0; 4];
    }
    let raw = __cpuid_count(leaf, sub);
    let [mut a, mut b, mut c, mut d] = [raw.eax, raw.ebx, raw.ecx, raw.edx];
    match leaf {
        0 => a = a.min(0xd),
        1 => {
            b = (b & 0x0000_ffff) | 1 << 16 | vcpu.id << 25;
            c = (c & !HIDE_1C) | HYPERVISOR_1C;
            d &= !HIDE_1D;
            if fpu::format().xcr0 == 0 {
                // Without XSAVE there is no AVX, F16C or FMA either.
                c &= !(1 << 26 | 1 << 28 | 1 << 29 | 1 << 12);
            } else {
                // Not CR4's bit: Linux as a PV guest uses XSAVE only where OSXSAVE is set before it has set it, because
                // the reference always showed the hypervisor's own.
                c |= OSXSAVE_1C;
            }
        }
        // Power, performance monitoring, topology, cache monitoring: not a guest's.
        3 | 5 | 6 | 9..=0xc => [a, b, c, d] = [0; 4],
        4 => a &= 0x0000_3fff,
        7 => {
            if sub != 0 {
                return [0; 4];
            }
            a = 0;
            b &= SHOW_7B;
            if context::cr4_offered() & cr4::FSGSBASE == 0 {
                b &= !1;
            }
            c &= SHOW_7C;
            d &= SHOW_7D;
        }
        0xd => return xsave(state, sub, [a, b, c, d]),
        0x8000_0001 => {
            c &= SHOW_E1C;
            d &= !HIDE_E1D;
        }
        // Invariant TSC only.
        0x8000_0007 => [a, b, c, d] = [0, 0, 0, d & 1 << 8],
        0x8000_0008 => [b, c, d] = [0, 0, 0],
        0x8000_000a.. => [a, b, c, d] = [0; 4],
        _ => {}
    }
    [a, b, c, d]
}

/// Leaf 0xd: the components that a guest may switch on.
fn xsave(state: &VcpuState, sub: u32, [a, b, c, d]: [u32; 4]) -> [u32; 4] {
    let allowed = fpu::format().xcr0;
    match sub {
        0 => {
            let size = component_end(state.xcr0);
            [(allowed & 0xffff_ffff) as u32, size, component_end(allowed), (allowed >> 32) as u32]
        }
        // XSAVEOPT and XSAVEC; no supervisor state.
        1 => [a & 0b11, component_end(state.xcr0), 0, 0],
        2..=63 if allowed >> sub & 1 != 0 => [a, b, c, d],
        _ => [0; 4],
    }
}

/// Bytes of an XSAVE area in standard format for `xcr0`.
fn component_end(xcr0: u64) -> u32 {
    (2..63u32).filter(|i| xcr0 >> i & 1 != 0).fold(576, |end, i| {
        let leaf = __cpuid_count(0xd, i);
        end.max(leaf.eax.saturating_add(leaf.ebx))
    })
}

fn hypervisor(leaf: u32) -> [u32; 4] {
    match leaf.wrapping_sub(HYPERVISOR) {
        0 => [HYPERVISOR + 2, u32::from_le_bytes(*b"XenV"), u32::from_le_bytes(*b"MMXe"), u32::from_le_bytes(*b"nVMM")],
        1 => [VERSION, 0, 0, 0],
        2 => [1, HYPERVISOR, PRESERVE_AD, 0],
        _ => [0; 4],
    }
}

/// Our own leaves.
fn xmode(leaf: u32) -> [u32; 4] {
    let name = |part: usize| XMODE_CPUID_SIGNATURE.as_chunks().0.get(part).map_or(0, |&bytes| u32::from_le_bytes(bytes));
    match leaf {
        XMODE_CPUID => [XMODE_CPUID_VERSION, name(0), name(1), name(2)],
        XMODE_CPUID_VERSION => [XMODE_VERSION, 0, 0, 0],
        _ => [0; 4],
    }
}
