//! Debug registers: what a guest may have in DR6 and DR7, and what of it the CPU gets (SDM vol. 3, 17.2).
//!
//! A guest sees what it has written. The CPU is given no breakpoint on ports: there is no port behind a guest's `in` and
//! `out`, and without CR4.DE the CPU would take the type for something else.

/// DR6 bits that can be set: B0 to B3, BD, BS, BT.
const DR6_CONDITIONS: u64 = 0xe00f;
/// DR6 bits that always are.
const DR6_FIXED: u64 = 0xffff_0ff0;
/// DR7 bits that can be set: L0 to G3, LE, GE, and each breakpoint's type and length.
const DR7_CHOICE: u64 = 0xffff_03ff;
/// The DR7 bit that always is.
const DR7_FIXED: u64 = 0x400;
/// Faults at every access to a debug register: the X-Kernel's own among them.
const GENERAL_DETECT: u64 = 1 << 13;
/// The type of a breakpoint on a port.
const TYPE_IO: u64 = 2;
/// The values after reset.
pub const RESET: [u64; 2] = [DR6_FIXED, DR7_FIXED];

/// What DR6 holds after a write of `value`. None: the upper half must be clear.
pub fn dr6(value: u64) -> Option<u64> {
    (value >> 32 == 0).then_some(value & DR6_CONDITIONS | DR6_FIXED)
}

/// What DR7 holds after a write of `value`, where CR4.DE is `de`. None: a bit that no guest may set, or an enabled
/// breakpoint on ports without CR4.DE.
pub fn dr7(value: u64, de: bool) -> Option<u64> {
    let wrong = value >> 32 != 0 || value & GENERAL_DETECT != 0 || !de && (0..4).any(|n| enabled(value, n) && on_port(value, n));
    (!wrong).then_some(value & DR7_CHOICE | DR7_FIXED)
}

/// The part of a guest's DR7 that the CPU gets.
pub fn for_cpu(dr7: u64) -> u64 {
    (0..4).filter(|&n| on_port(dr7, n)).fold(dr7, |value, n| value & !(enable_bits(n) | type_bits(n, 3)))
}

/// Whether a DR7 arms any breakpoint.
pub fn arms(dr7: u64) -> bool {
    dr7 & 0xff != 0
}

fn enabled(dr7: u64, n: u32) -> bool {
    dr7 & enable_bits(n) != 0
}

fn on_port(dr7: u64, n: u32) -> bool {
    dr7 & type_bits(n, 3) == type_bits(n, TYPE_IO)
}

/// L and G of breakpoint `n`.
const fn enable_bits(n: u32) -> u64 {
    3 << (n << 1)
}

/// The type field of breakpoint `n` with `kind` in it.
const fn type_bits(n: u32, kind: u64) -> u64 {
    kind << ((n << 2) | 16)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_exists_is_kept() {
        assert_eq!(dr6(0), Some(RESET[0]));
        assert_eq!(dr6(u64::from(u32::MAX)), Some(0xffff_efff));
        assert_eq!(dr7(0, false), Some(RESET[1]));
        // XSA-12: every reserved bit, one by one.
        for bit in 0..64 {
            let kept = dr7(1 << bit, true);
            assert_eq!(kept.is_none(), bit == 13 || bit >= 32, "bit {bit}");
            assert!(kept.is_none_or(|v| v & !(DR7_CHOICE | DR7_FIXED) == 0 && v & DR7_FIXED != 0));
            assert_eq!(dr6(1 << bit).is_none(), bit >= 32);
        }
    }

    #[test]
    fn a_breakpoint_on_ports_is_seen_and_not_armed() {
        for n in 0..4 {
            let (enable, kind) = (enable_bits(n), type_bits(n, TYPE_IO));
            assert_eq!(dr7(enable | kind, false), None);
            assert_eq!(dr7(kind, false), Some(kind | DR7_FIXED));
            let seen = dr7(enable | kind, true);
            assert_eq!(seen, Some(enable | kind | DR7_FIXED));
            assert_eq!(seen.map(for_cpu), Some(DR7_FIXED));
            assert_eq!(seen.map(|v| arms(for_cpu(v))), Some(false));
        }
    }

    #[test]
    fn other_breakpoints_reach_the_cpu_as_they_are() {
        for kind in [0, 1, 3] {
            let value = (0..4).fold(DR7_FIXED, |v, n| v | enable_bits(n) | type_bits(n, kind));
            assert_eq!(dr7(value, false), Some(value));
            assert_eq!(for_cpu(value), value);
        }
    }
}
