//! Guests send any bytes: every structure must take them, give them back unchanged, and answer every question about
//! them without a panic.

#![expect(clippy::indexing_slicing, clippy::arithmetic_side_effects, reason = "a test may panic")]

use proptest::prelude::*;
use xen_abi::errno::Errno;
use xen_abi::{event_channel, grant_table, hypercall, mmu, start_info};
use zerocopy::{FromBytes, Immutable, IntoBytes};

/// Bytes of the largest structure.
const LARGEST: usize = 5168;

/// Reads a `T` from the beginning of `bytes` and writes it back. Without padding left to the compiler, and with every bit
/// pattern a value, the two are the same.
fn round_trip<T: FromBytes + IntoBytes + Immutable>(bytes: &[u8]) {
    let (value, _) = T::read_from_prefix(bytes).map_err(|_| "too short").expect("enough bytes");
    assert_eq!(value.as_bytes(), &bytes[..size_of::<T>()]);
    assert!(T::read_from_prefix(&bytes[..size_of::<T>() - 1]).is_err());
}

macro_rules! round_trips {
    ($bytes:ident; $($module:ident { $($name:ident),* $(,)? })*) => {$($(
        const { assert!(size_of::<xen_abi::$module::$name>() <= LARGEST) };
        round_trip::<xen_abi::$module::$name>(&$bytes);
    )*)*};
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn any_bytes_are_a_structure(bytes in proptest::collection::vec(any::<u8>(), LARGEST)) {
        round_trips! { bytes;
            arch_x86 {
                TrapInfo, IretContext, CpuUserRegs, VcpuGuestContext, XenCpuidLeaf, XenMsrEntry,
            }
            callback {
                CallbackRegister, CallbackUnregister, XennmiCallback,
            }
            console {
                XenconsInterface,
            }
            event_channel {
                EvtchnAllocUnbound, EvtchnBindInterdomain, EvtchnBindVirq, EvtchnBindPirq, EvtchnBindIpi,
                EvtchnClose, EvtchnSend, EvtchnStatus, EvtchnBindVcpu, EvtchnUnmask, EvtchnReset, EvtchnInitControl,
                EvtchnExpandArray, EvtchnSetPriority, EvtchnFifoControlBlock,
            }
            grant_table {
                GrantEntryV1, GrantEntryV2, GnttabMapGrantRef, GnttabUnmapGrantRef, GnttabSetupTable,
                GnttabDumpTable, GnttabTransfer, GnttabCopyPtr, GnttabCopy, GnttabQuerySize, GnttabUnmapAndReplace,
                GnttabSetVersion, GnttabGetStatusFrames, GnttabGetVersion, GnttabSwapGrantRef, GnttabCacheFlush,
            }
            hypercall {
                MulticallEntry,
            }
            memory {
                XenMemoryReservation, XenMemoryExchange, XenMemoryDomain, XenMachphysMfnList, XenMachphysMapping,
                XenAddToPhysmap, XenAddToPhysmapBatch, XenRemoveFromPhysmap, XenMemoryMap, XenForeignMemoryMap,
                XenPodTarget, XenMemAcquireResource, XenVmemrange, XenVnumaTopologyInfo, E820Entry,
            }
            mmu {
                MmuUpdate, MmuextOp,
            }
            physdev {
                PhysdevIrqStatusQuery, PhysdevSetIopl, PhysdevSetIobitmap, PhysdevApic, PhysdevIrq, PhysdevEoi,
                PhysdevPirqEoiGmfn, PhysdevMapPirq, PhysdevUnmapPirq, PhysdevManagePci, PhysdevSetupGsi,
                PhysdevGetFreePirq, PhysdevPciMmcfgReserved, PhysdevPciDeviceAdd, PhysdevPciDevice,
            }
            platform {
                XenPlatformOp, XenpfSettime64, XenpfPcpuinfo,
            }
            sched {
                SchedShutdown, SchedPoll, SchedRemoteShutdown, SchedWatchdog, SchedPinOverride,
            }
            shared_info {
                VcpuTimeInfo, ArchVcpuInfo, VcpuInfo, ArchSharedInfo, SharedInfo,
            }
            start_info {
                StartInfo, XenMultibootModList, Dom0VgaConsoleInfo,
            }
            vcpu {
                VcpuRunstateInfo, VcpuRegisterRunstateMemoryArea, VcpuSetPeriodicTimer, VcpuSetSingleshotTimer,
                VcpuRegisterVcpuInfo, VcpuGetPhysid, VcpuRegisterTimeMemoryArea,
            }
            version {
                CompileInfo, PlatformParameters, FeatureInfo,
            }
            xenstore {
                XenstoreDomainInterface, XsdSockmsg,
            }
        }
    }
}

proptest! {
    #[test]
    fn any_return_value_is_an_error_or_is_not(ret in any::<i64>(), near in -5000..5000i64) {
        for ret in [ret, near] {
            if let Some(errno) = Errno::from_ret(ret) {
                prop_assert_eq!(errno.to_ret(), ret);
                prop_assert_ne!(errno.name(), "");
            }
        }
    }

    #[test]
    fn any_number_has_a_name_and_a_stub(nr in any::<u64>(), small in any::<u32>()) {
        prop_assert_eq!(hypercall::name(nr) == "unknown", nr >= 64 || hypercall::name(nr & 63) == "unknown");
        let stub = hypercall::stub(small);
        let at = if u64::from(small) == hypercall::__HYPERVISOR_iret { 5 } else { 4 };
        prop_assert_eq!(&stub[at..at + 4], small.to_le_bytes());
    }

    #[test]
    fn a_request_of_mmu_update_is_its_address_and_its_command(ptr in any::<u64>(), val in any::<u64>()) {
        let request = mmu::MmuUpdate { ptr, val };
        prop_assert_eq!(request.maddr() | request.command(), ptr);
        prop_assert_eq!(request.maddr() & 3, 0);
        prop_assert!(request.command() < 4);
    }

    #[test]
    fn readings_of_a_union_are_its_words(arg1 in any::<u64>(), arg2 in any::<u64>()) {
        let op = mmu::MmuextOp { arg1, arg2, ..Default::default() };
        prop_assert_eq!((op.mfn(), op.linear_addr()), (arg1, arg1));
        prop_assert_eq!((op.src_mfn(), op.vcpumask()), (arg2, arg2));
        prop_assert_eq!(u64::from(op.nr_ents()), arg2 & 0xffff_ffff);
        let end = grant_table::GnttabCopyPtr { u: arg1, ..Default::default() };
        prop_assert_eq!((end.number(true), end.number(false)), (arg1 & 0xffff_ffff, arg1));
    }

    #[test]
    fn what_is_set_is_read(a in any::<u32>(), b in any::<u32>(), dom in any::<u16>()) {
        let mut info = start_info::StartInfo::default();
        info.set_console_dom0(a, b);
        prop_assert_eq!(info.console_dom0(), (a, b));
        let mut status = event_channel::EvtchnStatus::default();
        status.set_interdomain(dom, a);
        // In C: a domid_t at the first byte of the union, a port at its fifth.
        prop_assert_eq!(&status.as_bytes()[16..18], dom.to_le_bytes());
        prop_assert_eq!(&status.as_bytes()[20..24], a.to_le_bytes());
    }
}
