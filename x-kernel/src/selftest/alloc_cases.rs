//! The frame allocator, the heap and scratch buffers on real memory.

use alloc::boxed::Box;
use alloc::vec::Vec;

use super::{ensure, selftest, some};
use crate::mm::scratch::{self, Scratch};
use crate::mm::window::FrameWindow;
use crate::mm::{frame_alloc, frame_table, heap, m2p};

selftest! {
    /// Blocks come aligned and apart, and all memory is there again, joined, when they are given back.
    fn frames_split_and_join() {
        // The heap must not take a chunk while frames are counted.
        let mut small = Vec::with_capacity(100);
        let mut sorted = Vec::with_capacity(100);
        let before = frame_alloc::free_frames();
        let large = some!(frame_alloc::alloc(9));
        ensure!(large.raw() % 512 == 0);
        for _ in 0..100 {
            small.push(some!(frame_alloc::alloc(0)));
        }
        sorted.extend_from_slice(&small);
        sorted.sort_unstable();
        sorted.dedup();
        ensure!(sorted.len() == 100);
        ensure!(sorted.iter().all(|m| m.raw() >> 9 != large.raw() >> 9));
        for mfn in small {
            frame_alloc::free(mfn, 0);
        }
        frame_alloc::free(large, 9);
        ensure!(frame_alloc::free_frames() == before);
        let again = some!(frame_alloc::alloc(9));
        ensure!(again == large);
        frame_alloc::free(again, 9);
    }
}

selftest! {
    /// What a guest leaves in a frame is gone when the frame is given back.
    fn freed_frames_are_scrubbed() {
        let mfn = some!(frame_alloc::alloc(0));
        some!(FrameWindow::new(mfn)).fill(0xa5);
        frame_alloc::free(mfn, 0);
        ensure!(FrameWindow::new(mfn).is_none());
        let again = some!(frame_alloc::alloc(0));
        ensure!(again == mfn);
        let window = some!(FrameWindow::new(again));
        let clean = (0..4096).step_by(8).all(|at| window.read_u64_at(at) == 0);
        frame_alloc::free(again, 0);
        ensure!(clean);
    }
}

selftest! {
    /// Orders that do not exist, and more memory than there is, are refused.
    fn impossible_requests_are_refused() {
        for order in [19, 31, 32, 63, 64, u32::MAX] {
            ensure!(frame_alloc::alloc(order).is_none());
        }
        ensure!(Scratch::new(0).is_none());
        ensure!(Scratch::new(scratch::MAX_BYTES + 1).is_none());
        ensure!(Scratch::new(usize::MAX).is_none());
    }
}

selftest! {
    /// Memory for short addresses is below them, or refused.
    fn low_memory_is_low() {
        let low = some!(frame_alloc::alloc_below(3, 25));
        ensure!(low.raw() + 8 <= 1 << 13);
        frame_alloc::free(low, 3);
        for bits in [0, 1, 12, 20] {
            ensure!(frame_alloc::alloc_below(0, bits).is_none());
        }
        let any = some!(frame_alloc::alloc_below(0, 200));
        frame_alloc::free(any, 0);
    }
}

selftest! {
    /// The injected failure hits the allocation that it is meant for, once.
    fn injected_failure_hits_once() {
        if cfg!(debug_assertions) {
            frame_alloc::fail_after(2);
            let first = frame_alloc::alloc(0);
            let second = frame_alloc::alloc(0);
            let third = frame_alloc::alloc(0);
            for mfn in [first, third].into_iter().flatten() {
                frame_alloc::free(mfn, 0);
            }
            ensure!(first.is_some() && second.is_none() && third.is_some());
        }
    }
}

selftest! {
    /// The heap serves sizes and alignments from bytes to megabytes and takes them back.
    fn heap_serves_and_takes_back() {
        let before = heap::stats();
        let mut kept: Vec<Box<[u8]>> = Vec::new();
        for size in [1usize, 24, 100, 4096, 70_000, 3 << 20] {
            let mut bytes = Vec::new();
            ensure!(bytes.try_reserve_exact(size).is_ok());
            bytes.resize(size, size.to_le_bytes()[0]);
            kept.push(bytes.into_boxed_slice());
        }
        ensure!(kept.iter().all(|b| b.iter().all(|&x| x == b.len().to_le_bytes()[0])));
        drop(kept);
        ensure!(heap::stats().allocations == before.allocations);
        let mut too_much: Vec<u8> = Vec::new();
        ensure!(too_much.try_reserve_exact(1 << 46).is_err());
    }
}

selftest! {
    /// A large allocation, grown and shrunk, gives its frames back: the heap keeps none of them.
    fn large_allocations_leave_nothing() {
        let before = frame_alloc::free_frames();
        let mut bytes: Vec<u8> = Vec::new();
        ensure!(bytes.try_reserve_exact(2 << 20).is_ok());
        bytes.resize(2 << 20, 5);
        ensure!(before - frame_alloc::free_frames() == 2 << 8);
        ensure!(bytes.try_reserve_exact(1 << 20).is_ok());
        ensure!(bytes.iter().all(|&b| b == 5));
        ensure!(before - frame_alloc::free_frames() == 3 << 8);
        drop(bytes);
        ensure!(frame_alloc::free_frames() == before);
    }
}

selftest! {
    /// A scratch buffer is zeroed, whole, out of reach of windows, and given back.
    fn scratch_buffers_come_and_go() {
        let before = frame_alloc::free_frames();
        let mut buffer = some!(Scratch::new((5 << 20) + 123));
        ensure!(buffer.bytes().len() == (5 << 20) + 123);
        ensure!(buffer.bytes().iter().all(|&b| b == 0));
        buffer.bytes_mut().fill(7);
        ensure!(frame_alloc::free_frames() == before - (5 << 8) - 1);
        drop(buffer);
        ensure!(frame_alloc::free_frames() == before);
    }
}

selftest! {
    /// Every frame of RAM has its own record and entry; others have none.
    fn frame_table_covers_ram_only() {
        for range in frame_table::ram() {
            for frame in [range.start, range.end - 1] {
                let mfn = some!(pv_core::frame::Mfn::new(frame));
                let info = some!(frame_table::info(mfn));
                ensure!(frame_table::mfn_of(info) == Some(mfn));
                ensure!(m2p::get(mfn) == m2p::INVALID_M2P);
            }
        }
        let end = frame_table::max_mfn();
        for frame in [0xb8, end, end + 1, 1 << 33, (1 << 40) - 1] {
            let mfn = some!(pv_core::frame::Mfn::new(frame));
            ensure!(frame_table::info(mfn).is_none());
            ensure!(FrameWindow::new(mfn).is_none());
            ensure!(!m2p::set_raw(mfn, 1));
        }
        // Below 1 MiB there may be RAM, but it is the firmware's.
        ensure!((0..256).filter_map(pv_core::frame::Mfn::new).all(|mfn| FrameWindow::new(mfn).is_none()));
        // Below 1 MiB RAM is mapped for the sake of boot modules, but never handed out.
        ensure!(FrameWindow::new(some!(pv_core::frame::Mfn::new(0x10))).is_none());
    }
}
