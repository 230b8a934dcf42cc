//! What single operations of the kernel cost (tests/linux/ops): X-LibOS in X-mode with system calls by the table, the same
//! with system calls by the instruction, and the same image as an ordinary PV guest.

use std::collections::BTreeMap;
use std::path::Path;

use anyhow::{Context, Result, bail};
use serde_json::json;

use super::counts::Counts;
use super::{plugin, run_machine, save};
use crate::initrd::Script;
use crate::qemu::Input;
use crate::run::{self, GuestArgs, Switch};
use crate::{iso, sh};

/// A column: its name, whether X-mode is allowed, and how system calls are made.
const COLUMNS: &[(&str, Switch, &str)] =
    &[("X-mode, table", Switch::On, "call"), ("X-mode, trap", Switch::On, "trap"), ("PV", Switch::Off, "trap")];

/// One operation, once.
#[derive(Clone, Copy, Debug)]
struct Cost {
    crossings: f64,
    cr3: f64,
    instructions: f64,
    ring0: f64,
}

/// Runs the operations; their costs by name, in their order.
fn measure(plugin: &Path, name: &str, xmode: Switch, calls: &str) -> Result<Vec<(String, Cost)>> {
    let file = name.replace([' ', ','], "-");
    let guest = GuestArgs { kernel: Some("linux:libos".into()), xmode: Some(xmode), ..GuestArgs::default() };
    let image = sh::target(&format!("bench/operations-{file}.iso"))?;
    iso::make(&run::boot(&guest, &Script::Program(format!("ops {calls}")), true)?, &image)?;
    let out = sh::target(&format!("bench/operations-{file}.jsonl"))?;
    let plugin = format!("{},out={}", plugin.display(), out.display());
    eprintln!("xtask: {name}, with an instruction as the clock: about a minute");
    let ended = run_machine(&image, &format!("operations-{file}"), &["-icount", "shift=0,sleep=off", "-plugin", &plugin], Input::Nothing)?;
    let done = ended.log.lines().filter_map(|l| l.strip_prefix("OPS ")?.split_once(' '));
    let done: Vec<(&str, f64)> = done.filter_map(|(name, count)| Some((name, count.parse().ok()?))).collect();
    let marks = Counts::read(&out)?;
    // The first hypercall, a mark before and after each, the end.
    if done.is_empty() || marks.len() != 2 * done.len() + 2 {
        bail!("{} operations were done, and {} lines counted", done.len(), marks.len());
    }
    let each = done.iter().zip(marks[1..].chunks_exact(2)).map(|((name, count), marks)| {
        let spent = marks[1].since(&marks[0]);
        let per = |n: u64| n as f64 / count;
        let cost = Cost {
            crossings: per(spent.crossings()),
            cr3: per(spent.cr3),
            instructions: per(spent.instructions()),
            ring0: per(spent.ring0),
        };
        ((*name).to_string(), cost)
    });
    Ok(each.collect())
}

/// `bench operations`.
pub fn run() -> Result<()> {
    let plugin = plugin()?;
    let mut columns = BTreeMap::new();
    let mut order = Vec::new();
    for &(name, xmode, calls) in COLUMNS {
        let costs = measure(&plugin, name, xmode, calls)?;
        order = costs.iter().map(|(operation, _)| operation.clone()).collect();
        columns.insert(name, costs.into_iter().collect::<BTreeMap<_, _>>());
    }
    let cost = |column: &str, operation: &str| columns.get(column).and_then(|c| c.get(operation)).copied();
    let mut results = Vec::new();
    for (what, value) in [
        ("entries to ring 0", (|c| c.crossings) as fn(&Cost) -> f64),
        ("loads of CR3", |c| c.cr3),
        ("instructions", |c| c.instructions),
        ("instructions in ring 0", |c| c.ring0),
    ] {
        println!("\n{what}, each time");
        print!("{:<22}", "");
        COLUMNS.iter().for_each(|(name, ..)| print!(" {name:>15}"));
        println!();
        for operation in &order {
            print!("{operation:<22}");
            for &(name, ..) in COLUMNS {
                let cost = cost(name, operation).with_context(|| format!("{name} has no {operation}"))?;
                print!(" {:>15.2}", value(&cost));
                results.push(json!({ "what": what, "operation": operation, "column": name, "value": value(&cost) }));
            }
            println!();
        }
    }
    save("operations", &results.into())
}
