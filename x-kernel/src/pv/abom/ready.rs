//! Pages that the kernel has made ready: their other sites are patched when they trap, without asking it again.

use alloc::vec::Vec;

use abom::unwind::Functions;
use pv_core::frame::Mfn;

use super::plan::Place;
use super::{PAGE, PRESENT, USER, is_writable, mapped};
use crate::domain::vcpu::VcpuState;

/// How many are known: a power of two.
const KNOWN: usize = 64;

/// A page that only those have who execute it.
#[derive(Clone, Copy)]
pub struct ReadyPage {
    frame: Mfn,
    /// Where the kernel may write to it.
    alias: u64,
    /// Its module, if it has one.
    module: Option<Module>,
}

/// What was said of a page's module: its own claim, which is believed where the frame of its beginning is found.
#[derive(Clone, Copy)]
struct Module {
    head: Mfn,
    /// How far ahead of the page it begins.
    distance: u64,
    /// Where it begins, and its functions there.
    start: u64,
    functions: Option<Functions>,
}

impl ReadyPage {
    /// The place's page, that is at `alias` in the kernel; its module begins at `start`, or has no beginning if that is 0.
    pub fn new(place: &Place<'_>, alias: u64, start: u64) -> Self {
        let head = if start == 0 { None } else { mapped(place.state, start, PRESENT | USER, 0) };
        let distance = place.page.wrapping_sub(start);
        let module = head.map(|head| Module { head, distance, start, functions: place.functions });
        Self { frame: place.frame, alias: alias & !(PAGE - 1), module }
    }

    /// Where the kernel writes to it, if it still can, and the functions of its module, if it is the same in a process that has it
    /// at `page`.
    pub fn at(&self, state: &VcpuState, page: u64) -> Option<(u64, Option<Functions>)> {
        let functions = match self.module {
            None => None,
            Some(module) => {
                let start = page.wrapping_sub(module.distance);
                let is_there = mapped(state, start, PRESENT | USER, 0) == Some(module.head);
                is_there.then(|| module.functions.map(|functions| functions.moved(start.wrapping_sub(module.start))))?
            }
        };
        is_writable(state, self.alias, self.frame).then_some((self.alias, functions))
    }
}

/// A domain's.
pub struct ReadyPages(Vec<Option<ReadyPage>>);

impl ReadyPages {
    /// None; nothing if memory is short.
    pub fn new() -> Option<Self> {
        let mut pages = Vec::new();
        pages.try_reserve_exact(KNOWN).ok()?;
        pages.resize(KNOWN, None);
        Some(Self(pages))
    }

    fn place(frame: Mfn) -> usize {
        usize::try_from(frame.raw()).unwrap_or(0) & const { KNOWN - 1 }
    }

    /// Adds one, instead of one that may be at its place.
    pub fn put(&mut self, page: ReadyPage) {
        if let Some(place) = self.0.get_mut(Self::place(page.frame)) {
            *place = Some(page);
        }
    }

    /// The one in `frame`.
    pub fn of(&self, frame: Mfn) -> Option<ReadyPage> {
        self.0.get(Self::place(frame)).copied().flatten().filter(|page| page.frame == frame)
    }

    /// Forgets the one that the kernel has at `alias`.
    pub fn drop(&mut self, alias: u64) {
        for place in &mut self.0 {
            place.take_if(|page| page.alias == alias & !(PAGE - 1));
        }
    }
}
