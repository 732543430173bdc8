//! Files that say who may read and write which topics, in Mosquitto's format.
//!
//! ```text
//! # Clients without a user name.
//! topic read news/#
//!
//! user ann
//! topic readwrite home/#
//! topic deny home/safe/#
//!
//! # Everybody: %c is the client identifier, %u the user name.
//! pattern write devices/%c/state
//! ```
//!
//! An [`Acl`] decides as Mosquitto 2.0 does, which `tests/acl` compares with the real one:
//!
//! - What no line permits is denied; a file without a line denies everything.
//! - `topic` lines before the first `user` are for clients without a user name, and only for them.
//! - A user's `deny` counts before his other lines, wherever it stands; then comes what the others
//!   permit; patterns are asked last, their `deny` first. So a user's line outdoes a pattern's `deny`.
//! - A pattern with `%u` does not exist for a client without a user name.
//! - If there is any pattern, a client whose identifier or user name has a wildcard in it gets nothing
//!   from patterns, as it could choose names that reach other clients' topics.
//! - Nobody writes below `$SYS`, but for the states of bridges, and nobody reads or writes `$share`.
//!
//! It belongs to whoever asks, is never changed, and can be shared between threads. A decision allocates
//! nothing; [`Acl::coverage`] may, it is for a SUBSCRIBE.

mod file;
mod rules;

use crate::filters::{self, Relation};
use crate::text::ParseError;

use self::rules::{Rules, Template};

/// Below it only the broker writes.
const SYS: &str = "$SYS";

/// What a bridge says about itself, the one exception.
const BRIDGE_STATE: &str = "$SYS/broker/connection/+/state";

/// Where shared subscriptions are written down; no message has such a topic.
const SHARE: &str = "$share";

/// Who wants to read or write.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Subject<'a> {
    pub client_id: &'a str,
    /// `None` for an anonymous client.
    pub user: Option<&'a str>,
}

impl Subject<'_> {
    /// Put into a pattern, such a name would be more than a name.
    fn has_wildcard(&self) -> bool {
        filters::has_wildcard(self.client_id) || self.user.is_some_and(filters::has_wildcard)
    }
}

/// How much of what a topic filter matches may be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Coverage {
    None,
    /// Some of it, perhaps: each topic is to be asked for.
    Partly,
    Whole,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Access {
    Read,
    Write,
}

/// Permissions, compiled.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Acl {
    anonymous: Rules,
    /// Sorted by user name.
    users: Box<[(Box<str>, Rules)]>,
    patterns: Rules,
}

impl Acl {
    /// Reads the text of a file; `name` is only for the error.
    ///
    /// # Errors
    /// The first line that is none of the format.
    pub fn parse(name: &str, text: &str) -> Result<Self, ParseError> {
        file::parse(name, text)
    }

    #[must_use]
    pub fn may_read(&self, who: &Subject<'_>, topic: &str) -> bool {
        !topic.starts_with(SHARE) && self.decide(who, topic, Access::Read)
    }

    #[must_use]
    pub fn may_write(&self, who: &Subject<'_>, topic: &str) -> bool {
        if topic.starts_with(SHARE) {
            return false;
        }
        let is_free = !topic.starts_with(SYS) || filters::matches(BRIDGE_STATE, topic);
        is_free && self.decide(who, topic, Access::Write)
    }

    /// How much may be read of what `filter` matches. A shared subscription is judged by its filter.
    #[must_use]
    pub fn coverage(&self, who: &Subject<'_>, filter: &str) -> Coverage {
        let filter = filters::without_share(filter);
        if !filters::has_wildcard(filter) {
            let whole = self.may_read(who, filter);
            return if whole { Coverage::Whole } else { Coverage::None };
        }
        if filter.starts_with(SHARE) {
            return Coverage::None;
        }
        let of_user = Zones::of(self.rules_of(who), who, filter);
        if let Some(coverage) = of_user.settled(Relation::Apart) {
            return coverage;
        }
        let is_asked = !self.patterns.is_empty() && !who.has_wildcard();
        let of_patterns = Zones::of(is_asked.then_some(&self.patterns), who, filter);
        let may_some = of_user.read == Relation::Overlaps;
        match of_patterns.settled(of_user.denied) {
            Some(Coverage::None) | None if may_some => Coverage::Partly,
            Some(coverage) => coverage,
            None if of_patterns.read == Relation::Overlaps => Coverage::Partly,
            None => Coverage::None,
        }
    }

    fn decide(&self, who: &Subject<'_>, topic: &str, access: Access) -> bool {
        if let Some(rules) = self.rules_of(who) {
            if rules.denied.matches(who, topic) {
                return false;
            }
            if rules.of(access).matches(who, topic) {
                return true;
            }
        }
        !self.patterns.is_empty()
            && !who.has_wildcard()
            && !self.patterns.denied.matches(who, topic)
            && self.patterns.of(access).matches(who, topic)
    }

    fn rules_of(&self, who: &Subject<'_>) -> Option<&Rules> {
        let Some(user) = who.user else { return Some(&self.anonymous) };
        let found = self.users.binary_search_by(|(name, _)| (**name).cmp(user));
        found.ok().and_then(|index| self.users.get(index)).map(|(_, rules)| rules)
    }
}

/// A filter with `%c` and `%u` put in. `None` if a name for one of them is missing or has a wildcard.
pub(crate) fn filled(filter: &str, who: &Subject<'_>) -> Option<Box<str>> {
    let Some(template) = Template::parse(filter) else { return Some(filter.into()) };
    let filled = if who.has_wildcard() { None } else { template.filled(who) };
    filled.map(String::into_boxed_str)
}

/// How one list of rules lies to a filter.
struct Zones {
    denied: Relation,
    read: Relation,
}

impl Zones {
    fn of(rules: Option<&Rules>, who: &Subject<'_>, filter: &str) -> Self {
        let Some(rules) = rules else {
            return Self { denied: Relation::Apart, read: Relation::Apart };
        };
        let denied = rules.denied.relation(who, filter);
        Self { denied, read: rules.read.relation(who, filter) }
    }

    /// What this list alone decides about the filter as a whole; `denied_before`: by an earlier list.
    fn settled(&self, denied_before: Relation) -> Option<Coverage> {
        if self.denied == Relation::Contains {
            return Some(Coverage::None);
        }
        let is_free = self.denied.max(denied_before) == Relation::Apart;
        let whole = if is_free { Coverage::Whole } else { Coverage::Partly };
        (self.read == Relation::Contains).then_some(whole)
    }
}

#[cfg(test)]
mod tests;
