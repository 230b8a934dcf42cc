//! A tracer sees the calls of a process, and changes them.

use linux_programs::traced::{SYSCALL_STOP, Traced};

use crate::child;
use crate::registers::ARITHMETIC;
use crate::report::Report;
use crate::sites;
use crate::way::{Way, Ways};

/// Registers at a stop, as words: addresses in the code relative to `place`, and one word for the process's number.
fn words(registers: &libc::user_regs_struct, place: u64, pid: i32) -> [u64; 27] {
    let mut words = [0; 27];
    // SAFETY: it is 27 words.
    let all: [u64; 27] = unsafe { std::mem::transmute_copy(registers) };
    for (word, value) in words.iter_mut().zip(all) {
        *word = if value == pid as u64 { u64::MAX - 1000 } else { value };
    }
    words[libc::RIP as usize] -= place;
    words[libc::RCX as usize] = words[libc::RCX as usize].wrapping_sub(place);
    // A call may change these flags before anyone sees them.
    words[libc::EFLAGS as usize] &= !ARITHMETIC;
    words[libc::R11 as usize] &= !ARITHMETIC;
    words
}

/// The registers at the beginning and at the end of a call, which are the same by PEEKUSER; and the result.
type Seen = ([u64; 27], [u64; 27], i64);

/// Arguments to recognise.
const PATTERN: [usize; 6] = [0x101, 0x202, 0x303, 0x404, 0x505, 0x606];

fn seen(way: Way, nr: i64) -> Result<Seen, String> {
    child::wipe();
    let traced = Traced::start(|| {
        // SAFETY: the calls are ones that touch no memory.
        child::put(0, unsafe { sites::stopping(way, nr, PATTERN) } as i64);
        0
    })?;
    let place = traced.registers().rip + sites::length(way);
    let mut stops = [[0; 27]; 2];
    for stop in &mut stops {
        let registers = traced.to_call()?;
        *stop = words(&registers, place, traced.pid);
        // SAFETY: it is 27 words.
        let all: [u64; 27] = unsafe { std::mem::transmute(registers) };
        if (0..27).any(|i| traced.peek(i) != all[i]) {
            return Err("PEEKUSER is not GETREGS".into());
        }
    }
    let pid = traced.pid;
    traced.end()?;
    let result = if child::got(0) == i64::from(pid) { -1000 } else { child::got(0) };
    Ok((stops[0], stops[1], result))
}

/// The tracer has another call made, with other arguments.
fn other_call(way: Way) -> Result<i64, String> {
    child::wipe();
    let traced = Traced::start(|| {
        // SAFETY: it has no arguments.
        child::put(0, unsafe { sites::stopping(way, libc::SYS_getpid, PATTERN) } as i64);
        // SAFETY: no memory is named.
        child::put(1, i64::from(unsafe { libc::umask(0) }));
        0
    })?;
    traced.to_call()?;
    traced.set(libc::ORIG_RAX, libc::SYS_umask)?;
    traced.set(libc::RDI, 0o123)?;
    traced.to_call()?;
    traced.end()?;
    Ok(child::got(1))
}

/// The tracer has no call made and invents the result.
fn other_result(way: Way) -> Result<[i64; 2], String> {
    child::wipe();
    let traced = Traced::start(|| {
        // SAFETY: if it were made, the process would end.
        child::put(0, unsafe { sites::stopping(way, libc::SYS_exit_group, PATTERN) } as i64);
        0
    })?;
    traced.to_call()?;
    traced.set(libc::ORIG_RAX, -1)?;
    let none = traced.to_call()?.rax as i64;
    traced.set(libc::RAX, 1234)?;
    traced.end()?;
    Ok([none, child::got(0)])
}

/// The tracer changes registers that the call keeps, at its end.
fn other_registers(way: Way) -> Result<[u64; 3], String> {
    let traced = Traced::start(|| {
        // SAFETY: it has no arguments.
        unsafe { sites::stopping(way, libc::SYS_getpid, PATTERN) };
        0
    })?;
    traced.to_call()?;
    traced.to_call()?;
    traced.set(libc::RBX, 42)?;
    traced.set(libc::R8, 43)?;
    traced.step()?;
    let first = traced.registers().rbx;
    traced.step()?;
    let second = traced.registers();
    traced.end()?;
    Ok([first, second.rbx, second.r8])
}

/// The tracer moves the process: it goes on elsewhere when the call is over.
fn other_place(way: Way) -> Result<u64, String> {
    let traced = Traced::start(|| {
        // SAFETY: it has no arguments.
        unsafe { sites::stopping(way, libc::SYS_getpid, PATTERN) };
        0
    })?;
    traced.to_call()?;
    let behind = traced.to_call()?.rip;
    // Over the nop, and then a step over a pop.
    traced.set(libc::RIP, behind as i64 + 1)?;
    traced.set(libc::RCX, 77)?;
    traced.step()?;
    let moved = traced.registers().rip - behind;
    traced.end()?;
    Ok(moved)
}

/// PTRACE_SYSEMU: nothing is done, the tracer does it.
fn emulated(way: Way) -> Result<[i64; 2], String> {
    child::wipe();
    let traced = Traced::start(|| {
        // SAFETY: if it were made, the process would end.
        child::put(0, unsafe { sites::stopping(way, libc::SYS_exit_group, PATTERN) } as i64);
        0
    })?;
    traced.go(libc::PTRACE_SYSEMU)?;
    traced.stop(SYSCALL_STOP)?;
    let asked = traced.registers().orig_rax as i64;
    traced.set(libc::RAX, 4321)?;
    traced.end()?;
    Ok([asked, child::got(0)])
}

/// The tracer looks at the process when it ends, in the middle of its call: the registers that calls keep.
fn end(way: Way) -> Result<[u64; 6], String> {
    let traced = Traced::ready(|| {
        let mut before = sites::State { flags: 0x202, general: std::array::from_fn(|i| i as u64), ..Default::default() };
        before.general[sites::RAX] = libc::SYS_exit_group as u64;
        // SAFETY: the process ends.
        unsafe { sites::exchange(way, libc::SYS_exit_group as usize + 1, &before) };
        0
    })?;
    traced.request(libc::PTRACE_SETOPTIONS, 0, libc::PTRACE_O_TRACEEXIT as usize);
    traced.go(libc::PTRACE_CONT)?;
    let event = traced.stop(libc::SIGTRAP)?;
    let r = traced.registers();
    traced.end()?;
    if event == libc::PTRACE_EVENT_EXIT { Ok([r.rbx, r.rbp, r.r12, r.r13, r.r14, r.r15]) } else { Err(format!("event {event}")) }
}

/// The tracer comes while the process waits in a call: it sees the call begin again, and end.
fn seized(way: Way) -> Result<[i64; 2], String> {
    let pipe = child::pipe();
    let pid = child::start(child::PATIENCE, || {
        let mut byte = 0u8;
        // SAFETY: the buffer is one byte.
        unsafe { way.call(libc::SYS_read, [pipe[0] as usize, (&raw mut byte) as usize, 1]) };
        0
    });
    child::until(|| child::state(pid) == 'S');
    let traced = Traced { pid };
    traced.request(libc::PTRACE_SEIZE, 0, libc::PTRACE_O_TRACESYSGOOD as usize);
    traced.go(libc::PTRACE_INTERRUPT)?;
    traced.stop(libc::SIGTRAP)?;
    let begin = traced.to_call()?;
    // SAFETY: the buffer is one byte.
    unsafe { libc::write(pipe[1], c"x".as_ptr().cast(), 1) };
    let end = traced.to_call()?;
    traced.end()?;
    child::close(pipe);
    Ok([begin.orig_rax as i64, end.rax as i64])
}

/// What a tracer sees and does, in both ways.
pub fn check(report: &mut Report, ways: Ways) {
    for (name, nr) in [("getpid", libc::SYS_getpid), ("bad close", libc::SYS_close), ("none", 500)] {
        let [mut want, mut got] = [ways.instruction, ways.table].map(|way| seen(way, nr));
        if let (Ok((entry, ..)), Ok((by_table, ..))) = (&want, &got) {
            let arguments = [libc::RDI, libc::RSI, libc::RDX, libc::R10, libc::R8, libc::R9].map(|r| entry[r as usize] as usize);
            report.check(&format!("trace {name} arguments"), arguments, PATTERN);
            report.check(&format!("trace {name} place"), entry[libc::RIP as usize], 0);
            report.check(&format!("trace {name} rax"), entry[libc::RAX as usize] as i64, -38);
            report.check(&format!("trace {name} number"), by_table[libc::ORIG_RAX as usize] as i64, nr);
        }
        for (entry, exit, _) in [&mut want, &mut got].into_iter().flatten() {
            entry[libc::ORIG_RAX as usize] = 0;
            exit[libc::ORIG_RAX as usize] = 0;
        }
        for (i, what) in ["entry", "exit"].into_iter().enumerate() {
            let of = |seen: &Result<Seen, String>| seen.clone().map(|(entry, exit, _)| if i == 0 { entry } else { exit });
            report.check(&format!("trace {name} {what}"), of(&got), of(&want));
        }
        report.check(&format!("trace {name} result"), got.map(|g| g.2), want.map(|w| w.2));
    }
    for (by, way) in ways.named() {
        report.check(&format!("trace another call {by}"), other_call(way), Ok(0o123));
        report.check(&format!("trace another result {by}"), other_result(way), Ok([-38, 1234]));
        report.check(&format!("trace other registers {by}"), other_registers(way), Ok([42, 42, 43]));
        report.check(&format!("trace another place {by}"), other_place(way), Ok(2));
        report.check(&format!("trace emulated {by}"), emulated(way), Ok([231, 4321]));
        report.check(&format!("trace end {by}"), end(way), Ok([1, 6, 11, 12, 13, 14]));
        report.check(&format!("trace seized {by}"), seized(way), Ok([libc::SYS_read, 1]));
    }
}
