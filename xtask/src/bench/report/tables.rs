//! Tables, for a terminal and for other programs.

use super::document::{Cell, Document, Goal};

/// A number with as many digits as say something.
pub fn number(value: f64) -> String {
    match value.abs() {
        n if n >= 1e6 => format!("{:.1} M", value / 1e6),
        n if n >= 100.0 => grouped(value.round()),
        n if n >= 10.0 || n == 0.0 || (n.fract() == 0.0 && n < 10.0) => format!("{value:.1}"),
        _ => format!("{value:.2}"),
    }
}

/// With a comma at each thousand.
fn grouped(value: f64) -> String {
    let digits = format!("{value:.0}");
    let mut out = String::new();
    for (i, c) in digits.chars().enumerate() {
        if i > 0 && (digits.len() - i).is_multiple_of(3) && !out.ends_with('-') {
            out.push(',');
        }
        out.push(c);
    }
    out
}

/// A cell for a table.
pub fn cell(cell: &Cell) -> String {
    cell.value().map_or_else(|| "–".to_string(), number)
}

/// What became of a goal.
pub fn verdict(goal: &Goal) -> &'static str {
    match goal.met {
        Some(true) => "met",
        Some(false) => "missed",
        None => "not measured",
    }
}

/// The works of a part that `what` is counted of, in their order.
pub fn quantities(document: &Document) -> Vec<(String, String, String)> {
    let mut found: Vec<(String, String, String)> = Vec::new();
    for row in &document.rows {
        let key = (row.part.clone(), row.what.clone(), row.unit.clone());
        if !found.contains(&key) {
            found.push(key);
        }
    }
    found
}

/// What names of quantities begin with that are of one hypercall.
pub const HYPERCALL: &str = "hypercall ";

/// All tables, for a terminal.
pub fn text(document: &Document) -> String {
    let mut out = String::new();
    let heading: String = document.columns.iter().map(|c| format!(" {:>11}", c.name)).collect();
    // What the document has of each hypercall is for those who look for something.
    for (part, what, unit) in quantities(document).into_iter().filter(|(_, what, _)| !what.starts_with(HYPERCALL)) {
        out.push_str(&format!("\n{what}, {unit}\n{:<26}{heading}\n", ""));
        for row in document.rows.iter().filter(|r| r.part == part && r.what == what && r.unit == unit) {
            let cells: String = row.cells.iter().map(|c| format!(" {:>11}", cell(c))).collect();
            out.push_str(&format!("{:<26}{cells}\n", row.work));
        }
    }
    out.push_str(&format!("\ngoals\n{:<3}{:<44}{:>10}{:>11} {:<13}{heading}\n", "", "", "goal", "ours", ""));
    for goal in &document.goals {
        let peers: String = goal.peers.iter().map(|c| format!(" {:>11}", cell(c))).collect();
        out.push_str(&format!(
            "{:>2} {:<44}{:>10}{:>11} {:<13}{peers}\n",
            goal.number,
            goal.what,
            goal.goal,
            cell(&goal.ours),
            verdict(goal)
        ));
    }
    for profile in &document.profiles {
        out.push_str(&format!("\nwhere the instructions of {} go, {}, each time\n", profile.work, profile.column));
        for (name, each) in profile.functions.iter().take(12) {
            out.push_str(&format!("{:>12}  {name}\n", number(*each)));
        }
    }
    if !document.facts.nanoseconds.is_empty() {
        out.push_str(&format!("\nnanoseconds: not measured: {}\n", document.facts.nanoseconds));
    }
    let mut reasons: Vec<_> = document.rows.iter().flat_map(|r| &r.cells).filter_map(reason).collect();
    reasons.sort_unstable();
    reasons.dedup();
    reasons.iter().for_each(|why| out.push_str(&format!("–: not measured: {why}\n")));
    out
}

fn reason(cell: &Cell) -> Option<&str> {
    match cell {
        Cell::NotMeasured { not_measured } => Some(not_measured),
        Cell::Measured { .. } => None,
    }
}

/// A field of a line of comma-separated values.
fn field(text: &str) -> String {
    if text.contains([',', '"', '\n']) { format!("\"{}\"", text.replace('"', "\"\"")) } else { text.into() }
}

/// Each cell a line.
pub fn csv(document: &Document) -> String {
    let mut out = "part,work,what,unit,column,value,spread,not measured\n".to_string();
    for row in &document.rows {
        for (heading, cell) in document.columns.iter().zip(&row.cells) {
            let (value, spread, why) = match cell {
                Cell::Measured { value, spread } => (value.to_string(), spread.to_string(), String::new()),
                Cell::NotMeasured { not_measured } => (String::new(), String::new(), not_measured.clone()),
            };
            let fields = [&row.part, &row.work, &row.what, &row.unit, &heading.name, &value, &spread, &why];
            out.push_str(&fields.map(|f| field(f)).join(","));
            out.push('\n');
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::super::document::tests::example;
    use super::*;

    #[test]
    fn numbers_have_the_digits_that_say_something() {
        let shown = [0.0, 1.0, 0.26, 19.14, 142.8, 12_345.6, 1_749_452.0].map(number);
        assert_eq!(shown, ["0.0", "1.0", "0.26", "19.1", "143", "12,346", "1.7 M"]);
    }

    #[test]
    fn lines_of_values_can_be_read_by_others() {
        let text = csv(&example());
        let lines: Vec<_> = text.lines().collect();
        assert_eq!(lines.len(), 5);
        assert_eq!(lines[1], "operation,getpid,crossings,once,native,1,0,");
        assert_eq!(lines[3], "operation,\"fork, \"\"exec\"\"\",instructions,once,native,,,no kernel");
    }

    #[test]
    fn what_was_not_measured_says_why() {
        let text = text(&example());
        assert!(text.contains("getpid                             1.0         0.0\n"), "{text}");
        assert!(text.contains("–: not measured: no kernel\n"), "{text}");
    }
}
