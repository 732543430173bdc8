//! Names of users and groups, as `/etc/passwd` and `/etc/group` tell them.
//!
//! Read once, when listeners are opened: a shard that accepts a connection may not read files.

use std::collections::BTreeMap;
use std::fs;
use std::io;

/// Users by number.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Accounts {
    users: BTreeMap<u32, Box<str>>,
}

impl Accounts {
    /// Reads the users of this machine.
    ///
    /// # Errors
    /// If there is no `/etc/passwd`.
    pub fn read() -> io::Result<Self> {
        fs::read_to_string("/etc/passwd").map(|text| Self::parse(&text))
    }

    fn parse(text: &str) -> Self {
        let mut users = BTreeMap::new();
        for (name, number) in entries(text) {
            // The first name of a number counts, as everywhere.
            users.entry(number).or_insert_with(|| name.into());
        }
        Self { users }
    }

    /// Who this user is: the name, or the number of one without a name.
    #[must_use]
    pub fn identity(&self, user: u32) -> Box<str> {
        self.users.get(&user).cloned().unwrap_or_else(|| user.to_string().into())
    }
}

/// Whom a file shall belong to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Owner {
    pub user: Option<u32>,
    pub group: Option<u32>,
}

impl Owner {
    /// Reads `user`, `user:group` or `:group`, each a name or a number.
    ///
    /// # Errors
    /// What is wrong, in an operator's words.
    pub fn parse(text: &str) -> Result<Self, String> {
        let (user, group) = text.split_once(':').unwrap_or((text, ""));
        if user.is_empty() && group.is_empty() {
            return Err("give USER, USER:GROUP or :GROUP".to_owned());
        }
        Ok(Self {
            user: find(user, "user", "/etc/passwd")?,
            group: find(group, "group", "/etc/group")?,
        })
    }
}

fn find(name: &str, what: &str, file: &str) -> Result<Option<u32>, String> {
    if name.is_empty() {
        return Ok(None);
    }
    if let Ok(number) = name.parse() {
        return Ok(Some(number));
    }
    let text = fs::read_to_string(file).map_err(|error| format!("{file}: {error}"))?;
    let found = entries(&text).find(|(entry, _)| *entry == name).map(|(_, number)| number);
    found.map(Some).ok_or_else(|| format!("there is no {what} {name:?}"))
}

/// Name and number of each line; both files have them in the same places.
fn entries(text: &str) -> impl Iterator<Item = (&str, u32)> {
    text.lines().filter_map(|line| {
        let mut fields = line.split(':');
        let name = fields.next()?;
        let number = fields.nth(1)?.parse().ok()?;
        (!name.is_empty()).then_some((name, number))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_user_has_its_first_name_or_its_number() {
        let text = "root:x:0:0:root:/root:/bin/sh\ntoor:x:0:0::/:/bin/sh\n\nbroken\n:x:7:7::/:\n";
        let accounts = Accounts::parse(text);
        assert_eq!(&*accounts.identity(0), "root");
        assert_eq!(&*accounts.identity(7), "7");
        assert_eq!(&*accounts.identity(1234), "1234");
    }

    #[test]
    fn owners_are_names_or_numbers() {
        let both = Owner { user: Some(0), group: Some(12) };
        assert_eq!(Owner::parse("0:12"), Ok(both));
        assert_eq!(Owner::parse("root:12"), Ok(both));
        assert_eq!(Owner::parse("0"), Ok(Owner { user: Some(0), group: None }));
        assert_eq!(Owner::parse(":12"), Ok(Owner { user: None, group: Some(12) }));
        assert!(Owner::parse(":").is_err());
        assert!(Owner::parse("no such user").unwrap_err().contains("no user \"no such user\""));
    }
}
