//! `kill`: ends containers of a running machine, by the operator's word to the X-Kernel.
//!
//! Whoever watches the machine with `top` need not stop: commands have lines of their own, and answers lie in a file.

use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::{Result, bail};
use clap::Args;
use serde_json::Value;

use super::place::{self, Running};
use super::port::{Line, Port};

/// How long until the command is sent again: a machine that boots may have lost it.
const AGAIN: Duration = Duration::from_secs(2);
/// How long a machine may take. An answer waits until the counters that are on their way are out.
const PATIENCE: Duration = Duration::from_secs(60);

/// `kill`.
#[derive(Args, Clone, Debug)]
pub struct KillArgs {
    /// Number of the run; without it the newest
    #[arg(long)]
    run: Option<u32>,
    /// Containers, by their names as `top` shows them, or their domains' numbers
    #[arg(required = true, value_parser = name)]
    names: Vec<String>,
}

fn name(text: &str) -> Result<String, String> {
    let good = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_');
    let fine = (1..32).contains(&text.len()) && text.chars().all(good);
    fine.then(|| text.to_string()).ok_or_else(|| format!("'{text}' is no container's name"))
}

/// Ends containers one after the other; those that are there end even if another one is not.
pub fn run(args: &KillArgs) -> Result<ExitCode> {
    let running = place::find(args.run)?;
    let mut all = ExitCode::SUCCESS;
    for name in &args.names {
        match kill(&running, name, PATIENCE) {
            Ok(()) => println!("{name}"),
            Err(error) => {
                eprintln!("xtask: {error:#}");
                all = ExitCode::FAILURE;
            }
        }
    }
    Ok(all)
}

/// Ends the container `name`, and waits for the X-Kernel's word that it is ended.
///
/// # Errors
/// If there is none of that name, or no answer.
pub fn kill(running: &Running, name: &str, patience: Duration) -> Result<()> {
    let mut port = Port::open(running)?;
    let start = Instant::now();
    while start.elapsed() < patience {
        // Behind whatever another one has left unfinished.
        port.say(format!("\nkill {name}\n").as_bytes())?;
        match port.first(AGAIN, |line| answer(line, name))? {
            Line::Whole(done) => return done,
            Line::NotYet => {}
            Line::End => bail!("run {} has ended", running.number),
        }
    }
    bail!("the machine does not answer: it boots, hangs, or was started by another version")
}

/// What `line` says of the command to end `name`; nothing if it is about something else.
fn answer(line: &str, name: &str) -> Option<Result<()>> {
    let value: Value = serde_json::from_str(line).ok()?;
    let error = value.get("error").and_then(Value::as_str);
    if let Some(why) = error.filter(|why| why.split([' ', ',']).any(|word| word == name)) {
        return Some(Err(anyhow::anyhow!("{why}")));
    }
    let number = value.get("domid").map(Value::to_string);
    let killed = value.get("killed").and_then(Value::as_str)?;
    (killed == name || number.as_deref() == Some(name)).then_some(Ok(()))
}

#[cfg(test)]
mod tests {
    use super::super::place::Place;
    use super::*;

    #[test]
    fn answers_are_about_names() {
        let killed = r#"{"killed":"web-1","domid":2}"#;
        let fine = |name| answer(killed, name).map(|done| done.is_ok());
        assert_eq!((fine("web-1"), fine("2"), fine("web"), fine("1")), (Some(true), Some(true), None, None));
        let error = r#"{"error":"kill: there is no domain web, or several"}"#;
        assert_eq!(answer(error, "web").map(|done| done.is_ok()), Some(false));
        assert!(answer(error, "web-1").is_none() && answer("{\"now_ns\":", "web").is_none());
        for wrong in ["", "a b", "a/b", "a\nkill", &"a".repeat(32)] {
            assert!(name(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_command_is_a_line() {
        use std::io::{Read, Write};
        let number = std::process::id();
        let place = Place::new(&format!("kill-{number}"), number, "x".into()).expect("a place");
        let running = place.running().clone();
        let mut pipe = std::fs::OpenOptions::new().read(true).write(true).open(running.requests()).expect("a pipe");
        let machine = std::thread::spawn(move || {
            let mut bytes = [0; 8];
            pipe.read_exact(&mut bytes).expect("a command");
            let mut answers = std::fs::OpenOptions::new().append(true).open(place.running().answers()).expect("a file");
            answers.write_all(b"rest\r\n{\"killed\":\"b\",\"domid\":2}\r\n{\"killed\":\"a\",\"domid\":1}\r\n").expect("written");
            (bytes, place)
        });
        kill(&running, "a", PATIENCE).expect("killed");
        let (bytes, place) = machine.join().expect("answered");
        assert_eq!(&bytes, b"\nkill a\n");
        drop(place);
        assert!(kill(&running, "a", PATIENCE).is_err());
        std::fs::remove_file(running.answers()).expect("removed");
    }
}
