//! What docs/ATTACKS.md claims: the tests that it names are in the tree, and its sums are right.

use std::collections::{BTreeMap, BTreeSet};

use regex::Regex;

use super::Finding;

const CASES: &str = "tests/cases.toml";

/// The guests that run beside the canary: those of the cases whose names begin with `neighbour/`.
fn beside_the_canary(cases: &str) -> BTreeSet<&str> {
    let guest = Regex::new(r"guest:([a-z]+)").expect("a regular expression");
    let neighbours = cases.split("[[case]]").filter(|case| case.contains("name = \"neighbour/") && case.contains("guest:canary"));
    neighbours.flat_map(|case| guest.captures_iter(case).filter_map(|c| c.get(1))).map(|m| m.as_str()).collect()
}

/// Whether there is a test `name` at `place`: a check of a guest, a case, or a function of a source file.
fn exists(place: &str, name: &str, texts: &BTreeMap<&str, &str>) -> bool {
    let has = |path: &str, what: &str| texts.get(path).is_some_and(|text| text.contains(what));
    if place == "case" {
        return has(CASES, &format!("name = \"{name}\""));
    }
    if place.ends_with(".rs") {
        return has(place, &format!("fn {name}("));
    }
    let (folder, literal) = (format!("tests/guests/{place}/"), format!("\"{name}\""));
    texts.iter().any(|(path, text)| path.starts_with(&folder) && text.contains(&literal))
}

/// Every row of a table with a column "tested by" must name tests, all of which are there, and the sums in the
/// sentence "N rows are tested, M of them by a guest beside the canary" must be theirs.
pub fn claims(path: &str, document: &str, texts: &BTreeMap<&str, &str>) -> Vec<Finding> {
    let test = Regex::new(r"`([^`:]+): ([^`]+)`").expect("a regular expression");
    let sums = Regex::new(r"\*\*(\d+) rows are tested, (\d+) of them by a guest beside the canary\*\*").expect("a regular expression");
    let canary = texts.get(CASES).map(|cases| beside_the_canary(cases)).unwrap_or_default();
    let mut findings = Vec::new();
    let (mut rows, mut beside) = (0_usize, 0_usize);
    let mut column = None;
    for (i, line) in document.lines().enumerate() {
        let cells: Vec<_> = line.split('|').map(str::trim).collect();
        if !line.starts_with('|') {
            column = None;
        } else if column.is_none() {
            // A table's head; one without the column has nothing to be looked up.
            column = Some(cells.iter().position(|&cell| cell == "tested by"));
        } else if let Some(Some(at)) = column
            && !line.starts_with("|---")
        {
            rows += 1;
            let cell = cells.get(at).copied().unwrap_or("");
            let tests: Vec<_> = test.captures_iter(cell).map(|c| c.extract::<2>().1).collect();
            if tests.is_empty() {
                findings.push(Finding::new(path, i, "the row names no test"));
            }
            for [place, name] in &tests {
                if !exists(place, name, texts) {
                    findings.push(Finding::new(path, i, format!("there is no test `{place}: {name}`")));
                }
            }
            beside += usize::from(tests.iter().any(|[place, name]| canary.contains(place) || name.starts_with("neighbour/")));
        }
    }
    let said = sums.captures(document).map(|c| c.extract::<2>().1);
    if said != Some([&rows.to_string(), &beside.to_string()]) {
        findings.push(Finding::new(path, 0, format!("{rows} rows are tested, {beside} of them by a guest beside the canary")));
    }
    findings
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(sums: &str, cell: &str) -> Vec<String> {
        let cases = "[[case]]\nname = \"neighbour/mmu\"\nguest = { kernel = \"guest:mmu\", domain = [\"kernel=guest:canary\"] }\n\
            [[case]]\nname = \"guests/tlb\"\nguest.kernel = \"guest:tlb\"\n";
        let texts = BTreeMap::from([
            (CASES, cases),
            ("tests/guests/mmu/types.rs", "equal(\"a table in itself\", 1, 2);"),
            ("tests/guests/tlb/main.rs", "holds(\"stale\", true);"),
            ("a/tests.rs", "fn sums() {}"),
        ]);
        let document =
            format!("**{sums}**\n\n| advisory | tested by |\n|---|---|\n| 1 | {cell} |\n\n| advisory | why |\n|---|---|\n| 2 | no |\n");
        claims("docs/ATTACKS.md", &document, &texts).into_iter().map(|f| f.what).collect()
    }

    #[test]
    fn what_is_named_is_there() {
        const BESIDE: &str = "1 rows are tested, 1 of them by a guest beside the canary";
        const ALONE: &str = "1 rows are tested, 0 of them by a guest beside the canary";
        assert!(found(BESIDE, "`mmu: a table in itself` `a/tests.rs: sums`").is_empty());
        assert!(found(BESIDE, "`case: neighbour/mmu`").is_empty());
        assert!(found(ALONE, "`tlb: stale`").is_empty());
        assert!(found(ALONE, "`case: guests/tlb`").is_empty());
        for lie in ["`mmu: a table`", "`tlb: a table in itself`", "`case: neighbour/none`", "`a/tests.rs: sum`", "`none: stale`"] {
            assert!(found(ALONE, lie).iter().any(|f| f.starts_with("there is no test")), "{lie}");
        }
        assert!(found(ALONE, "tlb").contains(&"the row names no test".to_string()));
    }

    #[test]
    fn the_sums_are_right() {
        assert_eq!(found("2 rows are tested, 0 of them by a guest beside the canary", "`tlb: stale`").len(), 1);
        assert_eq!(found("1 rows are tested, 1 of them by a guest beside the canary", "`tlb: stale`").len(), 1);
        assert_eq!(found("some rows", "`tlb: stale`").len(), 1);
    }
}
