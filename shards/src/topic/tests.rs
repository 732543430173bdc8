//! Properties of the index against obvious models, over random filters and topics from a small
//! alphabet.

use std::collections::{BTreeMap, BTreeSet};

use super::trie::{NodeId, Trie};
use super::{Hits, RemoteMembers, SubOptions, Subscriber, TopicFilter};
use crate::ids::{QoS, SessionId, ShardId, SubscriptionId};
use crate::topic::GroupId;

/// SplitMix64: all that a test needs of chance, and the same in every run.
pub(super) struct Random(pub(super) u64);

impl Random {
    pub(super) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        super::hash::mix(self.0)
    }

    pub(super) fn below(&mut self, count: u64) -> u64 {
        self.next() % count
    }

    fn pick<'a>(&mut self, from: &[&'a str]) -> &'a str {
        from[usize::try_from(self.below(from.len() as u64)).unwrap()]
    }

    fn join(&mut self, levels: &[&str], levels_max: u64) -> String {
        let count = 1 + self.below(levels_max);
        let parts: Vec<&str> = (0..count).map(|_| self.pick(levels)).collect();
        parts.join("/")
    }

    pub(super) fn topic(&mut self) -> String {
        loop {
            let first = ["a", "b", "", "$x", "c!", "a-level-longer-than-eleven-bytes"];
            let topic = self.join(&first, 4);
            if !topic.is_empty() {
                return topic;
            }
        }
    }

    pub(super) fn filter(&mut self) -> String {
        let levels = ["a", "b", "", "$x", "c!", "a-level-longer-than-eleven-bytes", "+", "+", "+"];
        loop {
            let mut filter = self.join(&levels, 4);
            match self.below(6) {
                0 => filter = "#".into(),
                1 | 2 => filter.push_str("/#"),
                _ => {}
            }
            if !filter.is_empty() {
                return filter;
            }
        }
    }
}

/// Two of three have a subscription identifier.
fn subscriber(session: u32, options: SubOptions) -> Subscriber {
    Subscriber { session: SessionId(session), id: SubscriptionId::new(session % 3), options }
}

fn options(bits: u64) -> SubOptions {
    let qos = QoS::from_bits(u8::try_from(bits % 3).unwrap()).unwrap();
    SubOptions::new(qos, bits & 4 != 0, bits & 8 != 0)
}

/// What the trie should know, kept in the plainest way.
#[derive(Default)]
struct Model {
    subscribers: BTreeMap<(String, u32), (NodeId, SubOptions)>,
    remote: BTreeSet<(String, u8)>,
    members: BTreeMap<(String, String, u32), GroupId>,
    remote_members: BTreeSet<(String, String, u8)>,
}

impl Model {
    fn groups(&self) -> BTreeSet<(&str, &str)> {
        let local = self.members.keys().map(|(filter, share, _)| (&**filter, &**share));
        let remote = self.remote_members.iter().map(|(filter, share, _)| (&**filter, &**share));
        local.chain(remote).collect()
    }

    #[track_caller]
    fn check(&self, trie: &Trie, topic: &str) {
        let is_match = |filter: &str| TopicFilter::parse(filter, 128).unwrap().matches(topic);
        let mut hits = Hits::new();
        trie.match_into(topic, &mut hits);

        let mut got: Vec<(u32, u8)> =
            hits.subscribers.iter().map(|hit| (hit.session.0, hit.options.bits())).collect();
        let mut want: Vec<(u32, u8)> = self
            .subscribers
            .iter()
            .filter(|((filter, _), _)| is_match(filter))
            .map(|((_, session), (_, options))| (*session, options.bits()))
            .collect();
        got.sort_unstable();
        want.sort_unstable();
        assert_eq!(got, want, "subscribers of {topic:?}");

        let shards = self.remote.iter().filter(|(filter, _)| is_match(filter));
        let want = shards.fold(0_u64, |set, (_, shard)| set | 1 << shard);
        assert_eq!(hits.remote, want, "other shards of {topic:?}");

        let mut got: Vec<(String, String)> = Vec::new();
        for group in &hits.groups {
            let (mut filter, mut share) = (String::new(), String::new());
            trie.group_text(*group, &mut filter, &mut share);
            got.push((filter, share));
        }
        got.sort_unstable();
        let groups = self.groups().into_iter().filter(|(filter, _)| is_match(filter));
        let want: Vec<(String, String)> =
            groups.map(|(filter, share)| (filter.into(), share.into())).collect();
        assert_eq!(got, want, "groups of {topic:?}");
    }

    fn change(&mut self, trie: &mut Trie, random: &mut Random) {
        let filter = random.filter();
        let session = u32::try_from(random.below(60)).unwrap();
        let shard = u8::try_from(1 + random.below(5)).unwrap();
        let share = random.pick(&["g", "h", "i"]).to_owned();
        match random.below(8) {
            0..3 => self.subscribe(trie, filter, session, options(random.next())),
            3 => self.unsubscribe_some(trie, random),
            4 => {
                trie.add_remote(&filter, ShardId(shard));
                self.remote.insert((filter, shard));
            }
            5 => {
                let joined = trie.share_join(&filter, &share, SessionId(session), options(1), None);
                let old = self.members.insert((filter, share, session), joined.group);
                assert_eq!(joined.replaced, old.is_some());
                assert!(old.is_none_or(|old| old == joined.group));
            }
            6 => {
                let total = u32::try_from(random.below(3)).unwrap();
                let remote_group = GroupId { index: 1, generation: 1 };
                let members = RemoteMembers { remote_group, online: 0, total };
                trie.share_set_remote(&filter, &share, ShardId(shard), members);
                let key = (filter, share, shard);
                if total == 0 {
                    self.remote_members.remove(&key);
                } else {
                    self.remote_members.insert(key);
                }
            }
            _ => self.remove_some(trie, random),
        }
    }

    fn subscribe(&mut self, trie: &mut Trie, filter: String, session: u32, options: SubOptions) {
        let is_first = !self.subscribers.keys().any(|(known, _)| *known == filter);
        let installed = trie.subscribe(&filter, subscriber(session, options));
        assert_eq!(trie.find(&filter), Some(installed.node));
        let found = trie.subscriber(installed.node, SessionId(session));
        assert_eq!(found, Some(subscriber(session, options)));
        let mut text = String::new();
        trie.filter_text(installed.node, &mut text);
        assert_eq!(text, filter);
        assert_eq!(installed.first_here, is_first, "first of {filter:?}");
        let old = self.subscribers.insert((filter, session), (installed.node, options));
        assert_eq!(installed.replaced, old.is_some());
    }

    fn unsubscribe_some(&mut self, trie: &mut Trie, random: &mut Random) {
        let at = usize::try_from(random.below(self.subscribers.len().max(1) as u64)).unwrap();
        let Some((filter, session)) = self.subscribers.keys().nth(at).cloned() else { return };
        let (node, _) = self.subscribers.remove(&(filter.clone(), session)).unwrap();
        let is_last = !self.subscribers.keys().any(|(known, _)| *known == filter);
        let removed = trie.unsubscribe(node, SessionId(session)).unwrap();
        assert_eq!(removed.last_here, is_last, "last of {filter:?}");
    }

    fn remove_some(&mut self, trie: &mut Trie, random: &mut Random) {
        if let Some((filter, shard)) = self.remote.pop_first() {
            trie.remove_remote(&filter, ShardId(shard));
        }
        let at = usize::try_from(random.below(self.members.len().max(1) as u64)).unwrap();
        if let Some(key) = self.members.keys().nth(at).cloned() {
            let group = self.members.remove(&key).unwrap();
            assert!(trie.share_leave(group, SessionId(key.2)).is_some());
        }
    }

    fn remove_all(&mut self, trie: &mut Trie, random: &mut Random) {
        while !self.subscribers.is_empty() {
            self.unsubscribe_some(trie, random);
        }
        while !(self.remote.is_empty() && self.members.is_empty()) {
            self.remove_some(trie, random);
        }
        while let Some((filter, share, shard)) = self.remote_members.pop_first() {
            let remote_group = GroupId { index: 0, generation: 0 };
            let members = RemoteMembers { remote_group, online: 0, total: 0 };
            trie.share_set_remote(&filter, &share, ShardId(shard), members);
        }
    }
}

/// The index answers as a list of filters would, whatever came and went before, and an emptied
/// index holds nothing.
#[test]
fn trie_agrees_with_the_reference_under_churn() {
    for seed in 0..8 {
        let mut random = Random(seed);
        let mut trie = Trie::new(seed);
        let mut model = Model::default();
        for _ in 0..3 {
            for _ in 0..600 {
                model.change(&mut trie, &mut random);
                model.check(&trie, &random.topic());
            }
            let count = model.subscribers.len() + model.members.len();
            assert_eq!(trie.subscriptions_count(), count);
            assert_eq!(trie.group_count(), model.groups().len());
            model.remove_all(&mut trie, &mut random);
            assert_eq!((trie.node_count(), trie.group_count()), (0, 0), "seed {seed}");
            assert_eq!(trie.subscriptions_count(), 0);
        }
        // A root, its chunk, the empty segments of the edge table, and the counters.
        assert!(trie.bytes() < 48 * 1024, "{} bytes left", trie.bytes());
    }
}

/// Mail may name a group that is gone by the time it arrives; it must not reach another filter's.
#[test]
fn a_reused_group_number_is_another_group() {
    let mut trie = Trie::new(1);
    let old = trie.share_join("a/b", "g", SessionId(1), options(0), None).group;
    assert!(trie.share_leave(old, SessionId(1)).is_some());
    let new = trie.share_join("a/c", "g", SessionId(1), options(0), None).group;
    assert_eq!(old.index, new.index);
    assert!(trie.group(old).is_none() && trie.group(new).is_some());
    assert_eq!(trie.share_leave(old, SessionId(1)), None);
    assert_eq!(trie.share_find("a/c", "g"), Some(new));
}

/// 100,000 sessions on one filter, and each finds its own way out.
#[test]
fn a_crowd_on_one_filter_leaves_in_any_order() {
    let mut trie = Trie::new(1);
    let count = 100_000_u32;
    let mut node = None;
    for session in 0..count {
        node = Some(trie.subscribe("news", subscriber(session, options(1))).node);
    }
    let mut hits = Hits::new();
    trie.match_into("news", &mut hits);
    assert_eq!(hits.subscribers.len(), count as usize);
    let node = node.unwrap();
    for step in 0..count {
        // 7,919 is coprime to 100,000.
        let session = SessionId(u32::try_from(u64::from(step) * 7919 % u64::from(count)).unwrap());
        let removed = trie.unsubscribe(node, session).unwrap();
        assert_eq!(removed.last_here, step + 1 == count);
    }
    assert_eq!(trie.node_count(), 0);
    assert!(trie.bytes() < 48 * 1024, "{} bytes left", trie.bytes());
}

/// The index must hold a million filters in little memory; here a tenth of that, for filters that
/// share all but the last level and for filters that part early. Up to 21 bytes of each are the unused
/// rest of the last chunk of nodes, which among a million filters is nothing.
#[test]
fn a_subscription_costs_little_memory() {
    let count = 100_000_u32;
    let check = |filter: fn(u32) -> String, bytes_max: usize| {
        let mut trie = Trie::new(1);
        for session in 0..count {
            trie.subscribe(&filter(session), subscriber(session, options(1)));
        }
        let bytes = trie.bytes() / count as usize;
        println!("{bytes} bytes for a filter like {:?}", filter(77));
        assert!(bytes < bytes_max, "{bytes} bytes for a filter like {:?}", filter(77));
    };
    check(|i| format!("site/{}/device/{i}", i % 100), 64);
    check(|i| format!("device/{i}/sensor/temperature"), 136);
    check(|i| format!("device/{i}/+/#"), 136);
    check(|i| format!("tenant/00000000-0000-4000-8000-{i:012}/in/cmd"), 200);
}

/// The depth of a filter or topic costs neither call depth nor more than its own levels.
#[test]
fn depth_is_no_danger() {
    let mut trie = Trie::new(1);
    let deep = vec!["+"; 30_000].join("/");
    let node = trie.subscribe(&deep, subscriber(1, options(0))).node;
    trie.subscribe("+/#", subscriber(2, options(0)));
    let mut hits = Hits::new();
    trie.match_into(&vec!["a"; 30_000].join("/"), &mut hits);
    assert_eq!(hits.subscribers.len(), 2);
    trie.unsubscribe(node, SessionId(1));
    assert_eq!(trie.node_count(), 2);
}
