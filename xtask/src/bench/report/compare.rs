//! Which counts have grown since a document that was kept.

use super::document::{Cell, Document, Row, TIMES};

/// What has changed: what has grown, what was measured and is not any more, and how many cells were compared.
#[derive(Debug, Default, PartialEq)]
pub struct Changes {
    pub grown: Vec<String>,
    pub gone: Vec<String>,
    pub compared: usize,
}

/// Less than this, as a part of the value, is nobody's doing: where a timer's tick falls.
const TICK: f64 = 0.002;
/// And less than this, in all: a count that is nearly none.
const LEAST: f64 = 0.01;

/// Compares all counts that both have, and no times. A count has grown if it is larger by more than what either document says that runs of its
/// row are apart, in any column: two runs may agree by chance where others do not.
pub fn compare(before: &Document, now: &Document) -> Changes {
    let mut changes = Changes::default();
    for row in before.rows.iter().filter(|row| row.part != TIMES) {
        let known = spread(row).max(now.row(&row.work, &row.what).map_or(0.0, spread)).max(TICK);
        for (heading, old) in before.columns.iter().zip(&row.cells) {
            let Some(old) = old.value() else { continue };
            let name = format!("{}, {}, {}", row.work, row.what, heading.name);
            match now.cell(&row.work, &row.what, &heading.name) {
                Cell::NotMeasured { not_measured } => changes.gone.push(format!("{name}: {not_measured}")),
                Cell::Measured { value, .. } => {
                    changes.compared += 1;
                    if value > old + old.abs() * known + LEAST {
                        changes.grown.push(format!("{name}: {old:.2} before, {value:.2} now ({})", grown_by(old, value)));
                    }
                }
            }
        }
    }
    changes
}

/// How far runs of a row are apart at most.
fn spread(row: &Row) -> f64 {
    let all = row.cells.iter().map(|cell| if let Cell::Measured { spread, .. } = cell { *spread } else { 0.0 });
    all.fold(0.0, f64::max)
}

fn grown_by(old: f64, value: f64) -> String {
    if old == 0.0 { "there was none".into() } else { format!("+{:.1} %", (value / old - 1.0) * 100.0) }
}

#[cfg(test)]
mod tests {
    use super::super::document::tests::example;
    use super::*;

    fn set(document: &mut Document, row: usize, cell: usize, to: Cell) {
        document.rows[row].cells[cell] = to;
    }

    #[test]
    fn nothing_has_grown_where_nothing_changed() {
        let changes = compare(&example(), &example());
        assert_eq!((changes.grown.len(), changes.gone.len(), changes.compared), (0, 0, 3));
    }

    #[test]
    fn a_count_that_has_grown_is_named() {
        let mut now = example();
        set(&mut now, 0, 1, Cell::of(&[1.0]));
        assert_eq!(compare(&example(), &now).grown, ["getpid, crossings, ABOM: 0.00 before, 1.00 now (there was none)"]);
        set(&mut now, 0, 1, Cell::of(&[0.0]));
        set(&mut now, 0, 0, Cell::of(&[1.5]));
        assert_eq!(compare(&example(), &now).grown, ["getpid, crossings, native: 1.00 before, 1.50 now (+50.0 %)"]);
    }

    #[test]
    fn a_count_within_what_runs_differ_by_is_not() {
        let mut now = example();
        // The runs of before are a tenth apart.
        set(&mut now, 1, 1, Cell::of(&[1085.0]));
        assert!(compare(&example(), &now).grown.is_empty());
        set(&mut now, 1, 1, Cell::of(&[1110.0]));
        assert_eq!(compare(&example(), &now).grown.len(), 1);
        // Another column of the same row.
        let (mut before, mut now) = (example(), example());
        set(&mut before, 1, 0, Cell::of(&[500.0]));
        set(&mut now, 1, 0, Cell::of(&[540.0]));
        assert!(compare(&before, &now).grown.is_empty());
        set(&mut now, 1, 0, Cell::of(&[560.0]));
        assert_eq!(compare(&before, &now).grown.len(), 1);
        // Less is no growth.
        let mut now = example();
        set(&mut now, 1, 1, Cell::of(&[10.0]));
        assert!(compare(&example(), &now).grown.is_empty());
    }

    #[test]
    fn a_count_that_is_not_there_any_more_is_named() {
        let mut now = example();
        set(&mut now, 1, 1, Cell::none("it did not boot"));
        assert_eq!(compare(&example(), &now).gone, ["fork, \"exec\", instructions, ABOM: it did not boot"]);
    }
}
