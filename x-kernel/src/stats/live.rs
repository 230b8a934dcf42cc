//! The counters while the machine runs: a byte on the statistics port asks for one document.
//!
//! Interrupts are off here, and a serial line is slow. So the port is looked at when a CPU schedules, a few times a
//! second; a document is made one domain at a time, and sent in pieces, as much as the port takes at once and for no
//! longer than [`BUDGET_NS`] in [`TICK_NS`]. Requests that come meanwhile are thrown away: whoever sends bytes
//! without end gets one document after the other, at that price and no other.

use alloc::string::String;
use core::fmt::Write;
use core::sync::atomic::{AtomicU64, Ordering};

use super::{Alive, Rest, record};
use crate::arch::x86_64::{serial, tsc};
use crate::domain;
use crate::sync::{SpinLock, level};

/// What the documents of this form say of themselves.
const FORMAT: u32 = 1;
/// How often the port is looked at for a request.
const LOOK_NS: u64 = 100_000_000;
/// How often a piece of a document is sent.
const TICK_NS: u64 = 10_000_000;
/// For how long.
const BUDGET_NS: u64 = 1_000_000;
/// Room for one domain's record with all that can be in it. It is had before a document is begun.
const ROOM: usize = 16 << 10;
/// For [`NEXT_NS`].
const NEVER: u64 = u64::MAX;

/// When to do something next, ns since boot; [`NEVER`] also while a CPU is at it.
static NEXT_NS: AtomicU64 = AtomicU64::new(0);
/// The document that is on its way. Taken out by whoever works on it.
static DOCUMENT: SpinLock<Option<Document>, level::Unranked> = SpinLock::new(None);

/// Looks whether somebody asks, or sends the next piece of the answer. Called with no lock held.
pub fn poll(now: u64) {
    let due = NEXT_NS.load(Ordering::Relaxed);
    if now < due || NEXT_NS.compare_exchange(due, NEVER, Ordering::Relaxed, Ordering::Relaxed).is_err() {
        return;
    }
    NEXT_NS.store(tick(now), Ordering::Relaxed);
}

/// Does what is due; when the next is.
fn tick(now: u64) -> u64 {
    if !serial::has_stats() {
        return NEVER;
    }
    let asked = serial::take_requests();
    let under_way = DOCUMENT.lock().take();
    let document = under_way.or_else(|| if asked { Document::begin(now) } else { None });
    let Some(mut document) = document else { return now.saturating_add(LOOK_NS) };
    if document.send_until(now.saturating_add(BUDGET_NS)) {
        return now.saturating_add(LOOK_NS);
    }
    *DOCUMENT.lock() = Some(document);
    now.saturating_add(TICK_NS)
}

/// Sends all that is left of a document, however long that takes.
pub fn finish() {
    let Some(mut document) = DOCUMENT.lock().take() else { return };
    loop {
        serial::write_stats(format_args!("{}", document.unsent()));
        if !document.next_part() {
            return;
        }
    }
}

/// What follows what a document has so far.
enum Next {
    /// The domain behind the one of this number, or the first.
    Domain(Option<u16>),
    /// Nothing.
    Nothing,
}

/// A document on its way.
struct Document {
    /// The part that is being sent.
    text: String,
    /// How much of it has been sent.
    sent: usize,
    next: Next,
    alive: Alive,
}

impl Document {
    /// A document of the time `now`; none if there is no memory for it.
    fn begin(now: u64) -> Option<Self> {
        let mut text = String::new();
        text.try_reserve_exact(ROOM).ok()?;
        // There is room for this and for each part below.
        let _ = write!(text, "{{\"now_ns\":{now},\"format\":{FORMAT},\"domains\":[");
        Some(Self { text, sent: 0, next: Next::Domain(None), alive: Alive::default() })
    }

    fn unsent(&self) -> &str {
        self.text.get(self.sent..).unwrap_or_default()
    }

    /// Replaces what has been sent by what follows; false at the end.
    fn next_part(&mut self) -> bool {
        let Next::Domain(after) = self.next else { return false };
        self.text.clear();
        self.sent = 0;
        if let Some(domain) = domain::next(after) {
            self.text.push_str(if after.is_some() { "," } else { "" });
            let _ = record::of_living(&mut self.text, &domain);
            self.alive.add(&domain);
            self.next = Next::Domain(Some(domain.id.raw()));
        } else {
            let _ = write!(self.text, "{}", Rest(self.alive));
            self.next = Next::Nothing;
        }
        true
    }

    /// Sends what the port takes, until `deadline`; whether that was all.
    fn send_until(&mut self, deadline: u64) -> bool {
        loop {
            let unsent = self.unsent();
            if unsent.is_empty() {
                if !self.next_part() {
                    return true;
                }
            } else {
                let sent = serial::offer_stats(unsent.as_bytes());
                if sent == 0 {
                    return false;
                }
                // All of it is ASCII, so that every place is the beginning of a character.
                self.sent = self.sent.saturating_add(sent);
            }
            if tsc::now_ns() >= deadline {
                return false;
            }
        }
    }
}
