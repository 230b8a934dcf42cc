//! Small hypercalls: kernel stack, FPU task switch, segment bases, assists, platform, physdev.

use core::sync::atomic::Ordering;

use xen_abi::arch_x86::{SEGBASE_FS, SEGBASE_GS_KERNEL, SEGBASE_GS_USER, SEGBASE_GS_USER_SEL};
use xen_abi::errno::Errno;
use xen_abi::physdev::{PHYSDEVOP_set_iobitmap, PHYSDEVOP_set_iopl, PhysdevSetIopl};
use xen_abi::platform::{XENPF_INTERFACE_VERSION, XENPF_settime64};
use xen_abi::version::{
    VMASST_CMD_disable, VMASST_CMD_enable, VMASST_TYPE_architectural_iopl, VMASST_TYPE_m2p_strict, VMASST_TYPE_pae_extended_cr3,
    VMASST_TYPE_runstate_update_flag, VMASST_TYPE_writable_pagetables,
};

use super::hypercall::{Args, HcCx, HcResult, OK};
use crate::arch::x86_64::context;
use crate::mm::layout::is_canonical;

/// `stack_switch(ss, sp)`: where an entry from user mode starts pushing.
///
/// # Errors
/// None: a bad stack shows when it is used.
pub fn stack_switch(cx: &mut HcCx<'_>, args: &mut Args) -> HcResult {
    cx.state.kernel_ss = args.u64::<0>() & 0xffff;
    cx.state.kernel_sp = args.u64::<1>();
    OK
}

/// `fpu_taskswitch(set)`: sets or clears CR0.TS.
pub fn fpu_taskswitch(cx: &mut HcCx<'_>, args: &mut Args) -> HcResult {
    cx.state.task_switched = args.u32::<0>() != 0;
    context::apply_ts(cx.state);
    OK
}

/// `set_segment_base(which, base)`.
///
/// # Errors
/// `-EINVAL` for a non-canonical base (XSA-193) or an unknown register.
pub fn set_segment_base(cx: &mut HcCx<'_>, args: &mut Args) -> HcResult {
    let (which, base) = (args.u32::<0>(), args.u64::<1>());
    if which == SEGBASE_GS_USER_SEL {
        let selector = (base & 0xffff) as u16;
        context::load_user_gs(cx.state, selector);
        return OK;
    }
    if !is_canonical(base) {
        return Err(Errno::EINVAL);
    }
    context::save_bases(cx.state);
    let segments = &mut cx.state.segments;
    match which {
        w if w == SEGBASE_FS => segments.fs_base = base,
        w if w == SEGBASE_GS_USER => segments.gs_base_user = base,
        w if w == SEGBASE_GS_KERNEL => segments.gs_base_kernel = base,
        _ => return Err(Errno::EINVAL),
    }
    context::load_bases(cx.state);
    OK
}

/// `vm_assist(cmd, type)`.
///
/// # Errors
/// `-EINVAL` for an assist that is not offered, `-ENOSYS` for an unknown command.
pub fn vm_assist(cx: &mut HcCx<'_>, args: &mut Args) -> HcResult {
    let (cmd, assist) = (args.u32::<0>(), args.u32::<1>());
    let offered = [
        VMASST_TYPE_writable_pagetables,
        VMASST_TYPE_pae_extended_cr3,
        VMASST_TYPE_architectural_iopl,
        VMASST_TYPE_runstate_update_flag,
        VMASST_TYPE_m2p_strict,
    ];
    if !offered.contains(&assist) {
        return Err(Errno::EINVAL);
    }
    let bit = 1u64 << (assist & 63);
    match cmd {
        c if c == VMASST_CMD_enable => cx.domain.assists.fetch_or(bit, Ordering::Relaxed),
        c if c == VMASST_CMD_disable => cx.domain.assists.fetch_and(!bit, Ordering::Relaxed),
        _ => return Err(Errno::ENOSYS),
    };
    OK
}

/// `platform_op(op)`: only setting the wall clock, which stays as it is. A kernel that is refused asks again at every
/// tick.
///
/// # Errors
/// `-EPERM` but for the first domain, `-EACCES` for another version of the interface, `-EFAULT`, `-ENOSYS` for every
/// operation on hardware.
pub fn platform_op(cx: &mut HcCx<'_>, args: &mut Args) -> HcResult {
    if !cx.domain.initial {
        return Err(Errno::EPERM);
    }
    let [cmd, version] = args.ptr::<[u32; 2], 0>().read()?;
    match cmd {
        _ if version != XENPF_INTERFACE_VERSION => Err(Errno::EACCES),
        c if c == XENPF_settime64 => OK,
        _ => Err(Errno::ENOSYS),
    }
}

/// `physdev_op(cmd, arg)`: only the I/O privilege level, by which port instructions fault or are emulated.
///
/// # Errors
/// `-EINVAL` for a level above 3, `-EFAULT`, `-ENOSYS` for every operation on hardware.
pub fn physdev_op(cx: &mut HcCx<'_>, args: &mut Args) -> HcResult {
    match args.u32::<0>() {
        c if c == PHYSDEVOP_set_iopl => {
            let set = args.ptr::<PhysdevSetIopl, 1>().read()?;
            cx.state.iopl = u8::try_from(set.iopl).ok().filter(|&l| l <= 3).ok_or(Errno::EINVAL)?;
            OK
        }
        c if c == PHYSDEVOP_set_iobitmap => OK,
        _ => Err(Errno::ENOSYS),
    }
}
