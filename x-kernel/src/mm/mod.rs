//! Memory of the machine: who has which frame, how the X-Kernel maps it, and how guest memory is reached.
//!
//! | module | owns |
//! |---|---|
//! | `layout` | the address space |
//! | `frame_alloc` (`buddy`, `bit_tree`) | free frames |
//! | `frame_table` | a record per frame, the machine-to-physical table |
//! | `hyp_pt` (`page_table`, `image`) | the X-Kernel's own page tables |
//! | `window` | the way from a frame number to memory |
//! | `guest_access` | the way to guest virtual addresses |
//! | `machine` | what `pv-core` asks of the machine |
//! | `heap`, `scratch`, `modules` | memory that Rust has references to |
//! | `ranges`, `boot_alloc` | what is where, before there is an allocator |

use arrayvec::ArrayVec;

pub mod bit_tree;
mod boot_alloc;
pub mod buddy;
pub mod frame_alloc;
pub mod frame_table;
pub mod guest_access;
pub mod heap;
pub mod hyp_pt;
pub mod image;
pub mod layout;
pub mod machine;
pub mod modules;
pub mod page_table;
pub mod ranges;
pub mod scratch;
pub mod window;

pub use frame_table::m2p;

use boot_alloc::BootAlloc;
use ranges::{FrameRange, RangeSet};

/// What the boot loader says about memory.
#[derive(Debug, Default)]
pub struct MemoryMap {
    /// RAM that is free for use: whole frames, less what firmware keeps.
    pub ram: RangeSet,
    /// Byte ranges (start, length) that stay as they are for ever.
    pub keep: ArrayVec<(u64, u64), 16>,
    /// The modules, as (start, length) in bytes.
    pub modules: ArrayVec<(u64, u64), { modules::MAX_MODULES }>,
}

/// Frames that the boot code's page tables reach: 4 GiB.
const EARLY_FRAMES: u64 = 1 << 20;
/// Frames below 1 MiB: firmware's, and the start-up code of other CPUs.
const LOW_FRAMES: u64 = 256;

/// Takes the machine's memory over: builds the final page tables and loads them, then the frame table, the frame
/// allocator and with it the heap. Once, on the boot CPU, before anything allocates.
///
/// # Panics
/// If there is too little memory to begin with.
pub fn init(map: &MemoryMap) {
    crate::sync::level::percpu_ready();
    let mut ram = map.ram.clone();
    let mut fits = ram.remove(FrameRange::new(layout::MAX_RAM >> layout::FRAME_SHIFT, u64::MAX));

    let mut free = ram.clone();
    let mut keep = RangeSet::new();
    fits &= keep.insert(image::frames());
    // Never given to the allocator, but mapped: GRUB under UEFI puts small modules there.
    fits &= keep.insert(FrameRange::new(0, LOW_FRAMES));
    for &(start, len) in &map.keep {
        fits &= keep.insert(FrameRange::around(start, len));
    }
    for range in keep.as_slice() {
        fits &= free.remove(*range);
    }
    for &(start, len) in &map.modules {
        let frames = FrameRange::around(start, len);
        fits &= free.remove(frames);
        let in_ram = ram.as_slice().iter().any(|range| range.and(&frames) == frames);
        fits &= !in_ram || len == 0 || modules::register(start, len);
    }
    assert!(fits, "the memory map has too many pieces");
    modules::keep_for_ever(keep);

    let mut boot = BootAlloc::new(free, EARLY_FRAMES);
    let built = hyp_pt::init(&ram, &mut || boot.take_zeroed());
    assert!(built.is_some(), "no memory for page tables");
    boot.lift_limit();
    assert!(frame_table::init(&ram, &mut boot).is_some(), "no memory for the frame table");
    let Some(storage) = boot.take_words(frame_alloc::storage_bytes(ram.end())) else { panic!("no memory for the frame allocator") };
    frame_alloc::init(storage, ram.end(), &boot.into_free());
    log::info!("memory: {} MiB of RAM, {} MiB free", ram.frames() >> 8, frame_alloc::free_frames() >> 8);
}
