//! Where the function around an address begins, by the unwind table that is mapped with it.
//!
//! An ELF module's program headers name `.eh_frame_hdr`, whose table has the beginning
//! of every function, in order (Linux Standard Base, "DWARF Extensions"). All of it is the program's own claim about
//! itself: who believes it must not be hurt if it is wrong.

/// The memory of a program.
pub trait Memory {
    /// Reads `buf.len()` bytes at `address`. False if not all of them are there.
    fn read(&mut self, address: u64, buf: &mut [u8]) -> bool;
}

impl<F: FnMut(u64, &mut [u8]) -> bool + ?Sized> Memory for F {
    fn read(&mut self, address: u64, buf: &mut [u8]) -> bool {
        self(address, buf)
    }
}

/// Whether the function that the table has at `start` begins at `at`: by libgcc's convention the table has the return address
/// of a signal handler one byte too early.
#[must_use]
pub const fn begins(start: u64, at: u64) -> bool {
    matches!(at.wrapping_sub(start), 0 | 1)
}

/// Those of `starts`, where instructions begin in order, that are not ahead of the function that the table has at `start`. None
/// if none of them is its beginning.
#[must_use]
pub fn from_beginning(starts: &[u64], start: u64) -> Option<&[u64]> {
    starts.get(starts.partition_point(|at| *at < start)..).filter(|own| own.first().is_some_and(|at| begins(start, *at)))
}

const PAGE: u64 = 4096;
/// `\x7fELF`, 64 bits, little-endian, version 1.
const MAGIC: [u8; 7] = [0x7f, b'E', b'L', b'F', 2, 1, 1];
const HEADER: usize = 64;
const PROGRAM_HEADER: usize = 56;
/// Those that are read at once.
const HEADERS: usize = 16;
/// More program headers than any module has.
const MOST_HEADERS: u16 = 64;
const PT_LOAD: u32 = 1;
const PT_GNU_EH_FRAME: u32 = 0x6474_e550;
/// What linkers write: version 1, the frame pc-relative in 4 bytes, a count in 4, a table relative to this header in 4.
const TABLE_HEADER: [u8; 4] = [1, 0x1b, 0x03, 0x3b];

fn u16_at(bytes: &[u8], at: usize) -> Option<u16> {
    bytes.get(at..)?.first_chunk().map(|b| u16::from_le_bytes(*b))
}

fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    bytes.get(at..)?.first_chunk().map(|b| u32::from_le_bytes(*b))
}

fn u64_at(bytes: &[u8], at: usize) -> Option<u64> {
    bytes.get(at..)?.first_chunk().map(|b| u64::from_le_bytes(*b))
}

/// The address of the module's table of functions.
fn table(memory: &mut (impl Memory + ?Sized), module: u64) -> Option<u64> {
    let mut header = [0; HEADER];
    memory.read(module, &mut header).then_some(())?;
    if header.first_chunk() != Some(&MAGIC) {
        return None;
    }
    let (offset, size, count) = (u64_at(&header, 32)?, u16_at(&header, 54)?, u16_at(&header, 56)?);
    if usize::from(size) != PROGRAM_HEADER || count > MOST_HEADERS {
        return None;
    }
    let (mut lowest, mut found) = (None, None);
    let (mut at, mut left) = (module.checked_add(offset)?, usize::from(count).checked_mul(PROGRAM_HEADER)?);
    while left > 0 {
        let mut entries = [0; HEADERS * PROGRAM_HEADER];
        let entries = entries.get_mut(..left.min(HEADERS * PROGRAM_HEADER))?;
        memory.read(at, entries).then_some(())?;
        for entry in entries.chunks_exact(PROGRAM_HEADER) {
            match u32_at(entry, 0)? {
                PT_LOAD if lowest.is_none() => lowest = u64_at(entry, 16),
                PT_GNU_EH_FRAME => found = u64_at(entry, 16),
                _ => {}
            }
        }
        left = left.saturating_sub(entries.len());
        at = at.checked_add(entries.len() as u64)?;
    }
    found?.checked_sub(lowest? & !(PAGE.wrapping_sub(1)))?.checked_add(module)
}

/// A row of the table: where the function begins, and its frame's description.
const ROW: usize = 8;
/// Rows that are read at once, when no more are left to choose from.
const ROWS: u32 = 16;

/// A module's table of functions.
#[derive(Clone, Copy, Debug)]
pub struct Functions {
    table: u64,
    count: u32,
}

impl Functions {
    /// The table of the module whose first page is at `module`, if it has one.
    #[must_use]
    pub fn of(memory: &mut (impl Memory + ?Sized), module: u64) -> Option<Self> {
        let table = table(memory, module)?;
        let mut header = [0; 12];
        memory.read(table, &mut header).then_some(())?;
        (header.first_chunk() == Some(&TABLE_HEADER)).then_some(Self { table, count: u32_at(&header, 8)? })
    }

    /// Those of the same module, if it is `by` further on.
    #[must_use]
    pub const fn moved(&self, by: u64) -> Self {
        Self { table: self.table.wrapping_add(by), ..*self }
    }

    /// Reads the table from function `index` on, as many as there is room for.
    fn rows(&self, memory: &mut (impl Memory + ?Sized), index: u32, rows: &mut [u8]) -> Option<()> {
        let at = self.table.checked_add(12)?.checked_add(u64::from(index).checked_mul(ROW as u64)?)?;
        memory.read(at, rows).then_some(())
    }

    /// Where the function begins that a row of the table is of.
    fn start(&self, row: &[u8]) -> Option<u64> {
        self.table.checked_add_signed(u32_at(row, 0)?.cast_signed().into())
    }

    /// Where the function begins that `address` is in, and where the next one does, if there is one.
    #[must_use]
    pub fn around(&self, memory: &mut (impl Memory + ?Sized), address: u64) -> Option<(u64, Option<u64>)> {
        // The last one that is not behind the address is in `low..high`, if any is.
        let (mut low, mut high) = (0, self.count);
        while high.saturating_sub(low) >= ROWS {
            let (middle, mut row) = (low.midpoint(high), [0; ROW]);
            self.rows(memory, middle, &mut row)?;
            *(if self.start(&row)? <= address { &mut low } else { &mut high }) = middle;
        }
        // Those, and the one behind.
        let mut rows = [0; ROWS as usize * ROW];
        let count = usize::try_from(self.count.saturating_sub(low).min(ROWS)).ok()?;
        let rows = rows.get_mut(..count.checked_mul(ROW)?)?;
        self.rows(memory, low, rows)?;
        let mut found = None;
        for row in rows.chunks_exact(ROW) {
            let start = self.start(row)?;
            if start > address {
                return found.map(|found| (found, Some(start)));
            }
            found = Some(start);
        }
        found.map(|found| (found, None))
    }
}

#[cfg(test)]
mod tests {
    use std::vec;
    use std::vec::Vec;

    use super::*;

    const BASE: u64 = 0x7f00_0000_0000;

    /// A module of a header page, a code page and a table on the third page.
    fn image(functions: &[u64]) -> Vec<u8> {
        let mut bytes = vec![0; 3 * PAGE as usize];
        bytes[..MAGIC.len()].copy_from_slice(&MAGIC);
        bytes[32] = 64;
        bytes[54] = PROGRAM_HEADER as u8;
        bytes[56] = 2;
        bytes[64] = PT_LOAD as u8;
        bytes[120..124].copy_from_slice(&PT_GNU_EH_FRAME.to_le_bytes());
        bytes[136..144].copy_from_slice(&(2 * PAGE).to_le_bytes());
        let at = 2 * PAGE as usize;
        bytes[at..at + 4].copy_from_slice(&TABLE_HEADER);
        bytes[at + 8..at + 12].copy_from_slice(&(functions.len() as u32).to_le_bytes());
        for (n, function) in functions.iter().enumerate() {
            let offset = (*function as i64 - 2 * PAGE as i64) as i32;
            bytes[at + 12 + 8 * n..][..4].copy_from_slice(&offset.to_le_bytes());
        }
        bytes
    }

    fn read(bytes: &[u8]) -> impl FnMut(u64, &mut [u8]) -> bool + '_ {
        |address, buf| {
            let Some(at) = address.checked_sub(BASE).map(|a| a as usize) else { return false };
            let Some(from) = bytes.get(at..at.saturating_add(buf.len())) else { return false };
            buf.copy_from_slice(from);
            true
        }
    }

    fn function(memory: &mut (impl Memory + ?Sized), module: u64, address: u64) -> Option<(u64, Option<u64>)> {
        Functions::of(memory, module)?.around(memory, address)
    }

    fn function_start(memory: &mut (impl Memory + ?Sized), module: u64, address: u64) -> Option<u64> {
        function(memory, module, address).map(|(start, _)| start)
    }

    #[test]
    fn the_function_around_an_address() {
        let bytes = image(&[0x1000, 0x1040, 0x1100]);
        for (address, start) in [(0x1000, 0x1000), (0x103f, 0x1000), (0x1040, 0x1040), (0x10ff, 0x1040), (0x1fff, 0x1100)] {
            assert_eq!(function_start(&mut read(&bytes), BASE, BASE + address), Some(BASE + start), "{address:#x}");
        }
        assert_eq!(function(&mut read(&bytes), BASE, BASE + 0x1041), Some((BASE + 0x1040, Some(BASE + 0x1100))));
        assert_eq!(function(&mut read(&bytes), BASE, BASE + 0x1101), Some((BASE + 0x1100, None)));
        assert_eq!(function_start(&mut read(&bytes), BASE, BASE + 0xfff), None);
        assert_eq!(function_start(&mut read(&bytes), 0x1000, BASE + 0x1000), None);
    }

    #[test]
    fn the_same_module_elsewhere() {
        let bytes = image(&[0x1000, 0x1040]);
        let functions = Functions::of(&mut read(&bytes), BASE).expect("a table").moved(PAGE);
        let mut there = |address: u64, buf: &mut [u8]| read(&bytes)(address - PAGE, buf);
        assert_eq!(functions.around(&mut there, BASE + PAGE + 0x1041), Some((BASE + PAGE + 0x1040, None)));
    }

    #[test]
    fn nothing_is_found_in_an_empty_table() {
        assert_eq!(function_start(&mut read(&image(&[])), BASE, BASE + 0x1000), None);
    }

    proptest::proptest! {
        /// Whatever the module says of itself: an answer, in time.
        #[test]
        fn any_module_is_survived(changes in proptest::collection::vec((0usize..0x2040, 0u8..), 0..40)) {
            let mut bytes = image(&[0x1000, 0x1040, 0x1100]);
            for (at, byte) in changes {
                // Headers and table, not the code between.
                let at = if at < 0x100 { at } else { at % 0x40 + 0x2000 };
                bytes[at] = byte;
            }
            let _ = function_start(&mut read(&bytes), BASE, BASE + 0x1050);
        }
    }
}
