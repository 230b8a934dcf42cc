//! One document of several runs: a matrix takes long, and parts of it may be measured one after the other.

use anyhow::{Result, ensure};

use super::document::{Cell, Document, Row};

/// Adds to `now` what `before` has and this run left out.
///
/// # Errors
/// If they are not of the same hypervisors and programs, or were not measured in the same way.
pub fn add(before: Document, mut now: Document, left_out: &str) -> Result<Document> {
    let same = |what: &str, a: &str, b: &str| {
        ensure!(a == b, "the last document is of another {what}: {a}, and this run of {b}");
        Ok(())
    };
    same("hypervisor", &before.facts.hypervisors.join(", "), &now.facts.hypervisors.join(", "))?;
    same("program", &before.facts.programs.join(", "), &now.facts.programs.join(", "))?;
    same("emulator", &before.facts.emulator, &now.facts.emulator)?;
    same("machine", &before.facts.machine, &now.facts.machine)?;
    ensure!(before.columns == now.columns, "the last document has other columns");
    let mut rows = Vec::new();
    for mut row in before.rows {
        if let Some(at) = now.rows.iter().position(|r| same_row(r, &row)) {
            let newer = now.rows.remove(at);
            for (cell, new) in row.cells.iter_mut().zip(newer.cells) {
                if !matches!(&new, Cell::NotMeasured { not_measured } if not_measured == left_out) {
                    *cell = new;
                }
            }
        }
        rows.push(row);
    }
    rows.append(&mut now.rows);
    now.rows = rows;
    let others = before.profiles.into_iter().filter(|p| !now.profiles.iter().any(|n| (&n.work, &n.column) == (&p.work, &p.column)));
    let others: Vec<_> = others.collect();
    now.profiles.extend(others);
    let kernels: Vec<_> = before.facts.kernels.into_iter().filter(|k| !now.facts.kernels.contains(k)).collect();
    now.facts.kernels.extend(kernels);
    if before.facts.commit != now.facts.commit {
        now.facts.commit = format!("{}; {}", before.facts.commit, now.facts.commit);
    }
    if now.facts.nanoseconds == left_out {
        now.facts.nanoseconds = before.facts.nanoseconds;
    }
    now.facts.command = format!("{}; {}", before.facts.command, now.facts.command);
    now.facts.runs = now.facts.runs.min(before.facts.runs);
    Ok(now)
}

fn same_row(a: &Row, b: &Row) -> bool {
    (&a.part, &a.work, &a.what, &a.unit) == (&b.part, &b.work, &b.what, &b.unit)
}

#[cfg(test)]
mod tests {
    use super::super::document::tests::example;
    use super::*;

    #[test]
    fn what_was_left_out_comes_from_before() {
        let mut now = example();
        now.rows.remove(1);
        now.rows[0].cells = vec![Cell::none("left out"), Cell::of(&[7.0])];
        let both = add(example(), now, "left out").expect("the same source");
        assert_eq!(both.rows.len(), 2);
        assert_eq!(both.cell("getpid", "crossings", "native").value(), Some(1.0));
        assert_eq!(both.cell("getpid", "crossings", "ABOM").value(), Some(7.0));
    }

    #[test]
    fn documents_of_different_things_stay_apart() {
        let mut now = example();
        now.facts.hypervisors = vec!["another".into()];
        assert!(add(example(), now, "left out").is_err());
        let mut now = example();
        now.facts.programs = vec!["another".into()];
        assert!(add(example(), now, "left out").is_err());
    }
}
