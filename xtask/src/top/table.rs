//! A look at a machine, for people.

use super::rates::{Look, Row};

const HEADS: [&str; 11] =
    ["NAME", "STATE", "CPU%", "MEM MiB", "SYSCALLS/s", "CALL/s", "TRAP/s", "CALL%", "HYPERCALLS/s", "CROSSINGS/s", "FAULTS/s"];
/// Columns of text, which begin at the left; all others are numbers.
const TEXT: usize = 2;

/// The table, a line for each domain.
pub fn text(look: &Look) -> String {
    let rows: Vec<_> = std::iter::once(HEADS.map(String::from)).chain(look.rows.iter().map(cells)).collect();
    let mut widths = [0; HEADS.len()];
    for row in &rows {
        for (width, cell) in widths.iter_mut().zip(row) {
            *width = cell.len().max(*width);
        }
    }
    rows.iter().map(|row| line(row, &widths)).collect()
}

fn line(cells: &[String], widths: &[usize]) -> String {
    let pad = |(i, (cell, &width)): (usize, (&String, &usize))| if i < TEXT { format!("{cell:width$}") } else { format!("{cell:>width$}") };
    let cells: Vec<_> = cells.iter().zip(widths).enumerate().map(pad).collect();
    format!("{}\n", cells.join("  ").trim_end())
}

fn cells(row: &Row) -> [String; HEADS.len()] {
    let rates = &row.rates;
    [
        row.total.name.clone(),
        row.total.state.clone(),
        format!("{:.1}", row.cpu_percent),
        format!("{:.0}", row.mem_mib),
        rate(rates.syscalls_call + rates.syscalls_trap),
        rate(rates.syscalls_call),
        rate(rates.syscalls_trap),
        row.call_percent.map_or_else(|| "-".into(), |p| format!("{p:.1}")),
        rate(rates.hypercalls),
        rate(rates.crossings),
        rate(rates.page_faults),
    ]
}

/// A rate in a few characters: what a guest claims may be any number.
fn rate(n: f64) -> String {
    match n {
        n if n < 99_999.5 => format!("{n:.0}"),
        n if n < 9_999.5e3 => format!("{:.0}k", n / 1e3),
        n if n < 9_999.5e6 => format!("{:.0}M", n / 1e6),
        n => format!("{n:.1e}"),
    }
}

#[cfg(test)]
mod tests {
    use super::super::rates::compare;
    use super::super::sample::{parse, tests::DOCUMENT};
    use super::*;

    #[test]
    fn a_table() {
        let mut document = parse(DOCUMENT).expect("an answer");
        let mut second = document.domains[0].clone();
        (second.name, second.state, second.syscalls.call, second.syscalls.trap) = ("a-longer-name".into(), "waiting".into(), 0, 0);
        document.domains.push(second);
        assert_eq!(
            text(&compare(None, &document)),
            "NAME           STATE    CPU%  MEM MiB  SYSCALLS/s  CALL/s  TRAP/s  CALL%  HYPERCALLS/s  CROSSINGS/s  FAULTS/s\n\
             web            running  50.0       32          20      15       5   75.0            40          100         7\n\
             a-longer-name  waiting  50.0       32           0       0       0      -            40          100         7\n"
        );
    }

    #[test]
    fn rates_are_short() {
        let all = [0.4, 99_999.0, 100_000.0, 12_345_678.0, 1e19].map(rate);
        assert_eq!(all, ["0", "99999", "100k", "12M", "1.0e19"]);
    }
}
