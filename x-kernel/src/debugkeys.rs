//! Debug keys on the serial console: Ctrl-] and then a letter.
//!
//! Everything else that is typed goes to the domain that has the input.

use core::sync::atomic::{AtomicBool, AtomicU16, Ordering};

use crate::arch::x86_64::serial;
use crate::domain::{self, audit, census, console};
use crate::percpu;
use crate::{stats, trace};

/// Ctrl-]
const PREFIX: u8 = 0x1d;
/// Bytes taken from the line at a time, so that a flood of input does not keep guests from running.
const BUDGET: usize = 64;

static ARMED: AtomicBool = AtomicBool::new(false);

/// A byte that the domain with the input had no room for, or [`NOTHING`]. While there is one the line is not read:
/// what is typed or piped in faster than the guest reads waits in front of the machine.
static HELD: AtomicU16 = AtomicU16::new(NOTHING);
const NOTHING: u16 = 0x100;

/// Takes what has been typed.
#[inline]
pub fn poll(now: u64) {
    if HELD.load(Ordering::Relaxed) != NOTHING || serial::may_have_input(now) {
        take();
    }
}

#[cold]
fn take() {
    for _ in 0..BUDGET {
        let held = u8::try_from(HELD.swap(NOTHING, Ordering::Relaxed)).ok();
        let Some(byte) = held.or_else(serial::take_byte) else { return };
        if ARMED.swap(false, Ordering::Relaxed) {
            command(byte);
        } else if byte == PREFIX {
            ARMED.store(true, Ordering::Relaxed);
        } else if !console::input(byte) {
            HELD.store(u16::from(byte), Ordering::Relaxed);
            return;
        }
    }
}

fn command(key: u8) {
    match key {
        PREFIX | b'i' => console::switch_focus(),
        b'd' => registers(),
        b'q' => domain::for_each(|d| log::info!("{}", domain::Summary(d))),
        b'f' => census::print(),
        b'a' => audit::run(),
        b'e' => event_channels(),
        b's' => stats::print(),
        b't' => trace::dump(),
        _ => log::info!(
            "debug keys, after Ctrl-]: i input to the next domain, d registers, q domains, f frame census, a audit, e event channels, s statistics to com2, t trace, h help"
        ),
    }
}

/// The vCPU that runs here and where each vCPU was when it last entered.
fn registers() {
    let current = percpu::this().current();
    log::info!("cpu {}: runs {:?}", percpu::this().id, current.map(|v| (v.domain().map(|d| d.id.raw()), v.id)));
    domain::for_each(|d| {
        for v in d.vcpus() {
            if let Some(state) = v.state.try_lock() {
                let r = &state.regs;
                log::info!(
                    "domain {} vcpu {}: rip {:#x} rsp {:#x} rflags {:#x} kernel {}",
                    d.id.raw(),
                    v.id,
                    r.rip,
                    r.rsp,
                    r.rflags,
                    state.in_kernel
                );
            }
        }
    });
}

/// Every port in use.
fn event_channels() {
    domain::for_each(|d| {
        for (port, status) in d.events.lock().iter() {
            log::info!("domain {} port {}: {:?} vcpu {}", d.id.raw(), port.raw(), status.state, status.vcpu);
        }
    });
}
