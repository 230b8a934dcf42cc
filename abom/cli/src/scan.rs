//! `scan`: what there is in a file, and what would be done about it.

use std::collections::BTreeMap;
use std::io::Write;

use abom::{Plan, Ways, plan};
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

/// Looks at all sites of a file.
pub fn file(name: &str, data: &[u8], ways: &Ways) -> Result<Report> {
    let elf = Elf::parse(data)?;
    ensure!(rewrite::record(&elf)?.is_none(), "already patched: `verify` or `unpatch` it");
    let program = Program::new(elf);
    Ok(report(name, &program, ways))
}

fn report(file: &str, program: &Program<'_>, ways: &Ways) -> Report {
    let mut report =
        Report { file: file.to_string(), sites: 0, eligible: 0, patterns: BTreeMap::new(), refusals: BTreeMap::new(), list: Vec::new() };
    for &address in &program.sites {
        let planned = program.around(address).and_then(|(code, facts)| plan(&code, address, ways, &facts).map(|p: Plan<'_>| p.how()));
        report.sites += 1;
        let mut site = Site { address, pattern: None, form: None, refusal: None };
        match planned {
            Ok(how) => {
                report.eligible += 1;
                *report.patterns.entry(how.to_string()).or_default() += 1;
                site.pattern = Some(how.pattern.name());
                site.form = Some(how.form.name());
            }
            Err(refusal) => {
                *report.refusals.entry(refusal.name()).or_default() += 1;
                site.refusal = Some(refusal.name());
            }
        }
        report.list.push(site);
    }
    report
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
