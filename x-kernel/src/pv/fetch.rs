//! Fetches and decodes the instruction at a guest's rip.

use iced_x86::{Decoder, DecoderOptions, Instruction};

use crate::mm::guest_access;

/// The longest x86 instruction.
const LONGEST: usize = 15;

/// The instruction at `rip`, read once: what is decoded is what is emulated, whatever another vCPU writes there.
pub fn instruction(rip: u64) -> Option<Instruction> {
    let mut bytes = [0u8; LONGEST];
    let len = if guest_access::copy_in(rip, &mut bytes).is_ok() {
        LONGEST
    } else {
        // The next page may be missing: take what is on this one.
        let here = usize::try_from(0x1000u64.wrapping_sub(rip & 0xfff)).ok()?.min(LONGEST);
        guest_access::copy_in(rip, bytes.get_mut(..here)?).ok()?;
        here
    };
    let mut decoder = Decoder::with_ip(64, bytes.get(..len)?, rip, DecoderOptions::NONE);
    let instruction = decoder.decode();
    (!instruction.is_invalid()).then_some(instruction)
}
