//! The first process of a container: prepares what a program expects to find, starts it, and ends the machine with it.
//!
//! It runs twice. As process 1 it mounts, starts itself again, forwards signals and reaps; as its own child it becomes
//! the program's user and then the program. So nothing has to be done between fork and exec, where next to nothing may
//! be done, and there is no unsafe code. docs/CONTAINERS.md is its contract.

#![forbid(unsafe_code)]

mod mounts;
mod start;
mod supervise;
mod system;

use std::fmt::Display;
use std::process::ExitCode;

use x_init::config::{self, Config};

/// The exit status when the program was not even tried.
pub const FAILED: u8 = 125;

/// The word that tells the child what it is.
pub const START: &str = "start";

/// Something that went wrong, in a line.
pub type Fault = String;

/// Makes a fault of an error, with what was attempted.
pub trait Attempt<T> {
    /// Names what was attempted.
    fn attempt(self, what: impl Display) -> Result<T, Fault>;
}

impl<T, E: Display> Attempt<T> for Result<T, E> {
    fn attempt(self, what: impl Display) -> Result<T, Fault> {
        self.map_err(|error| format!("{what}: {error}"))
    }
}

/// Says something on the console.
pub fn say(what: impl Display) {
    eprintln!("x-init: {what}");
}

/// Reads what it is told.
pub fn configuration() -> Result<Config, Fault> {
    let bytes = std::fs::read(config::FILE).attempt(config::FILE)?;
    Config::parse(&bytes).attempt(config::FILE)
}

fn main() -> ExitCode {
    let started = std::env::args_os().nth(1).is_some_and(|word| word == START);
    match (std::process::id(), started) {
        (1, _) => supervise::container(),
        (_, true) => ExitCode::from(start::program()),
        (_, false) => {
            say("it is for process 1 of a container");
            ExitCode::from(FAILED)
        }
    }
}
