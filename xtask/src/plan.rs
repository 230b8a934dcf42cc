//! What a run is to be, before anything is built: which guest or containers, how much memory, and who types.

use std::io::IsTerminal;

use anyhow::{Result, bail};

use crate::container::Container;
use crate::initrd::Script;
use crate::run::{GuestArgs, LIBOS, LIBOS_SMP, On, RunArgs, STOCK, Switch, mib};
use crate::source::Source;

/// The machine's memory, if nothing asks for more, and what of a machine is not for domains, in MiB.
const USUAL_MIB: u64 = 1024;
const OWN_MIB: u64 = 96;
/// The same where Xen and its first domain run.
const OTHERS_MIB: u64 = 768;
/// A kernel's file, at the most.
const KERNEL_FILE_MIB: u64 = 16;

/// Memory for the machine, in MiB, where `containers` or a guest run.
pub fn machine_mib(args: &RunArgs, guest: &GuestArgs, containers: &[Container]) -> Result<u64> {
    if let Some(mem) = &args.machine_mem {
        return mib(mem);
    }
    let needs: u64 = containers.iter().map(|c| c.needs(guest.vcpus)).max().unwrap_or(0);
    let Some(each) = guest.guest_mem.as_deref().map(mib).transpose()? else {
        return Ok(USUAL_MIB.max(needs + OWN_MIB));
    };
    if args.on == On::Native {
        return Ok(each);
    }
    let further = guest.domains.iter().flat_map(|d| d.split(',').filter_map(|part| part.strip_prefix("mem="))).map(mib);
    let all = each * containers.len().max(1) as u64 + further.sum::<Result<u64>>()?;
    // The boot loader's copies, and what is kept for every frame.
    let files = if containers.is_empty() { 0 } else { Container::files_mib(containers) + KERNEL_FILE_MIB };
    let own = if args.on == On::XKernel { OWN_MIB } else { OTHERS_MIB };
    Ok(all + all / 32 + files + own)
}

/// What the machine's domains are.
pub struct Plan {
    /// What has a kernel now.
    pub guest: GuestArgs,
    /// The containers, if it is none that is bare.
    pub containers: Vec<Container>,
    /// The script of the first.
    pub script: Script,
    /// Whether somebody types.
    pub by_hand: bool,
    /// Whether that is at a terminal.
    pub interactive: bool,
}

/// The kernel for a container: X-LibOS, but where it has a whole machine, for which that has no drivers.
fn kernel(on: On, vcpus: Option<u32>) -> &'static str {
    match (on, vcpus) {
        (On::Xen | On::Native, _) => STOCK,
        (_, Some(2..)) => LIBOS_SMP,
        _ => LIBOS,
    }
}

/// Makes of arguments what is to be booted. Without a kernel or an initrd it is a container, the usual one if none is named.
pub fn plan(args: &RunArgs) -> Result<Plan> {
    let mut guest = args.guest.clone();
    let asked = args.container.names_files() || args.container.detail().is_some();
    if guest.initrd.is_some() && (!args.command.is_empty() || asked) {
        bail!("a command or a container needs the built-in initrd: leave --initrd out");
    }
    let terminal = std::io::stdin().is_terminal() && std::io::stdout().is_terminal();
    let interactive = args.command.is_empty() && terminal;
    if !asked && (guest.kernel.is_some() || guest.initrd.is_some()) {
        guest.kernel.get_or_insert_with(|| STOCK.into());
        let script = if args.command.is_empty() { Script::Shell } else { Script::Command(args.command.clone()) };
        return Ok(Plan { guest, containers: Vec::new(), script, by_hand: args.command.is_empty(), interactive });
    }
    // A shell listens to what is piped to it; what an image says listens to a terminal only.
    let shell = args.container.sources().iter().any(Source::is_shell) && args.container.entrypoint.is_none();
    let by_hand = args.command.is_empty() && (terminal || shell);
    let containers = Container::all(&args.container, &args.command, by_hand)?;
    if containers.len() > 1 && args.on != On::XKernel {
        bail!("containers side by side need --on x-kernel");
    }
    guest.kernel.get_or_insert_with(|| kernel(args.on, guest.vcpus).into());
    if args.on == On::XenDomain {
        // There it gets a part of the machine, and not what is left.
        let needs = containers.iter().map(|c| c.needs(guest.vcpus)).max().unwrap_or(0);
        guest.guest_mem.get_or_insert_with(|| format!("{needs}M"));
    }
    let script = Container::place(&containers, &mut guest)?;
    Ok(Plan { guest, containers, script, by_hand, interactive })
}

/// The kernel as people call it, and whether it is X-LibOS.
fn kernel_name(plan: &Plan) -> (String, bool) {
    let kernel = plan.guest.kernel.as_deref().map(|k| k.display().to_string()).unwrap_or_default();
    let libos = [LIBOS, LIBOS_SMP].contains(&kernel.as_str());
    (if libos { "X-LibOS".to_string() } else { kernel }, libos)
}

/// What runs, in a few words.
pub fn what(args: &RunArgs, plan: &Plan) -> String {
    let what = match &*plan.containers {
        [] => "a guest".to_string(),
        [_] => args.container.sources().first().map(|s| format!("the container {}", s.name())).unwrap_or_default(),
        several => several.iter().filter_map(|c| c.name.as_deref()).collect::<Vec<_>>().join(", "),
    };
    format!("{what} on {}", kernel_name(plan).0)
}

/// What is about to run, for somebody at a terminal.
pub fn banner(args: &RunArgs, plan: &Plan, mem_mib: u64) -> String {
    let libos = kernel_name(plan).1;
    let xmode = plan.guest.xmode != Some(Switch::Off) && libos && args.on == On::XKernel;
    let abom = plan.guest.abom != Some(Switch::Off);
    let mode = match (xmode, abom) {
        (true, true) => "in X-mode, system calls become function calls",
        (true, false) => "in X-mode, system calls stay as they are",
        (false, _) => "an ordinary guest",
    };
    let what = what(args, plan);
    let memory = plan.guest.guest_mem.as_ref().map_or_else(|| format!("all of {mem_mib} MiB"), |mem| format!("{mem} of {mem_mib} MiB"));
    let several = if plan.containers.len() > 1 { "; Ctrl-] i: the input to the next one" } else { "" };
    format!(
        "{what} ({mode}), {memory}\n\
         xtask: leave with `exit`; Ctrl-a x switches the machine off; Ctrl-] h: debug keys{several}"
    )
}

/// How programs called their kernel, from the counters of all domains.
pub fn figures(stats: &serde_json::Value) -> Option<String> {
    let sum = |path: &str| -> Option<u64> { stats.get("domains")?.as_array()?.iter().map(|d| d.pointer(path)?.as_u64()).sum() };
    Some(format!(
        "system calls: {} by function call, {} by trap; {} sites patched; {} crossings into the X-Kernel",
        sum("/syscalls/call")?,
        sum("/syscalls/trap")?,
        sum("/abom/patched")?,
        sum("/crossings")?
    ))
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    struct Line {
        #[command(flatten)]
        run: RunArgs,
    }

    fn memory(line: &str) -> u64 {
        let args = Line::parse_from(format!("run {line}").split_whitespace()).run;
        machine_mib(&args, &args.guest, &[]).expect("sizes")
    }

    #[test]
    fn a_machine_has_room_for_its_domains() {
        assert_eq!((memory(""), memory("--machine-mem 2G"), memory("--mem 1G --on native")), (1024, 2048, 1024));
        let two = memory("--mem 160M --domain name=b,mem=320M,cmdline=quiet");
        assert!((480 + OWN_MIB..600).contains(&two), "{two}");
        assert_eq!(memory("--guest-mem 160M --domain name=b,mem=320M"), two);
    }

    #[test]
    fn figures_are_of_all_domains() {
        let one = r#"{"syscalls":{"trap":1,"call":2},"abom":{"patched":3},"crossings":4}"#;
        let stats = serde_json::from_str(&format!("{{\"domains\":[{one},{one}]}}")).expect("JSON");
        let line = figures(&stats).expect("figures");
        assert_eq!(line, "system calls: 4 by function call, 2 by trap; 6 sites patched; 8 crossings into the X-Kernel");
        assert_eq!(figures(&serde_json::Value::Null), None);
    }
}
