//! The child of process 1, until it is the program: a session, a working directory, a user, and exec.

use std::ffi::OsString;
use std::io;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::fs::fchown;
use std::os::unix::process::CommandExt;
use std::process::Command;

use rustix::process::{Gid, Uid, ioctl_tiocsctty, setsid};
use rustix::thread::{set_thread_groups, set_thread_res_gid, set_thread_res_uid};
use x_init::config::{self, Config};
use x_init::user::{self, Identity};

use crate::{Attempt, FAILED, Fault, configuration, say};

/// Exit status of a program that cannot be run, and of one that is not there, as shells have them.
const NOT_RUN: u8 = 126;
/// See [`NOT_RUN`].
const NOT_FOUND: u8 = 127;

/// Where programs are looked for if the environment does not say.
const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// Becomes the program. Returns, with the exit status, only if that fails.
pub fn program() -> u8 {
    let (config, identity) = match prepare() {
        Ok(prepared) => prepared,
        Err(fault) => {
            say(fault);
            return FAILED;
        }
    };
    let Some((program, args)) = config.argv.split_first() else { return FAILED };
    let error = Command::new(program).args(args).env_clear().envs(environment(&config, &identity)).exec();
    say(format_args!("{}: {error}", program.display()));
    status_of(&error)
}

/// The exit status for an error of exec.
fn status_of(error: &io::Error) -> u8 {
    match error.kind() {
        io::ErrorKind::NotFound | io::ErrorKind::NotADirectory => NOT_FOUND,
        _ => NOT_RUN,
    }
}

/// The program's environment: what the configuration says, and what every program expects besides.
fn environment(config: &Config, identity: &Identity) -> Vec<(OsString, OsString)> {
    let usual = [
        ("PATH", Some(PATH)),
        ("HOME", Some(identity.home.as_deref().unwrap_or("/"))),
        ("HOSTNAME", config.hostname.as_deref()),
        ("TERM", config.terminal.then_some("xterm")),
    ];
    let missing = usual.into_iter().filter(|(name, _)| config.variable(name).is_none());
    let mut all: Vec<_> = missing.filter_map(|(name, value)| Some((name.into(), value?.into()))).collect();
    for entry in &config.env {
        let bytes = entry.as_bytes();
        let (name, value) = bytes.split_at(bytes.iter().position(|&b| b == b'=').unwrap_or(bytes.len()));
        all.push((OsString::from_vec(name.to_vec()), OsString::from_vec(value.get(1..).unwrap_or_default().to_vec())));
    }
    all
}

/// The text of a file; one that is not there is empty.
fn text(path: &str) -> Result<String, Fault> {
    match std::fs::read(path) {
        Ok(bytes) => Ok(String::from_utf8_lossy(&bytes).into_owned()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(String::new()),
        Err(error) => Err(format!("{path}: {error}")),
    }
}

/// All that must be so before the program starts.
fn prepare() -> Result<(Config, Identity), Fault> {
    let config = configuration()?;
    let identity = user::resolve(&config.user, &config.groups, &text("/etc/passwd")?, &text("/etc/group")?).attempt("user")?;
    // The container's file system is the image's from here on.
    std::fs::remove_dir_all(config::FOLDER).attempt(config::FOLDER)?;
    setsid().attempt("session")?;
    if config.terminal {
        ioctl_tiocsctty(io::stdin()).attempt("controlling terminal")?;
    }
    // What was opened for it is its own, so that it can open it again, as /dev/stdout for one.
    fchown(io::stdout(), Some(identity.uid), None).attempt("console")?;
    let cwd = config.cwd.display();
    std::fs::create_dir_all(&config.cwd).and_then(|()| std::env::set_current_dir(&config.cwd)).attempt(cwd)?;
    let groups: Vec<_> = identity.groups.iter().map(|&g| Gid::from_raw(g)).collect();
    set_thread_groups(&groups).attempt("groups")?;
    let (uid, gid) = (Uid::from_raw(identity.uid), Gid::from_raw(identity.gid));
    set_thread_res_gid(gid, gid, gid).attempt("group")?;
    set_thread_res_uid(uid, uid, uid).attempt("user")?;
    Ok((config, identity))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(env: &[&str], terminal: bool) -> Vec<String> {
        let mut config = Config::new(vec!["a".into()]);
        config.env = env.iter().map(Into::into).collect();
        config.terminal = terminal;
        let identity = Identity { uid: 1, gid: 1, groups: Vec::new(), home: Some("/var/me".into()) };
        environment(&config, &identity).iter().map(|(k, v)| format!("{}={}", k.display(), v.display())).collect()
    }

    #[test]
    fn an_environment_is_completed() {
        assert_eq!(of(&[], true), [format!("PATH={PATH}"), "HOME=/var/me".into(), "TERM=xterm".into()]);
        assert_eq!(of(&["HOME=/", "PATH=/bin", "A=b=c"], false), ["HOME=/", "PATH=/bin", "A=b=c"]);
    }

    #[test]
    fn failures_have_the_status_that_shells_give() {
        let of = |number| status_of(&io::Error::from_raw_os_error(number));
        assert_eq!([of(2), of(20), of(13), of(8)], [127, 127, 126, 126]);
    }
}
