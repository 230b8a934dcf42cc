//! Two domains that send each other events and use each other's grants: tests/guests/peer, in turns. On Debian's Xen they are
//! ordinary domains beside the first one, which sleeps while they are counted, and is the only one that uses the FPU.

use anyhow::{Result, ensure};

use super::super::XEN_OPTIONS;
use super::super::column::Column;
use super::super::counted::{self, Done};
use super::super::report::document::Row;
use super::work::{self, Work};
use super::{Wanted, quantities};
use crate::initrd::Script;
use crate::qemu::BootFrom;
use crate::run::{self, GuestArgs};
use crate::{domu, iso, sh};

/// Memory of each, in MiB.
const MEM: &str = "24M";
/// Why the other columns are empty.
const ELSEWHERE: &str = "the domains have no kernel: what differs is the hypervisor";

/// One run.
fn once(column: Column, run: u32) -> Result<Vec<Done>> {
    let guest = GuestArgs {
        kernel: Some("guest:peer".into()),
        guest_mem: Some(MEM.into()),
        cmdline: Some("granter other=2 counted".into()),
        domains: vec![format!("name=m1,mem={MEM},cmdline=mapper other=1 counted")],
        ..GuestArgs::default()
    };
    let name = format!("domains-{}-{run}", column.name());
    let image = sh::target(&format!("bench/{name}.iso"))?;
    match column {
        Column::Xen => domu::make(&GuestArgs { options: XEN_OPTIONS.into(), ..guest }, &Script::Shell, &image)?,
        _ => iso::make(&run::boot(&guest, &Script::Shell, true)?, &image)?,
    }
    eprintln!("xtask: two domains, {}, with an instruction as the clock", column.name());
    let counted = counted::run(BootFrom::Iso(image), &name, "", false)?;
    let fine = counted.ended.log.lines().filter(|l| l.ends_with("VERDICT SUCCESS")).count();
    ensure!(fine == 2, "{fine} of 2 domains ended well");
    let done = counted.stretches("DONE ")?;
    ensure!(!done.is_empty(), "the domains have counted nothing");
    Ok(done)
}

/// Rows of all quantities.
pub fn rows(wanted: &Wanted) -> Vec<Row> {
    let none = |column| (!matches!(column, Column::Xen | Column::Pv)).then_some(ELSEWHERE);
    work::rows(wanted, &Work { part: "domains", unit: quantities::ONCE, quantities: quantities::ALL, none, once })
}
