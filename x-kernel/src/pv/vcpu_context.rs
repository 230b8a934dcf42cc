//! `VCPUOP_initialise` and `VCPUOP_register_vcpu_info`: a vCPU's first state, and the place of its `vcpu_info`.

use alloc::sync::Arc;
use core::sync::atomic::Ordering;

use pv_core::frame::{self, FrameKind, Mfn};
use xen_abi::arch_x86::{VGCF_in_kernel, VcpuGuestContext};
use xen_abi::errno::Errno;

use super::{abom, descriptor, mmu, vcpu_info};
use crate::arch::x86_64::entry::GuestRegs;
use crate::arch::x86_64::entry::regs::rflags;
use crate::domain::Domain;
use crate::domain::vcpu::{Callback, GDT_FRAMES, MAX_GDT_ENTRIES, TrapGate, Vcpu, VcpuState};
use crate::mm::layout::is_canonical;
use crate::mm::machine::machine;
use crate::mm::window::FrameWindow;

/// Gives a vCPU that is down its first state.
///
/// # Errors
/// `-EEXIST` if it has one, `-EINVAL` for an address, frame or table that it may not have: it stays without state.
pub fn initialise(domain: &Arc<Domain>, vcpu: &Vcpu, context: &VcpuGuestContext) -> Result<(), Errno> {
    let is_up = || vcpu.initialised.load(Ordering::Acquire) || vcpu.online.load(Ordering::Acquire);
    if is_up() {
        return Err(Errno::EEXIST);
    }
    // The caller's own state is held, too. Two vCPUs cannot wait for each other here: one that has no state yet does
    // not run, so it waits for nobody.
    let mut state = vcpu.state.lock_nested();
    // Another vCPU may have been faster.
    if is_up() {
        return Err(Errno::EEXIST);
    }
    let addresses = [
        context.event_callback_eip,
        context.failsafe_callback_eip,
        context.syscall_callback_eip,
        context.fs_base,
        context.gs_base_kernel,
        context.gs_base_user,
    ];
    let in_kernel = context.flags & VGCF_in_kernel != 0;
    if !addresses.into_iter().all(is_canonical) || !in_kernel {
        return Err(Errno::EINVAL);
    }
    if !context.trap_ctxt.iter().all(|t| is_canonical(t.address)) {
        return Err(Errno::EINVAL);
    }
    let entries = u32::try_from(context.gdt_ents).ok().filter(|&n| n <= MAX_GDT_ENTRIES).ok_or(Errno::EINVAL)?;
    let mut gdt = [None; GDT_FRAMES];
    for (slot, &mfn) in gdt.iter_mut().zip(context.gdt_frames.iter()).take(entries.div_ceil(512) as usize) {
        *slot = Some(Mfn::new(mfn).ok_or(Errno::EINVAL)?);
    }
    let root = Mfn::new(context.ctrlreg[3] >> 12).ok_or(Errno::EINVAL)?;
    let user_root = if context.ctrlreg[1] == 0 { None } else { Some(Mfn::new(context.ctrlreg[1] >> 12).ok_or(Errno::EINVAL)?) };

    descriptor::install_gdt(domain, vcpu, &mut state, gdt, entries)?;
    if let Err(errno) = mmu::take_base(domain, root) {
        let _mm = domain.mm.lock();
        descriptor::release_gdt(domain, vcpu, &mut state);
        return Err(errno);
    }
    state.kernel_root = Some(root);
    if let Some(user) = user_root {
        if let Err(errno) = mmu::take_base(domain, user) {
            mmu::give_base(domain, root);
            state.kernel_root = None;
            let _mm = domain.mm.lock();
            descriptor::release_gdt(domain, vcpu, &mut state);
            return Err(errno);
        }
        state.user_root = Some(user);
    }
    fill(&mut state, context);
    vcpu.initialised.store(true, Ordering::Release);
    Ok(())
}

/// Copies what needs no counting.
fn fill(state: &mut VcpuState, context: &VcpuGuestContext) {
    let u = &context.user_regs;
    state.regs = GuestRegs {
        r15: u.r15,
        r14: u.r14,
        r13: u.r13,
        r12: u.r12,
        rbp: u.rbp,
        rbx: u.rbx,
        r11: u.r11,
        r10: u.r10,
        r9: u.r9,
        r8: u.r8,
        rax: u.rax,
        rcx: u.rcx,
        rdx: u.rdx,
        rsi: u.rsi,
        rdi: u.rdi,
        error_code: 0,
        vector: 0,
        rip: u.rip,
        cs: u64::from(u.cs),
        rflags: u.rflags,
        rsp: u.rsp,
        ss: u64::from(u.ss),
    };
    state.regs.sanitise();
    // Linux gives its other vCPUs their I/O privilege here.
    state.iopl = ((u.rflags & rflags::IOPL) >> rflags::IOPL.trailing_zeros() & 3) as u8;
    state.in_kernel = true;
    state.kernel_ss = context.kernel_ss & 0xffff;
    state.kernel_sp = context.kernel_sp;
    for (gate, info) in state.traps.iter_mut().zip(context.trap_ctxt.iter()) {
        *gate = TrapGate {
            address: info.address,
            dpl: xen_abi::arch_x86::trap_info_dpl(info),
            masks_events: xen_abi::arch_x86::trap_info_masks_events(info),
        };
    }
    state.event = Callback { address: context.event_callback_eip, masks_events: true };
    state.failsafe = Callback { address: context.failsafe_callback_eip, masks_events: false };
    state.syscall = Callback { address: context.syscall_callback_eip, masks_events: false };
    let s = &mut state.segments;
    (s.ds, s.es, s.fs, s.gs) = (u.ds, u.es, u.fs, u.gs);
    s.fs_base = context.fs_base;
    s.gs_base_kernel = context.gs_base_kernel;
    s.gs_base_user = context.gs_base_user;
}

/// Moves a vCPU's `vcpu_info` to `offset` in frame `mfn`, for good. The frame stays counted as writable, so it
/// can become neither a page table nor another domain's.
///
/// # Errors
/// `-EINVAL` if it has been moved already, for an offset that is misaligned or crosses the frame, or a frame that
/// is `shared_info` or not the domain's own writable memory.
pub fn move_info(domain: &Arc<Domain>, vcpu: &Vcpu, mfn: Mfn, offset: u32) -> Result<(), Errno> {
    let offset = offset as usize;
    if !offset.is_multiple_of(8) || offset > 4096 - vcpu_info::SIZE {
        return Err(Errno::EINVAL);
    }
    let old = vcpu.info_maddr.load(Ordering::Acquire);
    if old >> 12 != domain.shared_info.raw() && old != 0 {
        return Err(Errno::EINVAL);
    }
    // There each vCPU has its place already, and `tear_down` knows by the frame whether there is a count to give back.
    if mfn == domain.shared_info {
        return Err(Errno::EINVAL);
    }
    frame::get_typed(machine(), mfn, domain.id, FrameKind::Writable).map_err(|_| Errno::EINVAL)?;
    let Some(to) = FrameWindow::new(mfn) else {
        mmu::put_typed(mfn);
        return Err(Errno::EINVAL);
    };
    let mut bytes = [0u8; vcpu_info::SIZE];
    if let Some(from) = Mfn::new(old >> 12).and_then(FrameWindow::new) {
        from.copy_in((old & 0xfff) as usize, &mut bytes);
    }
    to.copy_out(offset, &bytes);
    let new = mfn.maddr().raw() | offset as u64;
    if vcpu.info_maddr.compare_exchange(old, new, Ordering::AcqRel, Ordering::Acquire).is_err() {
        // Another vCPU has moved it meanwhile: its count is the one that is given back in the end.
        mmu::put_typed(mfn);
        return Err(Errno::EINVAL);
    }
    // Whatever was raised at the old place between the copy and the store must not be lost: raise all again.
    super::evtchn::raise_all_again(vcpu);
    Ok(())
}

/// Gives back what a vCPU that will not run again holds: its tables, its roots, its `vcpu_info`. May be called again.
pub fn tear_down(domain: &Arc<Domain>, vcpu: &Vcpu) {
    let mut state = vcpu.state.lock();
    abom::count_calls(domain, &mut state);
    {
        let _mm = domain.mm.lock();
        descriptor::release_gdt(domain, vcpu, &mut state);
        descriptor::release_ldt(domain, vcpu, &mut state);
    }
    for root in [state.kernel_root.take(), state.user_root.take()].into_iter().flatten() {
        mmu::give_base(domain, root);
    }
    let info = vcpu.info_maddr.swap(0, Ordering::AcqRel);
    if info != 0
        && info >> 12 != domain.shared_info.raw()
        && let Some(mfn) = Mfn::new(info >> 12)
    {
        mmu::put_typed(mfn);
    }
}
