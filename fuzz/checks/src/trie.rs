//! The subscription trie, its cache and the retained messages against the reference, while filters
//! come and go.
//!
//! Input: a list of operations.

use std::collections::{BTreeMap, BTreeSet};

use arbitrary::{Arbitrary, Unstructured};
use shards::ids::{QoS, SessionId, ShardId, SubscriptionId};
use shards::topic::{
    GroupId, Hits, NodeId, RemoteMembers, SubOptions, Subscriber, TargetCache, TopicFilter, Trie,
    check_name,
};

use crate::reference;

const LEVELS_MAX: u16 = 128;

/// More would only make an input slow.
const OPS_MAX: usize = 200;

/// One level of a name or filter. Few, so that filters meet; the bounds of what lies in a node (11
/// bytes) from both sides.
#[derive(Arbitrary, Clone, Copy, Debug)]
enum Level<'a> {
    A,
    B,
    Empty,
    Dollar,
    Plus,
    Hash,
    Eleven,
    Twelve,
    Any(&'a str),
}

impl<'a> Level<'a> {
    fn text(self) -> &'a str {
        match self {
            Self::A => "a",
            Self::B => "b",
            Self::Empty => "",
            Self::Dollar => "$x",
            Self::Plus => "+",
            Self::Hash => "#",
            Self::Eleven => "0123456789a",
            Self::Twelve => "0123456789ab",
            Self::Any(text) => text,
        }
    }
}

#[derive(Arbitrary, Debug)]
struct Path<'a>(Vec<Level<'a>>);

impl Path<'_> {
    fn text(&self) -> String {
        self.0.iter().map(|level| level.text()).collect::<Vec<_>>().join("/")
    }

    /// The text, if it is a filter.
    fn filter(&self) -> Option<String> {
        let text = self.text();
        reference::is_filter(&text, usize::from(LEVELS_MAX)).then_some(text)
    }
}

#[derive(Arbitrary, Debug)]
enum Op<'a> {
    Subscribe {
        filter: Path<'a>,
        session: u8,
        options: u8,
        id: u8,
    },
    Unsubscribe {
        which: u8,
    },
    /// A session that has no such subscription.
    UnsubscribeOther {
        which: u8,
        session: u8,
    },
    AddRemote {
        filter: Path<'a>,
        shard: u8,
    },
    RemoveRemote {
        filter: Path<'a>,
        shard: u8,
    },
    Join {
        filter: Path<'a>,
        share: u8,
        session: u8,
    },
    Leave {
        which: u8,
    },
    SetRemoteMembers {
        filter: Path<'a>,
        share: u8,
        shard: u8,
        total: u8,
    },
    Match {
        topic: Path<'a>,
    },
}

/// What the trie should know, in lists.
#[derive(Default)]
struct Model {
    subscribers: BTreeMap<(String, u32), (NodeId, Subscriber)>,
    remote: BTreeSet<(String, u8)>,
    members: BTreeMap<(String, String, u32), GroupId>,
    remote_members: BTreeSet<(String, String, u8)>,
}

/// # Panics
/// If the trie or its cache answers what the reference does not, or keeps something for nobody.
pub fn check(data: &[u8]) {
    let mut input = Unstructured::new(data);
    let mut trie = Trie::new(7);
    let mut cache = TargetCache::new(7, 8);
    let mut model = Model::default();
    let mut topics = vec!["a".to_owned(), "$x/a".to_owned(), "/".to_owned()];
    for number in 0..OPS_MAX {
        if input.is_empty() {
            break;
        }
        let Ok(op) = Op::arbitrary(&mut input) else { break };
        if let Op::Match { topic } = &op {
            let topic = topic.text();
            if check_name(&topic, LEVELS_MAX).is_ok() && topics.len() < 12 {
                topics.push(topic);
            }
        }
        model.apply(&mut trie, op);
        // One topic after each operation, so that the cache is asked at different ages; all at the end.
        let topic = &topics[number % topics.len()];
        model.compare(&trie, &mut cache, topic);
        model.compare_counts(&trie);
    }
    for topic in &topics {
        model.compare(&trie, &mut cache, topic);
    }
    model.remove_all(&mut trie);
    assert_eq!((trie.node_count(), trie.group_count(), trie.subscriptions_count()), (0, 0, 0));
}

fn subscriber(session: u32, options: u8, id: u8) -> Subscriber {
    let qos = QoS::from_bits(options % 3).unwrap_or(QoS::AtMostOnce);
    let options = SubOptions::new(qos, options & 4 != 0, options & 8 != 0);
    Subscriber { session: SessionId(session), id: SubscriptionId::new(u32::from(id % 3)), options }
}

fn share_name(share: u8) -> String {
    ["g", "h"][usize::from(share % 2)].to_owned()
}

/// Other shards: 1 to 3, and the last that a set has room for.
fn other_shard(shard: u8) -> u8 {
    [1, 2, 3, 63][usize::from(shard % 4)]
}

/// The `which`th key, counted round and round.
fn pick<K: Clone + Ord, V>(map: &BTreeMap<K, V>, which: u8) -> Option<K> {
    map.keys().nth(usize::from(which) % map.len().max(1)).cloned()
}

impl Model {
    fn apply(&mut self, trie: &mut Trie, op: Op<'_>) {
        match op {
            Op::Subscribe { filter, session, options, id } => {
                if let Some(filter) = filter.filter() {
                    self.subscribe(trie, filter, subscriber(u32::from(session % 8), options, id));
                }
            }
            Op::Unsubscribe { which } => {
                if let Some(key) = pick(&self.subscribers, which) {
                    self.unsubscribe(trie, key);
                }
            }
            Op::UnsubscribeOther { which, session } => {
                let Some((filter, _)) = pick(&self.subscribers, which) else { return };
                let session = u32::from(session % 8);
                let Some(node) = trie.find(&filter) else { panic!("{filter:?} is not there") };
                if !self.subscribers.contains_key(&(filter, session)) {
                    assert!(trie.unsubscribe(node, SessionId(session)).is_none());
                }
            }
            Op::AddRemote { filter, shard } => {
                let (Some(filter), shard) = (filter.filter(), other_shard(shard)) else { return };
                trie.add_remote(&filter, ShardId(shard));
                self.remote.insert((filter, shard));
            }
            Op::RemoveRemote { filter, shard } => {
                let (Some(filter), shard) = (filter.filter(), other_shard(shard)) else { return };
                trie.remove_remote(&filter, ShardId(shard));
                self.remote.remove(&(filter, shard));
            }
            Op::Join { filter, share, session } => {
                let Some(filter) = filter.filter() else { return };
                let (share, session) = (share_name(share), u32::from(session % 8));
                let member = subscriber(session, 1, 0);
                let joined =
                    trie.share_join(&filter, &share, member.session, member.options, member.id);
                let old = self.members.insert((filter, share, session), joined.group);
                assert_eq!(joined.replaced, old.is_some());
                assert!(
                    old.is_none_or(|old| old == joined.group),
                    "a group has changed its number"
                );
            }
            Op::Leave { which } => {
                let Some(key) = pick(&self.members, which) else { return };
                self.leave(trie, &key);
            }
            Op::SetRemoteMembers { filter, share, shard, total } => {
                let Some(filter) = filter.filter() else { return };
                let key = (filter, share_name(share), other_shard(shard));
                self.set_remote(trie, key, u32::from(total % 3));
            }
            Op::Match { .. } => {}
        }
    }

    fn subscribe(&mut self, trie: &mut Trie, filter: String, subscriber: Subscriber) {
        let is_first = !self.subscribers.keys().any(|(known, _)| *known == filter);
        let installed = trie.subscribe(&filter, subscriber);
        assert_eq!(trie.find(&filter), Some(installed.node));
        assert_eq!(trie.subscriber(installed.node, subscriber.session), Some(subscriber));
        let mut text = String::new();
        trie.filter_text(installed.node, &mut text);
        assert_eq!(text, filter, "the text of a node");
        assert_eq!(installed.first_here, is_first, "first of {filter:?}");
        let key = (filter, subscriber.session.0);
        let old = self.subscribers.insert(key, (installed.node, subscriber));
        assert_eq!(installed.replaced, old.is_some());
    }

    fn unsubscribe(&mut self, trie: &mut Trie, key: (String, u32)) {
        let Some((node, _)) = self.subscribers.remove(&key) else { return };
        let (filter, session) = key;
        let is_last = !self.subscribers.keys().any(|(known, _)| *known == filter);
        let removed = trie.unsubscribe(node, SessionId(session)).expect("it is there");
        assert_eq!(removed.last_here, is_last, "last of {filter:?}");
    }

    fn leave(&mut self, trie: &mut Trie, key: &(String, String, u32)) {
        if let Some(group) = self.members.remove(key) {
            assert!(trie.share_leave(group, SessionId(key.2)).is_some(), "a member was not there");
        }
    }

    fn set_remote(&mut self, trie: &mut Trie, key: (String, String, u8), total: u32) {
        let remote_group = GroupId { index: 1, generation: 1 };
        let members = RemoteMembers { remote_group, online: total.min(1), total };
        trie.share_set_remote(&key.0, &key.1, ShardId(key.2), members);
        if total == 0 {
            self.remote_members.remove(&key);
        } else {
            self.remote_members.insert(key);
        }
    }

    fn remove_all(&mut self, trie: &mut Trie) {
        while let Some(key) = pick(&self.subscribers, 0) {
            self.unsubscribe(trie, key);
        }
        while let Some(key) = pick(&self.members, 0) {
            self.leave(trie, &key);
        }
        while let Some((filter, shard)) = self.remote.pop_last() {
            trie.remove_remote(&filter, ShardId(shard));
        }
        while let Some(key) = self.remote_members.pop_last() {
            self.set_remote(trie, key, 0);
        }
    }

    fn groups(&self) -> BTreeSet<(&str, &str)> {
        let local = self.members.keys().map(|(filter, share, _)| (&**filter, &**share));
        let remote = self.remote_members.iter().map(|(filter, share, _)| (&**filter, &**share));
        local.chain(remote).collect()
    }

    fn compare_counts(&self, trie: &Trie) {
        assert_eq!(trie.subscriptions_count(), self.subscribers.len() + self.members.len());
        assert_eq!(trie.group_count(), self.groups().len());
    }

    fn compare(&self, trie: &Trie, cache: &mut TargetCache, topic: &str) {
        let is_match = |filter: &str| {
            let want = reference::matches(filter, topic);
            let parsed = TopicFilter::parse(filter, LEVELS_MAX);
            // A filter of the trie may begin with what would be a share name.
            if let Ok(parsed) = parsed.as_ref().map_err(|_| ())
                && parsed.share().is_none()
            {
                assert_eq!(parsed.matches(topic), want, "filter {filter:?}, topic {topic:?}");
            }
            want
        };
        let mut hits = Hits::new();
        trie.match_into(topic, &mut hits);
        let mut got: Vec<_> = hits.subscribers.iter().map(key_of).collect();
        let wanted = self.subscribers.iter().filter(|((filter, _), _)| is_match(filter));
        let mut want: Vec<_> = wanted.map(|(_, (_, subscriber))| key_of(subscriber)).collect();
        got.sort_unstable();
        want.sort_unstable();
        assert_eq!(got, want, "subscribers of {topic:?}");
        let shards = self.remote.iter().filter(|(filter, _)| is_match(filter));
        let remote = shards.fold(0_u64, |set, (_, shard)| set | 1 << shard);
        assert_eq!(hits.remote, remote, "other shards of {topic:?}");
        let groups = self.groups().into_iter().filter(|(filter, _)| is_match(filter)).count();
        assert_eq!(hits.groups.len(), groups, "groups of {topic:?}");

        let targets = cache.targets(trie, topic);
        let sessions: BTreeSet<u32> = want.iter().map(|(session, ..)| *session).collect();
        let of_cache: Vec<u32> = targets.targets.iter().map(|target| target.session.0).collect();
        assert_eq!(of_cache.len(), sessions.len(), "a target of {topic:?} twice");
        assert_eq!(of_cache.into_iter().collect::<BTreeSet<_>>(), sessions, "targets of {topic:?}");
        assert_eq!(targets.remote, remote, "other shards of {topic:?} in the cache");
        assert_eq!(targets.groups.len(), groups, "groups of {topic:?} in the cache");
    }
}

fn key_of(subscriber: &Subscriber) -> (u32, u8, Option<u32>) {
    let id = subscriber.id.map(SubscriptionId::value);
    (subscriber.session.0, subscriber.options.bits(), id)
}
