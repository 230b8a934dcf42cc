//! The notes of a PV kernel (owner `Xen`): where it wants what, and what it requires.
//!
//! Numbers are 4 or 8 bytes. Other owners' notes and unknown types are passed over; lengths that pass the end of
//! the segment are refused, whoever's they are. A note that comes twice counts as its last occurrence.

use alloc::string::String;

use xen_abi::elfnote::*;

use crate::bytes::{part, u32_at, u64_at, wide};
use crate::error::{ImageError, Result};

/// The longest name of an unknown feature that is quoted.
const QUOTED: usize = 48;
/// Loaders that ask for nothing special.
const LOADERS: [&[u8]; 3] = [b"generic", b"linux", b""];

/// The names of features in the `FEATURES` text, by bit (elfnote.h, features.h).
const FEATURES: [&str; 13] = [
    "writable_page_tables",
    "writable_descriptor_tables",
    "auto_translated_physmap",
    "supervisor_mode_kernel",
    "pae_pgdir_above_4gb",
    "mmu_pt_update_preserve_ad",
    "highmem_assist",
    "gnttab_map_avail_bits",
    "hvm_callback_vector",
    "hvm_safe_pvclock",
    "hvm_pirqs",
    "dom0",
    "grant_map_identity",
];

/// What the notes say.
#[derive(Debug, Default, Clone)]
pub struct Notes {
    any: bool,
    /// `ENTRY`.
    pub entry: Option<u64>,
    /// `VIRT_BASE`; 0 if there is no such note: a small kernel may live where its memory does.
    pub virt_base: u64,
    /// `PADDR_OFFSET`; 0 if there is no such note.
    pub paddr_offset: u64,
    /// `HYPERCALL_PAGE`.
    pub hypercall_page: Option<u64>,
    /// `INIT_P2M`.
    pub init_p2m: Option<u64>,
    /// `MOD_START_PFN`.
    pub mod_start_pfn: bool,
    /// Required features that have a number, by bit.
    required: u32,
    /// A required feature that nobody knows.
    unknown: Option<String>,
}

impl Notes {
    /// Whether there was any.
    pub fn found(&self) -> bool {
        self.any
    }

    /// Reads the notes of one segment.
    ///
    /// # Errors
    /// A length that passes the end of the segment, a value of a wrong size, a loader that we are not.
    pub fn read(&mut self, mut rest: &[u8]) -> Result<()> {
        const HEAD: u64 = 12;
        while !rest.is_empty() {
            let (namesz, descsz) = (u32_at(rest, 0, "a note header")?, u32_at(rest, 4, "a note header")?);
            let kind = u32_at(rest, 8, "a note header")?;
            let name = part(rest, HEAD, namesz.into(), "a note's name")?;
            let desc_at = padded(namesz).saturating_add(HEAD);
            let desc = part(rest, desc_at, descsz.into(), "a note's value")?;
            if name == b"Xen\0" {
                self.any = true;
                self.take(kind, desc)?;
            }
            // The last note's padding may be missing.
            let next = padded(descsz).saturating_add(desc_at).min(wide(rest.len()));
            rest = part(rest, next, wide(rest.len()).saturating_sub(next), "a note")?;
        }
        Ok(())
    }

    fn take(&mut self, kind: u32, desc: &[u8]) -> Result<()> {
        match kind {
            XEN_ELFNOTE_ENTRY => self.entry = Some(number("ENTRY", desc)?),
            XEN_ELFNOTE_HYPERCALL_PAGE => self.hypercall_page = Some(number("HYPERCALL_PAGE", desc)?),
            XEN_ELFNOTE_VIRT_BASE => self.virt_base = number("VIRT_BASE", desc)?,
            XEN_ELFNOTE_PADDR_OFFSET => self.paddr_offset = number("PADDR_OFFSET", desc)?,
            XEN_ELFNOTE_INIT_P2M => self.init_p2m = Some(number("INIT_P2M", desc)?),
            XEN_ELFNOTE_MOD_START_PFN => self.mod_start_pfn = number("MOD_START_PFN", desc)? == 1,
            XEN_ELFNOTE_LOADER if !LOADERS.contains(&text(desc)) => {
                return Err(ImageError::Missing("loader that is known: the LOADER note must say generic"));
            }
            // "no" is from the time of 32-bit kernels; one that says so now is for something else.
            XEN_ELFNOTE_PAE_MODE if !text(desc).starts_with(b"yes") => {
                return Err(ImageError::Missing("64-bit tables: its PAE_MODE note does not say yes"));
            }
            XEN_ELFNOTE_FEATURES => self.features(text(desc)),
            _ => {}
        }
        Ok(())
    }

    /// Reads `a|!b|c`. What has no `!` is only offered.
    fn features(&mut self, list: &[u8]) {
        for name in list.split(|&b| b == b'|').filter_map(|word| word.strip_prefix(b"!")) {
            let known = (0u32..).zip(FEATURES).find(|(_, known)| known.as_bytes() == name);
            match known.and_then(|(bit, _)| 1u32.checked_shl(bit)) {
                Some(bit) => self.required |= bit,
                None => self.unknown = Some(quote(name)),
            }
        }
    }

    /// Compares what is required with what there is.
    ///
    /// # Errors
    /// [`ImageError::Feature`] with the first name that is missing.
    pub fn check(&self, provided: u32) -> Result<()> {
        if let Some(name) = &self.unknown {
            return Err(ImageError::Feature(name.clone()));
        }
        let missing = self.required & !provided;
        match (0u32..).zip(FEATURES).find(|(bit, _)| missing.checked_shr(*bit).unwrap_or(0) & 1 != 0) {
            Some((_, name)) => Err(ImageError::Feature(name.into())),
            None => Ok(()),
        }
    }
}

/// A length rounded up to the notes' alignment.
fn padded(len: u32) -> u64 {
    u64::from(len).saturating_add(3) & !3
}

/// A number of 4 or 8 bytes.
fn number(what: &'static str, desc: &[u8]) -> Result<u64> {
    match desc.len() {
        4 => u32_at(desc, 0, what).map(u64::from),
        8 => u64_at(desc, 0, what),
        other => Err(ImageError::Value { what, value: wide(other), rule: "its note's value must have 4 or 8 bytes" }),
    }
}

/// A text up to its zero.
fn text(desc: &[u8]) -> &[u8] {
    desc.split(|&b| b == 0).next().unwrap_or(&[])
}

/// Some guest's text, made fit for a log.
fn quote(name: &[u8]) -> String {
    name.iter().take(QUOTED).map(|&b| if b.is_ascii_graphic() { char::from(b) } else { '?' }).collect()
}
