//! What the X-Kernel would do about the sites of a program, if it ran and came to one after the other.
//!
//! The X-Kernel's own way is `x-kernel/src/pv/abom/plan.rs`: from the unwind table to the function, from there to gaps of
//! the page. Only the registers of a system call are not there to be looked at.

use std::ops::Range;

use abom::after::{Ask, scan};
use abom::annex::{Place, Stubs};
use abom::code::SYSCALL;
use abom::gaps::Extent;
use abom::hop::{AHEAD, Hop};
use abom::{Code, Facts, How, Inside, Patch, RedZone, Refusal, Table, Ways, gaps, hop, plan, redzone, unwind};
use object::elf::PT_LOAD;
use object::read::elf::{FileHeader, ProgramHeader};

use crate::elf::{Elf, LE};
use crate::program::Program;

const WAYS: Ways = Ways { table: Table::X_CONTAINER, stubs: None };
const PAGE: u64 = 4096;
/// An annex.
const ANNEX: u64 = 0xffff_ffff_a000_0000;
/// The X-Kernel's windows: ahead of a site whose function is not known, behind a site, of a function, where a jump leads.
const BEFORE: u64 = 64;
const AFTER: u64 = 320;
const FUNCTION: u64 = 16384;
const ELSEWHERE: u64 = 64;
/// The most of a function that is looked at as a whole.
const WHOLE: u64 = 6144;

/// What patches have taken, and where they end with a jump that others may share.
#[derive(Default)]
pub struct Taken {
    regions: Vec<Range<u64>>,
    tails: Vec<u64>,
    stubs: Stubs,
}

impl Taken {
    fn add(&mut self, patch: &Patch) {
        self.regions.push(patch.region().clone());
        self.tails.extend(patch.tail(&WAYS.table));
    }
}

/// How the site would be changed, if others have `taken` what they need; what it needs is added.
///
/// # Errors
/// Why it would stay.
pub fn how(program: &Program<'_>, site: u64, taken: &mut Taken) -> Result<How, Refusal> {
    let page = site & !(PAGE - 1);
    // Each plan is for one page, and looks at no more than the one before besides.
    taken.regions.retain(|t| t.end > page.saturating_sub(PAGE));
    let function = function(&program.elf, site);
    let start = function.map(|(start, _)| start).filter(|s| site.saturating_sub(*s) <= FUNCTION);
    let low = start.unwrap_or(site.saturating_sub(BEFORE));
    let code = window(program, site, low, site.saturating_add(AFTER)).ok_or(Refusal::NoSyscall)?;
    let code = follow(program, code, site);
    let starts = start.and_then(|start| starts(&code, start, site));
    let facts = Facts {
        starts: starts.as_deref(),
        inside: Inside::Caught,
        red_zone: RedZone::Unknown,
        taken: &taken.regions,
        tail: None,
        page: Some(page),
        seen: None,
    };
    let mut planned = plan::call(&code, site, WAYS.table, &facts);
    let mut red_zone = RedZone::Unknown;
    if planned.as_ref().is_err_and(|refusal| *refusal == Refusal::RedZoneLive) {
        red_zone = below_stack(program, function);
        if red_zone == RedZone::Unused {
            planned = plan::call(&code, site, WAYS.table, &Facts { red_zone, ..facts });
        }
    }
    match planned {
        Ok(patch) => {
            taken.add(&patch);
            return Ok(patch.how());
        }
        Err(refusal) if refusal.is_final() => return Err(refusal),
        _ => {}
    }
    if red_zone == RedZone::Unknown {
        red_zone = below_stack(program, function);
    }
    let ahead = page.checked_sub(PAGE).filter(|_| site.saturating_sub(page) < AHEAD);
    let facts = Facts { red_zone, starts: None, ..facts };
    // A jump that others may share.
    let tail = |page: u64| taken.tails.iter().copied().find(|at| at / PAGE == page / PAGE);
    let place: &mut Place<'_> = &mut |stub| ANNEX.checked_add(taken.stubs.cell(stub)?);
    let mut beside = |page: u64| beside(program, site, function, &Facts { page: Some(page), tail: tail(page), ..facts }, place);
    let hop = beside(page).or_else(|refusal| ahead.ok_or(refusal).and_then(|page| beside(page).map_err(|_| refusal)))?;
    hop.gaps.iter().chain([&hop.site]).for_each(|patch| taken.add(patch));
    Ok(hop.site.how())
}

/// What the function does below its stack pointer, if it is short enough.
fn below_stack(program: &Program<'_>, own: Option<Extent>) -> RedZone {
    let Some((start, Some(next))) = own.filter(|(start, next)| next.is_some_and(|next| next.saturating_sub(*start) <= WHOLE)) else {
        return RedZone::Unknown;
    };
    let Some(code) = window(program, start, start, next) else { return RedZone::Unknown };
    let is_beginning = |at: u64| Ok::<_, Refusal>(function(&program.elf, at).is_some_and(|(start, _)| start == at));
    redzone::of_whole(&code, &(start..next), is_beginning).unwrap_or(RedZone::Unknown)
}

/// By gaps of the page that the facts have.
fn beside(program: &Program<'_>, site: u64, own: Option<Extent>, facts: &Facts<'_>, place: &mut Place<'_>) -> Result<Hop, Refusal> {
    let page = facts.page.unwrap_or(site & !(PAGE - 1));
    let first = function(&program.elf, page).or(own).map_or(page, |(start, _)| start);
    let low = if page.saturating_sub(first) > FUNCTION { page } else { first.min(page) };
    // The site may be in the next one.
    let behind = if site.saturating_sub(page) < PAGE { SYSCALL.len() as u64 } else { AFTER };
    let end = page.saturating_add(PAGE).max(site.saturating_add(behind));
    let code = window(program, site, low, end).ok_or(Refusal::NoRoom)?;
    let code = follow(program, code, site);
    let known = own.and_then(|own| {
        let mut readings = [first, own.0].into_iter().filter_map(|from| starts(&code, from, site));
        Some((own, readings.find(|starts| unwind::from_beginning(starts, own.0).is_some())?))
    });
    let gaps = match &known {
        Some((own, starts)) => gaps::around(starts, gaps::find(&code, starts), *own, |at| Ok::<_, Refusal>(function(&program.elf, at)))?,
        None => gaps::behind(&code, site.saturating_add(2)),
    };
    let starts = known.as_ref().and_then(|(own, starts)| unwind::from_beginning(starts, own.0));
    hop::hop(&code, site, &WAYS, &Facts { starts, ..*facts }, &gaps, place)
}

/// Where instructions begin, if one does at `start` and they lead to the site.
fn starts(code: &Code<'_>, start: u64, site: u64) -> Option<Vec<u64>> {
    let starts: Vec<u64> = code.starts(start).collect();
    starts.binary_search(&site).is_ok().then_some(starts)
}

/// The same bytes, and those where the code behind the site leads, if it leads out of them.
fn follow<'a>(program: &Program<'a>, code: Code<'a>, site: u64) -> Code<'a> {
    let left = scan(&code, site.saturating_add(2), Ask::Flags).left;
    let more = left.and_then(|at| window(program, at, at, at.saturating_add(ELSEWHERE))?.from(at).map(|bytes| code.and(bytes, at)));
    more.unwrap_or(code)
}

/// The program's bytes around `at`, from `low` to `high`, as many as are code.
fn window<'a>(program: &Program<'a>, at: u64, low: u64, high: u64) -> Option<Code<'a>> {
    let area = program.elf.code.iter().find(|a| a.has(at))?;
    let (low, high) = (low.max(area.address), high.min(area.end()));
    Some(Code::new(Code::new(area.bytes, area.address).bytes(low, usize::try_from(high.checked_sub(low)?).ok()?)?, low))
}

/// The function that an address is in, by the file's unwind table.
fn function(elf: &Elf<'_>, address: u64) -> Option<Extent> {
    let loads = elf.header.program_headers(LE, elf.data).ok()?.iter().filter(|s| s.p_type(LE) == PT_LOAD);
    let loads: Vec<_> = loads.map(|s| (s.p_vaddr(LE), s.p_offset(LE), s.p_filesz(LE))).collect();
    let module = loads.first()?.0 & !(PAGE - 1);
    let mut read = |at: u64, buf: &mut [u8]| {
        let from = loads.iter().find_map(|&(address, offset, size)| {
            let inside = at.checked_sub(address).filter(|&inside| inside < size)?;
            elf.data.get(usize::try_from(offset.checked_add(inside)?).ok()?..)?.get(..buf.len())
        });
        from.map(|from| buf.copy_from_slice(from)).is_some()
    };
    unwind::Functions::of(&mut read, module)?.around(&mut read, address)
}
