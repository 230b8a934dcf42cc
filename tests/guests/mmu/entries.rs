//! Single entries: each bit at each level, through each way to write one.

use ptk::check::{equal, holds, one_of};
use ptk::memory::{self, PAGE, RO, RW};
use ptk::table::{extended, fresh, link, update};
use ptk::trap::fault_of;
use ptk::{instr, start};
use xen_abi::mmu::{MMU_PT_UPDATE_PRESERVE_AD, MMUEXT_TLB_FLUSH_LOCAL};

use crate::{EINVAL, EPERM};

/// A slot of the root that nothing else uses, and what it maps.
const SLOT: u64 = 100;
const VA: u64 = SLOT << 39;
/// Bits of an entry: page size (or attribute table), global, address.
const PSE: u64 = 1 << 7;
const ADDRESS: u64 = 0x000f_ffff_ffff_f000;

/// A branch of tables with one page at its end: the addresses of l3, l2, l1 and the page.
pub fn branch() -> [u64; 4] {
    let data = memory::page();
    let l1 = fresh(&[(0, memory::mfn(data) * PAGE | RW)]);
    let l2 = fresh(&[(0, link(l1))]);
    let l3 = fresh(&[(0, link(l2))]);
    [l3, l2, l1, data]
}

/// The machine address of slot `n` of the table at `va`.
pub fn slot(va: u64, n: u64) -> u64 {
    memory::mfn(va) * PAGE + n * 8
}

pub fn run() {
    let [l3, l2, l1, data] = branch();
    let root = start::start_info().pt_base;
    equal("a branch of one's own", update(slot(root, SLOT), link(l3)), 0);
    instr::store64(VA, 0x1234);
    equal("it maps the page", instr::load64(data), 0x1234);
    for (level, table, n) in [(4, root, SLOT), (3, l3, 0), (2, l2, 0), (1, l1, 0)] {
        flip_each_bit(level, slot(table, n), table + n * 8, data);
    }
    large_pages(root, l3, l2);
    by_emulation(l1, l2, data);
    attributes(l1, data);
    for n in 256..272 {
        one_of("XSA-148 a slot of the hypervisor's", update(slot(root, n), link(l3)), &[EINVAL, EPERM]);
        one_of("and its removal", update(slot(root, n), 0), &[EINVAL, EPERM]);
    }
    equal("the branch goes", update(slot(root, SLOT), 0), 0);
    equal("and is forgotten", extended(MMUEXT_TLB_FLUSH_LOCAL, 0, 0), 0);
    equal("and its page with it", fault_of(|| _ = instr::load(VA)).map(|f| f.0), Some(14));
}

/// XSA-182: flips one bit alone, by both commands. What is taken must still lead to the same frame.
fn flip_each_bit(level: u32, at: u64, seen_at: u64, data: u64) {
    let before = instr::load64(seen_at);
    let mut bad = 0;
    for command in [0, MMU_PT_UPDATE_PRESERVE_AD] {
        for bit in 0..64 {
            let answer = update(at | command, before ^ 1 << bit);
            let now = instr::load64(seen_at);
            let elsewhere = (now ^ before) & ADDRESS != 0 && now & 1 != 0;
            let large = level > 1 && now & 1 != 0 && now & PSE != 0;
            // An unused page of zeroes is as good a table as any, if it is one's own.
            let own = is_own(now >> 12 & 0xff_ffff_ffff);
            if (answer == 0 && elsewhere && !own) || large || answer > 0 || (answer < 0 && now != before) {
                ptk::println!("level {level} bit {bit}: {answer}, entry {before:#x} is {now:#x}");
                bad += 1;
            }
            if update(at, before) != 0 {
                bad += 1;
            }
        }
    }
    equal("XSA-182 each bit of an entry flipped alone", (level, bad), (level, 0));
    holds("the page is still there", instr::load64(VA) == instr::load64(data));
}

/// Whether a machine frame is the guest's, by both of the lists.
fn is_own(mfn: u64) -> bool {
    let mut pfn = u64::MAX;
    let _ = fault_of(|| pfn = memory::m2p(mfn));
    pfn < memory::total_pages() && memory::p2m(pfn) == mfn
}

/// XSA-148: no large page at any level, whatever else the entry says.
fn large_pages(root: u64, l3: u64, l2: u64) {
    let to = memory::mfn(l2) * PAGE & !0x1f_ffff;
    for (name, at) in [("level 4", slot(root, SLOT)), ("level 3", slot(l3, 1)), ("level 2", slot(l2, 1))] {
        for flags in [0xe7u64, 0x1e7, 0x10e7, 0x8000_0000_0000_00e7] {
            equal(name, update(at, to | flags), EINVAL);
            equal("XSA-148 a large page at the start of memory", update(at, flags), EINVAL);
        }
    }
}

/// Direct writes to a table that is mapped read-only: made if they are good, else the guest's fault.
fn by_emulation(l1: u64, l2: u64, data: u64) {
    let good = memory::mfn(data) * PAGE | RO;
    equal("a good entry by a plain store", fault_of(|| instr::store64(l1 + 8, good)), None);
    holds("it is there", instr::load64(l1 + 8) & ADDRESS == good & ADDRESS);
    let foreign = 0x100 * PAGE | RW;
    equal("a frame of the hypervisor's by a plain store", fault_of(|| instr::store64(l1 + 16, foreign)).map(|f| f.0), Some(14));
    equal("the slot is as it was", instr::load64(l1 + 16), 0);
    let table = memory::mfn(l1) * PAGE | RW;
    equal("a table for writing by a plain store", fault_of(|| instr::store64(l1 + 16, table)).map(|f| f.0), Some(14));
    holds("a large page by a plain store", fault_of(|| instr::store64(l2 + 16, 0xe7)).is_some() && instr::load64(l2 + 16) == 0);
    // Half of an entry, and one byte of it: what comes of it must be good as a whole.
    let _ = fault_of(|| instr::store(l1 + 8, 0));
    equal("an entry cleared by one byte", instr::load64(l1 + 8) & 1, 0);
    equal("the rest of it", update(slot(l1, 1), 0), 0);
    // A bit is named from the operand on, however far: what is changed is where the fault was, or nothing.
    equal("XSA-195 a bit in the next entry", (fault_of(|| instr::set_bit(l1 + 8, 64 + 9)), instr::load64(l1 + 16)), (None, 1 << 9));
    equal("its entry goes", update(slot(l1, 2), 0), 0);
    for offset in [1i64 << 31, 1 << 32, 1 << 40, i64::MIN, i64::MAX, -(1 << 50)] {
        holds("XSA-195 a bit far away", fault_of(|| instr::set_bit(l1 + 8, offset)).is_some());
    }
    holds("XSA-195 the table is as it was", (1..512).all(|n| instr::load64(l1 + n * 8) == 0));
}

/// XSA-402: cache attributes do not get through.
fn attributes(l1: u64, data: u64) {
    for bits in [0x08u64, 0x10, 0x18, 0x80, 0x88, 0x90, 0x98] {
        let answer = update(slot(l1, 2), memory::mfn(data) * PAGE | RW | bits);
        holds("XSA-402 a cache attribute", answer != 0 || instr::load64(l1 + 16) & 0x98 == 0);
    }
    equal("the entry goes", update(slot(l1, 2), 0), 0);
}
