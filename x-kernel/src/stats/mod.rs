//! The counters as JSON, for whoever started the machine with `stats=com2`.
//!
//! Each domain's record is kept when it dies; all are written out when the machine stops, and at a debug key. While
//! the machine runs the port can be asked (`live`).

use alloc::string::String;
use core::fmt;
use core::sync::atomic::Ordering;

use crate::arch::x86_64::{serial, tsc};
use crate::domain::{self, Domain};
use crate::mm::{self, frame_alloc, heap};
use crate::percpu;
use crate::sync::{SpinLock, level};

pub mod live;
mod record;

static RECORDS: SpinLock<String, level::Records> = SpinLock::new(String::new());

/// Keeps the record of a domain that has died.
pub fn record(domain: &Domain) {
    if !serial::has_stats() {
        return;
    }
    let mut out = RECORDS.lock();
    if !out.is_empty() {
        out.push(',');
    }
    // Writing to a String fails only by running out of memory, which the allocator answers for.
    let _ = record::of_dead(&mut *out, domain);
}

/// How many domains there are, and the frames that they own.
#[derive(Clone, Copy, Debug, Default)]
struct Alive {
    domains: u32,
    frames: u64,
}

impl Alive {
    fn add(&mut self, domain: &Domain) {
        self.domains = self.domains.saturating_add(1);
        self.frames = self.frames.saturating_add(domain.pages.load(Ordering::Relaxed));
    }
}

/// What comes behind the domains: the CPU's counters, the time, the memory; and the end of the object and of its line.
struct Rest(Alive);

impl fmt::Display for Rest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let cpu = percpu::this();
        let Alive { domains, frames } = self.0;
        let mm::Fixed { ram, image, kept, page_tables, frame_table, allocator } = mm::fixed();
        writeln!(
            f,
            "],\"cpu\":{{\"cr3_loads\":{},\"switches\":{},\"interrupts\":{}}},\"time_ns\":{},\"memory\":{{\"frames\":{},\"free\":{},\"heap_bytes\":{},\
             \"domains\":{domains},\"domain_frames\":{frames},\"ram\":{ram},\"image\":{image},\"kept\":{kept},\
             \"page_tables\":{page_tables},\"frame_table\":{frame_table},\"allocator\":{allocator}}}}}",
            cpu.counters.cr3_loads.get(),
            cpu.counters.switches.get(),
            cpu.counters.interrupts.get(),
            tsc::now_ns(),
            frame_alloc::total_frames(),
            frame_alloc::free_frames(),
            heap::stats().used_bytes,
        )
    }
}

/// Writes everything to COM2, one JSON object on one line, behind whatever is being written there.
pub fn print() {
    if !serial::has_stats() {
        return;
    }
    live::finish();
    let mut alive = Alive::default();
    domain::for_each(|d| alive.add(d));
    // Before the port is locked: this asks the allocators, whose locks come earlier in the order.
    let rest = alloc::format!("{}", Rest(alive));
    serial::write_stats(format_args!("{{\"domains\":[{}{rest}", RECORDS.lock().as_str()));
}
