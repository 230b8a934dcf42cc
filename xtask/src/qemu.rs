//! The one door to QEMU.

use std::io::{BufRead, BufReader, Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{RecvTimeoutError, channel};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};

use crate::screen::{self, Domains, Screen, Show, To};
use crate::{setup, sh};

/// A machine to start.
#[derive(Clone, Debug)]
pub struct Machine {
    /// What it boots from.
    pub boot: BootFrom,
    /// Memory, in MiB.
    pub mem_mib: u64,
    /// CPUs.
    pub cpus: u32,
    /// Their model, in QEMU's words.
    pub cpu: String,
    /// UEFI instead of BIOS.
    pub efi: bool,
    /// File that the second serial port goes to.
    pub stats: Option<PathBuf>,
    /// With what begins the names of a pipe, `.in`, to the second serial port, and of the file `.out`, which is `stats`.
    pub ask: Option<PathBuf>,
    /// Whether the terminal is the console.
    pub interactive: bool,
    /// Ends the machine after this long.
    pub timeout: Option<Duration>,
    /// Where the serial log is kept.
    pub log: PathBuf,
    /// Which of its lines are shown as they come.
    pub show: Show,
    /// Whose lines they are.
    pub domains: Domains,
    /// What the console hears.
    pub input: Input,
    /// Further options of QEMU's.
    pub more: Vec<String>,
    /// Says, once it is set, that nobody wants the machine any more.
    pub given_up: Option<Arc<AtomicBool>>,
}

/// What a machine's console hears.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Input {
    /// Nothing.
    Nothing,
    /// Our standard input.
    Stdin,
    /// The same, and its end as a terminal says it.
    StdinToItsEnd,
    /// A debug key's letter, again and again.
    Key(char, Duration),
    /// These bytes, when a line has this text.
    After(&'static str, &'static [u8]),
}

impl Input {
    /// Whether `line` is what it waits for.
    fn begins(&self, line: &str) -> bool {
        match self {
            Self::Nothing => false,
            // Not before the X-Kernel has set the port up: that throws away what has come.
            Self::Stdin | Self::StdinToItsEnd | Self::Key(..) => line.starts_with("X-Kernel: "),
            Self::After(text, _) => line.contains(text),
        }
    }
}

/// What a machine boots from.
#[derive(Clone, Debug)]
pub enum BootFrom {
    /// An image, as a CD.
    Iso(PathBuf),
    /// The same, as a USB stick.
    Stick(PathBuf),
    /// A kernel and an initrd, by QEMU's own loader: the native comparison.
    Linux(PathBuf, PathBuf, String),
}

/// How a machine ended.
#[derive(Debug)]
pub struct Ended {
    /// The serial log.
    pub log: String,
    /// QEMU's exit code; None if it was ended.
    pub code: Option<i32>,
    /// Whether the time ran out.
    pub timed_out: bool,
    /// When each line came, since the start.
    pub times: Vec<(Duration, String)>,
    /// The exit status of the command in the guest.
    pub status: Option<u8>,
    /// Of several containers, those that did not end well, and how.
    pub unwell: Vec<String>,
}

/// QEMU's exit code when the X-Kernel says that all is well, and when it has panicked.
pub const SUCCESS: i32 = 0x10 << 1 | 1;
/// See [`SUCCESS`].
pub const PANIC: i32 = 0x11 << 1 | 1;
/// QEMU's exit code when there was no domain to run.
pub const NO_DOMAIN: i32 = 0x12 << 1 | 1;

/// The CPU that machines have if nothing else is said. No SMAP: this version of QEMU checks a ring-3 `iretq` as if it were
/// the supervisor's.
pub const CPU: &str = "max,-smap,-la57";
/// The host's own, with its hardware virtualization.
pub const HOST_CPU: &str = "host,-la57";
/// The clock counts instructions, one each nanosecond, and nobody waits for it.
pub const INSTRUCTION_CLOCK: [&str; 2] = ["-icount", "shift=0,sleep=off"];

/// The emulator. Its translations of a page of code are in one list, and each write to the page walks it: programs that are
/// loaded elsewhere at each start make it so long that to scrub a shared library's pages takes minutes. With less room
/// for translations (in MiB) all of them are forgotten often enough. Each domain's kernel is translated by itself, and takes
/// a part: with too little for all of them, domains that start side by side are translated again at each switch.
const TRANSLATIONS_MIB: usize = 128;
const OF_A_DOMAIN_MIB: usize = 16;
/// The most that the emulator takes.
const MOST_MIB: usize = 2047;

/// What ends the input at a terminal, Ctrl-d, and how often it is said.
const END: u8 = 4;
const END_EVERY: Duration = Duration::from_secs(1);

/// How long a machine is waited for before somebody looks whether it is still wanted.
const AWHILE: Duration = Duration::from_secs(1);
/// How often a machine on a terminal is looked at.
const LOOK: Duration = Duration::from_millis(100);

/// A command line for QEMU.
pub fn command(machine: &Machine) -> Result<Command> {
    setup::ensure(setup::RUN)?;
    // Whatever becomes of us, QEMU ends with us: this thread's death is a signal to it.
    let mut q = Command::new("setpriv");
    q.args(["--pdeathsig", "TERM", "qemu-system-x86_64"]);
    let domains = if let Domains::Containers(names) = &machine.domains { names.len() } else { 1 };
    let translations = (domains * OF_A_DOMAIN_MIB).clamp(TRANSLATIONS_MIB, MOST_MIB);
    let accelerator = if machine.cpu == HOST_CPU { "kvm".into() } else { format!("tcg,tb-size={translations}") };
    q.args(["-accel", &accelerator, "-cpu", &machine.cpu, "-display", "none", "-vga", "none", "-net", "none", "-no-reboot"]);
    q.args(["-m", &machine.mem_mib.to_string(), "-smp", &machine.cpus.to_string()]);
    q.args(["-device", "isa-debug-exit,iobase=0xf4,iosize=4"]);
    if machine.interactive {
        q.args(["-chardev", &format!("stdio,id=con,mux=on,signal=off,logfile={}", escaped(&machine.log))]);
        q.args(["-serial", "chardev:con", "-mon", "con"]);
    } else {
        q.args(["-serial", "stdio", "-monitor", "none"]);
    }
    match (&machine.stats, &machine.ask) {
        (Some(_), Some(port)) => {
            q.args(["-chardev", &format!("pipe,id=stats,path={}", escaped(port)), "-serial", "chardev:stats"]);
        }
        (Some(file), None) => _ = q.arg("-serial").arg(format!("file:{}", file.display())),
        (None, _) => {}
    }
    q.args(&machine.more);
    if machine.efi {
        q.args(["-bios", "/usr/share/ovmf/OVMF.fd"]);
    }
    match &machine.boot {
        BootFrom::Iso(iso) => q.arg("-cdrom").arg(iso),
        BootFrom::Stick(image) => q
            .args(["-device", "qemu-xhci", "-device", "usb-storage,drive=stick,bootindex=0", "-drive"])
            .arg(format!("if=none,id=stick,format=raw,readonly=on,file={}", image.display())),
        BootFrom::Linux(kernel, initrd, line) => q.arg("-kernel").arg(kernel).arg("-initrd").arg(initrd).args(["-append", line]),
    };
    Ok(q)
}

/// A path in one of QEMU's options: a comma in it is written twice.
fn escaped(path: &Path) -> String {
    path.display().to_string().replace(',', ",,")
}

/// Ends QEMU when it goes out of scope, however that comes.
struct Guard(Child);

impl Drop for Guard {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Gives the machine its input until that or the machine ends, in a thread that ends with the program.
fn feed(input: Input, mut to: ChildStdin) {
    std::thread::spawn(move || match input {
        Input::Nothing => {}
        Input::Stdin => drop(std::io::copy(&mut std::io::stdin(), &mut to)),
        Input::StdinToItsEnd => {
            let _ = std::io::copy(&mut std::io::stdin(), &mut to);
            // Whoever reads, and whoever reads after him.
            while to.write_all(&[END]).and_then(|()| to.flush()).is_ok() {
                std::thread::sleep(END_EVERY);
            }
        }
        Input::After(_, keys) => drop(to.write_all(keys)),
        Input::Key(letter, every) => {
            while write!(to, "\x1d{letter}").and_then(|()| to.flush()).is_ok() {
                std::thread::sleep(every);
            }
        }
    });
}

/// Starts a machine whose console is the terminal, and waits for its end. What it said is in its log.
fn run_on_terminal(machine: &Machine, q: &mut Command) -> Result<Ended> {
    let mut ended = wait_on_terminal(q, machine.timeout)?;
    let text = std::fs::read(&machine.log).unwrap_or_default();
    ended.log = String::from_utf8_lossy(&text).replace('\r', "");
    let mut screen = Screen::new(Show::All, &machine.domains);
    let mut logs = Logs::new(&machine.domains)?;
    for line in ended.log.split_inclusive('\n') {
        logs.line(line.as_bytes())?;
        screen.line(line);
    }
    (ended.status, ended.unwell) = (screen.status(), screen.unwell());
    Ok(ended)
}

fn wait_on_terminal(q: &mut Command, timeout: Option<Duration>) -> Result<Ended> {
    let start = Instant::now();
    let mut guard = Guard(q.spawn().context("cannot start QEMU")?);
    let ended = |code, timed_out| Ended { log: String::new(), code, timed_out, times: Vec::new(), status: None, unwell: Vec::new() };
    let Some(timeout) = timeout else { return Ok(ended(guard.0.wait()?.code(), false)) };
    loop {
        if let Some(status) = guard.0.try_wait()? {
            return Ok(ended(status.code(), false));
        }
        if start.elapsed() >= timeout {
            // Not by force: QEMU gives the terminal back as it was.
            sh::run(Command::new("kill").args(["-TERM", &guard.0.id().to_string()]))?;
            guard.0.wait()?;
            return Ok(ended(None, true));
        }
        std::thread::sleep(LOOK);
    }
}

/// Starts the machine and waits for its end.
pub fn run(machine: &Machine) -> Result<Ended> {
    let mut q = command(machine)?;
    if machine.interactive {
        return run_on_terminal(machine, &mut q);
    }
    q.stdin(if machine.input == Input::Nothing { Stdio::null() } else { Stdio::piped() }).stdout(Stdio::piped()).stderr(Stdio::inherit());
    let start = Instant::now();
    let mut guard = Guard(q.spawn().context("cannot start QEMU")?);
    let out = guard.0.stdout.take().context("QEMU's output")?;
    let mut guest_input = guard.0.stdin.take();
    let (send, receive) = channel::<Vec<u8>>();
    std::thread::spawn(move || {
        let mut reader = BufReader::new(out);
        let mut line = Vec::new();
        while reader.read_until(b'\n', &mut line).is_ok_and(|n| n > 0) {
            if send.send(std::mem::take(&mut line)).is_err() {
                return;
            }
        }
    });
    let mut log = std::fs::File::create(&machine.log).with_context(|| format!("cannot write {}", machine.log.display()))?;
    let (mut text, mut times) = (String::new(), Vec::new());
    let mut screen = Screen::new(machine.show, &machine.domains);
    let mut logs = Logs::new(&machine.domains)?;
    let given_up = || machine.given_up.as_ref().is_some_and(|g| g.load(Ordering::Relaxed));
    let timed_out = loop {
        // Before a line is looked at: there are machines that never stop talking.
        let left = machine.timeout.map_or(AWHILE, |t| t.saturating_sub(start.elapsed()));
        if left.is_zero() || given_up() {
            break left.is_zero();
        }
        match receive.recv_timeout(left.min(AWHILE)) {
            Ok(line) => {
                log.write_all(&line)?;
                logs.line(&line)?;
                let line = String::from_utf8_lossy(&line).replace('\r', "");
                if let Some(to) = guest_input.take_if(|_| machine.input.begins(&line)) {
                    feed(machine.input, to);
                }
                match screen.line(&line) {
                    (To::Nowhere, _) => {}
                    (To::Err, text) => eprint!("{text}"),
                    (To::Out, text) => {
                        print!("{text}");
                        std::io::stdout().flush()?;
                    }
                }
                times.push((start.elapsed(), line.trim_end().to_string()));
                text.push_str(&line);
            }
            Err(RecvTimeoutError::Timeout) => {}
            Err(RecvTimeoutError::Disconnected) => break false,
        }
    };
    let code = if timed_out || given_up() { None } else { guard.0.wait()?.code() };
    Ok(Ended { log: text, code, timed_out, times, status: screen.status(), unwell: screen.unwell() })
}

/// A log for each of several containers.
struct Logs(Vec<(String, std::fs::File)>);

impl Logs {
    fn new(domains: &Domains) -> Result<Self> {
        let Domains::Containers(names) = domains else { return Ok(Self(Vec::new())) };
        let open = |name: &String| Ok((screen::prefix(name), std::fs::File::create(log_file(name)?)?));
        names.iter().map(open).collect::<Result<_>>().map(Self)
    }

    /// Takes a line of the machine's; what is a container's goes to its log.
    fn line(&mut self, line: &[u8]) -> Result<()> {
        let own = self.0.iter_mut().find_map(|(prefix, log)| Some((log, line.strip_prefix(prefix.as_bytes())?)));
        own.map_or(Ok(()), |(log, text)| Ok(log.write_all(text)?))
    }
}

/// A fresh name for a log under target/runs.
pub fn log_file(name: &str) -> Result<PathBuf> {
    let name: String = name.chars().map(|c| if c.is_ascii_alphanumeric() || c == '-' { c } else { '-' }).collect();
    sh::target(&format!("runs/{name}.log"))
}

/// Reads the line of JSON that the X-Kernel writes at its end. Before it are those that it was asked for while it ran.
pub fn read_stats(file: &Path) -> Result<serde_json::Value> {
    let mut text = String::new();
    std::fs::File::open(file)?.read_to_string(&mut text)?;
    let last = text.trim().lines().next_back().unwrap_or_default();
    serde_json::from_str(last).with_context(|| format!("{} is not the X-Kernel's statistics", file.display()))
}
