//! Validation that fails half-way leaves nothing behind (XSA-299, XSA-310, XSA-242), and long ones finish.

use ptk::check::{equal, holds, one_of};
use ptk::instr;
use ptk::memory::{self, PAGE, RW};
use ptk::table::{fresh, link, pin, unpin, update};

use crate::entries::slot;
use crate::{EINVAL, EPERM};

pub fn run() {
    let l1 = fresh(&[]);
    let l2 = memory::page();
    for n in 0..512 {
        instr::store64(l2 + n * 8, link(l1));
    }
    memory::write_protect(l2);
    let mfn = memory::mfn(l2);
    // One bad entry at each interesting place.
    for at in [0u64, 1, 2, 62, 63, 64, 65, 127, 128, 255, 256, 510, 511] {
        for bad in [0x100 * PAGE | 0x67, (1 << 40) | 0x67, link(l2), 0xe7, 0xfee0_0067] {
            memory::unprotect(l2);
            instr::store64(l2 + at * 8, bad);
            memory::write_protect(l2);
            one_of("XSA-299 one bad entry", pin(2, mfn), &[EINVAL, EPERM]);
            one_of("XSA-310 and again", pin(2, mfn), &[EINVAL, EPERM]);
            equal("XSA-242 the table below is free then", memory::unprotect(l1), 0);
            memory::write_protect(l1);
            equal("the table itself is free", memory::unprotect(l2), 0);
            instr::store64(l2 + at * 8, link(l1));
            memory::write_protect(l2);
        }
    }
    equal("without a bad entry it is a table", pin(2, mfn), 0);
    equal("the one below is in use now", memory::unprotect(l1), EINVAL);
    // Each entry taken away and given back: the counts of the one below follow.
    for n in 0..512 {
        if update(slot(l2, n), 0) != 0 {
            equal("an entry taken away", n, 512);
        }
    }
    equal("with all entries gone the one below is free", memory::unprotect(l1), 0);
    memory::write_protect(l1);
    equal("the table is let go", unpin(mfn), 0);
    deep();
}

/// 512 x 512 paths to one page: validated, and undone.
fn deep() {
    let data = memory::page();
    let l1 = memory::page();
    for n in 0..512 {
        instr::store64(l1 + n * 8, memory::mfn(data) * PAGE | RW);
    }
    memory::write_protect(l1);
    let many = |below: u64| {
        let table = memory::page();
        for n in 0..512 {
            instr::store64(table + n * 8, link(below));
        }
        memory::write_protect(table);
        table
    };
    let l2 = many(l1);
    let l3 = many(l2);
    for _ in 0..8 {
        equal("XSA-290 a wide table is pinned", pin(3, memory::mfn(l3)), 0);
        equal("its page is in use as memory", pin(1, memory::mfn(data)), EINVAL);
        equal("XSA-264 and unpinned", unpin(memory::mfn(l3)), 0);
    }
    let free = memory::write_protect(data) == 0 && pin(1, memory::mfn(data)) == 0 && unpin(memory::mfn(data)) == 0;
    holds("XSA-45 its page is free of all those uses", free);
}
