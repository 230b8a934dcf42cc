//! x86-64 state of a guest: registers, traps, selectors, the hypervisor's address range
//! (arch-x86/xen.h, arch-x86/xen-x86_64.h).
#![expect(non_upper_case_globals, reason = "C spelling")]

/// First page of the GDT that belongs to the hypervisor.
pub const FIRST_RESERVED_GDT_PAGE: usize = 14;
/// Its first byte.
pub const FIRST_RESERVED_GDT_BYTE: usize = 14 * 4096;
/// Its first entry; a guest's GDT has at most so many.
pub const FIRST_RESERVED_GDT_ENTRY: usize = 14 * 512;

/// 32-bit code, ring 3.
pub const FLAT_RING3_CS32: u16 = 0xe023;
/// 64-bit code, ring 3.
pub const FLAT_RING3_CS64: u16 = 0xe033;
/// 32-bit data, ring 3.
pub const FLAT_RING3_DS32: u16 = 0xe02b;
/// 64-bit data: the null selector.
pub const FLAT_RING3_DS64: u16 = 0x0000;
/// 32-bit stack, ring 3.
pub const FLAT_RING3_SS32: u16 = 0xe02b;
/// 64-bit stack, ring 3.
pub const FLAT_RING3_SS64: u16 = 0xe02b;
/// Code of the guest kernel.
pub const FLAT_KERNEL_CS: u16 = FLAT_RING3_CS64;
/// Data of the guest kernel.
pub const FLAT_KERNEL_DS: u16 = FLAT_RING3_DS64;
/// Stack of the guest kernel.
pub const FLAT_KERNEL_SS: u16 = FLAT_RING3_SS64;
/// Code of the guest's processes.
pub const FLAT_USER_CS: u16 = FLAT_RING3_CS64;
/// Data of the guest's processes.
pub const FLAT_USER_DS: u16 = FLAT_RING3_DS64;
/// Stack of the guest's processes.
pub const FLAT_USER_SS: u16 = FLAT_RING3_SS64;

/// First address that guests leave to the hypervisor.
pub const HYPERVISOR_VIRT_START: u64 = 0xffff_8000_0000_0000;
/// End of that range.
pub const HYPERVISOR_VIRT_END: u64 = 0xffff_8800_0000_0000;
/// The machine-to-physical table: a u64 pfn per mfn, read-only for guests.
pub const MACH2PHYS_VIRT_START: u64 = 0xffff_8000_0000_0000;
/// End of the table's range.
pub const MACH2PHYS_VIRT_END: u64 = 0xffff_8040_0000_0000;
/// Entries of the table at most.
pub const MACH2PHYS_NR_ENTRIES: u64 = (MACH2PHYS_VIRT_END - MACH2PHYS_VIRT_START) >> 3;

/// `set_segment_base`: FS base.
pub const SEGBASE_FS: u32 = 0;
/// `set_segment_base`: GS base of the processes.
pub const SEGBASE_GS_USER: u32 = 1;
/// `set_segment_base`: GS base of the kernel.
pub const SEGBASE_GS_KERNEL: u32 = 2;
/// `set_segment_base`: GS selector of the processes.
pub const SEGBASE_GS_USER_SEL: u32 = 3;

/// `VcpuGuestContext::flags`: `fpu_ctxt` is valid.
pub const VGCF_i387_valid: u64 = 1 << 0;
/// The vCPU is in its kernel.
pub const VGCF_in_kernel: u64 = 1 << 2;
/// The failsafe callback masks events.
pub const VGCF_failsafe_disables_events: u64 = 1 << 3;
/// The system-call callback masks events.
pub const VGCF_syscall_disables_events: u64 = 1 << 4;
/// The vCPU is up.
pub const VGCF_online: u64 = 1 << 5;
/// `IretContext::flags`: the guest was entered by `syscall`: rcx and r11 are not restored.
pub const VGCF_in_syscall: u64 = 1 << 8;

/// Ends an array of [`XenCpuidLeaf`] without sub-leaves.
pub const XEN_CPUID_NO_SUBLEAF: u32 = 0xffff_ffff;

/// The bytes (`ud2a; .ascii "xen"`) that make the hypervisor emulate the `cpuid` behind them.
pub const XEN_EMULATE_PREFIX: [u8; 5] = [0x0f, 0x0b, 0x78, 0x65, 0x6e];

abi_structs! {
    /// One exception handler (`struct trap_info`); an array ends with `address` 0.
    pub struct TrapInfo: 16 {
        /// Vector.
        pub vector: u8,
        /// Bits 0-1: who may raise it by `int` (0 nobody, 3 processes too); bit 2: events are masked on entry.
        pub flags: u8,
        /// Code selector.
        pub cs: u16,
        /// Padding.
        pub _pad0: u32,
        /// Virtual address.
        pub address: u64,
    }

    /// What `iret` finds at the guest's stack pointer (`struct iret_context`).
    pub struct IretContext: 72 {
        /// rax.
        pub rax: u64,
        /// r11, unless [`VGCF_in_syscall`].
        pub r11: u64,
        /// rcx, unless [`VGCF_in_syscall`].
        pub rcx: u64,
        /// `VGCF_*`.
        pub flags: u64,
        /// rip.
        pub rip: u64,
        /// Selector; ring 3 means the processes' mode, any other the kernel's.
        pub cs: u64,
        /// rflags; IF stands for the event mask, inverted.
        pub rflags: u64,
        /// rsp.
        pub rsp: u64,
        /// ss.
        pub ss: u64,
    }

    /// `struct cpu_user_regs`.
    pub struct CpuUserRegs: 200 {
        /// r15.
        pub r15: u64,
        /// r14.
        pub r14: u64,
        /// r13.
        pub r13: u64,
        /// r12.
        pub r12: u64,
        /// rbp.
        pub rbp: u64,
        /// rbx.
        pub rbx: u64,
        /// r11.
        pub r11: u64,
        /// r10.
        pub r10: u64,
        /// r9.
        pub r9: u64,
        /// r8.
        pub r8: u64,
        /// rax.
        pub rax: u64,
        /// rcx.
        pub rcx: u64,
        /// rdx.
        pub rdx: u64,
        /// rsi.
        pub rsi: u64,
        /// rdi.
        pub rdi: u64,
        /// Private to the hypervisor.
        pub error_code: u32,
        /// Private to the hypervisor.
        pub entry_vector: u32,
        /// rip.
        pub rip: u64,
        /// cs.
        pub cs: u16,
        /// Padding.
        pub _pad0: u16,
        /// Event mask at the time.
        pub saved_upcall_mask: u8,
        /// Padding.
        pub _pad1: [u8; 3],
        /// rflags.
        pub rflags: u64,
        /// rsp.
        pub rsp: u64,
        /// ss.
        pub ss: u16,
        /// Padding.
        pub _pad2: [u16; 3],
        /// es.
        pub es: u16,
        /// Padding.
        pub _pad3: [u16; 3],
        /// ds.
        pub ds: u16,
        /// Padding.
        pub _pad4: [u16; 3],
        /// fs.
        pub fs: u16,
        /// Padding.
        pub _pad5: [u16; 3],
        /// gs.
        pub gs: u16,
        /// Padding.
        pub _pad6: [u16; 3],
    }

    /// A vCPU's whole state (`struct vcpu_guest_context`).
    pub struct VcpuGuestContext: 5168 {
        /// FXSAVE area.
        pub fpu_ctxt: [u8; 512],
        /// `VGCF_*`.
        pub flags: u64,
        /// General registers.
        pub user_regs: CpuUserRegs,
        /// Exception handlers; here the index is the vector.
        pub trap_ctxt: [TrapInfo; 256],
        /// Virtual address of the LDT.
        pub ldt_base: u64,
        /// Its entries.
        pub ldt_ents: u64,
        /// Frames of the GDT.
        pub gdt_frames: [u64; 16],
        /// Its entries.
        pub gdt_ents: u64,
        /// Stack selector on entry to the kernel.
        pub kernel_ss: u64,
        /// Stack pointer on entry to the kernel.
        pub kernel_sp: u64,
        /// cr0 to cr7: 3 the kernel's level-4 table, 1 the processes' one.
        pub ctrlreg: [u64; 8],
        /// dr0 to dr7.
        pub debugreg: [u64; 8],
        /// Event entry point.
        pub event_callback_eip: u64,
        /// Failsafe entry point.
        pub failsafe_callback_eip: u64,
        /// System-call entry point.
        pub syscall_callback_eip: u64,
        /// Bit per `VMASST_TYPE_*`.
        pub vm_assist: u64,
        /// FS base.
        pub fs_base: u64,
        /// GS base of the kernel.
        pub gs_base_kernel: u64,
        /// GS base of the processes.
        pub gs_base_user: u64,
    }

    /// `struct xen_cpuid_leaf`.
    pub struct XenCpuidLeaf: 24 {
        /// eax in.
        pub leaf: u32,
        /// ecx in.
        pub subleaf: u32,
        /// eax out.
        pub a: u32,
        /// ebx out.
        pub b: u32,
        /// ecx out.
        pub c: u32,
        /// edx out.
        pub d: u32,
    }

    /// `struct xen_msr_entry`.
    pub struct XenMsrEntry: 16 {
        /// MSR number.
        pub idx: u32,
        /// Zero.
        pub flags: u32,
        /// Value.
        pub val: u64,
    }
}

/// The privilege level of a handler (`TI_GET_DPL`): 0 to 3.
pub const fn trap_info_dpl(info: &TrapInfo) -> u8 {
    info.flags & 3
}

/// Whether a handler masks events on entry (`TI_GET_IF`).
pub const fn trap_info_masks_events(info: &TrapInfo) -> bool {
    info.flags & 4 != 0
}
