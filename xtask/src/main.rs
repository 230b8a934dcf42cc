//! `cargo xtask`: builds, runs and tests X-Containers. Every verb installs what it misses.

mod archive;
mod bench;
mod bochs;
mod broken;
mod build;
mod case;
mod clock;
mod container;
mod deb;
mod debian;
mod domu;
mod fuzz;
mod grub;
mod initrd;
mod iso;
mod lint;
mod linux;
mod made;
mod plan;
mod qemu;
mod rootfs;
mod run;
mod screen;
mod setup;
mod sh;
mod source;
mod sweep;
mod symbols;
mod test;
mod top;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

#[derive(Parser)]
#[command(name = "cargo xtask", about = "Builds, runs and tests X-Containers")]
struct Cli {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Subcommand)]
enum Verb {
    /// Installs the Debian packages that the other verbs need
    Setup,
    /// Builds the X-Kernel (to target/x-kernel) and the micro-guests (to target/guests)
    Build {
        /// With debug assertions
        #[arg(long)]
        dev: bool,
    },
    /// Runs containers, or other guests, on the X-Kernel in QEMU; without options a shell in a container
    Run(Box<run::RunArgs>),
    /// Shows what the domains of a running machine do: processor time, memory, system calls by path, hypercalls
    Top(top::TopArgs),
    /// Ends containers of a running machine from outside, at once
    Kill(top::kill::KillArgs),
    /// Runs everything that CI runs, cheapest first; NAMEs select
    Test {
        /// Parts of the names of the tests to run
        names: Vec<String>,
    },
    /// Boots a guest that makes random hypercalls, beside a canary, with every count made again meanwhile
    Fuzz(fuzz::FuzzArgs),
    /// Measures X-Containers beside their peers, in one matrix: operations of the kernel and programs, natively, on Debian's
    /// Xen and on the X-Kernel. Tables, JSON, CSV, figures and a page go to target/bench/report
    Bench(bench::BenchArgs),
    /// Builds X-LibOS, the Linux of the containers (cached by what it is made of)
    Libos(linux::LibosArgs),
    /// Makes a bootable image (BIOS and UEFI, CD or USB stick) at target/x-kernel.iso
    Iso(run::GuestArgs),
    /// Makes a Debian package with the X-Kernel, for GRUB's menu, and abom, at target/x-kernel_VERSION_amd64.deb
    Deb,
    /// Boots paused and attaches gdb
    Gdb(run::GuestArgs),
    /// Checks rules that the compiler does not know, and prints sizes
    Lint,
}

fn main() -> ExitCode {
    let done = match Cli::parse().verb {
        Verb::Setup => setup::all().map(|()| ExitCode::SUCCESS),
        Verb::Build { dev } => build::everything(build::Profile::of(dev)).map(|()| ExitCode::SUCCESS),
        Verb::Run(args) => run::run(&args),
        Verb::Top(args) => top::run(&args),
        Verb::Kill(args) => top::kill::run(&args),
        Verb::Test { names } => test::run(&names),
        Verb::Fuzz(args) => fuzz::run(&args).map(|()| ExitCode::SUCCESS),
        Verb::Bench(args) => bench::run(args).map(|()| ExitCode::SUCCESS),
        Verb::Libos(args) => linux::run(&args).map(|()| ExitCode::SUCCESS),
        Verb::Iso(guest) => run::iso(&guest).map(|()| ExitCode::SUCCESS),
        Verb::Deb => deb::run().map(|()| ExitCode::SUCCESS),
        Verb::Gdb(guest) => run::gdb(&guest).map(|()| ExitCode::SUCCESS),
        Verb::Lint => lint::run().map(|()| ExitCode::SUCCESS),
    };
    done.unwrap_or_else(|error| {
        eprintln!("xtask: {error:#}");
        ExitCode::FAILURE
    })
}
