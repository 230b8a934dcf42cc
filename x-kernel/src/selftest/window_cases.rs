//! Windows: word access, bits, copies, and the frames that they must not open on.

use pv_core::frame::Mfn;

use super::{ensure, selftest, some};
use crate::mm::window::FrameWindow;
use crate::mm::{frame_alloc, hyp_pt, image};

selftest! {
    /// Each access does to memory what it says, and nothing beside it.
    fn window_access() {
        let mfn = some!(frame_alloc::alloc_zeroed(0));
        let other = some!(frame_alloc::alloc_zeroed(0));
        let w = some!(FrameWindow::new(mfn));
        w.write_u64_at(8, 0x1122_3344_5566_7788);
        ensure!(w.read_u8(8) == 0x88 && w.read_u16(10) == 0x5566 && w.read_u32(12) == 0x1122_3344);
        ensure!(w.read_u64_at(0) == 0 && w.read_u64_at(16) == 0);
        ensure!(w.cmpxchg_u64_at(8, 0, 1) == Err(0x1122_3344_5566_7788));
        ensure!(w.cmpxchg_u64_at(8, 0x1122_3344_5566_7788, 1).is_ok() && w.read_u64_at(8) == 1);
        ensure!(w.swap_u32(4088, 9) == 0 && w.cmpxchg_u16(4088, 9, 10).is_ok() && w.read_u32(4088) == 10);
        ensure!(!w.test_and_set_bit(2048, 70) && w.test_and_set_bit(2048, 70) && w.test_bit(2048, 70));
        ensure!(w.read_u64_at(2056) == 1 << 6);
        ensure!(w.test_and_clear_bit(2048, 70) && !w.test_bit(2048, 70));
        w.copy_out(4093, &[1, 2, 3]);
        let mut back = [0; 3];
        w.copy_in(4093, &mut back);
        ensure!(back == [1, 2, 3]);
        let v = some!(FrameWindow::new(other));
        v.copy_frame(&w);
        ensure!(v.read_u8(4095) == 3 && v.read_u32(4088) == 10);
        w.zero();
        ensure!((0..4096).step_by(8).all(|at| w.read_u64_at(at) == 0));
        frame_alloc::free(mfn, 0);
        frame_alloc::free(other, 0);
    }
}

selftest! {
    /// No window opens on the X-Kernel's own memory: image, page tables, heap.
    fn window_refuses_own_memory() {
        let image = image::frames();
        for frame in image.start..image.end {
            ensure!(FrameWindow::new(some!(Mfn::new(frame))).is_none());
        }
        ensure!(FrameWindow::new(hyp_pt::idle_l4()).is_none());
        let on_heap = alloc::boxed::Box::new(0u64);
        let va = core::ptr::from_ref(&*on_heap) as u64;
        let mfn = some!(Mfn::new(va.wrapping_sub(crate::mm::layout::DIRECT_MAP_BASE) >> 12));
        ensure!(FrameWindow::new(mfn).is_none());
        let area = some!(hyp_pt::PerDomain::new());
        ensure!(FrameWindow::new(some!(area.table())).is_none());
    }
}
