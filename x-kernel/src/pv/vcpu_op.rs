//! `vcpu_op`: bringing vCPUs up and down, their timers, runstate and the place of their `vcpu_info`.

use core::sync::atomic::Ordering;

use pv_core::frame::Mfn;
use xen_abi::arch_x86::VcpuGuestContext;
use xen_abi::errno::Errno;
use xen_abi::vcpu::{
    VCPU_SSHOTTMR_future, VCPUOP_down, VCPUOP_get_runstate_info, VCPUOP_initialise, VCPUOP_is_up, VCPUOP_register_runstate_memory_area,
    VCPUOP_register_vcpu_info, VCPUOP_register_vcpu_time_memory_area, VCPUOP_send_nmi, VCPUOP_set_periodic_timer,
    VCPUOP_set_singleshot_timer, VCPUOP_stop_periodic_timer, VCPUOP_stop_singleshot_timer, VCPUOP_up, VcpuRegisterRunstateMemoryArea,
    VcpuRegisterTimeMemoryArea, VcpuRegisterVcpuInfo, VcpuRunstateInfo, VcpuSetPeriodicTimer, VcpuSetSingleshotTimer,
};

use super::hypercall::{Args, HcCx, HcResult, OK, Outcome};
use super::{vcpu_context, vcpu_info};
use crate::arch::x86_64::tsc;
use crate::domain::vcpu::Vcpu;
use crate::mm::guest_access::GuestPtr;
use crate::sched;

/// The shortest period of the periodic timer, as in the reference: 1 ms.
const SHORTEST_PERIOD_NS: u64 = 1_000_000;

/// `vcpu_op(cmd, vcpu, arg)`.
///
/// # Errors
/// `-ENOENT` for a vCPU that does not exist, `-EEXIST` for one initialised twice, `-EINVAL` where the guest
/// names another vCPU than its own for an operation on itself, `-EFAULT`, `-ETIME`, `-ENOMEM`, `-ENOSYS`.
pub fn vcpu_op(cx: &mut HcCx<'_>, args: &mut Args) -> HcResult {
    let (command, id) = (args.u32::<0>(), args.u32::<1>());
    let target = cx.domain.vcpu(id).cloned().ok_or(Errno::ENOENT)?;
    match command {
        c if c == VCPUOP_initialise => {
            let context = args.ptr::<VcpuGuestContext, 2>().read()?;
            match vcpu_context::initialise(cx.domain, &target, &context) {
                Err(Errno::ERESTART) => return Ok(Outcome::Preempted),
                done => done?,
            }
        }
        c if c == VCPUOP_up => {
            if !target.initialised.load(Ordering::Acquire) {
                return Err(Errno::EINVAL);
            }
            vcpu_info::update_time(&target);
            if !sched::start(&target, cx.domain) {
                return Err(Errno::EINVAL);
            }
        }
        c if c == VCPUOP_down => {
            sched::stop(&target);
        }
        c if c == VCPUOP_is_up => return Ok(Outcome::Done(i64::from(target.online.load(Ordering::Acquire)))),
        c if c == VCPUOP_get_runstate_info => {
            let info = runstate(&target);
            args.ptr::<VcpuRunstateInfo, 2>().write(&info)?;
        }
        c if c == VCPUOP_register_runstate_memory_area => {
            let area = args.ptr::<VcpuRegisterRunstateMemoryArea, 2>().read()?;
            target.runstate.lock().guest_area = area.addr;
            if id == cx.vcpu.id {
                publish_runstate(&target);
            }
        }
        c if c == VCPUOP_set_periodic_timer => {
            let timer = args.ptr::<VcpuSetPeriodicTimer, 2>().read()?;
            if timer.period_ns < SHORTEST_PERIOD_NS || i64::try_from(timer.period_ns).is_err() {
                return Err(Errno::EINVAL);
            }
            target.period_next_ns.store(tsc::now_ns().saturating_add(timer.period_ns), Ordering::Relaxed);
            target.period_ns.store(timer.period_ns, Ordering::Relaxed);
            sched::timers_changed(&target);
        }
        c if c == VCPUOP_stop_periodic_timer => target.period_ns.store(0, Ordering::Relaxed),
        c if c == VCPUOP_set_singleshot_timer => {
            own(cx, id)?;
            let timer = args.ptr::<VcpuSetSingleshotTimer, 2>().read()?;
            if timer.flags & VCPU_SSHOTTMR_future != 0 && timer.timeout_abs_ns < tsc::now_ns() {
                return Err(Errno::ETIME);
            }
            target.singleshot_ns.store(timer.timeout_abs_ns.max(1), Ordering::Relaxed);
            sched::timers_changed(&target);
        }
        c if c == VCPUOP_stop_singleshot_timer => {
            own(cx, id)?;
            target.singleshot_ns.store(0, Ordering::Relaxed);
        }
        c if c == VCPUOP_register_vcpu_info => {
            let place = args.ptr::<VcpuRegisterVcpuInfo, 2>().read()?;
            vcpu_context::move_info(cx.domain, &target, Mfn::new(place.mfn).ok_or(Errno::EINVAL)?, place.offset)?;
        }
        c if c == VCPUOP_register_vcpu_time_memory_area => {
            let area = args.ptr::<VcpuRegisterTimeMemoryArea, 2>().read()?;
            if area.addr != 0 {
                vcpu_info::write_time(area.addr)?;
            }
        }
        c if c == VCPUOP_send_nmi => {
            target.nmi_pending.store(true, Ordering::Release);
            sched::wake(&target);
        }
        _ => return Err(Errno::ENOSYS),
    }
    OK
}

/// Refuses an operation that a vCPU may do only to itself.
fn own(cx: &HcCx<'_>, id: u32) -> Result<(), Errno> {
    if id == cx.vcpu.id { Ok(()) } else { Err(Errno::EINVAL) }
}

/// The runstate of `vcpu` now.
fn runstate(vcpu: &Vcpu) -> VcpuRunstateInfo {
    let mut state = *vcpu.runstate.lock();
    let now = state.state;
    let entered = state.entered_ns;
    state.enter(now, tsc::now_ns());
    VcpuRunstateInfo { state: now, state_entry_time: entered, time: state.time_ns, ..VcpuRunstateInfo::default() }
}

/// Writes the runstate of the running vCPU to where the guest wants it. A place that cannot be written is the
/// guest's own loss.
pub fn publish_runstate(vcpu: &Vcpu) {
    let area = vcpu.runstate.lock().guest_area;
    if area != 0 {
        let info = runstate(vcpu);
        let _ = GuestPtr::<VcpuRunstateInfo>::new(area).write(&info);
    }
}
