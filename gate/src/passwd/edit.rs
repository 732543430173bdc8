//! Changes to the text of a password file that leave everything else in it as it is, comments too.

use super::{Hash, ParseError, split};

/// Whether a line for this user could be read again.
///
/// # Errors
/// Says why not.
pub fn check_user(user: &str) -> Result<(), &'static str> {
    if user.contains(char::is_control) {
        return Err("has control characters");
    }
    if user.contains(':') {
        return Err("has a ':', which ends the name in a password file");
    }
    match split(&format!("{user}:")) {
        Ok(Some((read, _))) if read == user => Ok(()),
        Ok(Some(_)) => Err("begins or ends with blanks, which a password file does not keep"),
        Ok(None) => Err("begins with '#', which begins a comment"),
        Err(_) if user.is_empty() => Err("is empty"),
        Err(_) => Err("is longer than 65535 bytes"),
    }
}

/// Gives the user this password: in the place of the old one, or at the end.
#[must_use]
pub fn set(text: &str, user: &str, hash: &Hash) -> String {
    let mut new = Some(format!("{user}:{hash}"));
    let lines: Vec<String> = text
        .lines()
        .filter_map(|line| if is_of(line, user) { new.take() } else { Some(line.to_owned()) })
        .collect();
    join(lines.into_iter().chain(new))
}

/// Takes the user out; `None` if there is no such.
#[must_use]
pub fn delete(text: &str, user: &str) -> Option<String> {
    let is_there = text.lines().any(|line| is_of(line, user));
    is_there.then(|| join(text.lines().filter(|line| !is_of(line, user)).map(str::to_owned)))
}

/// Puts hashes in the place of plain passwords, and says how many there were. What is a hash already is
/// left as it is. A plain password is all that stands behind the first ':', without blanks around it.
///
/// # Errors
/// What `hash_of` says. Names a line without user or password, or with a hash that is broken: it would be taken for a password.
pub fn upgrade<E: From<ParseError>>(
    name: &str,
    text: &str,
    mut hash_of: impl FnMut(&[u8]) -> Result<Hash, E>,
) -> Result<(String, usize), E> {
    let mut lines = Vec::new();
    let mut count = 0_usize;
    for (index, line) in text.lines().enumerate() {
        let blamed =
            |problem| ParseError { file: name.into(), line: index.saturating_add(1), problem };
        match split(line).map_err(blamed)? {
            Some((user, password)) if is_plain(password) => {
                lines.push(format!("{user}:{}", hash_of(password.as_bytes())?));
                count = count.saturating_add(1);
            }
            Some((_, hash)) => {
                Hash::parse(hash).map_err(blamed)?;
                lines.push(line.to_owned());
            }
            None => lines.push(line.to_owned()),
        }
    }
    Ok((join(lines), count))
}

/// Has not even the beginning of a hash.
fn is_plain(password: &str) -> bool {
    let is_hash = password.starts_with('$') || password.starts_with("SCRAM-SHA-256$");
    !password.is_empty() && !is_hash
}

fn is_of(line: &str, user: &str) -> bool {
    matches!(split(line), Ok(Some((name, _))) if name == user)
}

/// Lines end alike, wherever they came from: a carriage return that is left before the line end would be
/// part of the line for one reader and of its end for the next.
fn join(lines: impl IntoIterator<Item = String>) -> String {
    lines
        .into_iter()
        .flat_map(|line| [line.trim_end_matches('\r').to_owned(), "\n".to_owned()])
        .collect()
}
