//! Ways between kernel and process.

use core::arch::asm;

use ptk::check::{equal, holds};
use ptk::trap::{Fault, catch, fault_of};
use ptk::user::{self, CODE, STACK};
use ptk::{event, hypercall, instr, memory, xmode};
use xen_abi::event_channel::VIRQ_TIMER;
use xen_abi::hypercall::{__HYPERVISOR_set_timer_op, __HYPERVISOR_stack_switch};

/// Whether a fault came from a process, and its frame is where such frames belong.
fn from_process(fault: &Fault) -> bool {
    fault.cs & 3 == 3 && fault.rsp < 1 << 47 && xmode::is_entry_stack(fault.frame)
}

/// Goes to the process without a call: a stack and a jump.
fn jump(rip: u64) -> Option<Fault> {
    catch(|| {
        // SAFETY: what comes of it is the experiment; `catch` gets the stack back.
        unsafe { asm!("mov rsp, {}", "jmp {}", in(reg) STACK + 2048, in(reg) rip, options(noreturn)) }
    })
}

pub fn run() {
    equal("a stack by call is not asked for", hypercall(__HYPERVISOR_stack_switch, &[0xe02b, 0x1000]), 0);
    user::write_code(&[0x0f, 0x0b]);
    let by_iret = user::run(CODE, 0x202);
    equal("a process by iret faults", by_iret.map(|f| (f.vector, f.rip)), Some((6, CODE)));
    holds("its frame is a process's", by_iret.is_some_and(|f| from_process(&f)));
    let by_jump = jump(CODE);
    equal("a process by a jump faults", by_jump.map(|f| (f.vector, f.rip)), Some((6, CODE)));
    holds("its frame is a process's", by_jump.is_some_and(|f| from_process(&f)));
    let in_kernel = catch(|| {
        // SAFETY: the fault is the experiment.
        unsafe { asm!("ud2") }
    });
    holds(
        "a fault of the kernel's is the kernel's",
        in_kernel.is_some_and(|f| f.vector == 6 && f.cs & 3 == 0 && !xmode::is_entry_stack(f.frame)),
    );
    calls();
    page_faults();
    upcalls();
}

/// `syscall`: the kernel's is a hypercall, a process's a system call.
fn calls() {
    user::write_code(&[0x0f, 0x05]);
    let call = jump(CODE);
    equal("a process's syscall is a system call", call.map(|f| (f.vector, f.rip)), Some((258, CODE + 2)));
    holds("its frame is a process's", call.is_some_and(|f| from_process(&f)));
    // The kernel's own code, on the stack of a process: `xen_version` would answer a hypercall.
    let pretended = catch(|| {
        // SAFETY: what comes of it is the experiment.
        unsafe { asm!("mov rsp, {}", "mov eax, 17", "xor edi, edi", "syscall", "ud2", in(reg) STACK + 2048, options(noreturn)) }
    });
    equal("so is one of the kernel's code on a process's stack", pretended.map(|f| f.vector), Some(258));
}

fn page_faults() {
    // mov al, [0]
    user::write_code(&[0x8a, 0x04, 0x25, 0, 0, 0, 0]);
    let low = jump(CODE);
    equal("a process reads nothing", low.map(|f| (f.vector, f.error, f.cr2)), Some((14, 4, 0)));
    equal(
        "the kernel reads nothing",
        fault_of(|| {
            let _ = instr::load(0x10);
        }),
        Some((14, 0)),
    );
    // mov byte ptr [rsp], 1; mov rax, [kernel address]; ud2: no wall inside a container.
    let target = memory::page();
    instr::store64(target, 0x1234_5678);
    let mut code = [0x48, 0xa1, 0, 0, 0, 0, 0, 0, 0, 0, 0x48, 0x89, 0x04, 0x24, 0x0f, 0x0b];
    code[2..10].copy_from_slice(&target.to_le_bytes());
    user::write_code(&code);
    let shared = jump(CODE);
    equal("a process may read its kernel's memory, by design", shared.map(|f| f.vector), Some(6));
    equal("and sees it", instr::load64(STACK + 2048), 0x1234_5678);
    // mov byte ptr [hypervisor], 1
    let mut code = [0x48, 0xa2, 0, 0, 0, 0, 0, 0, 0, 0];
    code[2..].copy_from_slice(&0xffff_8080_0010_0000u64.to_le_bytes());
    user::write_code(&code);
    holds("but not the hypervisor's", jump(CODE).is_some_and(|f| f.vector == 14));
}

/// Events in the middle of a process: it goes on after each, with nothing changed.
fn upcalls() {
    let timer = event::bind_virq(VIRQ_TIMER, 0);
    holds("a timer", timer.is_ok());
    event::unmask(timer.unwrap_or(0));
    let before = event::upcalls();
    // mov rax, counter; 1: cmp qword ptr [rax], r12; jb 1b; ud2
    let mut code = [0x48, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0x4c, 0x39, 0x20, 0x72, 0xfb, 0x0f, 0x0b];
    code[2..10].copy_from_slice(&event::upcalls_at().to_le_bytes());
    user::write_code(&code);
    for round in 1..=5 {
        hypercall(__HYPERVISOR_set_timer_op, &[memory::now_ns() + 2_000_000]);
        event::mask_upcalls(false);
        let ended = catch(|| {
            // SAFETY: what comes of it is the experiment.
            unsafe { asm!("mov rsp, {}", "jmp {}", in(reg) STACK + 2048, in(reg) CODE, in("r12") before + round, options(noreturn)) }
        });
        event::mask_upcalls(true);
        equal("an upcall comes to a process, which goes on", ended.map(|f| (f.vector, f.rip, f.rsp)), Some((6, CODE + 15, STACK + 2048)));
    }
    equal("each came once", event::upcalls() - before, 5);
}
