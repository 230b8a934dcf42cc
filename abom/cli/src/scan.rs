//! `scan`: what there is in a file, and what would be done about it.

use std::collections::BTreeMap;
use std::io::Write;

use abom::plan;
use anyhow::{Result, ensure};
use serde::Serialize;

use crate::elf::Elf;
use crate::program::Program;
use crate::rewrite::{self, WAYS};
use crate::running;

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
    /// What the X-Kernel sees of it when it runs.
    Running,
}

/// Looks at all sites of a file.
pub fn file(name: &str, data: &[u8], view: View) -> Result<Report> {
    let elf = Elf::parse(data)?;
    ensure!(rewrite::record(&elf)?.is_none(), "already patched: `verify` or `unpatch` it");
    let program = Program::new(elf);
    Ok(report(name, &program, view))
}

fn report(file: &str, program: &Program<'_>, view: View) -> Report {
    let (mut list, mut taken) = (Vec::new(), running::Taken::default());
    let (mut patterns, mut refusals) = (BTreeMap::new(), BTreeMap::new());
    for &address in &program.sites {
        let planned = match view {
            View::Whole => program.around(address).and_then(|(code, facts)| plan(&code, address, &WAYS, &facts)).map(|p| p.how()),
            View::Running => running::how(program, address, &mut taken),
        };
        let mut site = Site { address, pattern: None, form: None, refusal: None };
        match planned {
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
