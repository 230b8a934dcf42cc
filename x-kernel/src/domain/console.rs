//! Guests' consoles, multiplexed on the serial line.
//!
//! The first domain's console is `console_io`; its text goes out as it comes while it is alone, so that a terminal
//! program works. With several domains every line is prefixed by its domain's name. Other domains have the PV
//! console ring, whose indices are the guest's allegations (XSA-38). What a guest prints is not limited in rate: the
//! time that it takes counts as the guest's (see docs/CAVEATS.md).

use alloc::sync::Arc;
use core::sync::atomic::{AtomicBool, AtomicU32, Ordering};

use arrayvec::ArrayVec;
use pv_core::frame::{self, FrameKind, Mfn};
use xen_abi::console::{XENCONS_IN_BYTES, XENCONS_OUT_BYTES, offset};

use super::Domain;
use crate::arch::x86_64::serial;
use crate::mm::machine::machine;
use crate::mm::window::FrameWindow;
use crate::pv::evtchn;

/// The longest line that is held back until it is whole.
const LINE: usize = 256;
/// Input that waits for a `console_io` read.
const INPUT: usize = 1024;

/// A domain's console.
pub struct GuestConsole {
    /// The ring's frame and the guest's event channel, for a domain that has a ring.
    ring: Option<(Mfn, u32)>,
    line: ArrayVec<u8, LINE>,
    input: ArrayVec<u8, INPUT>,
}

/// The domain that input goes to; 0 while none has been chosen.
static FOCUS: AtomicU32 = AtomicU32::new(0);

impl GuestConsole {
    /// A console without a ring.
    pub const fn new() -> Self {
        Self { ring: None, line: ArrayVec::new_const(), input: ArrayVec::new_const() }
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

/// Gives the ring's frame back, when the domain does not run any more. May be called again.
pub fn release_ring(domain: &Domain) {
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
    let Some((frame, port)) = domain.console.lock().ring else { return };
    let Some(window) = FrameWindow::new(frame) else { return };
    let mut chunk = [0u8; 256];
    // At most one ring's worth a call: the indices are the guest's and may say anything.
    for _ in 0..XENCONS_OUT_BYTES / chunk.len() {
        let (cons, prod) = (window.read_u32(offset::OUT_CONS), window.read_u32(offset::OUT_PROD));
        let waiting = (prod.wrapping_sub(cons) as usize).min(XENCONS_OUT_BYTES);
        if waiting == 0 {
            return;
        }
        let n = waiting.min(chunk.len());
        for (i, byte) in chunk.iter_mut().take(n).enumerate() {
            let at = (cons as usize).wrapping_add(i) % XENCONS_OUT_BYTES;
            *byte = window.read_u8(offset::OUT + at);
        }
        window.write_u32(offset::OUT_CONS, cons.wrapping_add(n as u32));
        print(domain, chunk.get(..n).unwrap_or(&[]));
        evtchn::notify_guest(domain, port);
    }
}

/// The domain that input goes to.
fn focus() -> Option<Arc<Domain>> {
    let chosen = FOCUS.load(Ordering::Relaxed);
    let mut found = None;
    super::for_each(|d| {
        if found.is_none() && (chosen == 0 || u32::from(d.id.raw()) == chosen) && !d.is_dying() {
            found = Some(d.clone());
        }
    });
    found
}

/// Moves the input to the next domain.
pub fn switch_focus() {
    let now = focus().map_or(0, |d| d.id.raw());
    let (mut first, mut next) = (None, None);
    super::for_each(|d| {
        let id = d.id.raw();
        if first.is_none() {
            first = Some(d.clone());
        }
        if next.is_none() && id > now {
            next = Some(d.clone());
        }
    });
    if let Some(domain) = next.or(first) {
        FOCUS.store(u32::from(domain.id.raw()), Ordering::Relaxed);
        log::info!("console: input goes to domain {} ({})", domain.id.raw(), domain.name);
    }
}

/// Gives a byte of input to the domain that has the focus. Returns false, and takes nothing, when its buffer is full.
#[must_use = "a byte that is not taken must be offered again"]
pub fn input(byte: u8) -> bool {
    // Without a domain there is nobody to keep it for.
    let Some(domain) = focus() else { return true };
    let ring = domain.console.lock().ring;
    let Some((frame, port)) = ring else {
        let taken = domain.console.lock().input.try_push(byte).is_ok();
        // A guest that does not read is not told again: it knows, and would do nothing but take interrupts.
        if taken {
            evtchn::raise_console(&domain);
        }
        return taken;
    };
    let Some(window) = FrameWindow::new(frame) else { return true };
    let (cons, prod) = (window.read_u32(offset::IN_CONS), window.read_u32(offset::IN_PROD));
    if prod.wrapping_sub(cons) as usize >= XENCONS_IN_BYTES {
        return false;
    }
    window.write_u8(offset::IN + prod as usize % XENCONS_IN_BYTES, byte);
    window.write_u32(offset::IN_PROD, prod.wrapping_add(1));
    evtchn::notify_guest(&domain, port);
    true
}
