//! Where everything is in the test process: low, so that a displacement names it.

/// The stand-in for the table: the third byte of a slot's address is an invalid opcode, as in the real one.
pub const TABLE: u64 = 0x6_0000;
/// So many numbers have slots.
pub const NUMBERS: u32 = 510;
/// The slot of the entry that is jumped to.
pub const JUMP_SLOT: u64 = 0x6_1000;
/// Slots for stubs.
pub const STUB_SLOTS: u64 = 0x6_1100;
/// Registers, and what the entries keep.
pub const FRAME: u64 = 0x4_0000;
/// The entries of the table.
pub const ENTRIES: u64 = 0x7_0000;
/// The program.
pub const CODE: u64 = 0x20_0000;
/// Data that the program addresses from rip.
pub const NEAR_DATA: u64 = CODE + 0x800;
/// Stubs.
pub const STUBS: u64 = 0x21_0000;
/// The end of them.
pub const STUBS_END: u64 = 0x31_0000;
/// Stubs that are far away.
pub const FAR_STUBS: u64 = 0x620_0000;
/// The end of them.
pub const FAR_STUBS_END: u64 = 0x640_0000;
/// The stack.
pub const STACK: u64 = 0x50_0000;
/// Its size.
pub const STACK_SIZE: u64 = 0x4000;
/// Where a program's stack pointer is at first.
pub const STACK_TOP: u64 = STACK + 0x2000;
/// Data that the program has pointers to.
pub const DATA: u64 = 0x51_0000;
/// The file's contents.
pub const FILE: u64 = 0x52_0000;
