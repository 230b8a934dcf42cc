//! Hypercall numbers and the multicall entry (xen.h, arch-x86/xen-x86_64.h).
//!
//! Number in rax; arguments in rdi, rsi, rdx, r10, r8 and, for the few calls that have a sixth, r9; answer in rax. The guest
//! calls stub `number` of its hypercall page, at [`HYPERCALL_STUB_BYTES`] each.
#![expect(non_upper_case_globals, reason = "C spelling")]

/// Bytes of one stub in the hypercall page.
pub const HYPERCALL_STUB_BYTES: usize = 32;
/// Stubs in the hypercall page.
pub const HYPERCALL_STUBS: usize = 128;

/// Declares the numbers and their names from one list.
macro_rules! numbers {
    ($($(#[$meta:meta])* $name:ident = $value:literal, $text:literal;)*) => {
        $($(#[$meta])* pub const $name: u64 = $value;)*

        /// The name of hypercall `nr`, as in `mmu_update`; `unknown` for a number that the ABI does not have.
        pub const fn name(nr: u64) -> &'static str {
            match nr {
                $($value => $text,)*
                _ => "unknown",
            }
        }
    };
}

numbers! {
    /// Sets exception handlers: [`TrapInfo`](crate::arch_x86::TrapInfo) array.
    __HYPERVISOR_set_trap_table = 0, "set_trap_table";
    /// Updates page-table entries: see [`mmu`](crate::mmu).
    __HYPERVISOR_mmu_update = 1, "mmu_update";
    /// Sets the GDT: frame list, number of entries.
    __HYPERVISOR_set_gdt = 2, "set_gdt";
    /// Sets the guest kernel stack: ss, rsp.
    __HYPERVISOR_stack_switch = 3, "stack_switch";
    /// Sets the event, failsafe and system-call entry points.
    __HYPERVISOR_set_callbacks = 4, "set_callbacks";
    /// Sets or clears CR0.TS.
    __HYPERVISOR_fpu_taskswitch = 5, "fpu_taskswitch";
    /// The first scheduler call: see [`sched`](crate::sched).
    __HYPERVISOR_sched_op_compat = 6, "sched_op_compat";
    /// Platform operations of the first domain: see [`platform`](crate::platform).
    __HYPERVISOR_platform_op = 7, "platform_op";
    /// Writes a debug register: number, value.
    __HYPERVISOR_set_debugreg = 8, "set_debugreg";
    /// Reads a debug register: number.
    __HYPERVISOR_get_debugreg = 9, "get_debugreg";
    /// Writes one descriptor: machine address, value.
    __HYPERVISOR_update_descriptor = 10, "update_descriptor";
    /// Memory reservation: see [`memory`](crate::memory).
    __HYPERVISOR_memory_op = 12, "memory_op";
    /// Runs an array of [`MulticallEntry`].
    __HYPERVISOR_multicall = 13, "multicall";
    /// Writes the L1 entry of a virtual address: address, entry, `UVMF_*`.
    __HYPERVISOR_update_va_mapping = 14, "update_va_mapping";
    /// Sets the one-shot timer: system time in ns.
    __HYPERVISOR_set_timer_op = 15, "set_timer_op";
    /// The first event channel call.
    __HYPERVISOR_event_channel_op_compat = 16, "event_channel_op_compat";
    /// Version and features: see [`version`](crate::version).
    __HYPERVISOR_xen_version = 17, "xen_version";
    /// Emergency console: see [`console`](crate::console).
    __HYPERVISOR_console_io = 18, "console_io";
    /// The first physical device call.
    __HYPERVISOR_physdev_op_compat = 19, "physdev_op_compat";
    /// Grant tables: see [`grant_table`](crate::grant_table).
    __HYPERVISOR_grant_table_op = 20, "grant_table_op";
    /// Switches an assist: `VMASST_CMD_*`, `VMASST_TYPE_*`.
    __HYPERVISOR_vm_assist = 21, "vm_assist";
    /// As `update_va_mapping`, with a foreign domain.
    __HYPERVISOR_update_va_mapping_otherdomain = 22, "update_va_mapping_otherdomain";
    /// Returns from a handler: [`IretContext`](crate::arch_x86::IretContext) on the stack.
    __HYPERVISOR_iret = 23, "iret";
    /// vCPU operations: see [`vcpu`](crate::vcpu).
    __HYPERVISOR_vcpu_op = 24, "vcpu_op";
    /// Sets a segment base: `SEGBASE_*`, base.
    __HYPERVISOR_set_segment_base = 25, "set_segment_base";
    /// Pins, bases and flushes: see [`mmu`](crate::mmu).
    __HYPERVISOR_mmuext_op = 26, "mmuext_op";
    /// Security module.
    __HYPERVISOR_xsm_op = 27, "xsm_op";
    /// NMI callback: see [`callback`](crate::callback).
    __HYPERVISOR_nmi_op = 28, "nmi_op";
    /// Scheduler: see [`sched`](crate::sched).
    __HYPERVISOR_sched_op = 29, "sched_op";
    /// Entry points: see [`callback`](crate::callback).
    __HYPERVISOR_callback_op = 30, "callback_op";
    /// Profiler.
    __HYPERVISOR_xenoprof_op = 31, "xenoprof_op";
    /// Event channels: see [`event_channel`](crate::event_channel).
    __HYPERVISOR_event_channel_op = 32, "event_channel_op";
    /// Physical devices: see [`physdev`](crate::physdev).
    __HYPERVISOR_physdev_op = 33, "physdev_op";
    /// HVM parameters.
    __HYPERVISOR_hvm_op = 34, "hvm_op";
    /// System control, toolstack.
    __HYPERVISOR_sysctl = 35, "sysctl";
    /// Domain control, toolstack.
    __HYPERVISOR_domctl = 36, "domctl";
    /// Crash kernel.
    __HYPERVISOR_kexec_op = 37, "kexec_op";
    /// Transcendent memory, removed.
    __HYPERVISOR_tmem_op = 38, "tmem_op";
    /// Argo messages.
    __HYPERVISOR_argo_op = 39, "argo_op";
    /// Performance counters.
    __HYPERVISOR_xenpmu_op = 40, "xenpmu_op";
    /// Device model.
    __HYPERVISOR_dm_op = 41, "dm_op";
    /// Hypervisor file system.
    __HYPERVISOR_hypfs_op = 42, "hypfs_op";
    /// Architecture-specific number 0. On x86: machine checks (`mca`).
    __HYPERVISOR_arch_0 = 48, "arch_0";
    /// Architecture-specific number 1.
    __HYPERVISOR_arch_1 = 49, "arch_1";
    /// Architecture-specific number 2.
    __HYPERVISOR_arch_2 = 50, "arch_2";
    /// Architecture-specific number 3.
    __HYPERVISOR_arch_3 = 51, "arch_3";
    /// Architecture-specific number 4.
    __HYPERVISOR_arch_4 = 52, "arch_4";
    /// Architecture-specific number 5.
    __HYPERVISOR_arch_5 = 53, "arch_5";
    /// Architecture-specific number 6.
    __HYPERVISOR_arch_6 = 54, "arch_6";
    /// Architecture-specific number 7.
    __HYPERVISOR_arch_7 = 55, "arch_7";
}

/// The stub that calls hypercall `nr`, for the hypercall page.
///
/// A caller counts on every register but rax and the arguments, so the stub saves what `syscall` destroys, rcx and
/// r11. The one for `iret` is jumped to and does not return: what it pushes is the top of
/// [`IretContext`](crate::arch_x86::IretContext).
pub const fn stub(nr: u32) -> [u8; HYPERCALL_STUB_BYTES] {
    let [a, b, c, d] = nr.to_le_bytes();
    let code: &[u8] = if nr as u64 == __HYPERVISOR_iret {
        // push rcx; push r11; push rax; mov eax, nr; syscall
        &[0x51, 0x41, 0x53, 0x50, 0xb8, a, b, c, d, 0x0f, 0x05]
    } else {
        // push rcx; push r11; mov eax, nr; syscall; pop r11; pop rcx; ret
        &[0x51, 0x41, 0x53, 0xb8, a, b, c, d, 0x0f, 0x05, 0x41, 0x5b, 0x59, 0xc3]
    };
    // The rest is `int3`.
    let mut stub = [0xcc; HYPERCALL_STUB_BYTES];
    let (head, _) = stub.split_at_mut(code.len());
    head.copy_from_slice(code);
    stub
}

abi_structs! {
    /// One call of a multicall (`struct multicall_entry`).
    pub struct MulticallEntry: 64 {
        /// Hypercall number.
        pub op: u64,
        /// Written by the hypervisor: what the call returned.
        pub result: u64,
        /// Its arguments, in the order of the registers.
        pub args: [u64; 6],
    }
}

#[cfg(test)]
mod tests {
    use super::{__HYPERVISOR_iret, __HYPERVISOR_memory_op, HYPERCALL_STUB_BYTES, HYPERCALL_STUBS, name, stub};

    #[test]
    fn stubs_load_their_number_and_fill_a_page() {
        assert_eq!(HYPERCALL_STUB_BYTES * HYPERCALL_STUBS, 4096);
        let one = stub(u32::try_from(__HYPERVISOR_memory_op).expect("small"));
        assert_eq!(one[..14], [0x51, 0x41, 0x53, 0xb8, 12, 0, 0, 0, 0x0f, 0x05, 0x41, 0x5b, 0x59, 0xc3]);
        assert!(one[14..].iter().all(|&b| b == 0xcc));
        let iret = stub(u32::try_from(__HYPERVISOR_iret).expect("small"));
        assert_eq!(iret[..11], [0x51, 0x41, 0x53, 0x50, 0xb8, 23, 0, 0, 0, 0x0f, 0x05]);
    }

    #[test]
    fn names_cover_the_abi_and_nothing_else() {
        let known = (0..1000).filter(|&nr| name(nr) != "unknown").count();
        assert_eq!(known, 50);
        assert_eq!(name(u64::MAX), "unknown");
        assert_eq!(name(11), "unknown");
    }
}
