//! What a domain did, as a JSON object.
//!
//! Names are safe to quote as they are: a domain's has letters, digits, `.`, `-` and `_`, all others are ours.

use core::fmt::{self, Write};
use core::sync::atomic::Ordering;

use abom::{Pattern, Refusal};

use crate::arch::x86_64::tsc;
use crate::domain::Domain;
use crate::domain::vcpu::Vcpu;
use crate::perf::Counter;
use crate::pv;

/// The record of a domain that has died.
pub fn of_dead(out: &mut impl Write, domain: &Domain) -> fmt::Result {
    head(out, domain)?;
    write!(out, ",\"stop\":\"{:?}\"", domain.stop_reason())?;
    counters(out, domain, domain.counters.syscalls_call.get())
}

/// The record of a domain that is there, with what it has and does now.
pub fn of_living(out: &mut impl Write, domain: &Domain) -> fmt::Result {
    head(out, domain)?;
    write!(
        out,
        ",\"state\":\"{}\",\"frames\":{},\"max_frames\":{},\"weight\":{},\"vcpus\":[",
        state(domain),
        domain.pages.load(Ordering::Relaxed),
        domain.max_pages.load(Ordering::Relaxed),
        domain.weight
    )?;
    let now = tsc::now_ns();
    for (i, vcpu) in domain.vcpus().iter().enumerate() {
        let ran = vcpu.runstate.lock().ran_ns(now);
        write!(out, "{}{{\"id\":{},\"state\":\"{}\",\"ran_ns\":{ran}}}", comma(i), vcpu.id, vcpu_state(vcpu))?;
    }
    out.write_char(']')?;
    counters(out, domain, pv::abom::calls_so_far(domain))
}

fn head(out: &mut impl Write, domain: &Domain) -> fmt::Result {
    write!(out, "{{\"domid\":{},\"name\":\"{}\"", domain.id.raw(), domain.name)
}

/// Every counter, of which `calls` is the one that the guest keeps, and the end of the object.
fn counters(out: &mut impl Write, domain: &Domain, calls: u64) -> fmt::Result {
    let made = domain.counters.hypercalls.iter().zip(0u64..).map(|(counter, nr)| (xen_abi::hypercall::name(nr), counter));
    out.write_str(",\"hypercalls\":")?;
    counts(out, made)?;
    let mut written = Ok(());
    domain.counters.each(|name, value| {
        let value = if name == "syscalls_call" { calls } else { value };
        written = written.and_then(|()| write!(out, ",\"{name}\":{value}"));
    });
    written?;
    if let Some(status) = domain.exit_status() {
        write!(out, ",\"exit_status\":{status}")?;
    }
    let alive = tsc::now_ns().saturating_sub(domain.created_ns);
    let abom = &domain.abom_counters;
    let patched = abom.patched.iter().fold(0u64, |sum, c| sum.saturating_add(c.get()));
    write!(
        out,
        ",\"alive_ns\":{alive},\"syscalls\":{{\"trap\":{},\"call\":{calls}}},\"abom\":{{\"patched\":{patched},\"declined\":{},\"caught\":{},\"patterns\":",
        domain.counters.syscalls_trap.get(),
        abom.declined.get(),
        abom.caught.get()
    )?;
    counts(out, Pattern::ALL.map(Pattern::name).into_iter().zip(&abom.patched))?;
    out.write_str(",\"refused\":")?;
    counts(out, Refusal::ALL.map(Refusal::name).into_iter().zip(&abom.refused))?;
    out.write_str("}}")
}

/// Those counters that are not zero, by name, as an object.
fn counts<'a>(out: &mut impl Write, counters: impl Iterator<Item = (&'static str, &'a Counter)>) -> fmt::Result {
    out.write_char('{')?;
    for (i, (name, counter)) in counters.filter(|(_, c)| c.get() != 0).enumerate() {
        write!(out, "{}\"{name}\":{}", comma(i), counter.get())?;
    }
    out.write_char('}')
}

/// What goes before item `i`.
fn comma(i: usize) -> &'static str {
    if i == 0 { "" } else { "," }
}

/// What a domain is doing: what the busiest of its vCPUs does.
fn state(domain: &Domain) -> &'static str {
    if domain.is_dying() {
        return "dying";
    }
    let has = |state| domain.vcpus().iter().any(|v| vcpu_state(v) == state);
    ["running", "ready", "waiting"].into_iter().find(|s| has(*s)).unwrap_or("offline")
}

fn vcpu_state(vcpu: &Vcpu) -> &'static str {
    if vcpu.runnable() {
        // One that has just gone to sleep is still on its CPU.
        if vcpu.on_cpu.load(Ordering::Acquire) { "running" } else { "ready" }
    } else if vcpu.online.load(Ordering::Acquire) {
        "waiting"
    } else {
        "offline"
    }
}
