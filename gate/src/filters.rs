//! Topic filters as permissions: what they match, and how two of them lie to each other.
//!
//! Nothing here allocates. A filter may come as pieces (a pattern whose variables stand for names), so it
//! is matched byte by byte and never put together.

/// How a filter ends. What stands before is its body.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Tail {
    /// With the body.
    Exact,
    /// `/#`: the body's topic and all below.
    Below,
    /// The filter is `#`, its body is empty.
    Everything,
}

/// Where the topics of one filter are, seen from another.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Relation {
    /// No topic matches both.
    Apart,
    /// Some may match both.
    Overlaps,
    /// Whatever matches the other matches this one.
    Contains,
}

/// What is wrong with a topic filter, if anything is.
pub(crate) fn problem_of(filter: &str) -> Option<&'static str> {
    if filter.is_empty() {
        return Some("a topic filter is empty");
    }
    if filter.len() > usize::from(u16::MAX) {
        return Some("a topic filter is longer than 65535 bytes");
    }
    if filter.contains('\0') {
        return Some("a topic filter has a NUL character");
    }
    let mut levels = filter.split('/').peekable();
    while let Some(level) = levels.next() {
        match level {
            "+" => {}
            "#" if levels.peek().is_none() => {}
            "#" => return Some("'#' is not the last level of a topic filter"),
            _ if level.contains(['+', '#']) => {
                return Some("a wildcard is not alone in its level of a topic filter");
            }
            _ => {}
        }
    }
    None
}

pub(crate) fn has_wildcard(filter: &str) -> bool {
    filter.contains(['+', '#'])
}

/// What a shared subscription is about, or the filter itself.
pub(crate) fn without_share(filter: &str) -> &str {
    let shared = filter.strip_prefix("$share/").and_then(|rest| rest.split_once('/'));
    shared.map_or(filter, |(_, plain)| plain)
}

/// Cuts a checked filter into body and tail.
pub(crate) fn split_tail(filter: &str) -> (&str, Tail) {
    if filter == "#" {
        return ("", Tail::Everything);
    }
    match filter.strip_suffix("/#") {
        Some(body) => (body, Tail::Below),
        None => (filter, Tail::Exact),
    }
}

/// Whether a topic matches a checked filter.
pub(crate) fn matches(filter: &str, topic: &str) -> bool {
    let (body, tail) = split_tail(filter);
    matches_bytes(body.bytes(), tail, topic)
}

/// The same for a body that comes in pieces. Each `+` in it must be a level of its own.
pub(crate) fn matches_bytes(body: impl Iterator<Item = u8>, tail: Tail, topic: &str) -> bool {
    let topic = topic.as_bytes();
    let is_special = topic.first() == Some(&b'$');
    if tail == Tail::Everything {
        return !is_special;
    }
    let mut at = 0;
    for byte in body {
        if byte == b'+' {
            // MQTT-4.7.2-1: a wildcard in front does not reach topics that begin with `$`.
            if at == 0 && is_special {
                return false;
            }
            let rest = topic.get(at..).unwrap_or_default();
            at += rest.iter().take_while(|&&byte| byte != b'/').count();
        } else if topic.get(at) == Some(&byte) {
            at += 1;
        } else {
            return false;
        }
    }
    match topic.get(at) {
        None => true,
        Some(&next) => tail == Tail::Below && next == b'/',
    }
}

/// How the topics of `filter` lie to those of `other`. Both are checked, and may be without wildcards.
pub(crate) fn relation(filter: &str, other: &str) -> Relation {
    let is_wild = |text: &str| text.starts_with(['+', '#']);
    if is_wild(filter) && other.starts_with('$') || is_wild(other) && filter.starts_with('$') {
        return Relation::Apart;
    }
    let mut found = Relation::Contains;
    let mut others = other.split('/');
    for level in filter.split('/') {
        if level == "#" {
            return found;
        }
        match others.next() {
            // It goes on below; this filter stops here or further down.
            Some("#") => return Relation::Overlaps,
            Some(_) if level == "+" => {}
            Some("+") => found = Relation::Overlaps,
            Some(other) if other == level => {}
            Some(_) | None => return Relation::Apart,
        }
    }
    match others.next() {
        None => found,
        // Its topics include the parent of `#`.
        Some("#") => Relation::Overlaps,
        Some(_) => Relation::Apart,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// All filters of up to three levels over a small alphabet; names are those without wildcards.
    fn all(alphabet: &[&str]) -> Vec<String> {
        let mut texts: Vec<String> = alphabet.iter().map(|&level| level.to_owned()).collect();
        let mut last = texts.clone();
        for _ in 0..2 {
            last = last
                .iter()
                .flat_map(|text| alphabet.iter().map(move |level| format!("{text}/{level}")))
                .collect();
            texts.extend_from_slice(&last);
        }
        texts.retain(|text| !text.is_empty());
        texts
    }

    /// Split at slashes and recurse: slow and obvious.
    fn obvious(filter: &[&str], topic: &[&str]) -> bool {
        match (filter, topic) {
            (["#"], _) | ([], []) => true,
            ([first, filter @ ..], [name, topic @ ..]) => {
                (*first == "+" || first == name) && obvious(filter, topic)
            }
            _ => false,
        }
    }

    fn obvious_match(filter: &str, topic: &str) -> bool {
        let filter_levels: Vec<&str> = filter.split('/').collect();
        let topic_levels: Vec<&str> = topic.split('/').collect();
        !(topic.starts_with('$') && filter.starts_with(['+', '#']))
            && obvious(&filter_levels, &topic_levels)
    }

    #[test]
    fn matches_as_the_obvious_does() {
        let topics = all(&["", "a", "b", "$x"]);
        let filters = all(&["", "a", "$x", "+", "#"]);
        for filter in filters.iter().filter(|filter| problem_of(filter).is_none()) {
            for topic in &topics {
                let want = obvious_match(filter, topic);
                assert_eq!(matches(filter, topic), want, "filter {filter:?}, topic {topic:?}");
            }
        }
    }

    #[test]
    fn relations_agree_with_matching() {
        let mut topics = all(&["", "a", "b", "$x"]);
        // No topic of a message, but what `+` and `/#` have in common.
        topics.push(String::new());
        let filters: Vec<String> = all(&["", "a", "$x", "+", "#"])
            .into_iter()
            .filter(|filter| problem_of(filter).is_none())
            .collect();
        for filter in &filters {
            for other in &filters {
                let theirs = || topics.iter().filter(|topic| matches(other, topic));
                let found = relation(filter, other);
                let some = theirs().any(|topic| matches(filter, topic));
                let all = theirs().all(|topic| matches(filter, topic));
                let place = format!("{filter:?} to {other:?}: {found:?}");
                assert!(!some || found != Relation::Apart, "{place}");
                assert!(found != Relation::Contains || all, "{place}");
                // Not needed for safety, but that is how exact it is.
                assert!(some || found == Relation::Apart, "{place}");
            }
        }
    }

    #[test]
    fn says_what_is_wrong_with_a_filter() {
        for good in ["a", "/", "+", "#", "a/#", "+/b", "//#", "$SYS/#", "a b", "ä/+"] {
            assert_eq!(problem_of(good), None, "{good}");
        }
        for bad in ["", "a#", "a/#/b", "#/", "+a", "a/b+", "a\0", &"a".repeat(65_536)] {
            assert!(problem_of(bad).is_some(), "{bad}");
        }
    }
}
