//! `test`: everything that CI runs, cheapest first.

use std::collections::VecDeque;
use std::process::{Command, ExitCode};
use std::sync::Mutex;
use std::time::Instant;

use anyhow::{Result, anyhow};

use crate::build::{self, Profile};
use crate::case::{self, Case};
use crate::{deb, fuzz, lint, linux, setup, sh};

/// A part of the tests that runs on the host, by itself.
struct Step {
    name: &'static str,
    run: fn() -> Result<()>,
}

const STEPS: &[Step] = &[
    Step { name: "lint", run: lint::run },
    Step { name: "host", run: host },
    Step { name: "loom", run: loom },
    Step { name: "build", run: || build::everything(Profile::Release).and_then(|()| build::x_kernel(Profile::Dev).map(drop)) },
    Step { name: "package", run: deb::check },
    Step { name: "linux-build", run: || linux::build("libos").and_then(|_| linux::build("libos-smp")).map(drop) },
];

/// Unit and property tests of what can run on the host.
fn host() -> Result<()> {
    setup::ensure(setup::TEST)?;
    let packages = ["xen-abi", "pv-core", "dom-image", "abom", "abom-cli", "x-image", "x-init", "xtask"];
    let packages = packages.iter().flat_map(|p| ["-p", *p]);
    sh::run(Command::new(env!("CARGO")).current_dir(sh::root()).args(["test", "--quiet"]).args(packages))
}

/// Every interleaving of what is done without locks.
fn loom() -> Result<()> {
    let mut cargo = Command::new(env!("CARGO"));
    cargo.current_dir(sh::root()).env("RUSTFLAGS", "--cfg loom").env("CARGO_TARGET_DIR", sh::target("loom")?);
    sh::run(cargo.args(["test", "--quiet", "--release", "-p", "pv-core", "--lib", "loom"]))
}

/// So many of the slowest parts are named at the end.
const SLOWEST: usize = 10;

/// How each part went.
struct Results(Mutex<Vec<(String, f64, Option<String>)>>);

impl Results {
    fn add(&self, name: &str, run: impl FnOnce() -> Result<()>) {
        let start = Instant::now();
        let fault = run().err().map(|e| format!("{e:#}"));
        let seconds = start.elapsed().as_secs_f64();
        match &fault {
            None => println!("ok    {name} ({seconds:.1} s)"),
            Some(why) => println!("FAIL  {name} ({seconds:.1} s)\n    {why}"),
        }
        if let Ok(mut list) = self.0.lock() {
            list.push((name.to_string(), seconds, fault));
        }
    }
}

/// Boots `cases`, as many at a time as there are CPUs.
fn boots(cases: Vec<Case>, results: &Results) {
    let queue = Mutex::new(VecDeque::from(cases));
    let workers = std::thread::available_parallelism().map_or(1, usize::from).min(8);
    let work = || {
        loop {
            let Some(case) = queue.lock().ok().and_then(|mut q| q.pop_front()) else { return };
            results.add(&case.name, || case.run());
        }
    };
    std::thread::scope(|scope| {
        for _ in 0..workers {
            scope.spawn(work);
        }
    });
}

/// `test`: all, or what has one of `names` in its name.
pub fn run(names: &[String]) -> Result<ExitCode> {
    let chosen = |name: &str| names.is_empty() || names.iter().any(|n| name.contains(n.as_str()));
    let results = Results(Mutex::new(Vec::new()));
    for step in STEPS.iter().filter(|s| chosen(s.name)) {
        results.add(step.name, step.run);
    }
    let cases: Vec<_> = case::all()?
        .into_iter()
        .chain([fuzz::case()?])
        .filter(|c| if c.named { names.contains(&c.name) } else { chosen(&c.name) })
        .collect();
    if !cases.is_empty() {
        // Before several threads ask for them.
        build::x_kernel(Profile::Release)?;
        setup::ensure(setup::RUN)?;
    }
    boots(cases, &results);
    let mut list = results.0.into_inner().map_err(|_| anyhow!("a test's thread died"))?;
    if list.is_empty() {
        return Err(anyhow!("no test has that in its name"));
    }
    let failed = list.iter().filter(|r| r.2.is_some()).count();
    println!("{} passed, {failed} failed", list.len() - failed);
    for (name, _, _) in list.iter().filter(|r| r.2.is_some()) {
        println!("failed: {name}");
    }
    list.sort_by(|a, b| b.1.total_cmp(&a.1));
    let slowest: Vec<_> = list.iter().take(SLOWEST).map(|(name, seconds, _)| format!("{name} {seconds:.0} s")).collect();
    println!("slowest: {}", slowest.join(", "));
    Ok(if failed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}
