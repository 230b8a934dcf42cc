//! Asking a machine for its counters: a question goes to its statistics port, a line comes back.
//!
//! One may ask at a time; the others are told so, by the lock of the machine's note. What was being answered when the one
//! before left may still come, and a request may be lost while the machine writes or boots: so lines that are no answers
//! are passed over, and the request is made again.

use std::fs::File;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

use super::place::Running;
use super::port::{Line, Port};
use super::sample::{self, Document};

/// How long until the request is made again.
const AGAIN: Duration = Duration::from_secs(1);
/// How many times as long as without a sign of life it may take in all.
const LONG: u32 = 60;

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
    port: Port,
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
        Ok(Self { port: Port::open(running)?, _turn: turn })
    }

    /// Asks, and waits for the answer, up to `patience` while nothing comes. With many domains it is a long one.
    ///
    /// # Errors
    /// If there is none, or none that is understood.
    pub fn ask(&mut self, patience: Duration) -> Result<Answer> {
        let start = Instant::now();
        self.port.forget()?;
        while self.port.heard().max(start).elapsed() < patience && start.elapsed() < patience * LONG {
            self.port.say(b"?")?;
            match self.port.first(AGAIN, |line| sample::is_answer(line).then(|| sample::parse(line)))? {
                Line::Whole(document) => return Ok(Answer::Document(Box::new(document?))),
                Line::NotYet => {}
                Line::End => return Ok(Answer::End),
            }
        }
        bail!("the machine does not answer: it boots, hangs, or was started by another version")
    }
}

#[cfg(test)]
mod tests {
    use std::fs::OpenOptions;
    use std::io::{Read, Write};

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
        let line = asker.port.line(PATIENCE).expect("a line");
        let why = if let Line::Whole(line) = line { sample::parse(&line).expect_err("another form").to_string() } else { String::new() };
        assert!(why.contains("another version"), "{why}");
        let second = Asker::connect(place.running()).expect_err("another one asks").to_string();
        assert!(second.contains("watched by another"), "{second}");
        forget(place.running());
    }
}
