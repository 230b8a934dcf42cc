//! Tests that boot: each case of tests/cases.toml is one machine, and what its serial log must and must not say.

use std::time::{Duration, SystemTime};

use anyhow::{Context, Result, bail};
use regex::Regex;
use serde::Deserialize;

use crate::container::{Container, ContainerArgs};
use crate::initrd::Script;
use crate::qemu::{self, BootFrom, Ended, Input, Machine};
use crate::run::{self, GuestArgs};
use crate::screen::Show;
use crate::top::operator::{self, Step};
use crate::top::place::Place;
use crate::top::trial::{self, Trial};
use crate::{bench, bochs, clock, domu, grub, iso, sh, sweep};

/// What no log may say, whatever the case.
const NEVER: &[&str] = &["panic", "census: .*leaks", r"CHECK .* FAIL", "VERDICT (FAILURE|ERROR)", "Kernel panic - not syncing"];

/// How often the audit's key is pressed.
const AUDIT_EVERY: Duration = Duration::from_secs(2);

/// One boot.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Case {
    /// Its name, `group/what`.
    pub name: String,
    /// It runs only if its whole name is asked for: it needs what takes long to build, and is about others than us.
    #[serde(default)]
    pub named: bool,
    /// The guests, as for `cargo xtask run`.
    #[serde(default)]
    guest: GuestArgs,
    /// Further boot modules, many of a kind.
    #[serde(default)]
    many: Vec<Many>,
    /// What a Linux guest runs instead of the checks: one of tests/linux.
    program: Option<String>,
    /// A container in the first domain, instead of the initrd that makes checks.
    #[serde(default)]
    container: ContainerArgs,
    /// The X-Kernel is the package's, and the menu is what GRUB's own script makes of it and Debian's stock kernel.
    #[serde(default)]
    package: bool,
    /// What runs in the container.
    #[serde(default)]
    command: Vec<String>,
    /// The machine's memory.
    #[serde(default = "one_gib")]
    mem: String,
    /// The machine's CPUs.
    #[serde(default = "one")]
    smp: u32,
    /// QEMU's model of the CPUs.
    cpu: Option<String>,
    /// What it runs on.
    #[serde(default)]
    on: On,
    /// The image is a USB stick instead of a CD.
    #[serde(default)]
    stick: bool,
    /// UEFI firmware.
    #[serde(default)]
    efi: bool,
    /// The debug key of the audit is pressed all the time: every count is made again while the guests run.
    #[serde(default)]
    audit: bool,
    /// Ranges `FROM..TO` of the kernel's symbols: the clock counts instructions, and before each of these there an
    /// interrupt must come.
    #[serde(default)]
    interrupts: Vec<String>,
    /// How its counters are asked for meanwhile, and then compared with those of its end.
    #[serde(default)]
    asked: Option<Trial>,
    /// What an operator does meanwhile, step by step.
    #[serde(default)]
    operator: Vec<Step>,
    /// Which lines are shown as they come.
    #[serde(skip)]
    show: Show,
    /// Seconds until it counts as hung.
    #[serde(default = "two_minutes")]
    timeout: u64,
    /// QEMU's exit status.
    #[serde(default = "success")]
    status: i32,
    /// Expressions that lines must match, each at least once, in any order.
    want: Vec<String>,
    /// Expressions that no line may match.
    #[serde(default)]
    never: Vec<String>,
    /// Expressions of `NEVER` that this case is about.
    #[serde(default)]
    except: Vec<String>,
}

fn one_gib() -> String {
    "1G".into()
}

fn one() -> u32 {
    1
}

fn two_minutes() -> u64 {
    120
}

fn success() -> i32 {
    qemu::SUCCESS
}

/// Boot modules as `--module` has them, that differ by a number from 0 in the place of `{}`.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Many {
    module: String,
    times: u32,
}

/// What a case runs on.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, PartialEq)]
#[serde(rename_all = "kebab-case")]
enum On {
    /// The X-Kernel, in QEMU.
    #[default]
    Qemu,
    /// The same in Bochs: slow, but its TLB is a CPU's. It has no exit status: the log says when the end has come.
    Bochs,
    /// Debian's Xen in QEMU, where the guest is an ordinary domain beside the first one.
    XenDomain,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    case: Vec<Case>,
}

/// All cases.
pub fn all() -> Result<Vec<Case>> {
    let path = sh::root().join("tests/cases.toml");
    let text = std::fs::read_to_string(&path)?;
    let file: File = toml::from_str(&text).with_context(|| format!("{}", path.display()))?;
    Ok(file.case)
}

impl Case {
    /// A guest that makes `calls` random hypercalls from `seed`, beside a canary, while every count is made again.
    pub fn fuzz(seed: u64, calls: u64, dev: bool, show: Show) -> Result<Self> {
        let text = format!(
            r#"
            name = "fuzz/seed-{seed}"
            mem = "256M"
            audit = true
            timeout = {timeout}
            guest = {{ kernel = "guest:fuzz", guest-mem = "64M", dev = {dev}, cmdline = "seed={seed} calls={calls}", domain = [
                "name=canary,mem=32M,kernel=guest:canary,cmdline=beside=1",
            ] }}
            want = [
                '^\[d1\] fuzz: {calls} calls done', '^\[d1\] VERDICT SUCCESS', '^\[canary\] VERDICT SUCCESS',
                'audit: .* are as they are counted', 'census: domain 1 has given everything back',
            ]
            "#,
            // A hundred times what it takes on a quiet machine.
            timeout = 120 + calls / 50,
        );
        Ok(Self { show, ..toml::from_str(&text)? })
    }

    /// Boots it and judges the log.
    ///
    /// # Errors
    /// What is wrong with the log, and where it is.
    pub fn run(&self) -> Result<()> {
        let image = sh::target(&format!("runs/{}.iso", self.name.replace('/', "-")))?;
        let mut guest = self.guest.clone();
        guest.modules.extend(self.many.iter().flat_map(|m| (0..m.times).map(|i| m.module.replace("{}", &i.to_string()))));
        let containers = if self.container.names_files() {
            Container::all(&self.container.below(&sh::root()), &self.command, false)?
        } else {
            Vec::new()
        };
        let asked = self.asked.is_some() || !self.operator.is_empty();
        let script = match (&*containers, &self.program) {
            ([_, ..], _) => Container::place(&containers, &mut guest)?,
            ([], Some(program)) => Script::Program(program.clone()),
            ([], None) => Script::Smoke,
        };
        match self.on {
            On::Qemu if self.package => grub::make(&guest.options, &script, &image)?,
            On::XenDomain => domu::make(&guest, &script, &image)?,
            On::Qemu | On::Bochs => iso::make(&run::boot(&guest, &script, asked)?, &image)?,
        }
        let hits = sh::target(&format!("runs/{}.interrupts", self.name.replace('/', "-")))?;
        let more = if self.interrupts.is_empty() { Vec::new() } else { sweep::options(&bench::plugin()?, &hits) };
        let name = self.name.replace('/', "-");
        let place = if asked { Some(Place::new(&name, std::process::id(), self.name.clone())?) } else { None };
        let stats = place.as_ref().map(|p| p.running().answers());
        let mut machine = Machine {
            boot: if self.stick { BootFrom::Stick(image.clone()) } else { BootFrom::Iso(image.clone()) },
            mem_mib: run::mib(&self.mem)?,
            cpus: self.smp,
            cpu: self.cpu.clone().unwrap_or_else(|| qemu::CPU.into()),
            efi: self.efi,
            stats: stats.clone(),
            ask: place.as_ref().map(|p| p.running().port()),
            interactive: false,
            timeout: Some(Duration::from_secs(self.timeout)),
            log: qemu::log_file(&self.name)?,
            show: self.show,
            domains: Container::domains(&containers),
            input: if self.audit { Input::Key('a', AUDIT_EVERY) } else { Input::Nothing },
            more,
            given_up: None,
        };
        let patience = Duration::from_secs(self.timeout);
        let asking = self.asked.zip(place.as_ref()).map(|(how, place)| trial::begin(how, place.running(), patience));
        let steps = if self.operator.is_empty() { None } else { place.as_ref() };
        let begin = |place: &Place| {
            let steps = self.operator.clone();
            operator::begin(place.running(), machine.log.clone(), move |operator| operator::take(&steps, operator))
        };
        let working = steps.map(begin).transpose()?;
        machine.given_up = working.as_ref().map(|w| w.given_up.clone());
        let started = SystemTime::now();
        let ended = match self.on {
            On::Qemu | On::XenDomain => qemu::run(&machine),
            On::Bochs => bochs::run(&image, machine.mem_mib, Duration::from_secs(self.timeout), &machine.log),
        };
        std::fs::remove_file(&image)?;
        let ended = ended?;
        let mut faults = self.judge(&ended)?;
        faults.extend(clock::faults(&ended.times, started));
        if let Some((asking, stats)) = asking.zip(stats.as_ref()) {
            faults.extend(asking.faults(stats));
        }
        faults.extend(working.and_then(|w| w.done().err()).map(|error| format!("{error:#}")));
        if !self.interrupts.is_empty() {
            faults.extend(sweep::missed(&run::symbols(&self.guest)?, &self.interrupts, &hits)?);
        }
        if !faults.is_empty() {
            bail!("{}\n    log: {}", faults.join("\n    "), machine.log.display());
        }
        Ok(())
    }

    /// What is wrong with how it ended.
    fn judge(&self, ended: &Ended) -> Result<Vec<String>> {
        let mut faults = Vec::new();
        if ended.timed_out {
            faults.push(format!("hung: no end after {} s", self.timeout));
        } else if self.on != On::Bochs && ended.code != Some(self.status) {
            faults.push(format!("exit status {:?} instead of {}", ended.code, self.status));
        }
        let lines: Vec<&str> = ended.log.lines().collect();
        for want in &self.want {
            let expression = Regex::new(want)?;
            if !lines.iter().any(|l| expression.is_match(l)) {
                faults.push(format!("no line matches: {want}"));
            }
        }
        // What is not text was written by nobody: memory that was taken for a console.
        if let Some(line) = lines.iter().find(|l| l.contains(char::REPLACEMENT_CHARACTER)) {
            faults.push(format!("this is not text: {line}"));
        }
        let general = NEVER.iter().copied().filter(|n| !self.except.iter().any(|e| e == n));
        for never in general.chain(self.never.iter().map(String::as_str)) {
            let expression = Regex::new(never)?;
            if let Some(line) = lines.iter().find(|l| expression.is_match(l)) {
                faults.push(format!("must not be there: {line}"));
            }
        }
        Ok(faults)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn case(text: &str) -> Case {
        toml::from_str(text).expect("a case")
    }

    fn ended(log: &str, code: i32) -> Ended {
        Ended { log: log.into(), code: Some(code), timed_out: false, times: Vec::new(), status: None, unwell: Vec::new() }
    }

    #[test]
    fn a_log_is_judged() {
        let c = case("name = 'x/y'\nwant = ['^VERDICT SUCCESS$']\nnever = ['oops']");
        let faults = |log, code| c.judge(&ended(log, code)).expect("expressions").len();
        assert_eq!(faults("VERDICT SUCCESS\n", 33), 0);
        assert_eq!(faults("VERDICT SUCCESS\n", 35), 1);
        assert_eq!(faults("nothing\n", 33), 1);
        assert_eq!(faults("VERDICT SUCCESS\n\u{fffd}\n", 33), 1);
        assert_eq!(faults("VERDICT SUCCESS\noops\n", 33), 1);
        assert_eq!(faults("VERDICT SUCCESS\nCHECK a FAIL\nX-Kernel: panic: b\n", 33), 2);
        let hung = Ended { timed_out: true, ..ended("VERDICT SUCCESS\n", 33) };
        assert_eq!(c.judge(&hung).expect("expressions").len(), 1);
    }

    #[test]
    fn every_case_can_be_judged() {
        let cases = all().expect("tests/cases.toml is well-formed");
        for c in &cases {
            assert!(!c.want.is_empty(), "{} wants nothing", c.name);
            c.judge(&ended("", 0)).expect("its expressions are well-formed");
            c.operator.iter().for_each(|step| drop(step.expressions().expect("its steps are well-formed")));
        }
        let mut names: Vec<_> = cases.iter().map(|c| &c.name).collect();
        names.sort();
        names.dedup();
        assert_eq!(names.len(), cases.len(), "names are unique");
    }
}
