//! Entry points and returns: nothing is ever entered at an address that is not canonical (XSA-7, XSA-202).

use ptk::check::{equal, holds, one_of};
use ptk::trap::{self, fault_of};
use ptk::{call, hypercall, user};
use xen_abi::arch_x86::{FLAT_KERNEL_CS, FLAT_KERNEL_SS, IretContext, TrapInfo, VGCF_in_syscall};
use xen_abi::callback::{CALLBACKOP_register, CALLBACKTYPE_event, CALLBACKTYPE_failsafe, CALLBACKTYPE_syscall, CallbackRegister};
use xen_abi::hypercall::{
    __HYPERVISOR_callback_op, __HYPERVISOR_iret, __HYPERVISOR_multicall, __HYPERVISOR_set_callbacks, __HYPERVISOR_set_trap_table,
    __HYPERVISOR_xen_version, MulticallEntry,
};

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

/// Returns to impossible places: a fault in the guest.
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
            equal("XSA-7 a return to no address", fault, Some((13, 0)));
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
    last_in_a_list(&kernel);
    every_flag(&kernel);
}

/// A return as one of several calls: it is made, and those behind it are not (XSA-213).
fn last_in_a_list(kernel: &IretContext) {
    const UNTOUCHED: u64 = 0x55aa;
    let entry = |op| MulticallEntry { op, result: UNTOUCHED, args: [0; 6] };
    let mut list = [entry(__HYPERVISOR_xen_version), entry(__HYPERVISOR_iret), entry(__HYPERVISOR_xen_version)];
    let (there, list_at) = (IretContext { rip: stops_at_once(), ..*kernel }, list.as_mut_ptr());
    let fault = trap::catch(|| {
        // SAFETY: what comes of it is the experiment; `catch` gets the stack back.
        unsafe {
            core::arch::asm!("mov rsp, {}", "syscall", "ud2", in(reg) core::ptr::from_ref(&there), in("rax") __HYPERVISOR_multicall,
                in("rdi") list_at, in("rsi") 3, options(noreturn))
        }
    });
    equal("XSA-213 a return in a list of calls", fault.map(|f| (f.vector, f.rip)), Some((6, there.rip)));
    // SAFETY: a list of our own, which the hypervisor has written to.
    let [before, _, after] = unsafe { list_at.cast::<[MulticallEntry; 3]>().read_volatile() };
    holds("XSA-213 what stood before it was done", before.result != UNTOUCHED);
    equal("XSA-213 what stands behind it is not", after.result, UNTOUCHED);
}

/// Code that stops at once.
fn stops_at_once() -> u64 {
    let code = ptk::memory::page();
    ptk::instr::store(code, 0x0f);
    ptk::instr::store(code + 1, 0x0b);
    code
}

/// XSA-202: all flags but the single step; the ones that matter to the hypervisor do not arrive. They are looked at
/// where the return leads: by the next exception's frame they would have been put right.
fn every_flag(kernel: &IretContext) {
    let (code, word) = (ptk::memory::page(), ptk::memory::page());
    // pushfq; pop rax; mov [word], rax; ud2
    let mut bytes = [0x9c, 0x58, 0x48, 0xa3, 0, 0, 0, 0, 0, 0, 0, 0, 0x0f, 0x0b];
    bytes[4..12].copy_from_slice(&word.to_le_bytes());
    for (at, byte) in (code..).zip(bytes) {
        ptk::instr::store(at, byte);
    }
    // Without alignment checks, which would end it at once. NT does arrive: any program can set it for itself.
    let fault = trap::catch(|| user::iret(&IretContext { rip: code, rflags: u64::MAX & !(1 << 8 | 1 << 18), ..*kernel }));
    equal("XSA-202 a return with every flag", fault.map(|f| (f.vector, f.rip)), Some((6, code + 12)));
    equal("XSA-202 IF stays set, IOPL, VM, VIF and VIP clear", ptk::instr::load64(word) & 0x1a_3200, 0x200);
}
