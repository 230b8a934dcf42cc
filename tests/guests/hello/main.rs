//! What a guest finds when it starts: start_info, its frames in both directions, both ways to call, the console.
#![no_std]
#![no_main]

use ptk::check::{equal, holds};
use ptk::{guest, hypercall, memory, println, start};
use xen_abi::hypercall::__HYPERVISOR_xen_version;

fn main() {
    let info = start::start_info();
    println!("hello from a micro-guest of {} pages", info.nr_pages);
    holds("start_info magic", info.magic.starts_with(b"xen-3.0-x86_64\0"));
    // By the boot loader alone, without a line of the X-Kernel's: `plain=1`.
    let plain = start::option("plain") == Some(1);
    equal("an initial domain knows that it is, and others that they are not", info.flags & 3, if plain { 3 } else { 0 });
    if plain {
        holds("its command line is what it was given, byte for byte", info.cmd_line.starts_with(b"plain=1 two $words\0"));
    }
    holds("some pages", info.nr_pages > 256);
    let frames = [0, 1, memory::pfn(info.pt_base), info.nr_pages - 1];
    holds("p2m and m2p agree", frames.iter().all(|&pfn| memory::m2p(memory::p2m(pfn)) == pfn));
    let version = hypercall(__HYPERVISOR_xen_version, &[0]);
    holds("a version by syscall", version >> 16 >= 4);
    equal("the same by the hypercall page", start::by_page(__HYPERVISOR_xen_version, 0, 0), version);
    let (before, after) = (memory::now_ns(), memory::now_ns());
    holds("time goes on", after >= before && after > 0);
    let zeroes = memory::page();
    holds("memory is given zeroed", (0..4096).all(|n| ptk::instr::load(zeroes + n) == 0));
}

guest!(main);
