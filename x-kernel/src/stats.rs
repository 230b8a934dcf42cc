//! The counters as JSON, for whoever started the machine with `stats=com2`.
//!
//! Each domain's record is kept when it dies; all are written out when the machine stops, and at a debug key.

use alloc::string::String;
use core::fmt::Write;
use core::sync::atomic::Ordering;

use abom::{Pattern, Refusal};

use crate::arch::x86_64::{serial, tsc};
use crate::domain::{self, Domain};
use crate::mm::{self, frame_alloc, heap};
use crate::percpu;
use crate::perf::Counter;
use crate::sync::{SpinLock, level};

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
    let _ = write!(
        out,
        "{{\"domid\":{},\"name\":\"{}\",\"stop\":\"{:?}\",\"hypercalls\":{{",
        domain.id.raw(),
        domain.name,
        domain.stop_reason()
    );
    let mut first = true;
    for (nr, counter) in domain.counters.hypercalls.iter().enumerate() {
        if counter.get() != 0 {
            let _ = write!(out, "{}\"{}\":{}", if first { "" } else { "," }, xen_abi::hypercall::name(nr as u64), counter.get());
            first = false;
        }
    }
    out.push('}');
    domain.counters.each(|name, value| {
        let _ = write!(out, ",\"{name}\":{value}");
    });
    if let Some(status) = domain.exit_status() {
        let _ = write!(out, ",\"exit_status\":{status}");
    }
    let alive = tsc::now_ns().saturating_sub(domain.created_ns);
    let abom = &domain.abom_counters;
    let patched = abom.patched.iter().fold(0u64, |sum, c| sum.saturating_add(c.get()));
    let _ = write!(
        out,
        ",\"alive_ns\":{alive},\"syscalls\":{{\"trap\":{},\"call\":{}}},\"abom\":{{\"patched\":{patched},\"declined\":{},\"caught\":{},\"patterns\":",
        domain.counters.syscalls_trap.get(),
        domain.counters.syscalls_call.get(),
        abom.declined.get(),
        abom.caught.get()
    );
    counts(&mut out, Pattern::ALL.map(Pattern::name).into_iter().zip(&abom.patched));
    out.push_str(",\"refused\":");
    counts(&mut out, Refusal::ALL.map(Refusal::name).into_iter().zip(&abom.refused));
    out.push_str("}}");
}

/// Those counters that are not zero, by name, as an object.
fn counts<'a>(out: &mut String, counters: impl Iterator<Item = (&'static str, &'a Counter)>) {
    out.push('{');
    for (i, (name, counter)) in counters.filter(|(_, c)| c.get() != 0).enumerate() {
        let _ = write!(out, "{}\"{name}\":{}", if i == 0 { "" } else { "," }, counter.get());
    }
    out.push('}');
}

/// Writes everything to COM2, one JSON object on one line.
pub fn print() {
    if !serial::has_stats() {
        return;
    }
    let cpu = percpu::this();
    let (mut domains, mut domain_frames) = (0u32, 0u64);
    domain::for_each(|d| {
        domains = domains.saturating_add(1);
        domain_frames = domain_frames.saturating_add(d.pages.load(Ordering::Relaxed));
    });
    let mm::Fixed { ram, image, kept, page_tables, frame_table, allocator } = mm::fixed();
    serial::write_stats(format_args!(
        "{{\"domains\":[{}],\"cpu\":{{\"cr3_loads\":{},\"switches\":{},\"interrupts\":{}}},\"time_ns\":{},\"memory\":{{\"frames\":{},\"free\":{},\"heap_bytes\":{},\
         \"domains\":{domains},\"domain_frames\":{domain_frames},\"ram\":{ram},\"image\":{image},\"kept\":{kept},\
         \"page_tables\":{page_tables},\"frame_table\":{frame_table},\"allocator\":{allocator}}}}}\n",
        RECORDS.lock().as_str(),
        cpu.counters.cr3_loads.get(),
        cpu.counters.switches.get(),
        cpu.counters.interrupts.get(),
        tsc::now_ns(),
        frame_alloc::total_frames(),
        frame_alloc::free_frames(),
        heap::stats().used_bytes,
    ));
}
