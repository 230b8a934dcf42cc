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

use abom::steps::{Others, Step};
use abom::{Code, Facts, Fixup, Patch, Pattern, Plan, Refusal, Seen, Table, Ways, plan};
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
use crate::mm::layout::is_guest_range;
use crate::perf::Counter;
use crate::trace;

/// The most patches of a domain.
const MOST_PATCHES: usize = 4096;
/// Bytes that are looked at on each side of a site.
const AROUND: u64 = 64;
/// The most patches that can lie in those.
const NEAR: usize = 64;

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
    /// The site and its registers.
    last: Option<(u64, Seen)>,
}

/// Bytes of a program around a site.
struct Window {
    bytes: [u8; 2 * AROUND as usize],
    start: u64,
    len: usize,
}

impl Window {
    /// As many as there are around `site`: not those of a neighbouring page that is missing.
    fn read(site: u64) -> Option<Self> {
        let mut window = Self { bytes: [0; 2 * AROUND as usize], start: 0, len: 0 };
        let page = site & !(PAGE - 1);
        let (low, high) = (site.saturating_sub(AROUND), site.checked_add(AROUND)?);
        let whole = low..high;
        let here = low.max(page)..high.min(page.checked_add(PAGE)?);
        for range in [whole, here.start..high, low..here.end, here] {
            let Ok(len) = usize::try_from(range.end.checked_sub(range.start)?) else { continue };
            if guest_access::copy_in(range.start, window.bytes.get_mut(..len)?).is_ok() {
                (window.start, window.len) = (range.start, len);
                return Some(window);
            }
        }
        None
    }

    /// Takes `patch`, which is `delta` further on than when it was written, out of the bytes. Returns its place.
    fn forget(&mut self, patch: &Patch, delta: u64) -> Option<Range<u64>> {
        let at = usize::try_from(patch.address().wrapping_add(delta).checked_sub(self.start)?).ok()?;
        let bytes = self.bytes.get_mut(..self.len)?.get_mut(at..at.checked_add(patch.old().len())?)?;
        if bytes != patch.new_bytes() {
            return None;
        }
        bytes.copy_from_slice(patch.old());
        let region = patch.region();
        Some(region.start.wrapping_add(delta)..region.end.wrapping_add(delta))
    }

    fn code(&self) -> Code<'_> {
        Code::new(self.bytes.get(..self.len).unwrap_or(&[]), self.start)
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
    if wish.flags != 0 || cx.state.xmode.is_none() || word & 7 != 0 || word >> 63 == 0 || !is_guest_range(word, 8) {
        return Err(Errno::EINVAL);
    }
    if cx.domain.sites.lock().is_none() {
        let fresh = Abom { sites: Box::new(Sites::new()), written: Vec::new() };
        cx.domain.sites.lock().get_or_insert(fresh);
    }
    cx.state.wishes = Wishes { word, last: None };
    Ok(())
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
                domain.abom_counters.refuse(refusal);
                trace::record(trace::Id::SiteRefused, site, refusal.index() as u64, regs.rax);
                return;
            }
        }
    }
    state.wishes.last = Some((site, seen(regs)));
    if GuestPtr::<u64>::new(state.wishes.word).write(&site).is_err() {
        state.wishes = Wishes::default();
    }
}

/// Whether the site can be patched, as its bytes are.
fn look(regs: &GuestRegs, site: u64) -> Result<(), Refusal> {
    let window = Window::read(site).ok_or(Refusal::NoSyscall)?;
    match plan(&window.code(), site, &WAYS, &Facts::trapped(seen(regs), &[]))? {
        Plan::Call(patch) if is_in_page(&patch, site) => Ok(()),
        _ => Err(Refusal::NoRoom),
    }
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
/// write and the kernel may write; `-EAGAIN` if another site was told of since; `-EPERM` if it cannot be patched as it is
/// now; `-ENOSPC` for too many patches.
pub fn patch(cx: &mut HcCx<'_>, wish: &XmodePatch) -> Result<(), Errno> {
    let (site, alias) = (wish.site, wish.alias);
    if wish.flags != 0 || (site ^ alias) & (PAGE - 1) != 0 || alias >> 63 == 0 || site >> 63 != 0 {
        return Err(Errno::EINVAL);
    }
    let (_, seen) = cx.state.wishes.last.take().filter(|(told, _)| *told == site).ok_or(Errno::EAGAIN)?;
    let frame = mapped(cx.state, site, PRESENT | USER, WRITE | NX).ok_or(Errno::EINVAL)?;
    if mapped(cx.state, alias, PRESENT | WRITE, 0) != Some(frame) {
        return Err(Errno::EINVAL);
    }
    let mut window = Window::read(site).ok_or(Errno::EINVAL)?;
    let mut taken: ArrayVec<Range<u64>, NEAR> = ArrayVec::new();
    for written in near(cx.domain, frame, site)? {
        if let Some(region) = window.forget(&written.patch, moved(&written.patch, site)) {
            taken.try_push(region).map_err(|_| Errno::ENOSPC)?;
        }
    }
    let patch = match plan(&window.code(), site, &WAYS, &Facts::trapped(seen, &taken)) {
        Ok(Plan::Call(patch)) if is_in_page(&patch, site) => patch,
        Ok(_) => return Err(Errno::EPERM),
        Err(refusal) => {
            cx.domain.abom_counters.refuse(refusal);
            return Err(Errno::EPERM);
        }
    };
    // Before the first byte is written: a thread may meet it.
    remember(cx.domain, Written { frame, patch: patch.clone() })?;
    write(cx.domain, &patch, alias.wrapping_sub(site)).map_err(|()| Errno::EFAULT)?;
    let pattern = patch.how().pattern;
    if let Some(counter) = cx.domain.abom_counters.patched.get(pattern.index()) {
        counter.bump();
    }
    trace::record(trace::Id::SitePatched, site, pattern.index() as u64, seen.rax);
    Ok(())
}

/// How much further on `patch`'s page is at `address` than it was when the patch was planned.
fn moved(patch: &Patch, address: u64) -> u64 {
    (address & !(PAGE - 1)).wrapping_sub(patch.address() & !(PAGE - 1))
}

/// The patches in `frame` that may have bytes near `address`.
fn near(domain: &Domain, frame: Mfn, address: u64) -> Result<ArrayVec<Written, NEAR>, Errno> {
    let mut found = ArrayVec::new();
    let offset = address & (PAGE - 1);
    if let Some(abom) = domain.sites.lock().as_ref() {
        let close = |w: &&Written| w.frame == frame && (w.patch.address() & (PAGE - 1)).abs_diff(offset) <= AROUND;
        for written in abom.written.iter().filter(close) {
            found.try_push(written.clone()).map_err(|_| Errno::ENOSPC)?;
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
    if written.len() >= MOST_PATCHES {
        return Err(Errno::ENOSPC);
    }
    written.try_reserve(1).map_err(|_| Errno::ENOMEM)?;
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
    near(domain, frame, rip).ok()?.iter().find_map(|Written { patch, .. }| {
        let delta = moved(patch, rip);
        let mut bytes = [0u8; abom::patch::LONGEST_PATCH];
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
