//! A kernel in one page table with its processes: who runs is told by the stack pointer, nothing is switched on the way,
//! and the kernel's pages, which are global, are forgotten when that is asked for.
#![no_std]
#![no_main]
#![expect(unsafe_code, reason = "ways into a process and back")]
#![expect(clippy::arithmetic_side_effects, reason = "a mistake here is a failed experiment")]

mod process;
mod sites;
mod stale;

use ptk::check::{equal, holds};
use ptk::memory::{self, PAGE, RO, RW};
use ptk::table::extended;
use ptk::{call, instr, start, user, xmode};
use xen_abi::mmu::MMUEXT_NEW_USER_BASEPTR;
use xen_abi::xmode::*;

/// Bits of a level-1 entry.
const USER: u64 = 1 << 2;
const GLOBAL: u64 = 1 << 8;

fn main() {
    announced();
    refused();
    equal("a process of its own page table", user::prepare(), 0);
    equal("X-mode is on", xmode::enable(), 0);
    equal("the process is in the kernel's page table", xmode::adopt_process(), 0);
    equal("another table for processes is nobody's business", extended(MMUEXT_NEW_USER_BASEPTR, 0xdead_beef, 0), 0);
    global_bits();
    process::run();
    sites::run();
    sites::patched();
    sites::ready();
    if start::option("vcpus").is_none() {
        sites::annex();
    }
    stale::run();
    equal("the word may move", xmode::ask(XMODE_VERSION, 0, xmode::word()), 0);
}

fn announced() {
    let mut query = XmodeQuery::default();
    equal("a query", (call(__HYPERVISOR_xmode_op, XMODEOP_query, &mut query), query.version), (0, XMODE_VERSION));
    let [most, ..] = instr::forced_cpuid(XMODE_CPUID, 0);
    let [_, b, c, d] = instr::forced_cpuid(XMODE_CPUID, 0);
    equal("a CPUID leaf", [b, c, d].map(u32::to_le_bytes).as_flattened(), XMODE_CPUID_SIGNATURE);
    equal("the version in the next", (most, instr::forced_cpuid(most, 0)[0]), (XMODE_CPUID_VERSION, XMODE_VERSION));
}

fn refused() {
    let good = memory::page();
    for (name, version, flags, word) in [
        ("an unknown version", XMODE_VERSION + 1, 0, good),
        ("no version", 0, 0, good),
        ("an unknown flag", XMODE_VERSION, 1, good),
        ("a word that is not aligned", XMODE_VERSION, 0, good + 4),
        ("a word in the lower half", XMODE_VERSION, 0, 0x1000),
        ("a word that is not canonical", XMODE_VERSION, 0, 0x8000_0000_0000_0000),
        ("a word of the hypervisor's", XMODE_VERSION, 0, 0xffff_8080_0010_0000),
        ("a word across the end", XMODE_VERSION, 0, u64::MAX - 3),
    ] {
        equal(name, xmode::ask(version, flags, word), -22);
    }
    let exit = |status, flags| call(__HYPERVISOR_xmode_op, XMODEOP_exit, &mut XmodeExit { status, flags });
    equal("an exit status that no process has", exit(256, 0), -22);
    equal("an exit status with flags", exit(1, 1), -22);
    equal("an exit status", (exit(3, 0), exit(7, 0)), (0, 0));
    equal("an unknown operation", call(__HYPERVISOR_xmode_op, 7, &mut XmodeQuery::default()), -38);
    let none = ptk::hypercall(__HYPERVISOR_xmode_op, &[XMODEOP_enable.into(), 0xffff_8080_0010_0000]);
    equal("an argument of the hypervisor's", none, -14);
}

/// What becomes of entries: global is what the kernel has, whatever was asked for.
fn global_bits() {
    let va = memory::page();
    let mfn = memory::mfn(va);
    let written = |bits: u64| {
        let done = memory::set_va(va, mfn * PAGE | bits);
        (done, memory::entry(va, 1).map(|(_, value)| value & (GLOBAL | USER)))
    };
    equal("a page of the kernel's", written(RW), (0, Some(GLOBAL | USER)));
    equal("one that is read-only", written(RO), (0, Some(GLOBAL | USER)));
    equal("a page of a process's", written(RW | USER), (0, Some(USER)));
    equal("a process asks for a global one", written(RW | USER | GLOBAL), (0, Some(USER)));
    memory::unprotect(va);
    let back = memory::entry(va, 1).map_or(0, |(_, value)| value);
    equal("what was read is written back", memory::set_va(va, back & !2), 0);
    holds("and is the kernel's still", memory::entry(va, 1).is_some_and(|(_, value)| value & GLOBAL != 0));
    memory::unprotect(va);
}

ptk::guest!(main);
