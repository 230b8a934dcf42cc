//! The console ring (XSA-38): the hypervisor reads and writes it, and the guest writes all of it, its indices too.

use ptk::check::{equal, holds};
use ptk::memory::{self, PAGE};
use ptk::rng::Rng;
use ptk::{event, hypercall, instr, start};
use xen_abi::console::{XENCONS_OUT_BYTES, offset};

pub fn run() {
    let info = start::start_info();
    holds("there is a ring", info.console_evtchn != 0);
    let ring = memory::VIRT_BASE + memory::m2p(info.console_mfn) * PAGE;
    let word = |at: usize| ring + at as u64;
    let notify = || event::send(info.console_evtchn);
    let interesting = [0u32, 1, 1023, 1024, 2047, 2048, 2049, 4096, 0x7fff_ffff, 0x8000_0000, u32::MAX - 1, u32::MAX];
    // What it would print is blank lines, so that the log stays readable.
    for at in 0..XENCONS_OUT_BYTES as u64 {
        instr::store(ring + offset::OUT as u64 + at, b'\n');
    }
    let set = |at: usize, value: u32| {
        for (n, byte) in (0..).zip(value.to_le_bytes()) {
            instr::store(word(at) + n, byte);
        }
    };
    let mut answered = true;
    for prod in interesting {
        for cons in interesting {
            // Both that are the guest's, and both that are the hypervisor's.
            for (p, c) in [(offset::OUT_PROD, offset::OUT_CONS), (offset::IN_PROD, offset::IN_CONS)] {
                set(p, prod);
                set(c, cons);
                answered &= notify() == 0;
            }
        }
    }
    holds("XSA-38 every class of indices is answered", answered);
    let mut noise = Rng::new(38);
    for _ in 0..500 {
        for at in [offset::OUT_PROD, offset::OUT_CONS, offset::IN_PROD, offset::IN_CONS] {
            set(at, noise.next() as u32);
        }
        answered &= notify() == 0;
        hypercall(xen_abi::hypercall::__HYPERVISOR_sched_op, &[0]);
    }
    holds("XSA-38 random indices are answered", answered);
    // Nothing but the ring's own words has changed.
    let rest = offset::OUT_PROD as u64 + 4;
    holds("XSA-38 nothing is written behind it", (rest..PAGE).all(|at| instr::load(ring + at) == 0));
    for at in [offset::OUT_PROD, offset::OUT_CONS, offset::IN_PROD, offset::IN_CONS] {
        set(at, 0);
    }
    equal("it is as at the start", notify(), 0);
}
