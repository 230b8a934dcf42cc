//! `VCPUOP_initialise`, and the structures that a vCPU shares with the hypervisor.

use ptk::check::{equal, holds, one_of};
use ptk::memory::{self, PAGE};
use ptk::table::{fresh_root, pin, unpin};
use ptk::{hypercall, instr, start, trap};
use xen_abi::arch_x86::{FLAT_KERNEL_CS, FLAT_KERNEL_SS, VGCF_in_kernel, VcpuGuestContext};
use xen_abi::hypercall::__HYPERVISOR_vcpu_op;
use xen_abi::shared_info::XEN_PVCLOCK_TSC_STABLE_BIT;
use xen_abi::shared_info::vcpu_info_offset::TIME_VERSION;
use xen_abi::vcpu::*;

use crate::{EEXIST, EFAULT, EINVAL, ENOENT, vcpu_op};

/// Addresses at which nothing can be entered.
const STRANGE: [u64; 4] = [0x8000_0000_0000_0000, 0x0000_8000_0000_0000, 0xffff_7fff_ffff_ffff, 1 << 62];
/// Frames that are not the guest's.
const FOREIGN: [u64; 5] = [0, 0x100, 0xfee00, 1 << 39, u64::MAX >> 12];

/// A state that would be taken: it stops at its first instruction.
fn good() -> VcpuGuestContext {
    let mut context = VcpuGuestContext { flags: VGCF_in_kernel, ..VcpuGuestContext::default() };
    context.user_regs.rip = spin();
    context.user_regs.cs = FLAT_KERNEL_CS;
    context.user_regs.ss = FLAT_KERNEL_SS;
    context.user_regs.rsp = memory::page() + PAGE;
    context.ctrlreg[3] = memory::mfn(start::start_info().pt_base) * PAGE;
    context
}

/// Code that gives way for ever: mov eax, 29; xor edi, edi; syscall; jmp back.
fn spin() -> u64 {
    let code = memory::page();
    for (at, byte) in (0..).zip([0xb8u8, 29, 0, 0, 0, 0x31, 0xff, 0x0f, 0x05, 0xeb, 0xf5]) {
        instr::store(code + at, byte);
    }
    code
}

pub fn run() {
    let good = good();
    let try_it = |change: &dyn Fn(&mut VcpuGuestContext)| {
        let mut context = good;
        change(&mut context);
        vcpu_op(VCPUOP_initialise, 1, &context)
    };
    equal("a vCPU without state is started", vcpu_op(VCPUOP_up, 1, &0u64), EINVAL);
    for address in STRANGE {
        equal("XSA-7 an event handler at no address", try_it(&|c| c.event_callback_eip = address), EINVAL);
        equal("XSA-7 a failsafe handler at no address", try_it(&|c| c.failsafe_callback_eip = address), EINVAL);
        equal("XSA-7 a system call handler at no address", try_it(&|c| c.syscall_callback_eip = address), EINVAL);
        equal("XSA-7 an exception handler at no address", try_it(&|c| c.trap_ctxt[255].address = address), EINVAL);
        equal("XSA-193 a base of FS at no address", try_it(&|c| c.fs_base = address), EINVAL);
        equal("XSA-193 a kernel's base of GS at no address", try_it(&|c| c.gs_base_kernel = address), EINVAL);
        equal("XSA-193 a process's base of GS at no address", try_it(&|c| c.gs_base_user = address), EINVAL);
    }
    for frame in FOREIGN {
        holds("XSA-167 a root that is not the guest's", try_it(&|c| c.ctrlreg[3] = frame << 12) < 0);
        holds("XSA-167 a process's root that is not the guest's", frame == 0 || try_it(&|c| c.ctrlreg[1] = frame << 12) < 0);
        let gdt = |c: &mut VcpuGuestContext| {
            c.gdt_ents = 512;
            c.gdt_frames[0] = frame;
        };
        holds("XSA-214 a GDT that is not the guest's", try_it(&gdt) < 0);
    }
    let writable = memory::mfn(memory::page());
    holds("XSA-214 a GDT that can be written", try_it(&|c| (c.gdt_ents, c.gdt_frames[0]) = (512, writable)) < 0);
    holds("a root that can be written", try_it(&|c| c.ctrlreg[3] = writable << 12) < 0);
    equal("a GDT that is too long", try_it(&|c| c.gdt_ents = 7169), EINVAL);
    equal("a GDT of so many that a sum wraps", try_it(&|c| c.gdt_ents = u64::MAX), EINVAL);
    equal("a state in user mode", try_it(&|c| c.flags = 0), EINVAL);
    // What was refused holds nothing: a root of its own is free after a failure behind it.
    let root = fresh_root(&[]);
    let both = |c: &mut VcpuGuestContext| (c.ctrlreg[3], c.ctrlreg[1]) = (memory::mfn(root) << 12, 0x100 << 12);
    holds("XSA-291 a good root with a bad one", try_it(&both) < 0);
    equal("XSA-291 the good one is memory again", memory::unprotect(root), 0);
    arguments(&good);
    shared_places();
    // XSA-12, XSA-444: a state whose debug registers have every bit set is taken without them, or refused.
    one_of("XSA-12 a state with all debug bits", try_it(&|c| c.debugreg = [u64::MAX; 8]), &[0, EINVAL]);
    one_of("a good state", vcpu_op(VCPUOP_initialise, 1, &good), &[0, EEXIST]);
    equal("a second state", vcpu_op(VCPUOP_initialise, 1, &good), EEXIST);
    equal("its own state while it runs", vcpu_op(VCPUOP_initialise, 0, &good), EEXIST);
    equal("it is started", vcpu_op(VCPUOP_up, 1, &0u64), 0);
    equal("it is up", vcpu_op(VCPUOP_is_up, 1, &0u64), 1);
    equal("it is stopped", vcpu_op(VCPUOP_down, 1, &0u64), 0);
    equal("its root is pinned once", unpin(memory::mfn(start::start_info().pt_base)), 0);
    equal("and again", pin(4, memory::mfn(start::start_info().pt_base)), 0);
}

/// Numbers of vCPUs and places of arguments.
fn arguments(good: &VcpuGuestContext) {
    for vcpu in [2u64, 31, 32, 64, 8192, 0x7fff_ffff, 0xffff_ffff] {
        for command in 0..14 {
            equal("XSA-296 a vCPU that is none", vcpu_op(command, vcpu, good), ENOENT);
        }
    }
    for at in [0xffff_8080_0010_0000u64, 0x8000_0000_0000_0000, 0x5000_0000_0000] {
        for command in [VCPUOP_initialise, VCPUOP_register_vcpu_info, VCPUOP_set_periodic_timer, VCPUOP_register_runstate_memory_area] {
            equal("XSA-212 an argument in forbidden memory", hypercall(__HYPERVISOR_vcpu_op, &[command.into(), 1, at]), EFAULT);
        }
        equal("XSA-212 an answer in forbidden memory", hypercall(__HYPERVISOR_vcpu_op, &[VCPUOP_get_runstate_info.into(), 0, at]), EFAULT);
        // Registered, but never written: the place is the guest's own loss.
        one_of("an area in forbidden memory", vcpu_op(VCPUOP_register_runstate_memory_area, 0, &at), &[0, EFAULT]);
    }
    let page = memory::page();
    memory::write_protect(page);
    one_of("an area that cannot be written", vcpu_op(VCPUOP_register_runstate_memory_area, 0, &page), &[0, EFAULT]);
    let faults = trap::taken(14);
    hypercall(xen_abi::hypercall::__HYPERVISOR_sched_op, &[0]);
    equal("it is not", (instr::load64(page), trap::taken(14)), (0, faults));
    equal("no area", vcpu_op(VCPUOP_register_runstate_memory_area, 0, &0u64), 0);
    time_area();
}

/// `VCPUOP_register_vcpu_info`: into whose memory, and where in it.
fn shared_places() {
    let place = |mfn, offset| vcpu_op(VCPUOP_register_vcpu_info, 1, &VcpuRegisterVcpuInfo { mfn, offset, rsvd: 0 });
    for frame in FOREIGN {
        holds("XSA-248 a vcpu_info in a frame that is not the guest's", place(frame, 0) < 0);
    }
    let page = memory::mfn(memory::page());
    for offset in [4033u32, 4095, 4096, 0x8000_0000, u32::MAX, u32::MAX - 63] {
        equal("XSA-338 a vcpu_info past its page", place(page, offset), EINVAL);
    }
    holds("a vcpu_info in a page table", place(memory::mfn(start::start_info().pt_base), 0) < 0);
    equal("a vcpu_info as it should be", place(page, 64), 0);
    holds("a second place for it", place(page, 128) < 0);
}

/// The time in an area of the guest's own is that of `vcpu_info`.
fn time_area() {
    let area = memory::page();
    equal("an area for the time", vcpu_op(VCPUOP_register_vcpu_time_memory_area, 0, &area), 0);
    // TSC, system time, and the scale with its flags in one word.
    let own = [8, 16, 24].map(|at| instr::load64(area + at as u64));
    let shared = [8, 16, 24].map(|at| memory::vcpu_info_word(TIME_VERSION + at));
    equal("the scale is that of vcpu_info", own[2], shared[2]);
    equal("all vCPUs have one time", own[2] >> 40 & 0xff, u64::from(XEN_PVCLOCK_TSC_STABLE_BIT));
    let at = |[then, time, scale]: [u64; 3], tsc: u64| {
        let (ticks, shift) = (u128::from(tsc - then), (scale >> 32) as i8);
        let shifted = if shift < 0 { ticks >> -shift } else { ticks << shift };
        time + (shifted * u128::from(scale as u32) >> 32) as u64
    };
    let later = own[0].max(shared[0]) + 1_000_000;
    holds("both say the same", at(own, later).abs_diff(at(shared, later)) < 10);
    equal("no area for the time", vcpu_op(VCPUOP_register_vcpu_time_memory_area, 0, &0u64), 0);
    equal("an area for the time in forbidden memory", vcpu_op(VCPUOP_register_vcpu_time_memory_area, 0, &0xffff_8080_0010_0000u64), EFAULT);
}
