//! System calls by threads that are moved from one processor to another all the time: `storm`.
//!
//! With several processors X-LibOS finds its per-CPU data by GS, which it exchanges on the way into a system call and out
//! of it, where a thread may be interrupted and go on elsewhere. Threads make calls, each with a GS base of its own, and
//! look whether it and the results are as they should be; another thread moves them, at whatever they are doing.

#![expect(unsafe_code, reason = "system calls are what is looked at")]
// UNSAFETY: raw system calls.

use std::process::ExitCode;
use std::sync::atomic::{AtomicBool, AtomicI32, AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use linux_programs::gs::{gs, has_instructions, set_gs};
use linux_programs::way::{Way, Ways};

/// Threads that make calls.
const CALLERS: usize = 6;
/// How long they do.
const TIME: Duration = Duration::from_secs(20);
/// Fewer moves than this, seen by the threads themselves, are no storm.
const MOVES: usize = 100;

/// Their numbers, for who moves them; 0 before they are there.
static THREADS: [AtomicI32; CALLERS] = [const { AtomicI32::new(0) }; CALLERS];
static OVER: AtomicBool = AtomicBool::new(false);
static CALLS: AtomicUsize = AtomicUsize::new(0);
static SEEN_MOVES: AtomicUsize = AtomicUsize::new(0);

fn tid(way: Way) -> i32 {
    // SAFETY: it has no arguments.
    unsafe { way.call(libc::SYS_gettid, []) as i32 }
}

fn cpu(way: Way) -> usize {
    let mut cpu = u32::MAX;
    // SAFETY: the processor goes to the variable.
    unsafe { way.call(libc::SYS_getcpu, [(&raw mut cpu) as usize, 0, 0]) };
    cpu as usize
}

/// Lets thread `tid` run on processor `cpu` only.
fn pin(way: Way, tid: i32, cpu: usize) -> isize {
    let mask = 1usize << cpu;
    // SAFETY: the mask is read.
    unsafe { way.call(libc::SYS_sched_setaffinity, [tid as usize, size_of_val(&mask), (&raw const mask) as usize]) }
}

/// Makes calls until it is over. Returns what was wrong, if anything.
fn caller(ways: Ways, index: usize) -> Result<(), String> {
    let own = tid(ways.instruction);
    THREADS[index].store(own, Ordering::Release);
    let mut before = cpu(ways.instruction);
    let mut round = 0usize;
    while !OVER.load(Ordering::Relaxed) {
        round += 1;
        // One call by the instruction among many by the table; one with all registers; a word of memory, by a fault.
        let way = match round % 16 {
            0 => ways.instruction,
            1..8 => ways.table,
            _ => ways.jump,
        };
        let base = 0x10_0000_0000 * (index + 1) + round;
        set_gs(base);
        let said = tid(way);
        if said != own {
            return Err(format!("round {round}: thread {own} is told that it is {said}"));
        }
        if round.is_multiple_of(33) {
            // SAFETY: flags that are refused; no memory is named.
            let refused = unsafe { way.call(libc::SYS_clone, [libc::CLONE_THREAD as usize, 0, 0, 0, 0]) };
            if refused != -(libc::EINVAL as isize) {
                return Err(format!("round {round}: clone says {refused}"));
            }
        }
        let here = cpu(way);
        if here != before {
            SEEN_MOVES.fetch_add(1, Ordering::Relaxed);
            before = here;
        }
        if gs() != base {
            return Err(format!("round {round}: GS is at {:#x}, not {base:#x}", gs()));
        }
    }
    CALLS.fetch_add(round, Ordering::Relaxed);
    Ok(())
}

/// Moves the callers about, and itself, and sees that a thread is where it was told to be.
fn mover(ways: Ways, cpus: usize) -> Result<(), String> {
    let own = tid(ways.table);
    let mut turn = 0usize;
    let end = Instant::now() + TIME;
    while Instant::now() < end {
        turn += 1;
        let there = turn % cpus;
        if pin(ways.table, own, there) != 0 || cpu(ways.table) != there || cpu(ways.instruction) != there {
            return Err(format!("the mover was not moved to {there}"));
        }
        for (index, thread) in THREADS.iter().enumerate() {
            let tid = thread.load(Ordering::Acquire);
            if tid != 0 && pin(ways.table, tid, (turn + index * turn / cpus) % cpus) != 0 {
                return Err(format!("thread {tid} cannot be moved"));
            }
        }
    }
    Ok(())
}

fn run() -> Result<(), String> {
    let ways = Ways::find().ok_or("there is no table of system calls here")?;
    let cpus = thread::available_parallelism().map_err(|e| e.to_string())?.get();
    if !has_instructions() {
        return Err("there are no instructions for the base of GS".into());
    }
    if cpus < 2 {
        return Err("there is one processor only".into());
    }
    let callers: Vec<_> = (0..CALLERS).map(|index| thread::spawn(move || caller(ways, index))).collect();
    let moved = mover(ways, cpus);
    OVER.store(true, Ordering::Relaxed);
    for caller in callers {
        caller.join().map_err(|_| "a thread panicked")??;
    }
    moved?;
    let (calls, moves) = (CALLS.load(Ordering::Relaxed), SEEN_MOVES.load(Ordering::Relaxed));
    println!("{calls} rounds on {cpus} processors, {moves} moves");
    if moves < MOVES { Err(format!("only {moves} moves")) } else { Ok(()) }
}

fn main() -> ExitCode {
    match run() {
        Ok(()) => {
            println!("VERDICT SUCCESS");
            ExitCode::SUCCESS
        }
        Err(error) => {
            println!("VERDICT FAILURE: {error}");
            ExitCode::FAILURE
        }
    }
}
