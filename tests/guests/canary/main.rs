//! A neighbour: it fills its memory, looks at it again and again, and says whether anything has changed. Nothing that
//! another domain does may (goal G5). It ends after `rounds=`, or when domain `beside=` is gone.
#![no_std]
#![no_main]

use ptk::check::{equal, holds};
use ptk::{call, event, hypercall, instr, memory, println, start};
use xen_abi::event_channel::VIRQ_TIMER;
use xen_abi::grant_table::{GNTMAP_host_map, GNTST_bad_domain, GNTTABOP_map_grant_ref, GnttabMapGrantRef};
use xen_abi::hypercall::{__HYPERVISOR_grant_table_op, __HYPERVISOR_sched_op, __HYPERVISOR_set_timer_op};
use xen_abi::sched::{SCHEDOP_poll, SchedPoll};

const PAGES: u64 = 400;

/// Whether domain `id` is there: what it has not granted cannot be mapped, but that answer needs a domain.
fn is_there(id: u16) -> bool {
    let mut op = GnttabMapGrantRef { flags: GNTMAP_host_map, dom: id, ..GnttabMapGrantRef::default() };
    hypercall(__HYPERVISOR_grant_table_op, &[GNTTABOP_map_grant_ref.into(), core::ptr::from_mut(&mut op) as u64, 1]);
    op.status != GNTST_bad_domain
}

/// FNV-1a over a page's words.
fn hash(va: u64, mut sum: u64) -> u64 {
    for word in 0..512 {
        sum = (sum ^ instr::load64(va + word * 8)).wrapping_mul(0x100_0000_01b3);
    }
    sum
}

fn main() {
    let rounds = start::option("rounds").unwrap_or(u64::MAX);
    let beside = start::option("beside").and_then(|id| u16::try_from(id).ok());
    let mut noise = ptk::rng::Rng::new(start::option("seed").unwrap_or(7));
    let mut pages = [0u64; PAGES as usize];
    for page in &mut pages {
        *page = memory::page();
        for word in 0..512 {
            instr::store64(*page + word * 8, noise.next());
        }
    }
    let all = || pages.iter().fold(0xcbf2_9ce4_8422_2325, |sum, &va| hash(va, sum));
    let first = all();
    println!("canary: {PAGES} pages, hash {first:#x}");
    let timer = event::bind_virq(VIRQ_TIMER, 0);
    holds("a timer", timer.is_ok());
    let port = timer.unwrap_or(0);
    for round in (1..=rounds).take_while(|_| beside.is_none_or(is_there)) {
        let wake = memory::now_ns() + 100_000_000;
        hypercall(__HYPERVISOR_set_timer_op, &[wake]);
        let mut poll = SchedPoll { ports: core::ptr::from_ref(&port) as u64, nr_ports: 1, ..SchedPoll::default() };
        while !event::take(port) {
            call(__HYPERVISOR_sched_op, SCHEDOP_poll, &mut poll);
        }
        let late = memory::now_ns().saturating_sub(wake) / 1_000_000;
        let now = all();
        if now != first {
            break;
        }
        if round % 10 == 0 {
            println!("canary: round {round}, unchanged ({late} ms late)");
        }
    }
    equal("the canary's memory", all(), first);
}

ptk::guest!(main);
