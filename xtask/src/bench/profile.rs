//! Where instructions went: what the plugin has counted by block, by the symbols of the hypervisor and the kernel.

use std::collections::BTreeMap;
use std::ops::RangeInclusive;
use std::path::Path;

use anyhow::{Context, Result};
use object::{Object, ObjectSymbol, SymbolKind};

use super::counted::Counted;

/// Where Linux is; below are the processes and the hypervisor.
const KERNEL: u64 = 0xffff_ffff_8000_0000;
/// Where the hypervisor is.
const HYPERVISOR: RangeInclusive<u64> = 0xffff_8000_0000_0000..=0xffff_87ff_ffff_ffff;

/// Blocks by address, and the instructions executed in each.
pub type Blocks = BTreeMap<u64, u64>;

/// What was executed between some of the run's lines: `lines` are those that end the parts.
///
/// # Errors
/// If there was no profile, or it ends too early.
pub fn part(run: &Counted, lines: RangeInclusive<usize>) -> Result<Blocks> {
    let text = std::fs::read_to_string(run.profile.as_ref().context("no profile was asked for")?)?;
    let parts: Vec<_> = text.split("\n\n").collect();
    let mut blocks = Blocks::new();
    for part in parts.get(lines).context("the profile ends too early")? {
        for (address, count) in part.lines().filter_map(|l| l.split_once(' ')) {
            *blocks.entry(u64::from_str_radix(address, 16)?).or_default() += count.parse::<u64>()?;
        }
    }
    Ok(blocks)
}

/// Names of code by address.
pub struct Symbols(BTreeMap<u64, String>);

impl Symbols {
    /// Those of a Linux.
    ///
    /// # Errors
    /// If the file is none with symbols.
    pub fn of_linux(file: &Path) -> Result<Self> {
        Self::of(file, |address| address >= KERNEL)
    }

    /// Those of the X-Kernel.
    ///
    /// # Errors
    /// If the file is none with symbols.
    pub fn of_x_kernel(file: &Path) -> Result<Self> {
        Self::of(file, |address| HYPERVISOR.contains(&address))
    }

    fn of(file: &Path, there: impl Fn(u64) -> bool) -> Result<Self> {
        let bytes = std::fs::read(file).with_context(|| format!("cannot read {}", file.display()))?;
        let object = object::File::parse(&*bytes)?;
        let is_code = |kind| matches!(kind, SymbolKind::Text | SymbolKind::Label | SymbolKind::Unknown);
        let named = object.symbols().filter(|s| is_code(s.kind()) && there(s.address()));
        let named = named.filter_map(|s| Some((s.address(), s.name().ok().filter(|n| !n.is_empty() && !n.starts_with(".L"))?)));
        Ok(Self(named.map(|(address, name)| (address, format!("{:#}", rustc_demangle::demangle(name)))).collect()))
    }

    /// Both.
    pub fn and(mut self, other: Self) -> Self {
        self.0.extend(other.0);
        self
    }

    /// Instructions by function; of code that these symbols are not about there is nothing.
    pub fn by_function(&self, blocks: &Blocks) -> Vec<(String, u64)> {
        let ours = |address: u64| address >= KERNEL || HYPERVISOR.contains(&address);
        let mut counts: BTreeMap<&str, u64> = BTreeMap::new();
        for (address, count) in blocks.iter().filter(|(address, _)| ours(**address)) {
            let Some((start, name)) = self.0.range(..=address).next_back() else { continue };
            // The last function of the hypervisor is none of the kernel's, and the other way round.
            if (*start >= KERNEL) == (*address >= KERNEL) {
                *counts.entry(name).or_default() += count;
            }
        }
        let mut list: Vec<_> = counts.into_iter().map(|(name, count)| (name.to_string(), count)).collect();
        list.sort_by_key(|(_, count)| std::cmp::Reverse(*count));
        list
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blocks_belong_to_the_function_before_them() {
        let hypervisor = *HYPERVISOR.start();
        let names = [(hypervisor, "entry"), (hypervisor + 0x10, "exit"), (KERNEL, "first"), (KERNEL + 0x20, "second")];
        let symbols = Symbols(names.map(|(address, name)| (address, name.to_string())).into());
        let blocks = Blocks::from([(0x400_000, 9), (hypervisor + 4, 1), (hypervisor + 0x11, 2), (KERNEL + 0x1f, 3), (KERNEL + 0x20, 4)]);
        let found = symbols.by_function(&blocks);
        assert_eq!(found, [("second", 4), ("first", 3), ("exit", 2), ("entry", 1)].map(|(name, count)| (name.to_string(), count)));
    }
}
