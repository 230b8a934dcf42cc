//! What the kernel says of all this: nothing is wrong with it.

use std::fs::OpenOptions;
use std::io::Read;
use std::os::unix::fs::OpenOptionsExt;

use crate::report::Report;
use crate::way::Ways;

const COMPLAINTS: &[&str] = &["Oops", "BUG:", "WARNING:", "Call Trace", "lockup", "unsafe MSR"];

/// The kernel's log has no complaints.
pub fn check(report: &mut Report, _: Ways) {
    let Ok(mut log) = OpenOptions::new().read(true).custom_flags(libc::O_NONBLOCK).open("/dev/kmsg") else {
        return report.check("kernel-log", "no /dev/kmsg", "");
    };
    let mut complaints = Vec::new();
    let mut record = vec![0; 8192];
    // One record each time; then there is none and it would wait.
    while let Ok(length) = log.read(&mut record) {
        let text = String::from_utf8_lossy(record.get(..length).unwrap_or_default()).into_owned();
        if COMPLAINTS.iter().any(|c| text.contains(c)) {
            complaints.push(text);
        }
    }
    report.check("kernel-log", complaints.as_slice(), &[]);
}
