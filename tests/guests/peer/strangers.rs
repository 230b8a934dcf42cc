//! A frame of the other's that a grant lets one map: what else can be done with it, and with the other domain. Nothing.

use ptk::check::{equal, holds, one_of};
use ptk::grant::{End, copy, map, unmap};
use ptk::memory::{self, PAGE, RO, RW, TABLE};
use ptk::table::{extended, fresh, new_base, pin, unpin, update};
use ptk::trap::fault_of;
use ptk::{call, hypercall, instr};
use xen_abi::domid::DOMID_SELF;
use xen_abi::grant_table::*;
use xen_abi::hypercall::*;
use xen_abi::memory::*;
use xen_abi::mmu::*;

use crate::meeting::{Me, NOTHING, OPEN, Role};
use crate::{EINVAL, EPERM};
use Role::{Granter, Mapper};

const ENOSYS: i64 = -38;

pub fn run(me: &Me) {
    let window = memory::page();
    let mapped = me.turn(Mapper, || {
        let mapped = map(me.other, OPEN, GNTMAP_host_map, window);
        equal("a frame of the other's", mapped.status, GNTST_okay);
        let frame = mapped.dev_bus_addr / PAGE;
        as_ones_own(frame);
        as_table(frame);
        as_descriptors(frame, window);
        as_reservation(frame);
        equal("it is as it was", instr::load64(window), 0x5eed);
        u64::from(mapped.handle) << 40 | frame
    });
    let frame = mapped & 0xff_ffff_ffff;
    // XSA-226: what was granted to one is not one's to grant.
    me.act(Mapper, || me.table.grant_frame(OPEN, me.other, frame, GTF_permit_access));
    me.act(Granter, || {
        let own = memory::page();
        equal("XSA-226 a grant of what is not the granter's is mapped", map(me.other, OPEN, GNTMAP_host_map, own).status, GNTST_bad_page);
        let status = copy((End::Grant(me.other, OPEN), 0), (End::Page(own), 0), 8);
        equal("XSA-226 it is copied", status, GNTST_bad_page);
    });
    me.act(Mapper, || {
        equal("XSA-226 nothing of that is in use", me.table.in_use(OPEN), (false, false));
        equal("unmapped", unmap((mapped >> 40) as u32, window), GNTST_okay);
    });
    nobodys(me);
    me.act(Mapper, || others(me));
    me.act(Granter, || {
        equal("the page is as it was", instr::load64(me.open), 0x5eed);
        holds("all of it", (2..512).all(|n| instr::load64(me.open + n * 8) == 0));
        equal("its number too", memory::m2p(memory::mfn(me.open)), memory::pfn(me.open));
    });
}

fn refused(name: &str, answer: i64) {
    one_of(name, answer, &[EINVAL, EPERM]);
}

/// As a page of one's own memory.
fn as_ones_own(frame: u64) {
    let other = memory::page();
    for (name, flags) in [("XSA-248 it is mapped for writing", RW), ("XSA-248 it is mapped for reading", RO)] {
        refused(name, memory::set_va(other, frame * PAGE | flags));
    }
    refused("XSA-248 it is cleared", extended(MMUEXT_CLEAR_PAGE, frame, 0));
    refused("XSA-248 it is copied over", extended(MMUEXT_COPY_PAGE, frame, memory::mfn(other)));
    refused("XSA-248 it is copied from", extended(MMUEXT_COPY_PAGE, memory::mfn(other), frame));
    refused("XSA-251 it gets another number", update(frame * PAGE | MMU_MACHPHYS_UPDATE, memory::pfn(other)));
    refused("XSA-248 a word of it is written", update(frame * PAGE + 64, 0xdead));
    for (name, from, to) in [
        ("XSA-523 it is copied from by number", End::Frame(DOMID_SELF, frame), End::Page(other)),
        ("XSA-523 it is copied to by number", End::Page(other), End::Frame(DOMID_SELF, frame)),
    ] {
        equal(name, copy((from, 0), (to, 0), 8), GNTST_bad_page);
    }
}

/// As a page table.
fn as_table(frame: u64) {
    for level in 1..=4 {
        refused("XSA-167 it is pinned", pin(level, frame));
    }
    refused("XSA-167 it is unpinned", unpin(frame));
    refused("XSA-167 it is a root", new_base(frame));
    refused("XSA-167 it is a process's root", extended(MMUEXT_NEW_USER_BASEPTR, frame, 0));
    let above = fresh(&[]);
    equal("a table", pin(2, memory::mfn(above)), 0);
    refused("XSA-240 it is linked as a table", update(memory::mfn(above) * PAGE, frame * PAGE | TABLE));
    equal("the table is let go", unpin(memory::mfn(above)), 0);
}

/// As descriptors.
fn as_descriptors(frame: u64, window: u64) {
    refused("XSA-214 it is a GDT", hypercall(__HYPERVISOR_set_gdt, &[core::ptr::from_ref(&frame) as u64, 512]));
    refused("XSA-214 it gets a descriptor", hypercall(__HYPERVISOR_update_descriptor, &[frame * PAGE, 0x00cf_f200_0000_ffff]));
    let ldt = extended(MMUEXT_SET_LDT, window, 512);
    holds("XSA-214 it is an LDT", ldt != 0 || fault_of(|| instr::load_ds(0x0f)).is_some());
    equal("no LDT", extended(MMUEXT_SET_LDT, 0, 0), 0);
}

/// As part of one's reservation.
fn as_reservation(frame: u64) {
    let mut list = [frame];
    let reservation = |list: &mut [u64; 1]| XenMemoryReservation {
        extent_start: list.as_mut_ptr() as u64,
        nr_extents: 1,
        domid: DOMID_SELF,
        ..XenMemoryReservation::default()
    };
    let answer = call(__HYPERVISOR_memory_op, XENMEM_decrease_reservation, &mut reservation(&mut list));
    equal("XSA-252 it is given back", answer, 0);
    let mut new = [memory::pfn(memory::page())];
    let mut request = XenMemoryExchange { r#in: reservation(&mut list), out: reservation(&mut new), nr_exchanged: 0 };
    let answer = call(__HYPERVISOR_memory_op, XENMEM_exchange, &mut request);
    holds("XSA-252 it is exchanged", answer < 0 && request.nr_exchanged == 0);
}

/// XSA-167, XSA-212: grants of frames that are the hypervisor's, a device's, or none.
fn nobodys(me: &Me) {
    for frame in [0u64, 0x100, 0xb8, 0xfee00, 0x7fff_ffff, 0xffff_ffff] {
        me.act(Granter, || me.table.grant_frame(NOTHING, me.other, frame, GTF_permit_access));
        me.act(Mapper, || {
            let own = memory::page();
            for flags in [GNTMAP_host_map, GNTMAP_host_map | GNTMAP_readonly] {
                equal("XSA-167 a grant of nobody's frame is mapped", map(me.other, NOTHING, flags, own).status, GNTST_bad_page);
            }
            let status = copy((End::Grant(me.other, NOTHING), 0), (End::Page(own), 0), 8);
            equal("XSA-167 it is copied", status, GNTST_bad_page);
        });
        me.act(Granter, || equal("XSA-291 it is not in use", me.table.in_use(NOTHING), (false, false)));
    }
    me.act(Granter, || me.table.revoke(NOTHING));
}

/// The other domain named where only oneself may be.
fn others(me: &Me) {
    let page = memory::page();
    let other = u64::from(me.other);
    let request = MmuUpdate { ptr: memory::entry(page, 1).map_or(0, |e| e.0), val: memory::mfn(page) * PAGE | RW };
    let at = core::ptr::from_ref(&request) as u64;
    equal("its page tables", hypercall(__HYPERVISOR_mmu_update, &[at, 1, 0, other]), EPERM);
    equal(
        "its page tables by one's own",
        hypercall(__HYPERVISOR_mmu_update, &[at, 1, 0, (other + 1) << 16 | u64::from(DOMID_SELF)]),
        EPERM,
    );
    let op = MmuextOp { cmd: MMUEXT_PIN_L1_TABLE, _pad0: 0, arg1: memory::mfn(page), arg2: 0 };
    equal("a pin of its", hypercall(__HYPERVISOR_mmuext_op, &[core::ptr::from_ref(&op) as u64, 1, 0, other]), EPERM);
    let answer = hypercall(__HYPERVISOR_update_va_mapping_otherdomain, &[page, memory::mfn(page) * PAGE | RW, 0, other]);
    equal("an entry of its", answer, EPERM);
    let mut list = [memory::pfn(page)];
    let mut request =
        XenMemoryReservation { extent_start: list.as_mut_ptr() as u64, nr_extents: 1, domid: me.other, ..XenMemoryReservation::default() };
    for command in [XENMEM_increase_reservation, XENMEM_decrease_reservation, XENMEM_populate_physmap] {
        equal("its memory", call(__HYPERVISOR_memory_op, command, &mut request), EPERM);
    }
    equal("its size", call(__HYPERVISOR_memory_op, XENMEM_current_reservation, &mut XenMemoryDomain { domid: me.other }), EPERM);
    let mut table = GnttabSetupTable { dom: me.other, nr_frames: 1, ..Default::default() };
    equal("its grant table", (call_table(&mut table), table.status), (0, GNTST_permission_denied));
    // XSA-492, XSA-499: what only a toolstack may, asked again and again.
    let mut shutdown = [other, 0];
    for _ in 0..200 {
        equal_quietly(call(__HYPERVISOR_sched_op, xen_abi::sched::SCHEDOP_remote_shutdown, &mut shutdown), ENOSYS);
        for nr in [__HYPERVISOR_domctl, __HYPERVISOR_sysctl, __HYPERVISOR_xsm_op, __HYPERVISOR_kexec_op] {
            equal_quietly(hypercall(nr, &[page, page, page]), ENOSYS);
        }
        // The initial domain might, and then only ask.
        equal_quietly(hypercall(__HYPERVISOR_platform_op, &[page]), EPERM);
    }
    holds("XSA-499 it is shut down, and all that a toolstack may", BAD.load(core::sync::atomic::Ordering::Relaxed) == 0);
}

static BAD: core::sync::atomic::AtomicU32 = core::sync::atomic::AtomicU32::new(0);

/// A thousand lines would say no more than one.
fn equal_quietly(answer: i64, want: i64) {
    BAD.fetch_add(u32::from(answer != want), core::sync::atomic::Ordering::Relaxed);
}

fn call_table(table: &mut GnttabSetupTable) -> i64 {
    hypercall(__HYPERVISOR_grant_table_op, &[GNTTABOP_setup_table.into(), core::ptr::from_mut(table) as u64, 1])
}
