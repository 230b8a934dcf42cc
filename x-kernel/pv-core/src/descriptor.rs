//! Segment descriptors that a guest may have (SDM vol. 3, 3.4.5): code and data of ring 1 to 3.
//!
//! Refused: gates, task-state and LDT descriptors, and anything present of ring 0. A present descriptor of ring 0 is
//! made one of ring 3, as guests written for the ABI expect; one that is not present may say anything.

const PRESENT: u64 = 1 << 47;
const CODE_OR_DATA: u64 = 1 << 44;
const DPL: u64 = 3 << 45;

/// The descriptor to write for one that a guest alleges, or None if it may not have it.
pub fn descriptor_allowed(descriptor: u64) -> Option<u64> {
    if descriptor & PRESENT == 0 {
        return Some(descriptor);
    }
    if descriptor & CODE_OR_DATA == 0 {
        return None;
    }
    Some(if descriptor & DPL == 0 { descriptor | DPL } else { descriptor })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A flat 64-bit code segment of ring 0.
    const CODE: u64 = 0x00af_9b00_0000_ffff;

    #[test]
    fn ring_0_becomes_ring_3() {
        assert_eq!(descriptor_allowed(CODE), Some(CODE | DPL));
        assert_eq!(descriptor_allowed(CODE | 1 << 45), Some(CODE | 1 << 45));
    }

    #[test]
    fn no_present_system_descriptor_passes() {
        for kind in 0..16u64 {
            let gate = PRESENT | DPL | kind << 40;
            assert_eq!(descriptor_allowed(gate), None, "type {kind}");
            assert_eq!(descriptor_allowed(gate & !PRESENT), Some(gate & !PRESENT));
        }
    }
}
