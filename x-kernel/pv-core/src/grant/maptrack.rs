//! The mapping domain's half: a handle per mapping, and what the mapping was.
//!
//! The record, not the guest's later word, says which entry is given back, for reading or writing, and how much of
//! it is still mapped: unmapping a part twice, or at another address, is refused (XSA-224, 234, 394). Handles are
//! indices with a free list; stale ones name nothing or another mapping of the same domain.

use alloc::vec::Vec;

use xen_abi::grant_table::{GNTMAP_contains_pte, GNTMAP_device_map, GNTMAP_host_map, GNTMAP_readonly};

use super::pins::Use;
use super::{GrantError, GrantRef};
use crate::frame::{DomId, Mfn};

/// Mappings per allocated block.
const BLOCK: u32 = 128;
/// The most mappings that any domain may be allowed.
pub const MAX_MAPPINGS: u32 = 1 << 18;

/// A mapping's number, as a guest alleges it; looked up on each use.
#[derive(Clone, Copy, Debug, Eq, PartialEq, Ord, PartialOrd, Hash)]
pub struct Handle(pub u32);

/// For whom a frame is mapped. Each of the two is a use of the entry, with its own reference to the frame.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Parts {
    /// A CPU's mapping.
    pub host: bool,
    /// A device's address.
    pub device: bool,
    /// Both for writing.
    pub writable: bool,
}

impl Parts {
    /// The uses that these parts are.
    pub fn uses(self) -> impl Iterator<Item = Use> {
        let host = self.host.then_some(Use::host(self.writable));
        let device = self.device.then_some(Use::device(self.writable));
        host.into_iter().chain(device)
    }

    /// Whether nothing is mapped.
    pub fn is_empty(self) -> bool {
        !self.host && !self.device
    }

    /// These without `gone`.
    fn without(self, gone: Self) -> Self {
        Self { host: self.host && !gone.host, device: self.device && !gone.device, ..self }
    }
}

/// What `GNTMAP_*` flags ask for.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct MapFlags {
    /// What is to be mapped: at least one part.
    pub parts: Parts,
    /// The host address is a PTE's machine address, not a linear address.
    pub contains_pte: bool,
}

impl MapFlags {
    /// Checks the flags of a map request.
    ///
    /// # Errors
    /// [`GrantError::BadFlags`] if they ask for no mapping.
    pub fn decode(flags: u32) -> Result<Self, GrantError> {
        let parts =
            Parts { host: flags & GNTMAP_host_map != 0, device: flags & GNTMAP_device_map != 0, writable: flags & GNTMAP_readonly == 0 };
        if parts.is_empty() {
            return Err(GrantError::BadFlags);
        }
        Ok(Self { parts, contains_pte: flags & GNTMAP_contains_pte != 0 })
    }
}

/// A mapping of a granted frame.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Mapping {
    /// The granting domain.
    pub granter: DomId,
    /// Its grant.
    pub gref: GrantRef,
    /// The frame.
    pub frame: Mfn,
    /// What is still mapped of it.
    pub parts: Parts,
    /// Whether `host_addr` is a PTE's machine address.
    pub contains_pte: bool,
    /// Where the CPU's mapping is.
    pub host_addr: u64,
}

/// A checked unmap request: nothing has changed yet.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[must_use = "an unmap is done by MapTrack::commit_unmap"]
pub struct Unmap {
    /// The mapping's number.
    handle: Handle,
    /// The mapping as it is now.
    pub mapping: Mapping,
    /// What is to go: at least one part.
    pub parts: Parts,
}

impl Unmap {
    /// Whether a PTE that maps `frame`, writable or not, is the one that this mapping made.
    ///
    /// A guest may have replaced it by other hypercalls since; one with another permission took another kind of
    /// reference, and taking it away would drop the wrong one (XSA-234).
    pub fn made(&self, frame: Mfn, writable: bool) -> bool {
        self.mapping.frame == frame && self.mapping.parts.writable == writable
    }
}

/// An element of a block.
#[derive(Clone, Copy, Debug)]
enum Slot {
    Free { next: Option<u32> },
    Used(Mapping),
}

/// See the module.
#[derive(Debug)]
pub struct MapTrack {
    blocks: Vec<Vec<Slot>>,
    max_blocks: u32,
    free: Option<u32>,
    live: u32,
    /// Where the release of everything goes on.
    cursor: u32,
}

impl MapTrack {
    /// A record of up to `max_mappings` mappings (at most [`MAX_MAPPINGS`], rounded up to a block).
    ///
    /// # Errors
    /// [`GrantError::NoSpace`].
    pub fn new(max_mappings: u32) -> Result<Self, GrantError> {
        let max_blocks = max_mappings.min(MAX_MAPPINGS).div_ceil(BLOCK);
        let mut blocks = Vec::new();
        let wanted = usize::try_from(max_blocks).map_err(|_| GrantError::NoSpace)?;
        blocks.try_reserve_exact(wanted).map_err(|_| GrantError::NoSpace)?;
        Ok(Self { blocks, max_blocks, free: None, live: 0, cursor: 0 })
    }

    /// Mappings that exist: 0 after teardown.
    pub fn live(&self) -> u32 {
        self.live
    }

    /// Makes sure that the next [`Self::insert`] succeeds, so that it can come last.
    ///
    /// # Errors
    /// [`GrantError::NoSpace`].
    pub fn reserve(&mut self) -> Result<(), GrantError> {
        if self.free.is_some() {
            return Ok(());
        }
        let known = u32::try_from(self.blocks.len()).map_err(|_| GrantError::NoSpace)?;
        if known >= self.max_blocks {
            return Err(GrantError::NoSpace);
        }
        let base = known.checked_mul(BLOCK).ok_or(GrantError::NoSpace)?;
        let end = base.checked_add(BLOCK).ok_or(GrantError::NoSpace)?;
        let mut block = Vec::new();
        block.try_reserve_exact(usize::try_from(BLOCK).map_err(|_| GrantError::NoSpace)?).map_err(|_| GrantError::NoSpace)?;
        for next in base.saturating_add(1)..=end {
            block.push(Slot::Free { next: (next < end).then_some(next) });
        }
        self.blocks.push(block);
        self.free = Some(base);
        Ok(())
    }

    /// Records a mapping.
    ///
    /// # Errors
    /// [`GrantError::NoSpace`], never just after [`Self::reserve`].
    pub fn insert(&mut self, mapping: Mapping) -> Result<Handle, GrantError> {
        self.reserve()?;
        let index = self.free.ok_or(GrantError::NoSpace)?;
        let slot = self.slot_mut(index).ok_or(GrantError::NoSpace)?;
        let Slot::Free { next } = *slot else { return Err(GrantError::NoSpace) };
        *slot = Slot::Used(mapping);
        self.free = next;
        self.live = self.live.saturating_add(1);
        Ok(Handle(index))
    }

    /// The mapping that `handle` names.
    ///
    /// # Errors
    /// [`GrantError::BadHandle`].
    pub fn lookup(&self, handle: Handle) -> Result<Mapping, GrantError> {
        match self.slot(handle.0) {
            Some(Slot::Used(mapping)) => Ok(*mapping),
            _ => Err(GrantError::BadHandle),
        }
    }

    /// Checks an unmap request. An address of 0 leaves that part mapped.
    ///
    /// # Errors
    /// [`GrantError::BadHandle`]; [`GrantError::BadAddress`] and [`GrantError::BadDevAddress`] if an address is not
    /// the one that is mapped, or if both are 0.
    pub fn begin_unmap(&self, handle: Handle, host_addr: u64, dev_bus_addr: u64) -> Result<Unmap, GrantError> {
        let mapping = self.lookup(handle)?;
        let host = host_addr != 0;
        let device = dev_bus_addr != 0;
        if host && !(mapping.parts.host && mapping.host_addr == host_addr) {
            return Err(GrantError::BadAddress);
        }
        if device && !(mapping.parts.device && mapping.frame.raw() == dev_bus_addr >> 12 && dev_bus_addr & 0xfff == 0) {
            return Err(GrantError::BadDevAddress);
        }
        let parts = Parts { host, device, writable: mapping.parts.writable };
        if parts.is_empty() {
            return Err(GrantError::BadAddress);
        }
        Ok(Unmap { handle, mapping, parts })
    }

    /// Forgets the parts that have been unmapped; the handle is free once nothing is left.
    ///
    /// # Errors
    /// [`GrantError::BadHandle`] if the mapping is not any more the one that was checked.
    pub fn commit_unmap(&mut self, unmap: Unmap) -> Result<(), GrantError> {
        if self.lookup(unmap.handle)? != unmap.mapping {
            return Err(GrantError::BadHandle);
        }
        let left = unmap.mapping.parts.without(unmap.parts);
        if left.is_empty() {
            self.remove(unmap.handle).map(|_| ())
        } else {
            let slot = self.slot_mut(unmap.handle.0).ok_or(GrantError::BadHandle)?;
            *slot = Slot::Used(Mapping { parts: left, ..unmap.mapping });
            Ok(())
        }
    }

    /// Takes a mapping out, all parts at once.
    ///
    /// # Errors
    /// [`GrantError::BadHandle`].
    pub fn remove(&mut self, handle: Handle) -> Result<Mapping, GrantError> {
        let mapping = self.lookup(handle)?;
        let next = self.free;
        let slot = self.slot_mut(handle.0).ok_or(GrantError::BadHandle)?;
        *slot = Slot::Free { next };
        self.free = Some(handle.0);
        self.live = self.live.saturating_sub(1);
        Ok(mapping)
    }

    /// Every mapping.
    pub fn iter(&self) -> impl Iterator<Item = &Mapping> {
        self.blocks.iter().flatten().filter_map(|slot| match slot {
            Slot::Used(mapping) => Some(mapping),
            Slot::Free { .. } => None,
        })
    }

    /// Takes mappings out at teardown, looking at up to `budget` slots and handing each mapping to `released`;
    /// whether none is left.
    ///
    /// Goes on where it stopped, so the whole is linear however it is cut (XSA-380).
    pub fn release_some(&mut self, budget: u32, mut released: impl FnMut(Mapping)) -> bool {
        for _ in 0..budget {
            if self.live == 0 {
                return true;
            }
            if let Ok(mapping) = self.remove(Handle(self.cursor)) {
                released(mapping);
            }
            let end = u32::try_from(self.blocks.len()).unwrap_or(u32::MAX).saturating_mul(BLOCK);
            let next = self.cursor.saturating_add(1);
            self.cursor = if next < end { next } else { 0 };
        }
        self.live == 0
    }

    fn place(index: u32) -> Option<(usize, usize)> {
        let block = usize::try_from(index.checked_div(BLOCK)?).ok()?;
        let slot = usize::try_from(index.checked_rem(BLOCK)?).ok()?;
        Some((block, slot))
    }

    fn slot(&self, index: u32) -> Option<&Slot> {
        let (block, slot) = Self::place(index)?;
        self.blocks.get(block)?.get(slot)
    }

    fn slot_mut(&mut self, index: u32) -> Option<&mut Slot> {
        let (block, slot) = Self::place(index)?;
        self.blocks.get_mut(block)?.get_mut(slot)
    }
}
