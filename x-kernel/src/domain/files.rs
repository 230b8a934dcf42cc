//! The boot modules that domains are built of: each is taken when the first domain needs it and given up behind the last.
//!
//! A kernel that several domains have is unpacked once.

use alloc::vec::Vec;

use dom_image::{Image, ImageError};
use pv_core::bootline::DomainPlan;

use super::build::{BuildError, error};
use crate::arch::x86_64::boot::BootInfo;
use crate::mm::modules::BootModule;
use crate::mm::scratch::{self, Scratch};

/// A module that has been taken.
struct Held {
    index: usize,
    module: BootModule,
    /// Its content, if it is a packed kernel that has been unpacked.
    unpacked: Option<Scratch>,
}

/// Those that have been taken.
pub struct Files<'a> {
    info: &'a BootInfo,
    held: Vec<Held>,
}

impl<'a> Files<'a> {
    /// None yet.
    pub const fn new(info: &'a BootInfo) -> Self {
        Self { info, held: Vec::new() }
    }

    /// Takes what `plan` needs, and unpacks its kernel.
    ///
    /// # Errors
    /// What is missing or damaged.
    pub fn open(&mut self, plan: &DomainPlan<'_>) -> Result<(), BuildError> {
        for index in plan.initrd.iter().flatten() {
            self.take(*index)?;
        }
        let kernel = self.take(plan.kernel)?;
        if kernel.unpacked.is_none() {
            kernel.unpacked = unpack(kernel.module.bytes())?;
        }
        Ok(())
    }

    fn take(&mut self, index: usize) -> Result<&mut Held, BuildError> {
        if let Some(at) = self.held.iter().position(|h| h.index == index) {
            return self.held.get_mut(at).ok_or_else(|| error(format_args!("module {index} is missing")));
        }
        let m = self.info.modules.get(index).ok_or_else(|| error(format_args!("module {index} is missing")))?;
        self.held.try_reserve(1).map_err(|_| error(format_args!("no memory for module {index}")))?;
        let module = BootModule::take(m.start, m.end.saturating_sub(m.start));
        let module = module.ok_or_else(|| error(format_args!("module {index} cannot be read")))?;
        self.held.push(Held { index, module, unpacked: None });
        self.held.last_mut().ok_or_else(|| error(format_args!("module {index} is missing")))
    }

    /// Gives up those that are not `needed` any more.
    pub fn keep(&mut self, needed: impl Fn(usize) -> bool) {
        self.held.retain(|h| needed(h.index));
    }

    /// The content of module `index`, which is open; unpacked, if it is a kernel.
    pub fn bytes(&self, index: usize) -> &[u8] {
        let held = self.held.iter().find(|h| h.index == index);
        held.map_or(&[], |h| h.unpacked.as_ref().map_or_else(|| h.module.bytes(), Scratch::bytes))
    }
}

/// A kernel's complaint as an error line.
pub fn kernel_error(why: ImageError) -> BuildError {
    error(format_args!("kernel: {why}"))
}

/// Unpacks the kernel if it is packed.
fn unpack(file: &[u8]) -> Result<Option<Scratch>, BuildError> {
    match dom_image::open(file, scratch::MAX_BYTES as u64).map_err(kernel_error)? {
        Image::Elf(_) => Ok(None),
        Image::Packed(packed) => {
            let mut out =
                Scratch::new(packed.size()).ok_or_else(|| error(format_args!("kernel: no memory to unpack {} bytes", packed.size())))?;
            packed.unpack(out.bytes_mut()).map_err(kernel_error)?;
            Ok(Some(out))
        }
    }
}
