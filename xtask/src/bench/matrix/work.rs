//! Work that is done in some columns, again and again between marks: a row for each piece of it and each quantity.

use anyhow::Result;

use super::super::column::Column;
use super::super::counted::Done;
use super::super::report::document::{Cell, Row};
use super::quantities::Quantity;
use super::{LEFT_OUT, Wanted, why_not};

/// The work of a part.
pub struct Work<'a> {
    pub part: &'a str,
    /// What values are for.
    pub unit: &'a str,
    pub quantities: &'a [Quantity],
    /// Why a column has none of it.
    pub none: fn(Column) -> Option<&'static str>,
    /// One run in a column.
    pub once: fn(Column, u32) -> Result<Vec<Done>>,
}

/// Does it in all columns that are wanted. What did not work in one is the reason why that is empty.
pub fn rows(wanted: &Wanted, work: &Work<'_>) -> Vec<Row> {
    let columns = wanted.columns().map(|(column, is_wanted)| match (work.none)(column) {
        Some(why) => Err(why.to_string()),
        None if !is_wanted => Err(LEFT_OUT.to_string()),
        None => {
            let runs = (0..wanted.runs.max(1)).map(|run| (work.once)(column, run));
            runs.collect::<Result<Vec<_>>>().map_err(|error| why_not(column, &error))
        }
    });
    let mut names: Vec<&String> = Vec::new();
    for done in columns.iter().flatten().flatten().flatten() {
        if !names.contains(&&done.name) {
            names.push(&done.name);
        }
    }
    let mut rows = Vec::new();
    for (what, of) in work.quantities {
        for name in &names {
            let cells = columns.iter().map(|column| match column {
                Err(why) => Cell::none(why),
                Ok(runs) => {
                    let all = runs.iter().flatten().filter(|done| done.name == **name);
                    Cell::of(&all.map(|done| of(&done.spent) / done.times).collect::<Vec<_>>())
                }
            });
            let (part, unit) = (work.part.into(), work.unit.into());
            rows.push(Row { part, work: (*name).clone(), what: (*what).into(), unit, cells: cells.collect() });
        }
    }
    rows
}
