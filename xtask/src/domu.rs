//! A guest as an ordinary domain of Debian's Xen: the first domain is a container with Xen's tools, which start it.

use std::path::Path;

use anyhow::{Context, Result};

use crate::container::{Container, ContainerArgs};
use crate::initrd::Script;
use crate::run::{self, GuestArgs};
use crate::{iso, sh};

/// The first domain's kernel, and its memory in MiB.
const FIRST: &str = "linux:libos-dom0";
const FIRST_MIB: u64 = 512;
/// The guest's memory, if nothing else is said.
const GUEST_MIB: u64 = 128;
/// What starts the guest (see there), and where it finds it.
const STARTER: &str = "tests/xen/domain.sh";

/// Makes the image `to`, which boots `guest` with `script`.
///
/// # Errors
/// What is not there.
pub fn make(guest: &GuestArgs, script: &Script, to: &Path) -> Result<()> {
    let (kernel, initrd, cmdline) = run::files(guest, script)?;
    let initrd = initrd.context("an ordinary domain of Xen's needs an initrd")?;
    let mib = guest.guest_mem.as_deref().map_or(Ok(GUEST_MIB), run::mib)?;
    let starter = sh::root().join(STARTER);
    let add = [(kernel.as_path(), "/boot/kernel"), (&initrd, "/boot/initrd"), (&starter, "/boot/domain.sh")];
    let args = ContainerArgs {
        rootfs: vec!["debian:xen".into()],
        add: add.map(|(from, to)| format!("{}:{to}", from.display())).to_vec(),
        ..ContainerArgs::default()
    };
    let command = ["/bin/bash", "/boot/domain.sh", &mib.to_string(), &cmdline].map(String::from);
    let container = Container::new(&args, &command)?;
    container.fits(FIRST_MIB, None)?;
    let first = GuestArgs { kernel: Some(FIRST.into()), guest_mem: Some(format!("{FIRST_MIB}M")), ..GuestArgs::default() };
    iso::make(&run::boot_on_xen(&first, &container.script(), FIRST_MIB)?, to)
}
