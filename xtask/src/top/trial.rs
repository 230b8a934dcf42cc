//! A machine that is asked while a test runs on it: counts rise, and agree with the report of its end.

use std::collections::BTreeMap;
use std::fs::OpenOptions;
use std::io::Write;
use std::path::Path;
use std::thread::JoinHandle;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use serde::Deserialize;

use super::ask::{Answer, Asker};
use super::place::Running;
use super::sample::{self, Document, Domain, Report};

/// How a machine is asked.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq)]
#[serde(rename_all = "kebab-case")]
pub enum Trial {
    /// Twice, as `top` does.
    Twice,
    /// By questions, and commands that ask for nothing that is there, without end: as many as the port takes.
    Flood,
}

/// Between two requests.
const BETWEEN: Duration = Duration::from_millis(500);
/// What a flood is made of, and what answers to its commands begin with.
const FLOOD: &[u8] = b"?kill nobody\nshoot\n";
const ERROR: &str = "{\"error\":";
/// Answers of each kind that a flood must bring.
const ENOUGH: usize = 5;

/// One who asks, in a thread.
pub struct Asking(JoinHandle<Result<Vec<Document>>>);

/// Asks the machine that will be at `running`, waiting up to `patience` for each answer.
pub fn begin(trial: Trial, running: &Running, patience: Duration) -> Asking {
    let running = running.clone();
    Asking(std::thread::spawn(move || match trial {
        Trial::Twice => twice(&running, patience),
        Trial::Flood => flood(&running),
    }))
}

impl Asking {
    /// What is wrong with the answers, and with what the machine has written to `file`.
    pub fn faults(self, file: &Path) -> Vec<String> {
        let judged = self.0.join().map_err(|_| anyhow::anyhow!("the asking thread died")).and_then(|answers| {
            let answers = answers?;
            let text = std::fs::read_to_string(file).context("the machine has written no statistics")?;
            Ok(judge(&answers, &text))
        });
        judged.unwrap_or_else(|error| vec![format!("asked while it ran: {error:#}")])
    }
}

fn twice(running: &Running, patience: Duration) -> Result<Vec<Document>> {
    let mut asker = Asker::connect(running)?;
    let mut answers = Vec::new();
    for _ in 0..2 {
        match asker.ask(patience)? {
            Answer::Document(document) => answers.push(*document),
            Answer::End => bail!("the machine ended before it had answered twice"),
        }
        std::thread::sleep(BETWEEN);
    }
    Ok(answers)
}

fn flood(running: &Running) -> Result<Vec<Document>> {
    // Opened when the machine opens its end, and broken when it ends.
    let mut pouring = OpenOptions::new().write(true).open(running.requests())?;
    while pouring.write_all(&FLOOD.repeat(16)).is_ok() {}
    let text = std::fs::read_to_string(running.answers())?;
    let answers: Vec<_> = text.lines().filter(|l| sample::is_answer(l)).map(sample::parse).collect::<Result<_>>()?;
    let errors = text.lines().filter(|l| l.starts_with(ERROR)).count();
    if answers.len() < ENOUGH || errors < ENOUGH {
        bail!("a flood of requests brought {} answers, and {errors} that are errors", answers.len());
    }
    Ok(answers)
}

/// What is wrong with `answers` and with all that the machine wrote: each line must be whole, the last one the report, and
/// no count may fall.
fn judge(answers: &[Document], text: &str) -> Vec<String> {
    let mut faults = Vec::new();
    if let ([first, ..], [.., last]) = (answers, answers)
        && !last
            .domains
            .iter()
            .any(|d| first.domains.iter().any(|e| e.domid == d.domid && e.ran_ns < d.ran_ns && e.crossings < d.crossings))
    {
        faults.push("no domain's counts rose between two looks".into());
    }
    let lines: Vec<_> = text.lines().map(str::trim).filter(|l| !l.is_empty() && !l.starts_with(ERROR)).collect();
    let Some((report, looks)) = lines.split_last() else { return vec!["the machine has written no report".into()] };
    let mut counts = BTreeMap::new();
    for look in looks {
        match sample::parse(look) {
            Ok(document) => faults.extend(fallen(&mut counts, &document.domains)),
            Err(error) => faults.push(format!("an answer is not whole: {error:#}")),
        }
    }
    match serde_json::from_str::<Report>(report) {
        Ok(report) => {
            faults.extend(fallen(&mut counts, &report.domains));
            let missing = counts.keys().find(|(id, _)| !report.domains.iter().any(|d| d.domid == *id));
            faults.extend(missing.map(|(id, _)| format!("domain {id} is not in the report")));
        }
        Err(error) => faults.push(format!("the report is not whole: {error}")),
    }
    faults
}

/// Those of the domains' counts that are less than in `before`, which becomes what they are now.
fn fallen(before: &mut BTreeMap<(u32, String), u64>, domains: &[Domain]) -> Vec<String> {
    let mut faults = Vec::new();
    for domain in domains {
        for (name, now) in domain.counts() {
            let then = before.insert((domain.domid, name.clone()), now).unwrap_or(0);
            if now < then {
                faults.push(format!("{name} of domain {} fell from {then} to {now}", domain.domid));
            }
        }
    }
    faults
}

#[cfg(test)]
mod tests {
    use super::super::sample::tests::DOCUMENT;
    use super::*;

    fn later() -> String {
        DOCUMENT.replace("\"crossings\":100", "\"crossings\":200").replace("\"ran_ns\":500000000", "\"ran_ns\":600000000")
    }

    fn report(of: &str) -> String {
        let domains = of.split_once("\"domains\":").expect("domains").1;
        format!("{{\"domains\":{domains}")
    }

    #[test]
    fn answers_are_judged() {
        let document = |line: &str| sample::parse(line).expect("an answer");
        let rising = [document(DOCUMENT), document(&later())];
        let text = |lines: &[&str]| lines.join("\r\n");
        assert_eq!(judge(&rising, &text(&[DOCUMENT, &later(), &report(&later()), ""])), [""; 0]);
        assert_eq!(judge(&[rising[0].clone(), rising[0].clone()], &text(&[&report(&later())])).len(), 1);
        assert_eq!(judge(&rising, "").len(), 1);
        // Counts that fall; a line that is cut; a report that is none, or lacks a domain.
        assert_eq!(judge(&rising, &text(&[&later(), &report(DOCUMENT)])).len(), 2);
        assert_eq!(judge(&rising, &text(&[&DOCUMENT[..99], &report(&later())])).len(), 1);
        assert_eq!(judge(&rising, &text(&[DOCUMENT, &later()[..99]])).len(), 1);
        assert!(!judge(&rising, &text(&[DOCUMENT, "{\"domains\":[]}"])).is_empty());
    }
}
