//! What two domains do to each other again and again, between marks for the plugin that counts (tests/bench/crossings): a
//! hypercall whose number is no hypercall's. One line for each piece of work, with how often it was done.

use ptk::check::{equal, holds};
use ptk::event::{self, take};
use ptk::grant::{End, copy, map, unmap};
use ptk::{call, hypercall, memory, println};
use xen_abi::grant_table::{GNTMAP_host_map, GNTST_okay};
use xen_abi::hypercall::__HYPERVISOR_sched_op;
use xen_abi::sched::{SCHEDOP_poll, SchedPoll};

use crate::meeting::{Me, OPEN, Role};
use Role::{Granter, Mapper};

/// The mark.
const MARK: u64 = 100;
/// How often each is done.
const TIMES: u64 = 1000;
/// Long enough for others to end what they do about a line on the console, or have done to start the two.
const REST_NS: u64 = 2_000_000_000;

pub fn run(me: &Me) {
    let port = me.turn(Granter, || event::alloc_unbound(me.other).map_or(0, u64::from)) as u32;
    let theirs = me.turn(Mapper, || event::bind_interdomain(me.other, port).map_or(0, u64::from)) as u32;
    holds("a channel", port != 0 && theirs != 0);
    let own = if me.role == Granter { port } else { theirs };
    // Binding was an event to the one who bound.
    let _ = take(own);
    me.act(Mapper, || {});
    holds("events", rounds(me, own, TIMES / 10));
    if me.role == Mapper {
        marked("event-ping-pong", |times| rounds(me, own, times));
        let window = memory::page();
        marked("grant-map-unmap", |times| (0..times).all(|_| map_and_unmap(me, window)));
        let page = memory::page();
        marked("grant-copy-page", |times| (0..times).all(|_| copy_page(me, page)));
        event::send(own);
    } else {
        let fine = rounds(me, own, TIMES);
        // Asleep, it costs nothing meanwhile; what it says comes when all is counted.
        sleep(own);
        holds("event-ping-pong", fine);
    }
    me.act(Mapper, || {});
    equal("the channel's end", event::close(own), 0);
}

/// Does `work` so often between marks, when everybody else is at rest.
fn marked(name: &str, work: impl Fn(u64) -> bool) {
    let mut rest = SchedPoll { timeout: memory::now_ns() + REST_NS, ..SchedPoll::default() };
    call(__HYPERVISOR_sched_op, SCHEDOP_poll, &mut rest);
    hypercall(MARK, &[]);
    let fine = work(TIMES);
    hypercall(MARK, &[]);
    holds(name, fine);
    println!("DONE {name} {TIMES}");
}

/// Sleeps until there is an event.
fn sleep(port: u32) {
    let mut poll = SchedPoll { ports: core::ptr::from_ref(&port) as u64, nr_ports: 1, ..SchedPoll::default() };
    while !take(port) {
        call(__HYPERVISOR_sched_op, SCHEDOP_poll, &mut poll);
    }
}

/// An event there and one back, so often. Whether all were sent.
fn rounds(me: &Me, own: u32, times: u64) -> bool {
    let mut fine = true;
    for _ in 0..times {
        if me.role == Granter {
            sleep(own);
        }
        fine &= event::send(own) == 0;
        if me.role == Mapper {
            sleep(own);
        }
    }
    fine
}

/// Whether it went well: a check by itself each time would be a line on the console, which is counted.
fn map_and_unmap(me: &Me, window: u64) -> bool {
    let mapped = map(me.other, OPEN, GNTMAP_host_map, window);
    mapped.status == GNTST_okay && unmap(mapped.handle, window) == GNTST_okay
}

/// The same.
fn copy_page(me: &Me, page: u64) -> bool {
    copy((End::Grant(me.other, OPEN), 0), (End::Page(page), 0), 4096) == GNTST_okay
}
