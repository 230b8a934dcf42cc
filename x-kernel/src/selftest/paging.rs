//! The X-Kernel's page tables, and access to guest memory.

use super::space::{READ_ONLY, TestSpace, WRITABLE};
use super::{ensure, selftest, some};
use crate::mm::guest_access::{self, Fault, GuestPtr};
use crate::mm::page_table::bits;
use crate::mm::window::FrameWindow;
use crate::mm::{hyp_pt, image, layout, m2p};

selftest! {
    /// No page is both writable and executable, guests can read the machine-to-physical table and nothing else,
    /// and nothing lies outside the X-Kernel's slots.
    fn own_page_tables() {
        let (mut pages, mut both, mut guest, mut outside, mut code) = (0u64, 0u64, 0u64, 0u64, 0u64);
        hyp_pt::walk(&mut |leaf| {
            pages += 1;
            let writable = leaf.entry & leaf.upper & bits::RW != 0;
            let executable = leaf.entry & bits::NX == 0;
            let user = leaf.entry & leaf.upper & bits::US != 0;
            both += u64::from(writable && executable);
            let in_m2p = leaf.va >= m2p::GUEST_BASE && leaf.va < layout::IMAGE_BASE;
            guest += u64::from(user && (!in_m2p || writable || executable));
            outside += u64::from(leaf.va < layout::HYP_START || leaf.va >= layout::HYP_END);
            let in_image = leaf.va >= layout::IMAGE_BASE && leaf.va < layout::PERDOMAIN_BASE;
            code += u64::from(executable && !in_image);
        });
        ensure!(pages > 100);
        ensure!(both == 0);
        ensure!(guest == 0);
        ensure!(outside == 0);
        ensure!(code == 0);
    }
}

selftest! {
    /// The text has no writable alias but the area of the entry stubs.
    fn text_has_no_alias() {
        let frames = image::frames();
        let stubs = image::stub_frames();
        let (start, end) = (frames.start << 12, frames.end << 12);
        let mut aliases = 0u64;
        hyp_pt::walk(&mut |leaf| {
            let maddr = leaf.entry & bits::ADDR & !(leaf.size - 1);
            let own = leaf.va >= layout::IMAGE_BASE && leaf.va < layout::PERDOMAIN_BASE;
            let hits = maddr < end && maddr + leaf.size > start;
            aliases += u64::from(!own && hits && !stubs.contains(maddr >> 12));
        });
        ensure!(aliases == 0);
    }
}

selftest! {
    /// The machine-to-physical table says to guests what we wrote.
    fn m2p_alias() {
        let space = some!(TestSpace::new());
        let mfn = space.writable;
        ensure!(m2p::get(mfn) == m2p::INVALID_M2P);
        ensure!(m2p::set_raw(mfn, 0x1234));
        ensure!(m2p::get(mfn) == 0x1234);
        m2p::invalidate(mfn);
        ensure!(m2p::get(mfn) == m2p::INVALID_M2P);
    }
}

selftest! {
    /// Mapped guest memory is read and written; read-only pages, holes, ends of pages, the X-Kernel's part and
    /// addresses that do not exist are faults.
    fn guest_memory() {
        let space = some!(TestSpace::new());
        let (w, r) = (some!(FrameWindow::new(space.writable)), some!(FrameWindow::new(space.read_only)));
        w.write_u64_at(16, 0xfeed);
        r.write_u64_at(0, 0xbeef);
        let outcome = space.run(|| {
            let p = GuestPtr::<u64>::new(WRITABLE);
            ensure!(p.read() == Ok(0) && p.add(2).and_then(GuestPtr::read) == Ok(0xfeed));
            ensure!(p.add(3).and_then(|p| p.write(&77)) == Ok(()));
            ensure!(GuestPtr::<u64>::new(READ_ONLY).read() == Ok(0xbeef));
            ensure!(GuestPtr::<u64>::new(READ_ONLY).write(&1) == Err(Fault));
            // Into the hole after the page, and out of the hole before the next.
            ensure!(GuestPtr::<u64>::new(WRITABLE + 4092).read() == Err(Fault));
            ensure!(GuestPtr::<u64>::new(READ_ONLY - 4).read() == Err(Fault));
            // Each length up to the page's end, and one byte further.
            let mut buf = [0u8; 40];
            for len in 1..=40u64 {
                let part = some!(buf.get_mut(..layout::to_usize(len)));
                ensure!(guest_access::copy_out(WRITABLE + 4096 - len, part) == Ok(()));
                ensure!(guest_access::copy_in(WRITABLE + 4097 - len, part) == Err(Fault));
            }
            let mut nothing = [0u8; 0];
            ensure!(guest_access::copy_in(WRITABLE + 4096, &mut nothing) == Ok(()));
            Ok(())
        });
        outcome?;
        ensure!(w.read_u64_at(24) == 77 && r.read_u64_at(0) == 0xbeef);
    }
}

selftest! {
    /// Addresses that no guest may name are refused without being touched.
    fn guest_range_check() {
        let mut buf = [0u8; 16];
        let hyp = [layout::HYP_START, layout::IMAGE_BASE, layout::FRAME_TABLE_BASE, layout::HYP_END - 1];
        let strange = [layout::LOW_END, layout::LOW_END - 8, layout::HYP_START - 8, 0x8000_0000_0000_0000, u64::MAX - 7];
        for va in hyp.into_iter().chain(strange) {
            ensure!(guest_access::copy_in(va, &mut buf) == Err(Fault));
            ensure!(guest_access::copy_out(va, &buf) == Err(Fault));
        }
        // Unmapped, but a guest's: a real fault, taken and recovered from.
        for va in [0, 0x1000, layout::LOW_END - 16, layout::HYP_END, u64::MAX - 16] {
            ensure!(guest_access::copy_in(va, &mut buf) == Err(Fault));
            ensure!(guest_access::copy_out(va, &buf) == Err(Fault));
        }
        ensure!(GuestPtr::<u64>::new(8).add(u64::MAX / 8).is_err());
        ensure!(GuestPtr::<u64>::new(u64::MAX).add(1).is_err());
    }
}
