//! Where a running machine can be asked: a pipe to its statistics port and a file with what that says, beside a note of
//! what runs.
//!
//! A file is never too full to be written to, however slow its reader is. Pipe and note are removed when the machine has
//! ended; what a `run` that was ended by force has left is removed by whoever comes next.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::SystemTime;

use anyhow::{Context, Result, bail};
use serde::{Deserialize, Serialize};

use crate::sh;

/// What the names of notes and pipes of machines that `run` starts begin with; the number of its process follows.
const PREFIX: &str = "machine-";

/// What a note says.
#[derive(Deserialize, Serialize)]
struct Note {
    what: String,
}

/// A machine's pipe and note, for as long as this lives.
#[derive(Debug)]
pub struct Place(Running);

/// A machine that runs.
#[derive(Clone, Debug)]
pub struct Running {
    /// Number of its run.
    pub number: u32,
    /// What runs there.
    pub what: String,
    /// The note. Whoever asks holds its lock.
    pub note: PathBuf,
}

impl Running {
    /// What the names of pipe and file begin with, as QEMU wants to be told.
    pub fn port(&self) -> PathBuf {
        self.note.with_extension("")
    }

    /// The pipe to its statistics port.
    pub fn requests(&self) -> PathBuf {
        self.note.with_extension("in")
    }

    /// The file with all that the port has said.
    pub fn answers(&self) -> PathBuf {
        self.note.with_extension("out")
    }

    /// Whether it has ended, or whoever started it.
    pub fn is_gone(&self) -> bool {
        !self.note.exists() || !Path::new(&format!("/proc/{}", self.number)).exists()
    }
}

impl Place {
    /// A place for the machine of this process.
    pub fn of_run(what: String) -> Result<Self> {
        let number = std::process::id();
        sh::sweep(&sh::target(&format!("runs/{PREFIX}{number}.json"))?, PREFIX);
        Self::new(&format!("{PREFIX}{number}"), number, what)
    }

    /// A place that is called `name`.
    pub fn new(name: &str, number: u32, what: String) -> Result<Self> {
        let note = sh::target(&format!("runs/{name}.json"))?;
        let text = serde_json::to_string(&Note { what: what.clone() })?;
        let place = Self(Running { number, what, note });
        let (requests, answers, note) = (place.0.requests(), place.0.answers(), &place.0.note);
        let _ = std::fs::remove_file(&requests);
        sh::run(Command::new("mkfifo").arg(&requests))?;
        std::fs::write(&answers, "").with_context(|| format!("cannot write {}", answers.display()))?;
        // The note comes last: who finds it finds all.
        std::fs::write(note, text).with_context(|| format!("cannot write {}", note.display()))?;
        Ok(place)
    }

    /// The machine that is there.
    pub fn running(&self) -> &Running {
        &self.0
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        for file in [&self.0.note, &self.0.requests()] {
            let _ = std::fs::remove_file(file);
        }
    }
}

/// The machine that run `number` has started, or the newest one.
///
/// # Errors
/// If there is none.
pub fn find(number: Option<u32>) -> Result<Running> {
    let like = sh::target(&format!("runs/{PREFIX}"))?;
    sh::sweep(&like, PREFIX);
    let all = all(like.parent().context("a folder")?);
    match number {
        None => all.into_iter().next_back().context("no machine runs: `cargo xtask run` starts one"),
        Some(number) => match all.iter().find(|r| r.number == number) {
            Some(running) => Ok(running.clone()),
            None if all.is_empty() => bail!("there is no run {number}: no machine runs"),
            None => bail!("there is no run {number}, but {}", all.iter().map(|r| r.number.to_string()).collect::<Vec<_>>().join(", ")),
        },
    }
}

/// All machines with a note in `folder`, the newest last.
fn all(folder: &Path) -> Vec<Running> {
    let of = |path: PathBuf| {
        let number = path.file_name()?.to_str()?.strip_prefix(PREFIX)?.strip_suffix(".json")?.parse().ok()?;
        let made = path.metadata().and_then(|m| m.modified()).unwrap_or(SystemTime::UNIX_EPOCH);
        let note: Note = serde_json::from_str(&std::fs::read_to_string(&path).ok()?).ok()?;
        Some((made, Running { number, what: note.what, note: path }))
    };
    let entries = std::fs::read_dir(folder).into_iter().flatten();
    let mut all: Vec<_> = entries.filter_map(|e| of(e.ok()?.path())).collect();
    all.sort_by_key(|(made, running)| (*made, running.number));
    all.into_iter().map(|(_, running)| running).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn machines_are_found_by_their_notes() {
        let folder = sh::target(&format!("runs/notes-{}/x", std::process::id())).expect("a folder");
        let folder = folder.parent().expect("a folder");
        for (name, text) in
            [("machine-7.json", "{\"what\":\"seven\"}"), ("machine-8.json", "no note"), ("machine-x.json", ""), ("run-7.iso", "")]
        {
            std::fs::write(folder.join(name), text).expect("written");
        }
        let found: Vec<_> = all(folder).into_iter().map(|r| (r.number, r.what.clone(), r.requests())).collect();
        assert_eq!(found, [(7, "seven".to_string(), folder.join("machine-7.in"))]);
        std::fs::remove_dir_all(folder).expect("removed");
    }

    #[test]
    fn nothing_is_left_of_a_place() {
        let place = Place::new(&format!("place-{}", std::process::id()), std::process::id(), "x".into()).expect("a place");
        let running = place.running().clone();
        assert!(running.note.exists() && running.requests().exists() && !running.is_gone());
        drop(place);
        assert!(!running.note.exists() && !running.requests().exists() && running.is_gone());
        // What it has said stays for whoever reads it at the end.
        std::fs::remove_file(running.answers()).expect("removed");
    }
}
