//! Extended headers of tar: records `LENGTH KEYWORD=VALUE\n`, where a value is any bytes.
//!
//! Taken apart here and not by the crate `tar`, which ends a value at the first line feed: a capability can have that.

use crate::error::Fault;

/// What an extended attribute's keyword begins with.
const XATTR: &str = "SCHILY.xattr.";
/// And those of sparse files.
const SPARSE: &str = "GNU.sparse.";

/// What the extended header before an entry says about it.
#[derive(Debug, Default, Eq, PartialEq)]
pub struct Extended {
    /// The path.
    pub path: Option<Vec<u8>>,
    /// Where a link leads.
    pub link: Option<Vec<u8>>,
    /// The content's size.
    pub size: Option<u64>,
    /// The owner.
    pub uid: Option<u64>,
    /// The owner's group.
    pub gid: Option<u64>,
    /// When it was changed, in whole seconds.
    pub mtime: Option<i64>,
    /// Extended attributes.
    pub xattrs: Vec<(String, Vec<u8>)>,
}

/// A record's keyword and value, and what is behind it.
fn record(bytes: &[u8]) -> Option<(&str, &[u8], &[u8])> {
    let blank = bytes.iter().position(|&b| b == b' ')?;
    let (length, _) = bytes.split_at_checked(blank)?;
    let length = Some(length).filter(|l| l.iter().all(u8::is_ascii_digit)).and_then(|l| str::from_utf8(l).ok())?;
    let (whole, rest) = bytes.split_at_checked(length.parse().ok()?)?;
    let content = whole.get(blank.checked_add(1)?..)?.strip_suffix(b"\n")?;
    let equals = content.iter().position(|&b| b == b'=')?;
    let (keyword, value) = content.split_at_checked(equals)?;
    Some((str::from_utf8(keyword).ok()?, value.get(1..)?, rest))
}

/// A number; of a time only what is before the point.
fn number<T: std::str::FromStr>(value: &[u8], what: &'static str) -> Result<Option<T>, Fault> {
    let text = str::from_utf8(value).map_err(|_| Fault::Number(what))?;
    text.split('.').next().unwrap_or_default().parse().map(Some).map_err(|_| Fault::Number(what))
}

impl Extended {
    /// Reads a header's content.
    ///
    /// # Errors
    /// It is malformed, or says something that is not known and cannot be passed over.
    pub fn parse(mut bytes: &[u8]) -> Result<Self, Fault> {
        let mut found = Self::default();
        while !bytes.is_empty() {
            let (keyword, value, rest) = record(bytes).ok_or(Fault::Extended)?;
            bytes = rest;
            match keyword {
                "path" => found.path = Some(value.to_vec()),
                "linkpath" => found.link = Some(value.to_vec()),
                "size" => found.size = number(value, "the size")?,
                "uid" => found.uid = number(value, "the owner")?,
                "gid" => found.gid = number(value, "the group")?,
                "mtime" => found.mtime = number(value, "the time")?,
                _ if keyword.starts_with(SPARSE) => return Err(Fault::Size),
                _ => {
                    if let Some(name) = keyword.strip_prefix(XATTR) {
                        found.xattrs.retain(|(n, _)| n != name);
                        found.xattrs.push((name.to_string(), value.to_vec()));
                    }
                }
            }
        }
        Ok(found)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn written(keyword: &str, value: &[u8]) -> Vec<u8> {
        let rest = [b" ", keyword.as_bytes(), b"=", value, b"\n"].concat();
        let length = (1..).find(|n| n.to_string().len() + rest.len() == *n).expect("a length");
        [length.to_string().as_bytes(), &rest].concat()
    }

    #[test]
    fn records_are_read() {
        let value = b"\x01\0\0\x02\n\n=\xff";
        let text =
            [written("path", b"a\nb"), written("SCHILY.xattr.security.capability", value), written("mtime", b"17.5"), written("uid", b"7")]
                .concat();
        let found = Extended::parse(&text).expect("well-formed");
        assert_eq!(found.path.as_deref(), Some(&b"a\nb"[..]));
        assert_eq!(found.xattrs, [("security.capability".to_string(), value.to_vec())]);
        assert_eq!((found.mtime, found.uid, found.gid), (Some(17), Some(7), None));
        for bad in ["x", "4 a\n", "99 a=b\n", "0 a=b\n", "1 ", "6 a=b\n7 a=b\n", "6 a=bx", "-6 a=b\n"] {
            assert_eq!(Extended::parse(bad.as_bytes()), Err(Fault::Extended), "{bad}");
        }
        assert_eq!(Extended::parse(&written("uid", b"-1")), Err(Fault::Number("the owner")));
        assert_eq!(Extended::parse(&written("GNU.sparse.major", b"1")), Err(Fault::Size));
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_or_refused(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = Extended::parse(&bytes);
        }

        #[test]
        fn any_value_is_kept(value in proptest::collection::vec(any::<u8>(), 0..200)) {
            let found = Extended::parse(&written("SCHILY.xattr.user.a", &value)).expect("well-formed");
            prop_assert_eq!(&found.xattrs[0].1, &value);
        }
    }
}
