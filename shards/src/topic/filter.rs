//! Topic filters and shared subscriptions: the grammar (MQTT 5.0 sections 4.7 and 4.8.2), and
//! matching in the most obvious way. The trie must agree with [`TopicFilter::matches`].

use super::name::levels;
use crate::reject::{ReasonCode, Reject};

const SHARE_PREFIX: &str = "$share/";

/// A topic filter whose grammar was checked. Borrows its text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TopicFilter<'a> {
    text: &'a str,
    share: Option<&'a str>,
    filter: &'a str,
    has_wildcard: bool,
}

impl<'a> TopicFilter<'a> {
    /// Checks `text`, with or without `$share/<name>/` in front. At most `levels_max` levels, those
    /// of `$share/<name>` not counted.
    ///
    /// # Errors
    /// `TopicFilterInvalid`, and in `why` what is wrong.
    pub fn parse(text: &'a str, levels_max: u16) -> Result<Self, Reject> {
        let (share, filter) = split_share(text)?;
        if filter.is_empty() {
            return Err(invalid("topic filter is empty"));
        }
        if filter.contains('\0') {
            return Err(invalid("topic filter has a NUL character"));
        }
        let mut has_wildcard = false;
        let mut rest = levels(filter).peekable();
        let mut levels_count = 0_u32;
        while let Some(level) = rest.next() {
            // Not at the end: there may be tens of thousands.
            if levels_count == u32::from(levels_max) {
                return Err(invalid("topic filter has too many levels"));
            }
            levels_count += 1;
            has_wildcard |= check_level(level, rest.peek().is_none())?;
        }
        Ok(Self { text, share, filter, has_wildcard })
    }

    /// As the client wrote it.
    #[must_use]
    pub fn text(&self) -> &'a str {
        self.text
    }

    /// The share name, if it is a shared subscription.
    #[must_use]
    pub fn share(&self) -> Option<&'a str> {
        self.share
    }

    /// The filter that topic names are matched against, without `$share/<name>/`.
    #[must_use]
    pub fn filter(&self) -> &'a str {
        self.filter
    }

    #[must_use]
    pub fn has_wildcard(&self) -> bool {
        self.has_wildcard
    }

    /// Whether a topic name matches; level by level, for tests and for rare questions.
    #[must_use]
    pub fn matches(&self, topic: &str) -> bool {
        // MQTT-4.7.2-1: a wildcard in front does not reach topics that begin with `$`.
        if topic.starts_with('$') && self.filter.starts_with(['+', '#']) {
            return false;
        }
        let mut names = levels(topic);
        for level in levels(self.filter) {
            // `#` also matches the parent, so it is looked at before the name's level.
            if level == "#" {
                return true;
            }
            match names.next() {
                Some(name) if level == "+" || level == name => {}
                Some(_) | None => return false,
            }
        }
        names.next().is_none()
    }
}

/// The same of a filter that was checked before, without a share name.
#[must_use]
pub fn has_wildcard(filter: &str) -> bool {
    filter.bytes().any(|byte| matches!(byte, b'+' | b'#'))
}

fn invalid(why: &'static str) -> Reject {
    Reject { reason: ReasonCode::TopicFilterInvalid, why }
}

fn split_share(text: &str) -> Result<(Option<&str>, &str), Reject> {
    let Some(rest) = text.strip_prefix(SHARE_PREFIX) else {
        return Ok((None, text));
    };
    let Some((share, filter)) = rest.split_once('/') else {
        return Err(invalid("shared subscription has no topic filter"));
    };
    if share.is_empty() {
        return Err(invalid("share name is empty"));
    }
    if share.contains(['+', '#']) {
        return Err(invalid("share name has a wildcard"));
    }
    if share.contains('\0') {
        return Err(invalid("share name has a NUL character"));
    }
    Ok((Some(share), filter))
}

/// Whether the level is a wildcard.
fn check_level(level: &str, is_last: bool) -> Result<bool, Reject> {
    match level {
        "+" => Ok(true),
        "#" if is_last => Ok(true),
        "#" => Err(invalid("'#' is not the last level")),
        _ if level.contains('#') => Err(invalid("'#' is not alone in its level")),
        _ if level.contains('+') => Err(invalid("'+' is not alone in its level")),
        _ => Ok(false),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(filter: &str, want: Result<(), &str>) {
        let got = TopicFilter::parse(filter, 4);
        if let Err(reject) = got {
            assert_eq!(reject.reason, ReasonCode::TopicFilterInvalid);
        }
        assert_eq!(got.map(drop).map_err(|reject| reject.why), want, "filter {filter:?}");
    }

    #[track_caller]
    fn check_match(filter: &str, topic: &str, want: bool) {
        let filter = TopicFilter::parse(filter, 128).unwrap();
        assert_eq!(filter.matches(topic), want, "filter {filter:?}, topic {topic:?}");
    }

    #[test]
    fn grammar() {
        check("a/b", Ok(()));
        check("/", Ok(()));
        check("+", Ok(()));
        check("#", Ok(()));
        check("a//+/#", Ok(()));
        check("$SYS/#", Ok(()));
        check("$share", Ok(()));
        check("", Err("topic filter is empty"));
        check("a\0", Err("topic filter has a NUL character"));
        check("a/#/c", Err("'#' is not the last level"));
        check("#/", Err("'#' is not the last level"));
        check("a/b#", Err("'#' is not alone in its level"));
        check("a+/b", Err("'+' is not alone in its level"));
        check("a/b/c/d", Ok(()));
        check("a/b/c/d/e", Err("topic filter has too many levels"));
    }

    #[test]
    fn shared_grammar() {
        check("$share/g/a", Ok(()));
        check("$share/g/a/b/c/d", Ok(()));
        check("$share/g//", Ok(()));
        check("$share/", Err("shared subscription has no topic filter"));
        check("$share/g", Err("shared subscription has no topic filter"));
        check("$share/g/", Err("topic filter is empty"));
        check("$share//a", Err("share name is empty"));
        check("$share/+/a", Err("share name has a wildcard"));
        check("$share/g#/a", Err("share name has a wildcard"));
        check("$share/g\0/a", Err("share name has a NUL character"));

        let shared = TopicFilter::parse("$share/g/a/+", 4).unwrap();
        assert_eq!((shared.share(), shared.filter()), (Some("g"), "a/+"));
        assert_eq!((shared.text(), shared.has_wildcard()), ("$share/g/a/+", true));
        let plain = TopicFilter::parse("a/b", 4).unwrap();
        assert_eq!((plain.share(), plain.filter(), plain.has_wildcard()), (None, "a/b", false));
    }

    #[test]
    fn matching() {
        check_match("a/b", "a/b", true);
        check_match("a/b", "a/b/", false);
        check_match("a/b", "A/b", false);
        check_match("a/#", "a", true);
        check_match("a/#", "a/", true);
        check_match("a/#", "a/b/c", true);
        check_match("a/#", "ab", false);
        check_match("+", "a", true);
        check_match("+", "", true);
        check_match("+", "/a", false);
        check_match("/+", "/a", true);
        check_match("+/+", "/a", true);
        check_match("a/+/c", "a//c", true);
        check_match("a/+", "a", false);
        check_match("#", "a/b", true);
        check_match("+/#", "a", true);
    }

    #[test]
    fn mqtt_5_4_7_2_1_leading_wildcards_do_not_reach_dollar_topics() {
        check_match("#", "$SYS/x", false);
        check_match("+/x", "$SYS/x", false);
        check_match("$share/g/#", "$SYS/x", false);
        check_match("$SYS/#", "$SYS/x", true);
        check_match("$SYS/+", "$SYS/x", true);
        check_match("a/+", "a/$x", true);
    }
}
