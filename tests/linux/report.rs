//! What has been checked, a line each, and the verdict.

use std::fmt::Debug;
use std::process::ExitCode;
use std::time::Instant;

/// How it went so far.
#[derive(Debug, Default)]
pub struct Report {
    bad: bool,
}

impl Report {
    /// One check: what came out and what should have.
    pub fn check<T: Debug + PartialEq>(&mut self, name: &str, got: T, want: T) {
        if got == want {
            println!("CHECK {name} ok");
        } else {
            println!("CHECK {name} FAIL: got {got:?}, want {want:?}");
            self.bad = true;
        }
    }

    /// Runs the checks of a group and says how long they took.
    pub fn group(&mut self, name: &str, checks: impl FnOnce(&mut Self)) {
        let start = Instant::now();
        checks(self);
        println!("GROUP {name} took {:.1} s", start.elapsed().as_secs_f64());
    }

    /// The last line, and the exit status for it.
    pub fn verdict(&self) -> ExitCode {
        println!("VERDICT {}", if self.bad { "FAILURE" } else { "SUCCESS" });
        if self.bad { ExitCode::FAILURE } else { ExitCode::SUCCESS }
    }
}
