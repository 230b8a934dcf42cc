//! Every constant of the crate beside its C name; a forgotten one fails `every_constant_is_compared`.

use super::Facts;

macro_rules! constants {
    ($facts:ident; $($module:ident { $($name:ident $(= $c:literal)?),* $(,)? })*) => {$($(
        $facts.constant(stringify!($name), [$($c,)? stringify!($name)][0], xen_abi::$module::$name as u64);
    )*)*};
}

/// Constants of the crate that no C header has: facts of the hardware or of the implementation.
pub const NOT_IN_C: &[&str] = &[
    "E820_ACPI",
    "E820_NVS",
    "E820_RAM",
    "E820_RESERVED",
    "E820_UNUSABLE",
    "HYPERCALL_STUBS",
    "HYPERCALL_STUB_BYTES",
    "MEMOP_CMD_MASK",
    "XEN_EMULATE_PREFIX",
];

/// Adds all constants.
pub fn add(facts: &mut Facts) {
    constants! { facts;
        arch_x86 {
            FIRST_RESERVED_GDT_PAGE, FIRST_RESERVED_GDT_BYTE, FIRST_RESERVED_GDT_ENTRY, FLAT_RING3_CS32,
            FLAT_RING3_CS64, FLAT_RING3_DS32, FLAT_RING3_DS64, FLAT_RING3_SS32, FLAT_RING3_SS64, FLAT_KERNEL_CS,
            FLAT_KERNEL_DS, FLAT_KERNEL_SS, FLAT_USER_CS, FLAT_USER_DS, FLAT_USER_SS, HYPERVISOR_VIRT_START,
            HYPERVISOR_VIRT_END, MACH2PHYS_VIRT_START, MACH2PHYS_VIRT_END, MACH2PHYS_NR_ENTRIES, SEGBASE_FS,
            SEGBASE_GS_USER, SEGBASE_GS_KERNEL, SEGBASE_GS_USER_SEL, VGCF_i387_valid, VGCF_in_kernel,
            VGCF_failsafe_disables_events, VGCF_syscall_disables_events, VGCF_online, VGCF_in_syscall,
            XEN_CPUID_NO_SUBLEAF,
        }
        callback {
            CALLBACKOP_register, CALLBACKOP_unregister, CALLBACKTYPE_event, CALLBACKTYPE_failsafe,
            CALLBACKTYPE_syscall, CALLBACKTYPE_sysenter_deprecated, CALLBACKTYPE_nmi, CALLBACKTYPE_sysenter,
            CALLBACKTYPE_syscall32, CALLBACKF_mask_events, XENNMI_register_callback, XENNMI_unregister_callback,
            XEN_NMIREASON_io_error, XEN_NMIREASON_pci_serr, XEN_NMIREASON_unknown,
        }
        console {
            CONSOLEIO_write, CONSOLEIO_read, XENCONS_IN_BYTES = "sizeof(((struct xencons_interface *)0)->in)",
            XENCONS_OUT_BYTES = "sizeof(((struct xencons_interface *)0)->out)",
        }
        cpuid {
            XEN_CPUID_FIRST_LEAF, XEN_CPUID_SIGNATURE_EBX, XEN_CPUID_SIGNATURE_ECX, XEN_CPUID_SIGNATURE_EDX,
            XEN_CPUID_FEAT1_MMU_PT_UPDATE_PRESERVE_AD, XEN_CPUID_MACHINE_ADDRESS_WIDTH_MASK,
            XEN_CPUID_MAX_NUM_LEAVES,
        }
        domid {
            DOMID_FIRST_RESERVED, DOMID_SELF, DOMID_IO, DOMID_XEN, DOMID_COW, DOMID_INVALID, DOMID_IDLE, DOMID_MASK,
        }
        elfnote {
            XEN_ELFNOTE_INFO, XEN_ELFNOTE_ENTRY, XEN_ELFNOTE_HYPERCALL_PAGE, XEN_ELFNOTE_VIRT_BASE,
            XEN_ELFNOTE_PADDR_OFFSET, XEN_ELFNOTE_XEN_VERSION, XEN_ELFNOTE_GUEST_OS, XEN_ELFNOTE_GUEST_VERSION,
            XEN_ELFNOTE_LOADER, XEN_ELFNOTE_PAE_MODE, XEN_ELFNOTE_FEATURES, XEN_ELFNOTE_BSD_SYMTAB,
            XEN_ELFNOTE_HV_START_LOW, XEN_ELFNOTE_L1_MFN_VALID, XEN_ELFNOTE_SUSPEND_CANCEL, XEN_ELFNOTE_INIT_P2M,
            XEN_ELFNOTE_MOD_START_PFN, XEN_ELFNOTE_SUPPORTED_FEATURES, XEN_ELFNOTE_PHYS32_ENTRY, XEN_ELFNOTE_MAX,
        }
        event_channel {
            EVTCHNOP_bind_interdomain, EVTCHNOP_bind_virq, EVTCHNOP_bind_pirq, EVTCHNOP_close, EVTCHNOP_send,
            EVTCHNOP_status, EVTCHNOP_alloc_unbound, EVTCHNOP_bind_ipi, EVTCHNOP_bind_vcpu, EVTCHNOP_unmask,
            EVTCHNOP_reset, EVTCHNOP_init_control, EVTCHNOP_expand_array, EVTCHNOP_set_priority, VIRQ_TIMER,
            VIRQ_DEBUG, VIRQ_CONSOLE, VIRQ_DOM_EXC, VIRQ_TBUF, VIRQ_DEBUGGER, VIRQ_XENOPROF, VIRQ_CON_RING,
            VIRQ_PCPU_STATE, VIRQ_MEM_EVENT, VIRQ_ARGO, VIRQ_ENOMEM, VIRQ_XENPMU, VIRQ_ARCH_0, VIRQ_ARCH_7, NR_VIRQS,
            EVTCHNSTAT_closed, EVTCHNSTAT_unbound, EVTCHNSTAT_interdomain, EVTCHNSTAT_pirq, EVTCHNSTAT_virq,
            EVTCHNSTAT_ipi, BIND_PIRQ__WILL_SHARE, EVTCHN_FIFO_PRIORITY_MAX, EVTCHN_FIFO_PRIORITY_DEFAULT,
            EVTCHN_FIFO_PRIORITY_MIN, EVTCHN_FIFO_MAX_QUEUES, EVTCHN_FIFO_PENDING, EVTCHN_FIFO_MASKED,
            EVTCHN_FIFO_LINKED, EVTCHN_FIFO_BUSY, EVTCHN_FIFO_LINK_BITS, EVTCHN_FIFO_LINK_MASK,
            EVTCHN_FIFO_NR_CHANNELS,
        }
        grant_table {
            GNTTABOP_map_grant_ref, GNTTABOP_unmap_grant_ref, GNTTABOP_setup_table, GNTTABOP_dump_table,
            GNTTABOP_transfer, GNTTABOP_copy, GNTTABOP_query_size, GNTTABOP_unmap_and_replace, GNTTABOP_set_version,
            GNTTABOP_get_status_frames, GNTTABOP_get_version, GNTTABOP_swap_grant_ref, GNTTABOP_cache_flush,
            GNTTAB_NR_RESERVED_ENTRIES, GNTTAB_RESERVED_CONSOLE, GNTTAB_RESERVED_XENSTORE, GTF_invalid,
            GTF_permit_access, GTF_accept_transfer, GTF_transitive, GTF_type_mask, GTF_readonly, GTF_reading,
            GTF_writing, GTF_PWT, GTF_PCD, GTF_PAT, GTF_sub_page, GTF_transfer_committed, GTF_transfer_completed,
            GNTMAP_device_map, GNTMAP_host_map, GNTMAP_readonly, GNTMAP_application_map, GNTMAP_contains_pte,
            _GNTMAP_guest_avail0, GNTMAP_guest_avail_mask, GNTCOPY_source_gref, GNTCOPY_dest_gref,
            GNTTAB_CACHE_CLEAN, GNTTAB_CACHE_INVAL, GNTTAB_CACHE_SOURCE_GREF, GNTST_okay, GNTST_general_error,
            GNTST_bad_domain, GNTST_bad_gntref, GNTST_bad_handle, GNTST_bad_virt_addr, GNTST_bad_dev_addr,
            GNTST_no_device_space, GNTST_permission_denied, GNTST_bad_page, GNTST_bad_copy_arg,
            GNTST_address_too_big, GNTST_eagain, GNTST_no_space,
        }
        memory {
            XENMEM_increase_reservation, XENMEM_decrease_reservation, XENMEM_maximum_ram_page,
            XENMEM_current_reservation, XENMEM_maximum_reservation, XENMEM_machphys_mfn_list,
            XENMEM_populate_physmap, XENMEM_add_to_physmap, XENMEM_memory_map, XENMEM_machine_memory_map,
            XENMEM_exchange, XENMEM_machphys_mapping, XENMEM_set_memory_map, XENMEM_maximum_gpfn,
            XENMEM_remove_from_physmap, XENMEM_set_pod_target, XENMEM_get_pod_target, XENMEM_get_sharing_freed_pages,
            XENMEM_get_sharing_shared_pages, XENMEM_paging_op, XENMEM_access_op, XENMEM_sharing_op,
            XENMEM_add_to_physmap_batch, XENMEM_claim_pages, XENMEM_machphys_compat_mfn_list, XENMEM_get_vnumainfo,
            XENMEM_reserved_device_memory_map, XENMEM_acquire_resource, XENMEMF_populate_on_demand,
            XENMEMF_exact_node_request, XENMEMF_vnode, XENMEMF_ADDRESS_BITS_MASK = "XENMEMF_get_address_bits(~0u)",
            XENMAPSPACE_shared_info, XENMAPSPACE_grant_table, XENMAPSPACE_gmfn, XENMAPSPACE_gmfn_range,
            XENMAPSPACE_gmfn_foreign, XENMAPSPACE_dev_mmio, XENMAPIDX_grant_table_status,
            XENMEM_resource_ioreq_server, XENMEM_resource_grant_table, XENMEM_resource_vmtrace_buf,
        }
        mmu {
            MMU_NORMAL_PT_UPDATE, MMU_MACHPHYS_UPDATE, MMU_PT_UPDATE_PRESERVE_AD, MMU_PT_UPDATE_NO_TRANSLATE,
            MMUEXT_PIN_L1_TABLE, MMUEXT_PIN_L2_TABLE, MMUEXT_PIN_L3_TABLE, MMUEXT_PIN_L4_TABLE, MMUEXT_UNPIN_TABLE,
            MMUEXT_NEW_BASEPTR, MMUEXT_TLB_FLUSH_LOCAL, MMUEXT_INVLPG_LOCAL, MMUEXT_TLB_FLUSH_MULTI,
            MMUEXT_INVLPG_MULTI, MMUEXT_TLB_FLUSH_ALL, MMUEXT_INVLPG_ALL, MMUEXT_FLUSH_CACHE, MMUEXT_SET_LDT,
            MMUEXT_NEW_USER_BASEPTR, MMUEXT_CLEAR_PAGE, MMUEXT_COPY_PAGE, MMUEXT_FLUSH_CACHE_GLOBAL,
            MMUEXT_MARK_SUPER, MMUEXT_UNMARK_SUPER, UVMF_NONE, UVMF_TLB_FLUSH, UVMF_INVLPG, UVMF_FLUSHTYPE_MASK,
            UVMF_MULTI, UVMF_LOCAL, UVMF_ALL,
        }
        physdev {
            PHYSDEVOP_IRQ_UNMASK_NOTIFY, PHYSDEVOP_irq_status_query, PHYSDEVOP_set_iopl, PHYSDEVOP_set_iobitmap,
            PHYSDEVOP_apic_read, PHYSDEVOP_apic_write, PHYSDEVOP_alloc_irq_vector, PHYSDEVOP_free_irq_vector,
            PHYSDEVOP_eoi, PHYSDEVOP_map_pirq, PHYSDEVOP_unmap_pirq, PHYSDEVOP_manage_pci_add,
            PHYSDEVOP_manage_pci_remove, PHYSDEVOP_pirq_eoi_gmfn_v1, PHYSDEVOP_restore_msi,
            PHYSDEVOP_manage_pci_add_ext, PHYSDEVOP_setup_gsi, PHYSDEVOP_get_free_pirq, PHYSDEVOP_pci_mmcfg_reserved,
            PHYSDEVOP_pci_device_add, PHYSDEVOP_pci_device_remove, PHYSDEVOP_restore_msi_ext,
            PHYSDEVOP_pirq_eoi_gmfn_v2, PHYSDEVOP_dbgp_op, PHYSDEVOP_prepare_msix, PHYSDEVOP_release_msix,
            XENIRQSTAT_needs_eoi, XENIRQSTAT_shared, MAP_PIRQ_TYPE_MSI, MAP_PIRQ_TYPE_GSI, MAP_PIRQ_TYPE_UNKNOWN,
            MAP_PIRQ_TYPE_MSI_SEG, MAP_PIRQ_TYPE_MULTI_MSI,
        }
        platform {
            XENPF_INTERFACE_VERSION, XENPF_settime32, XENPF_add_memtype, XENPF_del_memtype, XENPF_read_memtype,
            XENPF_microcode_update, XENPF_platform_quirk, XENPF_get_cpu_version, XENPF_efi_runtime_call,
            XENPF_firmware_info, XENPF_enter_acpi_sleep, XENPF_change_freq, XENPF_getidletime,
            XENPF_set_processor_pminfo, XENPF_get_cpuinfo, XENPF_cpu_online, XENPF_cpu_offline, XENPF_cpu_hotadd,
            XENPF_mem_hotadd, XENPF_core_parking, XENPF_resource_op, XENPF_settime64, XENPF_get_symbol,
            XEN_PCPU_FLAGS_ONLINE, XEN_PCPU_FLAGS_INVALID,
        }
        sched {
            SCHEDOP_yield, SCHEDOP_block, SCHEDOP_shutdown, SCHEDOP_poll, SCHEDOP_remote_shutdown,
            SCHEDOP_shutdown_code, SCHEDOP_watchdog, SCHEDOP_pin_override, SHUTDOWN_poweroff, SHUTDOWN_reboot,
            SHUTDOWN_suspend, SHUTDOWN_crash, SHUTDOWN_watchdog, SHUTDOWN_soft_reset, SHUTDOWN_MAX,
        }
        shared_info {
            XEN_LEGACY_MAX_VCPUS, EVTCHN_2L_NR_CHANNELS, XEN_PVCLOCK_TSC_STABLE_BIT, XEN_PVCLOCK_GUEST_STOPPED,
        }
        start_info {
            SIF_PRIVILEGED, SIF_INITDOMAIN, SIF_MULTIBOOT_MOD, SIF_MOD_START_PFN, SIF_VIRT_P2M_4TOOLS, SIF_PM_MASK,
            MAX_GUEST_CMDLINE, XEN_VGATYPE_TEXT_MODE_3, XEN_VGATYPE_VESA_LFB, XEN_VGATYPE_EFI_LFB,
        }
        vcpu {
            VCPUOP_initialise, VCPUOP_up, VCPUOP_down, VCPUOP_is_up, VCPUOP_get_runstate_info,
            VCPUOP_register_runstate_memory_area, VCPUOP_set_periodic_timer, VCPUOP_stop_periodic_timer,
            VCPUOP_set_singleshot_timer, VCPUOP_stop_singleshot_timer, VCPUOP_register_vcpu_info, VCPUOP_send_nmi,
            VCPUOP_get_physid, VCPUOP_register_vcpu_time_memory_area, RUNSTATE_running, RUNSTATE_runnable,
            RUNSTATE_blocked, RUNSTATE_offline, XEN_RUNSTATE_UPDATE, VCPU_SSHOTTMR_future,
        }
        version {
            XEN_INTERFACE_VERSION = "__XEN_LATEST_INTERFACE_VERSION__", XENVER_version, XENVER_extraversion,
            XENVER_compile_info, XENVER_capabilities, XENVER_changeset, XENVER_platform_parameters,
            XENVER_get_features, XENVER_pagesize, XENVER_guest_handle, XENVER_commandline, XENVER_build_id,
            XEN_EXTRAVERSION_LEN, XEN_CAPABILITIES_INFO_LEN, XEN_CHANGESET_INFO_LEN, XENFEAT_writable_page_tables,
            XENFEAT_writable_descriptor_tables, XENFEAT_auto_translated_physmap, XENFEAT_supervisor_mode_kernel,
            XENFEAT_pae_pgdir_above_4gb, XENFEAT_mmu_pt_update_preserve_ad, XENFEAT_highmem_assist,
            XENFEAT_gnttab_map_avail_bits, XENFEAT_hvm_callback_vector, XENFEAT_hvm_safe_pvclock, XENFEAT_hvm_pirqs,
            XENFEAT_dom0, XENFEAT_memory_op_vnode_supported, XENFEAT_ARM_SMCCC_supported,
            XENFEAT_linux_rsdp_unrestricted, XENFEAT_not_direct_mapped, XENFEAT_direct_mapped, XENFEAT_NR_SUBMAPS,
            VMASST_CMD_enable, VMASST_CMD_disable, VMASST_TYPE_4gb_segments, VMASST_TYPE_4gb_segments_notify,
            VMASST_TYPE_writable_pagetables, VMASST_TYPE_pae_extended_cr3, VMASST_TYPE_architectural_iopl,
            VMASST_TYPE_runstate_update_flag, VMASST_TYPE_m2p_strict,
        }
        xenstore {
            XENSTORE_RING_SIZE, XENSTORE_PAYLOAD_MAX, XENSTORE_ABS_PATH_MAX, XENSTORE_REL_PATH_MAX,
            XENSTORE_SERVER_FEATURE_RECONNECTION, XENSTORE_SERVER_FEATURE_ERROR, XENSTORE_CONNECTED,
            XENSTORE_RECONNECT,
        }
    }
}
