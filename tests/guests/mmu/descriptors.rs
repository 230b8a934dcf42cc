//! Descriptor tables: no gate and no segment of ring 0 gets in, and their frames are nobody's to write.

use ptk::check::{equal, holds, one_of};
use ptk::memory::{self, PAGE};
use ptk::table::extended;
use ptk::trap::fault_of;
use ptk::{hypercall, instr};
use xen_abi::hypercall::{__HYPERVISOR_set_gdt, __HYPERVISOR_update_descriptor};
use xen_abi::mmu::MMUEXT_SET_LDT;

use crate::{EFAULT, EINVAL, EPERM};

/// A data segment of ring 3, and the same with a base of its own.
const DATA: u64 = 0x00cf_f200_0000_ffff;

fn set_gdt(frames: &[u64], entries: u64) -> i64 {
    hypercall(__HYPERVISOR_set_gdt, &[frames.as_ptr() as u64, entries])
}

fn write(table: u64, n: u64, value: u64) -> i64 {
    hypercall(__HYPERVISOR_update_descriptor, &[memory::mfn(table) * PAGE + n * 8, value])
}

/// The fault, if any, of loading `selector`. It is let go before its segment is: a selector that a switch to another
/// domain and back finds no segment for comes back as a failsafe callback.
fn loaded(selector: u16) -> Option<(u64, u64)> {
    fault_of(|| {
        instr::load_ds(selector);
        instr::load_ds(0);
    })
}

pub fn run() {
    let gdt = memory::page();
    let mfn = memory::mfn(gdt);
    one_of("a writable page as GDT", set_gdt(&[mfn], 512), &[EINVAL]);
    instr::store64(gdt + 8, DATA);
    memory::write_protect(gdt);
    equal("a GDT", set_gdt(&[mfn], 512), 0);
    equal("its selector loads", loaded(0x0b), None);
    equal("another does not", loaded(0x13), Some((13, 0x10)));
    equal("its page mapped for writing", memory::unprotect(gdt), EINVAL);
    for (what, value) in [
        ("a segment of ring 0", 0x00af_9a00_0000_ffffu64),
        ("data of ring 0", 0x00cf_9200_0000_ffff),
        ("a call gate", 0x0000_ec00_0008_0000),
        ("a task state", 0x0000_e900_0000_0067),
        ("an interrupt gate", 0x0000_ee00_0008_0000),
        ("an LDT", 0x0000_e200_0000_ffff),
    ] {
        // Refused, or taken with its privilege raised to that of a guest.
        let answer = write(gdt, 2, value);
        let now = instr::load64(gdt + 16);
        let harmless = now & 1 << 47 == 0 || (now >> 45 & 3 != 0 && now & 1 << 44 != 0);
        if answer == 0 && !harmless {
            ptk::println!("{what}: {value:#x} is {now:#x}");
        }
        holds(what, answer == EINVAL || (answer == 0 && harmless));
    }
    equal("a good descriptor", write(gdt, 2, DATA), 0);
    equal("and its removal", write(gdt, 2, 0), 0);
    one_of(
        "a descriptor in a page table",
        hypercall(__HYPERVISOR_update_descriptor, &[ptk::memory::entry(gdt, 1).map_or(0, |e| e.0), DATA]),
        &[EINVAL, EPERM],
    );
    one_of("a descriptor off its place", hypercall(__HYPERVISOR_update_descriptor, &[mfn * PAGE + 4, DATA]), &[EINVAL]);
    for bad in [0x100u64, 0xfee00, 1 << 40, u64::MAX] {
        one_of("a GDT of another's frames", set_gdt(&[bad], 512), &[EINVAL, EPERM]);
        one_of("a descriptor in another's frame", hypercall(__HYPERVISOR_update_descriptor, &[bad << 12, DATA]), &[EINVAL, EPERM]);
    }
    equal("a GDT that is too long", set_gdt(&[mfn; 16], 7169), EINVAL);
    equal("a GDT list that cannot be read", hypercall(__HYPERVISOR_set_gdt, &[0xffff_8080_0010_0000, 512]), EFAULT);
    local(gdt);
    equal("no GDT any more", set_gdt(&[], 0), 0);
    equal("XSA-214 its page is memory again", memory::unprotect(gdt), 0);
}

fn local(gdt: u64) {
    let ldt = memory::page();
    instr::store64(ldt + 8, DATA);
    memory::write_protect(ldt);
    equal("an LDT of one's own", extended(MMUEXT_SET_LDT, ldt, 512), 0);
    equal("its selector loads", loaded(0x0f), None);
    equal("an LDT off its place", extended(MMUEXT_SET_LDT, ldt + 8, 512), EINVAL);
    equal("an LDT that is too long", extended(MMUEXT_SET_LDT, ldt, 8193), EINVAL);
    for va in [0xffff_8000_0000_0000u64, 0xffff_8280_0000_0000, 0x8000_0000_0000_0000] {
        holds("an LDT in the hypervisor's memory", extended(MMUEXT_SET_LDT, va, 512) != 0 || loaded(0x0f).is_some());
    }
    equal("no LDT", extended(MMUEXT_SET_LDT, 0, 0), 0);
    holds("its selector does not load then", loaded(0x0f).is_some());
    equal("its page is memory again", memory::unprotect(ldt), 0);
    let _ = gdt;
}
