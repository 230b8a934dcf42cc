//! Sites as they are found in the wild, one in each line of `corpus.txt`, and what becomes of them.

use abom::hop::hop;
use abom::{Code, Facts, Inside, Pattern, Plan, Reach, RedZone, Refusal, Seen, Table, Ways, gaps, plan};

const BASE: u64 = 0x10_0000;
const STUBS: u64 = 0x20_0000;

struct Line<'a> {
    name: &'a str,
    bytes: Vec<u8>,
    site: usize,
    view: &'a str,
    expected: String,
}

fn lines() -> Vec<Line<'static>> {
    let text = include_str!("corpus.txt");
    let lines = text.lines().filter(|l| !l.is_empty() && !l.starts_with('#'));
    lines
        .map(|line| {
            let [name, code, view, expected] = line.split('|').map(str::trim).collect::<Vec<_>>()[..] else { panic!("{line}") };
            let mut bytes = Vec::new();
            let mut site = None;
            for word in code.split_whitespace() {
                if word.starts_with('[') {
                    site = Some(bytes.len());
                }
                bytes.push(u8::from_str_radix(word.trim_matches(['[', ']']), 16).unwrap_or_else(|e| panic!("{line}: {e}")));
            }
            Line { name, bytes, site: site.expect("a site"), view, expected: expected.replace(' ', "") }
        })
        .collect()
}

/// The plan for a line, in one word.
fn outcome(line: &Line<'_>) -> String {
    let mut all = vec![0x90; 64];
    all.extend(&line.bytes);
    all.extend([0xcc; 64]);
    let code = Code::new(&all, BASE - 64);
    let starts: Vec<u64> = code.starts(BASE).collect();
    let site = BASE + line.site as u64;
    let without = Table::new(Table::X_CONTAINER.any(), 510).expect("in reach");
    let table = if matches!(line.view, "jump" | "gaps") { Table::X_CONTAINER } else { without };
    let seen = Seen { rax: 39, rsp: 0x7fff_0000, ..Seen::default() };
    let entered = [site];
    let taken = [std::ops::Range { start: BASE + 5, end: BASE + 7 }];
    let bytes = Facts { starts: None, inside: Inside::Caught, red_zone: RedZone::Unknown, taken: &[], tail: None, page: None, seen: None };
    let facts = match line.view {
        "whole" => Facts { starts: Some(&starts), inside: Inside::Entered(&[]), red_zone: RedZone::Unused, ..bytes },
        "entered" => Facts { starts: Some(&starts), inside: Inside::Entered(&entered), red_zone: RedZone::Unused, ..bytes },
        "cut" => Facts { starts: Some(&starts), inside: Inside::Unknown, red_zone: RedZone::Unused, ..bytes },
        "seen" => Facts { seen: Some(seen), ..bytes },
        "backwards" => Facts { seen: Some(Seen { rflags: 0x400, ..seen }), ..bytes },
        "taken" => Facts { taken: &taken, ..bytes },
        "gaps" => Facts { starts: Some(&starts), ..bytes },
        "call" | "jump" | "nostub" => bytes,
        other => panic!("{other}"),
    };
    let hex = |bytes: &[u8]| bytes.iter().map(|b| format!("{b:02x}")).collect::<String>();
    if line.view == "gaps" {
        let ways = Ways { table, stubs: None };
        return match hop(&code, site, &ways, &facts, &gaps::find(&code, &starts), &mut |_| None) {
            Err(refusal) => refusal.name().to_string(),
            Ok(hop) => {
                let all: String = [&hop.site].into_iter().chain(&hop.gaps).map(|p| hex(p.new_bytes())).collect();
                format!("{}{all}", hop.site.how()).replace(' ', "")
            }
        };
    }
    let stubs = (line.view != "nostub").then_some(Reach::Near);
    match plan(&code, site, &Ways { table, stubs }, &facts) {
        Err(refusal) => refusal.name().to_string(),
        Ok(Plan::Call(patch)) => format!("{}{}", patch.how(), hex(patch.new_bytes())).replace(' ', ""),
        Ok(Plan::Stub(stub)) => {
            let (_, placed) = stub.first_fit(STUBS, STUBS + 0x1000_0000).expect("a place");
            format!("{}{}", placed.patch.how(), hex(&placed.patch.new_bytes()[..1])).replace(' ', "")
        }
    }
}

#[test]
fn sites_become_what_the_corpus_says() {
    let wrong: Vec<String> =
        lines().iter().filter(|l| outcome(l) != l.expected).map(|l| format!("{}: {}, not {}", l.name, outcome(l), l.expected)).collect();
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[test]
fn every_pattern_and_refusal_has_a_line() {
    let all: Vec<String> = lines().into_iter().map(|l| l.expected).collect();
    for pattern in Pattern::ALL {
        assert!(all.iter().any(|e| e.starts_with(pattern.name())), "{pattern:?}");
    }
    for refusal in Refusal::ALL {
        assert!(all.iter().any(|e| e == refusal.name()), "{refusal:?}");
    }
}
