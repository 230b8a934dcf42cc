//! Guests' consoles, multiplexed on the serial line.
//!
//! Domains have the PV console ring, whose indices are the guest's allegations (XSA-38). An initial domain's console is
//! `console_io`; it is offered a ring besides, which is touched only once the guest has sent on its port. The text of a
//! domain that is alone goes out as it comes, so that a terminal program works. With several domains every line is
//! prefixed by its domain's name. While there are several domains, what each
//! prints is limited in rate ([`BURST`], [`COST_NS`]; XSA-118): a ring is left unread for a while, a `console_io` writer
//! sleeps, nothing is lost. The X-Kernel's own lines about a domain need no limit: each is printed once in its life.

use alloc::sync::Arc;
use core::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};

use arrayvec::ArrayVec;
use pv_core::frame::{self, FrameKind, Mfn};
use pv_core::tokens::TokenBucket;
use xen_abi::console::{XENCONS_IN_BYTES, XENCONS_OUT_BYTES, offset};

use super::Domain;
use crate::arch::x86_64::{serial, tsc};
use crate::mm::machine::machine;
use crate::mm::window::FrameWindow;
use crate::pv::evtchn;

/// The longest line that is held back until it is whole.
const LINE: usize = 256;
/// Bytes that are taken from a ring at a time.
const CHUNK: u32 = 256;
/// Bytes that a domain may print at once: more than a kernel says while it boots.
const BURST: u32 = 256 << 10;
/// After that, the time that a byte takes: a little more than on a line of 115200 baud.
const COST_NS: u64 = 100_000;
/// How often rings that were left unread are looked at.
const LOOK_NS: u64 = 5_000_000;
/// Input that waits for a `console_io` read.
const INPUT: usize = 1024;

/// A domain's console.
pub struct GuestConsole {
    /// The ring's frame and the guest's event channel, for a domain that has a ring.
    ring: Option<(Mfn, u32)>,
    /// The same while nobody has used it, for a domain that may not know of it: its kernel may have taken the frame for
    /// ordinary memory.
    offered: Option<(Mfn, u32)>,
    line: ArrayVec<u8, LINE>,
    input: ArrayVec<u8, INPUT>,
    allowance: TokenBucket,
    /// The ring holds text for which there was no allowance.
    unread: bool,
}

/// The domain that input goes to; 0 while none has been chosen.
static FOCUS: AtomicU32 = AtomicU32::new(0);

impl GuestConsole {
    /// A console without a ring.
    pub const fn new() -> Self {
        Self {
            ring: None,
            offered: None,
            line: ArrayVec::new_const(),
            input: ArrayVec::new_const(),
            allowance: TokenBucket::new(BURST, COST_NS),
            unread: false,
        }
    }

    /// The frame of its ring.
    pub fn ring_frame(&self) -> Option<Mfn> {
        self.ring.map(|(frame, _)| frame)
    }

    /// Takes up to `buf.len()` bytes of input.
    pub fn take_input(&mut self, buf: &mut [u8]) -> usize {
        let n = buf.len().min(self.input.len());
        for (to, from) in buf.iter_mut().zip(self.input.drain(..n)) {
            *to = from;
        }
        n
    }
}

/// Gives the console a ring in `frame` with the guest's event channel `port`. None if the frame is not memory of the
/// domain's.
///
/// The frame stays counted as writable for as long as the ring is in use: what is written through a window must be
/// able to become neither a page table nor another domain's.
pub fn set_ring(domain: &Domain, frame: Mfn, port: u32) -> Option<()> {
    frame::get_typed(machine(), frame, domain.id, FrameKind::Writable).ok()?;
    domain.console.lock().ring = Some((frame, port));
    Some(())
}

/// Offers the domain a ring: it becomes one when the guest first sends on `port`.
pub fn offer_ring(domain: &Domain, frame: Mfn, port: u32) {
    domain.console.lock().offered = Some((frame, port));
}

/// The guest has sent on its console's port: an offered ring is a ring from now on, and what was typed before goes there.
/// A frame that is something else by now is the guest's mistake, and no ring.
fn accept_ring(domain: &Arc<Domain>) {
    let Some((frame, port)) = domain.console.lock().offered.take() else { return };
    if set_ring(domain, frame, port).is_some() {
        let typed = core::mem::take(&mut domain.console.lock().input);
        for byte in typed {
            let _ = put_typed(domain, frame, port, byte);
        }
    }
}

/// Prints what is left in the ring and gives its frame back, when the domain does not run any more. May be called again.
pub fn release_ring(domain: &Domain) {
    let mut chunk = [0u8; CHUNK as usize];
    for _ in 0..const { XENCONS_OUT_BYTES / CHUNK as usize } {
        let Some((n, _)) = take_output(domain, &mut chunk, false) else { break };
        print(domain, chunk.get(..n).unwrap_or(&[]));
    }
    let ring = domain.console.lock().ring.take();
    if let Some((frame, _)) = ring {
        frame::put_typed(machine(), frame);
    }
}

/// Whether lines carry their domain's name: from when there is more than one domain, for good, so that a log reads
/// the same to its end.
fn prefixed() -> bool {
    static SEVERAL: AtomicBool = AtomicBool::new(false);
    if super::count() > 1 {
        SEVERAL.store(true, Ordering::Relaxed);
    }
    SEVERAL.load(Ordering::Relaxed)
}

/// How many of `wanted` bytes the domain may print now. For fewer than all, it must come again for the rest.
pub fn allow(domain: &Domain, wanted: u32) -> u32 {
    if prefixed() { domain.console.lock().allowance.take(tsc::now_ns(), wanted) } else { wanted }
}

/// When the domain may print `wanted` more bytes, ns since boot.
pub fn allowed_at_ns(domain: &Domain, wanted: u32) -> u64 {
    domain.console.lock().allowance.ready_at_ns(wanted)
}

/// Prints what a guest has written.
pub fn print(domain: &Domain, bytes: &[u8]) {
    if !prefixed() {
        flush(domain);
        serial::write_bytes(bytes);
        return;
    }
    let mut console = domain.console.lock();
    for &byte in bytes {
        if byte == b'\r' {
            continue;
        }
        if byte == b'\n' || console.line.is_full() {
            emit(domain, &console.line);
            console.line.clear();
        }
        if byte != b'\n' {
            let _ = console.line.try_push(byte);
        }
    }
}

/// Prints one line with the domain's name.
fn emit(domain: &Domain, line: &[u8]) {
    serial::write_line(&domain.name, line);
}

/// Prints the part of a line that is held back.
pub fn flush(domain: &Domain) {
    let mut console = domain.console.lock();
    if !console.line.is_empty() {
        emit(domain, &console.line);
        console.line.clear();
    }
}

/// Takes what the guest has put into its console ring.
pub fn drain_ring(domain: &Arc<Domain>) {
    accept_ring(domain);
    let mut chunk = [0u8; CHUNK as usize];
    // At most one ring's worth a call: the indices are the guest's and may say anything.
    for _ in 0..const { XENCONS_OUT_BYTES / CHUNK as usize } {
        let Some((n, port)) = take_output(domain, &mut chunk, prefixed()) else { return };
        print(domain, chunk.get(..n).unwrap_or(&[]));
        evtchn::notify_guest(domain, port);
    }
}

/// Moves output from the ring to `chunk`, as much as the domain may print now if it is `limited`. Returns how much and the guest's port;
/// None if there is nothing, or nothing allowed.
fn take_output(domain: &Domain, chunk: &mut [u8; CHUNK as usize], limited: bool) -> Option<(usize, u32)> {
    // The lock is held throughout, so that two CPUs do not take the same bytes.
    let mut console = domain.console.lock();
    let (frame, port) = console.ring?;
    let window = FrameWindow::new(frame)?;
    let (cons, prod) = (window.read_u32(offset::OUT_CONS), window.read_u32(offset::OUT_PROD));
    let waiting = prod.wrapping_sub(cons).min(CHUNK);
    let n = if limited { console.allowance.take(tsc::now_ns(), waiting) } else { waiting };
    console.unread = n < waiting;
    if console.unread {
        LOOK_AT.fetch_min(tsc::now_ns().saturating_add(LOOK_NS), Ordering::AcqRel);
    }
    if n == 0 {
        return None;
    }
    for (i, byte) in (0..n).zip(chunk.iter_mut()) {
        let at = cons.wrapping_add(i) as usize % XENCONS_OUT_BYTES;
        *byte = window.read_u8(offset::OUT.wrapping_add(at));
    }
    window.write_u32(offset::OUT_CONS, cons.wrapping_add(n));
    Some((n as usize, port))
}

/// When to look at rings that were left unread, ns since boot; `u64::MAX` while there is none.
static LOOK_AT: AtomicU64 = AtomicU64::new(u64::MAX);

/// Goes on with rings that were left unread. Called on the way to every guest.
#[inline]
pub fn poll(now: u64) {
    if LOOK_AT.load(Ordering::Acquire) <= now {
        look();
    }
}

#[cold]
fn look() {
    LOOK_AT.store(u64::MAX, Ordering::Release);
    super::for_each(|domain| {
        if domain.console.lock().unread {
            drain_ring(domain);
        }
    });
}

/// The domain that input goes to: the chosen one, or when that has ended, the first that runs.
fn focus() -> Option<Arc<Domain>> {
    let chosen = FOCUS.load(Ordering::Relaxed);
    let (mut first, mut found) = (None, None);
    super::for_each(|d| {
        if d.is_dying() {
            return;
        }
        if first.is_none() {
            first = Some(d.clone());
        }
        if u32::from(d.id.raw()) == chosen {
            found = Some(d.clone());
        }
    });
    if let (None, Some(next)) = (&found, &first)
        && chosen != 0
    {
        choose(next);
    }
    found.or(first)
}

/// Lets input go to `domain`.
fn choose(domain: &Domain) {
    FOCUS.store(u32::from(domain.id.raw()), Ordering::Relaxed);
    log::info!("console: input goes to domain {} ({})", domain.id.raw(), domain.name);
}

/// Moves the input to the next domain that runs.
pub fn switch_focus() {
    let now = focus().map_or(0, |d| d.id.raw());
    let (mut first, mut next) = (None, None);
    super::for_each(|d| {
        if d.is_dying() {
            return;
        }
        if first.is_none() {
            first = Some(d.clone());
        }
        if next.is_none() && d.id.raw() > now {
            next = Some(d.clone());
        }
    });
    if let Some(domain) = next.or(first) {
        choose(&domain);
    }
}

/// Gives a byte of input to the domain that has the focus. Returns false, and takes nothing, when its buffer is full.
#[must_use = "a byte that is not taken must be offered again"]
pub fn input(byte: u8) -> bool {
    // Without a domain there is nobody to keep it for.
    let Some(domain) = focus() else { return true };
    let ring = domain.console.lock().ring;
    if let Some((frame, port)) = ring {
        return put_typed(&domain, frame, port, byte);
    }
    let taken = domain.console.lock().input.try_push(byte).is_ok();
    // A guest that does not read is not told again: it knows, and would do nothing but take interrupts.
    if taken {
        evtchn::raise_console(&domain);
    }
    taken
}

/// Puts a byte of input into a ring; false if it is full.
fn put_typed(domain: &Domain, frame: Mfn, port: u32, byte: u8) -> bool {
    let Some(window) = FrameWindow::new(frame) else { return true };
    let (cons, prod) = (window.read_u32(offset::IN_CONS), window.read_u32(offset::IN_PROD));
    if prod.wrapping_sub(cons) as usize >= XENCONS_IN_BYTES {
        return false;
    }
    window.write_u8(offset::IN + prod as usize % XENCONS_IN_BYTES, byte);
    window.write_u32(offset::IN_PROD, prod.wrapping_add(1));
    evtchn::notify_guest(domain, port);
    true
}
