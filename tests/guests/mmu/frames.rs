//! Every frame of the machine, as everything: only the guest's own come through (XSA-167, XSA-248, XSA-29).

use ptk::check::{equal, holds};
use ptk::memory::{self, PAGE, RO, RW};
use ptk::table::{extended, new_base, pin, unpin};
use ptk::{hypercall, instr, println};
use xen_abi::hypercall::__HYPERVISOR_memory_op;
use xen_abi::memory::XENMEM_maximum_ram_page;
use xen_abi::mmu::{MMUEXT_CLEAR_PAGE, MMUEXT_NEW_USER_BASEPTR};

pub fn run() {
    let most = hypercall(__HYPERVISOR_memory_op, &[XENMEM_maximum_ram_page.into()]);
    holds("the machine's last frame is known", most > 0);
    let most = most as u64;
    // A bit per frame: whether it is ours.
    let pages = (most / 8 / PAGE + 2) as usize;
    let own = memory::page();
    for _ in 1..pages {
        memory::page();
    }
    for pfn in 0..memory::total_pages() {
        let mfn = memory::p2m(pfn);
        let at = own + mfn / 8;
        instr::store(at, instr::load(at) | 1 << (mfn % 8));
    }
    // What the hypervisor shares with the guest is the guest's to map, too.
    let shared = ptk::start::start_info().shared_info / PAGE;
    instr::store(own + shared / 8, instr::load(own + shared / 8) | 1 << (shared % 8));
    let is_own = |mfn: u64| mfn <= most && instr::load(own + mfn / 8) & 1 << (mfn % 8) != 0;
    let probe = memory::page();
    let back = memory::mfn(probe) * PAGE | RW;
    let (mut mapped, mut wrong) = (0u64, 0u64);
    let beyond = [most + 1, most + 2, 0xfee00, 0xfec00, 0xfed00, 0xb8, 0xf0, (1 << 28) - 1, 1 << 28, (1 << 40) - 1];
    for mfn in (0..=most).chain(beyond) {
        for flags in [RW, RO] {
            if memory::set_va_unflushed(probe, mfn * PAGE | flags) == 0 {
                mapped += 1;
                wrong += u64::from(!is_own(mfn));
            }
        }
        if is_own(mfn) {
            continue;
        }
        for level in 1..=4 {
            if pin(level, mfn) == 0 {
                wrong += 1;
                unpin(mfn);
            }
        }
        wrong += u64::from(unpin(mfn) == 0);
        wrong += u64::from(extended(MMUEXT_CLEAR_PAGE, mfn, 0) == 0);
        wrong += u64::from(new_base(mfn) == 0);
        wrong += u64::from(mfn != 0 && extended(MMUEXT_NEW_USER_BASEPTR, mfn, 0) == 0);
    }
    equal("the probe is put back", memory::set_va(probe, back), 0);
    println!("frames: {} tried, {mapped} mappings of one's own", most + 1);
    holds("XSA-248 some frames are one's own", mapped > 1000);
    equal("XSA-248 XSA-167 no frame of another's, as memory or table", wrong, 0);
}
