//! Asking a machine: a byte goes to its statistics port, a line comes back, in a file.
//!
//! One may ask at a time; the others are told so, by the lock of the machine's note. What was being answered when the one
//! before left may still come, and a request may be lost while the machine writes or boots: so lines that are no answers
//! are passed over, and the request is made again.

use std::fs::{File, OpenOptions};
use std::io::{Read, Seek, SeekFrom, Write};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

use super::place::Running;
use super::sample::{self, Document};

/// How long until the request is made again.
const AGAIN: Duration = Duration::from_secs(1);
/// How many times as long as without a sign of life it may take in all.
const LONG: u32 = 60;
/// Between two looks for more of an answer.
const LOOK: Duration = Duration::from_millis(20);
/// How much is read at a time.
const CHUNK: u64 = 1 << 16;
/// More than any answer has.
const LONGEST: usize = 64 << 20;

/// What came back.
#[derive(Debug)]
pub enum Answer {
    /// The counters.
    Document(Box<Document>),
    /// Nothing: the machine has ended.
    End,
}

/// One who asks a machine.
#[derive(Debug)]
pub struct Asker {
    running: Running,
    requests: File,
    answers: File,
    /// What has come of the next line.
    rest: Vec<u8>,
    /// When anything came last.
    heard: Instant,
    /// Holds the note's lock.
    _turn: File,
}

impl Asker {
    /// Whoever asks `running` from now on.
    ///
    /// # Errors
    /// If it is gone, or another one asks it.
    pub fn connect(running: &Running) -> Result<Self> {
        let number = running.number;
        let turn = File::open(&running.note).with_context(|| format!("run {number} has ended"))?;
        if turn.try_lock().is_err() {
            bail!("run {number} is watched by another `cargo xtask top` already");
        }
        let not_there = || format!("run {number} cannot be asked: its machine is not there");
        // To read, too: so it waits for nobody at the other end.
        let requests = OpenOptions::new().read(true).write(true).open(running.requests()).with_context(not_there)?;
        let mut answers = File::open(running.answers()).with_context(not_there)?;
        answers.seek(SeekFrom::End(0))?;
        Ok(Self { running: running.clone(), requests, answers, rest: Vec::new(), heard: Instant::now(), _turn: turn })
    }

    /// Asks, and waits for the answer, up to `patience` while nothing comes. With many domains it is a long one.
    ///
    /// # Errors
    /// If there is none, or none that is understood.
    pub fn ask(&mut self, patience: Duration) -> Result<Answer> {
        let start = Instant::now();
        self.forget()?;
        self.heard = start;
        while self.heard.elapsed() < patience && start.elapsed() < patience * LONG {
            self.requests.write_all(b"?")?;
            let again = Instant::now();
            while let Some(left) = AGAIN.checked_sub(again.elapsed()).filter(|left| !left.is_zero()) {
                match self.line(left)? {
                    Line::Whole(line) if sample::is_answer(&line) => return Ok(Answer::Document(Box::new(sample::parse(&line)?))),
                    Line::Whole(_) | Line::NotYet => {}
                    Line::End => return Ok(Answer::End),
                }
            }
        }
        bail!("the machine does not answer: it boots, hangs, or was started by another version")
    }

    /// Throws away what has come unasked, but for the beginning of a line.
    fn forget(&mut self) -> Result<()> {
        while self.receive()? == Got::Bytes {
            let end = self.rest.iter().rposition(|b| *b == b'\n').map_or(0, |at| at + 1);
            self.rest.drain(..end);
        }
        Ok(())
    }

    /// The next line, if it comes within `patience`.
    fn line(&mut self, patience: Duration) -> Result<Line> {
        let start = Instant::now();
        loop {
            if let Some(end) = self.rest.iter().position(|b| *b == b'\n') {
                let line: Vec<u8> = self.rest.drain(..=end).collect();
                return Ok(Line::Whole(String::from_utf8_lossy(&line).trim().to_string()));
            }
            if start.elapsed() >= patience {
                return Ok(Line::NotYet);
            }
            match self.receive()? {
                Got::Bytes => {}
                Got::Nothing => std::thread::sleep(LOOK),
                Got::End => return Ok(Line::End),
            }
        }
    }

    fn receive(&mut self) -> Result<Got> {
        let gone = self.running.is_gone();
        let before = self.rest.len();
        // No more than a part: who is called by `line` looks at it at once.
        (&self.answers).take(CHUNK).read_to_end(&mut self.rest)?;
        if self.rest.len() == before {
            return Ok(if gone { Got::End } else { Got::Nothing });
        }
        self.heard = Instant::now();
        if self.rest.len() > LONGEST {
            bail!("the machine says too much");
        }
        Ok(Got::Bytes)
    }
}

/// What comes next.
enum Line {
    Whole(String),
    NotYet,
    End,
}

/// What a read has got.
#[derive(Eq, PartialEq)]
enum Got {
    Bytes,
    Nothing,
    End,
}

#[cfg(test)]
mod tests {
    use super::super::place::Place;
    use super::super::sample::tests::DOCUMENT;
    use super::*;

    const PATIENCE: Duration = Duration::from_secs(5);

    /// An asker, and the machine that it asks: what comes to its port, and what that says.
    fn pair(name: &str) -> (Place, Asker, File, File) {
        let number = std::process::id();
        let place = Place::new(&format!("ask-{name}-{number}"), number, "x".into()).expect("a place");
        let asker = Asker::connect(place.running()).expect("connected");
        let requests = OpenOptions::new().read(true).write(true).open(place.running().requests()).expect("a pipe");
        let answers = OpenOptions::new().append(true).open(place.running().answers()).expect("a file");
        (place, asker, requests, answers)
    }

    fn forget(running: &Running) {
        std::fs::remove_file(running.answers()).expect("removed");
    }

    #[test]
    fn what_is_no_answer_is_passed_over() {
        let (place, mut asker, mut requests, mut answers) = pair("over");
        let running = place.running().clone();
        answers.write_all(format!("\"tail\":1}}\n{DOCUMENT}\n{{\"now_").as_bytes()).expect("written");
        let answering = std::thread::spawn(move || {
            let mut byte = [0];
            requests.read_exact(&mut byte).expect("a request");
            // The one that had begun, then the report of the end, then nothing.
            answers.write_all(format!("{}\r\n{{\"domains\":[]}}\r\n", DOCUMENT.trim_start_matches("{\"now_")).as_bytes()).expect("written");
            drop(place);
        });
        assert!(matches!(asker.ask(PATIENCE), Ok(Answer::Document(d)) if d.now_ns == 2_000_000_000));
        answering.join().expect("answered");
        assert!(matches!(asker.ask(PATIENCE), Ok(Answer::End)));
        forget(&running);
    }

    #[test]
    fn whoever_does_not_answer_is_told_of() {
        let (place, mut asker, _requests, mut answers) = pair("not");
        let why = asker.ask(Duration::from_millis(10)).expect_err("no answer").to_string();
        assert!(why.contains("does not answer"), "{why}");
        answers.write_all(b"{\"now_ns\":1,\"format\":2}\n").expect("written");
        let line = asker.line(PATIENCE).expect("a line");
        let why = if let Line::Whole(line) = line { sample::parse(&line).expect_err("another form").to_string() } else { String::new() };
        assert!(why.contains("another version"), "{why}");
        let second = Asker::connect(place.running()).expect_err("another one asks").to_string();
        assert!(second.contains("watched by another"), "{second}");
        forget(place.running());
    }
}
