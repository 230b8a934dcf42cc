//! Every structure of the crate beside its C name. The macro takes each structure apart without `..`, so a field
//! that is forgotten here does not compile.

use super::Facts;

macro_rules! layouts {
    ($facts:ident; $($module:ident::$name:ident = $c:literal { $($field:ident $(= $cfield:literal)?),* $(,)? } $(pad { $($pad:ident),* })?;)*) => {$({
        use xen_abi::$module::$name;
        let value = $name::default();
        let $name { $($field: _,)* $($($pad: _,)*)? } = value;
        $facts.size(stringify!($name), $c, size_of::<$name>());
        $(
            let c_field = [$($cfield,)? stringify!($field).trim_start_matches("r#")][0];
            $facts.field(stringify!($name), $c, c_field, core::mem::offset_of!($name, $field), size_of_val(&value.$field));
        )*
    })*};
}

/// Adds all structures.
pub fn add(facts: &mut Facts) {
    layouts! { facts;
        arch_x86::TrapInfo = "struct trap_info" { vector, flags, cs, address } pad { _pad0 };
        arch_x86::IretContext = "struct iret_context" { rax, r11, rcx, flags, rip, cs, rflags, rsp, ss };
        arch_x86::CpuUserRegs = "struct cpu_user_regs" {
            r15, r14, r13, r12, rbp, rbx, r11, r10, r9, r8, rax, rcx, rdx, rsi, rdi, error_code, entry_vector, rip,
            cs, saved_upcall_mask, rflags, rsp, ss, es, ds, fs, gs,
        } pad { _pad0, _pad1, _pad2, _pad3, _pad4, _pad5, _pad6 };
        arch_x86::VcpuGuestContext = "struct vcpu_guest_context" {
            fpu_ctxt, flags, user_regs, trap_ctxt, ldt_base, ldt_ents, gdt_frames, gdt_ents, kernel_ss, kernel_sp,
            ctrlreg, debugreg, event_callback_eip, failsafe_callback_eip, syscall_callback_eip, vm_assist, fs_base,
            gs_base_kernel, gs_base_user,
        };
        arch_x86::XenCpuidLeaf = "struct xen_cpuid_leaf" { leaf, subleaf, a, b, c, d };
        arch_x86::XenMsrEntry = "struct xen_msr_entry" { idx, flags, val };
        callback::CallbackRegister = "struct callback_register" { r#type, flags, address } pad { _pad0 };
        callback::CallbackUnregister = "struct callback_unregister" { r#type, _unused };
        callback::XennmiCallback = "struct xennmi_callback" { handler_address, pad };
        console::XenconsInterface = "struct xencons_interface" { r#in, out, in_cons, in_prod, out_cons, out_prod };
        event_channel::EvtchnAllocUnbound = "struct evtchn_alloc_unbound" { dom, remote_dom, port };
        event_channel::EvtchnBindInterdomain = "struct evtchn_bind_interdomain" {
            remote_dom, remote_port, local_port,
        } pad { _pad0 };
        event_channel::EvtchnBindVirq = "struct evtchn_bind_virq" { virq, vcpu, port };
        event_channel::EvtchnBindPirq = "struct evtchn_bind_pirq" { pirq, flags, port };
        event_channel::EvtchnBindIpi = "struct evtchn_bind_ipi" { vcpu, port };
        event_channel::EvtchnClose = "struct evtchn_close" { port };
        event_channel::EvtchnSend = "struct evtchn_send" { port };
        event_channel::EvtchnStatus = "struct evtchn_status" {
            dom, port, status, vcpu, u0 = "u.pirq", u1 = "u.interdomain.port",
        } pad { _pad0 };
        event_channel::EvtchnBindVcpu = "struct evtchn_bind_vcpu" { port, vcpu };
        event_channel::EvtchnUnmask = "struct evtchn_unmask" { port };
        event_channel::EvtchnReset = "struct evtchn_reset" { dom };
        event_channel::EvtchnInitControl = "struct evtchn_init_control" {
            control_gfn, offset, vcpu, link_bits, _pad,
        };
        event_channel::EvtchnExpandArray = "struct evtchn_expand_array" { array_gfn };
        event_channel::EvtchnSetPriority = "struct evtchn_set_priority" { port, priority };
        event_channel::EvtchnFifoControlBlock = "struct evtchn_fifo_control_block" { ready, _rsvd, head };
        grant_table::GrantEntryV1 = "struct grant_entry_v1" { flags, domid, frame };
        grant_table::GrantEntryV2 = "union grant_entry_v2" {
            flags = "sub_page.hdr.flags", domid = "sub_page.hdr.domid", page_off = "sub_page.page_off",
            length = "sub_page.length", frame = "sub_page.frame",
        };
        grant_table::GnttabMapGrantRef = "struct gnttab_map_grant_ref" {
            host_addr, flags, r#ref, dom, status, handle, dev_bus_addr,
        };
        grant_table::GnttabUnmapGrantRef = "struct gnttab_unmap_grant_ref" {
            host_addr, dev_bus_addr, handle, status,
        } pad { _pad0 };
        grant_table::GnttabSetupTable = "struct gnttab_setup_table" {
            dom, nr_frames, status, frame_list,
        } pad { _pad0, _pad1 };
        grant_table::GnttabDumpTable = "struct gnttab_dump_table" { dom, status };
        grant_table::GnttabTransfer = "struct gnttab_transfer" { mfn, domid, r#ref, status } pad { _pad0, _pad1 };
        grant_table::GnttabCopyPtr = "struct gnttab_copy_ptr" { u, domid, offset } pad { _pad0 };
        grant_table::GnttabCopy = "struct gnttab_copy" { source, dest, len, flags, status } pad { _pad0 };
        grant_table::GnttabQuerySize = "struct gnttab_query_size" {
            dom, nr_frames, max_nr_frames, status,
        } pad { _pad0, _pad1 };
        grant_table::GnttabUnmapAndReplace = "struct gnttab_unmap_and_replace" {
            host_addr, new_addr, handle, status,
        } pad { _pad0 };
        grant_table::GnttabSetVersion = "struct gnttab_set_version" { version };
        grant_table::GnttabGetStatusFrames = "struct gnttab_get_status_frames" { nr_frames, dom, status, frame_list };
        grant_table::GnttabGetVersion = "struct gnttab_get_version" { dom, pad, version };
        grant_table::GnttabSwapGrantRef = "struct gnttab_swap_grant_ref" { ref_a, ref_b, status } pad { _pad0 };
        grant_table::GnttabCacheFlush = "struct gnttab_cache_flush" { a, offset, length, op };
        hypercall::MulticallEntry = "struct multicall_entry" { op, result, args };
        memory::XenMemoryReservation = "struct xen_memory_reservation" {
            extent_start, nr_extents, extent_order, mem_flags, domid,
        } pad { _pad0 };
        memory::XenMemoryExchange = "struct xen_memory_exchange" { r#in, out, nr_exchanged };
        memory::XenMemoryDomain = "struct xen_memory_domain" { domid };
        memory::XenMachphysMfnList = "struct xen_machphys_mfn_list" {
            max_extents, extent_start, nr_extents,
        } pad { _pad0, _pad1 };
        memory::XenMachphysMapping = "struct xen_machphys_mapping" { v_start, v_end, max_mfn };
        memory::XenAddToPhysmap = "struct xen_add_to_physmap" { domid, size, space, idx, gpfn };
        memory::XenAddToPhysmapBatch = "struct xen_add_to_physmap_batch" {
            domid, space, size, foreign_domid = "u.foreign_domid", idxs, gpfns, errs,
        };
        memory::XenRemoveFromPhysmap = "struct xen_remove_from_physmap" { domid, gpfn } pad { _pad0 };
        memory::XenMemoryMap = "struct xen_memory_map" { nr_entries, buffer } pad { _pad0 };
        memory::XenForeignMemoryMap = "struct xen_foreign_memory_map" { domid, map } pad { _pad0 };
        memory::XenPodTarget = "struct xen_pod_target" {
            target_pages, tot_pages, pod_cache_pages, pod_entries, domid,
        } pad { _pad0 };
        memory::XenMemAcquireResource = "struct xen_mem_acquire_resource" {
            domid, r#type, id, nr_frames, pad, frame, frame_list,
        };
        memory::XenVmemrange = "struct xen_vmemrange" { start, end, flags, nid };
        memory::XenVnumaTopologyInfo = "struct xen_vnuma_topology_info" {
            domid, pad, nr_vnodes, nr_vcpus, nr_vmemranges, vdistance, vcpu_to_vnode, vmemrange,
        };
        mmu::MmuUpdate = "struct mmu_update" { ptr, val };
        mmu::MmuextOp = "struct mmuext_op" { cmd, arg1, arg2 } pad { _pad0 };
        physdev::PhysdevIrqStatusQuery = "struct physdev_irq_status_query" { irq, flags };
        physdev::PhysdevSetIopl = "struct physdev_set_iopl" { iopl };
        physdev::PhysdevSetIobitmap = "struct physdev_set_iobitmap" { bitmap, nr_ports } pad { _pad0 };
        physdev::PhysdevApic = "struct physdev_apic" { apic_physbase, reg, value };
        physdev::PhysdevIrq = "struct physdev_irq" { irq, vector };
        physdev::PhysdevEoi = "struct physdev_eoi" { irq };
        physdev::PhysdevPirqEoiGmfn = "struct physdev_pirq_eoi_gmfn" { gmfn };
        physdev::PhysdevMapPirq = "struct physdev_map_pirq" {
            domid, r#type, index, pirq, bus, devfn, entry_nr, table_base,
        } pad { _pad0, _pad1 };
        physdev::PhysdevUnmapPirq = "struct physdev_unmap_pirq" { domid, pirq } pad { _pad0 };
        physdev::PhysdevManagePci = "struct physdev_manage_pci" { bus, devfn };
        physdev::PhysdevSetupGsi = "struct physdev_setup_gsi" { gsi, triggering, polarity } pad { _pad0 };
        physdev::PhysdevGetFreePirq = "struct physdev_get_free_pirq" { r#type, pirq };
        physdev::PhysdevPciMmcfgReserved = "struct physdev_pci_mmcfg_reserved" {
            address, segment, start_bus, end_bus, flags,
        };
        physdev::PhysdevPciDeviceAdd = "struct physdev_pci_device_add" {
            seg, bus, devfn, flags, physfn,
        } pad { _pad0 };
        physdev::PhysdevPciDevice = "struct physdev_pci_device" { seg, bus, devfn };
        platform::XenPlatformOp = "struct xen_platform_op" { cmd, interface_version, u };
        platform::XenpfSettime64 = "struct xenpf_settime64" { secs, nsecs, mbz, system_time };
        platform::XenpfPcpuinfo = "struct xenpf_pcpuinfo" { xen_cpuid, max_present, flags, apic_id, acpi_id };
        sched::SchedShutdown = "struct sched_shutdown" { reason };
        sched::SchedPoll = "struct sched_poll" { ports, nr_ports, timeout } pad { _pad0 };
        sched::SchedRemoteShutdown = "struct sched_remote_shutdown" { domain_id, reason } pad { _pad0 };
        sched::SchedWatchdog = "struct sched_watchdog" { id, timeout };
        sched::SchedPinOverride = "struct sched_pin_override" { pcpu };
        shared_info::VcpuTimeInfo = "struct vcpu_time_info" {
            version, pad0, tsc_timestamp, system_time, tsc_to_system_mul, tsc_shift, flags, pad1,
        };
        shared_info::ArchVcpuInfo = "struct arch_vcpu_info" { cr2, pad };
        shared_info::VcpuInfo = "struct vcpu_info" {
            evtchn_upcall_pending, evtchn_upcall_mask, evtchn_pending_sel, arch, time,
        } pad { _pad0 };
        shared_info::ArchSharedInfo = "struct arch_shared_info" {
            max_pfn, pfn_to_mfn_frame_list_list, nmi_reason, p2m_cr3, p2m_vaddr, p2m_generation,
        };
        shared_info::SharedInfo = "struct shared_info" {
            vcpu_info, evtchn_pending, evtchn_mask, wc_version, wc_sec, wc_nsec, wc_sec_hi, arch,
        };
        start_info::StartInfo = "struct start_info" {
            magic, nr_pages, shared_info, flags, store_mfn, store_evtchn, console_mfn = "console.domU.mfn",
            console_evtchn = "console.domU.evtchn", pt_base, nr_pt_frames, mfn_list, mod_start, mod_len, cmd_line,
            first_p2m_pfn, nr_p2m_frames,
        } pad { _pad0, _pad1, _pad2 };
        start_info::XenMultibootModList = "struct xen_multiboot_mod_list" { mod_start, mod_end, cmdline, pad };
        start_info::Dom0VgaConsoleInfo = "struct dom0_vga_console_info" {
            video_type, width = "u.vesa_lfb.width", height = "u.vesa_lfb.height",
            bytes_per_line = "u.vesa_lfb.bytes_per_line", bits_per_pixel = "u.vesa_lfb.bits_per_pixel",
            lfb_base = "u.vesa_lfb.lfb_base", lfb_size = "u.vesa_lfb.lfb_size", red_pos = "u.vesa_lfb.red_pos",
            red_size = "u.vesa_lfb.red_size", green_pos = "u.vesa_lfb.green_pos",
            green_size = "u.vesa_lfb.green_size", blue_pos = "u.vesa_lfb.blue_pos",
            blue_size = "u.vesa_lfb.blue_size", rsvd_pos = "u.vesa_lfb.rsvd_pos", rsvd_size = "u.vesa_lfb.rsvd_size",
            gbl_caps = "u.vesa_lfb.gbl_caps", mode_attrs = "u.vesa_lfb.mode_attrs", pad = "u.vesa_lfb.pad",
            ext_lfb_base = "u.vesa_lfb.ext_lfb_base",
        } pad { _pad0 };
        vcpu::VcpuRunstateInfo = "struct vcpu_runstate_info" { state, state_entry_time, time } pad { _pad0 };
        vcpu::VcpuRegisterRunstateMemoryArea = "struct vcpu_register_runstate_memory_area" { addr };
        vcpu::VcpuSetPeriodicTimer = "struct vcpu_set_periodic_timer" { period_ns };
        vcpu::VcpuSetSingleshotTimer = "struct vcpu_set_singleshot_timer" { timeout_abs_ns, flags } pad { _pad0 };
        vcpu::VcpuRegisterVcpuInfo = "struct vcpu_register_vcpu_info" { mfn, offset, rsvd };
        vcpu::VcpuGetPhysid = "struct vcpu_get_physid" { phys_id };
        vcpu::VcpuRegisterTimeMemoryArea = "struct vcpu_register_time_memory_area" { addr };
        version::CompileInfo = "struct xen_compile_info" { compiler, compile_by, compile_domain, compile_date };
        version::PlatformParameters = "struct xen_platform_parameters" { virt_start };
        version::FeatureInfo = "struct xen_feature_info" { submap_idx, submap };
        xenstore::XenstoreDomainInterface = "struct xenstore_domain_interface" {
            req, rsp, req_cons, req_prod, rsp_cons, rsp_prod, server_features, connection, error,
        };
        xenstore::XsdSockmsg = "struct xsd_sockmsg" { r#type, req_id, tx_id, len };
    }
}
