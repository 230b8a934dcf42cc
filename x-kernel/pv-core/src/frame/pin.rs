//! Pins, and taking a dead domain's frames back.

use core::ops::Range;

use super::{FrameError, Level, Machine, Mfn, Mm, defer, get_ref, get_table, put_ref, put_table, settle};

/// Keeps a frame a page table of `level` until it is unpinned.
///
/// # Errors
/// As [`get_table`]; [`FrameError::WrongPin`] if it is pinned.
pub fn pin(m: &impl Machine, mm: &mut Mm, mfn: Mfn, level: Level) -> Result<(), FrameError> {
    settle(m, mm)?;
    get_table(m, mm, mfn, level)?;
    let info = m.frame(mfn).ok_or(FrameError::NotRam)?;
    if info.set_pinned() {
        put_table(m, mm, mfn);
        return Err(FrameError::WrongPin);
    }
    Ok(())
}

/// Takes a pin away. What that unmakes is left pending.
///
/// # Errors
/// As [`get_ref`]; [`FrameError::WrongPin`] if it is not pinned.
pub fn unpin(m: &impl Machine, mm: &mut Mm, mfn: Mfn) -> Result<(), FrameError> {
    settle(m, mm)?;
    get_ref(m, mfn, mm.dom())?;
    let was = m.frame(mfn).is_some_and(|info| info.clear_pinned());
    if was {
        put_table(m, mm, mfn);
    }
    put_ref(m, mfn);
    if was { Ok(()) } else { Err(FrameError::WrongPin) }
}

/// How far taking a domain's frames back has come.
#[derive(Debug, Default)]
pub struct Relinquish {
    freeing: bool,
    cursor: u64,
    /// Frames that were still in use when the walk passed them.
    left: u64,
}

impl Relinquish {
    /// Nothing done yet.
    pub const fn new() -> Self {
        Self { freeing: false, cursor: 0, left: 0 }
    }
}

/// Records looked at between two looks at whether to stop.
const STRIDE: u64 = 1024;

/// Takes the domain's frames back: first every pin and half-checked table is undone, then the frames that nobody refers
/// to are freed. The domain does not run, and its vCPUs have given their roots back. Frames that the X-Kernel shares
/// with the domain stay (see [`unshare`](super::unshare)). All that it ever had lie in `span`: a machine may have thousands
/// of times as many.
///
/// # Errors
/// [`FrameError::Preempted`] when it was asked to stop, [`FrameError::Busy`] when others still use frames of it: call
/// again later.
pub fn relinquish(m: &impl Machine, mm: &mut Mm, state: &mut Relinquish, span: &Range<u64>) -> Result<(), FrameError> {
    let mut looked = 0u64;
    let end = span.end.min(m.max_mfn());
    loop {
        state.cursor = state.cursor.max(span.start);
        while state.cursor < end {
            settle(m, mm)?;
            // Not at the first one: each call gets somewhere.
            if looked > 0 && looked.is_multiple_of(STRIDE) && m.preempt() {
                return Err(FrameError::Preempted);
            }
            looked = looked.saturating_add(1);
            if let Some(mfn) = Mfn::new(state.cursor) {
                one(m, mm, state, mfn);
            }
            state.cursor = state.cursor.saturating_add(1);
        }
        settle(m, mm)?;
        state.cursor = 0;
        if state.freeing {
            state.freeing = false;
            let left = core::mem::take(&mut state.left);
            return if left == 0 { Ok(()) } else { Err(FrameError::Busy) };
        }
        state.freeing = true;
    }
}

/// What `relinquish` does with one frame.
fn one(m: &impl Machine, mm: &mut Mm, state: &mut Relinquish, mfn: Mfn) {
    let Some(info) = m.frame(mfn).filter(|info| info.owner() == Some(mm.dom())) else { return };
    if !state.freeing {
        if info.clear_pinned() {
            put_table(m, mm, mfn);
        }
        if info.is_partial() {
            defer(m, mm, mfn);
        }
        return;
    }
    match (info.refs(), info.type_count()) {
        (1, 0) => put_ref(m, mfn),
        // Shared by the X-Kernel, which takes it back itself.
        (1, 1) => {}
        _ => state.left = state.left.saturating_add(1),
    }
}
