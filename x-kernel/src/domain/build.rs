//! The domain builder: from boot modules to a vCPU that may run. Answers to Xen's pv/dom0_build.c.
//!
//! The kernel is unpacked into a scratch buffer, its layout planned in pseudo-physical frames (see `layout`), the
//! domain's memory allocated, and everything written through frame windows; last the L4 is pinned, so that the
//! tables written here pass the same validation as a guest's own. A domain that cannot be built is one error
//! line; the others are built all the same.

use alloc::sync::Arc;
use alloc::vec::Vec;
use core::sync::atomic::Ordering;

use arrayvec::{ArrayString, ArrayVec};
use dom_image::{Kernel, Layout};
use pv_core::bootline::{self, DomainLine, DomainPlan, LineError, Refused};
use pv_core::evtchn::{Consumer, EvtchnTable};
use pv_core::frame::{self, DomId, Level, Mfn};
use pv_core::grant::{GrantTable, MapTrack};
use xen_abi::errno::Errno;
use xen_abi::shared_info::offset;
use xen_abi::start_info::MAX_GUEST_CMDLINE;
use xen_abi::version::{
    XENFEAT_dom0, XENFEAT_gnttab_map_avail_bits, XENFEAT_mmu_pt_update_preserve_ad, XENFEAT_pae_pgdir_above_4gb,
    XENFEAT_writable_page_tables,
};

use super::files::{Files, kernel_error};
use super::layout::{write_p2m, write_tables};
use super::vcpu::{MAX_VCPUS, Vcpu};
use super::{Domain, NewDomain, start_info};
use crate::arch::x86_64::boot::BootInfo;
use crate::arch::x86_64::entry::{GUEST_CS, GUEST_SS};
use crate::arch::x86_64::power::{self, Verdict};
use crate::arch::x86_64::tsc;
use crate::mm::hyp_pt::PerDomain;
use crate::mm::machine::machine;
use crate::mm::window::FrameWindow;
use crate::mm::{frame_alloc, m2p};
use crate::pv::{mmu, vcpu_info};
use crate::sched;

/// Frames kept back from a domain that takes all the rest: for the tables of other guests' making, exchanges, and
/// the heap.
const RESERVE_FRAMES: u64 = 16 << 8;
/// Memory of a further domain whose line does not say.
const DEFAULT_BYTES: u64 = 128 << 20;
/// Shared grant frames of a domain, and mappings of others' grants.
const GRANT_FRAMES: u32 = 32;
const MAPPINGS: u32 = 4096;
/// The weight of a domain whose line does not say.
const DEFAULT_WEIGHT: u32 = 256;

/// Features that a kernel may require. Writable page tables are emulated: a write to one is checked and made.
const FEATURES: u32 = 1 << XENFEAT_writable_page_tables
    | 1 << XENFEAT_pae_pgdir_above_4gb
    | 1 << XENFEAT_mmu_pt_update_preserve_ad
    | 1 << XENFEAT_gnttab_map_avail_bits;

/// Why a domain was not built: one line for the log.
pub type BuildError = ArrayString<160>;

/// A [`BuildError`] from text.
pub fn error(text: core::fmt::Arguments<'_>) -> BuildError {
    let mut line = BuildError::new();
    // A reason that is too long is cut, not lost.
    let _ = core::fmt::Write::write_fmt(&mut line, text);
    line
}

/// Builds every domain that the boot modules describe.
pub fn boot_domains(info: &BootInfo) {
    sched::init(1);
    let begun = tsc::now_ns();
    let (mut plans, mut built) = (Vec::new(), Vec::new());
    // No heap for a list of them: no domain could be built either.
    if plans.try_reserve_exact(info.modules.len()).is_err() || built.try_reserve_exact(info.modules.len()).is_err() {
        log::error!("no memory for a list of {} modules", info.modules.len());
    }
    bootline::plan(info.modules.iter().map(|m| m.line.ok()), |plan| match plan {
        Ok(plan) if plans.len() < plans.capacity() => plans.push((plans.len(), plan)),
        Ok(_) | Err(Refused { why: LineError::Unusable, .. }) => {
            // Why was said before.
        }
        Err(refused) => log::error!("module {}: {}", refused.module, refused.why),
    });
    // Those that name their size first: the one that takes the rest comes last.
    plans.sort_by_key(|(_, plan)| plan.line.mem.is_none());
    let mut files = Files::new(info);
    let mut rest = plans.as_slice();
    while let Some(((index, plan), after)) = rest.split_first() {
        let Some(id) = u16::try_from(*index).ok().and_then(|i| i.checked_add(1)) else { return };
        match build(&mut files, plan, DomId::new(id), *index == 0) {
            Ok(domain) => {
                log::info!(
                    "domain {id} ({}): {} MiB, {} vcpus, weight {}",
                    domain.name,
                    domain.max_pages.load(Ordering::Relaxed) >> 8,
                    domain.vcpus().len(),
                    domain.weight
                );
                built.push(domain);
            }
            Err(why) => log::error!("domain {id} is not built: {why}"),
        }
        files.keep(|index| after.iter().any(|(_, plan)| plan.uses(index)));
        rest = after;
    }
    if built.is_empty() {
        log::error!("no domain to run");
        power::stop(Verdict::NoDomain);
    }
    log::info!("{} domains built in {} ms", built.len(), tsc::now_ns().saturating_sub(begun) / 1_000_000);
    // All start together, whatever the order they were built in.
    for vcpu in built.iter().filter_map(|domain| domain.vcpu(0)) {
        sched::wake(vcpu);
    }
}

/// Consecutive frames of a domain: the first pseudo-physical one, its machine frame, how many.
#[derive(Clone, Copy)]
struct Extent {
    pfn: u64,
    mfn: Mfn,
    len: u64,
}

/// A domain's memory while it is built: which machine frame each pseudo-physical one is.
pub struct Memory {
    /// By ascending `pfn`, without gaps; what is also consecutive in the machine is one extent.
    extents: Vec<Extent>,
}

impl Memory {
    /// The machine frame of `pfn`.
    pub fn mfn(&self, pfn: u64) -> Option<Mfn> {
        let after = self.extents.partition_point(|e| e.pfn <= pfn);
        let extent = self.extents.get(after.checked_sub(1)?)?;
        let within = pfn.checked_sub(extent.pfn).filter(|&w| w < extent.len)?;
        extent.mfn.checked_add(within)
    }

    /// The machine frames of pfn 0 and up.
    pub fn mfns(&self) -> impl Iterator<Item = u64> + '_ {
        self.extents.iter().flat_map(|e| (0..e.len).map(move |n| e.mfn.raw().saturating_add(n)))
    }

    /// Adds `len` frames from `mfn` at the end. None when the heap is full.
    fn push(&mut self, mfn: Mfn, len: u64) -> Option<()> {
        let pfn = match self.extents.last_mut() {
            Some(last) if last.mfn.checked_add(last.len) == Some(mfn) => {
                last.len = last.len.checked_add(len)?;
                return Some(());
            }
            Some(last) => last.pfn.checked_add(last.len)?,
            None => 0,
        };
        self.extents.try_reserve(1).ok()?;
        self.extents.push(Extent { pfn, mfn, len });
        Some(())
    }

    /// Writes `bytes` from byte address `at` of the pseudo-physical memory.
    pub fn write(&self, at: u64, mut bytes: &[u8]) -> Option<()> {
        let mut at = at;
        while !bytes.is_empty() {
            let offset = (at & 0xfff) as usize;
            let n = bytes.len().min(4096usize.wrapping_sub(offset));
            let (now, rest) = bytes.split_at_checked(n)?;
            FrameWindow::new(self.mfn(at >> 12)?)?.copy_out(offset, now);
            bytes = rest;
            at = at.checked_add(n as u64)?;
        }
        Some(())
    }
}

/// Allocates the domain's frames, in pieces as large as can be had.
fn populate(domain: &Domain, pages: u64) -> Option<Memory> {
    let mut memory = Memory { extents: Vec::new() };
    let mut pfn = 0u64;
    while let Some(largest) = pages.checked_sub(pfn).and_then(u64::checked_ilog2) {
        let (order, mfn) = (0..=largest.min(9)).rev().find_map(|order| Some((order, super::memory::take_more(domain, order).ok()?)))?;
        let after = pfn.checked_add(1 << order)?;
        memory.push(mfn, 1 << order)?;
        for (k, p) in (pfn..after).enumerate() {
            if let (Some(m), Some(p)) = (mfn.checked_add(k as u64), pv_core::frame::Pfn::new(p)) {
                let _ = m2p::set(m, p);
            }
        }
        pfn = after;
    }
    Some(memory)
}

/// How many frames the domain of `line` gets.
fn size(line: &DomainLine<'_>, first: bool) -> Result<u64, BuildError> {
    let free = frame_alloc::free_frames().saturating_sub(RESERVE_FRAMES);
    let pages = match line.mem {
        Some(bytes) => bytes >> 12,
        None if first => free.saturating_sub(free / 64),
        None => DEFAULT_BYTES >> 12,
    };
    if pages > free {
        return Err(error(format_args!("it wants {} MiB, the machine has {} MiB left", pages >> 8, free >> 8)));
    }
    Ok(pages)
}

/// Builds one domain. What can be refused by looking is refused before the domain exists.
fn build(files: &mut Files<'_>, plan: &DomainPlan<'_>, id: DomId, first: bool) -> Result<Arc<Domain>, BuildError> {
    if plan.line.cmdline.len() >= MAX_GUEST_CMDLINE {
        let (len, most) = (plan.line.cmdline.len(), MAX_GUEST_CMDLINE - 1);
        return Err(error(format_args!("its kernel command line has {len} bytes, a guest can be given {most}")));
    }
    if let Some(wanted) = plan.line.vcpus.filter(|&n| n > MAX_VCPUS) {
        return Err(error(format_args!("it wants {wanted} vcpus, a domain has at most {MAX_VCPUS}")));
    }
    files.open(plan)?;
    let initial = plan.line.initial.unwrap_or(false);
    let features = if initial { FEATURES | 1 << XENFEAT_dom0 } else { FEATURES };
    let kernel = Kernel::parse(files.bytes(plan.kernel), features).map_err(kernel_error)?;
    let [shared, own] = plan.initrd.map(|index| index.map_or(&[][..], |i| files.bytes(i)));
    // One archive behind another begins at a multiple of four.
    let own_at = (shared.len() as u64).next_multiple_of(4);
    let initrd_len = if own.is_empty() { shared.len() as u64 } else { own_at.saturating_add(own.len() as u64) };
    let pages = size(&plan.line, first)?;
    let layout = Layout::plan(&kernel, initrd_len, pages).map_err(|e| error(format_args!("{e}")))?;
    let domain = create(&plan.line, id, initial, pages)?;
    let fill = || -> Option<Mfn> {
        let memory = populate(&domain, pages)?;
        for s in &kernel.segments {
            memory.write(s.at, s.bytes)?;
        }
        memory.write(layout.initrd_pfn << 12, shared)?;
        memory.write((layout.initrd_pfn << 12).checked_add(own_at)?, own)?;
        write_p2m(&layout, &memory, pages)?;
        write_tables(&layout, &memory)?;
        start_info::write(&domain, &layout, &memory, initrd_len, plan.line.cmdline)?;
        if let Some(at) = kernel.hypercall_page {
            memory.write(at, &start_info::hypercall_page())?;
        }
        memory.mfn(layout.root_pfn)
    };
    let root = fill().ok_or_else(|| error(format_args!("no memory for {} MiB", pages >> 8)));
    let started = root.and_then(|root| start(&domain, root, &layout, kernel.entry));
    if let Err(why) = started {
        // From here on the way of every domain that ends: its frames come back, and the census looks.
        domain.stop(super::StopReason::Crash);
        return Err(why);
    }
    Ok(domain)
}

/// Makes the domain and its vCPUs, all of them down, and enters it into the list.
fn create(line: &DomainLine<'_>, id: DomId, initial: bool, pages: u64) -> Result<Arc<Domain>, BuildError> {
    let none = |what: &str| error(format_args!("no memory for its {what}"));
    let vcpus = line.vcpus.unwrap_or(1);
    let mut name = ArrayString::new();
    match line.name {
        Some(given) => drop(name.try_push_str(given)),
        None => drop(core::fmt::Write::write_fmt(&mut name, format_args!("d{}", id.raw()))),
    }
    let shared_info = frame_alloc::alloc_zeroed(0).ok_or_else(|| none("shared page"))?;
    let domain = Arc::new(Domain::new(NewDomain {
        id,
        name,
        initial,
        xmode: line.xmode.unwrap_or(true),
        abom: line.abom.unwrap_or(true),
        max_pages: pages,
        weight: line.weight.unwrap_or(DEFAULT_WEIGHT),
        shared_info,
        area: PerDomain::new().ok_or_else(|| none("descriptor tables"))?,
        events: EvtchnTable::new(id, vcpus).map_err(|_| none("event channels"))?,
        grants: GrantTable::new(id, GRANT_FRAMES).map_err(|_| none("grant table"))?,
        maptrack: MapTrack::new(MAPPINGS).map_err(|_| none("grant mappings"))?,
    }));
    frame::share(machine(), shared_info, id);
    let mut list = ArrayVec::new();
    let infos = (offset::VCPU_INFO..).step_by(offset::VCPU_INFO_STRIDE).map(|at| shared_info.maddr().raw() | at as u64);
    for (number, info) in (0..vcpus).zip(infos) {
        let key = sched::free_key().ok_or_else(|| none("vCPUs"))?;
        let vcpu = Vcpu::new(&Arc::downgrade(&domain), number, key, info).ok_or_else(|| none("vCPUs"))?;
        if !sched::add(&vcpu, domain.weight) {
            return Err(none("vCPUs"));
        }
        vcpu_info::set_upcall_mask(&vcpu, 1);
        let _ = list.try_push(vcpu);
    }
    let _ = domain.vcpus.set(list);
    if !super::insert(domain.clone()) {
        return Err(error(format_args!("there are too many domains")));
    }
    Ok(domain)
}

/// Gives vCPU 0 its first state and lets it run.
fn start(domain: &Arc<Domain>, root: Mfn, layout: &Layout, entry: u64) -> Result<(), BuildError> {
    to_the_end(|| mmu::pin(domain, root, Level::L4))?;
    to_the_end(|| mmu::take_base(domain, root))?;
    let vcpu = domain.vcpu(0).ok_or_else(|| error(format_args!("it has no vCPU")))?;
    // Stacks grow down: it starts where its frame ends.
    let stack_va = layout.va(layout.stack_pfn.saturating_add(1));
    {
        let mut state = vcpu.state.lock();
        state.kernel_root = Some(root);
        state.kernel_sp = stack_va;
        state.regs.rip = entry;
        state.regs.rsi = layout.va(layout.start_info_pfn);
        state.regs.rsp = stack_va;
        state.regs.cs = u64::from(GUEST_CS);
        state.regs.ss = u64::from(GUEST_SS);
        state.regs.sanitise();
    }
    vcpu.initialised.store(true, Ordering::Release);
    vcpu.online.store(true, Ordering::Release);
    Ok(())
}

/// Repeats `step` while it is preempted: there is no guest yet to give way to, and each time gets further.
fn to_the_end(mut step: impl FnMut() -> Result<(), Errno>) -> Result<(), BuildError> {
    loop {
        match step() {
            Err(Errno::ERESTART) => {}
            done => return done.map_err(|e| error(format_args!("its first page tables are refused: {}", e.name()))),
        }
    }
}

/// Gives a domain with a console ring its end of it.
pub fn console_port(domain: &Domain) -> Option<u32> {
    domain.events.lock().alloc_kernel(Consumer::Console).ok().map(|p| p.raw())
}
