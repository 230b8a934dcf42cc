//! Pointers, counts and flags of the page-table calls (XSA-29, XSA-212, XSA-279, XSA-111, XSA-251).

use ptk::check::{equal, holds, one_of};
use ptk::memory::{self, PAGE};
use ptk::table::{extended, update};
use ptk::{hypercall, instr};
use xen_abi::domid::DOMID_SELF;
use xen_abi::hypercall::*;
use xen_abi::mmu::*;

use crate::{EFAULT, EINVAL, ENOSYS, EPERM};

const BAD: [u64; 6] =
    [0xffff_8080_0010_0000, 0xffff_8000_0000_0000, 0xffff_87ff_ffff_fff8, 0x8000_0000_0000_0000, u64::MAX - 7, 0x0000_7fff_ffff_fff8];

pub fn run() {
    for at in BAD {
        for nr in [__HYPERVISOR_mmu_update, __HYPERVISOR_mmuext_op, __HYPERVISOR_multicall] {
            for count in [1u64, 2, 0x7fff_ffff] {
                equal("XSA-212 a list in forbidden memory", hypercall(nr, &[at, count, 0, DOMID_SELF.into()]), EFAULT);
            }
        }
        let request = MmuextOp { cmd: MMUEXT_TLB_FLUSH_LOCAL, ..MmuextOp::default() };
        let list = core::ptr::from_ref(&request) as u64;
        equal("XSA-29 a result in forbidden memory", hypercall(__HYPERVISOR_mmuext_op, &[list, 1, at, DOMID_SELF.into()]), EFAULT);
        equal("XSA-279 one page flushed at any address", extended(MMUEXT_INVLPG_LOCAL, at, 0), 0);
        equal("XSA-279 on all CPUs", extended(MMUEXT_INVLPG_ALL, at, 0), 0);
        equal("a mask of vCPUs in forbidden memory", extended(MMUEXT_TLB_FLUSH_MULTI, 0, at), EFAULT);
        one_of("XSA-279 an entry for a forbidden address", hypercall(__HYPERVISOR_update_va_mapping, &[at, 0, UVMF_INVLPG]), &[EINVAL]);
    }
    let page = memory::page();
    let entry = memory::mfn(page) * PAGE | memory::RW;
    equal("flags of no meaning", hypercall(__HYPERVISOR_update_va_mapping, &[page, entry, 3]), EINVAL);
    equal(
        "a flush by a mask that cannot be read",
        hypercall(__HYPERVISOR_update_va_mapping, &[page, entry, 0xffff_8080_0010_0000 | 1]),
        EFAULT,
    );
    equal("a command of mmu_update that is none", hypercall_update(3, entry), 0);
    equal("an operation of mmuext_op that is none", extended(99, 0, 0), ENOSYS);
    one_of("a write-back of caches", extended(MMUEXT_FLUSH_CACHE, 0, 0), &[0, -13]);
    for domain in [0u64, 1000, 0x7ff1, 0x7ff2, 0x7ff4, 0xffff, 0xffff_0000] {
        let request = MmuUpdate { ptr: memory::entry(page, 1).map_or(0, |e| e.0), val: entry };
        let answer = hypercall(__HYPERVISOR_mmu_update, &[core::ptr::from_ref(&request) as u64, 1, 0, domain]);
        one_of("the tables of another domain", answer, &[EPERM, -3, EINVAL, 0]);
        let op = MmuextOp { cmd: MMUEXT_PIN_L1_TABLE, _pad0: 0, arg1: memory::mfn(page), arg2: 0 };
        let answer = hypercall(__HYPERVISOR_mmuext_op, &[core::ptr::from_ref(&op) as u64, 1, 0, domain]);
        one_of("a pin for another domain", answer, &[EPERM, -3, EINVAL]);
    }
    machine_to_physical(page);
    multicalls();
    // Upper halves of 32-bit arguments are not looked at, or refused: never acted on (XSA-111).
    for nr in 0..56 {
        if ![
            __HYPERVISOR_iret,
            __HYPERVISOR_sched_op,
            __HYPERVISOR_sched_op_compat,
            __HYPERVISOR_set_callbacks,
            __HYPERVISOR_stack_switch,
            __HYPERVISOR_set_trap_table,
            __HYPERVISOR_fpu_taskswitch,
        ]
        .contains(&nr)
        {
            let answer = hypercall(nr, &[0xdead_beef_0000_0063, 0xdead_beef_0000_0000, 0xdead_beef_0000_0000, 0xdead_beef_0000_0000]);
            holds("XSA-111 garbage in all upper halves", answer <= 0 || nr == __HYPERVISOR_xen_version);
        }
    }
    for nr in [56, 63, 64, 1 << 31, u64::MAX, 1 << 63] {
        equal("a number that is no hypercall", hypercall(nr, &[]), ENOSYS);
    }
}

fn hypercall_update(command: u64, entry: u64) -> i64 {
    // Command 3 is the one without translation: for a guest of this kind, the ordinary one.
    let page = memory::page();
    let at = memory::entry(page, 1).map_or(0, |e| e.0);
    let _ = entry;
    update(at | command, memory::mfn(page) * PAGE | memory::RW)
}

/// XSA-251: what the guest writes into the table is the guest's own affair.
fn machine_to_physical(page: u64) {
    let mfn = memory::mfn(page);
    let pfn = memory::pfn(page);
    for value in [0, u64::MAX, 0x5555_5555_5555_5555, 1 << 63, 0xffff_ffff] {
        let answer = update(mfn * PAGE | MMU_MACHPHYS_UPDATE, value);
        one_of("XSA-251 any value for one's own frame", answer, &[0, EINVAL]);
        holds("what was refused changed nothing", answer == 0 || memory::m2p(mfn) == pfn);
        update(mfn * PAGE | MMU_MACHPHYS_UPDATE, pfn);
    }
    equal("it is as before", memory::m2p(mfn), pfn);
    for bad in [0x100u64, 0xfee00, 1 << 39] {
        one_of("XSA-251 another's frame", update(bad * PAGE | MMU_MACHPHYS_UPDATE, 0), &[EINVAL, EPERM]);
    }
}

/// Lists of calls: each has its answer, whatever stands beside it.
fn multicalls() {
    let call = |op: u64, args: [u64; 2]| [op, 0xa5a5, args[0], args[1], 0, 0, 0, 0];
    let inner = [call(__HYPERVISOR_xen_version, [0, 0])];
    let list = [
        call(__HYPERVISOR_xen_version, [0, 0]),
        call(__HYPERVISOR_multicall, [inner.as_ptr() as u64, 1]),
        call(77, [0, 0]),
        call(__HYPERVISOR_xen_version, [0, 0]),
    ];
    equal("a list of calls", hypercall(__HYPERVISOR_multicall, &[list.as_ptr() as u64, 4]), 0);
    let result = |n: usize| instr::load64(list[n].as_ptr() as u64 + 8) as i64;
    holds("its first call", result(0) > 0);
    equal("a list in a list", result(1), EINVAL);
    equal("no call in a list", result(2), ENOSYS);
    equal("its last call", result(3), result(0));
}
