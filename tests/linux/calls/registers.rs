//! What a call leaves as it was: everything but what the contract names.

use crate::report::Report;
use crate::signals;
use crate::sites::{self, NAMES, R11, RAX, RCX, RDI, RDX, RSI, State};
use crate::way::{JUMP, Way, Ways};

/// Carry, parity, adjust, zero, sign, overflow.
pub const ARITHMETIC: u64 = 0x8d5;
const DIRECTION: u64 = 0x400;
const NESTED_TASK: u64 = 0x4000;
const ALIGNMENT: u64 = 0x4_0000;
const ID: u64 = 0x20_0000;
/// Always set: the one that has no meaning, and interrupts.
const ALWAYS: u64 = 0x202;

/// A call to look at: its name, its number, and which slot of the table it goes through.
struct Call {
    name: &'static str,
    nr: usize,
    slot: usize,
    /// Its first three arguments; the others are patterns.
    arguments: [u64; 3],
    result: i64,
}

/// The calls; `pid` is the caller's number.
fn calls(pid: i64) -> [Call; 10] {
    let of = |nr: i64| (nr as usize, nr as usize + 1);
    let call = |name, (nr, slot), arguments, result| Call { name, nr, slot, arguments, result };
    let this = pid as u64;
    [
        call("getpid", of(libc::SYS_getpid), [1, 2, 3], pid),
        call("getpid through slot 0", (libc::SYS_getpid as usize, 0), [1, 2, 3], pid),
        call("bad read", of(libc::SYS_read), [u64::MAX, 8, 8], -9),
        call("sched_yield", of(libc::SYS_sched_yield), [1, 2, 3], 0),
        // All registers are saved for it.
        call("bad clone", of(libc::SYS_clone), [u64::MAX, 2, 3], -22),
        call("bad clone through slot 0", (libc::SYS_clone as usize, 0), [u64::MAX, 2, 3], -22),
        call("none", (JUMP - 2, JUMP - 1), [1, 2, 3], -38),
        call("none through slot 0", (1000, 0), [1, 2, 3], -38),
        // A signal without a handler, and one with: the way back is another one.
        call("kill by 0", of(libc::SYS_kill), [this, 0, 3], 0),
        call("tgkill with a handler", of(libc::SYS_tgkill), [this, this, libc::SIGUSR2 as u64], 0),
    ]
}

/// Patterns everywhere.
fn before(call: &Call, flags: u64) -> State {
    let mut state = State { flags: ALWAYS | flags, ..State::default() };
    for (i, register) in state.general.iter_mut().enumerate() {
        *register = 0xa5a5_0000_dead_0000 | i as u64;
    }
    for (i, word) in state.below.iter_mut().enumerate() {
        *word = 0x5a5a_0000_beef_0000 | i as u64;
    }
    state.general[RAX] = call.nr as u64;
    (state.general[RDI], state.general[RSI], state.general[RDX]) = call.arguments.into();
    state
}

/// What is wrong with the state behind the call.
fn faults(way: Way, call: &Call, before: &State, after: &State) -> Vec<String> {
    let (by_instruction, by_table) = (matches!(way, Way::Instruction), matches!(way, Way::Table(_)));
    let mut faults = Vec::new();
    let mut compare = |what: &str, got: u64, want: u64| {
        if got != want {
            faults.push(format!("{what}: {got:#x} instead of {want:#x}"));
        }
    };
    let lost = if by_instruction { 0 } else { ARITHMETIC };
    let flags = if by_instruction { before.flags } else { before.flags & !DIRECTION };
    for (i, name) in NAMES.into_iter().enumerate() {
        let want = match i {
            RAX => call.result as u64,
            RCX if by_table => continue,
            R11 if !by_instruction => continue,
            RCX => after.behind,
            R11 => before.flags,
            _ => before.general[i],
        };
        compare(name, after.general[i], want);
    }
    compare("flags", after.flags & !lost, flags & !lost);
    // The last word is where the return address was.
    let kept = if by_table { 15 } else { 16 };
    for i in 0..kept {
        compare(&format!("rsp - {}", 128 - 8 * i), after.below[i], before.below[i]);
    }
    faults
}

/// All registers, most flags and the memory below the stack, for ways back of every kind.
pub fn check(report: &mut Report, ways: Ways) {
    signals::handle(libc::SIGUSR2, signals::nothing, 0);
    let sets = [
        ("", 0),
        (" flags", ARITHMETIC | ID | ALIGNMENT),
        (" direction", ARITHMETIC | DIRECTION),
        (" nested-task", NESTED_TASK | DIRECTION),
    ];
    for (name, way) in ways.named() {
        for call in calls(i64::from(std::process::id())) {
            for (set, flags) in sets {
                let before = before(&call, flags);
                // SAFETY: none of the calls touches memory.
                let after = unsafe { sites::exchange(way, call.slot, &before) };
                report.check(&format!("registers {name} {}{set}", call.name), faults(way, &call, &before, &after).as_slice(), &[]);
            }
        }
    }
}
