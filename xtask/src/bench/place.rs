//! Where X-LibOS runs when it is compared: the same configuration of the same source everywhere.

use anyhow::Result;

use super::{MACHINE_MIB, XEN_OPTIONS};
use crate::initrd::Script;
use crate::qemu::BootFrom;
use crate::run::{self, GuestArgs, Switch};
use crate::{iso, sh};

/// A place.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Place {
    /// The X-Kernel, in X-mode.
    XMode,
    /// The X-Kernel, as an ordinary PV guest.
    Pv,
    /// Debian's Xen, as its first domain.
    Xen,
    /// The machine itself.
    Native,
}

impl Place {
    /// For tables.
    pub fn name(self) -> &'static str {
        match self {
            Self::XMode => "X-mode",
            Self::Pv => "PV",
            Self::Xen => "Xen",
            Self::Native => "native",
        }
    }

    /// The kernel: X-LibOS, and where it needs drivers for a machine, the same with those.
    pub fn kernel(self) -> &'static str {
        match self {
            Self::XMode | Self::Pv => run::LIBOS,
            Self::Xen | Self::Native => "linux:libos-dom0",
        }
    }

    /// What boots `script` there with `kernel`; an image for it is called `name`. `abom` says whether system calls may
    /// become function calls while programs run.
    pub fn boot(self, kernel: &str, script: &Script, name: &str, abom: Switch) -> Result<BootFrom> {
        let xmode = if self == Self::Pv { Switch::Off } else { Switch::On };
        // How many page tables a fork copies is a matter of addresses: single operations find the same ones everywhere.
        let cmdline = matches!(script, Script::Program(_)).then(|| format!("{} norandmaps", run::linux_cmdline(1)));
        let guest = GuestArgs { kernel: Some(kernel.into()), cmdline, xmode: Some(xmode), abom: Some(abom), ..GuestArgs::default() };
        let boot = match self {
            Self::Native => return run::boot_natively(&guest, script),
            Self::XMode | Self::Pv => run::boot(&guest, script, true)?,
            Self::Xen => run::boot_on_xen(&GuestArgs { options: XEN_OPTIONS.into(), ..guest }, script, MACHINE_MIB)?,
        };
        let image = sh::target(&format!("bench/{name}.iso"))?;
        iso::make(&boot, &image)?;
        Ok(BootFrom::Iso(image))
    }

    /// What the counting plugin is told about it.
    pub fn plugin_options(self) -> &'static str {
        if self == Self::Native { ",native=on" } else { "" }
    }
}
