//! Functions as the unwind tables have them: `.eh_frame` is there even in stripped files.

use gimli::{BaseAddresses, CieOrFde, EhFrame, EndianSlice, LittleEndian, Pointer, UnwindSection};

use crate::elf::{Area, Elf, Extent};

/// A function of the unwind tables.
#[derive(Clone, Copy, Debug)]
pub struct Unwound {
    /// Where it is.
    pub extent: Extent,
    /// Where its table of landing pads is, if it has one.
    pub pads: Option<u64>,
}

/// All functions that the tables name. Tables that are broken name those before the break.
pub fn functions(elf: &Elf<'_>) -> Vec<Unwound> {
    let Some(section) = elf.unwind else { return Vec::new() };
    let table = EhFrame::new(section.bytes, LittleEndian);
    let bases = BaseAddresses::default().set_eh_frame(section.address);
    let mut found = Vec::new();
    let mut entries = table.entries(&bases);
    while let Ok(Some(entry)) = entries.next() {
        let CieOrFde::Fde(partial) = entry else { continue };
        let Ok(fde) = partial.parse(EhFrame::cie_from_offset) else { continue };
        // The table of a signal's return begins a byte early, so that an address less one is found in it.
        let early = u64::from(fde.cie().is_signal_trampoline());
        let end = fde.initial_address().saturating_add(fde.len());
        let extent = Extent { start: fde.initial_address().saturating_add(early), end };
        let pads = match fde.lsda() {
            Some(Pointer::Direct(at)) if at != 0 => Some(at),
            _ => None,
        };
        found.push(Unwound { extent, pads });
    }
    found
}

/// The landing pads of a function: where an exception goes on. None if its table cannot be read.
pub fn landing_pads(elf: &Elf<'_>, function: &Unwound) -> Option<Vec<u64>> {
    let Some(at) = function.pads else { return Some(Vec::new()) };
    let area: &Area<'_> = elf.other.iter().find(|a| a.has(at))?;
    let bytes = area.bytes.get(usize::try_from(at.checked_sub(area.address)?).ok()?..)?;
    let mut reader = EndianSlice::new(bytes, LittleEndian);
    pads(&mut reader, function.extent.start)
}

/// An encoding that is left out.
const OMITTED: u8 = 0xff;
/// The only encoding of the table that compilers use.
const ULEB: u8 = 0x01;

fn pads(reader: &mut EndianSlice<'_, LittleEndian>, start: u64) -> Option<Vec<u64>> {
    use gimli::Reader;
    if reader.read_u8().ok()? != OMITTED {
        return None;
    }
    if reader.read_u8().ok()? != OMITTED {
        reader.read_uleb128().ok()?;
    }
    if reader.read_u8().ok()? != ULEB {
        return None;
    }
    let length = usize::try_from(reader.read_uleb128().ok()?).ok()?;
    let mut table = reader.split(length).ok()?;
    let mut found = Vec::new();
    while !table.is_empty() {
        table.read_uleb128().ok()?;
        table.read_uleb128().ok()?;
        let pad = table.read_uleb128().ok()?;
        table.read_uleb128().ok()?;
        if pad != 0 {
            found.push(start.wrapping_add(pad));
        }
    }
    Some(found)
}
