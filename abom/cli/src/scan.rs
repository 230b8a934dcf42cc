//! `scan`: what there is in a file, and what would be done about it.

use std::collections::BTreeMap;
use std::io::Write;

use abom::after::{Ask, scan};
use abom::{Code, Facts, Inside, Plan, RedZone, Refusal, Ways, plan};
use anyhow::{Result, ensure};
use serde::Serialize;

use crate::elf::Elf;
use crate::program::Program;
use crate::rewrite;

/// What was found out about one site.
#[derive(Debug, Serialize)]
pub struct Site {
    /// Where it is.
    pub address: u64,
    /// Its shape, if there is a plan.
    pub pattern: Option<&'static str>,
    /// How the kernel would be reached, if there is a plan.
    pub form: Option<&'static str>,
    /// Why not, if there is none.
    pub refusal: Option<&'static str>,
}

/// What was found out about one file.
#[derive(Debug, Serialize)]
pub struct Report {
    /// Its name.
    pub file: String,
    /// How many sites there are.
    pub sites: usize,
    /// How many of them would be patched.
    pub eligible: usize,
    /// How many there are of each shape and form.
    pub patterns: BTreeMap<String, usize>,
    /// How many there are of each refusal.
    pub refusals: BTreeMap<&'static str, usize>,
    /// All of them.
    pub list: Vec<Site>,
}

/// From what a site is judged.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum View {
    /// All of the program.
    Whole,
    /// The bytes around the site, as the X-Kernel sees them, which catches who comes to an overwritten instruction.
    Bytes,
}

/// Bytes ahead of a site, and from it on, that the X-Kernel looks at.
const AHEAD: u64 = 2048;
const BEHIND: u64 = 2048;
/// Where stubs could be: so far behind the program, in so much memory.
const STUBS_AT: u64 = 0x10_0000;
const STUBS: u64 = 0x1000_0000;

/// Looks at all sites of a file.
pub fn file(name: &str, data: &[u8], ways: &Ways, view: View) -> Result<Report> {
    let elf = Elf::parse(data)?;
    ensure!(rewrite::record(&elf)?.is_none(), "already patched: `verify` or `unpatch` it");
    let program = Program::new(elf);
    Ok(report(name, &program, ways, view))
}

/// What the X-Kernel would do: with the bytes around a site, and stubs anywhere behind the program.
fn from_bytes<'a>(program: &Program<'a>, site: u64, ways: &Ways) -> Result<Plan<'a>, Refusal> {
    let area = program.elf.code.iter().find(|a| a.has(site)).ok_or(Refusal::NoSyscall)?;
    let all = Code::new(area.bytes, area.address);
    let start = site.saturating_sub(AHEAD).max(area.address);
    let end = site.saturating_add(BEHIND).min(area.end());
    let length = usize::try_from(end.saturating_sub(start)).map_err(|_| Refusal::NoSyscall)?;
    let mut code = Code::new(all.bytes(start, length).ok_or(Refusal::NoSyscall)?, start);
    // Where a jump leads away, the bytes there are looked at, too.
    if let Some(left) = scan(&code, site.saturating_add(2), Ask::Flags).left
        && let Some(bytes) = all.from(left)
    {
        code = code.and(bytes.get(..64).unwrap_or(bytes), left);
    }
    let facts = Facts { starts: None, inside: Inside::Caught, red_zone: RedZone::Unknown, taken: &[], seen: None };
    let plan = plan(&code, site, ways, &facts)?;
    if let Plan::Stub(stub) = &plan {
        let from = area.end().saturating_add(STUBS_AT);
        stub.first_fit(from, from.saturating_add(STUBS)).ok_or(Refusal::NoRoom)?;
    }
    Ok(plan)
}

fn report(file: &str, program: &Program<'_>, ways: &Ways, view: View) -> Report {
    let mut list = Vec::new();
    let (mut patterns, mut refusals) = (BTreeMap::new(), BTreeMap::new());
    for &address in &program.sites {
        let planned = match view {
            View::Whole => program.around(address).and_then(|(code, facts)| plan(&code, address, ways, &facts)),
            View::Bytes => from_bytes(program, address, ways),
        };
        let mut site = Site { address, pattern: None, form: None, refusal: None };
        match planned.map(|p| p.how()) {
            Ok(how) => {
                count(&mut patterns, how.to_string());
                site.pattern = Some(how.pattern.name());
                site.form = Some(how.form.name());
            }
            Err(refusal) => {
                count(&mut refusals, refusal.name());
                site.refusal = Some(refusal.name());
            }
        }
        list.push(site);
    }
    let eligible = list.iter().filter(|s| s.refusal.is_none()).count();
    Report { file: file.to_string(), sites: list.len(), eligible, patterns, refusals, list }
}

fn count<K: Ord>(counts: &mut BTreeMap<K, usize>, key: K) {
    let count = counts.entry(key).or_default();
    *count = count.saturating_add(1);
}

impl Report {
    /// Writes it for people.
    pub fn write(&self, out: &mut impl Write, list: bool) -> std::io::Result<()> {
        let tenths = self.eligible.saturating_mul(1000).checked_div(self.sites).unwrap_or(1000);
        writeln!(out, "{}: {} sites, {} eligible ({}.{} %)", self.file, self.sites, self.eligible, tenths / 10, tenths % 10)?;
        for (pattern, count) in &self.patterns {
            writeln!(out, "{count:>8}  {pattern}")?;
        }
        for (refusal, count) in &self.refusals {
            writeln!(out, "{count:>8}  refused: {refusal}")?;
        }
        for (site, refusal) in self.list.iter().filter(|_| list).filter_map(|s| Some((s, s.refusal?))) {
            writeln!(out, "{:#14x}  {refusal}", site.address)?;
        }
        Ok(())
    }
}
