//! Bootable images by grub-mkrescue: BIOS and UEFI, CD or USB stick.

use std::fmt::Write;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};

use crate::{setup, sh};

/// A boot module: a file, and the line that goes with it.
#[derive(Clone, Debug)]
pub struct Module {
    /// The file.
    pub file: PathBuf,
    /// The line.
    pub line: String,
}

/// What an image boots.
#[derive(Clone, Debug)]
pub struct Boot {
    /// The multiboot2 kernel.
    pub kernel: PathBuf,
    /// Its command line.
    pub options: String,
    /// Its modules.
    pub modules: Vec<Module>,
}

/// A word for GRUB's shell.
fn quoted(text: &str) -> String {
    if text.is_empty() { String::new() } else { format!("'{}'", text.replace('\'', r"'\''")) }
}

/// Words are quoted one by one, because GRUB joins them with blanks again.
fn words(line: &str) -> String {
    line.split(' ').map(quoted).collect::<Vec<_>>().join(" ")
}

/// Makes the image `to`.
pub fn make(boot: &Boot, to: &Path) -> Result<()> {
    setup::ensure(setup::RUN)?;
    let folder = to.with_extension("d");
    let _ = std::fs::remove_dir_all(&folder);
    std::fs::create_dir_all(folder.join("boot/grub"))?;
    let copy = |from: &Path, name: &str| std::fs::copy(from, folder.join(name)).with_context(|| format!("cannot read {}", from.display()));
    copy(&boot.kernel, "kernel")?;
    let mut config = String::from("set timeout=0\nmenuentry 'X-Container' {\n");
    writeln!(config, "  multiboot2 /kernel {}", words(&boot.options))?;
    for (i, module) in boot.modules.iter().enumerate() {
        copy(&module.file, &format!("module{i}"))?;
        // Compressed files go as they are: unpacking them is their reader's business.
        writeln!(config, "  module2 --nounzip /module{i} {}", words(&module.line))?;
    }
    config.push_str("}\n");
    std::fs::write(folder.join("boot/grub/grub.cfg"), config)?;
    of_folder(&folder, to)
}

/// Makes the image `to` of a folder that has a boot/grub/grub.cfg, and removes the folder.
pub fn of_folder(folder: &Path, to: &Path) -> Result<()> {
    setup::ensure(setup::RUN)?;
    let made = sh::output(Command::new("grub-mkrescue").arg("-o").arg(to).arg(folder));
    std::fs::remove_dir_all(folder)?;
    made.map(|_| ())
}
