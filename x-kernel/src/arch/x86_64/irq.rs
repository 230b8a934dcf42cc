//! Interrupt vectors of the X-Kernel: the local timer, inter-processor interrupts, spurious ones.
//!
//! Handlers only note what has happened; the work is done on the way out to a guest.

use super::{apic, tlb};
use crate::percpu;

/// The local timer.
pub const VECTOR_TIMER: u8 = 0xf0;
/// A TLB shootdown.
pub const VECTOR_SHOOTDOWN: u8 = 0xf1;
/// Another CPU wants this one to pass through the scheduler.
pub const VECTOR_RESCHEDULE: u8 = 0xf2;
/// Spurious interrupt of the local APIC: takes no end-of-interrupt.
pub const VECTOR_SPURIOUS: u8 = 0xff;

/// Serves an interrupt.
pub fn handle(vector: u8) {
    match vector {
        VECTOR_SPURIOUS => return,
        VECTOR_TIMER | VECTOR_RESCHEDULE => percpu::this().kick(),
        VECTOR_SHOOTDOWN => tlb::serve_shootdowns(),
        _ => log::warn!("unexpected interrupt vector {vector:#x}"),
    }
    apic::end_of_interrupt();
}

/// Serves an NMI: nothing here sends any, so it is noted.
pub fn handle_nmi() {
    crate::trace::record(crate::trace::Id::Nmi, 0, 0, 0);
}
