//! Password files: who may log in with which password.
//!
//! A file that Mosquitto or its `mosquitto_passwd` wrote is read as it is. It is taken as a whole or, with
//! the line that is wrong, refused as a whole. Nothing here prints a hash, but for [`Passwords`]' and
//! [`hash::Hash`]'s `Display`, which write files.
//!
//! A [`Passwords`] belongs to the shell, which checks on helper threads whatever [`Passwords::cost`] calls
//! dear. After a reload there is another one.

mod edit;
mod hash;
#[cfg(test)]
mod tests;

use std::fmt;

use ring::digest;

use crate::scram::Keys;

pub use edit::{check_user, delete, set, upgrade};
pub use hash::{Cost, Hash, SALT_BYTES, Unfit};

/// Longest name that a CONNECT can carry.
const USER_BYTES_MAX: usize = 65_535;

/// A line that is not as it must be. The problem is one of our own sentences and never part of the file.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{file}, line {line}: {problem}")]
pub struct ParseError {
    pub file: Box<str>,
    /// Counted from 1.
    pub line: usize,
    pub problem: &'static str,
}

/// The users of one password file.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Passwords {
    /// Sorted by name, no name twice.
    users: Vec<(Box<str>, Hash)>,
}

impl Passwords {
    /// Reads a whole file. A name that comes twice has the password that comes last, as with Mosquitto.
    ///
    /// # Errors
    /// Names the first line that is wrong, and what about it; `name` is what the file is called there.
    pub fn parse(name: &str, text: &str) -> Result<Self, ParseError> {
        let mut users = Vec::new();
        for (index, line) in text.lines().enumerate() {
            let blamed =
                |problem| ParseError { file: name.into(), line: index.saturating_add(1), problem };
            let Some((user, hash)) = split(line).map_err(blamed)? else { continue };
            users.push((user.into(), Hash::parse(hash).map_err(blamed)?));
        }
        // Backwards, so that the sort, which keeps the order of equals, and the removal, which keeps the
        // first of them, leave the last.
        users.reverse();
        users.sort_by(|(left, _): &(Box<str>, Hash), (right, _)| left.cmp(right));
        users.dedup_by(|(later, _), (first, _)| later == first);
        Ok(Self { users })
    }

    /// Whether this is the user's password. Who is not in the file costs what somebody in it costs, so
    /// that the time of the answer does not tell who is.
    #[must_use]
    pub fn verify(&self, user: &str, password: &[u8]) -> bool {
        let known = self.find(user);
        let Some(hash) = known.or_else(|| self.stand_in(user)) else { return false };
        let is_right = hash.verify(password);
        is_right & known.is_some()
    }

    /// What [`Self::verify`] will take for this user.
    #[must_use]
    pub fn cost(&self, user: &str) -> Cost {
        let hash = self.find(user).or_else(|| self.stand_in(user));
        hash.map_or(Cost::Cheap, Hash::cost)
    }

    /// Whether the user is in the file.
    #[must_use]
    pub fn contains(&self, user: &str) -> bool {
        self.find(user).is_some()
    }

    /// All user names, in ascending order.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.users.iter().map(|(user, _)| &**user)
    }

    /// The keys of a user whose entry is for SCRAM.
    #[must_use]
    pub fn scram(&self, user: &str) -> Option<&Keys> {
        self.find(user).and_then(Hash::scram)
    }

    /// Some SCRAM entry of the file, always the same for the same name, to be imitated for a user who has
    /// none.
    pub(crate) fn scram_stand_in(&self, user: &str) -> Option<&Keys> {
        let keys = || self.users.iter().filter_map(|(_, hash)| hash.scram());
        keys().nth(draw(user, keys().count())?)
    }

    fn find(&self, user: &str) -> Option<&Hash> {
        let at = self.users.binary_search_by(|(name, _)| (**name).cmp(user)).ok()?;
        self.users.get(at).map(|(_, hash)| hash)
    }

    /// Always the same entry for the same name: a name that sometimes took another time would be known
    /// to be in no file.
    fn stand_in(&self, user: &str) -> Option<&Hash> {
        let (_, hash) = self.users.get(draw(user, self.users.len())?)?;
        Some(hash)
    }
}

impl fmt::Display for Passwords {
    /// A file that is read as the same users.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.users.iter().try_for_each(|(user, hash)| writeln!(f, "{user}:{hash}"))
    }
}

/// An index below `count` that follows from the name alone.
fn draw(user: &str, count: usize) -> Option<usize> {
    let digest = digest::digest(&digest::SHA256, user.as_bytes());
    let number = digest.as_ref().first_chunk().copied().map_or(0, u64::from_be_bytes);
    let index = number.checked_rem(u64::try_from(count).ok()?)?;
    usize::try_from(index).ok()
}

/// Name and rest of a line, both without blanks around them; `None` for a comment or an empty line.
fn split(line: &str) -> Result<Option<(&str, &str)>, &'static str> {
    let line = trim(line);
    if line.is_empty() || line.starts_with('#') {
        return Ok(None);
    }
    let (user, rest) = line.split_once(':').ok_or("no ':' between user name and password")?;
    let user = trim(user);
    if user.is_empty() {
        return Err("no user name before the ':'");
    }
    if user.len() > USER_BYTES_MAX {
        return Err("the user name is longer than 65535 bytes");
    }
    Ok(Some((user, trim(rest))))
}

/// The blanks of the C library, which Mosquitto cuts off.
fn trim(text: &str) -> &str {
    text.trim_matches([' ', '\t', '\n', '\r', '\x0B', '\x0C'])
}
