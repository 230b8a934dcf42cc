//! Entry points and returns: nothing is ever entered at an address that is not canonical (XSA-7, XSA-202).

use ptk::check::{equal, holds, one_of};
use ptk::trap::{self, fault_of};
use ptk::{call, hypercall, user};
use xen_abi::arch_x86::{FLAT_KERNEL_CS, FLAT_KERNEL_SS, IretContext, TrapInfo, VGCF_in_syscall};
use xen_abi::callback::{CALLBACKOP_register, CALLBACKTYPE_event, CALLBACKTYPE_failsafe, CALLBACKTYPE_syscall, CallbackRegister};
use xen_abi::hypercall::{__HYPERVISOR_callback_op, __HYPERVISOR_set_callbacks, __HYPERVISOR_set_trap_table};

const EINVAL: i64 = -22;
const STRANGE: [u64; 4] = [0x8000_0000_0000_0000, 0x0000_8000_0000_0000, 0xffff_7fff_ffff_ffff, 0x1234_5678_9abc_def0];

pub fn run() {
    for address in STRANGE {
        let table = [TrapInfo { vector: 14, cs: FLAT_KERNEL_CS, address, ..TrapInfo::default() }, TrapInfo::default()];
        equal("XSA-7 a handler at no address", hypercall(__HYPERVISOR_set_trap_table, &[table.as_ptr() as u64]), EINVAL);
        for kind in [CALLBACKTYPE_event, CALLBACKTYPE_failsafe, CALLBACKTYPE_syscall] {
            let mut register = CallbackRegister { r#type: kind, address, ..CallbackRegister::default() };
            equal("XSA-7 a callback at no address", call(__HYPERVISOR_callback_op, CALLBACKOP_register, &mut register), EINVAL);
        }
        equal("XSA-7 set_callbacks at no address", hypercall(__HYPERVISOR_set_callbacks, &[address, address, address]), EINVAL);
    }
    trap::install();
    ptk::event::install();
    let odd = [TrapInfo { vector: 14, cs: 0xe008, address: trap::stub(14), ..TrapInfo::default() }, TrapInfo::default()];
    one_of("a handler with the hypervisor's selector", hypercall(__HYPERVISOR_set_trap_table, &[odd.as_ptr() as u64]), &[0, EINVAL]);
    trap::install();
    equal("a table that cannot be read", hypercall(__HYPERVISOR_set_trap_table, &[0x5000_0000_0000]), -14);
    equal("a table in the hypervisor's memory", hypercall(__HYPERVISOR_set_trap_table, &[0xffff_8080_0010_0000]), -14);
    returns();
}

/// Returns to impossible places: the failsafe callback (257) or a fault, in the guest.
fn returns() {
    let kernel = IretContext {
        cs: u64::from(FLAT_KERNEL_CS & !3),
        ss: u64::from(FLAT_KERNEL_SS),
        rflags: 0x202,
        rsp: ptk::memory::page() + 4096,
        ..IretContext::default()
    };
    for rip in STRANGE {
        for flags in [0, VGCF_in_syscall, u64::MAX] {
            let fault = fault_of(|| user::iret(&IretContext { rip, flags, ..kernel }));
            holds("XSA-7 a return to no address", fault.is_some_and(|f| f.0 == 13 || f.0 == 257));
        }
    }
    for rip in [0xffff_8000_0000_0000, 0xffff_8080_0010_0000, 0xffff_8280_0000_0000] {
        let fault = fault_of(|| user::iret(&IretContext { rip, ..kernel }));
        equal("a return into the hypervisor", fault.map(|f| f.0), Some(14));
    }
    for cs in [0xe008u64, 0xe00b, 0, 4, 0xfff8, 0xe038] {
        let fault = fault_of(|| user::iret(&IretContext { rip: trap::stub(6), cs: cs & !3, ..kernel }));
        holds("a return with another code selector", fault.is_some());
    }
    // All flags: the ones that matter to the hypervisor do not arrive (XSA-202).
    let at = flags_reader();
    let fault = trap::catch(|| user::iret(&IretContext { rip: at, rflags: u64::MAX & !(1 << 8), ..kernel }));
    holds("XSA-202 a return with every flag", fault.is_some());
    let flags = ptk::instr::rflags();
    equal("XSA-202 IF stays set, IOPL, NT, VM and VIF clear", flags & 0x1e_7200, 0x200);
}

/// Code that stops at once.
fn flags_reader() -> u64 {
    let code = ptk::memory::page();
    ptk::instr::store(code, 0x0f);
    ptk::instr::store(code + 1, 0x0b);
    code
}
