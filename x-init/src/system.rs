//! What programs expect of a machine besides file systems: a few links and files, a name, a loopback interface, a console.

use std::fs::{File, OpenOptions, Permissions};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt, symlink};

use rustix::fs::{OFlags, XattrFlags, lsetxattr};
use rustix::io::Errno;
use rustix::net::{AddressFamily, RecvFlags, SendFlags, SocketType, recv, send, socket};

use x_init::attributes::{self, Attribute};

use crate::{Attempt, Fault, say};

/// Links in /dev that udev or a container runtime would make.
const LINKS: &[(&str, &str)] = &[
    ("/proc/self/fd", "/dev/fd"),
    ("/proc/self/fd/0", "/dev/stdin"),
    ("/proc/self/fd/1", "/dev/stdout"),
    ("/proc/self/fd/2", "/dev/stderr"),
    ("/proc/kcore", "/dev/core"),
];

/// What /etc/hosts says if the image has none.
const HOSTS: &str = "127.0.0.1\tlocalhost\n::1\tlocalhost ip6-localhost ip6-loopback\n";
const HOSTS_FILE: &str = "/etc/hosts";

/// The consoles in use, the chief one last.
const CONSOLES: &str = "/sys/class/tty/console/active";

/// Links and files, where they are not there yet.
pub fn files(hostname: Option<&str>) {
    for (to, link) in LINKS {
        if let Err(error) = symlink(to, link)
            && error.kind() != std::io::ErrorKind::AlreadyExists
        {
            say(format_args!("{link}: {error}"));
        }
    }
    let temporary = "/tmp";
    if std::fs::create_dir(temporary).is_ok() {
        let _ = std::fs::set_permissions(temporary, Permissions::from_mode(0o1777));
    }
    if !std::fs::exists(HOSTS_FILE).unwrap_or(true) {
        let own = hostname.map(|name| format!("127.0.1.1\t{name}\n")).unwrap_or_default();
        let _ = std::fs::create_dir_all("/etc");
        let _ = std::fs::write(HOSTS_FILE, format!("{HOSTS}{own}"));
    }
}

/// How many attributes that cannot be set are named.
const NAMED: usize = 5;

/// Sets the extended attributes that the image's files have. Without one a program may well do, so none ends the start.
pub fn attributes() -> Result<(), Fault> {
    let bytes = match std::fs::read(attributes::FILE) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(()),
        read => read.attempt(attributes::FILE)?,
    };
    let list = attributes::parse(&bytes).ok_or_else(|| format!("{} is not understood", attributes::FILE))?;
    let mut failed = 0_usize;
    for Attribute { path, name, value } in &list {
        if let Err(error) = lsetxattr(format!("/{path}"), name.as_str(), value, XattrFlags::empty()) {
            failed = failed.saturating_add(1);
            if failed <= NAMED {
                say(format_args!("/{path} goes without {name}: {error}"));
            }
        }
    }
    if failed > NAMED {
        say(format_args!("{} more extended attributes could not be set", failed.saturating_sub(NAMED)));
    }
    Ok(())
}

/// Gives the machine its name.
pub fn name(hostname: &str) -> Result<(), Fault> {
    rustix::system::sethostname(hostname.as_bytes()).attempt(format_args!("host name {hostname}"))
}

/// The request that sets `IFF_UP` of the interface 1, which is the loopback of a network namespace: a netlink header
/// (length, RTM_NEWLINK, REQUEST and ACK, sequence, port) and an ifinfomsg (family, type, index, flags, which flags).
fn up_request() -> Vec<u8> {
    const RTM_NEWLINK: u16 = 16;
    const REQUEST_AND_ACK: u16 = 1 | 4;
    const LOOPBACK: i32 = 1;
    const IFF_UP: u32 = 1;
    const LENGTH: u32 = 32;
    let mut out = Vec::new();
    out.extend(LENGTH.to_ne_bytes());
    out.extend(RTM_NEWLINK.to_ne_bytes());
    out.extend(REQUEST_AND_ACK.to_ne_bytes());
    out.extend([0; 8]);
    out.extend([0; 4]);
    out.extend(LOOPBACK.to_ne_bytes());
    out.extend(IFF_UP.to_ne_bytes());
    out.extend(IFF_UP.to_ne_bytes());
    out
}

/// The error number in the kernel's answer, which is at its 16th byte; 0 is none.
fn answer(bytes: &[u8]) -> Option<i32> {
    let number = bytes.get(16..20)?.try_into().ok()?;
    Some(i32::from_ne_bytes(number))
}

/// Switches the loopback interface on; its addresses come with that.
///
/// # Errors
/// What the kernel says, if it has a network at all.
pub fn loopback() -> Result<(), Fault> {
    let what = "loopback";
    // NETLINK_ROUTE is the protocol number 0, which is given by giving none.
    let link = match socket(AddressFamily::NETLINK, SocketType::RAW, None) {
        Ok(link) => link,
        Err(Errno::AFNOSUPPORT) => return Ok(()),
        Err(error) => return Err(format!("{what}: {error}")),
    };
    send(&link, &up_request(), SendFlags::empty()).attempt(what)?;
    let mut buffer = [0; 128];
    let (length, _) = recv(&link, &mut buffer, RecvFlags::empty()).attempt(what)?;
    match buffer.get(..length).and_then(answer) {
        Some(0) => Ok(()),
        Some(number) => Err(format!("{what}: {}", Errno::from_raw_os_error(number.saturating_neg()))),
        None => Err(format!("{what}: an answer of {length} bytes")),
    }
}

/// Opens the console by its own name: `/dev/console` itself can be nobody's controlling terminal.
pub fn console() -> Result<File, Fault> {
    let active = std::fs::read_to_string(CONSOLES).unwrap_or_default();
    let open = |name: &str| {
        let path = format!("/dev/{name}");
        let flags = OFlags::NOCTTY.bits().cast_signed();
        OpenOptions::new().read(true).write(true).custom_flags(flags).open(&path).attempt(path)
    };
    let named = active.split_whitespace().next_back().map(open);
    named.and_then(Result::ok).map_or_else(|| open("console"), Ok)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_is_as_long_as_it_says() {
        assert_eq!(up_request().len(), 32);
    }

    #[test]
    fn answers_are_read() {
        let mut bytes = vec![0; 36];
        assert_eq!(answer(&bytes), Some(0));
        bytes[16..20].copy_from_slice(&(-1_i32).to_ne_bytes());
        assert_eq!(answer(&bytes), Some(-1));
        assert_eq!(answer(&bytes[..18]), None);
    }
}
