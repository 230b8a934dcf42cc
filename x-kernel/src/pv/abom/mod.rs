//! ABOM in the X-Kernel: which system calls of a domain's processes become function calls, and what becomes of a thread
//! that meets an overwritten instruction.
//!
//! X-LibOS is told of the site of a system call that traps by a word of its memory. It makes the page one that only processes
//! which execute it share, so that no file changes, and asks for the patch. That is planned (crate `abom`) from the bytes
//! that are there then, and written through the kernel's own mapping of the page: nothing is written that the guest could
//! not write itself.
//!
//! What is remembered of a patch is only for putting threads right, and is believed only where the bytes of the patch are
//! found: the guest may have put the page to any other use.

mod annex;
mod caught;
mod patch;
mod plan;
mod reading;
mod ready;
mod window;
mod written;

use alloc::sync::Arc;

use abom::{Patch, Pattern, Refusal, Seen, Table, Ways};
use pv_core::frame::Mfn;
use pv_core::pt;
use pv_core::sites::{Next, Site, Sites};
use xen_abi::errno::Errno;
use xen_abi::xmode::XmodeSites;

use annex::Annex;
pub use annex::offer;
pub use caught::invalid_opcode;
pub use patch::{drop_page, patch};
use reading::Readings;
use ready::ReadyPages;
use written::Patches;

use super::hypercall::HcCx;
use super::mmu;
use crate::arch::x86_64::entry::GuestRegs;
use crate::domain::Domain;
use crate::domain::vcpu::{Vcpu, VcpuState};
use crate::mm::frame_table;
use crate::mm::guest_access::{self, GuestPtr};
use crate::mm::layout::is_guest_range;
use crate::mm::window::FrameWindow;
use crate::perf::Counter;
use crate::trace;

const PAGE: u64 = 0x1000;
/// Page-table entry bits: present, writable, for user mode, not executable.
const PRESENT: u64 = 1 << 0;
const WRITE: u64 = 1 << 1;
const USER: u64 = 1 << 2;
const NX: u64 = 1 << 63;

/// How sites are to be changed here: by calls, gaps and the kernel's annex. Nothing places stubs near a running program.
const WAYS: Ways = Ways { table: Table::X_CONTAINER, stubs: None };

/// A domain's sites and patches.
pub struct Abom {
    sites: Sites,
    patches: Patches,
    readings: Readings,
    ready: ReadyPages,
    annex: Option<Annex>,
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

/// The registers of a system call.
fn seen(regs: &GuestRegs) -> Seen {
    Seen { rax: regs.rax, rsp: regs.rsp, arguments: [regs.rdi, regs.rsi, regs.rdx, regs.r10, regs.r8, regs.r9], rflags: regs.rflags }
}

/// The frame that is mapped at `va` with all bits of `set` and none of `clear`.
fn mapped(state: &VcpuState, va: u64, set: u64, clear: u64) -> Option<Mfn> {
    let entry = mmu::walk(state.kernel_root?, va)?;
    if entry & (set | clear) == set { pt::target(entry) } else { None }
}

/// Whether the kernel may write the frame at `alias`.
fn is_writable(state: &VcpuState, alias: u64, frame: Mfn) -> bool {
    mapped(state, alias, PRESENT | WRITE, 0) == Some(frame)
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
        let (sites, ready) = Sites::new().zip(ReadyPages::new()).ok_or(Errno::ENOMEM)?;
        let fresh = Abom { sites, patches: Patches::new(), readings: Readings::default(), ready, annex: None };
        cx.domain.sites.lock().get_or_insert(fresh);
    }
    let calls = mapped(cx.state, word.wrapping_add(8), PRESENT, 0).map(|frame| (frame, (word.wrapping_add(8) & (PAGE - 1)) as usize));
    cx.state.wishes = Wishes { word, calls, last: None };
    Ok(())
}

/// Reads how many system calls the vCPU's processes have made by function call, by their kernel's own account. While the
/// domain has its memory still.
pub fn count_calls(domain: &Domain, state: &mut VcpuState) {
    domain.counters.syscalls_call.add(claimed_calls(domain, &state.wishes));
    state.wishes = Wishes::default();
}

/// How many those are in all its vCPUs until now: a claim of the guest's, which may be anything, and less than before.
pub fn calls_so_far(domain: &Domain) -> u64 {
    let of = |vcpu: &Arc<Vcpu>| claimed_calls(domain, &vcpu.state.lock().wishes);
    domain.vcpus().iter().map(of).fold(domain.counters.syscalls_call.get(), u64::saturating_add)
}

/// What the word says in which the kernel counts them, if it is memory of the domain's still.
fn claimed_calls(domain: &Domain, wishes: &Wishes) -> u64 {
    let Some((frame, offset)) = wishes.calls else { return 0 };
    if frame_table::info(frame).is_none_or(|info| info.owner() != Some(domain.id)) {
        return 0;
    }
    FrameWindow::new(frame).map_or(0, |window| window.read_u64_at(offset))
}

/// A process has made a system call by the instruction.
pub fn trapped(regs: &GuestRegs, domain: &Domain, state: &mut VcpuState) {
    if state.wishes.word == 0 {
        return;
    }
    let site = regs.rip.wrapping_sub(2);
    let Ok(bytes) = guest_access::read_word(regs.rip.wrapping_sub(8)).map(u64::to_le_bytes) else { return };
    let key = Site::new(site, bytes);
    let next = domain.sites.lock().as_mut().map_or(Next::Nothing, |a| a.sites.trapped(key));
    match next {
        Next::Nothing => return,
        Next::GiveUp => {
            domain.abom_counters.declined.bump();
            log::debug!("domain {}: system call {} has no page at {site:#x}, {bytes:02x?}", domain.id.raw(), regs.rax);
            return;
        }
        Next::Ask => {}
    }
    let told = (site, key, seen(regs));
    if patch::at_once(domain, state, told) {
        return;
    }
    state.wishes.last = Some(told);
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

/// How much further on `patch`'s page is at `address` than it was when the patch was planned.
fn moved(patch: &Patch, address: u64) -> u64 {
    (address & !(PAGE - 1)).wrapping_sub(patch.address() & !(PAGE - 1))
}
