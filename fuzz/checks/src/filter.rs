//! One topic filter and one topic name against the reference.
//!
//! Input: two texts with a line feed between them.

use shards::reject::ReasonCode;
use shards::topic::{TopicFilter, check_name};

use crate::reference;

const LEVELS_MAX: u16 = 8;

/// # Panics
/// If the filter is read or matched in another way than the reference says.
pub fn check(data: &[u8]) {
    let Ok(text) = str::from_utf8(data) else { return };
    let (filter, topic) = text.split_once('\n').unwrap_or((text, "a"));
    let parsed = TopicFilter::parse(filter, LEVELS_MAX);
    let is_good = reference::is_subscription(filter, usize::from(LEVELS_MAX));
    assert_eq!(parsed.is_ok(), is_good, "filter {filter:?}: {parsed:?}");
    let is_name = check_name(topic, LEVELS_MAX).is_ok();
    assert_eq!(is_name, is_good_name(topic), "topic {topic:?}");
    let parsed = match parsed {
        Ok(parsed) => parsed,
        Err(reject) => return assert_eq!(reject.reason, ReasonCode::TopicFilterInvalid),
    };
    let (share, plain) = match reference::split_share(filter) {
        Some((share, plain)) => (Some(share), plain),
        None => (None, filter),
    };
    assert_eq!((parsed.text(), parsed.share(), parsed.filter()), (filter, share, plain));
    assert_eq!(parsed.has_wildcard(), plain.contains(['+', '#']), "filter {filter:?}");
    if is_name {
        let want = reference::matches(plain, topic);
        assert_eq!(parsed.matches(topic), want, "filter {filter:?}, topic {topic:?}");
    }
}

fn is_good_name(topic: &str) -> bool {
    !topic.is_empty()
        && !topic.contains(['+', '#', '\0'])
        && topic.split('/').count() <= usize::from(LEVELS_MAX)
}
