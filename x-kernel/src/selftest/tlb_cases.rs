//! What the TLB remembers. An emulator that forgets more than a CPU does hides mistakes: QEMU's TCG forgets global
//! entries when CR3 is loaded, Bochs does not, as a CPU does not. So the first case says which it is.

use core::sync::atomic::{AtomicU64, Ordering};

use super::{ensure, selftest};
use crate::arch::x86_64::entry::extable;
use crate::arch::x86_64::tlb;
use crate::mm::hyp_pt;

/// A page of the image's data, mapped by itself, global and writable.
#[repr(align(4096))]
struct Page([AtomicU64; 512]);

impl Page {
    const fn new() -> Self {
        Self([const { AtomicU64::new(0) }; 512])
    }

    fn range(&self) -> (u64, u64) {
        let start = core::ptr::from_ref(self).addr() as u64;
        (start, start + 4096)
    }
}

static PROBE: Page = Page::new();
static PROTECTED: Page = Page::new();

selftest! {
    /// Whether a global entry outlives a load of CR3, and that a full flush ends it.
    fn global_entries() {
        let (start, _) = PROBE.range();
        let word = &PROBE.0[0];
        // The store leaves a writable, dirty translation in the TLB.
        ensure!(extable::try_store(word, 1));
        ensure!(hyp_pt::write_protect_unflushed(start));
        tlb::flush_local();
        let outlived = extable::try_store(word, 2);
        log::info!("tlb: global entries outlive a load of CR3: {}", if outlived { "yes" } else { "no" });
        tlb::flush_local_global();
        ensure!(!extable::try_store(word, 3));
        ensure!(word.load(Ordering::Relaxed) == if outlived { 2 } else { 1 });
    }
}

selftest! {
    /// What is made read-only after boot is read-only at once.
    fn protected_memory_is_read_only() {
        let (start, end) = PROTECTED.range();
        let word = &PROTECTED.0[7];
        ensure!(extable::try_store(word, 1));
        hyp_pt::protect(start, end);
        ensure!(!extable::try_store(word, 2));
        ensure!(word.load(Ordering::Relaxed) == 1);
    }
}
