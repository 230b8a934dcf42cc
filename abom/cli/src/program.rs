//! All of a program's code, disassembled by function: where instructions begin and what may be jumped to.
//!
//! Direct jumps and calls say where they go. An indirect one goes to an address that is in a word of data, in a
//! relocation, in a table of 32-bit offsets as compilers make for `switch`, in a table of landing pads, or is taken by a
//! `lea`. All of these count, whoever uses them. Code that no symbol or unwind table names is read from the end of the
//! function before it. What was read wrongly has invalid instructions or is jumped to in the middle of one, and nothing is
//! believed of all of that function then.

use abom::before;
use abom::code::Reader;
use abom::facts::{Facts, Inside, RedZone};
use abom::{Code, Refusal, redzone};
use iced_x86::{Decoder, DecoderOptions, Instruction, Mnemonic, OpKind, Register};

use crate::elf::{Area, Elf, Extent};
use crate::unwind::{self, Unwound};

/// The most entries of a table of offsets that are looked at.
const TABLE: usize = 4096;

/// The `lock` prefix.
const LOCK: u8 = 0xf0;

/// A function and its instructions.
#[derive(Debug)]
pub struct Function {
    /// Where it is.
    pub extent: Extent,
    /// Where its instructions begin.
    pub starts: Vec<u64>,
    /// What it does below its stack pointer.
    pub red_zone: RedZone,
    /// Whether all of it is instructions, as far as can be told.
    pub whole: bool,
    /// Where it jumps to outside of it.
    exits: Vec<u64>,
}

/// A program's code.
#[derive(Debug)]
pub struct Program<'a> {
    /// Its parts.
    pub elf: Elf<'a>,
    /// Its functions, in order; none overlaps the next.
    pub functions: Vec<Function>,
    /// What may be jumped to, in order.
    pub entered: Vec<u64>,
    /// The `syscall` instructions, in order.
    pub sites: Vec<u64>,
    /// What direct jumps and calls name.
    jumps: Vec<u64>,
}

impl<'a> Program<'a> {
    /// Disassembles a program.
    pub fn new(elf: Elf<'a>) -> Self {
        let unwound = unwind::functions(&elf);
        let extents = extents(&elf, &unwound);
        let mut program = Self { elf, functions: Vec::new(), entered: Vec::new(), sites: Vec::new(), jumps: Vec::new() };
        for area in program.elf.code.clone() {
            let mut at = area.address;
            let inside: Vec<Extent> = extents.iter().copied().filter(|e| area.has(e.start) && e.end <= area.end()).collect();
            let ends = inside.iter().skip(1).map(|e| e.start).chain([area.end()]);
            for (extent, next) in inside.iter().zip(ends) {
                program.gap(&area, at, extent.start);
                // Some end their unwind table ahead of their code: glibc's `clone` does, just before the system call.
                let end = if goes_on(&area, extent) { next } else { extent.end };
                program.function(&area, Extent { end, ..*extent });
                at = at.max(end);
            }
            program.gap(&area, at, area.end());
        }
        program.check_jumps();
        program.check_parts();
        program.landing_pads(&unwound);
        program.data();
        program.entered.extend(extents.iter().map(|e| e.start));
        program.entered.push(program.elf.header.e_entry.get(crate::elf::LE));
        program.entered.sort_unstable();
        program.entered.dedup();
        program.sites.sort_unstable();
        program.sites.dedup();
        program
    }

    fn function(&mut self, area: &Area<'_>, extent: Extent) {
        let Some(code) = slice(area, extent.start, extent.end) else { return };
        let list: Vec<Instruction> = Decoder::with_ip(64, code, extent.start, DecoderOptions::NONE).iter().collect();
        let whole = list.iter().all(|i| !i.is_invalid());
        for i in &list {
            self.instruction(i);
        }
        let red_zone = if whole { redzone::of(|| list.iter().copied()) } else { RedZone::Unknown };
        let starts = list.iter().map(Instruction::ip).collect();
        let exits = redzone::exits(list.iter().copied(), &(extent.start..extent.end)).collect();
        self.functions.push(Function { extent, starts, red_zone, whole, exits });
    }

    /// Of what jumps into the middle of a function nothing is known by itself: it may be a part of that.
    fn check_parts(&mut self) {
        let begins: Vec<u64> = self.functions.iter().map(|f| f.extent.start).collect();
        for function in &mut self.functions {
            if function.exits.iter().any(|to| begins.binary_search(to).is_err()) {
                function.red_zone = RedZone::Unknown;
            }
        }
    }

    /// Code that no function is known to have. It is between functions, so it begins with an instruction.
    fn gap(&mut self, area: &Area<'_>, start: u64, end: u64) {
        if start < end {
            self.function(area, Extent { start, end });
        }
    }

    fn instruction(&mut self, i: &Instruction) {
        if i.is_invalid() {
            return;
        }
        if i.mnemonic() == Mnemonic::Syscall {
            self.sites.push(i.ip());
        }
        if i.op_count() > 0 && i.op0_kind() == OpKind::NearBranch64 {
            self.jumps.push(i.near_branch64());
        }
        if i.mnemonic() == Mnemonic::Lea && i.memory_base() == Register::RIP {
            let target = i.memory_displacement64();
            if self.is_code(target) {
                self.entered.push(target);
            } else {
                self.table(target);
            }
        }
    }

    /// Whether jumps lead to instructions. Those over a `lock` prefix, which older code has, lead into one.
    fn check_jumps(&mut self) {
        let jumps = std::mem::take(&mut self.jumps);
        for &to in &jumps {
            let next = self.functions.partition_point(|f| f.extent.start <= to);
            let Some(function) = next.checked_sub(1).and_then(|n| self.functions.get_mut(n)) else { continue };
            let Err(place) = function.starts.binary_search(&to) else { continue };
            let before = place.checked_sub(1).and_then(|n| function.starts.get(n).copied());
            let locked = before.is_some_and(|at| at.checked_add(1) == Some(to) && byte(&self.elf, at) == Some(LOCK));
            function.whole &= to >= function.extent.end || locked;
        }
        self.entered.extend(jumps);
    }

    fn is_code(&self, address: u64) -> bool {
        self.elf.code.iter().any(|a| a.has(address))
    }

    /// What may be a table of offsets from its own address.
    fn table(&mut self, address: u64) {
        let Some(area) = self.elf.other.iter().find(|a| a.has(address)) else { return };
        let Some(bytes) = slice(area, address, area.end()) else { return };
        for entry in bytes.chunks_exact(4).take(TABLE) {
            let offset = entry.try_into().map_or(0, i32::from_le_bytes);
            let target = address.wrapping_add_signed(i64::from(offset));
            if !self.is_code(target) {
                break;
            }
            self.entered.push(target);
        }
    }

    fn landing_pads(&mut self, unwound: &[Unwound]) {
        for function in unwound {
            match unwind::landing_pads(&self.elf, function) {
                Some(pads) => self.entered.extend(pads),
                None => {
                    for f in self.functions.iter_mut().filter(|f| f.extent.start == function.extent.start) {
                        f.whole = false;
                    }
                }
            }
        }
    }

    /// Words of data that are addresses of code.
    fn data(&mut self) {
        let mut found = Vec::new();
        for area in &self.elf.other {
            let skip = usize::try_from(area.address.wrapping_neg() % 8).unwrap_or(0);
            for word in area.bytes.get(skip..).unwrap_or(&[]).chunks_exact(8) {
                found.push(word.try_into().map_or(0, u64::from_le_bytes));
            }
        }
        found.extend(&self.elf.pointers);
        found.retain(|&address| self.is_code(address));
        self.entered.extend(found);
    }

    /// The function that an address is in.
    pub fn function_of(&self, address: u64) -> Option<&Function> {
        let next = self.functions.partition_point(|f| f.extent.start <= address);
        let function = self.functions.get(next.checked_sub(1)?)?;
        (address < function.extent.end).then_some(function)
    }

    /// The bytes around a site, and what is known of it.
    ///
    /// # Errors
    /// The instruction is in the middle of another.
    pub fn around(&self, site: u64) -> Result<(Code<'a>, Facts<'_>), Refusal> {
        let area = self.elf.code.iter().find(|a| a.has(site)).ok_or(Refusal::NoSyscall)?;
        let code = Code::new(area.bytes, area.address);
        let unknown =
            Facts { starts: None, inside: Inside::Unknown, red_zone: RedZone::Unknown, taken: &[], tail: None, page: None, seen: None };
        let Some(function) = self.function_of(site).filter(|f| f.whole) else { return Ok((code, unknown)) };
        if function.starts.binary_search(&site).is_err() {
            return Err(Refusal::NoSyscall);
        }
        let known = Facts {
            starts: Some(&function.starts),
            inside: Inside::Entered(&self.entered),
            red_zone: function.red_zone,
            taken: &[],
            tail: None,
            page: None,
            seen: None,
        };
        // If the bytes contradict it, they have the word, and of the function nothing else is believed either.
        let [by_function, by_bytes] = [&known, &unknown].map(|facts| before::instructions(&mut Reader::new(code), site, facts));
        let agree = !by_function.is_empty() || by_bytes.is_empty();
        Ok((code, if agree { known } else { unknown }))
    }
}

/// Whether the last instruction of a function leads to what is behind it.
fn goes_on(area: &Area<'_>, extent: &Extent) -> bool {
    let Some(code) = slice(area, extent.start, extent.end) else { return false };
    let last = Decoder::with_ip(64, code, extent.start, DecoderOptions::NONE).iter().last();
    last.is_some_and(|i| !i.is_invalid() && i.mnemonic() != Mnemonic::Call && i.next_ip() == extent.end && abom::falls_through(&i))
}

/// Where functions are, by symbols and unwind tables: in order, each cut off where the next begins.
fn extents(elf: &Elf<'_>, unwound: &[Unwound]) -> Vec<Extent> {
    let mut all: Vec<Extent> = unwound.iter().map(|u| u.extent).chain(elf.symbols.iter().copied()).filter(|e| e.end > e.start).collect();
    all.sort_unstable();
    // Of several that begin together, the longest: the rest of it is not another's.
    all.dedup_by(|later, earlier| {
        let same = later.start == earlier.start;
        if same {
            earlier.end = earlier.end.max(later.end);
        }
        same
    });
    let next: Vec<u64> = all.iter().skip(1).map(|e| e.start).chain([u64::MAX]).collect();
    for (extent, next) in all.iter_mut().zip(next) {
        extent.end = extent.end.min(next);
    }
    all
}

/// The byte of code at an address.
fn byte(elf: &Elf<'_>, address: u64) -> Option<u8> {
    let area = elf.code.iter().find(|a| a.has(address))?;
    area.bytes.get(usize::try_from(address.checked_sub(area.address)?).ok()?).copied()
}

/// The bytes of an area from `start` to `end`.
fn slice<'a>(area: &Area<'a>, start: u64, end: u64) -> Option<&'a [u8]> {
    let from = usize::try_from(start.checked_sub(area.address)?).ok()?;
    let to = usize::try_from(end.checked_sub(area.address)?).ok()?;
    area.bytes.get(from..to.min(area.bytes.len()))
}
