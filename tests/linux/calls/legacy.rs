//! The vsyscalls of old programs, which are called at addresses on the table's own page.

use crate::child::{self, End};
use crate::report::Report;
use crate::way::Ways;

type GetTimeOfDay = unsafe extern "C" fn(*mut libc::timeval, *mut libc::timezone) -> isize;
type Time = unsafe extern "C" fn(*mut libc::time_t) -> isize;
type GetCpu = unsafe extern "C" fn(*mut u32, *mut u32, *mut u8) -> isize;

const GETTIMEOFDAY: usize = 0xffff_ffff_ff60_0000;
const TIME: usize = 0xffff_ffff_ff60_0400;
const GETCPU: usize = 0xffff_ffff_ff60_0800;

/// Whether `then` is at most a second after `before`.
fn soon(before: i64, then: i64) -> bool {
    (0..=1).contains(&(then - before))
}

fn seconds() -> i64 {
    // SAFETY: the result may go nowhere.
    unsafe { libc::time(std::ptr::null_mut()) }
}

/// They are emulated as ever.
pub fn check(report: &mut Report, _: Ways) {
    report.check("legacy gettimeofday", child::run(gettimeofday), End::Exited(0));
    report.check("legacy time", child::run(time), End::Exited(0));
    report.check("legacy getcpu", child::run(getcpu), End::Exited(0));
    report.check("legacy elsewhere", child::run(elsewhere), End::Killed(libc::SIGSEGV));
}

fn gettimeofday() -> i32 {
    // SAFETY: this is the function that has always been there.
    let f = unsafe { std::mem::transmute::<usize, GetTimeOfDay>(GETTIMEOFDAY) };
    let mut now = libc::timeval { tv_sec: 0, tv_usec: -1 };
    let before = seconds();
    // SAFETY: the time goes to the variable.
    let result = unsafe { f(&raw mut now, std::ptr::null_mut()) };
    i32::from(result != 0 || !soon(before, now.tv_sec) || now.tv_usec < 0)
}

fn time() -> i32 {
    // SAFETY: as above.
    let f = unsafe { std::mem::transmute::<usize, Time>(TIME) };
    let mut now = 0;
    let before = seconds();
    // SAFETY: the time goes to the variable.
    let result = unsafe { f(&raw mut now) };
    i32::from(result != now as isize || !soon(before, now))
}

fn getcpu() -> i32 {
    // SAFETY: as above.
    let f = unsafe { std::mem::transmute::<usize, GetCpu>(GETCPU) };
    let mut cpu = u32::MAX;
    // SAFETY: the number goes to the variable.
    let result = unsafe { f(&raw mut cpu, std::ptr::null_mut(), std::ptr::null_mut()) };
    i32::from(result != 0 || cpu > 1023)
}

/// A call elsewhere in the page is a jump to no code.
fn elsewhere() -> i32 {
    // SAFETY: the process may be lost.
    let f = unsafe { std::mem::transmute::<usize, Time>(GETTIMEOFDAY + 0x140) };
    // SAFETY: as above.
    unsafe { f(std::ptr::null_mut()) };
    0
}
