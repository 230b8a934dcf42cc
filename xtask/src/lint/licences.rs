//! Licences of everything that is built in, and crates that are there in several versions. `deny.toml` says the same
//! to `cargo deny`.

use std::collections::{BTreeMap, BTreeSet};
use std::process::Command;

use anyhow::Result;
use serde::Deserialize;

use super::Finding;
use crate::sh;

/// What may be built in: licences that ask for no more than naming the authors.
const ALLOWED: &[&str] = &["MIT", "Apache-2.0", "BSD-2-Clause", "BSD-3-Clause", "0BSD", "ISC", "Zlib", "Unicode-3.0"];

#[derive(Deserialize)]
struct Metadata {
    packages: Vec<Package>,
}

/// A package as `cargo metadata` describes it.
#[derive(Deserialize)]
pub struct Package {
    name: String,
    version: String,
    license: Option<String>,
}

/// All packages of the lock file.
pub fn packages() -> Result<Vec<Package>> {
    let json = sh::output(Command::new(env!("CARGO")).current_dir(sh::root()).args(["metadata", "--format-version", "1", "--locked"]))?;
    Ok(serde_json::from_str::<Metadata>(&json)?.packages)
}

/// Packages with a licence that is not allowed, or without one.
pub fn refused(packages: &[Package]) -> Vec<Finding> {
    let bad = packages.iter().filter(|p| !p.license.as_deref().is_some_and(allowed));
    bad.map(|p| {
        let licence = p.license.as_deref().unwrap_or("none named");
        Finding::new("Cargo.lock", 0, format!("{} {}: licence {licence}", p.name, p.version))
    })
    .collect()
}

/// Crates that are there in more than one version.
pub fn duplicates(packages: &[Package]) -> Vec<String> {
    let mut versions: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
    for package in packages {
        versions.entry(&package.name).or_default().insert(&package.version);
    }
    let several = versions.into_iter().filter(|(_, v)| v.len() > 1);
    several.map(|(name, v)| format!("{name} {}", v.into_iter().collect::<Vec<_>>().join(" and "))).collect()
}

/// Whether an SPDX expression can be met by allowed licences alone. What it does not understand it does not allow.
fn allowed(expression: &str) -> bool {
    let spaced = expression.replace('(', " ( ").replace(')', " ) ").replace('/', " OR ");
    let words: Vec<_> = spaced.split_whitespace().collect();
    let mut rest = words.as_slice();
    any_of(&mut rest) == Some(true) && rest.is_empty()
}

fn any_of(words: &mut &[&str]) -> Option<bool> {
    let mut good = all_of(words)?;
    while words.first() == Some(&"OR") {
        *words = words.get(1..)?;
        good |= all_of(words)?;
    }
    Some(good)
}

fn all_of(words: &mut &[&str]) -> Option<bool> {
    let mut good = one(words)?;
    while words.first() == Some(&"AND") {
        *words = words.get(1..)?;
        good &= one(words)?;
    }
    Some(good)
}

fn one(words: &mut &[&str]) -> Option<bool> {
    let (first, rest) = words.split_first()?;
    *words = rest;
    if *first == "(" {
        let good = any_of(words)?;
        let (last, rest) = words.split_first()?;
        *words = rest;
        return (*last == ")").then_some(good);
    }
    if words.first() == Some(&"WITH") {
        // An exception gives more rights than the licence; of one that we do not know we cannot say so.
        let known = words.get(1) == Some(&"LLVM-exception");
        *words = words.get(2..)?;
        return Some(known && ALLOWED.contains(first));
    }
    Some(ALLOWED.contains(first))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn expressions() {
        for good in
            ["MIT", "MIT/Apache-2.0", "GPL-2.0 OR MIT", "(MIT OR GPL-2.0) AND Unicode-3.0", "Apache-2.0 WITH LLVM-exception OR MPL-2.0"]
        {
            assert!(allowed(good), "{good}");
        }
        for bad in ["GPL-2.0", "MIT AND GPL-2.0", "MPL-2.0", "", "MIT GPL-2.0", "(MIT", "MIT OR", "MIT WITH something"] {
            assert!(!allowed(bad), "{bad}");
        }
    }

    #[test]
    fn packages_are_judged() {
        let package = |name: &str, version: &str, license: Option<&str>| Package {
            name: name.to_string(),
            version: version.to_string(),
            license: license.map(str::to_string),
        };
        let list = [package("a", "1", Some("MIT")), package("a", "2", None), package("b", "1", Some("GPL-3.0"))];
        assert_eq!(refused(&list).len(), 2);
        assert_eq!(duplicates(&list), ["a 1 and 2"]);
    }
}
