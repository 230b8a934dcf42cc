//! `scan`: what there is in a file, and what would be done about it.

use std::collections::BTreeMap;

use abom::{Plan, Reach, Table, Ways, plan};
use serde::Serialize;

use crate::program::Program;

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

/// How files are changed.
pub fn ways() -> Ways { Ways { table: if std::env::var("J").is_ok() { Table::X_CONTAINER.with_jump(0xffff_ffff_ff60_0ff8).unwrap() } else { Table::X_CONTAINER }, stubs: Some(Reach::Near) } }

/// Looks at all sites of a program.
pub fn report(file: &str, program: &Program<'_>, ways: &Ways) -> Report {
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
