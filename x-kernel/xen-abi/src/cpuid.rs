//! CPUID leaves of the hypervisor (arch-x86/cpuid.h), at [`XEN_CPUID_FIRST_LEAF`] for PV guests.

/// Leaf 0: highest leaf in eax, signature in ebx, ecx, edx. Leaf 1: version. Leaf 2: hypercall pages, MSR base,
/// features. Leaf 3: TSC. Leaf 4: HVM. Leaf 5: PV.
pub const XEN_CPUID_FIRST_LEAF: u32 = 0x4000_0000;
/// `XenV`.
pub const XEN_CPUID_SIGNATURE_EBX: u32 = 0x566e_6558;
/// `MMXe`.
pub const XEN_CPUID_SIGNATURE_ECX: u32 = 0x6558_4d4d;
/// `nVMM`.
pub const XEN_CPUID_SIGNATURE_EDX: u32 = 0x4d4d_566e;
/// Leaf 2 ecx: `MMU_PT_UPDATE_PRESERVE_AD` is available.
pub const XEN_CPUID_FEAT1_MMU_PT_UPDATE_PRESERVE_AD: u32 = 1 << 0;
/// Leaf 5 ebx: bits of a machine address.
pub const XEN_CPUID_MACHINE_ADDRESS_WIDTH_MASK: u32 = 0xff;
/// The highest leaf, counted from the first.
pub const XEN_CPUID_MAX_NUM_LEAVES: u32 = 5;
