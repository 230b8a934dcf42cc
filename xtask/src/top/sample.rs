//! What a machine answers: the X-Kernel's counters at one moment (x-kernel/src/stats/live.rs, docs/ABI.md).

use std::collections::BTreeMap;

use anyhow::{Context, Result, bail};
use serde::{Deserialize, Serialize};
use serde_json::Value;

/// What answers of this form say of themselves.
const FORMAT: u64 = 1;
/// What they begin with, and the report of the machine's end does not.
const BEGINNING: &str = "{\"now_ns\":";

/// An answer.
#[derive(Clone, Debug, Deserialize)]
pub struct Document {
    /// When it was begun, ns since the machine's boot.
    pub now_ns: u64,
    /// The domains, by their numbers.
    pub domains: Vec<Domain>,
    /// Where its memory is, in frames.
    #[serde(default)]
    pub memory: Value,
}

/// What the machine writes when it ends.
#[derive(Clone, Debug, Deserialize)]
pub struct Report {
    /// All domains that there have been.
    pub domains: Vec<Domain>,
}

/// A domain. What it has is in an answer only.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct Domain {
    pub domid: u32,
    pub name: String,
    #[serde(default)]
    pub state: String,
    /// Frames of 4 KiB that it owns.
    #[serde(default)]
    pub frames: u64,
    #[serde(default)]
    pub vcpus: Vec<Vcpu>,
    /// How long it has been there: the clock of its counters.
    pub alive_ns: u64,
    pub ran_ns: u64,
    pub crossings: u64,
    pub page_faults: u64,
    /// By name, those that were called.
    pub hypercalls: BTreeMap<String, u64>,
    pub syscalls: Syscalls,
    pub abom: Abom,
}

/// A virtual CPU.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct Vcpu {
    pub id: u32,
    pub state: String,
    pub ran_ns: u64,
}

/// System calls of a domain's programs.
#[derive(Clone, Copy, Debug, Deserialize, Serialize)]
pub struct Syscalls {
    pub trap: u64,
    /// By its kernel's own account.
    pub call: u64,
}

/// What became of their sites.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct Abom {
    pub patched: u64,
    pub declined: u64,
    pub caught: u64,
    pub patterns: BTreeMap<String, u64>,
    pub refused: BTreeMap<String, u64>,
}

impl Domain {
    /// All its hypercalls.
    pub fn hypercalls_made(&self) -> u64 {
        self.hypercalls.values().fold(0, |sum, n| sum.saturating_add(*n))
    }

    /// Counts that never fall, by name. Not `syscalls.call`, which is a claim of the guest's.
    pub fn counts(&self) -> Vec<(String, u64)> {
        let own = [
            ("alive_ns", self.alive_ns),
            ("ran_ns", self.ran_ns),
            ("crossings", self.crossings),
            ("page_faults", self.page_faults),
            ("syscalls.trap", self.syscalls.trap),
            ("abom.patched", self.abom.patched),
        ];
        let own = own.into_iter().map(|(name, n)| (name.to_string(), n));
        own.chain(self.hypercalls.iter().map(|(name, n)| (format!("hypercalls.{name}"), *n))).collect()
    }
}

/// Whether `line` is an answer, or what one begins with, and not the report of the end or the rest of a line.
pub fn is_answer(line: &str) -> bool {
    line.starts_with(BEGINNING)
}

/// Reads an answer.
///
/// # Errors
/// If it is none, or of another form.
pub fn parse(line: &str) -> Result<Document> {
    let value: Value = serde_json::from_str(line).context("the machine's answer is damaged")?;
    match value.get("format").and_then(Value::as_u64) {
        Some(FORMAT) => serde_json::from_value(value).context("the machine's answer lacks something"),
        _ => bail!("the machine's answer has another form: it was started by another version"),
    }
}

#[cfg(test)]
pub mod tests {
    use super::*;

    /// An answer as the X-Kernel writes it.
    pub const DOCUMENT: &str = concat!(
        r#"{"now_ns":2000000000,"format":1,"domains":["#,
        r#"{"domid":1,"name":"web","state":"running","frames":8192,"max_frames":8192,"weight":256,"#,
        r#""vcpus":[{"id":0,"state":"running","ran_ns":500000000}],"hypercalls":{"mmu_update":10,"iret":30},"#,
        r#""crossings":100,"syscalls_trap":5,"syscalls_call":15,"page_faults":7,"ran_ns":500000000,"alive_ns":1000000000,"#,
        r#""syscalls":{"trap":5,"call":15},"abom":{"patched":2,"declined":0,"caught":1,"patterns":{"mov_eax":2},"refused":{}}}"#,
        r#"],"cpu":{"cr3_loads":1,"switches":2,"interrupts":3},"time_ns":2000100000,"memory":{"frames":9000}}"#,
    );

    #[test]
    fn an_answer_is_read() {
        let document = parse(DOCUMENT).expect("an answer");
        let domain = &document.domains[0];
        assert_eq!((document.now_ns, domain.name.as_str(), domain.hypercalls_made(), domain.vcpus.len()), (2_000_000_000, "web", 40, 1));
        assert!(domain.counts().contains(&("hypercalls.iret".into(), 30)));
        assert!(is_answer(DOCUMENT) && !is_answer(r#"{"domains":[]}"#) && !is_answer(&DOCUMENT[2..]));
    }

    #[test]
    fn what_is_no_answer_is_refused() {
        let why = |line: &str| parse(line).map(|_| ()).expect_err("refused").to_string();
        assert!(why(&DOCUMENT[..300]).contains("damaged"));
        assert!(why(&DOCUMENT.replace(r#""format":1"#, r#""format":2"#)).contains("another version"));
        assert!(why(&DOCUMENT.replace("crossings", "crossing")).contains("lacks"));
        assert!(why(&DOCUMENT.replace(":500000000", ":-5")).contains("lacks"));
        assert!(why("").contains("damaged"));
    }
}
