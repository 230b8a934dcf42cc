//! An ELF file as the tool sees it: where code is, where data is, where functions begin and end.

use std::path::Path;

use anyhow::{Context, Result, bail};
use object::Endianness;
use object::elf::{
    EM_X86_64, FileHeader64, PF_X, PT_LOAD, PT_NOTE, SHF_ALLOC, SHF_EXECINSTR, SHT_NOBITS, SHT_RELA, STT_FUNC, STT_GNU_IFUNC,
};
use object::read::elf::{FileHeader, ProgramHeader, SectionHeader, Sym};

/// The only byte order there is here.
pub const LE: Endianness = Endianness::Little;

/// Bytes of the file that are loaded at an address.
#[derive(Clone, Copy, Debug)]
pub struct Area<'a> {
    /// Where they are loaded.
    pub address: u64,
    /// Where they are in the file.
    pub offset: u64,
    /// The bytes.
    pub bytes: &'a [u8],
}

impl Area<'_> {
    /// The address behind the last byte.
    pub fn end(&self) -> u64 {
        self.address.saturating_add(self.bytes.len() as u64)
    }

    /// Whether the address is in it.
    pub fn has(&self, address: u64) -> bool {
        (self.address..self.end()).contains(&address)
    }
}

/// A function: where it begins and ends.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub struct Extent {
    /// Its first address.
    pub start: u64,
    /// The address behind its last byte.
    pub end: u64,
}

/// The parts of a file.
#[derive(Debug)]
pub struct Elf<'a> {
    /// All of the file.
    pub data: &'a [u8],
    /// Its header.
    pub header: &'a FileHeader64<Endianness>,
    /// Executable sections; executable segments where there are no sections.
    pub code: Vec<Area<'a>>,
    /// Loaded sections, or segments, that are not executable.
    pub other: Vec<Area<'a>>,
    /// Functions that symbols name.
    pub symbols: Vec<Extent>,
    /// `.eh_frame`, if there is one.
    pub unwind: Option<Area<'a>>,
    /// What relocations put into words of data: addresses, where they are in the file's own code.
    pub pointers: Vec<u64>,
}

/// Reads a file whole.
pub fn read(path: &Path) -> Result<Vec<u8>> {
    std::fs::read(path).with_context(|| format!("cannot read {}", path.display()))
}

impl<'a> Elf<'a> {
    /// Takes a file apart.
    pub fn parse(data: &'a [u8]) -> Result<Self> {
        if !data.starts_with(b"\x7fELF") {
            bail!("not an ELF file");
        }
        if data.get(4) != Some(&2) {
            bail!("not a 64-bit ELF file");
        }
        let header = FileHeader64::<Endianness>::parse(data).context("the ELF header is broken")?;
        if header.e_machine(LE) != EM_X86_64 {
            bail!("not for x86-64: machine {}", header.e_machine(LE));
        }
        let mut elf = Self { data, header, code: Vec::new(), other: Vec::new(), symbols: Vec::new(), unwind: None, pointers: Vec::new() };
        elf.sections().context("the section headers are broken")?;
        if elf.code.is_empty() {
            elf.segments().context("the program headers are broken")?;
        }
        elf.code.sort_by_key(|a| a.address);
        elf.symbols.sort_unstable();
        elf.symbols.dedup();
        Ok(elf)
    }

    fn sections(&mut self) -> Result<()> {
        let (data, header) = (self.data, self.header);
        let sections = header.sections(LE, data)?;
        for section in sections.iter() {
            if section.sh_type(LE) == SHT_RELA {
                self.relocations(section)?;
            }
            if section.sh_flags(LE) & u64::from(SHF_ALLOC) == 0 || section.sh_type(LE) == SHT_NOBITS {
                continue;
            }
            let area = Area { address: section.sh_addr(LE), offset: section.sh_offset(LE), bytes: section.data(LE, data)? };
            if section.sh_flags(LE) & u64::from(SHF_EXECINSTR) == 0 {
                self.other.push(area);
            } else {
                self.code.push(area);
            }
            if sections.section_name(LE, section)? == b".eh_frame" {
                self.unwind = Some(area);
            }
        }
        for kind in [object::elf::SHT_SYMTAB, object::elf::SHT_DYNSYM] {
            for symbol in sections.symbols(LE, data, kind)?.iter() {
                let size = symbol.st_size(LE);
                if matches!(symbol.st_type(), STT_FUNC | STT_GNU_IFUNC) && size > 0 && symbol.st_shndx(LE) != 0 {
                    let start = symbol.st_value(LE);
                    self.symbols.push(Extent { start, end: start.saturating_add(size) });
                }
            }
        }
        Ok(())
    }

    fn relocations(&mut self, section: &object::elf::SectionHeader64<Endianness>) -> Result<()> {
        let Some((list, _)) = section.rela(LE, self.data)? else { return Ok(()) };
        self.pointers.extend(list.iter().map(|r| r.r_addend.get(LE).cast_unsigned()));
        Ok(())
    }

    fn segments(&mut self) -> Result<()> {
        for segment in self.header.program_headers(LE, self.data)? {
            if segment.p_type(LE) != PT_LOAD {
                continue;
            }
            let Ok(bytes) = segment.data(LE, self.data) else { bail!("a segment is not in the file") };
            let area = Area { address: segment.p_vaddr(LE), offset: segment.p_offset(LE), bytes };
            if segment.p_flags(LE) & PF_X == 0 {
                self.other.push(area);
            } else {
                self.code.push(area);
            }
        }
        Ok(())
    }

    /// The notes of the file.
    pub fn notes(&self) -> Result<Vec<Area<'a>>> {
        let segments = self.header.program_headers(LE, self.data).context("the program headers are broken")?;
        let notes = segments.iter().filter(|s| s.p_type(LE) == PT_NOTE);
        Ok(notes
            .filter_map(|s| Some(Area { address: s.p_vaddr(LE), offset: s.p_offset(LE), bytes: s.data(LE, self.data).ok()? }))
            .collect())
    }
}
