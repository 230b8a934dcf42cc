//! `bench matrix`: the same work in every column, counted in the same way; the report of it, and what has grown.

mod domains;
mod facts;
mod operations;
mod profiles;
mod programs;
mod quantities;
mod scale;
mod times;
mod work;

use std::path::{Path, PathBuf};

use anyhow::{Result, bail};

use self::operations::Runs;
use super::column::Column;
use super::null_call;
use super::report::add::add;
use super::report::compare::compare;
use super::report::document::{Cell, Document, Heading, Row};
use super::report::{self, goals};
use crate::sh;

/// The document that was kept, by its place in the tree.
const BASELINE: &str = "tests/bench/baseline.json";

/// A part of the matrix.
#[derive(Clone, Copy, Debug, Eq, PartialEq, clap::ValueEnum)]
pub enum Part {
    /// Single operations of the kernel (tests/linux/ops).
    Operations,
    /// Two domains that talk to each other (tests/guests/peer).
    Domains,
    /// Programs under load (tests/workloads/load.sh).
    Programs,
    /// Containers side by side.
    Scale,
}

/// What is wanted of it.
pub struct Wanted {
    pub columns: Vec<Column>,
    pub parts: Vec<Part>,
    pub runs: u32,
    /// Whether what is left out is to be what the last document has.
    pub add: bool,
    pub compare: Option<PathBuf>,
}

/// Why a cell is empty that was not asked for.
pub const LEFT_OUT: &str = "left out of this run (--columns, --parts)";

impl Wanted {
    fn has(&self, part: Part) -> bool {
        self.parts.is_empty() || self.parts.contains(&part)
    }

    /// All columns, each with whether it is wanted.
    fn columns(&self) -> [(Column, bool); 6] {
        Column::ALL.map(|column| (column, self.columns.is_empty() || self.columns.contains(&column)))
    }
}

/// Says what did not work in a column; it is the reason why that is empty.
fn why_not(column: Column, error: &anyhow::Error) -> String {
    eprintln!("xtask: {}: {error:#}", column.name());
    format!("{error:#}")
}

/// A row with a value in one column.
fn single(part: &str, work: &str, what: &str, unit: &str, column: Column, value: Cell, why_not: &str) -> Row {
    let cells = Column::ALL.map(|c| if c == column { value.clone() } else { Cell::none(why_not) });
    Row { part: part.into(), work: work.into(), what: what.into(), unit: unit.into(), cells: cells.into() }
}

/// Measures what is wanted.
fn measure(wanted: &Wanted) -> Result<Document> {
    let headings = Column::ALL.map(|c| Heading { name: c.name().into(), meaning: c.meaning().into() });
    let usable = if wanted.has(Part::Operations) { times::usable(wanted) } else { Err(LEFT_OUT.to_string()) };
    let why_no_times = usable.clone().err().unwrap_or_default();
    let mut document = Document { facts: facts::gather(wanted, why_no_times)?, columns: headings.into(), ..Document::default() };
    let mut runs = Runs::default();
    if wanted.has(Part::Operations) {
        runs = operations::run(wanted)?;
        document.rows.extend(runs.rows());
        if wanted.columns().contains(&(Column::Table, true)) {
            let calls = null_call::measure()?;
            calls.print();
            let outside = Cell::of(&[calls.outside()]);
            let why = "told apart by X-LibOS's own symbols";
            document.rows.push(single(
                "operation",
                "getpid, a million",
                "instructions outside the body",
                quantities::ONCE,
                Column::Table,
                outside,
                why,
            ));
        }
    }
    if usable.is_ok() {
        document.rows.extend(times::rows(wanted)?);
    }
    if wanted.has(Part::Domains) {
        document.rows.extend(domains::rows(wanted));
    }
    if wanted.has(Part::Programs) {
        document.rows.extend(programs::rows(wanted));
    }
    if wanted.has(Part::Scale) {
        document.rows.extend(scale::rows(wanted)?);
    }
    document.rows.extend(profiles::entries(&runs)?);
    derive(&mut document);
    document.profiles = profiles::of(&goals::missed(&document.goals), &runs)?;
    Ok(document)
}

/// What follows from rows.
fn derive(document: &mut Document) {
    let by_call = programs::by_call(&mut document.rows);
    document.rows.extend(by_call);
    document.goals = goals::judge(document);
}

/// The file that was named, or the one that is kept.
fn baseline(named: &Path) -> PathBuf {
    if named.as_os_str().is_empty() { sh::root().join(BASELINE) } else { named.to_path_buf() }
}

/// Names what has grown.
///
/// # Errors
/// If something has.
fn compared(document: &Document, with: &Path) -> Result<()> {
    let changes = compare(&report::read(with)?, document);
    println!("\n{} counts compared with {}", changes.compared, with.display());
    changes.gone.iter().for_each(|gone| println!("not measured any more: {gone}"));
    changes.grown.iter().for_each(|grown| println!("grown: {grown}"));
    if !changes.grown.is_empty() {
        bail!("{} counts have grown", changes.grown.len());
    }
    println!("none has grown");
    Ok(())
}

/// `bench matrix`.
pub fn run(wanted: &Wanted) -> Result<()> {
    let mut document = measure(wanted)?;
    if wanted.add {
        document = add(report::read(&report::last()?)?, document, LEFT_OUT)?;
        derive(&mut document);
    }
    finish(&document, wanted)
}

/// `bench report`: the last document again.
pub fn again(wanted: &Wanted) -> Result<()> {
    let mut document = report::read(&report::last()?)?;
    derive(&mut document);
    finish(&document, wanted)
}

fn finish(document: &Document, wanted: &Wanted) -> Result<()> {
    report::show(document)?;
    wanted.compare.as_deref().map_or(Ok(()), |named| compared(document, &baseline(named)))
}
