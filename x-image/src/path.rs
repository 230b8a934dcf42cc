//! Paths in layers: alleged until they are taken apart here.

use crate::error::Fault;

/// The longest path that Linux takes, without its NUL, the longest name, and how deep a path may be.
pub const PATH_MAX: usize = 4095;
const NAME_MAX: usize = 255;
pub const DEPTH_MAX: usize = 256;

/// What the name of a whiteout begins with, and the one that empties its folder.
const WHITEOUT: &str = ".wh.";
const OPAQUE: &str = ".wh..wh..opq";
/// Notes of a storage driver to itself.
const INTERNAL: &str = ".wh..wh.";

/// A path from the root of the file system: names, none of them `.` or `..`. The root itself has none.
#[derive(Clone, Debug, Eq, Hash, PartialEq)]
pub struct Path(Vec<String>);

/// What an entry of a layer is about.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Target {
    /// A file, folder or link.
    File(Path),
    /// Something of earlier layers that is gone.
    Whiteout(Path),
    /// A folder of which all that earlier layers have in it is gone.
    Opaque(Path),
    /// Nothing that concerns anybody.
    Nothing,
}

/// A text that can be part of a path.
fn text(bytes: &[u8]) -> Result<&str, Fault> {
    str::from_utf8(bytes).ok().filter(|t| !t.contains('\0')).ok_or(Fault::NoText)
}

impl Path {
    /// Takes an alleged path apart. It must be relative, without `..`.
    ///
    /// # Errors
    /// Why it is none.
    pub fn parse(bytes: &[u8]) -> Result<Self, Fault> {
        match bytes {
            [] => return Err(Fault::Empty),
            // So do some tools name the root itself, and climb nowhere.
            [b'/'] => return Self::of(Vec::new()),
            [b'/', ..] => return Err(Fault::Absolute),
            _ => {}
        }
        let mut names = Vec::new();
        for name in text(bytes)?.split('/') {
            match name {
                "" | "." => {}
                ".." => return Err(Fault::ClimbsOut),
                name => names.push(name.to_string()),
            }
        }
        Self::of(names)
    }

    /// A path of these names.
    pub(crate) fn of(names: Vec<String>) -> Result<Self, Fault> {
        let length = names.iter().fold(0_usize, |sum, name| sum.saturating_add(name.len()).saturating_add(1));
        let fits = length <= PATH_MAX && names.len() <= DEPTH_MAX && names.iter().all(|n| n.len() <= NAME_MAX);
        fits.then_some(Self(names)).ok_or(Fault::TooLong)
    }

    /// Its names.
    pub fn names(&self) -> &[String] {
        &self.0
    }

    /// The folder that it is in, and its name there; None for the root.
    pub(crate) fn split(&self) -> Option<(&[String], &String)> {
        self.0.split_last().map(|(name, folder)| (folder, name))
    }
}

impl std::fmt::Display for Path {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0.join("/"))
    }
}

impl Target {
    /// What the entry with this path is about.
    ///
    /// # Errors
    /// Why it is no path.
    pub fn parse(bytes: &[u8]) -> Result<Self, Fault> {
        let path = Path::parse(bytes)?;
        if path.names().iter().any(|n| n.starts_with(INTERNAL) && n != OPAQUE) {
            return Ok(Self::Nothing);
        }
        let Some((folder, name)) = path.split() else { return Ok(Self::File(path)) };
        if folder.iter().any(|n| n.starts_with(WHITEOUT)) {
            return Err(Fault::BelowWhiteout);
        }
        if name == OPAQUE {
            return Ok(Self::Opaque(Path::of(folder.to_vec())?));
        }
        match name.strip_prefix(WHITEOUT) {
            None => Ok(Self::File(path)),
            Some("" | "." | "..") => Err(Fault::EmptyWhiteout),
            Some(gone) => Ok(Self::Whiteout(Path::of([folder, &[gone.to_string()]].concat())?)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(text: &str) -> Result<String, Fault> {
        Path::parse(text.as_bytes()).map(|p| p.to_string())
    }

    #[test]
    fn paths_are_taken_apart() {
        for (text, path) in [("a/b", "a/b"), ("./a//b/", "a/b"), (".", ""), ("./", ""), ("/", ""), ("..a/b..", "..a/b..")] {
            assert_eq!(parsed(text), Ok(path.into()), "{text}");
        }
        assert_eq!(parsed(""), Err(Fault::Empty));
        assert_eq!(parsed("/a"), Err(Fault::Absolute));
        for text in ["..", "../a", "a/../b", "a/.."] {
            assert_eq!(parsed(text), Err(Fault::ClimbsOut), "{text}");
        }
        assert_eq!(Path::parse(b"a\xff"), Err(Fault::NoText));
        assert_eq!(Path::parse(b"a\0b"), Err(Fault::NoText));
        assert_eq!(parsed(&"n".repeat(256)), Err(Fault::TooLong));
        assert_eq!(parsed(&"a/".repeat(257)), Err(Fault::TooLong));
        assert_eq!(parsed(&format!("{}/", "n".repeat(200)).repeat(21)), Err(Fault::TooLong));
    }

    #[test]
    fn whiteouts_are_known() {
        let of = |text: &str| Target::parse(text.as_bytes());
        let path = |text: &str| Path::parse(text.as_bytes()).expect("a path");
        assert_eq!(of("a/b"), Ok(Target::File(path("a/b"))));
        assert_eq!(of("a/.wh.b"), Ok(Target::Whiteout(path("a/b"))));
        assert_eq!(of(".wh..b"), Ok(Target::Whiteout(path(".b"))));
        assert_eq!(of("a/.wh..wh..opq"), Ok(Target::Opaque(path("a"))));
        assert_eq!(of(".wh..wh..opq"), Ok(Target::Opaque(path("."))));
        assert_eq!(of(".wh..wh.plnk/1.2"), Ok(Target::Nothing));
        for text in [".wh.", "a/.wh..", "a/.wh..."] {
            assert_eq!(of(text), Err(Fault::EmptyWhiteout), "{text}");
        }
        assert_eq!(of(".wh.a/b"), Err(Fault::BelowWhiteout));
        assert_eq!(of("a/.wh.b/../c"), Err(Fault::ClimbsOut));
    }
}
