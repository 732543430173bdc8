//! Sessions: state that may outlive network connections. Knows nothing of connections but their number.

pub mod alias;
pub mod inbound;
pub mod messages;
pub mod outgoing;
pub mod subscriptions;

use std::collections::{BTreeMap, VecDeque};
use std::num::NonZeroU64;
use std::sync::Arc;

use hashbrown::HashTable;

use crate::arena::Arena;
use crate::auth::{Identity, Who};
use crate::ids::{PacketId, QoS, SessionId, Version};
use crate::timers::TimerId;
use crate::topic::{GroupId, NodeId, Seeded, topic_hash};
use inbound::Inbound;
use outgoing::{Delivery, Outgoing};
use subscriptions::Subscriptions;

/// Where one of a session's subscriptions stands in the index.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum SubscriptionKey {
    /// An ordinary one.
    Node(NodeId),
    /// A shared one.
    Group(GroupId),
}

/// A will, kept from CONNECT until it is published or dropped.
#[derive(Debug)]
pub struct Will {
    pub topic: Box<str>,
    /// As they go to subscribers.
    pub properties: Box<[u8]>,
    pub payload: bytes::Bytes,
    pub qos: QoS,
    pub retain: bool,
    pub delay_s: u32,
    pub expiry_s: Option<u32>,
}

/// Retained messages on their way to a new subscription, one filter after the other.
///
/// While a session has one, live messages wait in its queue, so that none is seen before the retained
/// message that it followed.
#[derive(Debug, Default)]
pub struct RetainedStream {
    /// How many SUBSCRIBEs have added filters.
    pub round: u32,
    /// Filters still to be served, each with the round that it came in.
    pub waiting: BTreeMap<NodeId, u32>,
    /// The filter at work.
    pub current: Option<RetainedWalk>,
    /// Deliveries of the slice at hand.
    pub slice: VecDeque<Delivery>,
    /// By shard, how many records it had posted to each other one when it began to route to the new
    /// subscription: owners of retained messages answer once they have seen as many.
    pub barrier: Vec<Box<[u64]>>,
    /// It has had its share of this turn and goes on in the next one.
    pub has_yielded: bool,
    /// Hashes of topics whose retained message a live one has already replaced, each with the round in
    /// which that happened last.
    overtaken: BTreeMap<u64, u32>,
}

/// Topics remembered as overtaken, by session. A retained message beyond them comes although a newer
/// one waits behind it.
const OVERTAKEN_MAX: usize = 64 * 1024;

impl RetainedStream {
    /// A live message is newer than the topic's retained one: that one need not come any more.
    pub fn overtake(&mut self, topic: &str) {
        let hash = topic_hash(topic.as_bytes());
        if self.overtaken.len() < OVERTAKEN_MAX || self.overtaken.contains_key(&hash) {
            self.overtaken.insert(hash, self.round);
        }
    }

    /// Whether that happened since `round`: a filter that came later is still owed the retained message.
    #[must_use]
    pub fn is_overtaken(&self, topic: &str, round: u32) -> bool {
        let last = self.overtaken.get(&topic_hash(topic.as_bytes()));
        last.is_some_and(|&last| last >= round)
    }
}

/// How far the walk for one filter has come.
#[derive(Debug)]
pub struct RetainedWalk {
    pub node: NodeId,
    /// The round of its SUBSCRIBE.
    pub round: u32,
    /// The shard being asked.
    pub shard: u8,
    /// The one after which to stop (a filter without wildcards has one owner).
    pub shard_last: u8,
    /// Topic after which to go on.
    pub cursor: Option<Box<str>>,
    /// The question that is out; answers to older ones are dropped.
    pub asked: Option<u64>,
}

/// Packet identifiers, each with the number of what waits for its message's outcome.
#[derive(Debug, Default)]
pub struct Unsettled(Vec<(PacketId, u64)>);

impl Unsettled {
    pub fn iter(&self) -> impl Iterator<Item = (PacketId, u64)> + '_ {
        self.0.iter().copied()
    }
}

const _: () = assert!(size_of::<Session>() <= 112, "an idle client is mostly this");

/// State that may outlive network connections. Lives on the shard that owns its client identifier.
#[derive(Debug)]
pub struct Session {
    pub client_id: Box<str>,
    /// Index of the network connection that has it.
    pub conn: Option<u32>,
    pub version: Version,
    /// Session expiry interval; `u32::MAX` is never.
    pub expiry_s: u32,
    pub expiry_timer: Option<TimerId>,
    pub will_timer: Option<TimerId>,
    pub will: Option<Box<Will>>,
    /// Who the client of the last CONNECT was, if anything is known of it.
    pub identity: Option<Arc<Identity>>,
    pub subscriptions: Subscriptions,
    pub outgoing: Option<Box<Outgoing>>,
    pub inbound: Option<Box<Inbound>>,
    /// QoS 2 messages whose connection was lost before their outcome was known, with the number of
    /// what waits for it: a repeated PUBLISH waits for the same.
    pub unsettled: Option<Box<Unsettled>>,
    /// A SUBSCRIBE whose SUBACK waits for other shards: the number of its barrier.
    pub subscribing: Option<NonZeroU64>,
    pub stream: Option<Box<RetainedStream>>,
    /// The store knows of it and is told of every change.
    pub is_stored: bool,
    /// The store has missed a change: it is told everything with the next one.
    pub is_dirty: bool,
    /// It came back from the store, and its listener has another mount point now: it is not resumed.
    pub is_foreign: bool,
}

impl Session {
    #[must_use]
    pub fn who(&self) -> Who<'_> {
        Who { client_id: &self.client_id, identity: self.identity.as_deref() }
    }

    /// True while live messages must wait behind retained ones.
    #[must_use]
    pub fn is_holding(&self) -> bool {
        self.subscribing.is_some() || self.stream.is_some()
    }

    /// True if something could be sent, given room.
    #[must_use]
    pub fn waits(&self) -> bool {
        self.stream.is_some() || self.outgoing.as_ref().is_some_and(|outgoing| outgoing.waits())
    }

    pub fn unsettle(&mut self, packet_id: PacketId, ticket: u64) {
        self.unsettled.get_or_insert_default().0.push((packet_id, ticket));
    }

    /// What waits for a message's outcome, if something does; nothing does from here on.
    pub fn settle(&mut self, packet_id: PacketId) -> Option<u64> {
        let list = &mut self.unsettled.as_mut()?.0;
        let at = list.iter().position(|&(other, _)| other == packet_id)?;
        let (_, ticket) = list.swap_remove(at);
        if list.is_empty() {
            self.unsettled = None;
        }
        Some(ticket)
    }

    pub fn outgoing_mut(&mut self) -> &mut Outgoing {
        self.outgoing.get_or_insert_default()
    }

    /// The groups that the session is a member of.
    #[must_use]
    pub fn groups(&self) -> Vec<GroupId> {
        self.subscriptions.groups().collect()
    }

    #[must_use]
    pub fn inbound_count(&self) -> usize {
        self.inbound.as_ref().map_or(0, |inbound| inbound.count())
    }
}

/// The sessions of one shard, by number and by client identifier.
#[derive(Debug)]
pub struct Sessions {
    arena: Arena<Session>,
    by_client_id: HashTable<u32>,
    hash: Seeded,
}

impl Sessions {
    #[must_use]
    pub fn new(hash: Seeded) -> Self {
        Self { arena: Arena::default(), by_client_id: HashTable::new(), hash }
    }

    #[must_use]
    pub fn count(&self) -> usize {
        self.arena.count()
    }

    #[must_use]
    pub fn get(&self, id: SessionId) -> Option<&Session> {
        self.arena.get(id.0)
    }

    pub fn get_mut(&mut self, id: SessionId) -> Option<&mut Session> {
        self.arena.get_mut(id.0)
    }

    #[must_use]
    pub fn find(&self, client_id: &str) -> Option<SessionId> {
        let is_it =
            |&index: &u32| self.arena.get(index).is_some_and(|s| *s.client_id == *client_id);
        self.by_client_id
            .find(self.hash.bytes(client_id.as_bytes()), is_it)
            .map(|&at| SessionId(at))
    }

    /// Adds a session whose client identifier is not taken.
    pub fn insert(&mut self, session: Session) -> SessionId {
        debug_assert!(self.find(&session.client_id).is_none());
        let key = self.hash.bytes(session.client_id.as_bytes());
        let index = self.arena.insert(session);
        let (arena, hash) = (&self.arena, &self.hash);
        self.by_client_id.insert_unique(key, index, |&index| {
            arena.get(index).map_or(0, |session| hash.bytes(session.client_id.as_bytes()))
        });
        SessionId(index)
    }

    /// Takes a session out. Nobody finds it any more, but its number stays taken until
    /// [`Self::release`]: it may still stand in the index.
    pub fn remove(&mut self, id: SessionId) -> Option<Session> {
        let session = self.arena.retire(id.0)?;
        let key = self.hash.bytes(session.client_id.as_bytes());
        if let Ok(entry) = self.by_client_id.find_entry(key, |&index| index == id.0) {
            entry.remove();
        }
        let (used, capacity) = (self.by_client_id.len(), self.by_client_id.capacity());
        if capacity > 64 && used * 8 < capacity {
            let (arena, hash) = (&self.arena, &self.hash);
            self.by_client_id.shrink_to(self.by_client_id.len() * 2, |&index| {
                arena.get(index).map_or(0, |session| hash.bytes(session.client_id.as_bytes()))
            });
        }
        Some(session)
    }

    /// The numbers of all sessions are below.
    #[must_use]
    pub fn end(&self) -> u32 {
        self.arena.end()
    }

    /// The number of a session that was removed may be given to another one.
    pub fn release(&mut self, id: SessionId) {
        self.arena.release(id.0);
    }

    pub fn iter(&self) -> impl Iterator<Item = (SessionId, &Session)> {
        self.arena.iter().map(|(index, session)| (SessionId(index), session))
    }
}
