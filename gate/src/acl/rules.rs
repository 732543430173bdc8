//! The lines of one user, or all patterns, in a form that answers quickly: filters without wildcards are
//! looked up, the others are tried one after the other.

use std::cmp::Ordering;
use std::collections::BTreeSet;
use std::iter;

use crate::filters::{self, Relation, Tail};

use super::{Access, Subject};

/// What a list of lines denies and permits.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Rules {
    pub(super) denied: Set,
    pub(super) read: Set,
    pub(super) write: Set,
}

impl Rules {
    pub(super) fn of(&self, access: Access) -> &Set {
        match access {
            Access::Read => &self.read,
            Access::Write => &self.write,
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        [&self.denied, &self.read, &self.write].into_iter().all(Set::is_empty)
    }
}

/// Topics, as filters.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Set {
    /// Without wildcards and variables; sorted.
    exact: Box<[Box<str>]>,
    wild: Box<[Box<str>]>,
    templates: Box<[Template]>,
}

impl Set {
    /// `filters` are checked. Whether `%c` and `%u` stand for something is the caller's to say.
    pub(super) fn new(filters: &BTreeSet<&str>, has_variables: bool) -> Self {
        let mut exact: Vec<Box<str>> = Vec::new();
        let mut wild: Vec<Box<str>> = Vec::new();
        let mut templates = Vec::new();
        for &filter in filters {
            let template = has_variables.then(|| Template::parse(filter)).flatten();
            match template {
                Some(template) => templates.push(template),
                None if filters::has_wildcard(filter) => wild.push(filter.into()),
                None => exact.push(filter.into()),
            }
        }
        Self { exact: exact.into(), wild: wild.into(), templates: templates.into() }
    }

    fn is_empty(&self) -> bool {
        self.exact.is_empty() && self.wild.is_empty() && self.templates.is_empty()
    }

    pub(super) fn matches(&self, who: &Subject<'_>, topic: &str) -> bool {
        self.exact.binary_search_by(|filter| (**filter).cmp(topic)).is_ok()
            || self.wild.iter().any(|filter| filters::matches(filter, topic))
            || self.templates.iter().any(|template| template.matches(who, topic))
    }

    /// How this set lies to what `filter` matches. Two filters that contain it only together are not
    /// seen to.
    pub(super) fn relation(&self, who: &Subject<'_>, filter: &str) -> Relation {
        let exact = self.near(filter).map(|own| filters::relation(own, filter));
        let wild = self.wild.iter().map(|own| filters::relation(own, filter));
        let filled = self.templates.iter().filter_map(|template| template.filled(who));
        let templates = filled.map(|own| filters::relation(&own, filter));
        let mut found = Relation::Apart;
        for relation in exact.chain(wild).chain(templates) {
            found = found.max(relation);
            if found == Relation::Contains {
                break;
            }
        }
        found
    }

    /// Of the exact ones those that begin as the filter does up to its first wildcard.
    fn near(&self, filter: &str) -> impl Iterator<Item = &str> {
        // Without the slash before the wildcard: `a/#` also matches `a`.
        let begin = filter.find(['+', '#']).map_or(filter.len(), |at| at.saturating_sub(1));
        let begin = filter.get(..begin).unwrap_or_default();
        let first = self.exact.partition_point(|own| (**own).cmp(begin) == Ordering::Less);
        let rest = self.exact.iter().skip(first);
        rest.take_while(move |own| own.starts_with(begin)).map(|own| &**own)
    }
}

/// A filter with variables.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Template {
    /// Of the body, in order.
    pieces: Box<[Piece]>,
    tail: Tail,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Piece {
    Text(Box<str>),
    ClientId,
    User,
}

impl Template {
    /// `None` if there is no variable in it.
    pub(super) fn parse(filter: &str) -> Option<Self> {
        let (body, tail) = filters::split_tail(filter);
        let mut pieces = Vec::new();
        let mut rest = body;
        while let Some((at, piece)) = first_variable(rest) {
            let (before, behind) = rest.split_at(at);
            pieces.extend((!before.is_empty()).then(|| Piece::Text(before.into())));
            pieces.push(piece);
            rest = behind.get(2..).unwrap_or_default();
        }
        if pieces.is_empty() {
            return None;
        }
        pieces.extend((!rest.is_empty()).then(|| Piece::Text(rest.into())));
        Some(Self { pieces: pieces.into(), tail })
    }

    fn matches(&self, who: &Subject<'_>, topic: &str) -> bool {
        if !self.is_for(who) {
            return false;
        }
        let body = self.texts(who).flat_map(str::bytes);
        filters::matches_bytes(body, self.tail, topic)
    }

    /// The filter that it is for this client, if any.
    pub(super) fn filled(&self, who: &Subject<'_>) -> Option<String> {
        let tail = match self.tail {
            Tail::Exact => "",
            Tail::Below => "/#",
            Tail::Everything => "#",
        };
        self.is_for(who).then(|| self.texts(who).chain(iter::once(tail)).collect())
    }

    fn is_for(&self, who: &Subject<'_>) -> bool {
        who.user.is_some() || !self.pieces.contains(&Piece::User)
    }

    fn texts<'a>(&'a self, who: &Subject<'a>) -> impl Iterator<Item = &'a str> {
        let Subject { client_id, user } = *who;
        self.pieces.iter().map(move |piece| match piece {
            Piece::Text(text) => text,
            Piece::ClientId => client_id,
            Piece::User => user.unwrap_or_default(),
        })
    }
}

fn first_variable(text: &str) -> Option<(usize, Piece)> {
    let client_id = text.find("%c").map(|at| (at, Piece::ClientId));
    let user = text.find("%u").map(|at| (at, Piece::User));
    client_id.into_iter().chain(user).min_by_key(|(at, _)| *at)
}
