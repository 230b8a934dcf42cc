//! What a notification does to the pages shared with the guest.
//!
//! The guest consumes events by clearing its upcall flag, taking the selector word, then for each selected word
//! taking the bits that are pending and not masked. A producer goes the other way: pending bit, selector bit,
//! upcall flag, wake. Whoever sets a bit that was clear owns the next step; whoever finds it set leaves the rest to
//! the one who set it. For that to lose nothing each operation of [`EventPage`] must be one atomic,
//! sequentially consistent access: "pending set, then mask read" races with "mask cleared, then pending read" in
//! [`unmask`] and in the guest, and with weaker orders both could read the old value. The loom model is in
//! loom_tests.rs. A guest that writes other things into its pages loses its own events and nothing else.

use super::Port;

/// The bits shared with one guest. Each function is one atomic, sequentially consistent access.
pub trait EventPage {
    /// Sets the pending bit of `port`; whether it was set before.
    fn test_and_set_pending(&self, port: Port) -> bool;
    /// Whether `port` is pending.
    fn is_pending(&self, port: Port) -> bool;
    /// Clears the pending bit of `port`: it is being closed.
    fn clear_pending(&self, port: Port);
    /// Whether `port` is masked.
    fn is_masked(&self, port: Port) -> bool;
    /// Clears the mask bit of `port`; whether it was set before.
    fn test_and_clear_mask(&self, port: Port) -> bool;
    /// Sets bit `word` (below 64) of the selector of `vcpu`; whether it was set before.
    fn test_and_set_selector(&self, vcpu: u32, word: u32) -> bool;
    /// Sets the upcall flag of `vcpu`; whether it was set before. An implementation that cannot tell without a
    /// race answers false: one kick too many.
    fn set_upcall_pending(&self, vcpu: u32) -> bool;
}

/// What the caller owes after a delivery.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[must_use = "a vCPU that is owed a wake would sleep on"]
pub enum Wake {
    /// Nothing: the event was pending already.
    No,
    /// The event is newly pending, but the vCPU need not hear: only vCPUs that poll the port are to be woken.
    Pollers,
    /// As `Pollers`, and the vCPU is to be woken if it blocks and kicked if it runs elsewhere.
    Upcall,
}

/// Sets `port` pending and notifies `vcpu`.
pub fn deliver(page: &impl EventPage, port: Port, vcpu: u32) -> Wake {
    if page.test_and_set_pending(port) {
        return Wake::No;
    }
    if page.is_masked(port) { Wake::Pollers } else { select(page, port, vcpu) }
}

/// `EVTCHNOP_unmask`: clears the mask of `port` and notifies `vcpu` of what was held back.
pub fn unmask(page: &impl EventPage, port: Port, vcpu: u32) -> Wake {
    if !page.test_and_clear_mask(port) || !page.is_pending(port) {
        return Wake::No;
    }
    select(page, port, vcpu)
}

/// Whether one of `ports` is pending: what `SCHEDOP_poll` asks after the vCPU is marked as polling.
pub fn any_pending(page: &impl EventPage, ports: impl IntoIterator<Item = Port>) -> bool {
    ports.into_iter().any(|port| page.is_pending(port))
}

fn select(page: &impl EventPage, port: Port, vcpu: u32) -> Wake {
    if page.test_and_set_selector(vcpu, port.word()) || page.set_upcall_pending(vcpu) { Wake::Pollers } else { Wake::Upcall }
}
