//! Two domains that send each other events and use each other's grants: tests/guests/peer, in turns.

use anyhow::{Result, ensure};

use super::super::column::Column;
use super::super::counted::{self, Done};
use super::super::report::document::{Cell, Row};
use super::{Wanted, quantities, single};
use crate::initrd::Script;
use crate::qemu::BootFrom;
use crate::run::{self, GuestArgs};
use crate::{iso, sh};

/// Memory of each, in MiB.
const MEM: &str = "24M";
/// Why the other columns are empty.
const ELSEWHERE: &str = "the guests are the X-Kernel's only: Debian's Xen starts a second domain by its first one's tools";

/// One run.
fn once(run: u32) -> Result<Vec<Done>> {
    let guest = GuestArgs {
        kernel: Some("guest:peer".into()),
        guest_mem: Some(MEM.into()),
        cmdline: Some("granter other=2 counted".into()),
        domains: vec![format!("name=m1,mem={MEM},cmdline=mapper other=1 counted")],
        ..GuestArgs::default()
    };
    let name = format!("domains-{run}");
    let image = sh::target(&format!("bench/{name}.iso"))?;
    iso::make(&run::boot(&guest, &Script::Shell, true)?, &image)?;
    eprintln!("xtask: two domains, with an instruction as the clock");
    let counted = counted::run(BootFrom::Iso(image), &name, "", false)?;
    let fine = counted.ended.log.lines().filter(|l| l.ends_with("VERDICT SUCCESS")).count();
    ensure!(fine == 2, "{fine} of 2 domains ended well");
    let done = counted.stretches("DONE ")?;
    ensure!(!done.is_empty(), "the domains have counted nothing");
    Ok(done)
}

/// Rows of all quantities.
pub fn rows(wanted: &Wanted) -> Result<Vec<Row>> {
    let here = wanted.columns().contains(&(Column::Pv, true));
    let runs = if here { (0..wanted.runs.max(1)).map(once).collect::<Result<Vec<_>>>()? } else { return Ok(Vec::new()) };
    let works: Vec<&String> = runs.iter().take(1).flatten().map(|d| &d.name).collect();
    let mut rows = Vec::new();
    for (what, of) in quantities::ALL {
        for work in &works {
            let values = runs.iter().flatten().filter(|d| d.name == **work).map(|d| of(&d.spent) / d.times);
            let cell = Cell::of(&values.collect::<Vec<_>>());
            rows.push(single("domains", work, what, quantities::ONCE, Column::Pv, cell, ELSEWHERE));
        }
    }
    Ok(rows)
}
