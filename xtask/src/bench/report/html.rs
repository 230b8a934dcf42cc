//! The page: one file that needs no other.

use std::fmt::Write;

use super::chart::escaped;
use super::document::{Cell, Document, Goal, Profile};
use super::figures::Figure;
use super::goals::OURS;
use super::style::{COLOURS, PAGE};
use super::tables::{self, HYPERCALL, number, verdict};

/// What the numbers do not say.
const NOT_SAID: &str = "<ul>
<li>Nothing here is a speed. An instruction is not a nanosecond, and an emulator's crossing costs what the emulator's code
costs. Counts carry over to hardware, times do not.</li>
<li>Fewer instructions are not fewer cycles: flushes of the TLB, locked instructions and cache misses are not weighed.</li>
<li>Instructions beside another system's are shown for the eye, not as a factor: its kernel is the same, its hypervisor is
not. Factors are of ours beside ours.</li>
<li>One vCPU on one CPU. Loopback is the only network, and files lie in memory.</li>
<li>A page-table entry that the hypervisor writes when it emulates a faulting write is counted as a crossing, not as an
entry by hypercall.</li>
</ul>";

/// The whole page. Strings are written to, which cannot fail.
pub fn page(document: &Document, figures: &[Figure]) -> String {
    let mut out = format!(
        "<!doctype html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n<meta name=\"viewport\" content=\"width=device-width, \
         initial-scale=1\">\n<title>X-Containers beside their peers</title>\n<style>{PAGE}</style>\n</head>\n<body>\n\
         <h1>X-Containers beside their peers</h1>\n<p class=\"dim\">The same programs on kernels of the same source, counted from \
         outside, {} times each. {}.</p>\n<nav><a href=\"#goals\">Goals</a><a href=\"#figures\">Figures</a><a href=\"#profiles\">Where it \
         goes</a><a href=\"#tables\">Tables</a><a href=\"#machine\">Machine</a></nav>\n",
        document.facts.runs,
        escaped(&document.facts.date)
    );
    columns(&mut out, document);
    goals(&mut out, document);
    out.push_str("<h2 id=\"figures\">Figures</h2>\n");
    for figure in figures {
        let _ = writeln!(out, "<figure id=\"{}\">{}</figure>", figure.name, figure.svg);
    }
    if !document.profiles.is_empty() {
        out.push_str("<h2 id=\"profiles\">Where the instructions go</h2>\n<p>Of the work whose goal was missed, by function of X-Kernel and kernel.</p>\n");
        document.profiles.iter().for_each(|p| profile(&mut out, p, document));
    }
    all_tables(&mut out, document);
    machine(&mut out, document);
    let _ = writeln!(out, "<h2>What this does not say</h2>\n{NOT_SAID}\n</body>\n</html>");
    out
}

fn columns(out: &mut String, document: &Document) {
    out.push_str("<ul style=\"list-style:none;padding:0\">\n");
    for (heading, colour) in document.columns.iter().zip(COLOURS) {
        let _ = writeln!(
            out,
            "<li><span class=\"key\" style=\"background:{colour}\"></span><b>{}</b> <span class=\"dim\">{}</span></li>",
            escaped(&heading.name),
            escaped(&heading.meaning)
        );
    }
    out.push_str("</ul>\n");
}

fn headings(document: &Document) -> String {
    document.columns.iter().map(|c| format!("<th>{}</th>", escaped(&c.name))).collect()
}

/// A cell of a table, with what it is on hovering.
fn td(cell: &Cell, class: &str) -> String {
    match cell {
        Cell::Measured { value, spread } => {
            format!("<td class=\"{class}\" title=\"{value:.4}; runs {:.2} % apart\">{}</td>", spread * 100.0, number(*value))
        }
        Cell::NotMeasured { not_measured } => format!("<td class=\"none\" title=\"not measured: {}\">–</td>", escaped(not_measured)),
    }
}

fn tds(cells: &[Cell], document: &Document) -> String {
    let class = |i: usize| if document.columns.get(i).is_some_and(|c| c.name == OURS) { "ours" } else { "" };
    cells.iter().enumerate().map(|(i, c)| td(c, class(i))).collect()
}

fn goals(out: &mut String, document: &Document) {
    let count = |met: Option<bool>| document.goals.iter().filter(|g| g.met == met).count();
    let _ = writeln!(
        out,
        "<h2 id=\"goals\">Goals</h2>\n<div class=\"sums\"><span><b>{}</b>met</span><span><b>{}</b>missed</span><span><b>{}</b>not \
         measured</span></div>\n<div class=\"wide\"><table><thead><tr><th>no.</th><th class=\"words\">what</th><th>goal</th><th>ours</th>\
         <th></th>{}</tr></thead><tbody>",
        count(Some(true)),
        count(Some(false)),
        count(None),
        headings(document)
    );
    for goal in &document.goals {
        let Goal { number, what, goal: limit, ours, peers, .. } = goal;
        let class = match goal.met {
            Some(true) => "met",
            Some(false) => "missed",
            None => "none",
        };
        let indent = if what.starts_with(' ') { " style=\"padding-left:26px\"" } else { "" };
        let _ = writeln!(
            out,
            "<tr><td>{number}</td><td class=\"words\"{indent}>{}</td><td>{limit}</td>{}<td class=\"{class}\">{}</td>{}</tr>",
            escaped(what.trim()),
            td(ours, "ours"),
            verdict(goal),
            tds(peers, document)
        );
    }
    out.push_str("</tbody></table></div>\n");
}

fn profile(out: &mut String, profile: &Profile, document: &Document) {
    let sum: f64 = profile.functions.iter().map(|(_, n)| n).sum::<f64>() + profile.others;
    let _ = writeln!(
        out,
        "<details><summary>{}, {}: {} instructions each time</summary>\n<div class=\"wide\"><table><tbody>",
        escaped(&profile.work),
        escaped(&profile.column),
        number(sum)
    );
    let others = [("all others".to_string(), profile.others)];
    for (name, each) in profile.functions.iter().chain(&others) {
        let share = each / sum.max(1.0) * 100.0;
        let _ = writeln!(
            out,
            "<tr><td class=\"words\">{}</td><td>{}</td><td class=\"words\"><span class=\"share\" style=\"width:{:.0}px\"></span>{share:.1} %</td></tr>",
            escaped(name),
            number(*each),
            share * 3.0
        );
    }
    out.push_str("</tbody></table></div>\n");
    let calls = document.rows.iter().filter(|r| r.work == profile.work && r.what.starts_with(HYPERCALL));
    let mut calls: Vec<_> = calls.filter_map(|r| Some((&r.what, document.cell(&r.work, &r.what, &profile.column).value()?))).collect();
    calls.retain(|(_, n)| *n >= 0.05);
    calls.sort_by(|a, b| b.1.total_cmp(&a.1));
    let calls: Vec<_> = calls.iter().map(|(what, n)| format!("{} {}", what.trim_start_matches(HYPERCALL), number(*n))).collect();
    if !calls.is_empty() {
        let _ = writeln!(out, "<p>Hypercalls each time: {}.</p>", escaped(&calls.join(", ")));
    }
    out.push_str("</details>\n");
}

fn all_tables(out: &mut String, document: &Document) {
    out.push_str("<h2 id=\"tables\">Tables</h2>\n");
    let (calls, others): (Vec<_>, Vec<_>) = tables::quantities(document).into_iter().partition(|(_, what, _)| what.starts_with(HYPERCALL));
    others.iter().for_each(|quantity| table(out, document, quantity));
    out.push_str("<details><summary>hypercalls by name</summary>\n");
    calls.iter().for_each(|quantity| table(out, document, quantity));
    out.push_str("</details>\n");
}

fn table(out: &mut String, document: &Document, (part, what, unit): &(String, String, String)) {
    let _ = writeln!(
        out,
        "<details><summary>{}, {}</summary><div class=\"wide\"><table><thead><tr><th></th>{}</tr></thead><tbody>",
        escaped(what),
        escaped(unit),
        headings(document)
    );
    for row in document.rows.iter().filter(|r| r.part == *part && r.what == *what && r.unit == *unit) {
        let _ = writeln!(out, "<tr><td>{}</td>{}</tr>", escaped(&row.work), tds(&row.cells, document));
    }
    out.push_str("</tbody></table></div></details>\n");
}

fn machine(out: &mut String, document: &Document) {
    let facts = &document.facts;
    out.push_str("<h2 id=\"machine\">Machine</h2>\n<dl>\n");
    let mut line = |what: &str, text: &str| _ = writeln!(out, "<dt>{what}</dt><dd>{}</dd>", escaped(text));
    line("commit", &facts.commit);
    line("command", &facts.command);
    line("emulator", &facts.emulator);
    line("machine", &facts.machine);
    line("host", &facts.host);
    facts.kernels.iter().for_each(|k| line("kernel", k));
    facts.hypervisors.iter().for_each(|h| line("hypervisor", h));
    facts.programs.iter().for_each(|p| line("program", p));
    line("mitigations", &facts.mitigations);
    if !facts.nanoseconds.is_empty() {
        line("nanoseconds", &format!("not measured: {}", facts.nanoseconds));
    }
    out.push_str("</dl>\n");
}

#[cfg(test)]
mod tests {
    use super::super::document::tests::example;
    use super::super::{figures, goals};
    use super::*;

    #[test]
    fn the_page_is_whole_and_needs_no_other() {
        let mut document = example();
        document.goals = goals::judge(&document);
        let page = page(&document, &figures::all(&document));
        assert!(page.starts_with("<!doctype html>") && page.ends_with("</html>\n"));
        assert!(!page.contains("src=") && !page.contains("<link") && !page.contains("<script"));
        assert!(page.contains("title=\"not measured: no kernel\"") && page.contains("fork, &quot;exec&quot;"));
        assert!(page.contains("class=\"met\">met</td>"));
    }
}
