//! What documents say of each other and of the code.
//!
//! That docs/ABI.md has every operation of the ABI, with its number, is a test of the crate `xen-abi`; here is that
//! the hypercall table's handlers are the ones that the document names.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Component, Path, PathBuf};

use regex::Regex;

use super::Finding;

/// Rows of the X-Kernel's table, `nr, path::of::handler;`, must name the hypercall that docs/ABI.md has at `nr`.
pub fn hypercalls(path: &str, source: &str, document: &str) -> Vec<Finding> {
    let mut names = BTreeMap::new();
    let section = document.split_once("\n## Hypercalls").map_or("", |(_, rest)| rest);
    for line in section.split("\n## ").next().unwrap_or("").lines() {
        let cells: Vec<_> = line.trim_matches('|').split('|').map(str::trim).collect();
        if let [nr, name, ..] = cells[..]
            && let Ok(nr) = nr.parse::<u64>()
        {
            names.insert(nr, name.trim_matches('`').to_string());
        }
    }
    let mut findings = Vec::new();
    let mut rows = 0;
    let mut inside = false;
    for (i, line) in source.lines().enumerate() {
        if !inside || line.starts_with('}') {
            inside = line.starts_with("hypercalls! {");
            continue;
        }
        let Some((nr, handler)) = line.trim().trim_end_matches(';').split_once(',') else { continue };
        let Ok(nr) = nr.trim().parse::<u64>() else { continue };
        rows += 1;
        let handler = handler.rsplit("::").next().unwrap_or("").trim();
        match names.get(&nr) {
            None => findings.push(Finding::new(path, i, format!("docs/ABI.md has no hypercall {nr}"))),
            Some(name) if name != handler => {
                findings.push(Finding::new(path, i, format!("hypercall {nr} goes to {handler}; docs/ABI.md calls it {name}")));
            }
            Some(_) => {}
        }
    }
    if rows == 0 {
        findings.push(Finding::new(path, 0, "no table of hypercalls found"));
    }
    findings
}

/// The anchors that a document's headings make.
fn anchors(text: &str) -> BTreeSet<String> {
    let mut fenced = false;
    let mut found = BTreeSet::new();
    for line in text.lines() {
        if line.starts_with("```") {
            fenced = !fenced;
        } else if !fenced && line.starts_with('#') {
            let title = line.trim_start_matches('#').trim().to_lowercase();
            let kept = title.chars().filter(|c| c.is_alphanumeric() || matches!(c, ' ' | '-' | '_'));
            found.insert(kept.map(|c| if c == ' ' { '-' } else { c }).collect());
        }
    }
    found
}

/// `a/b/../c` without its dots; None if it leaves the tree.
fn plain(path: &Path) -> Option<PathBuf> {
    let mut out = PathBuf::new();
    for part in path.components() {
        match part {
            Component::Normal(name) => out.push(name),
            Component::CurDir => {}
            Component::ParentDir if out.pop() => {}
            _ => return None,
        }
    }
    Some(out)
}

/// Every relative link of the document at `path` leads to a tracked file or folder, and to a heading in it. `read`
/// gives a tracked file's text, the empty one for a folder.
pub fn links(path: &str, text: &str, read: impl Fn(&str) -> Option<String>) -> Vec<Finding> {
    let link = Regex::new(r"\]\(([^)\s]+)\)").expect("a regular expression");
    let folder = Path::new(path).parent().unwrap_or(Path::new(""));
    let mut findings = Vec::new();
    for (i, line) in text.lines().enumerate() {
        for target in link.captures_iter(line).filter_map(|c| c.get(1)).map(|m| m.as_str()) {
            if target.contains("://") || target.starts_with("mailto:") {
                continue;
            }
            let (file, anchor) = target.split_once('#').unwrap_or((target, ""));
            let file = if file.is_empty() { Some(PathBuf::from(path)) } else { plain(&folder.join(file)) };
            let Some(there) = file.as_deref().and_then(Path::to_str).and_then(&read) else {
                findings.push(Finding::new(path, i, format!("the link {target} leads nowhere")));
                continue;
            };
            if !anchor.is_empty() && !anchors(&there).contains(anchor) {
                findings.push(Finding::new(path, i, format!("the link {target}: no such heading")));
            }
        }
    }
    findings
}

/// Pieces of a message that are shorter are in every source.
const SHORTEST: usize = 5;

/// A source's text with its strings as they are printed: quotes without backslashes, and lines that go on joined.
pub fn printed(source: &str) -> String {
    let joined = Regex::new(r"\\\n\s*").expect("a regular expression");
    joined.replace_all(source, "").replace("\\\"", "\"")
}

/// In tables whose first column is called `message`, each message in backquotes is in one of `sources` (as [`printed`]), but
/// for what differs, which is written `…`.
pub fn messages(path: &str, text: &str, sources: &[String]) -> Vec<Finding> {
    let mut findings = Vec::new();
    let mut inside = false;
    for (i, line) in text.lines().enumerate() {
        let first = line.strip_prefix('|').and_then(|l| l.split(" | ").next()).map(str::trim);
        inside = first == Some("message") || inside && first.is_some();
        let message = first.and_then(|f| f.strip_prefix('`')).and_then(|f| f.strip_suffix('`')).filter(|_| inside);
        for piece in message.iter().flat_map(|m| m.split('…')).map(str::trim).filter(|p| p.len() >= SHORTEST) {
            if !sources.iter().any(|s| s.contains(piece)) {
                findings.push(Finding::new(path, i, format!("no source prints '{piece}'")));
            }
        }
    }
    findings
}

#[cfg(test)]
mod tests {
    use super::*;

    const DOCUMENT: &str = "# A\n\n## Hypercalls\n\n| nr | hypercall |\n|---|---|\n| 1 | `mmu_update` |\n\n## Other\n\n| 2 | `x` |\n";

    #[test]
    fn the_table_agrees_with_the_document() {
        let table = |row: &str| format!("hypercalls! {{\n    {row}\n}}\n");
        assert!(hypercalls("h.rs", &table("1,  mmu::mmu_update;"), DOCUMENT).is_empty());
        assert_eq!(hypercalls("h.rs", &table("1,  mmu::set_gdt;"), DOCUMENT).len(), 1);
        assert_eq!(hypercalls("h.rs", &table("2,  other::x;"), DOCUMENT).len(), 1);
        assert_eq!(hypercalls("h.rs", "fn main() {}\n", DOCUMENT).len(), 1);
    }

    #[test]
    fn links_lead_somewhere() {
        let read = |path: &str| match path {
            "docs/A.md" => Some("# One two\n```\n# no\n```\n".to_string()),
            "x-kernel" => Some(String::new()),
            _ => None,
        };
        for good in ["[a](A.md)", "[a](A.md#one-two)", "[a](#one-two)", "[a](../x-kernel/)", "[a](https://b.c/d)"] {
            assert!(links("docs/A.md", good, read).is_empty(), "{good}");
        }
        for bad in ["[a](B.md)", "[a](A.md#two)", "[a](A.md#no)", "[a](../../x)", "[a](docs/A.md)"] {
            assert_eq!(links("docs/A.md", bad, read).len(), 1, "{bad}");
        }
    }

    #[test]
    fn messages_are_printed_somewhere() {
        let sources = [printed("log!(\"no {} for \\\"{}\\\", and that is \\\n    all\")")];
        let table = |row: &str| format!("| message | cause |\n|---|---|\n| {row} | x |\n\n| theirs |\n| `never said` |\n");
        for good in ["`… for \"…\", and that is all`", "whatever it is", "`no`"] {
            assert!(messages("T.md", &table(good), &sources).is_empty(), "{good}");
        }
        assert_eq!(messages("T.md", &table("`and that is everything`"), &sources).len(), 1);
    }
}
