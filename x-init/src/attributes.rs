//! Extended attributes, which the archive of an initial file system has no room for: a file of their own says what they
//! are. Records of three parts, each ended by a NUL: path, name, and the value in hexadecimal digits.

use std::fmt::Write;

/// The file.
pub const FILE: &str = "/.x-container/attributes";

/// An extended attribute of a file.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Attribute {
    /// The file, by its path from the root.
    pub path: String,
    /// Its name, as `security.capability`.
    pub name: String,
    /// Its value, any bytes.
    pub value: Vec<u8>,
}

/// The file's content; None if a path or a name has a NUL in it.
pub fn encode(list: &[Attribute]) -> Option<Vec<u8>> {
    let mut out = String::new();
    for Attribute { path, name, value } in list {
        if path.contains('\0') || name.contains('\0') {
            return None;
        }
        let value = value.iter().fold(String::new(), |mut text, byte| {
            let _ = write!(text, "{byte:02x}");
            text
        });
        let _ = write!(out, "{path}\0{name}\0{value}\0");
    }
    Some(out.into_bytes())
}

fn value(text: &str) -> Option<Vec<u8>> {
    let digits: Vec<u8> = text.chars().map(|c| c.to_digit(16).and_then(|d| u8::try_from(d).ok())).collect::<Option<_>>()?;
    let pair = |pair: &[u8]| match pair {
        [high, low] => Some((high << 4) | low),
        _ => None,
    };
    digits.chunks(2).map(pair).collect()
}

/// Reads a file's content; None if it is not as it must be.
pub fn parse(bytes: &[u8]) -> Option<Vec<Attribute>> {
    if bytes.is_empty() {
        return Some(Vec::new());
    }
    let parts: Vec<&str> = str::from_utf8(bytes).ok()?.strip_suffix('\0')?.split('\0').collect();
    let one = |record: &[&str]| match record {
        [path, name, text] => Some(Attribute { path: (*path).into(), name: (*name).into(), value: value(text)? }),
        _ => None,
    };
    parts.chunks(3).map(one).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn attributes_are_read_as_they_were_written() {
        let of = |path: &str, value: &[u8]| Attribute { path: path.into(), name: "security.capability".into(), value: value.into() };
        let list = [of("bin/ping", b"\x01\0\n\xff"), of("a b", b"")];
        assert_eq!(parse(&encode(&list).expect("no NUL")), Some(list.to_vec()));
        assert_eq!(parse(b""), Some(Vec::new()));
        for bad in [&b"a"[..], b"a\0", b"a\0b\0", b"a\0b\0f\0", b"a\0b\0fg\0", b"a\0b\0ff", b"\xff\0b\0ff\0"] {
            assert_eq!(parse(bad), None, "{bad:?}");
        }
        assert_eq!(encode(&[of("a\0", b"")]), None);
    }
}
