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

/// What goes before a command's output, and, with its exit status, after it. A container's x-init puts a mark behind both,
/// the same one, which its program cannot know: no line of that passes for the status.
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
    /// The mark of the command that runs; the empty one if it has none.
    command: Option<String>,
    /// The exit status of the first domain's command, once it has ended.
    pub status: Option<u8>,
}

impl Screen {
    /// A screen; with `several` domains lines carry names.
    pub fn new(show: Show, several: bool) -> Self {
        Self { show, several, command: None, status: None }
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
        let Some(mark) = &self.command else {
            self.command = text.strip_prefix(BEGIN).map(|mark| mark.trim().to_string()).filter(|_| self.status.is_none());
            return whole;
        };
        // A command whose last line has no end has this behind it.
        if let Some((before, after)) = text.split_once(EXIT)
            && let Some(status) = after.strip_prefix(mark.as_str())
            && let Ok(status) = status.trim().parse()
        {
            self.status = Some(status);
            self.command = None;
            return if before.is_empty() { whole } else { (To::Out, before) };
        }
        (To::Out, text)
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
    fn only_the_line_with_the_mark_is_the_end() {
        let log = ["XK-BEGIN ab-1\n", "XK-EXIT 0\n", "XK-EXIT ab-2 0\n", "XK-BEGIN\n", "XK-EXIT ab-1 7\n", "XK-BEGIN\n", "XK-EXIT 0\n"];
        assert_eq!(shown(false, &log), ("XK-EXIT 0\nXK-EXIT ab-2 0\nXK-BEGIN\n".into(), Some(7)));
    }

    #[test]
    fn of_several_domains_the_first_counts() {
        let log = ["[d1] XK-BEGIN\n", "[b] XK-BEGIN\n", "[b] x\n", "[d1] y\n", "[b] XK-EXIT 1\n", "[d1] XK-EXIT 0\n"];
        assert_eq!(shown(true, &log), ("y\n".into(), Some(0)));
    }
}
