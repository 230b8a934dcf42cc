//! Where the calls go: X-LibOS's table of entries, as a patch sees it.

/// The table of a kernel that can be called.
///
/// Slot 0 is for any system call, with its number in eax; slot `nr + 1` is for number `nr`. The address of each slot
/// must be one that a sign-extended 32-bit displacement can name.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Table {
    base: u64,
    numbers: u32,
    jump: Option<u64>,
}

/// Whether a 32-bit displacement, sign-extended, can name the address.
fn reachable(address: u64) -> bool {
    i32::try_from(address.cast_signed()).is_ok()
}

impl Table {
    /// The table of every X-Container.
    pub const X_CONTAINER: Self = Self { base: x_calls::TABLE as u64, numbers: x_calls::NUMBERS, jump: Some(x_calls::JUMP as u64) };

    /// A table at `base` with slots for `numbers` system calls behind the one for any, and without the jump entry; none
    /// if a slot would be out of a displacement's reach.
    #[must_use]
    pub fn new(base: u64, numbers: u32) -> Option<Self> {
        let last = base.checked_add(u64::from(numbers).checked_mul(8)?)?;
        (reachable(base) && reachable(last) && base.is_multiple_of(8)).then_some(Self { base, numbers, jump: None })
    }

    /// The same table, with the jump entry's slot at `slot`: it takes the number from eax and the return address from rcx,
    /// uses no byte of the caller's stack, and returns by a jump. None if the slot is out of reach.
    #[must_use]
    pub fn with_jump(self, slot: u64) -> Option<Self> {
        reachable(slot).then_some(Self { jump: Some(slot), ..self })
    }

    /// The address of the slot for any number.
    #[must_use]
    pub const fn any(&self) -> u64 {
        self.base
    }

    /// The address of the slot for system call `nr`, if it has one.
    #[must_use]
    pub fn slot(&self, nr: u32) -> Option<u64> {
        let index = u64::from(nr).checked_add(1)?;
        (nr < self.numbers).then(|| self.base.checked_add(index.checked_mul(8)?))?
    }

    /// The address of the jump entry's slot, if there is one.
    #[must_use]
    pub const fn jump(&self) -> Option<u64> {
        self.jump
    }
}

/// The displacement that names a reachable address.
pub fn displacement(address: u64) -> Option<[u8; 4]> {
    i32::try_from(address.cast_signed()).ok().map(i32::to_le_bytes)
}

/// `jmp [slot]`, the slot by its displacement.
pub const fn jump_by([a, b, c, d]: [u8; 4]) -> [u8; 7] {
    [0xff, 0x24, 0x25, a, b, c, d]
}

/// `call [slot]`, the slot by its displacement.
pub const fn call_by([a, b, c, d]: [u8; 4]) -> [u8; 7] {
    [0xff, 0x14, 0x25, a, b, c, d]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slots_of_the_real_table() {
        let table = Table::X_CONTAINER;
        assert_eq!(table.any(), 0xffff_ffff_ff60_0000);
        assert_eq!(table.slot(0), Some(0xffff_ffff_ff60_0008));
        assert_eq!(table.slot(509), Some(0xffff_ffff_ff60_0ff0));
        assert_eq!(table.slot(510), None);
        assert_eq!(table.jump(), Some(0xffff_ffff_ff60_0ff8));
        assert_eq!(displacement(table.any()), Some([0, 0, 0x60, 0xff]));
    }

    #[test]
    fn a_table_out_of_reach_is_none() {
        assert!(Table::new(0x7fff_f000, 511).is_some());
        assert!(Table::new(0x7fff_f000, 512).is_none());
        assert!(Table::new(0xffff_ffff_8000_0000, 511).is_some());
        assert!(Table::new(0xffff_ffff_7fff_fff8, 511).is_none());
        assert!(Table::new(u64::MAX, 1).is_none());
        assert!(Table::new(4, 1).is_none());
        assert!(Table::X_CONTAINER.with_jump(0x8000_0000).is_none());
    }
}
