//! The subscription index of one shard.
//!
//! A node stands for a filter (or the beginning of some). On it hang this shard's own subscribers,
//! the set of other shards that have subscribers there, and the shared groups of the filter.
//! Filters are taken as checked ([`super::TopicFilter`]), topics too ([`super::check_name`]).
//!
//! A walk looks at each node at most once, and only at nodes whose filter matches the topic so far:
//! with `+` at every level, `2^levels` of them at most, and never more than were paid for with
//! subscriptions. Its stack is a list of the caller, so the depth of a topic costs no call depth.

mod groups;

use std::collections::BTreeMap;
use std::ops::Range;

use hashbrown::HashTable;

pub use self::groups::{Joined, Left};
use super::epochs::{Epochs, Stamp};
use super::hash::Seeded;
use super::held::Held;
use super::name::levels;
use super::node::{Node, ROOT};
use super::nodes::Nodes;
use super::roster::Roster;
use super::share::ShareGroup;
pub use super::share::{GroupId, RemoteMembers};
use super::slab::Slab;
pub use super::subscriber::{Hits, SubOptions, Subscriber};
use super::subscriber::{Walk, WalkScratch};
use super::text::LevelKey;
use crate::ids::{SessionId, ShardId};

/// A filter's place in the trie. Valid while something hangs on it; then the number is reused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct NodeId(u32);

/// What [`Trie::subscribe`] did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Installed {
    pub node: NodeId,
    /// This session was subscribed here already; its options are the new ones now.
    pub replaced: bool,
    /// It is the first of this shard's own ordinary subscribers here: other shards must be told.
    pub first_here: bool,
}

/// What [`Trie::unsubscribe`] did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Removed {
    /// It was the last of this shard's own ordinary subscribers here: other shards must be told.
    pub last_here: bool,
}

/// What hangs on a node that has more than one thing.
#[derive(Debug, Default)]
struct Many {
    subscribers: Roster<Subscriber>,
    remote: u64,
    groups: Vec<GroupId>,
}

/// The subscription index of one shard. Lives on that shard; others know it by what they were told.
#[derive(Debug)]
pub struct Trie {
    nodes: Nodes,
    ones: Slab<Subscriber>,
    many: Slab<Many>,
    groups: Slab<Option<ShareGroup>>,
    /// Groups by node and share name.
    group_index: HashTable<u32>,
    group_keys: Seeded,
    /// Generation of the group made next.
    generation: u32,
    epochs: Epochs,
    subscriptions_count: usize,
    /// Sessions below a mount point that have wildcards to look after, with the mount point's bytes.
    guards: BTreeMap<SessionId, u16>,
}

impl Trie {
    #[must_use]
    pub fn new(seed: u64) -> Self {
        Self {
            nodes: Nodes::new(seed),
            ones: Slab::new(),
            many: Slab::new(),
            groups: Slab::new(),
            group_index: HashTable::new(),
            group_keys: Seeded::new(seed),
            generation: 0,
            epochs: Epochs::new(seed),
            subscriptions_count: 0,
            guards: BTreeMap::new(),
        }
    }

    /// Whether a filter of this many levels can be added. Past 500 million nodes it cannot.
    #[must_use]
    pub fn has_room(&self, levels_count: u16) -> bool {
        self.nodes.has_room(usize::from(levels_count) + 1)
    }

    /// Adds an ordinary subscription, or gives the one that is there new options.
    pub fn subscribe(&mut self, filter: &str, subscriber: Subscriber) -> Installed {
        let node = self.nodes.ensure(filter);
        let (replaced, first_here) = match self.held(node) {
            Held::Nothing => {
                self.hold_one(node, subscriber);
                (false, true)
            }
            held @ (Held::Plain(_) | Held::One(_))
                if self.one(held).is_some_and(|one| one.session == subscriber.session) =>
            {
                self.release_one(held);
                self.hold_one(node, subscriber);
                (true, false)
            }
            Held::Plain(_) | Held::One(_) | Held::Remote(_) | Held::Many(_) => {
                let many = self.widen(node);
                let roster = &mut self.many[many].subscribers;
                match roster.position(subscriber.session) {
                    Some(at) => {
                        *roster.at_mut(at) = subscriber;
                        (true, false)
                    }
                    None => {
                        roster.push(subscriber);
                        (false, roster.len() == 1)
                    }
                }
            }
        };
        if !replaced {
            self.subscriptions_count += 1;
        }
        self.on_filter_change(filter);
        Installed { node: NodeId(node), replaced, first_here }
    }

    /// Ends an ordinary subscription. The filter's nodes go with the last thing that hung on them.
    pub fn unsubscribe(&mut self, node: NodeId, session: SessionId) -> Option<Removed> {
        let NodeId(node) = node;
        let last_here = match Held::unpack(self.nodes.get(node)?.held) {
            Held::Nothing | Held::Remote(_) => return None,
            held @ (Held::Plain(_) | Held::One(_)) => {
                if self.one(held)?.session != session {
                    return None;
                }
                self.release_one(held);
                self.on_node_change(node);
                self.set_held(node, Held::Nothing);
                true
            }
            Held::Many(many) => {
                let roster = &mut self.many[many].subscribers;
                let at = roster.position(session)?;
                roster.swap_remove(at);
                let last_here = roster.is_empty();
                self.on_node_change(node);
                self.narrow(node);
                last_here
            }
        };
        self.subscriptions_count -= 1;
        self.nodes.prune(node);
        Some(Removed { last_here })
    }

    /// Another shard has subscribers here.
    pub fn add_remote(&mut self, filter: &str, shard: ShardId) {
        let node = self.nodes.ensure(filter);
        match self.held(node) {
            Held::Nothing => self.set_held(node, Held::Remote(shard)),
            Held::Remote(known) if known == shard => return,
            Held::Plain(_) | Held::One(_) | Held::Remote(_) | Held::Many(_) => {
                let many = self.widen(node);
                let remote = &mut self.many[many].remote;
                if *remote & bit(shard) != 0 {
                    return;
                }
                *remote |= bit(shard);
            }
        }
        self.on_filter_change(filter);
    }

    /// Another shard has no subscribers here any more.
    pub fn remove_remote(&mut self, filter: &str, shard: ShardId) {
        let Some(node) = self.nodes.find(filter) else { return };
        match self.held(node) {
            Held::Remote(known) if known == shard => self.set_held(node, Held::Nothing),
            Held::Many(many) if self.many[many].remote & bit(shard) != 0 => {
                self.many[many].remote &= !bit(shard);
                self.narrow(node);
            }
            Held::Nothing | Held::Plain(_) | Held::One(_) | Held::Remote(_) | Held::Many(_) => {
                return;
            }
        }
        self.on_filter_change(filter);
        self.nodes.prune(node);
    }

    #[must_use]
    pub fn find(&self, filter: &str) -> Option<NodeId> {
        self.nodes.find(filter).map(NodeId)
    }

    #[must_use]
    pub fn subscriber(&self, node: NodeId, session: SessionId) -> Option<Subscriber> {
        match Held::unpack(self.nodes.get(node.0)?.held) {
            Held::Nothing | Held::Remote(_) => None,
            held @ (Held::Plain(_) | Held::One(_)) => {
                self.one(held).filter(|found| found.session == session)
            }
            Held::Many(many) => self.many.get(many)?.subscribers.find(session).copied(),
        }
    }

    /// The node's filter, appended.
    pub fn filter_text(&self, node: NodeId, out: &mut String) {
        let mut bytes = std::mem::take(out).into_bytes();
        for (index, node) in self.nodes.path(node.0).into_iter().enumerate() {
            if index > 0 {
                bytes.push(b'/');
            }
            self.nodes.with_level(node, |level| bytes.extend_from_slice(level));
        }
        // Levels come from `&str`s cut at a one-byte character.
        *out = String::from_utf8(bytes).unwrap_or_default();
    }

    /// The session's client is below a mount point of so many bytes: what [`Self::hides`] looks at for
    /// its subscriptions that are guarded.
    pub fn guard(&mut self, session: SessionId, mount_bytes: u16) {
        self.guards.insert(session, mount_bytes);
    }

    /// The session has no subscriptions any more.
    pub fn unguard(&mut self, session: SessionId) {
        self.guards.remove(&session);
    }

    /// Whether a guarded subscription of this session does not match `topic` as its client sees it: the
    /// client's wildcard stands in front of a topic that begins with `$` [MQTT-4.7.2-1], or nothing is
    /// left of the topic behind the mount point.
    #[must_use]
    pub fn hides(&self, session: SessionId, topic: &str) -> bool {
        let Some(&mount_bytes) = self.guards.get(&session) else { return true };
        topic.as_bytes().get(usize::from(mount_bytes)).is_none_or(|&first| first == b'$')
    }

    /// Takes out of an answer what guarded subscriptions do not match.
    pub(super) fn retain_seen(&self, topic: &str, hits: &mut Hits) {
        if !self.guards.is_empty() {
            let is_hidden =
                |hit: &Subscriber| hit.options.is_guarded() && self.hides(hit.session, topic);
            hits.subscribers.retain(|hit| !is_hidden(hit));
        }
    }

    /// Everything that `topic` reaches, appended to `hits`. Allocates nothing once `hits` has
    /// grown.
    pub fn match_into(&self, topic: &str, hits: &mut Hits) {
        self.walk(topic, &mut hits.scratch);
        for at in 0..hits.scratch.held.len() {
            self.collect(hits.scratch.held[at], hits);
        }
    }

    /// Grows with every change that can alter an answer of [`Self::match_into`].
    #[must_use]
    pub fn epoch(&self) -> u64 {
        self.epochs.all()
    }

    /// What [`Self::is_fresh`] wants to know later about an answer for `topic` computed now.
    pub(super) fn stamp(&self, topic: &str) -> Stamp {
        self.epochs.stamp(levels(topic).map(|level| self.nodes.key(level.as_bytes()).digest))
    }

    pub(super) fn is_fresh(&self, stamp: Stamp) -> bool {
        self.epochs.is_fresh(stamp)
    }

    /// This shard's own subscriptions, shared ones included.
    #[must_use]
    pub fn subscriptions_count(&self) -> usize {
        self.subscriptions_count
    }

    /// Nodes, the root not counted: 0 when nothing is left.
    #[must_use]
    pub fn node_count(&self) -> usize {
        self.nodes.count()
    }

    /// Shared groups that have members on any shard.
    #[must_use]
    pub fn group_count(&self) -> usize {
        self.groups.count()
    }

    /// Heap memory, without what the allocator adds. Looks at everything that is not small.
    #[must_use]
    pub fn bytes(&self) -> usize {
        let many: usize = self
            .many
            .iter()
            .map(|many| many.subscribers.bytes() + many.groups.capacity() * size_of::<GroupId>())
            .sum();
        let groups: usize = self.groups.iter().flatten().map(ShareGroup::bytes).sum();
        let slabs = self.ones.bytes() + self.many.bytes() + self.groups.bytes();
        self.nodes.bytes() + slabs + many + groups + self.group_index.allocation_size()
    }
}

impl Trie {
    fn held(&self, node: u32) -> Held {
        Held::unpack(self.nodes.node(node).held)
    }

    fn set_held(&mut self, node: u32, held: Held) {
        self.nodes.set_held(node, held.pack());
    }

    /// Makes the node, which holds nothing, hold one subscriber.
    fn hold_one(&mut self, node: u32, subscriber: Subscriber) {
        let held =
            Held::plain(subscriber).unwrap_or_else(|| Held::One(self.ones.insert(subscriber)));
        self.set_held(node, held);
    }

    fn one(&self, held: Held) -> Option<Subscriber> {
        match held {
            Held::Plain(subscriber) => Some(subscriber),
            Held::One(one) => self.ones.get(one).copied(),
            Held::Nothing | Held::Remote(_) | Held::Many(_) => None,
        }
    }

    /// Frees the place of a lone subscriber that a node held.
    fn release_one(&mut self, held: Held) {
        if let Held::One(one) = held {
            self.ones.remove(one);
        }
    }

    /// Makes the node hold a [`Many`], with what it holds now.
    fn widen(&mut self, node: u32) -> u32 {
        let mut fresh = Many::default();
        match self.held(node) {
            Held::Nothing => {}
            Held::Plain(one) => fresh.subscribers.push(one),
            Held::One(one) => fresh.subscribers.push(self.ones.remove(one)),
            Held::Remote(shard) => fresh.remote = bit(shard),
            Held::Many(many) => return many,
        }
        let many = self.many.insert(fresh);
        self.set_held(node, Held::Many(many));
        many
    }

    /// Undoes [`Self::widen`] if what is left does not need it.
    fn narrow(&mut self, node: u32) {
        let Held::Many(at) = self.held(node) else { return };
        let many = &self.many[at];
        if !many.groups.is_empty() {
            return;
        }
        match (&*many.subscribers, many.remote) {
            ([], 0) => self.set_held(node, Held::Nothing),
            (&[one], 0) => self.hold_one(node, one),
            ([], remote) if remote.is_power_of_two() => {
                let Ok(shard) = u8::try_from(remote.ilog2()) else { return };
                self.set_held(node, Held::Remote(ShardId(shard)));
            }
            _ => return,
        }
        self.many.remove(at);
    }

    fn on_node_change(&mut self, node: u32) {
        let path = self.nodes.path(node);
        let digest =
            |&node: &u32| self.nodes.with_level(node, |level| self.nodes.key(level).digest);
        self.epochs.on_change(path.iter().map(digest));
    }

    fn on_filter_change(&mut self, filter: &str) {
        let digest = |level: &str| self.nodes.key(level.as_bytes()).digest;
        self.epochs.on_change(levels(filter).map(digest));
    }

    /// Fills `scratch.held` with what hangs on the nodes that `topic` leads to.
    fn walk(&self, topic: &str, scratch: &mut WalkScratch) {
        let WalkScratch { nodes, held, topic: room } = scratch;
        nodes.clear();
        held.clear();
        nodes.push(ROOT);
        let mut at = 0;
        // MQTT-4.7.2-1: a wildcard in front does not reach topics that begin with `$`.
        let mut is_open = !topic.starts_with('$');
        // Level by level: what the nodes of one level wait for in memory, they wait for together.
        for key in self.nodes.topic_keys(topic, room) {
            let end = nodes.len();
            self.walk_level(key, is_open, at..end, nodes, held);
            at = end;
            if at == nodes.len() {
                return;
            }
            is_open = true;
        }
        self.end_walk(nodes.get(at..).unwrap_or_default(), held);
    }

    /// The children of `these`, of one level, that the next level leads to, appended to `nodes`.
    #[inline(always)]
    fn walk_level(
        &self,
        key: LevelKey<'_>,
        is_open: bool,
        these: Range<usize>,
        nodes: &mut Vec<u32>,
        held: &mut Vec<u32>,
    ) {
        for at in these {
            let number = nodes[at];
            let node = self.nodes.node(number);
            if is_open {
                if let Some(hash) = self.held_by_hash(node) {
                    held.push(hash);
                }
                if let Some(plus) = node.plus_child() {
                    nodes.push(plus);
                }
            }
            if let Some(child) = self.nodes.child_of(number, node, key) {
                nodes.push(child);
            }
        }
    }

    #[inline(always)]
    fn end_walk(&self, last: &[u32], held: &mut Vec<u32>) {
        for &number in last {
            let node = self.nodes.node(number);
            held.extend(self.held_by_hash(node));
            held.push(node.held);
        }
    }

    /// Begins what [`Self::match_into`] does, for [`Self::go_on_matching`].
    pub(super) fn begin_matching(&self, topic: &str, hits: &mut Hits) -> Walk {
        hits.clear();
        let WalkScratch { nodes, held, topic: room } = &mut hits.scratch;
        nodes.clear();
        held.clear();
        nodes.push(ROOT);
        // Leaves the topic in `room`.
        let _ = self.nodes.topic_keys(topic, room);
        Walk { at: 0, end: 1, level: 0, is_open: !topic.starts_with('$') }
    }

    /// Looks at some `nodes_max` more nodes; true when the answer is whole. Between two calls nothing may
    /// change that the topic's stamp tells of ([`Self::is_fresh`]).
    pub(super) fn go_on_matching(
        &self,
        walk: &mut Walk,
        nodes_max: usize,
        hits: &mut Hits,
    ) -> bool {
        let WalkScratch { nodes, held, topic: room } = &mut hits.scratch;
        let stop = walk.at.saturating_add(nodes_max);
        let mut keys = self.nodes.rest_of_keys(room, walk.level);
        while let Some(key) = keys.next() {
            let until = walk.end.min(stop);
            self.walk_level(key, walk.is_open, walk.at..until, nodes, held);
            walk.at = until;
            if until < walk.end {
                return false;
            }
            walk.end = nodes.len();
            walk.level = room.len() - keys.rest_bytes();
            walk.is_open = true;
        }
        self.end_walk(nodes.get(walk.at..).unwrap_or_default(), held);
        for at in 0..hits.scratch.held.len() {
            self.collect(hits.scratch.held[at], hits);
        }
        true
    }

    /// What hangs on the node's `#`.
    #[inline(always)]
    fn held_by_hash(&self, node: &Node) -> Option<u32> {
        node.hash_child().map(|hash| self.nodes.node(hash).held)
    }

    #[inline(always)]
    fn collect(&self, held: u32, hits: &mut Hits) {
        match Held::unpack(held) {
            Held::Nothing => {}
            Held::Plain(one) => {
                hits.subscribers.push(one);
                hits.sources += 1;
            }
            Held::One(one) => {
                hits.subscribers.push(self.ones[one]);
                hits.sources += 1;
            }
            Held::Remote(shard) => hits.remote |= bit(shard),
            Held::Many(many) => {
                let many = &self.many[many];
                hits.subscribers.extend_from_slice(&many.subscribers);
                hits.sources += u32::from(!many.subscribers.is_empty());
                hits.remote |= many.remote;
                hits.groups.extend_from_slice(&many.groups);
            }
        }
    }
}

/// Which bit of a set of shards. `limits::SHARDS_MAX` is the width of the set.
fn bit(shard: ShardId) -> u64 {
    1_u64.wrapping_shl(u32::from(shard.0))
}
