//! What the same work costs in entries to ring 0, by reason, and in instructions, under the X-Kernel and under Xen.
//!
//! A plugin of QEMU's (tests/bench/crossings) counts both from outside, in the same way. On the X-Kernel its own
//! counters stand beside that: if the two do not agree, one of them is wrong and nothing is reported. Time is counted in
//! instructions (`-icount`), so that timer interrupts do not depend on how busy the host is.

use std::collections::BTreeMap;
use std::path::Path;

use anyhow::{Context, Result, bail};
use serde_json::{Value, json};

use super::counts::{At, Counts};
use super::{GUEST_MIB, MACHINE_MIB, Under, plugin, run_image, save};
use crate::initrd::Script;
use crate::qemu::{self, INSTRUCTION_CLOCK};
use crate::sh;

/// Work: its name, what the table says of it, and the shell's words for it.
const WORK: &[(&str, &str, &str)] = &[
    (
        "fork-exec",
        "500 times fork, exec and wait of a static program",
        "i=0; while [ $i -lt 500 ]; do /bin/busybox true; i=$((i + 1)); done",
    ),
    ("sha256", "64 MiB through a pipe into sha256sum", "dd if=/dev/zero bs=1M count=64 2>/dev/null | sha256sum"),
    (
        "pipe",
        "20,000 writes of 64 bytes through two pipes",
        "dd if=/dev/zero bs=64 count=20000 2>/dev/null | cat | dd of=/dev/null bs=64 2>/dev/null",
    ),
    ("sleep", "sleep for 2 s", "sleep 2"),
];

/// A mark that the plugin knows: the system call `times`. It costs some fifty crossings, which the work's count
/// includes.
const MARK: &str = "times >/dev/null";

/// One run: what was counted at each mark, and at the end.
fn measure(under: Under, plugin: &Path) -> Result<Vec<Counts>> {
    let script = WORK.iter().fold(MARK.to_string(), |script, (_, _, words)| format!("{script}\n{words}\n{MARK}"));
    let image = under.image(&Script::Command(vec!["sh".into(), "-c".into(), script]), "crossings")?;
    let out = sh::target(&format!("bench/crossings-{}.jsonl", under.file()))?;
    let plugin = format!("{},out={}", plugin.display(), out.display());
    let [icount, shift] = INSTRUCTION_CLOCK;
    let more = [icount, shift, "-plugin", &plugin];
    eprintln!("xtask: the work on {}, with an instruction as the clock: some minutes", under.name());
    run_image(&image, &format!("crossings-{}", under.file()), &more)?;
    // The first hypercall, a mark before and after each work, the end.
    let counts = Counts::at(&Counts::read(&out)?, &[At::Hypercall, At::Mark, At::End]);
    if counts.len() != WORK.len() + 3 {
        bail!("{} has {} lines, not {}", out.display(), counts.len(), WORK.len() + 3);
    }
    Ok(counts)
}

/// The X-Kernel's own counters beside what was seen from outside: lines that do not agree.
fn disagreements(own: &Value, seen: &Counts) -> Result<Vec<String>> {
    let domain = own.pointer("/domains/0").context("the X-Kernel's statistics have no domain")?;
    let number = |name: &str| domain.get(name).and_then(Value::as_u64).with_context(|| format!("its statistics have no {name}"));
    let calls: BTreeMap<String, u64> = serde_json::from_value(domain.get("hypercalls").context("no hypercalls")?.clone())?;
    let pairs = [
        ("crossings", number("crossings")?, seen.crossings()),
        ("system calls", domain.pointer("/syscalls/trap").and_then(Value::as_u64).context("no system calls")?, seen.syscalls),
        ("page faults", number("page_faults")?, seen.page_faults()),
        ("interrupts", number("interrupts")?, seen.interrupts()),
        ("hypercalls", calls.values().sum::<u64>() - number("multicall_calls")?, seen.hypercalls()),
    ];
    let mut lines: Vec<_> = pairs
        .iter()
        .filter(|(_, own, seen)| own != seen)
        .map(|(what, own, seen)| format!("{what}: {own} by its own counters, {seen} from outside"))
        .collect();
    if seen.unexplained != 0 {
        lines.push(format!("{} entries that are neither a vector nor a syscall", seen.unexplained));
    }
    Ok(lines)
}

/// Prints one table and returns it.
fn table(title: &str, ours: &Counts, theirs: &Counts) -> Value {
    println!("\n{title}");
    println!("{:<34} {:>14} {:>14} {:>7}", "", "X-Kernel", "Xen", "ratio");
    let mut rows = Vec::new();
    for ((name, a), (_, b)) in ours.rows().into_iter().zip(theirs.rows()) {
        if a == 0 && b == 0 {
            continue;
        }
        let ratio = if b == 0 { "-".to_string() } else { format!("{:.2}", a as f64 / b as f64) };
        println!("{name:<34} {a:>14} {b:>14} {ratio:>7}");
        rows.push(json!({ "what": name.trim(), "x_kernel": a, "xen": b }));
    }
    rows.into()
}

/// `bench crossings`.
pub fn run() -> Result<()> {
    let plugin = plugin()?;
    let ours = measure(Under::XKernel, &plugin)?;
    let own = qemu::read_stats(&sh::target("bench/crossings-x-kernel.stats")?)?;
    let last = ours.last().context("nothing was counted")?;
    let wrong = disagreements(&own, last)?;
    if !wrong.is_empty() {
        bail!("the X-Kernel's counters and the plugin do not agree:\n  {}", wrong.join("\n  "));
    }
    eprintln!("xtask: the X-Kernel's own counters and the plugin agree: {} crossings", last.crossings());
    let theirs = measure(Under::Xen, &plugin)?;
    let mut tables = serde_json::Map::new();
    let titles = [("begin", "from power-on to the guest's first hypercall"), ("boot", "from there to the script")];
    let titles = titles.into_iter().chain(WORK.iter().map(|(name, title, _)| (*name, *title))).chain([("end", "switching off")]);
    let zero = last.since(last);
    let pairs = |counts: Vec<Counts>| {
        let earlier = std::iter::once(zero.clone()).chain(counts.clone());
        counts.into_iter().zip(earlier).map(|(now, before)| now.since(&before)).collect::<Vec<_>>()
    };
    for ((name, title), (ours, theirs)) in titles.zip(pairs(ours).iter().zip(&pairs(theirs))) {
        tables.insert(name.into(), table(&format!("{name}: {title}"), ours, theirs));
    }
    save("crossings", &json!({ "machine_mib": MACHINE_MIB, "guest_mib": GUEST_MIB, "tables": tables }))
}
