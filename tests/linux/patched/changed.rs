//! Files whose code has been patched, and that change afterwards: who maps them then executes what they are.

use std::fs::{self, File, OpenOptions};
use std::os::fd::{AsRawFd, FromRawFd};
use std::os::unix::fs::FileExt;

use linux_programs::report::Report;

use crate::code::{CALL, OFTEN};

/// A page, in bytes.
const PAGE: usize = 4096;
/// `mov eax, number; syscall; ret`: the number is the second byte.
const CODE: [u8; 8] = [0xb8, 0, 0, 0, 0, 0x0f, 0x05, 0xc3];
/// Where it is, behind what fills up code: what a site is made of is read from what is ahead of it.
const AT: usize = 256;
const FILLING: u8 = 0x90;
/// Where the number is.
const NUMBER: usize = AT + 1;
/// The file.
const PATH: &str = "/tmp/code";

/// The file's first page.
struct Mapped(*mut libc::c_void);

impl Mapped {
    fn new(file: &File, protection: i32, sharing: i32) -> Option<Self> {
        // SAFETY: fresh memory.
        let at = unsafe { libc::mmap(std::ptr::null_mut(), PAGE, protection, sharing, file.as_raw_fd(), 0) };
        (at != libc::MAP_FAILED).then_some(Self(at))
    }

    fn to_execute(file: &File) -> Option<Self> {
        Self::new(file, libc::PROT_READ | libc::PROT_EXEC, libc::MAP_PRIVATE)
    }

    fn byte(&self, at: usize) -> *mut u8 {
        self.0.cast::<u8>().wrapping_add(at)
    }

    fn first_byte(&self) -> u8 {
        // SAFETY: a page is mapped there.
        unsafe { self.byte(AT).read_volatile() }
    }

    fn call(&self) -> i64 {
        // SAFETY: it is [`CODE`], patched or not, with a number that has no arguments.
        unsafe { std::mem::transmute::<*mut u8, extern "C" fn() -> i64>(self.byte(AT))() }
    }
}

impl Drop for Mapped {
    fn drop(&mut self) {
        // SAFETY: nothing refers to it any more.
        unsafe { libc::munmap(self.0, PAGE) };
    }
}

fn write(file: &File, number: u8) -> bool {
    file.write_at(&[number], NUMBER as u64).is_ok()
}

fn store(file: &File, number: u8) -> bool {
    let Some(page) = Mapped::new(file, libc::PROT_READ | libc::PROT_WRITE, libc::MAP_SHARED) else { return false };
    // SAFETY: a page is mapped there, and nobody executes it.
    unsafe { page.byte(NUMBER).write_volatile(number) };
    true
}

/// The file is mapped, patched, mapped anew, changed, and mapped again, for one system call after the other. True if each time
/// the one that is in the file is made, and it becomes a call.
fn follows(file: &File, change: impl Fn(&File, u8) -> bool) -> bool {
    let expected = [
        (libc::SYS_getpid, i64::from(std::process::id())),
        // SAFETY: they have no arguments.
        (libc::SYS_getppid, i64::from(unsafe { libc::getppid() })),
        // SAFETY: the same.
        (libc::SYS_getuid, i64::from(unsafe { libc::getuid() })),
    ];
    expected.into_iter().all(|(number, result)| {
        let right = |page: &Mapped| (0..OFTEN).all(|_| page.call() == result) && page.first_byte() == CALL;
        change(file, number as u8)
            && Mapped::to_execute(file).is_some_and(|page| page.first_byte() == CODE[0] && right(&page))
            && Mapped::to_execute(file).is_some_and(|page| page.first_byte() == CALL && right(&page))
    })
}

/// Puts the code into the file.
fn filled(file: File) -> std::io::Result<File> {
    file.write_all_at(&[FILLING; PAGE], 0)?;
    file.write_all_at(&CODE, AT as u64)?;
    Ok(file)
}

fn opened() -> std::io::Result<File> {
    OpenOptions::new().read(true).write(true).create(true).truncate(false).open(PATH)
}

/// A file that is opened for each change, and that nobody has open for writing when it is mapped and patched.
fn closed(change: fn(&File, u8) -> bool) -> bool {
    opened()
        .and_then(filled)
        .and_then(|_| File::open(PATH))
        .is_ok_and(|file| follows(&file, |_, number| opened().is_ok_and(|file| change(&file, number))))
}

/// One that is open for writing all the time.
fn open(change: fn(&File, u8) -> bool) -> bool {
    opened().and_then(filled).is_ok_and(|file| follows(&file, change))
}

/// One that has no name.
fn memory(change: fn(&File, u8) -> bool) -> bool {
    // SAFETY: it is a name.
    let descriptor = unsafe { libc::memfd_create(c"code".as_ptr(), 0) };
    // SAFETY: it is nobody else's.
    let file = unsafe { File::from_raw_fd(descriptor) };
    filled(file).is_ok_and(|file| follows(&file, change))
}

pub fn check(report: &mut Report) {
    for (how, change) in [("written", write as fn(&File, u8) -> bool), ("by a mapping", store)] {
        report.check(&format!("changed: {how}"), closed(change), true);
        report.check(&format!("changed: {how}, open"), open(change), true);
        report.check(&format!("changed: {how}, memory file"), memory(change), true);
    }
    let _ = fs::remove_file(PATH);
}
