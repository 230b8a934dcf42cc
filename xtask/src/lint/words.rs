//! Words that do not belong in the tree, and files that have grown too long.

use std::path::Path;

use super::Finding;

/// From so many lines on a source must be split, by concept.
const TOO_LONG: usize = 800;
/// From so many on one should think about it.
const LONG: usize = 400;

/// Files that are written by a program, and hold what it needs.
const GENERATED: &[&str] = &["Cargo.lock"];

/// Texts that name folders of the guest they are for, not of a machine that builds.
const OF_THE_GUEST: &[&str] = &["xtask/src/initrd.rs", "x-init/", "tests/", "docs/CONTAINERS.md"];

/// Work put off, without anybody or anything to see that it is done.
pub fn put_off(path: &str, text: &str) -> Vec<Finding> {
    // In two parts, so that this file is clean itself.
    let words = [concat!("TO", "DO"), concat!("FIX", "ME"), concat!("XX", "X")];
    let mut findings = Vec::new();
    for (i, line) in text.lines().enumerate() {
        for word in words {
            if super::source::find_word(line, word).is_some() {
                findings.push(Finding::new(path, i, format!("{word}: open an issue instead")));
            }
        }
    }
    findings
}

/// Folders of one machine or person, and hosts of package registries.
pub fn places(path: &str, text: &str, root: &Path) -> Vec<Finding> {
    if GENERATED.contains(&path) {
        return Vec::new();
    }
    let mut words = vec![concat!("crates", ".io"), concat!("py", "pi.org"), concat!("npm", "js.org"), concat!("proxy.golang", ".org")];
    words.extend(root.to_str());
    if !OF_THE_GUEST.iter().any(|p| path.starts_with(p)) {
        words.extend([concat!("/ho", "me/"), concat!("/ro", "ot/"), concat!("/t", "mp/"), concat!("/var/t", "mp")]);
    }
    let mut findings = Vec::new();
    for (i, line) in text.lines().enumerate() {
        for word in &words {
            if line.contains(word) {
                findings.push(Finding::new(path, i, format!("{word}: a place that others do not have or need")));
            }
        }
    }
    findings
}

/// What a source's length asks for.
#[derive(Debug, Eq, PartialEq)]
pub enum Length {
    /// Nothing.
    Fine,
    /// Thinking about it.
    Long(usize),
    /// Splitting.
    TooLong(usize),
}

/// Judges the length of a source.
pub fn length(path: &str, text: &str) -> Length {
    let source = [".rs", ".S", ".ld", ".c", ".sh"].iter().any(|end| path.ends_with(end));
    match text.lines().count() {
        n if source && n > TOO_LONG => Length::TooLong(n),
        n if source && n > LONG => Length::Long(n),
        _ => Length::Fine,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn work_put_off_is_found() {
        assert_eq!(put_off("a.rs", concat!("let a = 1;\n// TO", "DO: b\n")).len(), 1);
        assert_eq!(put_off("a.sh", concat!("# XX", "X\n")).len(), 1);
        assert!(put_off("a.sh", "mktemp -t XXXXXX\nTODOS\n").is_empty());
    }

    #[test]
    fn places_of_one_machine_are_found() {
        let root = Path::new("/somewhere/tree");
        assert_eq!(places("a.rs", concat!("/ho", "me/me/x"), root).len(), 1);
        assert_eq!(places("a.md", "see /somewhere/tree/docs", root).len(), 1);
        assert_eq!(places("a.toml", concat!("https://crates", ".io"), root).len(), 1);
        assert!(places("Cargo.lock", concat!("https://crates", ".io"), root).is_empty());
        assert_eq!(places("x-kernel/a.rs", concat!("/t", "mp/x"), root).len(), 1);
        assert!(places("tests/init", concat!("/t", "mp/x"), root).is_empty());
    }

    #[test]
    fn long_files_are_found() {
        assert_eq!(length("a.rs", &"a\n".repeat(400)), Length::Fine);
        assert_eq!(length("a.rs", &"a\n".repeat(401)), Length::Long(401));
        assert_eq!(length("a.S", &"a\n".repeat(801)), Length::TooLong(801));
        assert_eq!(length("Cargo.lock", &"a\n".repeat(2000)), Length::Fine);
    }
}
