//! Guests as ordinary domains of Debian's Xen: the first domain is a container with Xen's tools, which start them.

use std::path::Path;

use anyhow::Result;

use crate::container::{Container, ContainerArgs};
use crate::initrd::Script;
use crate::run::{self, Domain, GuestArgs};
use crate::{iso, sh};

/// The first domain's kernel, and its memory in MiB.
const FIRST: &str = "linux:libos-dom0";
const FIRST_MIB: u64 = 512;
/// The memory of a domain, if nothing else is said.
const MEM: &str = "128M";
/// What starts the domains (see there), and where it finds it and their files.
const STARTER: &str = "tests/xen/domains.sh";
const BOOT: &str = "/boot";

/// Makes the image `to`, which boots the domains of `guest`, the first of them with `script`. Their domids are 1 and up.
///
/// # Errors
/// What is not there.
pub fn make(guest: &GuestArgs, script: &Script, to: &Path) -> Result<()> {
    let mut command = vec!["/bin/bash".into(), format!("{BOOT}/start")];
    let mut add = vec![format!("{}:{BOOT}/start", sh::root().join(STARTER).display())];
    for (domain, domid) in Domain::all(guest, script)?.iter().zip(1..) {
        let name = domain.option("name").map_or_else(|| format!("d{domid}"), String::from);
        let files = [("kernel", Some(&domain.kernel)), ("initrd", domain.initrd.as_ref())];
        add.extend(files.iter().filter_map(|(what, file)| Some(format!("{}:{BOOT}/{name}.{what}", (*file)?.display()))));
        let mib = run::mib(domain.option("mem").unwrap_or(MEM))?;
        command.extend([name, mib.to_string(), domain.cmdline.clone()]);
    }
    let container = Container::new(&ContainerArgs { rootfs: vec!["debian:xen".into()], add, ..ContainerArgs::default() }, &command)?;
    container.fits(FIRST_MIB, None)?;
    let first = GuestArgs {
        kernel: Some(FIRST.into()),
        guest_mem: Some(format!("{FIRST_MIB}M")),
        options: guest.options.clone(),
        ..GuestArgs::default()
    };
    iso::make(&run::boot_on_xen(&first, &container.script(), FIRST_MIB)?, to)
}
