//! An installed system as GRUB sees it: the package's /boot beside Debian's stock kernel, and the menu that GRUB's own
//! script, 20_linux_xen, makes of that.

use std::fs;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, bail};

use crate::initrd::{self, Script};
use crate::{deb, debian, iso, setup, sh};

/// The script, and the folders that it looks into, in its own words.
const SCRIPT: &str = "/etc/grub.d/20_linux_xen";
const LOOKS: &[&str] = &["/boot/vmlinu[xz]-*", "/boot/kernel-*", "/boot/xen*"];

/// GRUB's functions for such scripts, but for those that ask where the files are: there is no disk behind them.
const LIBRARY: &str = ". /usr/share/grub/grub-mkconfig_lib
grub_get_device_id() { echo test; }
make_system_path_relative_to_its_root() { echo /boot; }
prepare_grub_to_access_device() { :; }
";

/// What comes before the script's part of a grub.cfg.
const HEADER: &str = "set timeout=0\nset default=0\nmenuentry_id_option=\"--id\"\n";

/// GRUB's script with the folder `boot` in the place of /boot. Every place that it looks into must be there to be changed.
fn script(text: &str, boot: &str) -> Result<String> {
    let mut text = text.to_string();
    for look in LOOKS {
        if !text.contains(&format!(" {look}")) {
            bail!("{SCRIPT} does not look for {look}");
        }
        text = text.replace(&format!(" {look}"), &format!(" {}", look.replacen("/boot", boot, 1)));
    }
    Ok(text)
}

/// Makes the image `to`: the package, Debian's kernel, an initrd, and the menu. `options` are the administrator's for the
/// hypervisor, GRUB_CMDLINE_XEN.
pub fn make(options: &str, what: &Script, to: &Path) -> Result<()> {
    setup::ensure(setup::RUN)?;
    let (root, work) = (to.with_extension("d"), to.with_extension("grub"));
    sh::empty(&root)?;
    sh::empty(&work)?;
    sh::run(Command::new("dpkg").arg("-x").arg(deb::make()?).arg(&root))?;
    let kernel = debian::kernel()?;
    let name = kernel.file_name().and_then(|n| n.to_str()).context("a kernel has a name")?;
    let version = name.strip_prefix("vmlinuz-").context("a kernel is vmlinuz-VERSION")?;
    let boot = root.join("boot");
    fs::copy(&kernel, boot.join(name))?;
    let config = format!("config-{version}");
    fs::copy(kernel.with_file_name(&config), boot.join(config))?;
    fs::copy(initrd::make(what)?, boot.join(format!("initrd.img-{version}")))?;
    fs::write(work.join("grub-mkconfig_lib"), LIBRARY)?;
    let text = fs::read_to_string(SCRIPT).with_context(|| format!("cannot read {SCRIPT}"))?;
    // `update-grub` reads the settings before it calls the script.
    let settings = format!(". {}\n", root.join(deb::GRUB).display());
    fs::write(work.join("script"), settings + &script(&text, boot.to_str().context("a path is text")?)?)?;
    let mut shell = Command::new("sh");
    shell.arg(work.join("script")).env("pkgdatadir", &work).env("GRUB_DISTRIBUTOR", "Debian");
    shell.env("GRUB_DEVICE", "/dev/sda1").env("GRUB_DEVICE_UUID", "00000000-0000-4000-8000-000000000000");
    shell.env("GRUB_CMDLINE_XEN", options).env("GRUB_CMDLINE_LINUX", "").env("GRUB_CMDLINE_LINUX_DEFAULT", "quiet");
    let menu = sh::output(&mut shell)?;
    if !menu.contains("multiboot2\t/boot/xen-x-kernel-") {
        bail!("{SCRIPT} does not list the X-Kernel: {menu}");
    }
    fs::create_dir_all(boot.join("grub"))?;
    fs::write(boot.join("grub/grub.cfg"), format!("{HEADER}{menu}"))?;
    fs::remove_dir_all(&work)?;
    iso::of_folder(&root, to)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_script_looks_elsewhere() {
        let text = "for i in /boot/vmlinu[xz]-* /vmlinu[xz]-* /boot/kernel-*; do\nfor i in /boot/xen*; do\n";
        let changed = script(text, "/x/boot").expect("all is there");
        assert_eq!(changed, "for i in /x/boot/vmlinu[xz]-* /vmlinu[xz]-* /x/boot/kernel-*; do\nfor i in /x/boot/xen*; do\n");
        assert!(script("for i in /boot/xen*", "/x").is_err());
    }
}
