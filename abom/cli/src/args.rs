//! The command line.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};
use clap_complete::Shell;

/// Rewrites the system calls of ELF files for X-Containers.
///
/// In an X-Container a system call can be made by calling the kernel through a table at a fixed address. This tool
/// changes the `syscall` instructions of programs and libraries into such calls, ahead of time, where it can prove that
/// the program does not notice; the others stay as they are, and work as ever.
///
/// A patched file runs in an X-Container only. Elsewhere there is no such table, and its first changed system call is a
/// segmentation fault. Keep the original, or take the change back by `abom unpatch`.
#[derive(Debug, Parser)]
#[command(name = "abom", version, max_term_width = 100)]
pub struct Arguments {
    /// What to do.
    #[command(subcommand)]
    pub verb: Verb,
}

/// What to do.
#[derive(Debug, Subcommand)]
pub enum Verb {
    /// Say of each file what sites it has, and what would be done about them
    Scan(Scan),
    /// Write a copy of a file with its system calls changed
    ///
    /// The copy runs in an X-Container only: elsewhere the table that its system calls go through is not there, and the
    /// first of them is a segmentation fault. It says so itself, in a note that `verify` and `unpatch` read.
    Patch(Patch),
    /// Check that a patched file is what patching makes of its original
    Verify(Verify),
    /// Write the original of a patched file, byte by byte
    Unpatch(Unpatch),
    /// Write the manual pages to a folder, or the first of them to the standard output
    Man {
        /// The folder.
        #[arg(short, long, value_name = "DIR")]
        output: Option<PathBuf>,
    },
    /// Write completions for a shell to the standard output
    Completions {
        /// The shell.
        shell: Shell,
    },
}

/// `scan`.
#[derive(Args, Debug)]
pub struct Scan {
    /// Programs and libraries.
    #[arg(required = true, value_name = "FILE")]
    pub files: Vec<PathBuf>,
    /// Write JSON: one object for each file, with all its sites
    #[arg(long)]
    pub json: bool,
    /// Name each site that would stay as it is
    #[arg(long)]
    pub list: bool,
    /// Judge each site as the X-Kernel does when the program runs: by the bytes around it and the table for unwinding
    #[arg(long)]
    pub running: bool,
}

/// `patch`.
#[derive(Args, Debug)]
pub struct Patch {
    /// A program or library.
    #[arg(value_name = "IN")]
    pub input: PathBuf,
    /// The file to write.
    #[arg(short, long, value_name = "OUT")]
    pub output: PathBuf,
}

/// `verify`.
#[derive(Args, Debug)]
pub struct Verify {
    /// A patched file.
    #[arg(value_name = "FILE")]
    pub file: PathBuf,
}

/// `unpatch`.
#[derive(Args, Debug)]
pub struct Unpatch {
    /// A patched file.
    #[arg(value_name = "IN")]
    pub input: PathBuf,
    /// The file to write.
    #[arg(short, long, value_name = "OUT")]
    pub output: PathBuf,
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_command_line_is_sound() {
        Arguments::command().debug_assert();
    }
}
