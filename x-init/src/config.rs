//! The configuration file: records `key=value`, each ended by a NUL.
//!
//! NUL is the one byte that can be in no argument, no variable and no path, so nothing needs quoting. `tr '\0' '\n'`
//! shows a file. What is not understood is an error: a container that starts otherwise than it was asked to is worse
//! than one that does not start. docs/CONTAINERS.md describes every key.

use std::ffi::{OsStr, OsString};
use std::fmt;
use std::os::unix::ffi::{OsStrExt, OsStringExt};

use crate::signal;

/// The folder, in the initial file system, of x-init and of what it is told; it is gone when the program starts.
pub const FOLDER: &str = "/.x-container";
/// The configuration file.
pub const FILE: &str = "/.x-container/config";
/// The program itself.
pub const PROGRAM: &str = "/.x-container/init";

/// The word before the line of a container's exit status, and the one that says that its output begins. After each comes
/// a blank and a mark, the same one, that the program cannot know.
pub const EXIT: &str = "XK-EXIT";
/// See [`EXIT`].
pub const BEGIN: &str = "XK-BEGIN";

/// The longest host name that Linux takes.
const HOSTNAME_MAX: usize = 64;
/// So long does a program's offspring have to end, if nothing else is said, in seconds.
const GRACE: u32 = 5;

/// And this signal, SIGTERM, asks the program to end.
const STOP_SIGNAL: i32 = 15;

/// What to run, and how.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Config {
    /// The program and its arguments; at least one.
    pub argv: Vec<OsString>,
    /// Its environment, `NAME=value`.
    pub env: Vec<OsString>,
    /// Its working directory, absolute.
    pub cwd: OsString,
    /// Its user, `USER[:GROUP]`, by names or numbers.
    pub user: String,
    /// Further groups, by names or numbers.
    pub groups: Vec<String>,
    /// The container's name.
    pub hostname: Option<String>,
    /// Whether the console is its controlling terminal.
    pub terminal: bool,
    /// What to mount besides what every container has.
    pub mounts: Vec<Mount>,
    /// Seconds that its offspring have between SIGTERM and SIGKILL when it has ended.
    pub grace: u32,
    /// The signal that the program gets when process 1 is asked to end, by its number.
    pub stop_signal: i32,
}

/// A mount: four words as in a line of fstab.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Mount {
    /// The device, or any word.
    pub source: String,
    /// Where, absolute.
    pub target: String,
    /// The type of file system.
    pub kind: String,
    /// Options, with commas between them.
    pub options: String,
}

/// What is wrong with a configuration.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum ConfigError {
    /// The last record has no end.
    Cut,
    /// Two ends with nothing between them.
    Empty,
    /// A record without `=`.
    NoValue(String),
    /// A key that there is not.
    UnknownKey(String),
    /// A key that may be there once.
    Repeated(&'static str),
    /// A key that must be there.
    Missing(&'static str),
    /// A value that does not fit its key, and what would.
    Bad(&'static str, String, &'static str),
    /// Something that cannot be written, because it has a NUL in it.
    Nul(&'static str),
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Cut => f.write_str("the last record is cut off: each ends with a NUL"),
            Self::Empty => f.write_str("an empty record"),
            Self::NoValue(record) => write!(f, "'{record}' has no '='"),
            Self::UnknownKey(key) => write!(f, "there is no key '{key}'"),
            Self::Repeated(key) => write!(f, "'{key}' is there twice"),
            Self::Missing(key) => write!(f, "'{key}' is missing"),
            Self::Bad(key, value, want) => write!(f, "{key}: '{value}' is not {want}"),
            Self::Nul(key) => write!(f, "{key}: a NUL cannot be in it"),
        }
    }
}

impl std::error::Error for ConfigError {}

/// A number as the file has it: digits only.
fn number(text: &str) -> Option<u32> {
    Some(text).filter(|t| t.bytes().all(|b| b.is_ascii_digit())).and_then(|t| t.parse().ok())
}

/// Puts a value where there must be none yet.
fn once<T>(slot: &mut Option<T>, key: &'static str, value: T) -> Result<(), ConfigError> {
    match slot.replace(value) {
        None => Ok(()),
        Some(_) => Err(ConfigError::Repeated(key)),
    }
}

impl Config {
    /// A configuration that runs `argv` as root in `/`.
    pub fn new(argv: Vec<OsString>) -> Self {
        Self {
            argv,
            env: Vec::new(),
            cwd: "/".into(),
            user: "0:0".into(),
            groups: Vec::new(),
            hostname: None,
            terminal: false,
            mounts: Vec::new(),
            grace: GRACE,
            stop_signal: STOP_SIGNAL,
        }
    }

    /// Reads a file's content.
    ///
    /// # Errors
    /// The first record that is not as it must be, or what is not there.
    pub fn parse(bytes: &[u8]) -> Result<Self, ConfigError> {
        let mut config = Self::new(Vec::new());
        let (mut cwd, mut user, mut hostname, mut terminal, mut grace, mut stop) = (None, None, None, None, None, None);
        let mut rest = bytes;
        while !rest.is_empty() {
            let end = rest.iter().position(|&b| b == 0).ok_or(ConfigError::Cut)?;
            let (record, after) = rest.split_at(end);
            rest = after.get(1..).unwrap_or_default();
            if record.is_empty() {
                return Err(ConfigError::Empty);
            }
            let shown = || String::from_utf8_lossy(record).into_owned();
            let equals = record.iter().position(|&b| b == b'=').ok_or_else(|| ConfigError::NoValue(shown()))?;
            let (key, value) = record.split_at(equals);
            let value = value.get(1..).unwrap_or_default();
            let owned = || OsString::from_vec(value.to_vec());
            let bad = |key, want| ConfigError::Bad(key, String::from_utf8_lossy(value).into_owned(), want);
            let text = |key| str::from_utf8(value).map_err(|_| bad(key, "text"));
            match key {
                b"arg" => config.argv.push(owned()),
                b"env" => config.env.push(variable(value).ok_or_else(|| bad("env", "NAME=value"))?),
                b"cwd" if !value.starts_with(b"/") => return Err(bad("cwd", "an absolute path")),
                b"cwd" => once(&mut cwd, "cwd", owned())?,
                b"user" => once(&mut user, "user", text("user")?.to_string())?,
                b"group" => config.groups.push(text("group")?.to_string()),
                b"hostname" if !is_hostname(value) => return Err(bad("hostname", "a host name")),
                b"hostname" => once(&mut hostname, "hostname", text("hostname")?.to_string())?,
                b"terminal" => once(&mut terminal, "terminal", flag(value).ok_or_else(|| bad("terminal", "yes or no"))?)?,
                b"mount" => config.mounts.push(Mount::parse(text("mount")?).ok_or_else(|| bad("mount", "SOURCE TARGET TYPE OPTIONS"))?),
                b"grace" => once(&mut grace, "grace", number(text("grace")?).ok_or_else(|| bad("grace", "a number of seconds"))?)?,
                b"stop-signal" => {
                    let signal = signal::number(text("stop-signal")?).ok_or_else(|| bad("stop-signal", "a signal"))?;
                    once(&mut stop, "stop-signal", signal)?;
                }
                _ => return Err(ConfigError::UnknownKey(String::from_utf8_lossy(key).into_owned())),
            }
        }
        if config.argv.first().is_none_or(|program| program.is_empty()) {
            return Err(ConfigError::Missing("arg"));
        }
        config.cwd = cwd.unwrap_or(config.cwd);
        config.user = user.unwrap_or(config.user);
        config.hostname = hostname;
        config.terminal = terminal.unwrap_or(config.terminal);
        config.grace = grace.unwrap_or(config.grace);
        config.stop_signal = stop.unwrap_or(config.stop_signal);
        Ok(config)
    }

    /// The file's content; [`Self::parse`] reads it back.
    ///
    /// # Errors
    /// What cannot be written, or would not be read.
    pub fn encode(&self) -> Result<Vec<u8>, ConfigError> {
        let mut out = Vec::new();
        let mut put = |key: &'static str, value: &OsStr| {
            if value.as_bytes().contains(&0) {
                return Err(ConfigError::Nul(key));
            }
            out.extend([key.as_bytes(), b"=", value.as_bytes(), b"\0"].concat());
            Ok(())
        };
        self.argv.iter().try_for_each(|a| put("arg", a))?;
        self.env.iter().try_for_each(|e| put("env", e))?;
        put("cwd", &self.cwd)?;
        put("user", self.user.as_ref())?;
        self.groups.iter().try_for_each(|g| put("group", g.as_ref()))?;
        self.hostname.iter().try_for_each(|h| put("hostname", h.as_ref()))?;
        put("terminal", if self.terminal { "yes" } else { "no" }.as_ref())?;
        self.mounts.iter().try_for_each(|m| put("mount", m.line().as_ref()))?;
        put("grace", self.grace.to_string().as_ref())?;
        put("stop-signal", self.stop_signal.to_string().as_ref())?;
        Self::parse(&out)?;
        Ok(out)
    }

    /// The value of a variable of the environment.
    pub fn variable(&self, name: &str) -> Option<&OsStr> {
        let of = |e: &'_ OsString| -> Option<usize> { e.as_bytes().strip_prefix(name.as_bytes())?.strip_prefix(b"=").map(<[u8]>::len) };
        self.env.iter().rev().find_map(|e| Some(OsStr::from_bytes(e.as_bytes().get(e.len().checked_sub(of(e)?)?..)?)))
    }
}

/// A variable, if it has a name.
fn variable(value: &[u8]) -> Option<OsString> {
    (value.iter().position(|&b| b == b'=')? > 0).then(|| OsString::from_vec(value.to_vec()))
}

fn flag(value: &[u8]) -> Option<bool> {
    match value {
        b"yes" => Some(true),
        b"no" => Some(false),
        _ => None,
    }
}

fn is_hostname(value: &[u8]) -> bool {
    let fits = |b: &u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'.' | b'_');
    (1..=HOSTNAME_MAX).contains(&value.len()) && value.iter().all(fits)
}

impl Mount {
    fn parse(line: &str) -> Option<Self> {
        let mut words = line.split(' ').map(unescaped);
        let (source, target, kind, options) = (words.next()??, words.next()??, words.next()??, words.next()??);
        let whole = words.next().is_none() && target.starts_with('/') && !kind.is_empty();
        whole.then_some(Self { source, target, kind, options })
    }

    fn line(&self) -> String {
        [&self.source, &self.target, &self.kind, &self.options].map(|word| word.replace('\\', r"\134").replace(' ', r"\040")).join(" ")
    }
}

/// A word of fstab: a blank and a backslash stand in it as octal numbers.
fn unescaped(word: &str) -> Option<String> {
    let mut parts = word.split('\\');
    let mut out = parts.next()?.to_string();
    for part in parts {
        let (code, rest) = part.split_at_checked(3)?;
        out.push(match code {
            "040" => ' ',
            "134" => '\\',
            _ => return None,
        });
        out.push_str(rest);
    }
    Some(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fault(text: &str) -> String {
        Config::parse(text.as_bytes()).expect_err(text).to_string()
    }

    #[test]
    fn little_is_enough() {
        assert_eq!(Config::parse(b"arg=/bin/true\0"), Ok(Config::new(vec!["/bin/true".into()])));
    }

    #[test]
    fn all_is_read_as_it_was_written() {
        let config = Config {
            argv: vec!["sh".into(), "-c".into(), "echo \"a=b\"\nc".into(), "".into(), OsString::from_vec(vec![0xff, b'='])],
            env: vec!["A=1".into(), "B=".into(), "C=x=y\nz".into()],
            cwd: "/var/lib/a b".into(),
            user: "www-data:daemon".into(),
            groups: vec!["4".into(), "adm".into()],
            hostname: Some("web-1.local".into()),
            terminal: true,
            mounts: vec![Mount { source: "a b".into(), target: "/x\\y".into(), kind: "tmpfs".into(), options: "ro,mode=755".into() }],
            grace: 0,
            stop_signal: 3,
        };
        let bytes = config.encode().expect("it can be written");
        assert_eq!(Config::parse(&bytes), Ok(config.clone()));
        assert_eq!(config.variable("C"), Some("x=y\nz".as_ref()));
        assert_eq!(config.variable("B"), Some("".as_ref()));
        assert_eq!(config.variable("D"), None);
    }

    #[test]
    fn bad_records_are_named() {
        assert_eq!(fault(""), "'arg' is missing");
        assert_eq!(fault("env=A=1\0"), "'arg' is missing");
        assert_eq!(fault("arg=\0arg=x\0"), "'arg' is missing");
        assert_eq!(fault("arg=a"), "the last record is cut off: each ends with a NUL");
        assert_eq!(fault("arg=a\0\0env=A=1\0"), "an empty record");
        assert_eq!(fault("\0"), "an empty record");
        assert_eq!(fault("arg\0"), "'arg' has no '='");
        assert_eq!(fault("arg=a\0argh=b\0"), "there is no key 'argh'");
        assert_eq!(fault("=a\0"), "there is no key ''");
        assert_eq!(fault("ARG=a\0"), "there is no key 'ARG'");
        assert_eq!(fault("arg=a\0cwd=/\0cwd=/\0"), "'cwd' is there twice");
        assert_eq!(fault("arg=a\0user=1\0user=1\0"), "'user' is there twice");
        assert_eq!(fault("arg=a\0hostname=b\0hostname=b\0"), "'hostname' is there twice");
        assert_eq!(fault("arg=a\0terminal=no\0terminal=no\0"), "'terminal' is there twice");
    }

    #[test]
    fn bad_values_are_named() {
        assert_eq!(fault("arg=a\0env=A\0"), "env: 'A' is not NAME=value");
        assert_eq!(fault("arg=a\0env==1\0"), "env: '=1' is not NAME=value");
        assert_eq!(fault("arg=a\0cwd=tmp\0"), "cwd: 'tmp' is not an absolute path");
        assert_eq!(fault("arg=a\0cwd=\0"), "cwd: '' is not an absolute path");
        assert_eq!(fault("arg=a\0hostname=a b\0"), "hostname: 'a b' is not a host name");
        assert_eq!(fault(&format!("arg=a\0hostname={}\0", "h".repeat(65))), format!("hostname: '{}' is not a host name", "h".repeat(65)));
        assert_eq!(fault("arg=a\0stop-signal=SIGRTMIN+3\0"), "stop-signal: 'SIGRTMIN+3' is not a signal");
        assert_eq!(fault("arg=a\0terminal=maybe\0"), "terminal: 'maybe' is not yes or no");
        for bad in ["", "-1", "+1", "4294967296", "1s"] {
            assert_eq!(fault(&format!("arg=a\0grace={bad}\0")), format!("grace: '{bad}' is not a number of seconds"));
        }
        for bad in
            ["", "tmpfs /run tmpfs", "tmpfs run tmpfs ro", "a /b tmpfs ro more", r"a\041 /b tmpfs ro", r"a\0 /b tmpfs ro", "a /b  ro"]
        {
            assert_eq!(fault(&format!("arg=a\0mount={bad}\0")), format!("mount: '{bad}' is not SOURCE TARGET TYPE OPTIONS"));
        }
        assert!(Config::parse(b"arg=a\0user=\xff\0").is_err());
    }

    #[test]
    fn what_would_not_be_read_is_not_written() {
        assert_eq!(Config::new(vec!["a\0b".into()]).encode(), Err(ConfigError::Nul("arg")));
        assert_eq!(Config::new(Vec::new()).encode(), Err(ConfigError::Missing("arg")));
        let bad = Config { cwd: "tmp".into(), ..Config::new(vec!["a".into()]) };
        assert!(bad.encode().is_err());
    }
}
