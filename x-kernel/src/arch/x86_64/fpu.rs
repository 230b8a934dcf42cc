//! Floating-point and vector state of vCPUs, saved and restored eagerly.
//!
//! The X-Kernel itself is built without these registers, so they always hold the state of the vCPU that runs.
//! XSAVE where the CPU has it, FXSAVE otherwise.

// UNSAFETY: the save and restore instructions, and the areas they use.
#![expect(unsafe_code, reason = "XSAVE and FXSAVE work on raw memory")]

use alloc::alloc::{alloc_zeroed, dealloc};
use core::alloc::Layout;
use core::arch::asm;
use core::ptr::NonNull;

use crate::percpu;
use crate::sync::InitOnce;

/// x87, SSE, AVX, and the three AVX-512 components: what a guest may switch on.
const ALLOWED_XCR0: u64 = 0b1110_0111;

/// How this machine saves state.
#[derive(Clone, Copy, Debug)]
pub struct FpuFormat {
    /// Components that XSAVE handles for guests; 0 where only FXSAVE exists.
    pub xcr0: u64,
    /// Bytes of an area.
    pub size: usize,
}

static FORMAT: InitOnce<FpuFormat> = InitOnce::new();

/// CPUID.1:ECX.XSAVE
const XSAVE: u32 = 1 << 26;
/// CR4.OSXSAVE
const CR4_OSXSAVE: u64 = 1 << 18;

/// Finds the format and switches XSAVE on. Once per CPU, before guests run.
pub fn init() {
    let has_xsave = core::arch::x86_64::__cpuid(1).ecx & XSAVE != 0;
    let format = if has_xsave {
        let cr4: u64;
        // SAFETY: sets CR4.OSXSAVE on a CPU that has XSAVE.
        unsafe { asm!("mov {0}, cr4", "or {0}, {1}", "mov cr4, {0}", out(reg) cr4, in(reg) CR4_OSXSAVE, options(nostack)) };
        let _ = cr4;
        let leaf = core::arch::x86_64::__cpuid_count(0xd, 0);
        let supported = u64::from(leaf.edx) << 32 | u64::from(leaf.eax);
        let xcr0 = supported & ALLOWED_XCR0;
        write_xcr0(xcr0);
        let size = core::arch::x86_64::__cpuid_count(0xd, 0).ebx as usize;
        FpuFormat { xcr0, size: size.max(576) }
    } else {
        FpuFormat { xcr0: 0, size: 512 }
    };
    let _ = FORMAT.set(format);
}

/// The format found by [`init`].
pub fn format() -> FpuFormat {
    FORMAT.get().copied().unwrap_or(FpuFormat { xcr0: 0, size: 512 })
}

/// Whether `xcr0` is a value that a guest may load (SDM vol. 1, 13.3).
pub fn valid_xcr0(xcr0: u64) -> bool {
    let avx512 = xcr0 & 0xe0;
    xcr0 & !format().xcr0 == 0 && xcr0 & 1 != 0 && (xcr0 & 4 == 0 || xcr0 & 2 != 0) && (avx512 == 0 || (avx512 == 0xe0 && xcr0 & 4 != 0))
}

/// Loads XCR0 if it is not loaded already.
fn write_xcr0(value: u64) {
    let cell = &percpu::this().xcr0;
    if cell.get() == value {
        return;
    }
    // SAFETY: `value` is a subset of what CPUID reports, with x87 on, checked by `valid_xcr0` or `init`.
    unsafe {
        asm!("xsetbv", in("ecx") 0, in("eax") (value & 0xffff_ffff) as u32, in("edx") (value >> 32) as u32, options(nomem, nostack));
    }
    cell.set(value);
}

/// One vCPU's saved state.
pub struct FpuArea {
    bytes: NonNull<u8>,
    layout: Layout,
}

// SAFETY: the area is plain memory owned by this value alone.
unsafe impl Send for FpuArea {}

impl FpuArea {
    /// An area in the processor's initial state, or None when memory is short.
    pub fn new() -> Option<Self> {
        let layout = Layout::from_size_align(format().size, 64).ok()?;
        // SAFETY: the layout's size is not zero.
        let bytes = NonNull::new(unsafe { alloc_zeroed(layout) })?;
        let area = Self { bytes, layout };
        // SAFETY: offsets 0 (FCW, 2 bytes) and 24 (MXCSR, 4 bytes) lie inside the 512-byte legacy region.
        unsafe { area.bytes.as_ptr().cast::<u16>().write(0x37f) };
        let mxcsr = area.bytes.as_ptr().wrapping_add(24).cast::<u32>();
        // SAFETY: as above.
        unsafe { mxcsr.write(0x1f80) };
        Some(area)
    }

    /// Saves the registers of the vCPU that runs. CR0.TS must be clear.
    pub fn save(&mut self) {
        let format = format();
        let at = self.bytes.as_ptr();
        if format.xcr0 == 0 {
            // SAFETY: the area has 512 bytes, aligned to 64.
            unsafe { asm!("fxsave64 [{}]", in(reg) at, options(nostack)) };
            return;
        }
        write_xcr0(format.xcr0);
        // SAFETY: the area has the size that CPUID gives for these components, aligned to 64.
        unsafe { asm!("xsave64 [{}]", in(reg) at, in("eax") u32::MAX, in("edx") u32::MAX, options(nostack)) };
    }

    /// Loads the registers, and XCR0 as the guest has set it. CR0.TS must be clear.
    pub fn restore(&self, xcr0: u64) {
        let format = format();
        let at = self.bytes.as_ptr();
        if format.xcr0 == 0 {
            // SAFETY: the area was written by `new` or `save` only.
            unsafe { asm!("fxrstor64 [{}]", in(reg) at, options(nostack)) };
            return;
        }
        write_xcr0(format.xcr0);
        // SAFETY: as above; nothing but `new` and `save` writes the area, so its header is valid.
        unsafe { asm!("xrstor64 [{}]", in(reg) at, in("eax") u32::MAX, in("edx") u32::MAX, options(nostack)) };
        write_xcr0(xcr0);
    }
}

impl Drop for FpuArea {
    fn drop(&mut self) {
        // SAFETY: allocated in `new` with this layout.
        unsafe { dealloc(self.bytes.as_ptr(), self.layout) };
    }
}

/// Gives the running vCPU another XCR0, valid by [`valid_xcr0`].
pub fn switch_xcr0(state: &mut crate::domain::vcpu::VcpuState, xcr0: u64) {
    state.xcr0 = xcr0;
    write_xcr0(xcr0);
}
