//! `fuzz`: random hypercalls from a seed. The guest may die of them; the X-Kernel and the neighbour may not.

use std::time::{SystemTime, UNIX_EPOCH};

use anyhow::Result;
use clap::Args;

use crate::case::Case;
use crate::screen::Show;

/// Calls in a run of the tests.
const IN_TESTS: u64 = 40_000;

/// `fuzz`.
#[derive(Args, Clone, Debug)]
pub struct FuzzArgs {
    /// How many hypercalls
    #[arg(long, default_value_t = 1_000_000)]
    calls: u64,
    /// Where they come from; without it another one each time
    #[arg(long)]
    seed: Option<u64>,
    /// With debug assertions
    #[arg(long)]
    dev: bool,
}

/// A seed that nobody has chosen.
fn any_seed() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(1, |time| time.as_secs())
}

/// `fuzz`.
pub fn run(args: &FuzzArgs) -> Result<()> {
    let seed = args.seed.unwrap_or_else(any_seed);
    eprintln!("xtask: {} calls from seed {seed}", args.calls);
    Case::fuzz(seed, args.calls, args.dev, Show::All)?.run()
}

/// What the tests run: debug assertions on, the seed in the case's name.
pub fn case() -> Result<Case> {
    Case::fuzz(any_seed(), IN_TESTS, true, Show::Nothing)
}
