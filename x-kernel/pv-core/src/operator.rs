//! What an operator sends to the statistics port, byte by byte: questions and commands.
//!
//! Pure and total: any bytes give requests, or an error that can be said in a line. Nothing of a line counts before its
//! end has come, and a line that is wrong in anything asks for nothing. docs/ABI.md has the grammar.

use core::fmt;

use arrayvec::{ArrayString, ArrayVec};

use crate::bootline::{self, MAX_NAME};

/// The most bytes of a line.
pub const MAX_LINE: usize = 80;
/// Asks for the counters, wherever it stands.
const QUESTION: u8 = b'?';

/// What is asked for.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Request {
    /// The counters.
    Counters,
    /// That the domain of this name, or number, ends at once.
    Kill(ArrayString<MAX_NAME>),
}

/// Why a line asks for nothing.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Wrong {
    /// It has more than [`MAX_LINE`] bytes.
    TooLong,
    /// It begins with no word that is known.
    Unknown,
    /// `kill` needs one name, as domains can have.
    Name,
}

impl fmt::Display for Wrong {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::TooLong => write!(f, "a line has at most {MAX_LINE} bytes"),
            Self::Unknown => f.write_str("there are only ? for the counters, and kill NAME"),
            Self::Name => write!(f, "kill: one name of at most {MAX_NAME} letters, digits, '.', '-', '_', or a number"),
        }
    }
}

/// What has come of a line.
#[derive(Debug, Default)]
pub struct Reader {
    line: ArrayVec<u8, MAX_LINE>,
    too_long: bool,
}

impl Reader {
    /// Nothing yet.
    pub const fn new() -> Self {
        Self { line: ArrayVec::new_const(), too_long: false }
    }

    /// Takes a byte; a request if that completes one. A question ends a line that somebody has left unfinished.
    pub fn take(&mut self, byte: u8) -> Option<Result<Request, Wrong>> {
        match byte {
            QUESTION => {
                *self = Self::new();
                Some(Ok(Request::Counters))
            }
            b'\r' | b'\n' => {
                let Self { line, too_long } = core::mem::take(self);
                match (too_long, line.is_empty()) {
                    (true, _) => Some(Err(Wrong::TooLong)),
                    (false, true) => None,
                    (false, false) => Some(command(&line)),
                }
            }
            _ => {
                self.too_long |= self.line.try_push(byte).is_err();
                None
            }
        }
    }
}

fn command(line: &[u8]) -> Result<Request, Wrong> {
    let mut words = line.split(|b| *b == b' ').filter(|w| !w.is_empty());
    if words.next() != Some(b"kill".as_slice()) {
        return Err(Wrong::Unknown);
    }
    let (Some(name), None) = (words.next(), words.next()) else { return Err(Wrong::Name) };
    let name = core::str::from_utf8(name).ok().and_then(bootline::name).ok_or(Wrong::Name)?;
    ArrayString::from(name).map(Request::Kill).map_err(|_| Wrong::Name)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use std::vec::Vec;

    use super::*;

    fn said(bytes: &[u8]) -> Vec<Result<Request, Wrong>> {
        let mut reader = Reader::new();
        bytes.iter().filter_map(|b| reader.take(*b)).collect()
    }

    fn kill(name: &str) -> Result<Request, Wrong> {
        Ok(Request::Kill(ArrayString::from(name).unwrap()))
    }

    #[test]
    fn commands_are_lines() {
        assert_eq!(said(b"kill web-1\r\n\n  kill  7 \nkill left"), [kill("web-1"), kill("7")]);
        assert_eq!(said(b"?kill a?kill b\n"), [Ok(Request::Counters), Ok(Request::Counters), kill("b")]);
    }

    #[test]
    fn what_is_wrong_asks_for_nothing() {
        let longest = [b'a'; MAX_NAME];
        assert!(said(&[b"kill ", longest.as_slice(), b"\n"].concat()).iter().all(Result::is_ok));
        for line in [&b"kill"[..], b"kill a b", b"kill a/b", b"kill \xff", b"kill a\tb", &[b"kill a", longest.as_slice()].concat()] {
            assert_eq!(said(&[line, b"\n"].concat()), [Err(Wrong::Name)], "{line:?}");
        }
        for line in [&b"Kill a"[..], b"killa", b"kil a", b"\0", b"\tkill a", b"{}"] {
            assert_eq!(said(&[line, b"\n"].concat()), [Err(Wrong::Unknown)], "{line:?}");
        }
        // However long, it is one line: its end is no command.
        let long = [&[b' '; MAX_LINE - 1][..], b"xkill a\nkill b\n"].concat();
        assert_eq!(said(&long), [Err(Wrong::TooLong), kill("b")]);
    }

    proptest! {
        #[test]
        fn any_bytes_are_read(bytes: Vec<u8>) {
            let ends = bytes.iter().filter(|b| b"?\r\n".contains(b)).count();
            prop_assert!(said(&bytes).len() <= ends);
        }
    }
}
