//! What a process may do to its own kernel and to the hypervisor: nothing but fault and call.

use ptk::check::{equal, holds};
use ptk::{call, trap, user};
use xen_abi::callback::{CALLBACKOP_register, CALLBACKOP_unregister, CALLBACKTYPE_syscall, CallbackRegister};
use xen_abi::hypercall::{__HYPERVISOR_callback_op, __HYPERVISOR_vm_assist};
use xen_abi::version::{VMASST_CMD_disable, VMASST_CMD_enable, VMASST_TYPE_architectural_iopl};

use crate::privileged::{KERNEL_ONLY, set_iopl};

/// A process uses ports and the interrupt flag at level 3 of I/O privilege only, however that came about.
fn io_privilege() {
    let fault = |level: u32, code: &[u8], rflags| {
        set_iopl(level);
        user::write_code(code);
        user::run(user::CODE, rflags).map(|f| (f.vector, f.rip))
    };
    let assist = |command: u32| ptk::hypercall(__HYPERVISOR_vm_assist, &[command.into(), VMASST_TYPE_architectural_iopl.into()]);
    let refused = Some((13, user::CODE));
    // cli and out dx, al; then what ends it.
    for code in [[0xfa, 0x0f, 0x0b], [0xee, 0x0f, 0x0b]] {
        equal("a process at level 0", fault(0, &code, 0x202), refused);
        equal("a process at level 1", fault(1, &code, 0x202), refused);
        equal("a process at level 3", fault(3, &code, 0x202), Some((6, user::CODE + 1)));
        equal("its flags say level 3", fault(0, &code, 0x3202), refused);
        equal("the level is to be that of the flags", assist(VMASST_CMD_enable), 0);
        equal("a process whose flags say level 3", fault(0, &code, 0x3202), Some((6, user::CODE + 1)));
        equal("a process whose flags say level 0", fault(3, &code, 0x202), refused);
        equal("and no longer", assist(VMASST_CMD_disable), 0);
    }
    // XSA-105, XSA-110: nothing else is opened by it.
    for (name, bytes) in KERNEL_ONLY.into_iter().filter(|(name, _)| !["in", "out"].contains(name)) {
        equal(name, fault(3, bytes, 0x202), refused);
    }
    set_iopl(0);
}

pub fn run() {
    equal("a process can be made", user::prepare(), 0);
    let fault = user::run_code(&[0x0f, 0x0b]);
    equal("a process runs, and faults", fault.map(|f| (f.vector, f.rip)), Some((6, user::CODE)));
    let call = user::run_code(&[0xb8, 0x27, 0, 0, 0, 0x0f, 0x05]);
    equal("its system call arrives", call.map(|f| (f.vector, f.rip)), Some((258, user::CODE + 7)));
    let page = user::run_code(&[0x48, 0x8b, 0x04, 0x25, 0, 0, 0, 0]);
    equal("its page fault says user", page.map(|f| (f.vector, f.error, f.cr2)), Some((14, 4, 0)));
    // mov rax, 0xffffffff80100000; mov rax, [rax]: the kernel's own text.
    let kernel = user::run_code(&[0x48, 0xc7, 0xc0, 0x00, 0x00, 0x10, 0x80, 0x48, 0x8b, 0x00]);
    equal("it does not see its kernel", kernel.map(|f| f.vector), Some(14));
    for (name, bytes) in KERNEL_ONLY {
        let mut code = [0x90; 16];
        code[..bytes.len()].copy_from_slice(bytes);
        code[bytes.len()..bytes.len() + 2].copy_from_slice(&[0x0f, 0x0b]);
        let fault = user::run_code(&code);
        holds(name, fault.is_some_and(|f| f.vector == 13 && f.rip == user::CODE));
    }
    for (name, bytes) in [("sysenter", &[0x0f, 0x34][..]), ("int 0x80", &[0xcd, 0x80]), ("int 0x82", &[0xcd, 0x82]), ("icebp", &[0xf1])] {
        holds(name, user::run_code(bytes).is_some_and(|f| [13, 6, 1].contains(&f.vector)));
    }
    io_privilege();
    // XSA-44, XSA-8: flags set before each way in.
    for rflags in [0x202u64, 0x4202, 0x4_0202, 0x602, 0x302, 0x4_4702] {
        for bytes in [&[0x0f, 0x05][..], &[0x0f, 0x34], &[0xcd, 0x80], &[0xcc], &[0x0f, 0x0b]] {
            user::write_code(bytes);
            holds("XSA-44 a way in with strange flags", user::run(user::CODE, rflags).is_some());
        }
    }
    // A call in the last two bytes of the lower half: the return address is no address (XSA-7).
    let at = user::write_last(&[0x0f, 0x05]);
    let call = user::run(at, 0x202);
    holds("XSA-7 a system call at the very end", call.is_some_and(|f| f.vector == 258 || f.vector == 14 || f.vector == 13));
    let back = user::run(0x0000_8000_0000_0000, 0x202);
    equal("XSA-7 and the return after it", back.map(|f| (f.vector, f.error)), Some((13, 0)));
    without_an_entry();
    // A stack at no address, when the kernel is entered it is not used.
    let fault = user::run_code(&[0x48, 0xbc, 0, 0, 0, 0, 0, 0, 0, 0x80, 0x0f, 0x05]);
    equal("a system call with no stack", fault.map(|f| f.vector), Some(258));
}

/// XSA-8: a way in that the kernel has not opened is a fault of the process.
fn without_an_entry() {
    let mut callback = CallbackRegister { r#type: CALLBACKTYPE_syscall, ..CallbackRegister::default() };
    equal("the entry for system calls goes", call(__HYPERVISOR_callback_op, CALLBACKOP_unregister, &mut callback), 0);
    let fault = user::run_code(&[0x0f, 0x05]);
    equal("XSA-8 a system call without an entry", fault.map(|f| (f.vector, f.rip)), Some((6, user::CODE)));
    callback.address = trap::stub(258);
    equal("it is opened again", call(__HYPERVISOR_callback_op, CALLBACKOP_register, &mut callback), 0);
}
