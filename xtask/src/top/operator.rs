//! An operator, as a test: what it waits for in the log, says to the machine, and wants to hear.

use std::fs::File;
use std::io::Read;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use regex::Regex;
use serde::Deserialize;

use super::ask::{Answer, Asker};
use super::kill::kill;
use super::place::Running;
use super::port::{Line, Port};
use super::rates;
use super::sample::Document;

/// Between two looks at the log.
const LOOK: Duration = Duration::from_millis(100);
/// How long the machine may take to answer.
const PATIENCE: Duration = Duration::from_secs(60);

/// What an operator does next.
#[derive(Clone, Debug, Deserialize)]
#[serde(untagged)]
pub enum Step {
    /// Waits until lines have come, since the step before, that match: each of the expressions, so many times.
    Sees(Sees),
    /// Ends a container, and waits for the X-Kernel's line about it.
    Kills(Kills),
    /// Sends a line to the statistics port, and wants an answer that matches.
    Says(Says),
    /// Looks twice at the counters, and wants a domain to have had so much of the processor in between.
    Shares(Shares),
}

/// See [`Step::Sees`].
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Sees {
    sees: Vec<String>,
    #[serde(default = "once")]
    times: usize,
}

/// See [`Step::Kills`].
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Kills {
    kills: String,
}

/// See [`Step::Says`].
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Says {
    says: String,
    hears: String,
}

/// See [`Step::Shares`]: percent by domain, and for how long, in seconds of the machine's.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Shares {
    shares: std::collections::BTreeMap<String, f64>,
    over: u64,
}

fn once() -> usize {
    1
}

/// An operator of a machine that will be there, and its log.
pub struct Operator {
    running: Running,
    log: Follower,
}

/// An operator at work, in a thread.
pub struct Working<T> {
    thread: JoinHandle<Result<T>>,
    ended: Arc<AtomicBool>,
    /// Set when something was not as it should be: then the machine need not go on.
    pub given_up: Arc<AtomicBool>,
}

/// Lets an operator do `work` with the machine that will be at `running` and whose log is going to be `log`.
///
/// # Errors
/// If an old log is in the way.
pub fn begin<T: Send + 'static>(
    running: &Running,
    log: PathBuf,
    work: impl FnOnce(&mut Operator) -> Result<T> + Send + 'static,
) -> Result<Working<T>> {
    if log.exists() {
        std::fs::remove_file(&log)?;
    }
    let ended = Arc::new(AtomicBool::new(false));
    let log = Follower { path: log, file: None, rest: Vec::new(), ended: ended.clone() };
    let mut operator = Operator { running: running.clone(), log };
    let given_up = Arc::new(AtomicBool::new(false));
    let gives_up = given_up.clone();
    let work = move || work(&mut operator).inspect_err(|_| gives_up.store(true, Ordering::Relaxed));
    Ok(Working { thread: std::thread::spawn(work), ended, given_up })
}

/// Takes all `steps`.
///
/// # Errors
/// What was not as it should be.
pub fn take(steps: &[Step], operator: &mut Operator) -> Result<()> {
    steps.iter().enumerate().try_for_each(|(i, step)| step.take(operator).with_context(|| format!("the operator's step {}", i + 1)))
}

impl<T> Working<T> {
    /// What came of it, once the machine has ended.
    ///
    /// # Errors
    /// What was not as it should be.
    pub fn done(self) -> Result<T> {
        self.ended.store(true, Ordering::Relaxed);
        self.thread.join().unwrap_or_else(|_| Err(anyhow::anyhow!("the operator's thread died")))
    }
}

impl Operator {
    /// Waits until `times` lines have come, since the last wait, that match.
    ///
    /// # Errors
    /// If the machine ends before.
    pub fn sees(&mut self, line: &str, times: usize) -> Result<()> {
        self.log.wait(&[Regex::new(line)?], times)
    }

    /// Ends the container `name`.
    ///
    /// # Errors
    /// If it is not there, or there is no answer.
    pub fn kills(&self, name: &str) -> Result<()> {
        kill(&self.running, name, PATIENCE)
    }

    /// The counters.
    ///
    /// # Errors
    /// If the machine does not give them.
    pub fn looks(&self) -> Result<Document> {
        look(&mut Asker::connect(&self.running)?)
    }
}

fn look(asker: &mut Asker) -> Result<Document> {
    match asker.ask(PATIENCE)? {
        Answer::Document(document) => Ok(*document),
        Answer::End => bail!("the machine ended before it had given its counters"),
    }
}

impl Step {
    /// The expressions in it.
    ///
    /// # Errors
    /// If one is malformed.
    pub fn expressions(&self) -> Result<Vec<Regex>> {
        let all = match self {
            Self::Sees(Sees { sees, .. }) => sees.clone(),
            Self::Kills(Kills { kills }) => vec![format!(r"^X-Kernel: domain [0-9]+ \({}\): killed by the operator", regex::escape(kills))],
            Self::Says(Says { hears, .. }) => vec![hears.clone()],
            Self::Shares(_) => Vec::new(),
        };
        all.iter().map(|text| Ok(Regex::new(text)?)).collect()
    }

    fn take(&self, operator: &mut Operator) -> Result<()> {
        let Operator { running, log } = operator;
        let expressions = self.expressions()?;
        match self {
            Self::Sees(Sees { times, .. }) => log.wait(&expressions, *times),
            Self::Kills(Kills { kills }) => {
                kill(running, kills, PATIENCE)?;
                log.wait(&expressions, 1)
            }
            Self::Says(Says { says, .. }) => says_and_hears(running, says, &expressions),
            Self::Shares(shares) => shares.judge(running),
        }
    }
}

fn says_and_hears(running: &Running, says: &str, hears: &[Regex]) -> Result<()> {
    let mut port = Port::open(running)?;
    port.say(format!("{says}\n").as_bytes())?;
    match port.first(PATIENCE, |line| hears.iter().all(|h| h.is_match(line)).then_some(()))? {
        Line::Whole(()) => Ok(()),
        Line::NotYet => bail!("'{says}' was not answered as it should be"),
        Line::End => bail!("the machine ended before it had answered '{says}'"),
    }
}

impl Shares {
    fn judge(&self, running: &Running) -> Result<()> {
        let mut asker = Asker::connect(running)?;
        let before = look(&mut asker)?;
        let after = loop {
            let now = look(&mut asker)?;
            if now.now_ns.saturating_sub(before.now_ns) >= self.over.saturating_mul(1_000_000_000) {
                break now;
            }
            std::thread::sleep(LOOK);
        };
        let rows = rates::compare(Some(&before), &after).rows;
        let all: Vec<_> = rows.iter().map(|r| format!("{} {:.1} %", r.total.name, r.cpu_percent)).collect();
        eprintln!("xtask: shares of the processor: {}", all.join(", "));
        for (name, least) in &self.shares {
            let row = rows.iter().find(|r| r.total.name == *name).with_context(|| format!("there is no domain {name}"))?;
            ensure!(row.cpu_percent >= *least, "{name} had less than {least} % of the processor: {}", all.join(", "));
        }
        Ok(())
    }
}

/// Reads a log as it grows.
struct Follower {
    path: PathBuf,
    file: Option<File>,
    /// The beginning of a line.
    rest: Vec<u8>,
    /// The machine has ended.
    ended: Arc<AtomicBool>,
}

impl Follower {
    /// Waits until each of `wanted` has matched `times` of the lines that come from now on.
    fn wait(&mut self, wanted: &[Regex], times: usize) -> Result<()> {
        let mut counts = vec![0; wanted.len()];
        loop {
            let ended = self.ended.load(Ordering::Relaxed);
            while let Some(line) = self.line()? {
                for (count, expression) in counts.iter_mut().zip(wanted) {
                    *count += usize::from(expression.is_match(&line));
                }
                if counts.iter().all(|n| *n >= times) {
                    return Ok(());
                }
            }
            if ended {
                let missing = counts.iter().zip(wanted).find(|(n, _)| **n < times);
                bail!("the machine ended too early: {:?} of {times} lines for each of {wanted:?}", missing.map(|(n, _)| n));
            }
            std::thread::sleep(LOOK);
        }
    }

    /// The next line, if it is whole.
    fn line(&mut self) -> Result<Option<String>> {
        if self.file.is_none() {
            self.file = File::open(&self.path).ok();
        }
        let Some(file) = &mut self.file else { return Ok(None) };
        file.read_to_end(&mut self.rest)?;
        let Some(end) = self.rest.iter().position(|b| *b == b'\n') else { return Ok(None) };
        let line: Vec<u8> = self.rest.drain(..=end).collect();
        Ok(Some(String::from_utf8_lossy(&line).trim_end().to_string()))
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    fn steps(text: &str) -> Vec<Step> {
        #[derive(Deserialize)]
        struct Steps {
            operator: Vec<Step>,
        }
        toml::from_str::<Steps>(&format!("operator = [{text}]")).expect("steps").operator
    }

    #[test]
    fn steps_are_told_apart() {
        let all = steps("{ sees = ['a'] }, { kills = 'a.b' }, { says = 'x', hears = 'y' }, { shares = { a = 40.0 }, over = 5 }");
        assert!(matches!(&*all, [Step::Sees(s), Step::Kills(_), Step::Says(_), Step::Shares(_)] if s.times == 1));
        let kill = all[1].expressions().expect("expressions").remove(0);
        assert!(
            kill.is_match("X-Kernel: domain 2 (a.b): killed by the operator") && !kill.is_match("[x] X-Kernel: domain 2 (a.b): killed by")
        );
        assert!(steps("{ sees = ['('] }")[0].expressions().is_err());
    }

    #[test]
    fn a_log_is_followed() {
        let path = std::env::temp_dir().join(format!("xtask-operator-{}", std::process::id()));
        let ended = Arc::new(AtomicBool::new(false));
        let mut follower = Follower { path: path.clone(), file: None, rest: Vec::new(), ended: ended.clone() };
        let wanted = |text: &str| [Regex::new(text).expect("an expression")];
        let mut log = File::create(&path).expect("a file");
        log.write_all(b"a 1\r\nb\na 2\na").expect("written");
        follower.wait(&wanted("^a [0-9]$"), 1).expect("one");
        follower.wait(&wanted("^a [0-9]$"), 1).expect("another");
        log.write_all(b" 3\n").expect("written");
        ended.store(true, Ordering::Relaxed);
        // Lines before do not count, what came before the end does.
        assert!(follower.wait(&wanted("^a [0-9]$"), 2).is_err());
        std::fs::remove_file(path).expect("removed");
    }
}
