//! The domains of a guest's arguments, and what boots them on the X-Kernel.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};

use super::{GuestArgs, Placed, files, is_linux, mib, named};
use crate::initrd::Script;
use crate::iso::Module;

/// A domain, as the arguments have it.
#[derive(Clone, Debug)]
pub struct Domain {
    pub kernel: PathBuf,
    pub initrd: Option<PathBuf>,
    pub cmdline: String,
    options: Vec<(&'static str, String)>,
}

/// What a domain may be told beside its files and its command line.
const OPTIONS: [&str; 7] = ["name", "mem", "weight", "vcpus", "initial", "xmode", "abom"];

impl Domain {
    /// The first one.
    fn first(guest: &GuestArgs, script: &Script) -> Result<Self> {
        let mem = guest.guest_mem.as_deref().map(mib).transpose()?;
        let (kernel, initrd, cmdline) = files(guest, script)?;
        let options = [
            ("mem", mem.map(|mib| format!("{mib}M"))),
            ("vcpus", guest.vcpus.map(|n| n.to_string())),
            ("initial", guest.initial.then(|| "yes".into())),
            ("xmode", guest.xmode.map(|x| x.name().into())),
            ("abom", guest.abom.map(|x| x.name().into())),
        ];
        let options = options.into_iter().filter_map(|(key, value)| Some((key, value?))).collect();
        Ok(Self { kernel, initrd, cmdline, options })
    }

    /// One beside it, of which `text` says how it differs. Its command line, if that has none, is `cmdline`.
    fn beside(&self, text: &str, cmdline: &str) -> Result<Self> {
        let (head, tail) = text.split_once("cmdline=").unwrap_or((text, cmdline));
        let mut domain = Self { cmdline: tail.into(), options: Vec::new(), ..self.clone() };
        for part in head.split(',').filter(|p| !p.is_empty()) {
            let what = || format!("--domain: '{part}' is not understood");
            let (key, value) = part.split_once('=').with_context(what)?;
            match key {
                "kernel" => {
                    domain.kernel = named(Path::new(value))?;
                    domain.initrd = domain.initrd.filter(|_| is_linux(Path::new(value)));
                }
                "initrd" => domain.initrd = Some(named(Path::new(value))?),
                _ => domain.options.push((OPTIONS.iter().find(|o| **o == key).with_context(what)?, value.into())),
            }
        }
        Ok(domain)
    }

    /// All domains of a guest's arguments.
    pub fn all(guest: &GuestArgs, script: &Script) -> Result<Vec<Self>> {
        let first = Self::first(guest, script)?;
        let others = guest.domains.iter().map(|text| {
            // A container beside a container is told where its first process is, too.
            let same = matches!(script, Script::Container(_)) && !text.contains("kernel=");
            first.beside(text, if same { &first.cmdline } else { "" })
        });
        let others = others.collect::<Result<Vec<_>>>()?;
        Ok([vec![first], others].concat())
    }

    /// What it is told by this name.
    pub fn option(&self, name: &str) -> Option<&str> {
        Some(&self.options.iter().find(|(key, _)| *key == name)?.1)
    }

    /// Its options, as on its line.
    fn options(&self) -> String {
        self.options.iter().map(|(key, value)| format!(" {key}={value}")).collect()
    }
}

/// The boot modules for a guest.
pub fn modules(guest: &GuestArgs, script: &Script) -> Result<Vec<Module>> {
    if !guest.containers.is_empty() {
        return side_by_side(guest, &Domain::first(guest, script)?);
    }
    let mut modules = Vec::new();
    for domain in Domain::all(guest, script)? {
        let (options, cmdline) = (domain.options(), domain.cmdline);
        // The first one needs no words of the X-Kernel's, if it has no options.
        let (line, initrd_line) = match (modules.is_empty(), options.is_empty()) {
            (true, true) => (cmdline, ""),
            _ => (format!("xk:domain{options} -- {cmdline}"), "xk:initrd"),
        };
        modules.push(Module { file: domain.kernel, line });
        modules.extend(domain.initrd.map(|file| Module { file, line: initrd_line.into() }));
    }
    for text in &guest.modules {
        let (file, line) = text.split_once(' ').unwrap_or((text, ""));
        modules.push(Module { file: named(Path::new(file))?, line: line.into() });
    }
    Ok(modules)
}

/// The boot modules for containers side by side: kernel and files are there once.
fn side_by_side(guest: &GuestArgs, each: &Domain) -> Result<Vec<Module>> {
    if !(guest.domains.is_empty() && guest.modules.is_empty()) {
        bail!("--domain and --module go with one container, not with several");
    }
    let mut modules = vec![Module { file: each.kernel.clone(), line: "xk:file name=kernel".into() }];
    let mut files: Vec<&Path> = Vec::new();
    for container in &guest.containers {
        if !files.contains(&container.shared.as_path()) {
            modules.push(Module { file: container.shared.clone(), line: format!("xk:file name=files-{}", files.len()) });
            files.push(&container.shared);
        }
    }
    for Placed { name, shared, own } in &guest.containers {
        let number = files.iter().position(|f| f == shared).context("its files")?;
        let line = format!("xk:domain name={name}{} kernel=kernel initrd=files-{number} -- {}", each.options(), each.cmdline);
        modules.push(Module { file: own.clone(), line });
    }
    Ok(modules)
}
