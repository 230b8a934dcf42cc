//! Random hypercalls from a seed, for as many calls as the command line says: arguments at random, and nearly good ones.
//! The guest may die of it; the hypervisor may not, nor a neighbour (goal G4).
//!
//! Calls that would end the guest at once are kept out or made harmless, or all the rest would go untested. What calls
//! get to work on is a region of pages that nothing else here uses.
#![no_std]
#![no_main]
#![expect(non_upper_case_globals, reason = "hypercalls by the ABI's own names")]
#![expect(clippy::indexing_slicing, clippy::arithmetic_side_effects, reason = "a mistake here is a failed experiment")]

mod calls;

use ptk::check::holds;
use ptk::rng::Rng;
use ptk::{memory, println, start};

use calls::Fuzzer;

/// Pages to work on.
pub const PAGES: usize = 64;
/// Calls between lines that say how far it is.
const STRIDE: u64 = 20_000;

fn main() {
    let seed = start::option("seed").unwrap_or(1);
    let calls = start::option("calls").unwrap_or(20_000);
    println!("fuzz: seed {seed}, {calls} calls");
    let mut fuzzer = Fuzzer::new(Rng::new(seed), [(); PAGES].map(|()| memory::page()));
    for n in 1..=calls {
        fuzzer.one();
        if n % STRIDE == 0 {
            println!("fuzz: {n} calls, {} taken, {} refused, {} not offered", fuzzer.taken, fuzzer.refused, fuzzer.absent);
        }
    }
    println!("fuzz: {calls} calls done, {} taken, {} refused, {} not offered", fuzzer.taken, fuzzer.refused, fuzzer.absent);
    let counted = fuzzer.taken + fuzzer.refused + fuzzer.absent + fuzzer.left_out;
    holds("every call was counted: the guest is still itself", counted == calls);
    holds("some calls were taken", fuzzer.taken > 0);
    holds("some calls were refused", fuzzer.refused > 0);
}

ptk::guest!(main);
