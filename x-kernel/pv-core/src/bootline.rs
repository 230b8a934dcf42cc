//! Lines of text from the boot loader: the X-Kernel's own command line, and what modules say they are.
//!
//! Pure and total: any text gives options and domains, or an error that names the word at fault. Grammar and examples
//! are in docs/ABI.md.

use core::fmt;

/// The longest domain name.
pub const MAX_NAME: usize = 31;
/// How a module says that it begins a domain, and that it belongs to the domain before it.
const DOMAIN: &str = "xk:domain";
const INITRD: &str = "xk:initrd";
/// And that it is a file which domains name.
const FILE: &str = "xk:file";
const OURS: &str = "xk:";
/// Words that GRUB's script for hypervisors puts on every line. They are for others, and nobody has asked for them.
const FROM_GRUB: &[&str] = &["placeholder", "no-real-mode", "edd=off"];

/// What is wrong with a line.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum LineError<'a> {
    /// There is no such option.
    UnknownOption(&'a str),
    /// The option's value is not one of those it takes.
    BadValue(&'a str),
    /// The option is given twice.
    Repeated(&'a str),
    /// A line begins with `xk:` but is none that is known.
    UnknownKind(&'a str),
    /// A module after the second says neither `xk:domain` nor `xk:initrd`.
    NoKind,
    /// An initrd without a usable domain just before it.
    NoDomain,
    /// No file of this name comes before.
    NoFile(&'a str),
    /// The boot loader's tag itself is unusable.
    Unusable,
}

impl fmt::Display for LineError<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::UnknownOption(word) => write!(f, "unknown option \"{}\"", Shown(word)),
            Self::BadValue(word) => write!(f, "bad value in \"{}\"", Shown(word)),
            Self::Repeated(word) => write!(f, "\"{}\" repeats an option", Shown(word)),
            Self::UnknownKind(word) => write!(f, "\"{}\" is no kind of module (xk:domain, xk:initrd, xk:file)", Shown(word)),
            Self::NoKind => f.write_str("a third or later module must begin with xk:domain, xk:initrd or xk:file"),
            Self::NoDomain => f.write_str("no usable domain comes before this initrd"),
            Self::NoFile(name) => write!(f, "no file \"{}\" comes before", Shown(name)),
            Self::Unusable => f.write_str("the module is unusable"),
        }
    }
}

/// Text from outside, as one short line of printable ASCII.
struct Shown<'a>(&'a str);

impl fmt::Display for Shown<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        use fmt::Write;
        const MOST: usize = 60;
        for c in self.0.chars().take(MOST) {
            f.write_char(if matches!(c, ' '..='~') { c } else { '?' })?;
        }
        if self.0.chars().nth(MOST).is_some() { f.write_str("...") } else { Ok(()) }
    }
}

/// Which port is the console.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum Console {
    /// COM1.
    #[default]
    Com1,
    /// COM2.
    Com2,
    /// None.
    None,
}

/// How much is logged.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
#[expect(missing_docs, reason = "the names are the levels'")]
pub enum LogLevel {
    Error,
    Warn,
    #[default]
    Info,
    Debug,
    Trace,
}

/// A flush that a negative control leaves out, to show that a test sees it missing.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Flush {
    /// After own memory was made read-only.
    Protect,
    /// Before a frame is relied on as another type.
    Retype,
    /// Before a frame goes to another owner.
    Free,
}

/// The X-Kernel's options.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Options {
    /// `console=com1|com2|none`
    pub console: Console,
    /// `loglevel=error|warn|info|debug|trace`, or 0 to 4
    pub loglevel: LogLevel,
    /// `reserve=SIZE`: bytes of RAM that stay unused
    pub reserve: u64,
    /// `stats=com2`: counters as JSON on COM2 when a domain ends
    pub stats: bool,
    /// `debug-exit`: an `isa-debug-exit` device at port 0xf4 takes the verdict
    pub debug_exit: bool,
    /// `selftest`: run the self-tests and stop
    pub selftest: bool,
    /// `panic-test`: panic at the end of boot, to see what that looks like
    pub panic_test: bool,
    /// `without-flush=protect|retype|free`: only a build with the feature `negative-control` obeys
    pub without_flush: Option<Flush>,
}

/// A size: a decimal number with an optional K, M, G or T (powers of 1024); without, bytes.
fn size(text: &str) -> Option<u64> {
    let (digits, shift) = match text.as_bytes().last()? {
        b'k' | b'K' => (text.len().checked_sub(1)?, 10),
        b'm' | b'M' => (text.len().checked_sub(1)?, 20),
        b'g' | b'G' => (text.len().checked_sub(1)?, 30),
        b't' | b'T' => (text.len().checked_sub(1)?, 40),
        _ => (text.len(), 0),
    };
    number(text.get(..digits)?)?.checked_mul(1u64.checked_shl(shift)?)
}

/// `on` or `off`.
fn switch(text: &str) -> Option<bool> {
    match text {
        "on" => Some(true),
        "off" => Some(false),
        _ => None,
    }
}

/// A decimal number without sign.
fn number(text: &str) -> Option<u64> {
    (!text.is_empty() && text.bytes().all(|b| b.is_ascii_digit())).then(|| text.parse().ok())?
}

/// Reads the X-Kernel's command line. What is wrong is reported to `complain`, word by word, and the rest still counts;
/// the last of two values stands.
pub fn options<'a>(line: &'a str, mut complain: impl FnMut(LineError<'a>)) -> Options {
    let mut options = Options::default();
    for word in line.split_ascii_whitespace().filter(|word| !FROM_GRUB.contains(word)) {
        if let Err(error) = option(&mut options, word) {
            complain(error);
        }
    }
    options
}

fn option<'a>(options: &mut Options, word: &'a str) -> Result<(), LineError<'a>> {
    let bad = LineError::BadValue(word);
    match word.split_once('=') {
        None => match word {
            "debug-exit" => options.debug_exit = true,
            "selftest" => options.selftest = true,
            "panic-test" => options.panic_test = true,
            _ => return Err(LineError::UnknownOption(word)),
        },
        Some(("console", value)) => {
            options.console = match value {
                "com1" => Console::Com1,
                "com2" => Console::Com2,
                "none" => Console::None,
                _ => return Err(bad),
            }
        }
        Some(("loglevel", value)) => {
            options.loglevel = match value {
                "error" | "0" => LogLevel::Error,
                "warn" | "1" => LogLevel::Warn,
                "info" | "2" => LogLevel::Info,
                "debug" | "3" => LogLevel::Debug,
                "trace" | "4" => LogLevel::Trace,
                _ => return Err(bad),
            }
        }
        Some(("reserve", value)) => options.reserve = size(value).ok_or(bad)?,
        Some(("without-flush", value)) => {
            options.without_flush = Some(match value {
                "protect" => Flush::Protect,
                "retype" => Flush::Retype,
                "free" => Flush::Free,
                _ => return Err(bad),
            })
        }
        Some(("stats", "com2")) => options.stats = true,
        Some(("stats", _)) => return Err(bad),
        _ => return Err(LineError::UnknownOption(word)),
    }
    Ok(())
}

/// What the line of a domain's first module says.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct DomainLine<'a> {
    /// `name=`: letters, digits, `.`, `-`, `_`, at most [`MAX_NAME`]
    pub name: Option<&'a str>,
    /// `mem=`: bytes of memory
    pub mem: Option<u64>,
    /// `weight=`: 1 to 65535
    pub weight: Option<u32>,
    /// `vcpus=`: vCPUs that there are at start
    pub vcpus: Option<u32>,
    /// `max-vcpus=`: vCPUs that there may be
    pub max_vcpus: Option<u32>,
    /// `xmode=on|off`: whether the guest may switch X-mode on
    pub xmode: Option<bool>,
    /// `abom=on|off`: whether system calls of its programs may become function calls
    pub abom: Option<bool>,
    /// `initial=`: whether its kernel is told that it is an initial domain; one without a line of ours is told so
    pub initial: Option<bool>,
    /// `kernel=`: the file that is its kernel; the module itself is its initrd then
    pub kernel: Option<&'a str>,
    /// `initrd=`: the file that its initrd begins with
    pub initrd: Option<&'a str>,
    /// The guest's own command line
    pub cmdline: &'a str,
}

/// What a module's line says it is.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum ModuleLine<'a> {
    /// `xk:domain [OPTIONS] [-- CMDLINE]`
    Domain(DomainLine<'a>),
    /// `xk:initrd`
    Initrd,
    /// `xk:file name=NAME`
    File(&'a str),
    /// Anything that does not begin with `xk:`
    Plain(&'a str),
}

/// Whether `line` begins with `word` as a whole word; the rest if so.
fn after_word<'a>(line: &'a str, word: &str) -> Option<&'a str> {
    let rest = line.strip_prefix(word)?;
    (rest.is_empty() || rest.starts_with(|c: char| c.is_ascii_whitespace())).then_some(rest)
}

/// Reads a module's line.
///
/// # Errors
/// If it begins with `xk:` and is not as it should be.
pub fn module(line: &str) -> Result<ModuleLine<'_>, LineError<'_>> {
    if !line.trim_ascii_start().starts_with(OURS) {
        return Ok(ModuleLine::Plain(line));
    }
    let line = line.trim_ascii_start();
    if let Some(rest) = after_word(line, DOMAIN) {
        return domain(rest).map(ModuleLine::Domain);
    }
    if let Some(rest) = after_word(line, FILE) {
        return file(rest).map(ModuleLine::File);
    }
    match after_word(line, INITRD) {
        Some(rest) => match rest.split_ascii_whitespace().next() {
            None => Ok(ModuleLine::Initrd),
            Some(word) => Err(LineError::UnknownOption(word)),
        },
        None => Err(LineError::UnknownKind(line.split_ascii_whitespace().next().unwrap_or(line))),
    }
}

/// Takes the first word off `text`.
fn next_word(text: &str) -> Option<(&str, &str)> {
    let text = text.trim_ascii_start();
    let end = text.find(|c: char| c.is_ascii_whitespace()).unwrap_or(text.len());
    text.split_at_checked(end).filter(|(word, _)| !word.is_empty())
}

/// A name: letters, digits, `.`, `-`, `_`, at most [`MAX_NAME`].
pub(crate) fn name(text: &str) -> Option<&str> {
    let good = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'-' | b'_');
    Some(text).filter(|t| (1..=MAX_NAME).contains(&t.len()) && t.bytes().all(good))
}

/// What follows `xk:file`.
fn file(rest: &str) -> Result<&str, LineError<'_>> {
    let mut words = rest.split_ascii_whitespace();
    match (words.next(), words.next()) {
        (Some(word), None) => match word.strip_prefix("name=") {
            Some(value) => name(value).ok_or(LineError::BadValue(word)),
            None => Err(LineError::UnknownOption(word)),
        },
        (_, Some(word)) => Err(LineError::UnknownOption(word)),
        (None, None) => Err(LineError::BadValue(FILE)),
    }
}

fn domain(options: &str) -> Result<DomainLine<'_>, LineError<'_>> {
    let mut found = DomainLine::default();
    let mut rest = options;
    while let Some((word, after)) = next_word(rest) {
        if word == "--" {
            // Only the blank that ends the mark is ours; the rest is the guest's, byte for byte.
            found.cmdline = after.strip_prefix(|c: char| c.is_ascii_whitespace()).unwrap_or(after);
            return Ok(found);
        }
        domain_option(&mut found, word)?;
        rest = after;
    }
    Ok(found)
}

fn domain_option<'a>(found: &mut DomainLine<'a>, word: &'a str) -> Result<(), LineError<'a>> {
    let (key, value) = word.split_once('=').ok_or(LineError::UnknownOption(word))?;
    let bad = LineError::BadValue(word);
    let ranged = |most: u64| number(value).filter(|n| (1..=most).contains(n)).and_then(|n| u32::try_from(n).ok()).ok_or(bad);
    let first = match key {
        "name" => found.name.replace(name(value).ok_or(bad)?).is_none(),
        "kernel" => found.kernel.replace(name(value).ok_or(bad)?).is_none(),
        "initrd" => found.initrd.replace(name(value).ok_or(bad)?).is_none(),
        "mem" => found.mem.replace(size(value).filter(|&bytes| bytes != 0).ok_or(bad)?).is_none(),
        "weight" => found.weight.replace(ranged(65_535)?).is_none(),
        "vcpus" => found.vcpus.replace(ranged(8192)?).is_none(),
        "xmode" => found.xmode.replace(switch(value).ok_or(bad)?).is_none(),
        "abom" => found.abom.replace(switch(value).ok_or(bad)?).is_none(),
        "max-vcpus" => found.max_vcpus.replace(ranged(8192)?).is_none(),
        "initial" => {
            let yes = match value {
                "yes" => true,
                "no" => false,
                _ => return Err(bad),
            };
            found.initial.replace(yes).is_none()
        }
        _ => return Err(LineError::UnknownOption(word)),
    };
    if first { Ok(()) } else { Err(LineError::Repeated(word)) }
}

/// A domain to be built.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct DomainPlan<'a> {
    /// Which module is its kernel.
    pub kernel: usize,
    /// Which modules are its initial RAM disk: a file that others may have, too, and behind it one of its own.
    pub initrd: [Option<usize>; 2],
    /// What its line says.
    pub line: DomainLine<'a>,
}

/// A module that cannot be used, and why.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Refused<'a> {
    /// Its number, from 0.
    pub module: usize,
    /// Why.
    pub why: LineError<'a>,
}

impl DomainPlan<'_> {
    /// Whether module `index` is part of it.
    pub fn uses(&self, index: usize) -> bool {
        self.kernel == index || self.initrd.contains(&Some(index))
    }

    /// Whether a module may follow that says no more than that it is an initrd.
    fn is_open(&self) -> bool {
        let [_, own] = self.initrd;
        own.is_none()
    }
}

/// The first module before `end` that is the file `wanted`.
fn find<'a>(lines: impl Iterator<Item = Option<&'a str>>, end: usize, wanted: &'a str) -> Result<usize, LineError<'a>> {
    let is_it = |line: Option<&'a str>| line.is_some_and(|l| module(l) == Ok(ModuleLine::File(wanted)));
    lines.take(end).position(is_it).ok_or(LineError::NoFile(wanted))
}

/// The domain of module `index`, whose line is `line`.
fn begin<'a>(
    lines: impl Iterator<Item = Option<&'a str>> + Clone,
    index: usize,
    line: DomainLine<'a>,
) -> Result<DomainPlan<'a>, LineError<'a>> {
    let shared = line.initrd.map(|wanted| find(lines.clone(), index, wanted)).transpose()?;
    match line.kernel {
        None => Ok(DomainPlan { kernel: index, initrd: [shared, None], line }),
        Some(wanted) => Ok(DomainPlan { kernel: find(lines, index, wanted)?, initrd: [shared, Some(index)], line }),
    }
}

/// Says which domains the modules make up. `lines` has each module's line, or None where the boot loader's tag is
/// unusable. Results come in the order of the modules. The first module is the first domain's kernel, and the second
/// its initrd unless it begins with `xk:`; every later one must say what it is. A refused module takes its own initrd
/// with it, and nothing else, but that no domain can name a file that is refused.
pub fn plan<'a>(
    lines: impl IntoIterator<Item = Option<&'a str>, IntoIter: Clone>,
    mut each: impl FnMut(Result<DomainPlan<'a>, Refused<'a>>),
) {
    let lines = lines.into_iter();
    // The domain that the next module may be the initrd of.
    let mut open: Option<DomainPlan<'a>> = None;
    for (index, line) in lines.clone().enumerate() {
        let said = line.ok_or(LineError::Unusable).and_then(module);
        let next = match said {
            Ok(ModuleLine::Domain(line)) => begin(lines.clone(), index, line).map(Some),
            Ok(ModuleLine::File(_)) => Ok(None),
            Ok(ModuleLine::Plain(cmdline)) if index == 0 => {
                let line = DomainLine { initial: Some(true), cmdline, ..DomainLine::default() };
                Ok(Some(DomainPlan { kernel: index, initrd: [None; 2], line }))
            }
            Ok(ModuleLine::Plain(_)) if index > 1 => Err(LineError::NoKind),
            Ok(ModuleLine::Plain(_) | ModuleLine::Initrd) => match open.take_if(|plan| plan.is_open()) {
                Some(DomainPlan { kernel, initrd: [shared, _], line }) => {
                    each(Ok(DomainPlan { kernel, initrd: [shared, Some(index)], line }));
                    continue;
                }
                None => Err(LineError::NoDomain),
            },
            Err(why) => Err(why),
        };
        if let Some(before) = open.take() {
            each(Ok(before));
        }
        match next {
            Ok(plan) => open = plan,
            Err(why) => each(Err(Refused { module: index, why })),
        }
    }
    if let Some(plan) = open {
        each(Ok(plan));
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use std::string::ToString;
    use std::vec::Vec;

    use super::*;

    fn parsed(line: &str) -> (Options, Vec<LineError<'_>>) {
        let mut complaints = Vec::new();
        (options(line, |e| complaints.push(e)), complaints)
    }

    fn planned<'a>(lines: &[Option<&'a str>]) -> Vec<Result<DomainPlan<'a>, Refused<'a>>> {
        let mut all = Vec::new();
        plan(lines.iter().copied(), |one| all.push(one));
        all
    }

    #[test]
    fn options_are_read_and_bad_words_named() {
        let (o, bad) = parsed("console=com2 loglevel=debug reserve=64M stats=com2 debug-exit selftest without-flush=free");
        assert!(bad.is_empty());
        assert_eq!(
            o,
            Options {
                console: Console::Com2,
                loglevel: LogLevel::Debug,
                reserve: 64 << 20,
                stats: true,
                debug_exit: true,
                selftest: true,
                panic_test: false,
                without_flush: Some(Flush::Free),
            }
        );
        let (o, bad) = parsed("console=lpt1 frobnicate reserve=99999999999999999999T debug-exit");
        assert!(o.debug_exit);
        assert_eq!(
            bad,
            [
                LineError::BadValue("console=lpt1"),
                LineError::UnknownOption("frobnicate"),
                LineError::BadValue("reserve=99999999999999999999T")
            ]
        );
    }

    #[test]
    fn what_grub_adds_is_no_mistake() {
        let (o, bad) = parsed("placeholder console=com2 com1=115200,8n1 no-real-mode edd=off edd=on");
        assert_eq!(o.console, Console::Com2);
        assert_eq!(bad, [LineError::UnknownOption("com1=115200,8n1"), LineError::UnknownOption("edd=on")]);
        let first = planned(&[Some("placeholder root=UUID=1 ro quiet"), Some("")]).first().copied().unwrap().unwrap();
        assert_eq!((first.initrd, first.line.cmdline), ([None, Some(1)], "placeholder root=UUID=1 ro quiet"));
    }

    #[test]
    fn sizes() {
        assert_eq!(size("512"), Some(512));
        assert_eq!(size("3g"), Some(3 << 30));
        for bad in ["", "M", "-1M", "+1", "1MM", "0x10", "18446744073709551616", "16777217T", "１M"] {
            assert_eq!(size(bad), None, "{bad}");
        }
    }

    #[test]
    fn a_domain_line() {
        let line =
            "xk:domain name=web-1 mem=128M weight=512 vcpus=2 max-vcpus=4 initial=yes xmode=off abom=off -- root=/dev/xvda  quiet -- x";
        let expected = DomainLine {
            name: Some("web-1"),
            mem: Some(128 << 20),
            weight: Some(512),
            vcpus: Some(2),
            max_vcpus: Some(4),
            xmode: Some(false),
            abom: Some(false),
            initial: Some(true),
            kernel: None,
            initrd: None,
            cmdline: "root=/dev/xvda  quiet -- x",
        };
        assert_eq!(module(line), Ok(ModuleLine::Domain(expected)));
        assert_eq!(module("xk:domain"), Ok(ModuleLine::Domain(DomainLine::default())));
        assert_eq!(module("xk:domain --"), Ok(ModuleLine::Domain(DomainLine::default())));
        assert_eq!(module("xk:initrd "), Ok(ModuleLine::Initrd));
        assert_eq!(module("xk:domains"), Err(LineError::UnknownKind("xk:domains")));
        assert_eq!(module("xk:domain mem=1M mem=2M"), Err(LineError::Repeated("mem=2M")));
        for bad in ["name=", "name=a/b", "mem=0", "vcpus=0", "weight=65536", "vcpus=4294967297", "initial=", "initial=1"] {
            assert_eq!(module(&std::format!("xk:domain {bad}")).unwrap_err().to_string(), std::format!("bad value in \"{bad}\""));
        }
    }

    #[test]
    fn the_plain_form_is_kept_byte_for_byte() {
        let all = planned(&[Some("  console=hvc0  root=/dev/ram0 "), Some("")]);
        assert_eq!(all.len(), 1);
        let plan = all.first().unwrap().unwrap();
        assert_eq!((plan.kernel, plan.initrd, plan.line.cmdline), (0, [None, Some(1)], "  console=hvc0  root=/dev/ram0 "));
    }

    #[test]
    fn several_domains() {
        let all = planned(&[
            Some("first"),
            Some("xk:domain name=a -- second"),
            Some("xk:initrd"),
            Some("xk:domain name=b"),
            Some("xk:domain name=c"),
            Some("xk:initrd"),
        ]);
        let got: Vec<_> = all.iter().map(|p| p.map(|p| (p.kernel, p.initrd)).unwrap()).collect();
        assert_eq!(got, [(0, [None; 2]), (1, [None, Some(2)]), (3, [None; 2]), (4, [None, Some(5)])]);
    }

    #[test]
    fn files_are_shared() {
        let all = planned(&[
            Some("xk:file name=linux"),
            Some("xk:file name=web"),
            Some("xk:domain name=a kernel=linux initrd=web -- x"),
            Some("xk:domain name=b kernel=linux initrd=web -- x"),
            Some("xk:domain name=c kernel=linux"),
            Some("xk:domain name=d initrd=web"),
            Some("xk:initrd"),
            Some("xk:domain name=e initrd=web"),
        ]);
        let got: Vec<_> = all.iter().map(|p| p.map(|p| (p.kernel, p.initrd)).unwrap()).collect();
        assert_eq!(
            got,
            [(0, [Some(1), Some(2)]), (0, [Some(1), Some(3)]), (0, [None, Some(4)]), (5, [Some(1), Some(6)]), (7, [Some(1), None])]
        );
        let first = all.first().unwrap().unwrap();
        assert!([0, 1, 2].iter().all(|&i| first.uses(i)) && !first.uses(3));
    }

    #[test]
    fn files_come_first_and_have_names() {
        let why = |lines: &[Option<&'static str>]| planned(lines).iter().filter_map(|r| r.err()).map(|r| r.why).collect::<Vec<_>>();
        assert_eq!(why(&[Some("xk:domain kernel=a"), Some("xk:file name=a")]), [LineError::NoFile("a")]);
        assert_eq!(
            why(&[Some("xk:file name=a"), None, Some("xk:domain kernel=a initrd=b")]),
            [LineError::Unusable, LineError::NoFile("b")]
        );
        // One that is unusable is no file; a domain that has its initrd gets no other.
        assert_eq!(why(&[None, Some("xk:domain kernel=a")]), [LineError::Unusable, LineError::NoFile("a")]);
        assert_eq!(why(&[Some("xk:file name=a"), Some("xk:domain kernel=a"), Some("xk:initrd")]), [LineError::NoDomain]);
        assert_eq!(why(&[Some("xk:file name=a"), Some("plain")]), [LineError::NoDomain]);
        for (line, word) in [("xk:file", "xk:file"), ("xk:file name=", "name="), ("xk:file name=a/b", "name=a/b")] {
            assert_eq!(module(line), Err(LineError::BadValue(word)));
        }
        assert_eq!(module("xk:file name=a b"), Err(LineError::UnknownOption("b")));
        assert_eq!(module("xk:file web"), Err(LineError::UnknownOption("web")));
    }

    #[test]
    fn a_bad_module_takes_only_its_own_initrd_along() {
        let all = planned(&[
            Some("first"),
            Some("initrd"),
            Some("xk:domain mem=lots"),
            Some("xk:initrd"),
            Some("stray"),
            None,
            Some("xk:domain name=last"),
        ]);
        let why: Vec<_> = all.iter().filter_map(|r| r.err()).collect();
        assert_eq!(
            why,
            [
                Refused { module: 2, why: LineError::BadValue("mem=lots") },
                Refused { module: 3, why: LineError::NoDomain },
                Refused { module: 4, why: LineError::NoKind },
                Refused { module: 5, why: LineError::Unusable },
            ]
        );
        let kernels: Vec<_> = all.iter().filter_map(|r| r.ok()).map(|p| p.kernel).collect();
        assert_eq!(kernels, [0, 6]);
        // An unusable first module does not make its initrd a kernel.
        let all = planned(&[None, Some("initrd"), Some("xk:domain")]);
        assert_eq!(all.iter().filter_map(|r| r.ok()).map(|p| p.kernel).collect::<Vec<_>>(), [2]);
    }

    proptest! {
        #[test]
        fn any_lines_are_accounted_for(lines in proptest::collection::vec(proptest::option::of(
            "(xk:(domain|initrd|file|x)?)?( name=[ab/]{0,2}| kernel=[ab]| initrd=[ab]| mem=[0-9]{0,4}[KMGTx]?| vcpus=[0-9]{0,5}| --| \\PC{0,6}){0,4}"), 0..12)) {
            let borrowed: Vec<Option<&str>> = lines.iter().map(|l| l.as_deref()).collect();
            let all = planned(&borrowed);
            let is_file = |i: usize| matches!(borrowed[i].map(module), Some(Ok(ModuleLine::File(_))));
            let mut seen: Vec<usize> = all.iter().flat_map(|r| match r {
                Ok(p) => [Some(p.kernel).filter(|_| p.line.kernel.is_none()), p.initrd[1]],
                Err(e) => [Some(e.module), None],
            }).flatten().collect();
            prop_assert!(seen.is_sorted());
            for p in all.iter().filter_map(|r| r.ok()) {
                prop_assert!(p.line.kernel.is_none() || is_file(p.kernel));
                prop_assert!(p.initrd[0].is_none_or(is_file));
            }
            seen.extend((0..lines.len()).filter(|i| is_file(*i)));
            seen.sort();
            prop_assert_eq!(seen, (0..lines.len()).collect::<Vec<_>>());
        }

        #[test]
        fn any_text_is_read(line in "\\PC*") {
            let _ = parsed(&line);
            if let Err(e) = module(&line) {
                prop_assert!(e.to_string().is_ascii());
            }
        }
    }
}
