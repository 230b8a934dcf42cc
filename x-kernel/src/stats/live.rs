//! The statistics port while the machine runs: the counters for whoever asks, and the operator's commands.
//!
//! Interrupts are off here, and a serial line is slow. So the port is looked at when a CPU schedules, a few times a
//! second; a document is made one domain at a time, and sent in pieces, as much as the port takes at once and for no
//! longer than [`BUDGET_NS`] in [`TICK_NS`]. Questions that come meanwhile are thrown away: whoever sends bytes
//! without end gets one document after the other, at that price and no other. Of commands, one is carried out at a look,
//! and none while the answer to the one before has not been sent: the next ones wait in front of the machine.

use alloc::string::String;
use core::fmt::Write;
use core::sync::atomic::{AtomicU64, Ordering};

use arrayvec::ArrayString;
use pv_core::operator::{Reader, Request, Wrong};

use super::{Alive, Rest, record};
use crate::arch::x86_64::{serial, tsc};
use crate::domain::{self, StopReason};
use crate::sync::{SpinLock, level};

/// What the documents of this form say of themselves.
const FORMAT: u32 = 1;
/// How often the port is looked at for a request.
const LOOK_NS: u64 = 100_000_000;
/// How often a piece of a document is sent.
const TICK_NS: u64 = 10_000_000;
/// For how long.
const BUDGET_NS: u64 = 1_000_000;
/// The most bytes that are looked at at a time: what a UART keeps.
const REQUESTS: usize = 16;
/// Room for one domain's record with all that can be in it. It is had before a document is begun.
const ROOM: usize = 16 << 10;
/// For [`NEXT_NS`].
const NEVER: u64 = u64::MAX;

/// The answer to a command: a line of JSON.
type Answer = ArrayString<160>;

/// When to do something next, ns since boot; [`NEVER`] also while a CPU is at it.
static NEXT_NS: AtomicU64 = AtomicU64::new(0);
/// What has come and what goes out. Taken out by whoever works on it.
static WORK: SpinLock<Work, level::Unranked> = SpinLock::new(Work::new());

/// What has come on the port, and what goes out.
#[derive(Default)]
struct Work {
    reader: Reader,
    /// The document that is on its way.
    document: Option<Document>,
    /// What follows it.
    answer: Answer,
}

/// Looks whether somebody wants something, or sends the next piece of the answer. Called with no lock held.
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
    let mut work = core::mem::take(&mut *WORK.lock());
    if work.listen() && work.document.is_none() {
        work.document = Document::begin(now);
    }
    let pause = if work.send_until(now.saturating_add(BUDGET_NS)) { LOOK_NS } else { TICK_NS };
    *WORK.lock() = work;
    now.saturating_add(pause)
}

/// Sends all that is left to send, however long that takes.
pub fn finish() {
    let Work { document, answer, .. } = core::mem::take(&mut *WORK.lock());
    if let Some(mut document) = document {
        loop {
            serial::write_stats(format_args!("{}", document.unsent()));
            if !document.next_part() {
                break;
            }
        }
    }
    serial::write_stats(format_args!("{answer}"));
}

impl Work {
    const fn new() -> Self {
        Self { reader: Reader::new(), document: None, answer: ArrayString::new_const() }
    }

    /// Takes what has come, up to the end of one command, and carries that out; whether somebody asks for the counters.
    fn listen(&mut self) -> bool {
        let mut asked = false;
        for _ in 0..REQUESTS {
            if !self.answer.is_empty() {
                break;
            }
            let Some(byte) = serial::take_request() else { break };
            match self.reader.take(byte) {
                None => {}
                Some(Ok(Request::Counters)) => asked = true,
                Some(Ok(Request::Kill(name))) => self.answer = kill(&name),
                Some(Err(wrong)) => self.answer = refused(wrong),
            }
        }
        asked
    }

    /// Sends what the port takes, until `deadline`; whether that was all.
    fn send_until(&mut self, deadline: u64) -> bool {
        if let Some(document) = &mut self.document {
            if !document.send_until(deadline) {
                return false;
            }
            self.document = None;
        }
        let sent = serial::offer_stats(self.answer.as_bytes());
        // All of it is ASCII, so that every place is the beginning of a character.
        let rest = self.answer.get(sent..).map(Answer::from);
        self.answer = rest.and_then(Result::ok).unwrap_or_default();
        self.answer.is_empty()
    }
}

/// An answer from text. One that were too long would be cut: no name or reason makes it so.
fn line(text: core::fmt::Arguments<'_>) -> Answer {
    let mut line = Answer::new();
    let _ = line.write_fmt(format_args!("{{{text}}}\r\n"));
    line
}

fn refused(wrong: Wrong) -> Answer {
    line(format_args!("\"error\":\"{wrong}\""))
}

/// Ends the domain called `name`, as it is: its kernel is not asked.
fn kill(name: &str) -> Answer {
    let Some(domain) = domain::called(name) else {
        return line(format_args!("\"error\":\"kill: there is no domain {name}, or several\""));
    };
    if domain.stop(StopReason::Killed) {
        log::info!("domain {} ({}): killed by the operator", domain.id.raw(), domain.name);
    }
    line(format_args!("\"killed\":\"{}\",\"domid\":{}", domain.name, domain.id.raw()))
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
