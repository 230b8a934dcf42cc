//! Process 1, from its first step to the machine's last.

use std::io::{self, Write};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, WaitOptions, WaitStatus, kill_process, kill_process_group, wait};
use rustix::system::{RebootCommand, reboot};
use signal_hook::consts::{SIGCHLD, SIGCONT, SIGHUP, SIGINT, SIGPIPE, SIGQUIT, SIGTERM, SIGUSR1, SIGUSR2, SIGWINCH};
use signal_hook::iterator::Signals;
use x_init::config::{BEGIN, Config, EXIT};

use crate::{Attempt, FAILED, Fault, START, configuration, mounts, say, system};

/// Signals that the program gets when process 1 gets them.
const FORWARDED: [i32; 8] = [SIGHUP, SIGINT, SIGQUIT, SIGUSR1, SIGUSR2, SIGTERM, SIGCONT, SIGWINCH];

/// X-LibOS hands a number that is written here to the X-Kernel.
const STATUS_FILE: &str = "/sys/hypervisor/container/exit_status";

/// How often processes that are about to end are looked at, and how long those that were killed.
const LOOK: Duration = Duration::from_millis(10);
/// See [`LOOK`].
const KILLED: Duration = Duration::from_secs(10);

/// Runs the container, and ends the machine.
pub fn container() -> ! {
    mounts::usual();
    let mark = mark();
    let status = run(&mark).unwrap_or_else(|fault| {
        say(fault);
        FAILED
    });
    let _ = writeln!(io::stdout(), "{EXIT} {mark} {status}");
    if std::fs::exists(STATUS_FILE).unwrap_or(false)
        && let Err(error) = std::fs::write(STATUS_FILE, status.to_string())
    {
        say(format_args!("{STATUS_FILE}: {error}"));
    }
    rustix::fs::sync();
    loop {
        // Nobody is left who could be told that it failed.
        let _ = reboot(RebootCommand::PowerOff);
        std::thread::sleep(Duration::from_secs(1));
    }
}

/// A word that the program cannot know, so that no line of its own passes for the exit status.
fn mark() -> String {
    let word = std::fs::read_to_string("/proc/sys/kernel/random/uuid").unwrap_or_default();
    let word = word.trim();
    if word.is_empty() { "-".into() } else { word.into() }
}

/// Starts the program and returns its exit status.
fn run(mark: &str) -> Result<u8, Fault> {
    let config = configuration()?;
    system::attributes()?;
    mounts::asked_for(&config.mounts)?;
    if let Some(hostname) = &config.hostname {
        system::name(hostname)?;
    }
    system::files(config.hostname.as_deref());
    system::loopback().unwrap_or_else(say);
    // Before the program starts: what comes from now on is kept until it can be forwarded.
    let mut signals = Signals::new(FORWARDED.iter().chain(&[SIGCHLD, SIGPIPE])).attempt("signals")?;
    let _ = writeln!(io::stdout(), "{BEGIN} {mark}");
    let program = start(&config)?;
    let status = supervise(&mut signals, program, config.stop_signal);
    end_the_rest(Duration::from_secs(config.grace.into()));
    Ok(status)
}

/// Starts this program again, as the child that becomes the one that was asked for.
fn start(config: &Config) -> Result<Pid, Fault> {
    let console = system::console()?;
    let again = || console.try_clone().attempt("console");
    let stdin = if config.terminal { Stdio::from(again()?) } else { Stdio::null() };
    let mut command = Command::new("/proc/self/exe");
    let child = command.arg(START).env_clear().stdin(stdin).stdout(again()?).stderr(again()?).spawn().attempt("x-init itself")?;
    i32::try_from(child.id()).ok().and_then(Pid::from_raw).ok_or_else(|| format!("a process numbered {}", child.id()))
}

/// Forwards signals and reaps until the program has ended. Returns its exit status.
fn supervise(signals: &mut Signals, program: Pid, stop: i32) -> u8 {
    loop {
        for signal in signals.wait() {
            // Whoever asks process 1 to end asks for the container's end, for which its program may have another signal.
            let signal = if signal == SIGTERM { stop } else { signal };
            if let Some(signal) = Signal::from_named_raw(signal).filter(|_| signal == stop || FORWARDED.contains(&signal)) {
                // It may have ended just now.
                let _ = kill_process(program, signal);
            }
        }
        while let Ok(Some((pid, status))) = wait(WaitOptions::NOHANG) {
            if pid == program
                && let Some(status) = exit_status(status)
            {
                return status;
            }
        }
    }
}

/// What a shell would call it.
fn exit_status(status: WaitStatus) -> Option<u8> {
    let number = status.exit_status().or_else(|| status.terminating_signal().map(|signal| signal.saturating_add(128)))?;
    u8::try_from(number).ok()
}

/// Reaps until nobody is left or so much time has gone by. Says whether anybody is left.
fn reap_for(time: Duration) -> bool {
    let begin = Instant::now();
    loop {
        match wait(WaitOptions::NOHANG) {
            Ok(Some(_)) => {}
            Ok(None) if begin.elapsed() < time => std::thread::sleep(LOOK),
            Ok(None) => return true,
            Err(_) => return false,
        }
    }
}

/// Ends all other processes: they are asked, they are given time, they are killed.
fn end_the_rest(grace: Duration) {
    // The group of process 1 in kill(2)'s words, -1, is every process but the caller.
    let everybody = Pid::INIT;
    for (signal, time) in [(Signal::TERM, grace), (Signal::KILL, KILLED)] {
        let _ = kill_process_group(everybody, signal);
        // One that is stopped hears nothing before it goes on.
        let _ = kill_process_group(everybody, Signal::CONT);
        if !reap_for(time) {
            return;
        }
    }
    say("some processes cannot be killed");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_exit_status_is_a_shells() {
        let of = |script: &str| {
            let mut child = Command::new("sh").args(["-c", script]).spawn().expect("a shell");
            let pid = Pid::from_raw(child.id().cast_signed()).expect("a process");
            let (_, status) = rustix::process::waitpid(Some(pid), WaitOptions::empty()).expect("a child").expect("it ended");
            // Nothing is left to wait for.
            child.wait().expect_err("reaped twice");
            exit_status(status)
        };
        assert_eq!(of("exit 7"), Some(7));
        assert_eq!(of("kill -TERM $$"), Some(143));
        assert_eq!(of("kill -KILL $$"), Some(137));
    }
}
