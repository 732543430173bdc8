//! The retained messages of one shard, and walks through those that a filter matches.
//!
//! They are ordered level by level: in a key, `/` is written as NUL, which is less than any
//! character that a topic can have. So a topic is followed by all topics below it and then by its
//! next sibling, and a walk that meets a topic which does not match knows the next one that might,
//! and seeks it.

use std::collections::{BTreeMap, BTreeSet, btree_map};
use std::mem;
use std::ops::{Bound, ControlFlow};

use bytes::Bytes;

use crate::ids::{QoS, ShardId};
use crate::time::Time;

/// What the maps and the message's own fields cost, about; counted so that many small messages
/// are bounded too.
const ENTRY_BYTES: u64 = 128;

/// Before a seek the next few topics are tried: they are often what is sought, and near.
const STEPS_BEFORE_SEEK: u32 = 4;

/// Separates the levels of a key. No topic has it (MQTT-1.5.4-2).
const SEPARATOR: char = '\0';
/// The least character above the separator: what begins with a topic and then this lies behind all
/// that is below the topic.
const AFTER_SEPARATOR: char = '\u{1}';

/// The last message kept for a topic.
#[derive(Clone, Debug)]
pub struct RetainedMessage {
    pub qos: QoS,
    /// The properties that are forwarded, as they go on the wire.
    pub properties: Box<[u8]>,
    pub payload: Bytes,
    /// When its message expiry interval ends.
    pub expires: Option<Time>,
    pub received: Time,
    /// The shard that sent it here, if another did, and which of its records this was.
    pub via: Option<(ShardId, u64)>,
}

impl RetainedMessage {
    fn is_expired(&self, now: Time) -> bool {
        self.expires.is_some_and(|expires| expires <= now)
    }

    fn bytes(&self, topic: &str) -> u64 {
        let own = topic.len() + self.properties.len() + self.payload.len();
        u64::try_from(own).unwrap_or(u64::MAX).saturating_add(ENTRY_BYTES)
    }
}

/// There is no room for the message. What was kept for its topic before is kept still.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Full;

/// How far a walk came.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Walk {
    /// All that match were visited.
    Done,
    /// Go on after this topic.
    More(String),
}

/// The retained messages of one shard, which is the owner of their topics.
#[derive(Debug)]
pub struct Retained {
    messages: BTreeMap<Box<str>, RetainedMessage>,
    expiries: BTreeSet<(Time, Box<str>)>,
    bytes: u64,
    messages_max: u32,
    bytes_max: u64,
    /// Room for the key that is looked for.
    key: String,
}

impl Retained {
    #[must_use]
    pub fn new(messages_max: u32, bytes_max: u64) -> Self {
        Self {
            messages: BTreeMap::new(),
            expiries: BTreeSet::new(),
            bytes: 0,
            messages_max,
            bytes_max,
            key: String::new(),
        }
    }

    /// Keeps `message` for `topic` in place of what was kept before. A payload should own no more
    /// memory than it shows: only that is counted.
    ///
    /// # Errors
    /// [`Full`], and nothing has changed.
    pub fn set(&mut self, topic: &str, message: RetainedMessage) -> Result<(), Full> {
        let key = self.take_key(topic);
        let result = self.set_key(&key, message);
        self.key = key;
        result
    }

    /// Forgets the message kept for `topic`. True if there was one.
    pub fn clear(&mut self, topic: &str) -> bool {
        let key = self.take_key(topic);
        let removed = self.remove_key(&key);
        self.key = key;
        removed
    }

    /// Removes messages that have expired, at most `work_max` of them; how many. `gone` hears their
    /// topics.
    pub fn expire(&mut self, now: Time, work_max: usize, mut gone: impl FnMut(&str)) -> usize {
        let mut removed_count = 0;
        let mut topic = String::new();
        while removed_count < work_max {
            let Some((expires, key)) = self.expiries.pop_first() else { break };
            if expires > now {
                self.expiries.insert((expires, key));
                break;
            }
            if let Some(message) = self.messages.remove(&key) {
                self.bytes -= message.bytes(&key);
            }
            set_topic(&key, &mut topic);
            gone(&topic);
            removed_count += 1;
        }
        removed_count
    }

    /// When [`Self::expire`] has something to do.
    #[must_use]
    pub fn next_expiry(&self) -> Option<Time> {
        self.expiries.first().map(|(expires, _)| *expires)
    }

    /// Visits messages that match, in the order of their topics' levels, beginning after topic
    /// `after`, until `work_left` topics were looked at, which it takes off, or `visit` breaks. The message
    /// at which it breaks counts as visited. Expired messages are passed over. `filter` is one that
    /// [`super::TopicFilter`] has checked, without a share name.
    ///
    /// Between two slices anything may change: what is there all the time is visited exactly once,
    /// what comes or goes at most once. A slice looks at one topic at least.
    pub fn walk(
        &self,
        now: Time,
        filter: &str,
        after: Option<&str>,
        work_left: &mut usize,
        mut visit: impl FnMut(&str, &RetainedMessage) -> ControlFlow<()>,
    ) -> Walk {
        let mut target = String::new();
        let Some(mut messages) = self.start(filter, after, &mut target) else { return Walk::Done };
        let mut topic = String::new();
        while let Some((key, message)) = messages.next() {
            let mut is_last = *work_left <= 1;
            *work_left = work_left.saturating_sub(1);
            match compare(filter, key, &mut target) {
                Compared::Match if message.is_expired(now) => {}
                Compared::Match => {
                    set_topic(key, &mut topic);
                    is_last |= visit(&topic, message).is_break();
                }
                Compared::Next => {}
                // The next slice finds out once more; no need to seek for it now.
                Compared::Seek if is_last => {}
                Compared::Seek => messages = self.seek(messages, &target),
                Compared::Never => return Walk::Done,
            }
            if is_last {
                set_topic(key, &mut topic);
                return Walk::More(topic);
            }
        }
        Walk::Done
    }

    #[must_use]
    pub fn find(&self, topic: &str) -> Option<&RetainedMessage> {
        self.messages.get(to_key(topic).as_str())
    }

    #[must_use]
    pub fn messages_count(&self) -> usize {
        self.messages.len()
    }

    /// Topics, properties and payloads, and what it costs to keep them.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Where a slice begins. `None`: nothing that is left can match.
    fn start(
        &self,
        filter: &str,
        after: Option<&str>,
        target: &mut String,
    ) -> Option<Messages<'_>> {
        let Some(after) = after else {
            push_literal_prefix(filter, target);
            return Some(self.from(target));
        };
        let after = to_key(after);
        match compare(filter, &after, target) {
            Compared::Match | Compared::Next => {
                let first = Bound::Excluded(after.as_str());
                Some(self.messages.range::<str, _>((first, Bound::Unbounded)))
            }
            Compared::Seek => Some(self.from(target)),
            Compared::Never => None,
        }
    }

    fn from(&self, target: &str) -> Messages<'_> {
        self.messages.range::<str, _>((Bound::Included(target), Bound::Unbounded))
    }

    /// What lies at `target` and behind: a few steps on from `messages`, or found from the top.
    fn seek<'a>(&'a self, mut messages: Messages<'a>, target: &str) -> Messages<'a> {
        for _ in 0..STEPS_BEFORE_SEEK {
            let here = messages.clone();
            match messages.next() {
                Some((key, _)) if **key < *target => {}
                Some(_) | None => return here,
            }
        }
        self.from(target)
    }

    fn set_key(&mut self, key: &str, message: RetainedMessage) -> Result<(), Full> {
        let expires = message.expires;
        let new_bytes = message.bytes(key);
        if let Some(kept) = self.messages.get_mut(key) {
            let rest = self.bytes - kept.bytes(key);
            if rest.saturating_add(new_bytes) > self.bytes_max {
                return Err(Full);
            }
            self.bytes = rest + new_bytes;
            let old = mem::replace(kept, message);
            self.forget_expiry(key, old.expires);
        } else {
            let is_full = self.messages.len() >= self.messages_max as usize;
            if is_full || self.bytes.saturating_add(new_bytes) > self.bytes_max {
                return Err(Full);
            }
            self.bytes += new_bytes;
            self.messages.insert(key.into(), message);
        }
        if let Some(expires) = expires {
            self.expiries.insert((expires, key.into()));
        }
        Ok(())
    }

    fn remove_key(&mut self, key: &str) -> bool {
        let Some(message) = self.messages.remove(key) else { return false };
        self.bytes -= message.bytes(key);
        self.forget_expiry(key, message.expires);
        true
    }

    fn forget_expiry(&mut self, key: &str, expires: Option<Time>) {
        if let Some(expires) = expires {
            self.expiries.remove(&(expires, key.into()));
        }
    }

    fn take_key(&mut self, topic: &str) -> String {
        let mut key = mem::take(&mut self.key);
        set_key(topic, &mut key);
        key
    }
}

type Messages<'a> = btree_map::Range<'a, Box<str>, RetainedMessage>;

/// What a topic is to a filter.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Compared {
    Match,
    /// No match; the next one may be.
    Next,
    /// No match; none before `target` is.
    Seek,
    /// No match, and none behind it is.
    Never,
}

/// Compares a key with a filter; for `Seek`, `target` is where to go on, always behind `key`.
fn compare(filter: &str, key: &str, target: &mut String) -> Compared {
    let mut names = key.split(SEPARATOR);
    // How much of the key lies before the level in question, and where the last level matched by
    // `+` ends: the only place where the key can become greater and still match.
    let mut matched = 0;
    let mut plus_end = None;
    for (depth, level) in filter.split('/').enumerate() {
        let is_hidden = depth == 0 && key.starts_with('$');
        let level_start = if depth == 0 { 0 } else { matched + 1 };
        if level == "#" {
            return if is_hidden { seek_past_dollar(target) } else { Compared::Match };
        }
        let Some(name) = names.next() else {
            // A topic above the filter's. Those below it come right behind it.
            if level == "+" {
                return Compared::Next;
            }
            return seek(target, key, SEPARATOR, level);
        };
        if level == "+" {
            if is_hidden {
                return seek_past_dollar(target);
            }
            plus_end = Some(level_start + name.len());
        } else if name < level {
            let above = key.get(..level_start).unwrap_or_default();
            target.clear();
            target.push_str(above);
            target.push_str(level);
            return Compared::Seek;
        } else if name > level {
            return seek_next(target, key, plus_end);
        }
        matched = level_start + name.len();
    }
    if names.next().is_none() { Compared::Match } else { seek_next(target, key, plus_end) }
}

/// To the first topic whose level that `+` matched is greater.
fn seek_next(target: &mut String, key: &str, plus_end: Option<usize>) -> Compared {
    match plus_end.and_then(|end| key.get(..end)) {
        Some(above) => seek(target, above, AFTER_SEPARATOR, ""),
        None => Compared::Never,
    }
}

fn seek(target: &mut String, above: &str, between: char, below: &str) -> Compared {
    target.clear();
    target.push_str(above);
    target.push(between);
    target.push_str(below);
    Compared::Seek
}

fn seek_past_dollar(target: &mut String) -> Compared {
    target.clear();
    // The character behind `$`.
    target.push('%');
    Compared::Seek
}

/// The levels before the first wildcard: no topic that matches is less.
fn push_literal_prefix(filter: &str, target: &mut String) {
    let literals = filter.split('/').take_while(|level| !matches!(*level, "+" | "#"));
    for (index, level) in literals.enumerate() {
        if index > 0 {
            target.push(SEPARATOR);
        }
        target.push_str(level);
    }
}

fn to_key(topic: &str) -> String {
    let mut key = String::new();
    set_key(topic, &mut key);
    key
}

fn set_key(topic: &str, key: &mut String) {
    key.clear();
    key.extend(topic.chars().map(|char| if char == '/' { SEPARATOR } else { char }));
}

fn set_topic(key: &str, topic: &mut String) {
    topic.clear();
    topic.extend(key.chars().map(|char| if char == SEPARATOR { '/' } else { char }));
}

#[cfg(test)]
mod tests {
    use super::super::filter::TopicFilter;
    use super::super::tests::Random;
    use super::*;

    fn message(expires: Option<u64>) -> RetainedMessage {
        RetainedMessage {
            qos: QoS::AtMostOnce,
            properties: Box::default(),
            payload: Bytes::from_static(b"payload"),
            expires: expires.map(Time::from_secs),
            received: Time::ZERO,
            via: None,
        }
    }

    fn kept(topics: &[&str]) -> Retained {
        let mut retained = Retained::new(1000, u64::MAX);
        for topic in topics {
            retained.set(topic, message(None)).unwrap();
        }
        retained
    }

    /// All that match, and how many slices of one topic each it took.
    fn collect(retained: &Retained, now: Time, filter: &str) -> (Vec<String>, usize) {
        let mut topics = Vec::new();
        let mut after: Option<String> = None;
        let mut slices = 0;
        loop {
            slices += 1;
            let walk = retained.walk(now, filter, after.as_deref(), &mut 1, |topic, _| {
                topics.push(topic.to_owned());
                ControlFlow::Continue(())
            });
            match walk {
                Walk::Done => return (topics, slices),
                Walk::More(topic) => after = Some(topic),
            }
        }
    }

    #[track_caller]
    fn check(retained: &Retained, filter: &str, want: &[&str]) {
        assert_eq!(collect(retained, Time::ZERO, filter).0, want, "filter {filter:?}");
    }

    #[test]
    fn order_is_by_level() {
        let retained = kept(&["a/b", "a!b", "a", "a/b/c", "a0", "b", "$x/y", "/", "a//c"]);
        check(&retained, "#", &["/", "a", "a//c", "a/b", "a/b/c", "a!b", "a0", "b"]);
        check(&retained, "a/#", &["a", "a//c", "a/b", "a/b/c"]);
        check(&retained, "+", &["a", "a!b", "a0", "b"]);
        check(&retained, "a/+/c", &["a//c", "a/b/c"]);
        check(&retained, "+/+", &["/", "a/b"]);
        check(&retained, "$x/+", &["$x/y"]);
        check(&retained, "a/b", &["a/b"]);
        check(&retained, "a/c", &[]);
    }

    #[test]
    fn a_selective_filter_looks_at_few_topics() {
        let mut retained = Retained::new(100_000, u64::MAX);
        for device in 0..100 {
            for value in 0..100 {
                retained.set(&format!("device/{device}/{value:03}/x"), message(None)).unwrap();
            }
        }
        let (topics, slices) = collect(&retained, Time::ZERO, "device/+/050/x");
        assert_eq!(topics.len(), 100);
        assert!(slices < 450, "{slices} slices");
        let (topics, slices) = collect(&retained, Time::ZERO, "device/7/+/y");
        assert_eq!(topics.len(), 0);
        assert!(slices < 210, "{slices} slices");
        let (topics, slices) = collect(&retained, Time::ZERO, "device/7/050/x");
        assert!(topics.len() == 1 && slices < 4, "{slices} slices");
    }

    #[test]
    fn bounds_hold_and_a_replacement_frees_what_it_replaces() {
        let mut retained = Retained::new(2, 3 * ENTRY_BYTES);
        assert_eq!(retained.set("a", message(Some(5))), Ok(()));
        assert_eq!(retained.set("b", message(None)), Ok(()));
        assert_eq!(retained.set("c", message(None)), Err(Full));
        let mut large = message(None);
        large.payload = Bytes::from(vec![0; 4 * 128]);
        assert_eq!(retained.set("b", large), Err(Full));
        assert_eq!(retained.find("b").map(|kept| kept.payload.len()), Some(7));
        assert_eq!(retained.next_expiry(), Some(Time::from_secs(5)));
        assert_eq!(retained.set("a", message(None)), Ok(()));
        assert_eq!(retained.next_expiry(), None);
        assert!(retained.clear("a") && !retained.clear("a") && retained.clear("b"));
        assert_eq!((retained.messages_count(), retained.bytes()), (0, 0));
    }

    #[test]
    fn expired_messages_are_not_visited_and_then_removed() {
        let mut retained = kept(&["c"]);
        retained.set("a", message(Some(5))).unwrap();
        retained.set("b", message(Some(6))).unwrap();
        let now = Time::from_secs(5);
        assert_eq!(collect(&retained, now, "#").0, ["b", "c"]);
        let mut gone = Vec::new();
        assert_eq!(retained.expire(now, 9, |topic| gone.push(topic.to_owned())), 1);
        assert_eq!(retained.expire(now, 9, |topic| gone.push(topic.to_owned())), 0);
        assert_eq!(gone, ["a"]);
        assert_eq!(retained.next_expiry(), Some(Time::from_secs(6)));
        assert_eq!(retained.expire(Time::from_secs(9), 9, |_| {}), 1);
        assert_eq!(retained.messages_count(), 1);
    }

    #[test]
    fn the_message_at_which_a_visit_breaks_was_visited() {
        let retained = kept(&["a", "b", "c"]);
        let walk =
            |after| retained.walk(Time::ZERO, "#", after, &mut 9, |_, _| ControlFlow::Break(()));
        assert_eq!(walk(None), Walk::More("a".into()));
        assert_eq!(walk(Some("a")), Walk::More("b".into()));
        assert_eq!(walk(Some("c")), Walk::Done);
    }

    /// A walk in slices, while messages come and go in between: what stays is visited once, what
    /// does not match never.
    #[test]
    fn walks_agree_with_the_reference_under_churn() {
        for seed in 0..200 {
            let mut random = Random(seed);
            let mut retained = Retained::new(10_000, u64::MAX);
            for _ in 0..random.below(120) {
                retained.set(&random.topic(), message(None)).unwrap();
            }
            let text = random.filter();
            let filter = TopicFilter::parse(&text, 128).unwrap();
            let all = |retained: &Retained| -> BTreeSet<String> {
                let topics = retained.messages.keys().map(|key| key.replace('\0', "/"));
                topics.filter(|topic| filter.matches(topic)).collect()
            };
            let (mut always, mut ever) = (all(&retained), all(&retained));
            let mut visited = Vec::new();
            let mut after: Option<String> = None;
            loop {
                let mut work_left = usize::try_from(1 + random.below(5)).unwrap();
                let walk = retained.walk(
                    Time::ZERO,
                    &text,
                    after.as_deref(),
                    &mut work_left,
                    |topic, _| {
                        visited.push(topic.to_owned());
                        if random.below(4) == 0 {
                            ControlFlow::Break(())
                        } else {
                            ControlFlow::Continue(())
                        }
                    },
                );
                let Walk::More(topic) = walk else { break };
                after = Some(topic);
                let topic = random.topic();
                if random.below(2) == 0 {
                    retained.clear(&topic);
                } else {
                    retained.set(&topic, message(None)).unwrap();
                }
                let present = all(&retained);
                always.retain(|topic| present.contains(topic));
                ever.extend(present);
            }
            let once: BTreeSet<String> = visited.iter().cloned().collect();
            assert_eq!(once.len(), visited.len(), "seed {seed}: {text:?} visited twice");
            assert!(
                always.is_subset(&once),
                "seed {seed}: {text:?} missed {always:?}, saw {once:?}"
            );
            assert!(once.is_subset(&ever), "seed {seed}: {text:?} saw what was not there");
        }
    }
}
