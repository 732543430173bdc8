//! Topic names: the grammar (MQTT 5.0 section 4.7), their levels, and the hash that says who owns
//! one.

use super::hash::Seeded;
use super::text::slash;
use crate::reject::{ReasonCode, Reject};

/// Checks a topic name: not empty, no wildcard, no NUL, at most `levels_max` levels. That it is
/// UTF-8 and at most 65,535 bytes long is the wire's promise.
///
/// # Errors
/// `TopicNameInvalid`, and in `why` what is wrong.
pub fn check_name(topic: &str, levels_max: u16) -> Result<(), Reject> {
    let invalid = |why| Err(Reject { reason: ReasonCode::TopicNameInvalid, why });
    if topic.is_empty() {
        return invalid("topic name is empty");
    }
    let mut levels_count = 1_u32;
    for byte in topic.bytes() {
        match byte {
            b'+' | b'#' => return invalid("topic name has a wildcard"),
            0 => return invalid("topic name has a NUL character"),
            b'/' => levels_count = levels_count.saturating_add(1),
            _ => {}
        }
    }
    if levels_count > u32::from(levels_max) {
        return invalid("topic name has too many levels");
    }
    Ok(())
}

/// The levels of a topic name or filter; empty ones count.
pub fn levels(topic: &str) -> impl Iterator<Item = &str> {
    Levels { rest: Some(topic) }
}

/// Most levels are short, and `str::split` sets up a search for each.
struct Levels<'a> {
    rest: Option<&'a str>,
}

impl<'a> Iterator for Levels<'a> {
    type Item = &'a str;

    #[inline]
    fn next(&mut self) -> Option<&'a str> {
        let rest = self.rest?;
        let split = first_slash(rest.as_bytes()).and_then(|at| rest.split_at_checked(at));
        let Some((level, behind)) = split else {
            self.rest = None;
            return Some(rest);
        };
        self.rest = behind.get(1..);
        Some(level)
    }
}

/// [`slash`] looks at whole words only.
fn first_slash(bytes: &[u8]) -> Option<usize> {
    let (words, tail) = bytes.as_chunks::<8>();
    let in_tail = || tail.iter().position(|&byte| byte == b'/').map(|at| 8 * words.len() + at);
    slash(bytes).or_else(in_tail)
}

/// A hash that is the same in every run and on every machine: it names the owner of a retained
/// topic and the slot of a client identifier. Anybody can compute it, so no hash table may rely on
/// it.
#[must_use]
pub fn topic_hash(topic: &[u8]) -> u64 {
    const PUBLIC: Seeded = Seeded::new(0x6d75_7269_6e67_2031);
    PUBLIC.bytes(topic)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(topic: &str, want: Result<(), &str>) {
        let got = check_name(topic, 4);
        assert_eq!(got.map_err(|reject| reject.why), want, "topic {topic:?}");
        if let Err(reject) = got {
            assert_eq!(reject.reason, ReasonCode::TopicNameInvalid);
        }
    }

    #[test]
    fn names_are_checked() {
        check("a", Ok(()));
        check("/", Ok(()));
        check("a//b/", Ok(()));
        check("$SYS/x", Ok(()));
        check("Ünïcode / with space", Ok(()));
        check("", Err("topic name is empty"));
        check("a/+", Err("topic name has a wildcard"));
        check("a#", Err("topic name has a wildcard"));
        check("a\0b", Err("topic name has a NUL character"));
        check("////", Err("topic name has too many levels"));
    }

    #[test]
    fn empty_levels_count() {
        assert_eq!(levels("/a//").collect::<Vec<_>>(), ["", "a", "", ""]);
    }

    #[test]
    fn the_public_hash_never_changes() {
        // A stored slot map depends on these values.
        assert_eq!(topic_hash(b""), 17_624_736_580_693_994_273);
        assert_eq!(topic_hash(b"a"), 8_063_407_905_754_290_767);
        assert_eq!(topic_hash(b"site/7/device/42/temperature"), 1_569_273_577_389_395_788);
    }
}
