//! The answer of the index for a topic, kept until a change of the index may have altered it.
//!
//! A kept answer is already merged: one [`Target`] per session, however many of its subscriptions
//! overlap (MQTT 5.0 section 3.3.4). The cache belongs to one shard and is bounded in entries and
//! in bytes; a topic that is not kept is answered all the same.

use std::mem;
use std::ops::Range;

use super::epochs::Stamp;
use super::hash::Seeded;
use super::pieces::Pieces;
use super::share::GroupId;
use super::subscriber::{Hits, Subscriber};
use super::trie::Trie;
use crate::ids::{QoS, SessionId, SubscriptionId};
use crate::limits::SUBSCRIPTION_IDS_MAX;

/// An answer with more targets is not kept: to walk is cheap beside delivering to so many.
const TARGETS_MAX: usize = 65_536;

/// A longer topic is not kept; few are, and a key must not cost more than its answer.
const TOPIC_BYTES_MAX: usize = 1024;

/// What an entry may cost on average. Many entries are small, so a few may be large.
const ENTRY_BYTES_MEAN: usize = 1024;

/// Kept answers together may always have this size, so that the largest one fits.
const CACHE_BYTES_MIN: usize = 4 * TARGETS_MAX * size_of::<Target>();

/// Places in which a topic can be.
const WAYS: usize = 2;

/// Which of a session's matching subscriptions are no-local.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NoLocal {
    None,
    /// The publisher's own session gets nothing.
    All,
    /// The publisher's own session gets what the others give: see [`Targets::of_publisher`].
    Some,
}

/// One delivery to one session, its overlapping subscriptions merged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Target {
    pub session: SessionId,
    ids_start: u32,
    ids_count: u8,
    /// The highest granted.
    pub qos: QoS,
    flags: u8,
    pub no_local: NoLocal,
}

const RETAIN_AS_PUBLISHED: u8 = 1;
const CHECKED: u8 = 2;

const _: () = assert!(size_of::<Target>() == 12);
const _: () = assert!(SUBSCRIPTION_IDS_MAX <= u8::MAX as usize);

/// Where a topic's message goes.
#[derive(Debug, Default)]
pub struct Targets {
    /// This shard's own ordinary subscribers, each session once.
    pub targets: Vec<Target>,
    /// What sessions get of their own messages that have [`NoLocal::Some`], in the order of their numbers.
    of_publishers: Vec<Target>,
    ids: Vec<SubscriptionId>,
    /// The other shards that have subscribers, one bit each.
    pub remote: u64,
    /// Matching shared groups with members on any shard.
    pub groups: Vec<GroupId>,
}

impl Targets {
    /// The subscription identifiers of one of `self.targets`, in rising order.
    #[must_use]
    pub fn ids(&self, target: &Target) -> &[SubscriptionId] {
        self.ids.get(target.ids()).unwrap_or_default()
    }

    /// What the publisher's own session gets, with [`NoLocal::Some`]: its subscriptions that are not
    /// no-local, merged.
    #[must_use]
    pub fn of_publisher(&self, publisher: SessionId) -> Option<&Target> {
        let at = self.of_publishers.binary_search_by_key(&publisher, |target| target.session);
        self.of_publishers.get(at.ok()?)
    }

    /// Nobody anywhere.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.targets.is_empty() && self.remote == 0 && self.groups.is_empty()
    }

    /// Replaces the answer by what a walk found, the subscriptions of each session merged.
    fn fill(&mut self, hits: &mut Hits) {
        self.clear();
        self.remote = hits.remote;
        self.groups.extend_from_slice(&hits.groups);
        // One filter has a session once, so there is nothing to merge and order does not matter.
        if hits.sources > 1 {
            hits.subscribers.sort_unstable_by_key(|hit| (hit.session, hit.id));
        }
        for hits in hits.subscribers.chunk_by(|one, next| one.session == next.session) {
            let Some(target) = merge(hits, &mut self.ids) else { continue };
            self.targets.push(target);
            if target.no_local == NoLocal::Some {
                let others = hits.iter().filter(|hit| !hit.options.no_local());
                let others: Vec<_> = others.copied().collect();
                self.of_publishers.extend(merge(&others, &mut self.ids));
            }
        }
    }

    fn clear(&mut self) {
        self.targets.clear();
        self.of_publishers.clear();
        self.ids.clear();
        self.groups.clear();
        self.remote = 0;
    }

    fn bytes(&self) -> usize {
        (self.targets.capacity() + self.of_publishers.capacity()) * size_of::<Target>()
            + self.ids.capacity() * size_of::<SubscriptionId>()
            + self.groups.capacity() * size_of::<GroupId>()
    }
}

impl Target {
    /// At least one of the subscriptions asked for it.
    #[must_use]
    pub fn retain_as_published(&self) -> bool {
        self.flags & RETAIN_AS_PUBLISHED != 0
    }

    /// All of the subscriptions are wider than what their client may receive.
    #[must_use]
    pub fn is_checked(&self) -> bool {
        self.flags & CHECKED != 0
    }

    fn ids(&self) -> Range<usize> {
        let start = self.ids_start as usize;
        start..start + usize::from(self.ids_count)
    }
}

/// One session's matching subscriptions, made one target. `None` if there are none.
fn merge(hits: &[Subscriber], ids: &mut Vec<SubscriptionId>) -> Option<Target> {
    let session = hits.first()?.session;
    let start = ids.len();
    for id in hits.iter().filter_map(|hit| hit.id).take(SUBSCRIPTION_IDS_MAX) {
        // Sorted by identifier: equal ones are neighbours, and one is enough.
        if ids.get(start..).and_then(<[_]>::last) != Some(&id) {
            ids.push(id);
        }
    }
    let retain_as_published = hits.iter().any(|hit| hit.options.retain_as_published());
    let is_checked = hits.iter().all(|hit| hit.options.is_checked());
    let no_local_count = hits.iter().filter(|hit| hit.options.no_local()).count();
    Some(Target {
        session,
        ids_start: u32::try_from(start).ok()?,
        ids_count: u8::try_from(ids.len() - start).ok()?,
        qos: hits.iter().map(|hit| hit.options.qos()).max()?,
        flags: if retain_as_published { RETAIN_AS_PUBLISHED } else { 0 }
            | if is_checked { CHECKED } else { 0 },
        no_local: match no_local_count {
            0 => NoLocal::None,
            all if all == hits.len() => NoLocal::All,
            _ => NoLocal::Some,
        },
    })
}

#[derive(Debug)]
struct Entry {
    topic: Vec<u8>,
    stamp: Stamp,
    targets: Targets,
}

impl Entry {
    fn bytes(&self) -> usize {
        size_of::<Self>() + self.topic.capacity() + self.targets.bytes()
    }
}

/// A place for an entry, with its hash in front so that a wrong one is passed over unread.
#[derive(Debug, Default)]
struct Way {
    hash: u64,
    entry: Option<Box<Entry>>,
}

/// Which answer [`TargetCache::lookup`] found; good until the next lookup.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Found(Option<usize>);

/// Topics to targets, for one shard. Two places per topic; the one used less recently makes room.
#[derive(Debug)]
pub struct TargetCache {
    keys: Seeded,
    entries_max: usize,
    /// Empty until the first lookup.
    ways: Vec<Way>,
    bytes: usize,
    /// Where the search for something to drop goes on when the entries take too many bytes.
    hand: usize,
    /// The answer that is not kept.
    unkept: Targets,
    hits: Hits,
    hit_count: u64,
    miss_count: u64,
    work: u64,
    pieces: Pieces,
}

impl TargetCache {
    /// At most `entries_max` entries, rounded up to a power of two.
    #[must_use]
    pub fn new(seed: u64, entries_max: usize) -> Self {
        Self {
            keys: Seeded::new(seed),
            entries_max: entries_max.max(WAYS).next_power_of_two(),
            ways: Vec::new(),
            bytes: 0,
            hand: 0,
            unkept: Targets::default(),
            hits: Hits::new(),
            hit_count: 0,
            miss_count: 0,
            work: 0,
            pieces: Pieces::default(),
        }
    }

    /// Where a message on `topic` goes.
    pub fn targets(&mut self, trie: &Trie, topic: &str) -> &Targets {
        let found = self.lookup(trie, topic);
        self.at(found)
    }

    /// How many nodes of the index were looked at, and how many targets were answered, so far.
    #[must_use]
    #[inline]
    pub fn work(&self) -> u64 {
        self.work + self.pieces.work
    }

    /// Whether [`Self::lookup`] of `topic` looks at no more than about `nodes_max` nodes of the index. If
    /// not, as many have been looked at: ask again in another turn.
    #[inline]
    pub fn is_ready(&mut self, trie: &Trie, topic: &str, turn: u32, nodes_max: usize) -> bool {
        trie.node_count() <= nodes_max || self.is_prepared(trie, topic, turn, nodes_max)
    }

    #[inline(never)]
    fn is_prepared(&mut self, trie: &Trie, topic: &str, turn: u32, nodes_max: usize) -> bool {
        // At each level a walk looks at twice as many nodes, at most.
        let levels_safe = nodes_max.saturating_add(1).ilog2() as usize;
        if topic.bytes().filter(|&byte| byte == b'/').count() + 1 < levels_safe {
            return true;
        }
        if topic.len() <= TOPIC_BYTES_MAX && !self.ways.is_empty() {
            let hash = self.keys.bytes(topic.as_bytes());
            let found = self.find(hash, self.set_index(hash), topic);
            let entry = found.and_then(|at| self.ways[at].entry.as_ref());
            if entry.is_some_and(|entry| trie.is_fresh(entry.stamp)) {
                return true;
            }
        }
        self.pieces.is_ready(trie, topic, turn, nodes_max)
    }

    /// Computes or finds the answer for `topic`; [`Self::at`] gives it.
    pub fn lookup(&mut self, trie: &Trie, topic: &str) -> Found {
        let found = self.look(trie, topic);
        self.work += self.at(found).targets.len() as u64;
        found
    }

    fn look(&mut self, trie: &Trie, topic: &str) -> Found {
        if topic.len() > TOPIC_BYTES_MAX {
            self.miss_count += 1;
            self.walk(trie, topic);
            return self.answer_unkept();
        }
        if self.ways.is_empty() {
            self.ways.resize_with(self.entries_max, Way::default);
        }
        let hash = self.keys.bytes(topic.as_bytes());
        let first = self.set_index(hash);
        if let Some(at) = self.find(hash, first, topic) {
            let is_fresh = self.ways[at].entry.as_ref().is_some_and(|e| trie.is_fresh(e.stamp));
            // The place in front is the one used last.
            self.ways.swap(first, at);
            if is_fresh {
                self.hit_count += 1;
                return Found(Some(first));
            }
        } else {
            self.ways.swap(first, first + 1);
        }
        self.look_anew(trie, topic, hash, first)
    }

    /// Apart, to keep the above small.
    #[inline(never)]
    fn look_anew(&mut self, trie: &Trie, topic: &str, hash: u64, first: usize) -> Found {
        self.miss_count += 1;
        self.walk(trie, topic);
        if self.hits.subscribers.len() > TARGETS_MAX {
            return self.answer_unkept();
        }
        self.keep(trie, topic, hash, first)
    }

    /// The answer of the last lookup.
    #[must_use]
    pub fn at(&self, found: Found) -> &Targets {
        let Found(at) = found;
        let entry = at.and_then(|at| self.ways.get(at)).and_then(|way| way.entry.as_ref());
        entry.map_or(&self.unkept, |entry| &entry.targets)
    }

    /// Lookups answered from an entry.
    #[must_use]
    pub fn hit_count(&self) -> u64 {
        self.hit_count
    }

    /// Lookups that had to walk.
    #[must_use]
    pub fn miss_count(&self) -> u64 {
        self.miss_count
    }

    /// Heap memory, without what the allocator adds.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.bytes
            + self.pieces.bytes()
            + self.ways.capacity() * size_of::<Way>()
            + self.unkept.bytes()
    }

    fn walk(&mut self, trie: &Trie, topic: &str) {
        if self.hits.subscribers.capacity() > TARGETS_MAX {
            // One large answer must not cost memory for ever.
            self.hits = Hits::new();
        }
        if !self.pieces.fetch(trie, topic, &mut self.hits) {
            self.hits.clear();
            trie.match_into(topic, &mut self.hits);
            self.work += self.hits.scratch.nodes.len() as u64;
        }
        trie.retain_seen(topic, &mut self.hits);
    }

    fn answer_unkept(&mut self) -> Found {
        if self.unkept.targets.capacity() > TARGETS_MAX {
            self.unkept = Targets::default();
        }
        self.unkept.fill(&mut self.hits);
        Found(None)
    }

    /// Fills the entry at `at` with what the walk found.
    fn keep(&mut self, trie: &Trie, topic: &str, hash: u64, at: usize) -> Found {
        let way = &mut self.ways[at];
        let stamp = trie.stamp(topic);
        way.hash = hash;
        let old_bytes = way.entry.as_ref().map_or(0, |entry| entry.bytes());
        let entry = way.entry.get_or_insert_with(|| {
            Box::new(Entry { topic: Vec::new(), stamp, targets: Targets::default() })
        });
        entry.topic.clear();
        entry.topic.extend_from_slice(topic.as_bytes());
        entry.stamp = stamp;
        entry.targets.fill(&mut self.hits);
        self.bytes = self.bytes - old_bytes + entry.bytes();
        self.drop_beyond_bytes_max(at);
        Found(Some(at))
    }

    /// Drops entries, but not the one at `kept`, until the rest has an allowed size.
    fn drop_beyond_bytes_max(&mut self, kept: usize) {
        let bytes_max = CACHE_BYTES_MIN.max(self.entries_max * ENTRY_BYTES_MEAN);
        let mut looks_left = self.ways.len();
        while self.bytes > bytes_max && looks_left > 0 {
            looks_left -= 1;
            self.hand = (self.hand + 1) % self.ways.len();
            if self.hand != kept
                && let Some(entry) = mem::take(&mut self.ways[self.hand].entry)
            {
                self.bytes -= entry.bytes();
            }
        }
    }

    #[inline(always)]
    fn find(&self, hash: u64, first: usize, topic: &str) -> Option<usize> {
        (first..first + WAYS).find(|&at| {
            let way = &self.ways[at];
            way.hash == hash
                && way.entry.as_ref().is_some_and(|entry| entry.topic == topic.as_bytes())
        })
    }

    /// The first of the places for a hash.
    #[expect(clippy::cast_possible_truncation, reason = "the mask keeps only bits that fit")]
    fn set_index(&self, hash: u64) -> usize {
        let sets = self.ways.len() / WAYS;
        (hash & (sets as u64 - 1)) as usize * WAYS
    }
}

#[cfg(test)]
mod tests {
    use super::super::SubOptions;
    use super::super::tests::Random;
    use super::*;

    fn subscribe(trie: &mut Trie, filter: &str, session: u32, qos: QoS, no_local: bool, id: u32) {
        let options = SubOptions::new(qos, no_local, id == 9);
        let id = SubscriptionId::new(id);
        trie.subscribe(filter, Subscriber { session: SessionId(session), id, options });
    }

    fn ids(values: &[u32]) -> Vec<SubscriptionId> {
        values.iter().filter_map(|&value| SubscriptionId::new(value)).collect()
    }

    #[test]
    fn overlapping_subscriptions_make_one_target() {
        let mut trie = Trie::new(1);
        let mut cache = TargetCache::new(1, 16);
        subscribe(&mut trie, "a/b", 7, QoS::AtMostOnce, true, 5);
        subscribe(&mut trie, "a/+", 7, QoS::ExactlyOnce, true, 9);
        subscribe(&mut trie, "a/#", 7, QoS::AtLeastOnce, false, 5);
        subscribe(&mut trie, "#", 7, QoS::AtLeastOnce, false, 0);
        subscribe(&mut trie, "a/+", 3, QoS::AtLeastOnce, true, 0);

        let answer = cache.targets(&trie, "a/b");
        let [other, merged] = answer.targets[..] else { panic!("{answer:?}") };
        assert_eq!((merged.session, merged.qos), (SessionId(7), QoS::ExactlyOnce));
        assert_eq!((merged.no_local, merged.retain_as_published()), (NoLocal::Some, true));
        assert_eq!(answer.ids(&merged), ids(&[5, 9]));
        assert_eq!((other.session, other.no_local), (SessionId(3), NoLocal::All));
        assert!(answer.ids(&other).is_empty() && !other.retain_as_published());

        let own = answer.of_publisher(SessionId(7)).unwrap();
        assert_eq!((own.qos, own.no_local), (QoS::AtLeastOnce, NoLocal::None));
        assert_eq!((answer.ids(own), own.retain_as_published()), (&ids(&[5])[..], false));
        assert_eq!(answer.of_publisher(SessionId(3)), None);
    }

    #[test]
    fn changes_elsewhere_leave_an_entry_fresh() {
        let mut trie = Trie::new(1);
        let mut cache = TargetCache::new(1, 16);
        let mut check = |trie: &Trie, want_hits, want_targets| {
            assert_eq!(cache.targets(trie, "site/1/x").targets.len(), want_targets);
            assert_eq!(cache.hit_count(), want_hits);
        };
        check(&trie, 0, 0);
        check(&trie, 1, 0);
        subscribe(&mut trie, "site/2/x", 1, QoS::AtMostOnce, false, 0);
        subscribe(&mut trie, "other/#", 1, QoS::AtMostOnce, false, 0);
        check(&trie, 2, 0);
        subscribe(&mut trie, "site/#", 1, QoS::AtMostOnce, false, 0);
        check(&trie, 2, 1);
        subscribe(&mut trie, "+/1/x", 2, QoS::AtMostOnce, false, 0);
        check(&trie, 2, 2);
        subscribe(&mut trie, "site/1/x", 3, QoS::AtMostOnce, false, 0);
        check(&trie, 2, 3);
        check(&trie, 3, 3);
    }

    /// A cache far too small for its topics answers as the index does, whatever changes in between.
    #[test]
    fn cached_answers_are_the_answers_of_the_index() {
        for seed in 0..4 {
            let mut random = Random(seed);
            let mut trie = Trie::new(seed);
            let mut cache = TargetCache::new(seed, 8);
            let mut installed = Vec::new();
            for step in 0..4000 {
                if random.below(8) == 0 {
                    let session = SessionId(u32::try_from(random.below(9)).unwrap());
                    let subscriber = Subscriber { session, ..Subscriber::default() };
                    let filter = random.filter();
                    installed.push((trie.subscribe(&filter, subscriber).node, session));
                }
                if random.below(8) == 0 && !installed.is_empty() {
                    let at = usize::try_from(random.below(installed.len() as u64)).unwrap();
                    let (node, session) = installed.swap_remove(at);
                    trie.unsubscribe(node, session);
                    installed.retain(|&other| other != (node, session));
                }
                let topic = random.topic();
                let mut hits = Hits::new();
                trie.match_into(&topic, &mut hits);
                let mut want: Vec<_> = hits.subscribers.iter().map(|hit| hit.session).collect();
                want.sort_unstable();
                want.dedup();
                let answer = cache.targets(&trie, &topic);
                let mut got: Vec<_> = answer.targets.iter().map(|hit| hit.session).collect();
                got.sort_unstable();
                assert_eq!(got, want, "seed {seed}, step {step}, topic {topic:?}");
            }
            assert!(cache.hit_count() > 100, "{} hits", cache.hit_count());
        }
    }

    /// However small the pieces and whatever changes between two turns, each topic is ready in the end, and
    /// its answer is that of the index.
    #[test]
    fn walks_in_pieces_come_to_an_end_and_answer_as_the_index_does() {
        let mut restarts = 0;
        for seed in 0..40 {
            let mut random = Random(seed);
            let mut trie = Trie::new(seed);
            let mut cache = TargetCache::new(seed, 2);
            let mut installed = Vec::new();
            for _ in 0..200 {
                let filter = random.filter();
                let session = SessionId(u32::try_from(random.below(50)).unwrap());
                let subscriber = Subscriber { session, ..Subscriber::default() };
                installed.push((trie.subscribe(&filter, subscriber).node, session));
            }
            let mut turn = 0_u32.wrapping_sub(100);
            let mut waiting: Vec<String> = (0..4).map(|_| random.topic()).collect();
            for _ in 0..400 {
                turn = turn.wrapping_add(1);
                for topic in &mut waiting {
                    let work_before = cache.work();
                    if !cache.is_ready(&trie, topic, turn, 3) {
                        assert!(cache.work() - work_before <= 3);
                        restarts += u32::from(cache.pieces.in_vain > 0);
                        continue;
                    }
                    let mut hits = Hits::new();
                    trie.match_into(topic, &mut hits);
                    let mut want: Vec<_> = hits.subscribers.iter().map(|hit| hit.session).collect();
                    want.sort_unstable();
                    want.dedup();
                    let targets = &cache.targets(&trie, topic).targets;
                    let mut got: Vec<_> = targets.iter().map(|target| target.session).collect();
                    got.sort_unstable();
                    assert_eq!(got, want, "seed {seed}, {topic:?}");
                    *topic = random.topic();
                }
                if random.below(4) == 0 {
                    let at = usize::try_from(random.below(installed.len() as u64)).unwrap();
                    let (node, session) = installed.swap_remove(at);
                    trie.unsubscribe(node, session);
                    installed.retain(|&other| other != (node, session));
                    let subscriber = Subscriber { session, ..Subscriber::default() };
                    installed.push((trie.subscribe(&random.filter(), subscriber).node, session));
                }
            }
            // Nothing changes any more, and nobody else asks.
            for topic in waiting {
                let ready_at = (0..200).position(|ahead| {
                    cache.is_ready(&trie, &topic, turn.wrapping_add(100 + ahead), 3)
                });
                assert!(ready_at.is_some(), "seed {seed}, {topic:?}");
                cache.targets(&trie, &topic);
            }
            assert_eq!(cache.pieces.bytes(), 0, "nothing is kept behind the answer");
        }
        assert!(restarts > 100, "{restarts}");
    }

    #[test]
    fn bytes_are_bounded() {
        let mut trie = Trie::new(1);
        let mut cache = TargetCache::new(1, 64);
        for session in 0..60_000 {
            subscribe(&mut trie, "#", session, QoS::AtMostOnce, false, 0);
        }
        for number in 0..12 {
            let answer = cache.targets(&trie, &format!("t/{number}"));
            assert_eq!(answer.targets.len(), 60_000);
        }
        let largest = 65_536 * size_of::<Target>();
        assert!(cache.bytes() <= CACHE_BYTES_MIN + largest, "{} bytes", cache.bytes());
        let long = "x".repeat(TOPIC_BYTES_MAX + 1);
        assert_eq!(cache.targets(&trie, &long).targets.len(), 60_000);
        assert_eq!(cache.targets(&trie, &long).targets.len(), 60_000);
        assert_eq!(cache.hit_count(), 0);
    }
}
