//! Colours and type, the same in figures and on the page.

/// A series' colour each, of the palette by Okabe and Ito, which people see apart who see red and green as one: grey and
/// the warm ones are others', the blues and the green are X-Containers.
pub const COLOURS: [&str; 6] = ["#8a8a8a", "#e69f00", "#cc5500", "#56b4e9", "#0072b2", "#009e73"];

/// The rules of a figure. It is readable on white by itself, and follows the reader's wish for dark where that is known.
pub fn figure() -> String {
    let bars: String = COLOURS.iter().enumerate().map(|(i, colour)| format!(".s{i} {{ fill: {colour}; }}\n")).collect();
    format!(
        "text {{ font-family: system-ui, 'DejaVu Sans', sans-serif; fill: #222; }}
.title {{ font-size: 17px; font-weight: 600; }}
.note, .tick, .value {{ fill: #555; }}
.note {{ font-size: 12px; }}
.tick {{ font-size: 11px; }}
.value {{ font-size: 10.5px; }}
.label, .key {{ font-size: 12.5px; }}
.grid {{ stroke: #e2e2e2; stroke-width: 1; }}
.axis {{ stroke: #777; stroke-width: 1; }}
.ground {{ fill: #fff; }}
{bars}@media (prefers-color-scheme: dark) {{
text {{ fill: #eee; }}
.note, .tick, .value {{ fill: #bbb; }}
.grid {{ stroke: #3a3a3a; }}
.axis {{ stroke: #999; }}
.ground {{ fill: #16181c; }}
}}
"
    )
}

/// The rules of the page.
pub const PAGE: &str = "
:root { color-scheme: light dark; --ink: #222; --dim: #5c5c5c; --ground: #fff; --line: #ddd; --band: #f5f6f8; --good: #007a5a; --bad: #b34700; }
@media (prefers-color-scheme: dark) { :root { --ink: #eee; --dim: #aaa; --ground: #16181c; --line: #383b42; --band: #1e2127; --good: #3ecf9f; --bad: #ff9d52; } }
body { margin: 0 auto; max-width: 1040px; padding: 24px 20px 80px; font: 16px/1.5 system-ui, 'DejaVu Sans', sans-serif; color: var(--ink); background: var(--ground); }
h1 { font-size: 28px; margin: 0 0 4px; } h2 { font-size: 21px; margin: 44px 0 8px; } h3 { font-size: 16px; margin: 24px 0 4px; }
p, li { max-width: 76ch; } .dim { color: var(--dim); }
nav a { margin-right: 16px; } a { color: inherit; }
figure { margin: 20px 0; } figure svg { width: 100%; height: auto; display: block; }
.wide { overflow-x: auto; }
table { border-collapse: collapse; font-size: 14px; font-variant-numeric: tabular-nums; width: 100%; }
th, td { padding: 4px 8px; text-align: right; white-space: nowrap; border-bottom: 1px solid var(--line); }
th:first-child, td:first-child, td.words, th.words { text-align: left; }
thead th { border-bottom: 2px solid var(--line); font-weight: 600; }
td.none { color: var(--dim); } td.ours { font-weight: 600; }
td.met { color: var(--good); font-weight: 600; } td.missed { color: var(--bad); font-weight: 600; }
details { margin: 8px 0; } summary { cursor: pointer; padding: 4px 0; font-weight: 600; }
dl { display: grid; grid-template-columns: max-content 1fr; gap: 2px 16px; font-size: 14px; } dt { color: var(--dim); } dd { margin: 0; overflow-wrap: anywhere; }
.key { display: inline-block; width: 12px; height: 12px; margin-right: 6px; border-radius: 2px; }
.sums { display: flex; gap: 28px; margin: 16px 0; flex-wrap: wrap; } .sums b { display: block; font-size: 30px; line-height: 1.1; }
.share { display: inline-block; height: 9px; background: #0072b2; border-radius: 2px; vertical-align: middle; margin-right: 8px; }
";
