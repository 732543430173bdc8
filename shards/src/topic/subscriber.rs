//! What a match is made of: a subscriber with its options, and the buffer that a walk fills.

use super::roster::OfSession;
use super::share::GroupId;
use crate::ids::{QoS, SessionId, SubscriptionId};

const QOS_MASK: u8 = 0b0000_0011;
const NO_LOCAL: u8 = 0b0000_0100;
const RETAIN_AS_PUBLISHED: u8 = 0b0000_1000;
/// In the options byte a part of retain handling, which is over when SUBSCRIBE is answered.
const CHECKED: u8 = 0b0001_0000;

/// There retain handling as well.
const GUARDED: u8 = 0b0010_0000;

/// The options of a subscription that matter after SUBSCRIBE, packed as in its options byte; and whether
/// each delivery must be asked for or looked at.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SubOptions(u8);

impl SubOptions {
    #[must_use]
    pub fn new(qos: QoS, no_local: bool, retain_as_published: bool) -> Self {
        let no_local = if no_local { NO_LOCAL } else { 0 };
        let retain = if retain_as_published { RETAIN_AS_PUBLISHED } else { 0 };
        Self(qos.bits() | no_local | retain)
    }

    /// From [`Self::bits`]; `None` if no such options exist.
    #[must_use]
    pub fn from_bits(bits: u8) -> Option<Self> {
        let known = bits & !(QOS_MASK | NO_LOCAL | RETAIN_AS_PUBLISHED | CHECKED | GUARDED) == 0;
        (known && QoS::from_bits(bits & QOS_MASK).is_some()).then_some(Self(bits))
    }

    #[must_use]
    pub fn bits(self) -> u8 {
        self.0
    }

    /// The granted maximum QoS.
    #[must_use]
    pub fn qos(self) -> QoS {
        match self.0 & QOS_MASK {
            0 => QoS::AtMostOnce,
            1 => QoS::AtLeastOnce,
            _ => QoS::ExactlyOnce,
        }
    }

    #[must_use]
    pub fn no_local(self) -> bool {
        self.0 & NO_LOCAL != 0
    }

    #[must_use]
    pub fn retain_as_published(self) -> bool {
        self.0 & RETAIN_AS_PUBLISHED != 0
    }

    /// The filter is wider than what its client may receive.
    #[must_use]
    pub fn is_checked(self) -> bool {
        self.0 & CHECKED != 0
    }

    #[must_use]
    pub fn with_checked(self, is_checked: bool) -> Self {
        let checked = if is_checked { CHECKED } else { 0 };
        Self(self.0 & !CHECKED | checked)
    }

    /// The filter reaches topics that its client, below a mount point, has no name for or that its
    /// wildcard does not match ([`super::Trie::hides`]).
    #[must_use]
    pub fn is_guarded(self) -> bool {
        self.0 & GUARDED != 0
    }

    #[must_use]
    pub fn with_guarded(self, is_guarded: bool) -> Self {
        let guarded = if is_guarded { GUARDED } else { 0 };
        Self(self.0 & !GUARDED | guarded)
    }
}

/// One session's subscription to one filter.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Subscriber {
    pub session: SessionId,
    pub id: Option<SubscriptionId>,
    pub options: SubOptions,
}

const _: () = assert!(size_of::<Subscriber>() == 12);

impl Default for Subscriber {
    fn default() -> Self {
        Self { session: SessionId(u32::MAX), id: None, options: SubOptions::default() }
    }
}

impl OfSession for Subscriber {
    fn session(&self) -> SessionId {
        self.session
    }
}

/// What a topic reaches. Owned by the caller and reused: a walk appends and allocates nothing once
/// the lists have grown.
#[derive(Debug, Default)]
pub struct Hits {
    /// One per matching subscription, in no particular order; a session may appear several times.
    pub subscribers: Vec<Subscriber>,
    /// The other shards that have subscribers, one bit each.
    pub remote: u64,
    /// The matching shared subscriptions that have members on any shard.
    pub groups: Vec<GroupId>,
    /// How many filters gave subscribers; with one, no session appears twice.
    pub(super) sources: u32,
    pub(super) scratch: WalkScratch,
}

impl Hits {
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Heap memory, without what the allocator adds.
    pub(super) fn bytes(&self) -> usize {
        let WalkScratch { nodes, held, topic } = &self.scratch;
        self.subscribers.capacity() * size_of::<Subscriber>()
            + self.groups.capacity() * size_of::<GroupId>()
            + (nodes.capacity() + held.capacity()) * size_of::<u32>()
            + topic.capacity()
    }

    /// Forgets the answer, keeps the memory.
    pub fn clear(&mut self) {
        self.subscribers.clear();
        self.groups.clear();
        self.remote = 0;
        self.sources = 0;
    }
}

/// What a walk needs while it runs, and finds.
#[derive(Debug, Default)]
pub(super) struct WalkScratch {
    /// The nodes that the levels so far lead to, a level's behind those of the one before.
    pub(super) nodes: Vec<u32>,
    /// What hangs on those that match, as they have it.
    pub(super) held: Vec<u32>,
    /// The topic, as its levels are cut from it.
    pub(super) topic: Vec<u8>,
}

/// How far a walk has come that goes on later. The nodes of one level, of which it has looked at some,
/// end at `end`.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Walk {
    pub(super) at: usize,
    pub(super) end: usize,
    /// Where their next level begins in the scratch's topic.
    pub(super) level: usize,
    /// Wildcards match at this level.
    pub(super) is_open: bool,
}
