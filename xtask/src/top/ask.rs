//! Asking a machine: a byte goes to its statistics port, a line comes back.
//!
//! The port has room for one who asks; the others are told so, by the lock of the machine's note. What was being
//! answered when its asker left may still come, and a request may be lost while the machine writes or boots: so lines that
//! are no answers are passed over, and the request is made again.

use std::fs::File;
use std::io::{ErrorKind, Read, Write};
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

use super::place::Running;
use super::sample::{self, Document};

/// How long until the request is made again.
const AGAIN: Duration = Duration::from_secs(1);
/// How many times as long as without a sign of life it may take in all.
const LONG: u32 = 60;
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
    stream: UnixStream,
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
        let stream =
            UnixStream::connect(&running.socket).with_context(|| format!("run {number} cannot be asked: its machine is not there"))?;
        Ok(Self { stream, rest: Vec::new(), heard: Instant::now(), _turn: turn })
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
            if gone(self.stream.write_all(b"?"))?.is_none() {
                return Ok(Answer::End);
            }
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
        self.stream.set_nonblocking(true)?;
        while self.receive()? == Got::Bytes {
            let end = self.rest.iter().rposition(|b| *b == b'\n').map_or(0, |at| at + 1);
            self.rest.drain(..end);
        }
        Ok(self.stream.set_nonblocking(false)?)
    }

    /// The next line, if it comes within `patience`.
    fn line(&mut self, patience: Duration) -> Result<Line> {
        let start = Instant::now();
        loop {
            if let Some(end) = self.rest.iter().position(|b| *b == b'\n') {
                let line: Vec<u8> = self.rest.drain(..=end).collect();
                return Ok(Line::Whole(String::from_utf8_lossy(&line).trim().to_string()));
            }
            let Some(left) = patience.checked_sub(start.elapsed()).filter(|left| !left.is_zero()) else { return Ok(Line::NotYet) };
            self.stream.set_read_timeout(Some(left))?;
            if self.receive()? == Got::End {
                return Ok(Line::End);
            }
        }
    }

    fn receive(&mut self) -> Result<Got> {
        let mut chunk = [0; 4096];
        match self.stream.read(&mut chunk) {
            Ok(0) => Ok(Got::End),
            Ok(n) => {
                self.heard = Instant::now();
                self.rest.extend_from_slice(&chunk[..n]);
                if self.rest.len() > LONGEST {
                    bail!("the machine says too much");
                }
                Ok(Got::Bytes)
            }
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut | ErrorKind::Interrupted) => Ok(Got::Nothing),
            Err(error) => Ok(gone(Err(error))?.map_or(Got::End, |()| Got::Nothing)),
        }
    }
}

/// None if it failed because the machine is not there any more.
fn gone(done: std::io::Result<()>) -> Result<Option<()>> {
    match done {
        Err(error) if matches!(error.kind(), ErrorKind::BrokenPipe | ErrorKind::ConnectionReset) => Ok(None),
        done => Ok(Some(done?)),
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
    use std::os::unix::net::UnixListener;

    use super::super::place::Place;
    use super::super::sample::tests::DOCUMENT;
    use super::*;

    /// An asker, and what it asks.
    fn pair(name: &str) -> (Place, UnixListener, Asker, UnixStream) {
        let place = Place::new(&format!("ask-{name}-{}", std::process::id()), 5, "x".into()).expect("a place").expect("a short path");
        let listener = UnixListener::bind(&place.running().socket).expect("a socket");
        let asker = Asker::connect(place.running()).expect("connected");
        let (machine, _) = listener.accept().expect("accepted");
        (place, listener, asker, machine)
    }

    #[test]
    fn what_is_no_answer_is_passed_over() {
        let (_place, _listener, mut asker, mut machine) = pair("over");
        machine.write_all(format!("\"tail\":1}}\n{DOCUMENT}\n{{\"now_").as_bytes()).expect("written");
        let answering = std::thread::spawn(move || {
            let mut byte = [0];
            machine.read_exact(&mut byte).expect("a request");
            // The one that had begun, then the report of the end, then nothing.
            machine.write_all(format!("{}\r\n{{\"domains\":[]}}\r\n", DOCUMENT.trim_start_matches("{\"now_")).as_bytes()).expect("written");
        });
        assert!(matches!(asker.ask(PATIENCE), Ok(Answer::Document(d)) if d.now_ns == 2_000_000_000));
        answering.join().expect("answered");
        assert!(matches!(asker.ask(PATIENCE), Ok(Answer::End)));
    }

    const PATIENCE: Duration = Duration::from_secs(5);

    #[test]
    fn whoever_does_not_answer_is_told_of() {
        let (place, _listener, mut asker, mut machine) = pair("not");
        let why = asker.ask(Duration::from_millis(10)).expect_err("no answer").to_string();
        assert!(why.contains("does not answer"), "{why}");
        machine.write_all(b"{\"now_ns\":1,\"format\":2}\n").expect("written");
        let mut later = Asker {
            stream: asker.stream.try_clone().expect("a clone"),
            rest: Vec::new(),
            heard: Instant::now(),
            _turn: File::open(&place.running().note).expect("open"),
        };
        let why = later.ask_without_forgetting().expect_err("another form").to_string();
        assert!(why.contains("another version"), "{why}");
        let second = Asker::connect(place.running()).expect_err("another one asks").to_string();
        assert!(second.contains("watched by another"), "{second}");
    }

    impl Asker {
        fn ask_without_forgetting(&mut self) -> Result<Document> {
            match self.line(PATIENCE)? {
                Line::Whole(line) => sample::parse(&line),
                Line::NotYet | Line::End => bail!("no line"),
            }
        }
    }
}
