//! Files are what they were, whoever looks at them and however.

use std::fs::{self, File};
use std::io::Read;
use std::os::fd::AsRawFd;
use std::process::Command;

use linux_programs::report::Report;

use crate::code::{self, CALL, OFTEN, Site};

const OWN: &str = "/proc/self/exe";

/// All of a file, mapped with `protection` and `sharing`.
fn mapped(path: &str, protection: i32, sharing: i32) -> std::io::Result<Vec<u8>> {
    let file = File::open(path)?;
    let length = file.metadata()?.len() as usize;
    // SAFETY: fresh memory.
    let at = unsafe { libc::mmap(std::ptr::null_mut(), length, protection, sharing, file.as_raw_fd(), 0) };
    if at == libc::MAP_FAILED {
        return Err(std::io::Error::last_os_error());
    }
    // SAFETY: it is mapped, and nobody writes to the file.
    let content = unsafe { std::slice::from_raw_parts(at.cast::<u8>(), length) }.to_vec();
    // SAFETY: nothing refers to it any more.
    unsafe { libc::munmap(at, length) };
    Ok(content)
}

/// What another process says of it.
fn sum(path: &str) -> String {
    let output = Command::new("/bin/busybox").args(["sha256sum", path]).output();
    output.map(|o| String::from_utf8_lossy(&o.stdout).split(' ').next().unwrap_or_default().to_string()).unwrap_or_default()
}

pub fn check(report: &mut Report) {
    let path = fs::read_link(OWN).expect("the program's own file").display().to_string();
    let _ = (0..OFTEN).map(|_| code::getpid()).max();
    report.check("file: patched", Site::getpid().first_byte(), CALL);

    let mut read = Vec::new();
    File::open(&path).and_then(|mut f| f.read_to_end(&mut read)).expect("the file can be read");
    report.check("file read", Site::is_original_in(&read), true);
    for (name, protection, sharing) in [
        ("mapped privately", libc::PROT_READ, libc::MAP_PRIVATE),
        ("mapped shared", libc::PROT_READ, libc::MAP_SHARED),
        ("mapped writable", libc::PROT_READ | libc::PROT_WRITE, libc::MAP_PRIVATE),
    ] {
        let same = mapped(&path, protection, sharing).is_ok_and(|content| content == read);
        report.check(&format!("file {name}"), same, true);
    }
    let copy = "/tmp/copy";
    report.check("file copied", fs::copy(&path, copy).is_ok_and(|n| n == read.len() as u64), true);
    report.check("file compared", fs::read(copy).is_ok_and(|content| content == read), true);
    let (one, other) = (sum(&path), sum(copy));
    report.check("file summed", one.len() == 64 && one == other, true);
    let _ = fs::remove_file(copy);
}
