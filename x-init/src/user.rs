//! Who a program runs as: names and numbers, by the container's own /etc/passwd and /etc/group.
//!
//! The rules are those of OCI images: a user without a group gets the groups that the files say; one with a group
//! gets that one only. A number need not be in the files, a name must.

use std::fmt;

/// Who a program runs as.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Identity {
    /// The user.
    pub uid: u32,
    /// The group.
    pub gid: u32,
    /// Further groups, in order and without doubles.
    pub groups: Vec<u32>,
    /// The user's home, if the files know one.
    pub home: Option<String>,
}

/// Who cannot be found.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum UserError {
    /// Nobody of this name.
    NoUser(String),
    /// No group of this name.
    NoGroup(String),
    /// A part that is empty, or a number that is none.
    Bad(String),
}

impl fmt::Display for UserError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoUser(name) => write!(f, "no user '{name}' in /etc/passwd"),
            Self::NoGroup(name) => write!(f, "no group '{name}' in /etc/group"),
            Self::Bad(text) => write!(f, "'{text}' is not USER[:GROUP], by names or numbers"),
        }
    }
}

impl std::error::Error for UserError {}

/// The fields of a line, if there are enough of them.
fn fields(line: &str, enough: usize) -> Option<Vec<&str>> {
    let fields: Vec<_> = line.split(':').collect();
    (fields.len() >= enough).then_some(fields)
}

/// A user as /etc/passwd has it.
struct User<'a> {
    name: &'a str,
    uid: u32,
    gid: u32,
    home: &'a str,
}

fn users(passwd: &str) -> impl Iterator<Item = User<'_>> {
    passwd.lines().filter_map(|line| match fields(line, 7)?[..] {
        [name, _, uid, gid, _, home, ..] => Some(User { name, uid: uid.parse().ok()?, gid: gid.parse().ok()?, home }),
        _ => None,
    })
}

/// Groups as /etc/group has them: name, number, members.
fn groups(group: &str) -> impl Iterator<Item = (&str, u32, &str)> {
    group.lines().filter_map(|line| match fields(line, 4)?[..] {
        [name, _, gid, members, ..] => Some((name, gid.parse().ok()?, members)),
        _ => None,
    })
}

/// A number, if it is written as one. The last one, -1, means "leave it" to the kernel and is nobody.
fn number(text: &str) -> Result<Option<u32>, UserError> {
    if text.is_empty() {
        return Err(UserError::Bad(text.to_string()));
    }
    if !text.bytes().all(|b| b.is_ascii_digit()) {
        return Ok(None);
    }
    text.parse().ok().filter(|&n| n != u32::MAX).map(Some).ok_or_else(|| UserError::Bad(text.to_string()))
}

/// The number of a group.
fn gid(text: &str, group: &str) -> Result<u32, UserError> {
    match number(text)? {
        Some(gid) => Ok(gid),
        None => groups(group).find(|g| g.0 == text).map(|g| g.1).ok_or_else(|| UserError::NoGroup(text.to_string())),
    }
}

/// Finds `spec`, `USER[:GROUP]`, and `more` groups in the texts of the two files.
///
/// # Errors
/// Who is not there.
pub fn resolve(spec: &str, more: &[String], passwd: &str, group: &str) -> Result<Identity, UserError> {
    let (user, own_group) = spec.split_once(':').map_or((spec, None), |(user, group)| (user, Some(group)));
    if own_group.is_some_and(|g| g.contains(':')) {
        return Err(UserError::Bad(spec.to_string()));
    }
    let (uid, known) = match number(user)? {
        Some(uid) => (uid, users(passwd).find(|u| u.uid == uid)),
        None => {
            let known = users(passwd).find(|u| u.name == user).ok_or_else(|| UserError::NoUser(user.to_string()))?;
            (known.uid, Some(known))
        }
    };
    let mut all = Vec::new();
    let own = match own_group {
        Some(text) => gid(text, group)?,
        None => {
            let name = known.as_ref().map(|u| u.name);
            all.extend(groups(group).filter(|g| name.is_some_and(|n| g.2.split(',').any(|m| m == n))).map(|g| g.1));
            known.as_ref().map_or(0, |u| u.gid)
        }
    };
    for text in more {
        all.push(gid(text, group)?);
    }
    all.sort_unstable();
    all.dedup();
    Ok(Identity { uid, gid: own, groups: all, home: known.map(|u| u.home.to_string()) })
}

#[cfg(test)]
mod tests {
    use super::*;

    const PASSWD: &str =
        "root:x:0:0:root:/root:/bin/bash\nbroken\nwww-data:x:33:33::/var/www:/bin/false\nme:x:1000:100:,,,:/home/me:/bin/sh\n";
    const GROUP: &str = "root:x:0:\nadm:x:4:www-data,me\nusers:x:100:\nwheel:x:10:me\nbad:x:y:me\n";

    fn found(spec: &str, more: &[&str]) -> Result<Identity, UserError> {
        resolve(spec, &more.iter().map(|m| (*m).to_string()).collect::<Vec<_>>(), PASSWD, GROUP)
    }

    fn numbers(spec: &str, more: &[&str]) -> (u32, u32, Vec<u32>) {
        let identity = found(spec, more).expect(spec);
        (identity.uid, identity.gid, identity.groups)
    }

    #[test]
    fn users_are_found() {
        assert_eq!(numbers("0:0", &[]), (0, 0, vec![]));
        assert_eq!(numbers("me", &[]), (1000, 100, vec![4, 10]));
        assert_eq!(numbers("1000", &[]), (1000, 100, vec![4, 10]));
        assert_eq!(numbers("me:users", &[]), (1000, 100, vec![]));
        assert_eq!(numbers("me:7", &["adm", "3", "4"]), (1000, 7, vec![3, 4]));
        assert_eq!(numbers("1234", &[]), (1234, 0, vec![]));
        assert_eq!(numbers("1234:5678", &[]), (1234, 5678, vec![]));
        assert_eq!(found("www-data", &[]).expect("it is there").home.as_deref(), Some("/var/www"));
        assert_eq!(found("1234", &[]).expect("a number").home, None);
    }

    #[test]
    fn nobody_is_made_up() {
        assert_eq!(found("you", &[]), Err(UserError::NoUser("you".into())));
        assert_eq!(found("broken", &[]), Err(UserError::NoUser("broken".into())));
        assert_eq!(found("me:staff", &[]), Err(UserError::NoGroup("staff".into())));
        assert_eq!(found("me:bad", &[]), Err(UserError::NoGroup("bad".into())));
        assert_eq!(found("me", &["staff"]), Err(UserError::NoGroup("staff".into())));
        for bad in ["", ":", "me:", ":users", "me:users:more", "4294967295", "4294967296", "0:4294967295"] {
            assert!(matches!(found(bad, &[]), Err(UserError::Bad(_))), "{bad}");
        }
        assert!(resolve("me", &[], "", "").is_err());
        assert!(resolve("1000:1000", &[], "", "").is_ok());
    }
}
