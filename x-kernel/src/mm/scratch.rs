//! Large temporary buffers, for unpacking kernels: consecutive private frames, given back when dropped.

// UNSAFETY: lends the buffer's frames as a slice.
#![expect(unsafe_code, reason = "lends its frames as a slice")]

use pv_core::frame::Mfn;

use super::layout::{FRAME_SIZE, to_usize};
use super::{frame_alloc, hyp_pt, window};

/// The most that one buffer may have: a compressed kernel's header cannot ask for more (XSA-25).
pub const MAX_BYTES: usize = 256 << 20;

/// A zeroed buffer.
#[derive(Debug)]
pub struct Scratch {
    start: Mfn,
    frames: u64,
    bytes: usize,
}

impl Scratch {
    /// A zeroed buffer of `bytes` bytes. None if it is too large or memory is short.
    pub fn new(bytes: usize) -> Option<Self> {
        if bytes == 0 || bytes > MAX_BYTES {
            return None;
        }
        let frames = (bytes as u64).div_ceil(FRAME_SIZE);
        let start = frame_alloc::alloc_run(frames)?;
        // SAFETY: the frames have just been allocated, private and mapped.
        unsafe { window::fill_bytes(to_usize(hyp_pt::direct_map_va(start)), 0, bytes) };
        Some(Self { start, frames, bytes })
    }

    fn at(&self) -> *mut u8 {
        core::ptr::with_exposed_provenance_mut(to_usize(hyp_pt::direct_map_va(self.start)))
    }

    /// The buffer.
    pub fn bytes(&self) -> &[u8] {
        // SAFETY: private frames of this value alone, zeroed by `new`; borrowed as `self` is.
        unsafe { core::slice::from_raw_parts(self.at(), self.bytes) }
    }

    /// The buffer.
    pub fn bytes_mut(&mut self) -> &mut [u8] {
        // SAFETY: as in `bytes`, and `self` is borrowed exclusively.
        unsafe { core::slice::from_raw_parts_mut(self.at(), self.bytes) }
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        frame_alloc::free_run(self.start, self.frames);
    }
}
