//! Random code around system calls, as it is and rewritten: the same registers, memory and file afterwards.
//!
//! Some thousand cases by default. More, or others, or one of them again:
//!
//! ```text
//! ABOM_CASES=10000000 ABOM_SEED=7 cargo test --release -p abom --test equivalence -- --nocapture
//! ABOM_SEED=7 ABOM_FIRST=4711 ABOM_CASES=1 cargo test -p abom --test equivalence -- --nocapture
//! ```
//!
//! Each case is run natively three times: once with a trap at each system call, which is how the X-Kernel sees them and
//! what a plan is told; as it is; and with every patch that the plans give, in one of the ways that there are.

mod case;
mod layout;
mod machine;
mod program;
mod random;
mod worker;

use case::Fault;

fn variable(name: &str, default: u64) -> u64 {
    std::env::var(name).map_or(default, |v| v.parse().unwrap_or_else(|_| panic!("{name}: not a number: {v}")))
}

#[test]
fn rewritten_code_does_the_same() {
    let (seed, first, cases) = (variable("ABOM_SEED", 1), variable("ABOM_FIRST", 0), variable("ABOM_CASES", 40_000));
    let summary = worker::run(seed, first, cases, Fault::None).unwrap_or_else(|e| panic!("{e}"));
    println!("seed {seed}, {cases} cases from {first}: {summary}");
    if cases >= 10_000 {
        assert!(summary.is_broad(), "the cases do not cover what they should: {summary}");
    }
}

/// What the comparison is worth: each of these rewritings is wrong, and is found to be.
#[test]
fn wrong_rewritings_are_found() {
    use Fault::{Beside, Flags, JumpPushes, LostInGap, LostInstruction, NoFixup, NotFurther, Padding, RedZone, Return, WrongSlot};
    for fault in [RedZone, Flags, NoFixup, WrongSlot, LostInstruction, LostInGap, Padding, Return, JumpPushes, NotFurther, Beside] {
        assert!(worker::run(3, 0, 20_000, fault).is_err(), "{fault:?} is not found");
    }
}
