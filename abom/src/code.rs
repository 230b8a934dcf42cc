//! Bytes of a program at their address, read one instruction at a time.

use iced_x86::{Decoder, DecoderOptions, Instruction};

use crate::length::{self, LONGEST};

/// The instruction that all is about.
pub const SYSCALL: [u8; 2] = [0x0f, 0x05];

/// Bytes of a program and the address of the first; and others, from elsewhere, if need be.
#[derive(Clone, Copy, Debug)]
pub struct Code<'a> {
    bytes: &'a [u8],
    address: u64,
    elsewhere: (&'a [u8], u64),
}

/// No more of them than the address space has room for.
fn fitting(bytes: &[u8], address: u64) -> &[u8] {
    let room = usize::try_from(u64::MAX.wrapping_sub(address)).unwrap_or(usize::MAX);
    bytes.get(..bytes.len().min(room)).unwrap_or(&[])
}

impl<'a> Code<'a> {
    /// `bytes` as they are found at `address`. Those that the address space has no room for are left out.
    #[must_use]
    pub fn new(bytes: &'a [u8], address: u64) -> Self {
        Self { bytes: fitting(bytes, address), address, elsewhere: (&[], 0) }
    }

    /// The same, and `bytes` as they are found at `address`: where a jump leads out of the first
    /// ([`crate::after::After::left`]).
    #[must_use]
    pub fn and(self, bytes: &'a [u8], address: u64) -> Self {
        Self { elsewhere: (fitting(bytes, address), address), ..self }
    }

    /// The address of the first byte.
    #[must_use]
    pub const fn start(&self) -> u64 {
        self.address
    }

    /// The address behind the last byte.
    #[must_use]
    pub fn end(&self) -> u64 {
        self.address.saturating_add(self.bytes.len() as u64)
    }

    /// All bytes from `address` on.
    #[must_use]
    pub fn from(&self, address: u64) -> Option<&'a [u8]> {
        let find = |bytes: &'a [u8], start: u64| {
            let offset = usize::try_from(address.checked_sub(start)?).ok()?;
            bytes.get(offset..).filter(|b| !b.is_empty())
        };
        find(self.bytes, self.address).or_else(|| find(self.elsewhere.0, self.elsewhere.1))
    }

    /// The `len` bytes at `address`, if all are there.
    #[must_use]
    pub fn bytes(&self, address: u64, len: usize) -> Option<&'a [u8]> {
        self.from(address)?.get(..len)
    }

    /// The instruction at `address`, if there is a whole and valid one.
    #[must_use]
    pub fn instruction(&self, address: u64) -> Option<Instruction> {
        let bytes = self.from(address)?;
        let bytes = bytes.get(..bytes.len().min(LONGEST))?;
        if bytes.is_empty() {
            return None;
        }
        let instruction = Decoder::with_ip(64, bytes, address, DecoderOptions::NONE).decode();
        (!instruction.is_invalid()).then_some(instruction)
    }

    /// Where instructions begin, if one does at `from`: up to the first that is none.
    pub fn starts(&self, from: u64) -> impl Iterator<Item = u64> + use<'a> {
        let (mut reader, mut at) = (Reader::new(*self), from);
        core::iter::from_fn(move || {
            let start = at;
            at = reader.behind(at)?;
            Some(start)
        })
    }

    /// Whether a whole `syscall` instruction is at `address`.
    #[must_use]
    pub fn is_syscall(&self, address: u64) -> bool {
        self.bytes(address, SYSCALL.len()) == Some(&SYSCALL)
    }
}

/// Reads instructions of one code, at less cost each than the first.
pub struct Reader<'a> {
    code: Code<'a>,
    /// Made when the first one is read.
    decoder: Option<Decoder<'a>>,
}

impl<'a> Reader<'a> {
    /// A reader of the code.
    #[must_use]
    pub const fn new(code: Code<'a>) -> Self {
        Self { code, decoder: None }
    }

    /// What it reads.
    #[must_use]
    pub const fn code(&self) -> Code<'a> {
        self.code
    }

    /// The address behind the instruction at `address`, if there is one.
    pub fn behind(&mut self, address: u64) -> Option<u64> {
        if let Some(length) = length::of_common(self.code.from(address)?) {
            return Some(address.wrapping_add(length as u64));
        }
        let mut rare = Instruction::default();
        self.read(address, &mut rare).then(|| rare.next_ip())
    }

    /// [`Code::instruction`], into `instruction`: whether there is one.
    pub fn read(&mut self, address: u64, instruction: &mut Instruction) -> bool {
        let offset = address.checked_sub(self.code.address).and_then(|o| usize::try_from(o).ok());
        if let Some(offset) = offset.filter(|&o| o < self.code.bytes.len()) {
            let Code { bytes, address: start, .. } = self.code;
            let decoder = self.decoder.get_or_insert_with(|| Decoder::with_ip(64, bytes, start, DecoderOptions::NONE));
            if decoder.set_position(offset).is_ok() {
                decoder.set_ip(address);
                decoder.decode_out(instruction);
                return !instruction.is_invalid();
            }
        }
        let found = self.code.instruction(address);
        *instruction = found.unwrap_or_default();
        found.is_some()
    }
}

impl core::fmt::Debug for Reader<'_> {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("Reader").field("code", &self.code).finish_non_exhaustive()
    }
}

/// Whether an instruction that begins with this byte is invalid, whatever follows, on every processor with 64-bit mode
/// and on those announced: no prefix, no VEX, EVEX or REX2, no opcode.
#[must_use]
pub const fn faults(byte: u8) -> bool {
    matches!(byte, 0x06 | 0x07 | 0x0e | 0x16 | 0x17 | 0x1e | 0x1f | 0x27 | 0x2f | 0x37 | 0x3f | 0x60 | 0x61 | 0x82 | 0xce | 0xd4 | 0xd6)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_that_fault_do_so_with_anything_behind() {
        for first in (0..=u8::MAX).filter(|&b| faults(b)) {
            for second in 0..=u8::MAX {
                for rest in [0x00, 0x24, 0x90, 0xff] {
                    let mut bytes = [rest; LONGEST];
                    bytes[0] = first;
                    bytes[1] = second;
                    assert!(Code::new(&bytes, 0).instruction(0).is_none(), "{bytes:x?}");
                }
            }
        }
    }

    #[test]
    fn bytes_from_elsewhere() {
        let code = Code::new(&[0x90], 0x1000).and(&[0xc3], 0x9000);
        assert!(code.instruction(0x1000).is_some() && code.instruction(0x9000).is_some());
        assert!(code.instruction(0x1001).is_none() && code.instruction(0x9001).is_none());
    }

    #[test]
    fn the_end_of_the_address_space() {
        let code = Code::new(&[0x0f, 0x05, 0x90], u64::MAX - 2);
        assert!(code.is_syscall(u64::MAX - 2));
        assert!(code.instruction(u64::MAX).is_none());
        assert!(code.instruction(0).is_none());
        assert!(Code::new(&[0x0f], 0).instruction(0).is_none());
    }
}
