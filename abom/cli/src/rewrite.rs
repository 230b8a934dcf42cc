//! `patch` and `unpatch`: a file with its sites changed, and back again.
//!
//! Nothing in the file moves. Behind its end comes one more segment, with a copy of the program headers that has two
//! more, the stubs, and the record of it all. It is loaded as far from the first segment as it is from the file's
//! beginning, because the dynamic loader finds its own program headers that way, and older kernels those of programs.

use abom::stub::StubBytes;
use abom::{Plan, Reach, Refusal, Table, Ways, plan};
use anyhow::{Context, Result, bail, ensure};
use object::elf::{ET_DYN, ET_EXEC, PF_R, PF_X, PT_LOAD, PT_NOTE, PT_PHDR};
use object::read::elf::{FileHeader, ProgramHeader};

use crate::elf::{Elf, LE};
use crate::program::Program;
use crate::record::{Change, Record};

/// How files are changed.
pub const WAYS: Ways = Ways { table: Table::X_CONTAINER, stubs: Some(Reach::Near) };

/// The size of a page.
const PAGE: u64 = 4096;
/// The size of a program header.
const HEADER: usize = 56;
/// Where the ELF header says where the program headers are, and how many there are.
const PHOFF: usize = 32;
const PHNUM: usize = 56;

/// What was done to a file.
#[derive(Debug)]
pub struct Patched {
    /// The new file.
    pub data: Vec<u8>,
    /// What it says about itself.
    pub record: Record,
    /// The sites that stay as they are.
    pub refused: Vec<(u64, Refusal)>,
}

/// The record of a patched file.
pub fn record(elf: &Elf<'_>) -> Result<Option<Record>> {
    for note in elf.notes()? {
        if let Some(record) = Record::from_note(note.bytes)? {
            return Ok(Some(record));
        }
    }
    Ok(None)
}

/// Changes all sites of a file that can be.
pub fn patch(data: &[u8]) -> Result<Patched> {
    let elf = Elf::parse(data)?;
    ensure!(record(&elf)?.is_none(), "already patched: `unpatch` first");
    let kind = elf.header.e_type.get(LE);
    ensure!(kind == ET_EXEC || kind == ET_DYN, "neither a program nor a shared library: link it first");
    let place = Place::behind(&elf)?;
    let program = Program::new(elf);
    let mut patched =
        Patched { data: data.to_vec(), record: Record { length: data.len() as u64, ..Record::default() }, refused: Vec::new() };
    patched.record.jump = WAYS.table.jump().unwrap_or(0);
    let start = place.address.checked_add(place.headers as u64).context("the address space is full")?;
    let mut stubs: Vec<u8> = Vec::new();
    let mut taken = Vec::new();
    for &site in &program.sites {
        let stub = start.saturating_add(stubs.len() as u64).next_multiple_of(16);
        match change(&program, site, &taken, stub) {
            Ok((change, bytes, region)) => {
                if !bytes.is_empty() {
                    stubs.resize(usize::try_from(stub.saturating_sub(start))?, 0xcc);
                    stubs.extend(&bytes);
                }
                patched.record.changes.push(change);
                taken.push(region);
            }
            Err(refusal) => patched.refused.push((site, refusal)),
        }
    }
    stubs.resize(stubs.len().next_multiple_of(16), 0xcc);
    patched.record.stubs = (start, stubs.len() as u64);
    for change in &patched.record.changes {
        let at = usize::try_from(change.offset)?;
        patched
            .data
            .get_mut(at..)
            .and_then(|d| d.get_mut(..change.new.len()))
            .context("a change is outside of the file")?
            .copy_from_slice(&change.new);
    }
    place.append(&mut patched, &stubs)?;
    Ok(patched)
}

/// A change of bytes, the stub that it needs, and what else is taken by it.
type Made = (Change, StubBytes, std::ops::Range<u64>);

fn change(program: &Program<'_>, site: u64, taken: &[std::ops::Range<u64>], stub: u64) -> Result<Made, Refusal> {
    let (code, mut facts) = program.around(site)?;
    facts.taken = taken;
    let (patch, bytes) = match plan(&code, site, &WAYS, &facts)? {
        Plan::Call(patch) => (patch, StubBytes::new()),
        Plan::Stub(plan) => plan.place(stub, None).map(|p| (p.patch, p.stub)).ok_or(Refusal::NoRoom)?,
    };
    let area = program.elf.code.iter().find(|a| a.has(patch.address())).ok_or(Refusal::NoSyscall)?;
    let offset = patch.address().saturating_sub(area.address).saturating_add(area.offset);
    let change = Change {
        address: patch.address(),
        offset,
        site,
        stub: if bytes.is_empty() { 0 } else { stub },
        old: patch.old().to_vec(),
        new: patch.new_bytes().to_vec(),
    };
    Ok((change, bytes, patch.region().clone()))
}

/// Where the new segment goes.
struct Place {
    address: u64,
    offset: u64,
    /// How long the new program headers are.
    headers: usize,
    count: u16,
    table: Vec<u8>,
}

impl Place {
    /// Behind everything that is loaded, and behind the file.
    fn behind(elf: &Elf<'_>) -> Result<Self> {
        let segments = elf.header.program_headers(LE, elf.data).context("the program headers are broken")?;
        let loads = || segments.iter().filter(|s| s.p_type(LE) == PT_LOAD);
        let first = loads().next().context("nothing of it is loaded")?;
        let base = first.p_vaddr(LE).checked_sub(first.p_offset(LE)).context("its first segment is below its file")?;
        let mut end = 0_u64;
        for load in loads() {
            end = end.max(load.p_vaddr(LE).checked_add(load.p_memsz(LE)).context("a segment wraps around")?);
        }
        let least = base.checked_add(elf.data.len() as u64).context("the file is too long")?;
        let address = end.max(least).checked_next_multiple_of(PAGE).context("the address space is full")?;
        let offset = address.saturating_sub(base);
        // Zeros fill the file up to there; a program with gigabytes of variables would have to be as long.
        ensure!(offset.saturating_sub(elf.data.len() as u64) < 1 << 28, "its segments reach too far beyond the file");
        let start = usize::try_from(elf.header.e_phoff.get(LE))?;
        let old = usize::from(elf.header.e_phnum.get(LE));
        let table = elf.data.get(start..).and_then(|d| d.get(..old.checked_mul(HEADER)?)).context("the program headers are broken")?;
        let count = u16::try_from(old)?.checked_add(2).context("too many program headers")?;
        let headers = usize::from(count).saturating_mul(HEADER).next_multiple_of(16);
        Ok(Self { address, offset, headers, count, table: table.to_vec() })
    }

    /// Appends the segment and leads the headers to it.
    fn append(&self, patched: &mut Patched, stubs: &[u8]) -> Result<()> {
        let header = patched.data.get(..64).context("no header")?;
        for (at, length) in [(PHOFF, 8), (PHNUM, 2)] {
            let old = header.get(at..).and_then(|h| h.get(..length)).context("no header")?;
            patched.record.headers.push((at as u64, old.to_vec()));
        }
        let note = patched.record.to_note();
        let note_at = self.headers.saturating_add(stubs.len());
        let total = note_at.saturating_add(note.len()) as u64;
        let entry = |kind: u32, flags: u32, at: usize, length: u64, align: u64| {
            let at = at as u64;
            let mut bytes = [kind.to_le_bytes(), flags.to_le_bytes()].concat();
            for n in
                [self.offset.saturating_add(at), self.address.saturating_add(at), self.address.saturating_add(at), length, length, align]
            {
                bytes.extend(n.to_le_bytes());
            }
            bytes
        };
        let mut table: Vec<Vec<u8>> = self.table.chunks(HEADER).map(<[u8]>::to_vec).collect();
        let kind = |e: &Vec<u8>| e.first_chunk().map_or(0, |b| u32::from_le_bytes(*b));
        for old in table.iter_mut().filter(|e| kind(e) == PT_PHDR) {
            *old = entry(PT_PHDR, PF_R, 0, usize::from(self.count).saturating_mul(HEADER) as u64, 8);
        }
        // Segments are in the order of their addresses, and this one is the last.
        let last = table.iter().rposition(|e| kind(e) == PT_LOAD).context("nothing of it is loaded")?;
        table.insert(last.saturating_add(1), entry(PT_LOAD, PF_R | PF_X, 0, total, PAGE));
        table.push(entry(PT_NOTE, PF_R, note_at, note.len() as u64, 4));
        let mut segment = table.concat();
        ensure!(segment.len() <= self.headers, "the program headers are broken");
        segment.resize(self.headers, 0);
        segment.extend(stubs);
        segment.extend(note);
        patched.data.resize(usize::try_from(self.offset)?, 0);
        patched.data.extend(segment);
        patched.data.get_mut(PHOFF..).and_then(|d| d.get_mut(..8)).context("no header")?.copy_from_slice(&self.offset.to_le_bytes());
        patched.data.get_mut(PHNUM..).and_then(|d| d.get_mut(..2)).context("no header")?.copy_from_slice(&self.count.to_le_bytes());
        Ok(())
    }
}

/// The file as it was.
pub fn unpatch(data: &[u8]) -> Result<(Vec<u8>, Record)> {
    let elf = Elf::parse(data)?;
    let Some(record) = record(&elf)? else { bail!("not patched: there is no record in it") };
    let length = usize::try_from(record.length)?;
    let mut old = data.get(..length).context("the file is shorter than it was before")?.to_vec();
    let changes = record.changes.iter().map(|c| (c.offset, &c.old, Some(&c.new)));
    let headers = record.headers.iter().map(|(offset, bytes)| (*offset, bytes, None));
    for (offset, bytes, now) in changes.chain(headers) {
        let at = usize::try_from(offset)?;
        let place = old.get_mut(at..).and_then(|d| d.get_mut(..bytes.len())).context("a change is outside of the file")?;
        if let Some(now) = now {
            ensure!(
                place == now.as_slice(),
                "the bytes at offset {offset:#x} are not those that were written: changed since it was patched"
            );
        }
        place.copy_from_slice(bytes);
    }
    Ok((old, record))
}
