//! A machine's statistics port, from outside: bytes go in by a pipe, lines come by a file, which anybody may read.

use std::fs::{File, OpenOptions};
use std::io::{Read, Seek, SeekFrom, Write};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

use super::place::Running;

/// Between two looks for more.
const LOOK: Duration = Duration::from_millis(20);
/// How much is read at a time.
const CHUNK: u64 = 1 << 16;
/// More than any line has.
const LONGEST: usize = 64 << 20;

/// A port, and what has come of it since it was opened.
#[derive(Debug)]
pub struct Port {
    running: Running,
    requests: File,
    answers: File,
    /// What has come of the next line.
    rest: Vec<u8>,
    /// When anything came last.
    heard: Instant,
}

/// What comes next.
pub enum Line<T = String> {
    /// A line, without its end; or what was made of one.
    Whole(T),
    /// Nothing, for so long.
    NotYet,
    /// Nothing: the machine has ended.
    End,
}

/// What a read has got.
#[derive(Eq, PartialEq)]
enum Got {
    Bytes,
    Nothing,
    End,
}

impl Port {
    /// The port of a machine; what that says from now on.
    ///
    /// # Errors
    /// If it is not there.
    pub fn open(running: &Running) -> Result<Self> {
        let not_there = || format!("run {} cannot be asked: its machine is not there", running.number);
        // To read, too: so it waits for nobody at the other end.
        let requests = OpenOptions::new().read(true).write(true).open(running.requests()).with_context(not_there)?;
        let mut answers = File::open(running.answers()).with_context(not_there)?;
        answers.seek(SeekFrom::End(0))?;
        Ok(Self { running: running.clone(), requests, answers, rest: Vec::new(), heard: Instant::now() })
    }

    /// When anything came last.
    pub fn heard(&self) -> Instant {
        self.heard
    }

    /// Sends `bytes`, at once and in one piece: others may send, too.
    ///
    /// # Errors
    /// If the pipe is broken.
    pub fn say(&mut self, bytes: &[u8]) -> Result<()> {
        Ok(self.requests.write_all(bytes)?)
    }

    /// Throws away what has come unasked, but for the beginning of a line.
    ///
    /// # Errors
    /// If the file cannot be read.
    pub fn forget(&mut self) -> Result<()> {
        while self.receive()? == Got::Bytes {
            let end = self.rest.iter().rposition(|b| *b == b'\n').map_or(0, |at| at + 1);
            self.rest.drain(..end);
        }
        Ok(())
    }

    /// The next line, if it comes within `patience`.
    ///
    /// # Errors
    /// If the file cannot be read, or the line is too long.
    pub fn line(&mut self, patience: Duration) -> Result<Line> {
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

    /// The first of the lines that come within `patience` of which `take` makes something.
    ///
    /// # Errors
    /// As those of [`Self::line`].
    pub fn first<T>(&mut self, patience: Duration, mut take: impl FnMut(&str) -> Option<T>) -> Result<Line<T>> {
        let start = Instant::now();
        loop {
            match self.line(patience.saturating_sub(start.elapsed()))? {
                Line::Whole(line) => {
                    if let Some(made) = take(&line) {
                        return Ok(Line::Whole(made));
                    }
                }
                Line::NotYet => return Ok(Line::NotYet),
                Line::End => return Ok(Line::End),
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
