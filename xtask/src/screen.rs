//! What of a machine's serial output goes where, and the exit status of the command in the guest.

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

/// What goes before a command's output, and, with its exit status, after it.
const BEGIN: &str = "XK-BEGIN";
const EXIT: &str = "XK-EXIT ";
/// What the X-Kernel's own lines begin with, and those of the first domain when there are several.
const OURS: &str = "X-Kernel: ";
const FIRST: &str = "[d1] ";

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

/// Follows a machine's output line by line.
#[derive(Debug)]
pub struct Screen {
    show: Show,
    several: bool,
    in_command: bool,
    /// The exit status of the first domain's command, once it has ended.
    pub status: Option<u8>,
}

impl Screen {
    /// A screen; with `several` domains lines carry names.
    pub fn new(show: Show, several: bool) -> Self {
        Self { show, several, in_command: false, status: None }
    }

    /// Takes a line, and says what of it goes where.
    pub fn line<'a>(&mut self, line: &'a str) -> (To, &'a str) {
        let whole = match self.show {
            Show::Nothing => return (To::Nowhere, line),
            Show::All => return (To::Out, line),
            Show::Command => (To::Err, line),
        };
        let own = if self.several { line.strip_prefix(FIRST) } else { Some(line).filter(|l| !l.starts_with(OURS)) };
        let Some(text) = own else { return whole };
        if text.trim_end() == BEGIN {
            self.in_command = true;
            return whole;
        }
        // A command whose last line has no end has this behind it.
        if let Some((before, status)) = text.split_once(EXIT).filter(|_| self.in_command)
            && let Ok(status) = status.trim_end().parse()
        {
            self.status = Some(status);
            self.in_command = false;
            return if before.is_empty() { whole } else { (To::Out, before) };
        }
        if self.in_command { (To::Out, text) } else { whole }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(several: bool, lines: &[&str]) -> (String, Option<u8>) {
        let mut screen = Screen::new(Show::Command, several);
        let out = lines.iter().map(|l| screen.line(l)).filter(|(to, _)| *to == To::Out).map(|(_, text)| text).collect();
        (out, screen.status)
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
    fn of_several_domains_the_first_counts() {
        let log = ["[d1] XK-BEGIN\n", "[b] XK-BEGIN\n", "[b] x\n", "[d1] y\n", "[b] XK-EXIT 1\n", "[d1] XK-EXIT 0\n"];
        assert_eq!(shown(true, &log), ("y\n".into(), Some(0)));
    }
}
