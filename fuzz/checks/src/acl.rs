//! An access list, read and asked, against a reading of its lines in the most obvious way.
//!
//! Input: the list, a client identifier, a user name (empty: none), a topic and a filter, with a NUL
//! character between them.

use gate::acl::{Acl, Coverage, Subject};
use shards::topic::{TopicFilter, check_name};

use crate::reference;

/// # Panics
/// If the list is read or decides in another way than the reference.
pub fn check(data: &[u8]) {
    let Ok(text) = str::from_utf8(data) else { return };
    let mut parts = text.split('\0');
    let mut part = || parts.next().unwrap_or_default();
    let (list, client_id, user, topic, filter) = (part(), part(), part(), part(), part());
    let acl = match (Acl::parse("list", list), Reference::parse(list)) {
        (Ok(acl), Ok(reference)) => (acl, reference),
        (Err(error), Err(line)) => {
            assert!(!error.problem.is_empty());
            return assert_eq!(error.line, line, "{error}: {list:?}");
        }
        (got, want) => panic!("{list:?}: {got:?}, but {want:?}"),
    };
    let (acl, reference) = acl;
    let who = Subject { client_id, user: (!user.is_empty()).then_some(user) };
    if check_name(topic, u16::MAX).is_err() {
        return;
    }
    let place = || format!("{list:?}, {who:?}, topic {topic:?}");
    let (may_read, may_write) = (acl.may_read(&who, topic), acl.may_write(&who, topic));
    assert_eq!(may_read, reference.allows(&who, topic, "read"), "read: {}", place());
    assert_eq!(may_write, reference.allows(&who, topic, "write"), "write: {}", place());
    let Ok(parsed) = TopicFilter::parse(filter, u16::MAX) else { return };
    let coverage = acl.coverage(&who, filter);
    if reference::matches(parsed.filter(), topic) {
        assert!(coverage != Coverage::Whole || may_read, "{filter:?} whole: {}", place());
        assert!(coverage != Coverage::None || !may_read, "{filter:?} none: {}", place());
    }
}

/// The lines, in order: word, user, access, filter.
#[derive(Debug, Default)]
struct Reference<'a>(Vec<Line<'a>>);

#[derive(Debug)]
struct Line<'a> {
    is_pattern: bool,
    user: Option<&'a str>,
    access: &'a str,
    filter: &'a str,
}

impl<'a> Reference<'a> {
    /// Or the number of the first bad line.
    fn parse(list: &'a str) -> Result<Self, usize> {
        let mut lines = Vec::new();
        let mut user = None;
        for (index, line) in list.split('\n').enumerate() {
            let line = line.trim_end_matches([' ', '\t', '\u{b}', '\u{c}', '\r']);
            if line.is_empty() || line.starts_with('#') {
                continue;
            }
            let (word, rest) = cut(line.trim_start_matches(' '));
            let (access, filter) = match cut(rest) {
                (filter, "") => ("readwrite", filter),
                (access, filter) => (access, filter),
            };
            let name = rest.trim_matches([' ', '\t', '\u{b}', '\u{c}', '\r']);
            let is_access = ["read", "write", "readwrite", "deny"].contains(&access);
            match word {
                "topic" | "pattern" if is_access && is_filter(filter) => {
                    lines.push(Line { is_pattern: word == "pattern", user, access, filter });
                }
                "user" if !name.is_empty() => user = Some(name),
                _ => return Err(index + 1),
            }
        }
        Ok(Self(lines))
    }

    fn allows(&self, who: &Subject<'_>, topic: &str, access: &str) -> bool {
        if topic.starts_with("$share") {
            return false;
        }
        let is_state = reference::matches("$SYS/broker/connection/+/state", topic);
        if access == "write" && topic.starts_with("$SYS") && !is_state {
            return false;
        }
        let mut own = self.0.iter().filter(|line| !line.is_pattern && line.user == who.user);
        let mut hits = own.by_ref().filter(|line| reference::matches(line.filter, topic));
        if let Some(decision) = decide(&mut hits, access) {
            return decision;
        }
        let is_wild = |name: &str| name.contains(['+', '#']);
        if is_wild(who.client_id) || who.user.is_some_and(is_wild) {
            return false;
        }
        let patterns = self.0.iter().filter(|line| line.is_pattern);
        let usable = patterns.filter(|line| who.user.is_some() || !line.filter.contains("%u"));
        let mut hits = usable.filter(|line| matches_template(line.filter, who, topic));
        decide(&mut hits, access).unwrap_or(false)
    }
}

fn matches_template(filter: &str, who: &Subject<'_>, topic: &str) -> bool {
    let filled = fill(filter, who);
    // A name may be empty, and with it the filter.
    !filled.is_empty() && reference::matches(&filled, topic)
}

fn decide<'a>(hits: &mut dyn Iterator<Item = &Line<'a>>, access: &str) -> Option<bool> {
    let found: Vec<&str> = hits.map(|line| line.access).collect();
    if found.contains(&"deny") {
        return Some(false);
    }
    (found.contains(&access) || found.contains(&"readwrite")).then_some(true)
}

fn cut(text: &str) -> (&str, &str) {
    let (word, rest) = text.split_once(' ').unwrap_or((text, ""));
    (word, rest.trim_start_matches(' '))
}

fn is_filter(text: &str) -> bool {
    let levels: Vec<&str> = text.split('/').collect();
    let is_level = |(index, level): (usize, &&str)| match *level {
        "+" => true,
        "#" => index + 1 == levels.len(),
        other => !other.contains(['+', '#']),
    };
    let is_short = text.len() <= usize::from(u16::MAX);
    !text.is_empty() && is_short && levels.iter().enumerate().all(is_level)
}

fn fill(filter: &str, who: &Subject<'_>) -> String {
    let mut filled = String::new();
    let mut rest = filter;
    while let Some(first) = rest.chars().next() {
        if rest.starts_with("%c") {
            filled.push_str(who.client_id);
            rest = &rest[2..];
        } else if rest.starts_with("%u") {
            filled.push_str(who.user.unwrap_or_default());
            rest = &rest[2..];
        } else {
            filled.push(first);
            rest = &rest[first.len_utf8()..];
        }
    }
    filled
}
