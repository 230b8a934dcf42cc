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

use crate::sync::InitOnce;
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

/// What the X-Kernel has of the machine's memory from the start and for ever, in frames.
#[derive(Clone, Copy, Debug, Default)]
pub struct Fixed {
    /// RAM of the machine, of which all that follows is part.
    pub ram: u64,
    /// The image, with its zero-initialised data.
    pub image: u64,
    /// What firmware and boot loader keep, and what is below 1 MiB.
    pub kept: u64,
    /// Page tables.
    pub page_tables: u64,
    /// The frame table and the machine-to-physical table, with the page tables that map them.
    pub frame_table: u64,
    /// The frame allocator's own storage.
    pub allocator: u64,
}

static FIXED: InitOnce<Fixed> = InitOnce::new();

/// What the X-Kernel has from the start; nothing before [`init`].
pub fn fixed() -> Fixed {
    FIXED.get().copied().unwrap_or_default()
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
    let image = image::frames().len();
    let all = free.frames();
    for range in keep.as_slice() {
        fits &= free.remove(*range);
    }
    let kept = all.saturating_sub(free.frames()).saturating_sub(image);
    for &(start, len) in &map.modules {
        let frames = FrameRange::around(start, len);
        fits &= free.remove(frames);
        let in_ram = ram.as_slice().iter().any(|range| range.and(&frames) == frames);
        fits &= !in_ram || len == 0 || modules::register(start, len);
    }
    assert!(fits, "the memory map has too many pieces");
    modules::keep_for_ever(keep);

    let mut boot = BootAlloc::new(free, EARLY_FRAMES);
    let before = boot.left();
    let built = hyp_pt::init(&ram, &mut || boot.take_zeroed());
    assert!(built.is_some(), "no memory for page tables");
    let tabled = boot.left();
    boot.lift_limit();
    assert!(frame_table::init(&ram, &mut boot).is_some(), "no memory for the frame table");
    let recorded = boot.left();
    let Some(storage) = boot.take_words(frame_alloc::storage_bytes(ram.end())) else { panic!("no memory for the frame allocator") };
    let fixed = Fixed {
        ram: ram.frames(),
        image,
        kept,
        page_tables: before.saturating_sub(tabled),
        frame_table: tabled.saturating_sub(recorded),
        allocator: recorded.saturating_sub(boot.left()),
    };
    assert!(FIXED.set(fixed).is_ok(), "memory is taken over once");
    frame_alloc::init(storage, ram.end(), &boot.into_free());
    log::info!("memory: {} MiB of RAM, {} MiB free", ram.frames() >> 8, frame_alloc::free_frames() >> 8);
}
