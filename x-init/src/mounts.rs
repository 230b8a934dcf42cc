//! File systems: those that every container has, and those that its configuration asks for.

use std::ffi::CString;

use rustix::io::Errno;
use rustix::mount::{MountFlags, mount};
use x_init::config::Mount;

use crate::{Attempt, Fault, say};

/// A file system that every container has: type, target, flags, and its own options.
type Usual = (&'static str, &'static str, MountFlags, &'static str);

const NO_PROGRAMS: MountFlags = MountFlags::NOSUID.union(MountFlags::NOEXEC).union(MountFlags::NODEV);

/// In their order; the table of the OCI runtime specification, with /sys writable: the kernel is the container's own.
const USUAL: &[Usual] = &[
    ("proc", "/proc", NO_PROGRAMS, ""),
    ("sysfs", "/sys", NO_PROGRAMS, ""),
    ("devtmpfs", "/dev", MountFlags::NOSUID, "mode=0755"),
    ("devpts", "/dev/pts", MountFlags::NOSUID.union(MountFlags::NOEXEC), "ptmxmode=0666,mode=0620,gid=5"),
    ("tmpfs", "/dev/shm", NO_PROGRAMS, "mode=1777"),
    ("mqueue", "/dev/mqueue", NO_PROGRAMS, ""),
    ("cgroup2", "/sys/fs/cgroup", NO_PROGRAMS, ""),
];

/// Options that are flags of the call; a file system gets the others.
const FLAGS: &[(&str, MountFlags, bool)] = &[
    ("ro", MountFlags::RDONLY, true),
    ("rw", MountFlags::RDONLY, false),
    ("nosuid", MountFlags::NOSUID, true),
    ("suid", MountFlags::NOSUID, false),
    ("nodev", MountFlags::NODEV, true),
    ("dev", MountFlags::NODEV, false),
    ("noexec", MountFlags::NOEXEC, true),
    ("exec", MountFlags::NOEXEC, false),
    ("noatime", MountFlags::NOATIME, true),
    ("relatime", MountFlags::RELATIME, true),
    ("sync", MountFlags::SYNCHRONOUS, true),
    ("bind", MountFlags::BIND, true),
    ("rbind", MountFlags::BIND.union(MountFlags::REC), true),
];

/// Flags and the rest of an options field.
fn options(text: &str) -> (MountFlags, String) {
    let (mut flags, mut rest) = (MountFlags::empty(), Vec::new());
    for option in text.split(',').filter(|o| !o.is_empty() && *o != "defaults") {
        match FLAGS.iter().find(|f| f.0 == option) {
            Some(&(_, flag, on)) => flags.set(flag, on),
            None => rest.push(option),
        }
    }
    (flags, rest.join(","))
}

fn one(source: &str, target: &str, kind: &str, flags: MountFlags, data: &str) -> Result<(), Errno> {
    let data = CString::new(data).map_err(|_| Errno::INVAL)?;
    mount(source, target, kind, flags, data.as_c_str())
}

/// Mounts what every container has. Without a kernel's part of it a program may well do, so nothing here ends the start.
pub fn usual() {
    for &(kind, target, flags, data) in USUAL {
        // The kernel makes some of these folders itself, in a file system that takes no others.
        let _ = std::fs::create_dir_all(target);
        match one(kind, target, kind, flags, data) {
            // A kernel without it.
            Ok(()) | Err(Errno::NODEV) => {}
            Err(Errno::NOENT) if kind == "cgroup2" => {}
            Err(error) => say(format_args!("{target}: {error}")),
        }
    }
}

/// Mounts what the configuration asks for.
///
/// # Errors
/// The first that cannot be mounted.
pub fn asked_for(list: &[Mount]) -> Result<(), Fault> {
    for m in list {
        let what = || format!("mount of {} at {}", m.kind, m.target);
        std::fs::create_dir_all(&m.target).attempt(what())?;
        let (flags, data) = options(&m.options);
        one(&m.source, &m.target, &m.kind, flags, &data).attempt(what())?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn options_are_told_apart() {
        assert_eq!(options(""), (MountFlags::empty(), String::new()));
        assert_eq!(options("defaults"), (MountFlags::empty(), String::new()));
        assert_eq!(options("ro,size=1m,nosuid,mode=755"), (MountFlags::RDONLY | MountFlags::NOSUID, "size=1m,mode=755".into()));
        assert_eq!(options("ro,rw,rbind"), (MountFlags::BIND | MountFlags::REC, String::new()));
    }

    #[test]
    fn what_lies_in_another_comes_after_it() {
        for (i, (_, target, ..)) in USUAL.iter().enumerate() {
            assert!(USUAL[i + 1..].iter().all(|later| !target.starts_with(later.1)), "{target}");
        }
    }
}
