//! ABOM in the X-Kernel: which system calls of a domain's processes become function calls, and what becomes of a thread
//! that meets an overwritten instruction.
//!
//! A system call that traps is counted by its site; a hot one is planned (crate `abom`), and if that is a patch, X-LibOS
//! is told by a word of its memory. It makes the page one that only processes which execute it share, so that no file
//! changes, and asks for the patch. That is planned once more, from the bytes that are there then, and written through the
//! kernel's own mapping of the page: nothing is written that the guest could not write itself.
//!
//! What is remembered of a patch is only for putting threads right, and is believed only where the bytes of the patch are
//! found: the guest may have put the page to any other use.

use alloc::boxed::Box;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::ops::Range;

use abom::patch::LONGEST_PATCH;
use abom::steps::{Others, Step};
use abom::{Code, Facts, Fixup, Patch, Pattern, Plan, Refusal, Seen, Table, Ways, plan, unwind};
use arrayvec::ArrayVec;
use pv_core::frame::Mfn;
use pv_core::pt;
use pv_core::sites::{Next, Site, Sites};
use xen_abi::errno::Errno;
use xen_abi::xmode::{XmodePatch, XmodeSites};

use super::bounce;
use super::hypercall::HcCx;
use super::mmu;
use crate::arch::x86_64::entry::GuestRegs;
use crate::arch::x86_64::tlb;
use crate::domain::Domain;
use crate::domain::vcpu::{Vcpu, VcpuState};
use crate::mm::guest_access::{self, GuestPtr};
use crate::mm::frame_table;
use crate::mm::layout::is_guest_range;
use crate::mm::window::FrameWindow;
use crate::perf::Counter;
use crate::trace;

/// The most patches of a domain.
const MOST_PATCHES: usize = 4096;
/// Bytes that are looked at before a site, and from it on.
const BEFORE: u64 = 64;
/// See [`BEFORE`].
const AFTER: u64 = 320;
/// The most of a function that is read to find where its instructions begin.
const FUNCTION: u64 = 4096;
/// The most patches that are taken into account around a site, and how far off.
const NEAR: usize = 64;
/// See [`NEAR`].
const NEARBY: u64 = FUNCTION;

const PAGE: u64 = 0x1000;
/// Page-table entry bits: present, writable, for user mode, not executable.
const PRESENT: u64 = 1 << 0;
const WRITE: u64 = 1 << 1;
const USER: u64 = 1 << 2;
const NX: u64 = 1 << 63;

/// How sites are to be changed here: by calls. Nothing places stubs for a running program.
const WAYS: Ways = Ways { table: Table::X_CONTAINER, stubs: None };

/// A patch that was written, at the address that its page had then.
#[derive(Clone)]
struct Written {
    frame: Mfn,
    patch: Patch,
}

/// A domain's sites and patches.
pub struct Abom {
    sites: Box<Sites>,
    written: Vec<Written>,
}

/// What was done about sites.
pub struct AbomCounters {
    /// Sites patched, by [`Pattern`].
    pub patched: [Counter; Pattern::ALL.len()],
    /// Sites refused, by [`Refusal`].
    pub refused: [Counter; Refusal::ALL.len()],
    /// Sites that could be patched, but for which X-LibOS had no page of its own.
    pub declined: Counter,
    /// Threads that met an overwritten instruction and were put right.
    pub caught: Counter,
}

impl AbomCounters {
    /// All zero.
    pub const fn new() -> Self {
        Self {
            patched: [const { Counter::new() }; Pattern::ALL.len()],
            refused: [const { Counter::new() }; Refusal::ALL.len()],
            declined: Counter::new(),
            caught: Counter::new(),
        }
    }

    fn refuse(&self, refusal: Refusal) {
        if let Some(counter) = self.refused.get(refusal.index()) {
            counter.bump();
        }
    }
}

/// Where a vCPU's kernel wants to hear of sites, and the last one that it was told of.
#[derive(Clone, Copy, Debug, Default)]
pub struct Wishes {
    /// Address of the word; 0 until there is one.
    word: u64,
    /// Frame and offset of the word behind it, in which the kernel counts function calls.
    calls: Option<(Mfn, usize)>,
    /// The site, how it is known, and its registers.
    last: Option<(u64, Site, Seen)>,
}

/// Bytes of a program around a site.
struct Window {
    bytes: Vec<u8>,
    start: u64,
}

impl Window {
    /// As many as there are from `start`, or [`BEFORE`] without, to [`AFTER`] behind the site: not those of a
    /// neighbouring page that is missing.
    fn read(site: u64, start: Option<u64>) -> Option<Self> {
        let page = site & !(PAGE - 1);
        let low = start.filter(|s| *s <= site && site.abs_diff(*s) <= FUNCTION).unwrap_or(site.saturating_sub(BEFORE));
        let (high, last) = (site.checked_add(AFTER)?, page.checked_add(PAGE)?);
        for range in [low..high, low.max(page)..high, low..high.min(last), low.max(page)..high.min(last)] {
            let len = usize::try_from(range.end.checked_sub(range.start)?).ok()?;
            let mut bytes = Vec::new();
            bytes.try_reserve_exact(len).ok()?;
            bytes.resize(len, 0);
            if guest_access::copy_in(range.start, &mut bytes).is_ok() {
                return Some(Self { bytes, start: range.start });
            }
        }
        None
    }

    /// Where instructions begin, if one begins at `start` and they lead to the site.
    fn starts(&self, start: u64, site: u64) -> Option<Vec<u64>> {
        let mut starts = Vec::new();
        starts.try_reserve_exact(self.bytes.len()).ok()?;
        let (code, mut at) = (self.code(), start);
        while let Some(instruction) = code.instruction(at) {
            starts.push(at);
            at = instruction.next_ip();
        }
        starts.binary_search(&site).is_ok().then_some(starts)
    }

    /// Takes `patch`, which is `delta` further on than when it was written, out of the bytes. Returns its place.
    fn forget(&mut self, patch: &Patch, delta: u64) -> Option<Range<u64>> {
        let at = usize::try_from(patch.address().wrapping_add(delta).checked_sub(self.start)?).ok()?;
        let bytes = self.bytes.get_mut(at..at.checked_add(patch.old().len())?)?;
        if bytes != patch.new_bytes() {
            return None;
        }
        bytes.copy_from_slice(patch.old());
        let region = patch.region();
        Some(region.start.wrapping_add(delta)..region.end.wrapping_add(delta))
    }

    fn code(&self) -> Code<'_> {
        Code::new(&self.bytes, self.start)
    }
}

/// The registers of a system call.
fn seen(regs: &GuestRegs) -> Seen {
    Seen { rax: regs.rax, rsp: regs.rsp, arguments: [regs.rdi, regs.rsi, regs.rdx, regs.r10, regs.r8, regs.r9], rflags: regs.rflags }
}

/// The frame that is mapped at `va` with all bits of `set` and none of `clear`.
fn mapped(state: &VcpuState, va: u64, set: u64, clear: u64) -> Option<Mfn> {
    let entry = mmu::walk(state.kernel_root?, va)?;
    if entry & (set | clear) == set { pt::target(entry) } else { None }
}

/// Keeps sites from now on, and tells of them in the calling vCPU's word.
///
/// # Errors
/// `-ENOSYS` if the domain's programs stay as they are; `-EINVAL` for flags that are unknown, outside X-mode, or for a
/// word that is not the kernel's; `-ENOMEM`.
pub fn keep(cx: &mut HcCx<'_>, wish: &XmodeSites) -> Result<(), Errno> {
    if !cx.domain.abom {
        return Err(Errno::ENOSYS);
    }
    let word = wish.word;
    if wish.flags != 0 || cx.state.xmode.is_none() || word & 7 != 0 || word >> 63 == 0 || !is_guest_range(word, 16) {
        return Err(Errno::EINVAL);
    }
    if cx.domain.sites.lock().is_none() {
        let mut written = Vec::new();
        written.try_reserve_exact(MOST_PATCHES).map_err(|_| Errno::ENOMEM)?;
        let fresh = Abom { sites: Box::new(Sites::new()), written };
        cx.domain.sites.lock().get_or_insert(fresh);
    }
    let calls = mapped(cx.state, word.wrapping_add(8), PRESENT, 0).map(|frame| (frame, (word.wrapping_add(8) & (PAGE - 1)) as usize));
    cx.state.wishes = Wishes { word, calls, last: None };
    Ok(())
}

/// Reads how many system calls the vCPU's processes have made by function call, by their kernel's own account. While the
/// domain has its memory still.
pub fn count_calls(domain: &Domain, state: &mut VcpuState) {
    let Some((frame, offset)) = core::mem::take(&mut state.wishes).calls else { return };
    if frame_table::info(frame).is_some_and(|info| info.owner() == Some(domain.id))
        && let Some(window) = FrameWindow::new(frame)
    {
        domain.counters.syscalls_call.add(window.read_u64_at(offset));
    }
}

/// A process has made a system call by the instruction.
pub fn trapped(regs: &GuestRegs, domain: &Domain, state: &mut VcpuState) {
    if state.wishes.word == 0 {
        return;
    }
    let mut bytes = [0; 8];
    let site = regs.rip.wrapping_sub(2);
    if guest_access::copy_in(regs.rip.wrapping_sub(8), &mut bytes).is_err() {
        return;
    }
    let key = Site::new(site, bytes);
    let next = domain.sites.lock().as_mut().map_or(Next::Nothing, |a| a.sites.trapped(key));
    match next {
        Next::Nothing => return,
        Next::GiveUp => {
            domain.abom_counters.declined.bump();
            return;
        }
        Next::Ask => {}
        Next::Look => {
            let verdict = look(regs, site);
            if let Some(abom) = domain.sites.lock().as_mut() {
                abom.sites.settle(key, verdict.is_ok());
            }
            if let Err(refusal) = verdict {
                refused(domain, site, bytes, regs.rax, refusal);
                return;
            }
        }
    }
    state.wishes.last = Some((site, key, seen(regs)));
    if GuestPtr::<u64>::new(state.wishes.word).write(&site).is_err() {
        state.wishes = Wishes::default();
    }
}

/// Counts a site that stays as it is.
fn refused(domain: &Domain, site: u64, bytes: [u8; 8], number: u64, refusal: Refusal) {
    domain.abom_counters.refuse(refusal);
    trace::record(trace::Id::SiteRefused, site, refusal.index() as u64, number);
    log::debug!("domain {}: system call {number} stays at {site:#x}, {bytes:02x?}: {refusal}", domain.id.raw());
}

/// Whether the site can be patched, as its bytes are, or perhaps with more knowledge.
fn look(regs: &GuestRegs, site: u64) -> Result<(), Refusal> {
    let window = Window::read(site, None).ok_or(Refusal::NoSyscall)?;
    match plan(&window.code(), site, &WAYS, &Facts::trapped(seen(regs), &[])) {
        Ok(Plan::Call(patch)) if is_in_page(&patch, site) => Ok(()),
        Ok(_) => Err(Refusal::NoRoom),
        Err(Refusal::NotAligned) => Ok(()),
        Err(refusal) => Err(refusal),
    }
}

/// Where the function begins that the site is in, by what its module says of itself.
///
/// # Errors
/// The address of what is not mapped.
fn function(module: u64, site: u64) -> Result<Option<u64>, u64> {
    let mut missing = None;
    let mut read = |address: u64, buf: &mut [u8]| {
        let is_processes = address.checked_add(buf.len() as u64).is_some_and(|end| end >> 63 == 0);
        let done = is_processes && guest_access::copy_in(address, buf).is_ok();
        if is_processes && !done {
            missing = Some(address);
        }
        done
    };
    let found = if module == 0 { None } else { unwind::function_start(&mut read, module, site) };
    missing.map_or(Ok(found), Err)
}

/// Whether all of the patch is in the page of its site.
fn is_in_page(patch: &Patch, site: u64) -> bool {
    let last = patch.address().saturating_add(patch.old().len().saturating_sub(1) as u64);
    [patch.address(), last].iter().all(|a| a ^ site < PAGE)
}

/// Patches the site that the kernel was told of last.
///
/// # Errors
/// `-EINVAL` for flags that are unknown, or if the two addresses are not one place that the process may execute and not
/// write and the kernel may write; `-EAGAIN` if another site was told of since; `-EFAULT` if `missing` must be mapped
/// first; `-EPERM` if it cannot be patched as it is now; `-ENOSPC` for too many patches.
pub fn patch(cx: &mut HcCx<'_>, wish: &mut XmodePatch) -> Result<(), Errno> {
    let (site, alias) = (wish.site, wish.alias);
    if wish.flags != 0 || (site ^ alias) & (PAGE - 1) != 0 || alias >> 63 == 0 || site >> 63 != 0 {
        return Err(Errno::EINVAL);
    }
    let (_, key, seen) = cx.state.wishes.last.take().filter(|(told, ..)| *told == site).ok_or(Errno::EAGAIN)?;
    let frame = mapped(cx.state, site, PRESENT | USER, WRITE | NX).ok_or(Errno::EINVAL)?;
    if mapped(cx.state, alias, PRESENT | WRITE, 0) != Some(frame) {
        return Err(Errno::EINVAL);
    }
    let start = function(wish.module, site).map_err(|missing| {
        wish.missing = missing;
        cx.state.wishes.last = Some((site, key, seen));
        Errno::EFAULT
    })?;
    let planned = planned(cx.domain, frame, site, start, seen)?;
    // It may have been patched since it trapped: for another process.
    let stays = !matches!(planned, Ok(_) | Err(Refusal::Taken | Refusal::NoSyscall));
    if let Some(abom) = cx.domain.sites.lock().as_mut() {
        abom.sites.settle(key, !stays);
    }
    let patch = planned.map_err(|refusal| {
        if stays {
            refused(cx.domain, site, key.bytes(), seen.rax, refusal);
        }
        Errno::EPERM
    })?;
    // Before the first byte is written: a thread may meet it.
    remember(cx.domain, Written { frame, patch: patch.clone() })?;
    write(cx.domain, &patch, alias.wrapping_sub(site)).map_err(|()| Errno::EINVAL)?;
    let pattern = patch.how().pattern;
    if let Some(counter) = cx.domain.abom_counters.patched.get(pattern.index()) {
        counter.bump();
    }
    trace::record(trace::Id::SitePatched, site, pattern.index() as u64, seen.rax);
    Ok(())
}

/// The patch for the site, as its bytes are now, in a function that begins at `start`.
///
/// # Errors
/// `-EINVAL` if the bytes cannot be read, `-ENOSPC` for too many patches around.
fn planned(domain: &Domain, frame: Mfn, site: u64, start: Option<u64>, seen: Seen) -> Result<Result<Patch, Refusal>, Errno> {
    let mut window = Window::read(site, start).ok_or(Errno::EINVAL)?;
    let mut taken: ArrayVec<Range<u64>, NEAR> = ArrayVec::new();
    for written in near(domain, frame, site, NEARBY)? {
        if let Some(region) = window.forget(&written.patch, moved(&written.patch, site)) {
            taken.try_push(region).map_err(|_| Errno::ENOSPC)?;
        }
    }
    let starts = start.and_then(|start| window.starts(start, site));
    let facts = Facts { starts: starts.as_deref(), ..Facts::trapped(seen, &taken) };
    Ok(match plan(&window.code(), site, &WAYS, &facts) {
        Ok(Plan::Call(patch)) if is_in_page(&patch, site) => Ok(patch),
        Ok(_) => Err(Refusal::NoRoom),
        Err(refusal) => Err(refusal),
    })
}

/// How much further on `patch`'s page is at `address` than it was when the patch was planned.
fn moved(patch: &Patch, address: u64) -> u64 {
    (address & !(PAGE - 1)).wrapping_sub(patch.address() & !(PAGE - 1))
}

/// The patches in `frame` that begin within `distance` of `address`.
fn near(domain: &Domain, frame: Mfn, address: u64, distance: u64) -> Result<Vec<Written>, Errno> {
    let mut found = Vec::new();
    // Nothing is allocated under the lock.
    found.try_reserve_exact(NEAR).map_err(|_| Errno::ENOMEM)?;
    let offset = address & (PAGE - 1);
    if let Some(abom) = domain.sites.lock().as_ref() {
        let close = |w: &&Written| w.frame == frame && (w.patch.address() & (PAGE - 1)).abs_diff(offset) <= distance;
        for written in abom.written.iter().filter(close) {
            if found.len() >= NEAR {
                return Err(Errno::ENOSPC);
            }
            found.push(written.clone());
        }
    }
    Ok(found)
}

/// Keeps the patch for [`invalid_opcode`], instead of one that was at its place before.
fn remember(domain: &Domain, new: Written) -> Result<(), Errno> {
    let mut sites = domain.sites.lock();
    let written = &mut sites.as_mut().ok_or(Errno::EINVAL)?.written;
    let place = new.patch.address() & (PAGE - 1);
    if let Some(old) = written.iter_mut().find(|w| w.frame == new.frame && w.patch.address() & (PAGE - 1) == place) {
        *old = new;
        return Ok(());
    }
    // All of it was reserved at the start.
    if written.len() >= MOST_PATCHES.min(written.capacity()) {
        return Err(Errno::ENOSPC);
    }
    written.push(new);
    Ok(())
}

/// Writes the patch, `delta` from where it is executed.
fn write(domain: &Domain, patch: &Patch, delta: u64) -> Result<(), ()> {
    for step in patch.apply(Others::Any) {
        match step {
            Step::Store { address, bytes } => guest_access::copy_out(address.wrapping_add(delta), &bytes).map_err(drop)?,
            // Whoever is interrupted has serialised when it goes on.
            Step::Serialise => tlb::flush_mask(domain.dirty_mask(), tlb::Scope::NonGlobal),
        }
    }
    Ok(())
}

/// A process has met an invalid opcode: whether it is one of a patch's, and the thread was put right.
pub fn invalid_opcode(regs: &mut GuestRegs, vcpu: &Vcpu, domain: &Arc<Domain>, state: &mut VcpuState) -> bool {
    if state.wishes.word == 0 || state.in_kernel {
        return false;
    }
    let Some(fixup) = fixup(regs.rip, domain, state) else { return false };
    domain.abom_counters.caught.bump();
    match fixup {
        Fixup::At(address) => regs.rip = address,
        Fixup::Syscall { next } => {
            regs.rip = next;
            regs.rcx = next;
            regs.r11 = regs.rflags;
            domain.counters.syscalls_trap.bump();
            bounce::syscall(regs, vcpu, domain, state);
        }
    }
    true
}

/// What to do with a thread at `rip`, if a patch is there.
fn fixup(rip: u64, domain: &Domain, state: &VcpuState) -> Option<Fixup> {
    let frame = mapped(state, rip, PRESENT | USER, 0)?;
    near(domain, frame, rip, LONGEST_PATCH as u64).ok()?.iter().find_map(|Written { patch, .. }| {
        let delta = moved(patch, rip);
        let mut bytes = [0u8; LONGEST_PATCH];
        let now = bytes.get_mut(..patch.new_bytes().len())?;
        guest_access::copy_in(patch.address().wrapping_add(delta), now).ok()?;
        if now != patch.new_bytes() {
            return None;
        }
        match patch.fixup(rip.wrapping_sub(delta))? {
            Fixup::Syscall { next } => Some(Fixup::Syscall { next: next.wrapping_add(delta) }),
            // Nothing is written while a thread runs: the bytes are whole, and the opcode is the program's own.
            Fixup::At(_) => None,
        }
    })
}
