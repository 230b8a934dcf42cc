//! `top`: what the domains of a running machine do, from the X-Kernel's counters.
//!
//! A machine that `run` has started can be spoken to by a pipe (`place`, `port`); `ask` asks and reads the answers,
//! `sample` says what is in them, `rates` compares two, `table` shows that. `kill` ends domains. `trial` is asking as a
//! test, `operator` all of it.

pub mod ask;
pub mod kill;
pub mod operator;
pub mod place;
mod port;
pub mod rates;
pub mod sample;
mod table;
pub mod trial;

use std::io::{ErrorKind, IsTerminal, Write};
use std::process::ExitCode;
use std::time::Duration;

use anyhow::Result;
use clap::Args;

use ask::{Answer, Asker};
use place::Running;
use rates::Look;

/// How long a machine may take for an answer. It writes one within a second or so; one that boots takes longer.
const PATIENCE: Duration = Duration::from_secs(10);

/// `top`.
#[derive(Args, Clone, Debug)]
pub struct TopArgs {
    /// A JSON object for each look, on a line of its own, with rates and totals
    #[arg(long)]
    json: bool,
    /// Seconds between looks
    #[arg(long, default_value = "2", value_parser = seconds)]
    interval: Duration,
    /// One look, with rates since each domain began
    #[arg(long)]
    once: bool,
    /// Number of the run; without it the newest
    run: Option<u32>,
}

fn seconds(text: &str) -> Result<Duration, String> {
    let wrong = || format!("'{text}' is not a number of seconds from 0.1 to 86400");
    let seconds: f64 = text.parse().map_err(|_| wrong())?;
    if !(0.1..=86400.0).contains(&seconds) {
        return Err(wrong());
    }
    Duration::try_from_secs_f64(seconds).map_err(|_| wrong())
}

/// Looks again and again, until the machine or whoever reads has had enough.
pub fn run(args: &TopArgs) -> Result<ExitCode> {
    let running = place::find(args.run)?;
    let mut asker = Asker::connect(&running)?;
    let mut screen = Screen { json: args.json, in_place: std::io::stdout().is_terminal(), lines: 0 };
    let mut before = None;
    loop {
        let now = match asker.ask(PATIENCE)? {
            Answer::Document(document) => document,
            Answer::End => {
                eprintln!("xtask: run {} has ended", running.number);
                return Ok(ExitCode::SUCCESS);
            }
        };
        if !screen.show(&running, &rates::compare(before.as_ref(), &now))? || args.once {
            return Ok(ExitCode::SUCCESS);
        }
        before = Some(*now);
        std::thread::sleep(args.interval);
    }
}

/// Where looks are shown.
struct Screen {
    json: bool,
    /// A terminal: a look takes the place of the one before.
    in_place: bool,
    /// Lines of the last one.
    lines: usize,
}

impl Screen {
    /// Shows a look; false if nobody reads any more.
    fn show(&mut self, running: &Running, look: &Look) -> Result<bool> {
        let text = if self.json {
            format!("{}\n", look.json(running.number))
        } else {
            format!("run {}: {}\n{}", running.number, running.what, table::text(look))
        };
        let mut out = std::io::stdout().lock();
        let back = match self.lines {
            0 => String::new(),
            lines => format!("\x1b[{lines}A\x1b[J"),
        };
        if self.in_place && !self.json {
            self.lines = text.lines().count();
        }
        match write!(out, "{back}{text}").and_then(|()| out.flush()) {
            Err(error) if error.kind() == ErrorKind::BrokenPipe => Ok(false),
            written => Ok(written.map(|()| true)?),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn intervals() {
        assert_eq!(seconds("0.5"), Ok(Duration::from_millis(500)));
        for wrong in ["", "0", "-1", "nan", "inf", "1e9", "two"] {
            assert!(seconds(wrong).is_err(), "{wrong}");
        }
    }
}
