//! A frame is a page table or writable, never both (XSA-299, XSA-214, XSA-252), and tables are not chained to their own
//! kind (XSA-240).

use ptk::check::{equal, holds, one_of};
use ptk::memory::{self, PAGE, RW};
use ptk::table::{extended, fresh, fresh_root, link, new_base, pin, unpin, update};
use ptk::trap::fault_of;
use ptk::{instr, start};
use xen_abi::mmu::{MMUEXT_CLEAR_PAGE, MMUEXT_COPY_PAGE};

use crate::entries::{branch, slot};
use crate::{EBUSY, EINVAL, EPERM};

pub fn run() {
    writable_tables();
    chains();
    pins();
    roots();
}

fn writable_tables() {
    let [l3, l2, l1, _] = branch();
    equal("a branch is pinned", pin(3, memory::mfn(l3)), 0);
    for table in [l3, l2, l1] {
        equal("a table mapped for writing", memory::unprotect(table), EINVAL);
        equal("a table cleared", extended(MMUEXT_CLEAR_PAGE, memory::mfn(table), 0), EINVAL);
        equal("a table copied over", extended(MMUEXT_COPY_PAGE, memory::mfn(table), memory::mfn(l1)), EINVAL);
        equal("a write to it faults", fault_of(|| instr::store64(table + 64, 0xe7)).is_some() && instr::load64(table + 64) == 0, true);
    }
    equal("and unpinned", unpin(memory::mfn(l3)), 0);
    for table in [l3, l2, l1] {
        equal("what was a table is memory again", memory::unprotect(table), 0);
        instr::store64(table, 0);
    }
    let page = memory::page();
    for level in 1..=4 {
        equal("a page mapped for writing is no table", pin(level, memory::mfn(page)), EINVAL);
    }
    // Its root, and the tables it runs on.
    for level in 1..=4 {
        let (at, _) = memory::entry(page, level).unwrap_or_default();
        let table = memory::VIRT_BASE + memory::m2p(at / PAGE) * PAGE;
        equal("a live table mapped for writing", memory::unprotect(table), EINVAL);
    }
}

/// XSA-240: a table that leads to itself, or to one of its own level.
fn chains() {
    for level in 2..=4u32 {
        let table = memory::page();
        instr::store64(table, link(table));
        memory::write_protect(table);
        one_of("XSA-240 a table in itself", pin(level, memory::mfn(table)), &[EINVAL, EBUSY]);
        let first = fresh(&[]);
        let second = fresh(&[(0, link(first))]);
        equal("a table of the same level", pin(level, memory::mfn(first)), 0);
        one_of("XSA-240 a table in another of its level", pin(level, memory::mfn(second)), &[EINVAL, EBUSY]);
        equal("the first is let go", unpin(memory::mfn(first)), 0);
    }
    let root = start::start_info().pt_base;
    one_of("XSA-240 the root in itself", update(slot(root, 101), link(root)), &[EINVAL, EBUSY]);
    // A chain of tables of one level, each to be put into the next.
    for level in 2..=4 {
        let tables = [(); 8].map(|()| fresh(&[]));
        holds("tables of one level", tables.iter().all(|&t| pin(level, memory::mfn(t)) == 0));
        let linked = tables.windows(2).filter(|pair| update(slot(pair[1], 0), link(pair[0])) == 0).count();
        equal("XSA-240 a chain of them", linked, 0);
        holds("let go again", tables.iter().all(|&t| unpin(memory::mfn(t)) == 0));
    }
}

fn pins() {
    let table = fresh(&[]);
    let mfn = memory::mfn(table);
    equal("nothing is pinned yet", unpin(mfn), EINVAL);
    equal("pinned", pin(1, mfn), 0);
    equal("pinned twice", pin(1, mfn), EINVAL);
    for level in 2..=4 {
        equal("pinned as another level", pin(level, mfn), EINVAL);
    }
    one_of("a level-1 table as level 3 below", update(slot(start::start_info().pt_base, 101), link(table)), &[EINVAL, EBUSY]);
    equal("unpinned", unpin(mfn), 0);
    equal("unpinned twice", unpin(mfn), EINVAL);
    equal("pinned as another level then", pin(4, mfn), 0);
    equal("and let go", unpin(mfn), 0);
    equal("and written", memory::unprotect(table), 0);
    let root = memory::mfn(start::start_info().pt_base);
    one_of("the root unpinned while it is loaded", unpin(root), &[0, EINVAL]);
    one_of("and pinned again", pin(4, root), &[0, EINVAL]);
}

/// XSA-494: what is loaded is what is counted.
fn roots() {
    let root = fresh_root(&[]);
    let mfn = memory::mfn(root);
    let old = memory::mfn(start::start_info().pt_base);
    equal("a copy of the root runs", new_base(mfn), 0);
    equal("XSA-494 CR3 says so", instr::control_registers().1 >> 12, mfn);
    one_of("a loaded root mapped for writing", memory::set_va(root, mfn * PAGE | RW), &[EINVAL, EBUSY]);
    equal("back", new_base(old), 0);
    equal("XSA-494 CR3 says that too", instr::control_registers().1 >> 12, old);
    equal("the copy is memory again", memory::unprotect(root), 0);
    for bad in [0u64, 0x100, u64::MAX, 1 << 40, 0xfee00] {
        one_of("a root that is none", new_base(bad), &[EINVAL, EPERM]);
    }
}
