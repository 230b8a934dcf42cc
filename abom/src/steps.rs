//! How a patch is written while other processors may execute the bytes, and taken back.
//!
//! A processor may fetch an instruction in parts, and may hold bytes that it has fetched for as long as it does not
//! serialise. So:
//!
//! 1. Every place where an instruction begins, before or after the change, becomes an invalid opcode, one byte at a time.
//!    An instruction whose first byte was fetched before that is as it was. Then all processors serialise: from here on
//!    nobody begins an instruction in the patch.
//! 2. All other bytes are written. All serialise: nobody holds any of the bytes from before.
//! 3. The first bytes are written, that of the patch last; what begins there is whole. All serialise: nobody can meet the
//!    invalid opcode any more.
//!
//! Who meets an invalid opcode in the meantime is put right by [`Patch::fixup`]: at the patch's own address it tries
//! again, further inside it goes on as the original code would. A thread that is preempted inside finds an invalid opcode
//! there for as long as the patch lasts. To serialise is to take an interrupt or to return from one; where no other
//! processor runs the program there is nothing to wait for.

use arrayvec::ArrayVec;

use crate::patch::{LONGEST_PATCH, Patch};

/// The invalid opcode that is at the patch's address while it is written.
pub const TRAP: u8 = 0x06;

/// The most steps that there are.
const MOST: usize = 3 * LONGEST_PATCH;

/// One step, to be complete for all processors before the next.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Step {
    /// Write these bytes by one store: they are in one aligned word of eight.
    Store {
        /// Where.
        address: u64,
        /// What.
        bytes: ArrayVec<u8, 8>,
    },
    /// Wait until every processor that may execute the program has serialised.
    Serialise,
}

/// The steps, in order.
pub type Steps = ArrayVec<Step, MOST>;

/// Who may execute the bytes while they are written.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Others {
    /// Nobody: no other processor runs the program, and no thread is in the patch but as [`Patch::fixup`] can tell.
    None,
    /// Any processor.
    Any,
}

/// What is done to the program.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Way {
    In,
    Out,
}

impl Patch {
    /// The steps that write the patch. Before them, [`Patch::old`] must be there.
    #[must_use]
    pub fn apply(&self, others: Others) -> Steps {
        self.steps(Way::In, others)
    }

    /// The steps that take the patch back. Before them, [`Patch::new_bytes`] must be there. Its stub may still be executed
    /// by threads that are in it.
    #[must_use]
    pub fn undo(&self, others: Others) -> Steps {
        self.steps(Way::Out, others)
    }

    fn steps(&self, way: Way, others: Others) -> Steps {
        let to = if way == Way::In { self.new_bytes() } else { self.old() };
        let mut writer = Writer { steps: Steps::new(), address: self.address() };
        if others == Others::None {
            writer.bytes(to, |_| true);
            return writer.steps;
        }
        let begins = |offset: usize| offset == 0 || self.inner().any(|inner| inner == offset);
        writer.byte(0, TRAP);
        if way == Way::In {
            // What is there afterwards is invalid, too.
            writer.each(to, |offset| offset != 0 && begins(offset));
        }
        writer.steps.push(Step::Serialise);
        writer.bytes(to, |offset| !begins(offset));
        writer.steps.push(Step::Serialise);
        if way == Way::Out {
            writer.each(to, |offset| offset != 0 && begins(offset));
        }
        writer.each(to, |offset| offset == 0);
        writer.steps.push(Step::Serialise);
        writer.steps
    }
}

struct Writer {
    steps: Steps,
    address: u64,
}

impl Writer {
    fn byte(&mut self, offset: usize, byte: u8) {
        let mut bytes = ArrayVec::new();
        bytes.push(byte);
        self.steps.push(Step::Store { address: self.address.wrapping_add(offset as u64), bytes });
    }

    /// One store for each of the bytes that are chosen.
    fn each(&mut self, to: &[u8], chosen: impl Fn(usize) -> bool) {
        for (offset, &byte) in to.iter().enumerate().filter(|(offset, _)| chosen(*offset)) {
            self.byte(offset, byte);
        }
    }

    /// The bytes that are chosen, by as few stores as can be.
    fn bytes(&mut self, to: &[u8], chosen: impl Fn(usize) -> bool) {
        for (offset, &byte) in to.iter().enumerate().filter(|(offset, _)| chosen(*offset)) {
            let at = self.address.wrapping_add(offset as u64);
            if let Some(Step::Store { address, bytes }) = self.steps.last_mut()
                && address.wrapping_add(bytes.len() as u64) == at
                && !at.is_multiple_of(8)
            {
                bytes.push(byte);
            } else {
                self.byte(offset, byte);
            }
        }
    }
}
