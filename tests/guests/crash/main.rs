//! A guest that cannot go on: it ends, with the reason logged, and nobody else does. `case=` on the command line says
//! which way it goes (goal G12).
#![no_std]
#![no_main]
#![expect(unsafe_code, reason = "a stack that is none")]
#![expect(clippy::undocumented_unsafe_blocks, reason = "the guest ends here")]

use core::arch::asm;

use ptk::check::shutdown;
use ptk::table::{fresh, new_base, pin};
use ptk::{hypercall, instr, memory, println, start, user};
use xen_abi::hypercall::{__HYPERVISOR_iret, __HYPERVISOR_set_trap_table, __HYPERVISOR_stack_switch};
use xen_abi::sched::{SHUTDOWN_crash, SHUTDOWN_reboot, SHUTDOWN_watchdog};

fn main() {
    let case = start::option("case").unwrap_or(0);
    println!("crash: case {case}");
    match case {
        // The stack is nowhere when an exception comes.
        1 => unsafe { asm!("mov rsp, 0x1000", "ud2", options(noreturn)) },
        // It is in the hypervisor's memory.
        2 => unsafe { asm!("mov rsp, 0xffff808000200000", "ud2", options(noreturn)) },
        // It is read-only.
        3 => {
            let page = memory::page();
            memory::write_protect(page);
            unsafe { asm!("mov rsp, {}", "ud2", in(reg) page + 4096, options(noreturn)) }
        }
        // No handler for what happens.
        4 => {
            let none = [0u64; 2];
            hypercall(__HYPERVISOR_set_trap_table, &[none.as_ptr() as u64]);
            let empty = [0u8; 16 * 2];
            hypercall(__HYPERVISOR_set_trap_table, &[empty.as_ptr() as u64]);
            hypercall(__HYPERVISOR_set_trap_table, &[0]);
            unsafe { asm!("ud2", options(noreturn)) }
        }
        // A root that does not map the code.
        5 => {
            let root = fresh(&[]);
            println!("pin: {}", pin(4, memory::mfn(root)));
            println!("new base: {}", new_base(memory::mfn(root)));
        }
        // iret from nowhere.
        6 => unsafe { asm!("mov rsp, 0x2000", "mov eax, {}", "syscall", const __HYPERVISOR_iret, options(noreturn)) },
        // A process enters a kernel without a stack.
        7 => {
            println!("process: {}", user::prepare());
            hypercall(__HYPERVISOR_stack_switch, &[0xe02b, 0x3000]);
            user::run_code(&[0x0f, 0x0b]);
        }
        // It faults for ever: each fault is bounced to a handler that faults.
        8 => {
            let table =
                [xen_abi::arch_x86::TrapInfo { vector: 6, cs: 0xe033, address: instr_ud2(), ..Default::default() }, Default::default()];
            hypercall(__HYPERVISOR_set_trap_table, &[table.as_ptr() as u64]);
            unsafe { asm!("ud2", options(noreturn)) }
        }
        // It says so itself.
        9 => shutdown(SHUTDOWN_crash),
        10 => shutdown(SHUTDOWN_reboot),
        11 => shutdown(SHUTDOWN_watchdog),
        12 => shutdown(0x5555_5555),
        // XSA-183: a stack whose frame would begin in a page that is not there.
        13 => {
            let [below, above] = [memory::page(), memory::page()];
            memory::set_va(below, 0);
            unsafe { asm!("mov rsp, {}", "ud2", in(reg) above + 16, options(noreturn)) }
        }
        // XSA-215: the failsafe frame of a return to nowhere, just above the hypervisor's range.
        14 => {
            let frame = xen_abi::arch_x86::IretContext {
                rip: 1 << 62,
                cs: u64::from(xen_abi::arch_x86::FLAT_KERNEL_CS & !3),
                rflags: 0x202,
                rsp: 0xffff_8800_0000_0010,
                ss: xen_abi::arch_x86::FLAT_KERNEL_SS.into(),
                ..Default::default()
            };
            user::iret(&frame);
        }
        _ => println!("crash: there is no such case"),
    }
    println!("crash: still here");
    println!("VERDICT FAILURE");
}

fn instr_ud2() -> u64 {
    let code = memory::page();
    instr::store(code, 0x0f);
    instr::store(code + 1, 0x0b);
    code
}

ptk::guest!(main);
