//! What of a machine's serial output goes where, and the exit status of the command in the guest.

use std::borrow::Cow;

/// What of a machine's serial output is shown.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum Show {
    /// Nothing.
    #[default]
    Nothing,
    /// All of it.
    All,
    /// What the first domain's command says, on standard output; all else on standard error.
    Command,
}

/// What goes before a command's output, and, with its exit status, after it. A container's x-init puts a mark behind both,
/// the same one, which its program cannot know: no line of that passes for the status.
const BEGIN: &str = "XK-BEGIN";
const EXIT: &str = "XK-EXIT ";
/// What the X-Kernel's own lines begin with.
const OURS: &str = "X-Kernel: ";
/// What the X-Kernel says of a domain that the operator has ended, behind its name; and the exit status that this stands for:
/// that of SIGKILL.
const KILLED: &str = "): killed by the operator";
const STATUS_OF_KILL: u8 = 128 + 9;
/// The first domain's name, where nothing says another.
const FIRST: &str = "d1";

/// Whose lines those of a machine are.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub enum Domains {
    /// There is one: its lines are as it says them.
    #[default]
    One,
    /// There are several, and the first one's command counts.
    First,
    /// There are containers of these names, and each one's command counts.
    Containers(Vec<String>),
}

/// Where a line goes.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum To {
    /// To standard output.
    Out,
    /// To standard error.
    Err,
    /// Nowhere.
    Nowhere,
}

/// A domain whose command counts.
#[derive(Debug)]
struct Followed {
    /// What its lines begin with.
    prefix: String,
    /// The mark of the command that runs; the empty one if it has none.
    command: Option<String>,
    /// The command's exit status, once it has ended.
    status: Option<u8>,
}

/// Follows a machine's output line by line.
#[derive(Debug)]
pub struct Screen {
    show: Show,
    /// Whether what is shown of a command carries its container's name.
    named: bool,
    followed: Vec<Followed>,
    /// The exit status of the first command that failed.
    failed: Option<u8>,
}

/// What the lines of a domain begin with, where there are several.
pub fn prefix(name: &str) -> String {
    format!("[{name}] ")
}

/// The name of the domain that is killed, if the X-Kernel's `line` says so.
fn killed(line: &str) -> Option<&str> {
    let (_, name) = line.strip_prefix(OURS)?.strip_prefix("domain ")?.split_once(" (")?;
    name.trim_end().strip_suffix(KILLED)
}

impl Screen {
    /// A screen; with several domains lines carry names.
    pub fn new(show: Show, domains: &Domains) -> Self {
        let prefixes = match domains {
            Domains::One => vec![String::new()],
            Domains::First => vec![prefix(FIRST)],
            Domains::Containers(names) => names.iter().map(|n| prefix(n)).collect(),
        };
        let followed = prefixes.into_iter().map(|prefix| Followed { prefix, command: None, status: None });
        Self { show, named: matches!(domains, Domains::Containers(_)), followed: followed.collect(), failed: None }
    }

    /// The exit status: that of the first command that failed, 0 if all have ended well, and none if one has not ended.
    pub fn status(&self) -> Option<u8> {
        self.failed.or_else(|| self.followed.iter().map(|f| f.status).collect::<Option<Vec<_>>>().map(|_| 0))
    }

    /// Which of several containers did not end well, and how.
    pub fn unwell(&self) -> Vec<String> {
        let of = |f: &Followed| match f.status {
            Some(0) => None,
            Some(status) => Some(format!("{} exit status {status}", f.prefix.trim())),
            None => Some(format!("{} ended before its command did", f.prefix.trim())),
        };
        self.followed.iter().filter(|_| self.named).filter_map(of).collect()
    }

    /// Takes a line, and says what of it goes where.
    pub fn line<'a>(&mut self, line: &'a str) -> (To, Cow<'a, str>) {
        let whole = match self.show {
            Show::Nothing => To::Nowhere,
            Show::All => To::Out,
            Show::Command => To::Err,
        };
        let whole = (whole, Cow::Borrowed(line));
        if let Some(name) = killed(line) {
            let gone = self.followed.iter_mut().find(|f| f.status.is_none() && (f.prefix.is_empty() || f.prefix == prefix(name)));
            if let Some(followed) = gone {
                (followed.status, followed.command) = (Some(STATUS_OF_KILL), None);
                self.failed = self.failed.or(Some(STATUS_OF_KILL));
            }
            return whole;
        }
        let of = |f: &&mut Followed| if f.prefix.is_empty() { !line.starts_with(OURS) } else { line.starts_with(&f.prefix) };
        let Some(followed) = self.followed.iter_mut().find(of) else { return whole };
        let text = line.get(followed.prefix.len()..).unwrap_or_default();
        let Some(mark) = &followed.command else {
            followed.command = text.strip_prefix(BEGIN).map(|mark| mark.trim().to_string()).filter(|_| followed.status.is_none());
            return whole;
        };
        let commands = self.show == Show::Command;
        // A command whose last line has no end has this behind it.
        if let Some((before, after)) = text.split_once(EXIT)
            && let Some(status) = after.strip_prefix(mark.as_str())
            && let Ok(status) = status.trim().parse()
        {
            (followed.status, followed.command) = (Some(status), None);
            self.failed = self.failed.or(Some(status).filter(|&s| s != 0));
            return match (before, commands) {
                ("", _) | (_, false) => whole,
                (_, true) if self.named => (To::Out, Cow::Owned(format!("{}{before}\n", followed.prefix))),
                (_, true) => (To::Out, Cow::Borrowed(before)),
            };
        }
        match commands {
            true if self.named => (To::Out, Cow::Borrowed(line)),
            true => (To::Out, Cow::Borrowed(text)),
            false => whole,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown_of(domains: &Domains, lines: &[&str]) -> (String, Option<u8>) {
        let mut screen = Screen::new(Show::Command, domains);
        let out = lines.iter().map(|l| screen.line(l)).filter(|(to, _)| *to == To::Out).map(|(_, text)| text).collect();
        (out, screen.status())
    }

    fn shown(several: bool, lines: &[&str]) -> (String, Option<u8>) {
        shown_of(if several { &Domains::First } else { &Domains::One }, lines)
    }

    #[test]
    fn only_the_command_is_on_stdout() {
        let log = ["X-Kernel: a\n", "noise\n", "XK-BEGIN\n", "one\n", "X-Kernel: b\n", "two\n", "XK-EXIT 7\n", "noise\n"];
        assert_eq!(shown(false, &log), ("one\ntwo\n".into(), Some(7)));
    }

    #[test]
    fn a_last_line_without_an_end() {
        assert_eq!(shown(false, &["XK-BEGIN\n", "noXK-EXIT 0\n"]), ("no".into(), Some(0)));
        assert_eq!(shown(false, &["XK-EXIT 3\n"]), (String::new(), None));
    }

    #[test]
    fn only_the_line_with_the_mark_is_the_end() {
        let log = ["XK-BEGIN ab-1\n", "XK-EXIT 0\n", "XK-EXIT ab-2 0\n", "XK-BEGIN\n", "XK-EXIT ab-1 7\n", "XK-BEGIN\n", "XK-EXIT 0\n"];
        assert_eq!(shown(false, &log), ("XK-EXIT 0\nXK-EXIT ab-2 0\nXK-BEGIN\n".into(), Some(7)));
    }

    #[test]
    fn of_several_domains_the_first_counts() {
        let log = ["[d1] XK-BEGIN\n", "[b] XK-BEGIN\n", "[b] x\n", "[d1] y\n", "[b] XK-EXIT 1\n", "[d1] XK-EXIT 0\n"];
        assert_eq!(shown(true, &log), ("y\n".into(), Some(0)));
    }

    #[test]
    fn of_containers_each_counts() {
        let three = Domains::Containers(vec!["a-1".into(), "a-2".into(), "b-1".into()]);
        let begin = ["[a-1] XK-BEGIN m\n", "[a-2] XK-BEGIN n\n", "[b-1] XK-BEGIN o\n", "[a-1] x\n", "X-Kernel: y\n", "[c] z\n"];
        let with = |rest: &[&str]| shown_of(&three, &[&begin, rest].concat());
        assert_eq!(with(&[]), ("[a-1] x\n".into(), None));
        assert_eq!(with(&["[a-1] XK-EXIT m 0\n", "[b-1] XK-EXIT o 0\n"]).1, None);
        assert_eq!(with(&["[a-1] XK-EXIT m 0\n", "[b-1] XK-EXIT o 0\n", "[a-2] eXK-EXIT n 0\n"]), ("[a-1] x\n[a-2] e\n".into(), Some(0)));
        // By the time, and not by the order of names; a neighbour's mark does not count.
        assert_eq!(with(&["[b-1] XK-EXIT o 5\n", "[a-1] XK-EXIT m 3\n", "[a-2] XK-EXIT n 0\n"]).1, Some(5));
        assert_eq!(with(&["[b-1] XK-EXIT m 5\n", "[a-1] XK-EXIT m 3\n"]).1, Some(3));
        let mut screen = Screen::new(Show::Command, &three);
        for line in [&begin[..], &["[a-1] XK-EXIT m 0\n", "[a-2] XK-EXIT n 7\n"]].concat() {
            screen.line(line);
        }
        assert_eq!(screen.unwell(), ["[a-2] exit status 7", "[b-1] ended before its command did"]);
    }

    #[test]
    fn who_is_killed_has_a_status() {
        let gone = "X-Kernel: domain 2 (a-2): killed by the operator\n";
        let two = Domains::Containers(vec!["a-1".into(), "a-2".into()]);
        assert_eq!(shown_of(&two, &["[a-1] XK-BEGIN m\n", "[a-2] XK-BEGIN n\n", gone, "[a-1] XK-EXIT m 0\n"]).1, Some(137));
        assert_eq!(shown_of(&two, &["[a-1] XK-BEGIN m\n", &format!("[a-1] {gone}"), "[a-1] XK-EXIT m 0\n"]).1, None);
        assert_eq!(shown(false, &["XK-BEGIN\n", "X-Kernel: domain 1 (d1): killed by the operator\n"]).1, Some(137));
        assert_eq!(shown(true, &["[d1] XK-BEGIN\n", gone, "[d1] XK-EXIT 3\n"]).1, Some(3));
    }

    #[test]
    fn a_status_is_known_when_all_is_shown() {
        let mut screen = Screen::new(Show::All, &Domains::One);
        for line in ["XK-BEGIN m\n", "x\n", "XK-EXIT m 4\n"] {
            assert_eq!(screen.line(line), (To::Out, Cow::Borrowed(line)));
        }
        assert_eq!(screen.status(), Some(4));
    }
}
