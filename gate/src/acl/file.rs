//! The format of the file, as Mosquitto reads it: one line after the other, words parted by spaces, what
//! follows the access to the line's end is the filter, spaces included.

use std::collections::{BTreeMap, BTreeSet};

use crate::filters;
use crate::text::ParseError;

use super::Acl;
use super::rules::{Rules, Set};

/// The lines of one user, or all patterns.
#[derive(Debug, Default)]
struct Lines<'a> {
    denied: BTreeSet<&'a str>,
    read: BTreeSet<&'a str>,
    write: BTreeSet<&'a str>,
}

impl<'a> Lines<'a> {
    /// `text` is what follows `topic` or `pattern`.
    fn add(&mut self, text: &'a str) -> Result<(), String> {
        // A word that stands alone is the filter, whatever word it is.
        let (access, filter) = match text.split_once(' ') {
            Some((access, filter)) => (access, filter.trim_start_matches(' ')),
            None => ("readwrite", text),
        };
        if let Some(problem) = filters::problem_of(filter) {
            return Err(format!("{problem}: {filter:?}"));
        }
        let sets = match access {
            "read" => [Some(&mut self.read), None],
            "write" => [Some(&mut self.write), None],
            "readwrite" => [Some(&mut self.read), Some(&mut self.write)],
            "deny" => [Some(&mut self.denied), None],
            _ => return Err(format!("{access:?} is none of read, write, readwrite, deny")),
        };
        sets.into_iter().flatten().for_each(|set| set.extend([filter]));
        Ok(())
    }

    fn compile(&self, has_variables: bool) -> Rules {
        Rules {
            denied: Set::new(&self.denied, has_variables),
            read: Set::new(&self.read, has_variables),
            write: Set::new(&self.write, has_variables),
        }
    }
}

/// The file so far.
#[derive(Debug, Default)]
struct Draft<'a> {
    anonymous: Lines<'a>,
    users: BTreeMap<&'a str, Lines<'a>>,
    patterns: Lines<'a>,
    user: Option<&'a str>,
}

impl<'a> Draft<'a> {
    /// `line` is not empty and does not end in white space.
    fn add(&mut self, line: &'a str) -> Result<(), String> {
        let line = line.trim_start_matches(' ');
        let (word, rest) = line.split_once(' ').unwrap_or((line, ""));
        let rest = rest.trim_start_matches(' ');
        match word {
            "topic" | "pattern" if rest.is_empty() => Err(format!("{word} without a topic filter")),
            "topic" => match self.user {
                Some(user) => self.users.entry(user).or_default().add(rest),
                None => self.anonymous.add(rest),
            },
            "pattern" => self.patterns.add(rest),
            "user" => {
                let user = rest.trim_matches(is_space);
                if user.is_empty() {
                    return Err("user without a name".to_owned());
                }
                self.user = Some(user);
                Ok(())
            }
            _ => Err(format!("{word:?} is none of user, topic, pattern")),
        }
    }

    fn compile(&self) -> Acl {
        let users = self.users.iter();
        Acl {
            anonymous: self.anonymous.compile(false),
            users: users.map(|(&name, lines)| (name.into(), lines.compile(false))).collect(),
            patterns: self.patterns.compile(true),
        }
    }
}

/// What C takes for white space.
fn is_space(c: char) -> bool {
    matches!(c, ' ' | '\t'..='\r')
}

pub(super) fn parse(name: &str, text: &str) -> Result<Acl, ParseError> {
    let mut draft = Draft::default();
    for (index, line) in text.split('\n').enumerate() {
        let line = line.trim_end_matches(is_space);
        // Only in the first column, as there are topics that begin with one.
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        draft.add(line).map_err(|problem| {
            let line = index.saturating_add(1);
            ParseError { file: name.into(), line, problem }
        })?;
    }
    Ok(draft.compile())
}
