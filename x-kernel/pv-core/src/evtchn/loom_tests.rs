//! All interleavings of producers, unmask, a consuming guest and a blocking vCPU: no event is lost.
//!
//! Run by `RUSTFLAGS="--cfg loom" cargo test -p pv-core --lib loom`. A lock-prefixed x86 access orders everything
//! around it, which the model writes as a sequentially consistent fence; the tests that must fail leave it out, or
//! swap two steps, to show that the model would notice.

use loom::sync::Arc;
use loom::sync::atomic::{AtomicBool, AtomicU64, Ordering, fence};
use loom::thread;

use super::{EventPage, Port, Wake, deliver, unmask};

struct Page {
    pending: AtomicU64,
    mask: AtomicU64,
    selector: AtomicU64,
    upcall: AtomicBool,
    blocked: AtomicBool,
    ordered: bool,
}

impl Page {
    fn new(mask: u64, ordered: bool) -> Arc<Self> {
        Arc::new(Self {
            pending: AtomicU64::new(0),
            mask: AtomicU64::new(mask),
            selector: AtomicU64::new(0),
            upcall: AtomicBool::new(false),
            blocked: AtomicBool::new(false),
            ordered,
        })
    }

    fn fence(&self) {
        if self.ordered {
            fence(Ordering::SeqCst);
        }
    }

    /// The guest's upcall handler; the bits it handled.
    fn consume(&self) -> u64 {
        let mut handled = 0;
        if self.upcall.swap(false, Ordering::SeqCst) {
            self.fence();
            if self.selector.swap(0, Ordering::SeqCst) & 1 != 0 {
                self.fence();
                let bits = self.pending.load(Ordering::SeqCst) & !self.mask.load(Ordering::SeqCst);
                handled = self.pending.fetch_and(!bits, Ordering::SeqCst) & bits;
                self.fence();
            }
        }
        handled
    }

    /// Whether the guest will still hear of `bit`.
    fn will_hear(&self, bit: u64) -> bool {
        self.upcall.load(Ordering::SeqCst)
            && self.selector.load(Ordering::SeqCst) & 1 != 0
            && self.pending.load(Ordering::SeqCst) & !self.mask.load(Ordering::SeqCst) & bit != 0
    }
}

impl EventPage for Page {
    fn test_and_set_pending(&self, port: Port) -> bool {
        let bit = 1 << port.bit();
        let was = self.pending.fetch_or(bit, Ordering::SeqCst) & bit != 0;
        self.fence();
        was
    }
    fn is_pending(&self, port: Port) -> bool {
        self.pending.load(Ordering::SeqCst) & (1 << port.bit()) != 0
    }
    fn clear_pending(&self, port: Port) {
        self.pending.fetch_and(!(1 << port.bit()), Ordering::SeqCst);
    }
    fn is_masked(&self, port: Port) -> bool {
        self.mask.load(Ordering::SeqCst) & (1 << port.bit()) != 0
    }
    fn test_and_clear_mask(&self, port: Port) -> bool {
        let bit = 1 << port.bit();
        let was = self.mask.fetch_and(!bit, Ordering::SeqCst) & bit != 0;
        self.fence();
        was
    }
    fn test_and_set_selector(&self, _vcpu: u32, word: u32) -> bool {
        let was = self.selector.fetch_or(1 << word, Ordering::SeqCst) & (1 << word) != 0;
        self.fence();
        was
    }
    fn set_upcall_pending(&self, _vcpu: u32) -> bool {
        let was = self.upcall.swap(true, Ordering::SeqCst);
        self.fence();
        was
    }
}

fn port(n: u32) -> Port {
    Port::new(n).unwrap()
}

fn unmask_races_send(ordered: bool) {
    loom::model(move || {
        let page = Page::new(1 << 1, ordered);
        let sender = {
            let page = page.clone();
            thread::spawn(move || deliver(&*page, port(1), 0))
        };
        let woke_unmask = unmask(&*page, port(1), 0);
        let woke_send = sender.join().unwrap();
        assert!(page.will_hear(1 << 1));
        assert!(woke_unmask == Wake::Upcall || woke_send == Wake::Upcall);
    });
}

#[test]
fn loom_unmask_races_send() {
    unmask_races_send(true);
}

#[test]
#[should_panic(expected = "will_hear")]
fn loom_notices_when_the_order_is_missing() {
    unmask_races_send(false);
}

#[test]
fn loom_two_senders_and_the_consuming_guest() {
    loom::model(|| {
        let page = Page::new(0, true);
        let senders = [1, 2].map(|n| {
            let page = page.clone();
            thread::spawn(move || {
                let _wake = deliver(&*page, port(n), 0);
            })
        });
        let handled = page.consume();
        for sender in senders {
            sender.join().unwrap();
        }
        for bit in [1 << 1, 1 << 2] {
            assert!(handled & bit != 0 || page.will_hear(bit));
        }
    });
}

#[test]
fn loom_unmask_send_and_the_consuming_guest() {
    loom::model(|| {
        let page = Page::new(1 << 1, true);
        let sender = {
            let page = page.clone();
            thread::spawn(move || {
                let _wake = deliver(&*page, port(1), 0);
            })
        };
        let unmasker = {
            let page = page.clone();
            thread::spawn(move || {
                let _wake = unmask(&*page, port(1), 0);
            })
        };
        let handled = page.consume();
        sender.join().unwrap();
        unmasker.join().unwrap();
        assert!(handled & (1 << 1) != 0 || page.will_hear(1 << 1));
    });
}

/// A vCPU marks itself blocked, then looks once more; a sender delivers, then wakes.
fn block_races_send(look_again: bool) {
    loom::model(move || {
        let page = Page::new(0, true);
        let sender = {
            let page = page.clone();
            thread::spawn(move || {
                if deliver(&*page, port(1), 0) == Wake::Upcall {
                    page.blocked.swap(false, Ordering::SeqCst);
                }
            })
        };
        page.blocked.swap(true, Ordering::SeqCst);
        page.fence();
        if look_again && page.upcall.load(Ordering::SeqCst) {
            page.blocked.store(false, Ordering::SeqCst);
        }
        sender.join().unwrap();
        assert!(!page.blocked.load(Ordering::SeqCst), "sleeps on a pending event");
    });
}

#[test]
fn loom_block_races_send() {
    block_races_send(true);
}

#[test]
#[should_panic(expected = "sleeps on")]
fn loom_notices_when_the_second_look_is_missing() {
    block_races_send(false);
}
