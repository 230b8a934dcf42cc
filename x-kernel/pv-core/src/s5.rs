//! How to switch a machine off: the value that ACPI's `\_S5` object gives for the sleep-type field.
//!
//! The object is a package of integers in the DSDT's byte code (ACPI specification 6.5, 7.4.2.6 and 20.2). It is
//! found by its shape: a full interpreter of that byte code has no place in a hypervisor.

/// `DefName`, and before a name its root prefix.
const NAME_OP: u8 = 0x08;
const ROOT: u8 = b'\\';
const NAME: &[u8] = b"_S5_";
const PACKAGE_OP: u8 = 0x12;
/// Integers: constants 0 and 1, all ones, and a byte, word or double word that follows.
const ZERO_OP: u8 = 0x00;
const ONE_OP: u8 = 0x01;
const ONES_OP: u8 = 0xff;
const BYTE_PREFIX: u8 = 0x0a;
const WORD_PREFIX: u8 = 0x0b;
const DWORD_PREFIX: u8 = 0x0c;
/// The sleep type is a field of three bits.
const MOST: u8 = 7;

/// The sleep types for the PM1a and PM1b control registers, from the DSDT's byte code. None if it has no such object
/// in the shape that firmware gives it.
pub fn sleep_types(aml: &[u8]) -> Option<(u8, u8)> {
    let mut rest = aml;
    while let Some(at) = rest.windows(NAME.len()).position(|w| w == NAME) {
        let (before, from) = rest.split_at_checked(at)?;
        let after = from.get(NAME.len()..)?;
        let named = before.ends_with(&[NAME_OP]) || before.ends_with(&[NAME_OP, ROOT]);
        if let Some(types) = package(after).filter(|_| named) {
            return Some(types);
        }
        rest = after;
    }
    None
}

fn package(bytes: &[u8]) -> Option<(u8, u8)> {
    let (&op, rest) = bytes.split_first()?;
    let (&lead, _) = rest.split_first()?;
    // The length's first byte says in its top two bits how many more there are; then comes the number of elements.
    let length_bytes = usize::from(lead >> 6).checked_add(1)?;
    let (&elements, rest) = rest.get(length_bytes..)?.split_first()?;
    if op != PACKAGE_OP || elements == 0 {
        return None;
    }
    let (first, rest) = integer(rest)?;
    let second = if elements > 1 { integer(rest)?.0 } else { first };
    (first <= MOST && second <= MOST).then_some((first, second))
}

/// An integer of which the low byte counts, and what comes after it.
fn integer(bytes: &[u8]) -> Option<(u8, &[u8])> {
    let (&op, rest) = bytes.split_first()?;
    match op {
        ZERO_OP => Some((0, rest)),
        ONE_OP => Some((1, rest)),
        ONES_OP => Some((MOST, rest)),
        BYTE_PREFIX => Some((*rest.first()?, rest.get(1..)?)),
        WORD_PREFIX => Some((*rest.first()?, rest.get(2..)?)),
        DWORD_PREFIX => Some((*rest.first()?, rest.get(4..)?)),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn shapes_that_firmware_uses() {
        // Four bytes each; constants; with a root prefix and a longer length; after an alias of the same name.
        assert_eq!(sleep_types(b"xx\x08_S5_\x12\x0a\x04\x0a\x05\x0a\x06\x00\x00"), Some((5, 6)));
        assert_eq!(sleep_types(b"\x08_S5_\x12\x06\x04\x00\x01\x00\x00"), Some((0, 1)));
        assert_eq!(sleep_types(b"\x08\\_S5_\x12\x48\x00\x02\x0b\x07\x00\x0c\x03\x00\x00\x00"), Some((7, 3)));
        assert_eq!(sleep_types(b"\x06_S5_XXXX\x08_S5_\x12\x05\x01\x0a\x02"), Some((2, 2)));
    }

    #[test]
    fn what_is_not_the_object() {
        assert_eq!(sleep_types(b""), None);
        assert_eq!(sleep_types(b"_S5_"), None);
        assert_eq!(sleep_types(b"\x10_S5_\x12\x06\x04\x00\x01\x00\x00"), None);
        assert_eq!(sleep_types(b"\x08_S5_\x14\x06\x04\x00\x01\x00\x00"), None);
        assert_eq!(sleep_types(b"\x08_S5_\x12\x06\x00"), None);
        assert_eq!(sleep_types(b"\x08_S5_\x12\x06\x04\x0a\x08\x00\x00\x00"), None);
        assert_eq!(sleep_types(b"\x08_S5_\x12\x06\x04\x0a"), None);
    }

    proptest! {
        #[test]
        fn any_bytes_get_an_answer(mut aml in proptest::collection::vec(any::<u8>(), 0..80), at in 0usize..60) {
            if let Some(place) = aml.get_mut(at..).and_then(|tail| tail.get_mut(..6)) {
                place.copy_from_slice(b"\x08_S5_\x12");
            }
            if let Some((a, b)) = sleep_types(&aml) {
                prop_assert!(a <= MOST && b <= MOST);
            }
        }
    }
}
