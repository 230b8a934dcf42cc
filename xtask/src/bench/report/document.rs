//! The document: machine, rows of cells, goals, and where the instructions of what missed its goal go.

use serde::{Deserialize, Serialize};

/// All of it.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
pub struct Document {
    pub facts: Facts,
    pub columns: Vec<Heading>,
    pub rows: Vec<Row>,
    pub goals: Vec<Goal>,
    pub profiles: Vec<Profile>,
}

/// What was measured, and on what.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
pub struct Facts {
    pub date: String,
    pub commit: String,
    pub command: String,
    /// The emulator, its version, and what it was told.
    pub emulator: String,
    pub machine: String,
    /// The host's processor, which no count depends on.
    pub host: String,
    /// Kernels, by what they are made of, and a hash of each configuration.
    pub kernels: Vec<String>,
    /// Hypervisors and programs of ours, by hashes of what they are.
    pub hypervisors: Vec<String>,
    pub programs: Vec<String>,
    pub mitigations: String,
    /// How often each column was run.
    pub runs: u32,
    /// Why there are no times; empty if there are.
    pub nanoseconds: String,
}

/// A column's name, and what it is.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
pub struct Heading {
    pub name: String,
    pub meaning: String,
}

/// The part whose rows are no counts: times of the clock.
pub const TIMES: &str = "times";

/// One quantity of one piece of work, in every column.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
pub struct Row {
    /// Which part of the matrix: `operation`, `program`, `domains`, `scale`, [`TIMES`].
    pub part: String,
    pub work: String,
    /// What is counted.
    pub what: String,
    /// For each of what.
    pub unit: String,
    pub cells: Vec<Cell>,
}

/// A value.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
#[serde(untagged)]
pub enum Cell {
    /// The middle of the runs, and how far they are apart, as a part of the largest.
    Measured { value: f64, spread: f64 },
    /// None, and why.
    NotMeasured { not_measured: String },
}

/// To a millionth: all digits that say something, and none that a reader of JSON could lose.
fn rounded(value: f64) -> f64 {
    (value * 1e6).round() / 1e6
}

impl Cell {
    /// Of the values of several runs.
    pub fn of(runs: &[f64]) -> Self {
        let mut sorted = runs.to_vec();
        sorted.sort_by(f64::total_cmp);
        let (Some(&least), Some(&most)) = (sorted.first(), sorted.last()) else { return Self::none("not run") };
        let middle = sorted.get((sorted.len() - 1) / 2).copied().unwrap_or(least);
        let spread = if most == 0.0 { 0.0 } else { (most - least) / most.abs() };
        Self::Measured { value: rounded(middle), spread: rounded(spread) }
    }

    /// None, and why.
    pub fn none(why: impl Into<String>) -> Self {
        Self::NotMeasured { not_measured: why.into() }
    }

    /// The value, if there is one.
    pub fn value(&self) -> Option<f64> {
        match self {
            Self::Measured { value, .. } => Some(*value),
            Self::NotMeasured { .. } => None,
        }
    }
}

/// A goal, by its number, and what came of it.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
pub struct Goal {
    pub number: u32,
    pub what: String,
    pub goal: String,
    pub ours: Cell,
    /// The same count of each column, in their order.
    pub peers: Vec<Cell>,
    /// None if there is no count.
    pub met: Option<bool>,
}

/// Where the instructions of some work went.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
pub struct Profile {
    pub column: String,
    pub work: String,
    /// Functions of hypervisor and kernel, and instructions each time; the largest first.
    pub functions: Vec<(String, f64)>,
    /// The same of all that is not listed.
    pub others: f64,
}

impl Document {
    /// As JSON, with a line for each row, so that two of them can be told apart by `diff`.
    ///
    /// # Errors
    /// None that is known of.
    pub fn json(&self) -> serde_json::Result<String> {
        fn lines<T: Serialize>(list: &[T]) -> serde_json::Result<String> {
            Ok(list.iter().map(serde_json::to_string).collect::<serde_json::Result<Vec<_>>>()?.join(",\n"))
        }
        let facts = serde_json::to_string_pretty(&self.facts)?;
        let (columns, rows) = (lines(&self.columns)?, lines(&self.rows)?);
        let (goals, profiles) = (lines(&self.goals)?, lines(&self.profiles)?);
        Ok(format!(
            "{{\"facts\": {facts},\n\"columns\": [\n{columns}\n],\n\"rows\": [\n{rows}\n],\n\"goals\": [\n{goals}\n],\n\"profiles\": \
             [\n{profiles}\n]}}\n"
        ))
    }

    /// The row of a quantity.
    pub fn row(&self, work: &str, what: &str) -> Option<&Row> {
        self.rows.iter().find(|r| r.work == work && r.what == what)
    }

    /// The cell of a column.
    pub fn cell(&self, work: &str, what: &str, column: &str) -> Cell {
        let index = self.columns.iter().position(|c| c.name == column);
        let cell = index.and_then(|i| self.row(work, what)?.cells.get(i));
        cell.cloned().unwrap_or_else(|| Cell::none("not in this run"))
    }
}

#[cfg(test)]
pub mod tests {
    use super::*;

    /// A small one.
    pub fn example() -> Document {
        let heading = |name: &str| Heading { name: name.into(), meaning: format!("as {name}") };
        let row = |work: &str, what: &str, cells: Vec<Cell>| Row {
            part: "operation".into(),
            work: work.into(),
            what: what.into(),
            unit: "once".into(),
            cells,
        };
        Document {
            columns: vec![heading("native"), heading("ABOM")],
            rows: vec![
                row("getpid", "crossings", vec![Cell::of(&[1.0]), Cell::of(&[0.0])]),
                row("fork, \"exec\"", "instructions", vec![Cell::none("no kernel"), Cell::of(&[1000.0, 1100.0])]),
            ],
            ..Document::default()
        }
    }

    #[test]
    fn cells_are_the_middle_of_their_runs() {
        assert_eq!(Cell::of(&[3.0, 1.0, 4.0]), Cell::Measured { value: 3.0, spread: 0.75 });
        assert_eq!(Cell::of(&[2.0, 2.0]), Cell::Measured { value: 2.0, spread: 0.0 });
        assert_eq!(Cell::of(&[]).value(), None);
    }

    #[test]
    fn documents_come_back_as_they_were() {
        let text = example().json().expect("JSON");
        let back: Document = serde_json::from_str(&text).expect("a document");
        assert_eq!(back.rows, example().rows);
        assert_eq!(back.cell("getpid", "crossings", "ABOM").value(), Some(0.0));
        assert_eq!(back.cell("getpid", "crossings", "Xen").value(), None);
    }
}
