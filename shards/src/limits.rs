//! Every upper bound, with its reason, and the relations between bounds.
//!
//! [`Settings`] holds what an operator may want to change; the constants are what the design or the
//! protocol fixes. The shell reads `Settings` from flags and files; the core never does.

use std::sync::Arc;

use crate::ids::{QoS, Version};

/// Largest remaining length that a variable byte integer can say (MQTT 5.0 section 1.5.5).
pub const REMAINING_LENGTH_MAX: u32 = 268_435_455;

/// Shards of one process: a set of shards fits one `u64`.
pub const SHARDS_MAX: usize = 64;

/// Slots of the map from client identifiers to shards; the same on every shard.
pub const SLOTS: u16 = 4096;

/// Of a connection that moves, bytes read so far that are copied into the ring; more travel as one
/// refcounted payload. Messages do so from [`SPLICE_BYTES_MIN`] on.
pub const MAIL_INLINE_BYTES_MAX: usize = 4 * 1024;

/// Default bytes of one ring between two shards.
pub const MAILBOX_BYTES: usize = 128 * 1024;

/// From this payload size on, subscribers share one refcounted payload instead of getting a copy.
pub const SPLICE_BYTES_MIN: usize = 8 * 1024;

/// A buffer that is used again and again may keep this much between two rounds of housekeeping.
pub const SCRATCH_BYTES_MAX: usize = 64 * 1024;

/// Bytes that are as much work as a packet: to be read, copied and sent on.
pub const UNIT_BYTES: usize = 512;

/// Bytes of a mount point: longer ones leave too little for topics.
pub const MOUNT_BYTES_MAX: usize = 1024;

/// Subscription identifiers of overlapping subscriptions that one delivery can carry.
pub const SUBSCRIPTION_IDS_MAX: usize = 64;

const _: () = assert!(SHARDS_MAX <= u64::BITS as usize);
const _: () = assert!(SLOTS.is_power_of_two());
const _: () = assert!(MAIL_INLINE_BYTES_MAX * 8 <= MAILBOX_BYTES);

/// What happens to a QoS 1 or 2 message for a session whose queue is full.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OverflowPolicy {
    /// The oldest queued message makes room.
    DropOldest,
    /// The new message is dropped.
    DropNewest,
    /// The publisher is told 0x97 (QoS 1 and 2, MQTT 5.0); the message is dropped for this session.
    Refuse,
    /// The slow subscriber is disconnected with 0x97; its session and queue stay.
    Disconnect,
}

/// Which member of a shared subscription gets a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ShareStrategy {
    RoundRobin,
    Random,
    /// The same member until it leaves.
    Sticky,
    /// By the publisher's client identifier.
    HashClient,
    /// By the topic name.
    HashTopic,
    /// The member of the chosen shard with the fewest messages in flight.
    LeastInflight,
}

/// A set of protocol versions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Versions(u8);

impl Versions {
    pub const ALL: Self = Self(0b111);

    #[must_use]
    pub fn of(versions: &[Version]) -> Self {
        Self(versions.iter().fold(0, |set, &version| set | Self::bit(version)))
    }

    #[must_use]
    pub fn has(self, version: Version) -> bool {
        self.0 & Self::bit(version) != 0
    }

    fn bit(version: Version) -> u8 {
        match version {
            Version::V31 => 1,
            Version::V311 => 2,
            Version::V5 => 4,
        }
    }
}

/// What an operator may set for the connections of one listener.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ListenerSettings {
    /// In place of [`Settings::packet_bytes_max`].
    pub packet_bytes_max: Option<u32>,
    /// Network connections of this listener per shard.
    pub connections_max: Option<u32>,
    /// A CONNECT of another version is refused.
    pub versions: Versions,
    /// Where the topics of its clients lie for everybody else: it stands in front of each, and its
    /// clients neither see it nor anything beside it. Ends with `/`, so that a level stays a level;
    /// has no wildcards, does not begin with `$`, and is at most [`MOUNT_BYTES_MAX`] long. Anything
    /// else counts as none.
    pub mount: Option<Arc<str>>,
    /// PUBLISH packets of one client in a second; what is beyond waits. 0 is no limit either.
    pub publishes_per_s: Option<u32>,
    /// Bytes of PUBLISH packets of one client in a second; what is beyond waits.
    pub bytes_per_s: Option<u32>,
}

impl ListenerSettings {
    /// The mount point, if it can be one.
    #[must_use]
    pub fn mount(&self) -> Option<&str> {
        let mount = self.mount.as_deref()?;
        let is_one = mount.ends_with('/')
            && mount.len() <= MOUNT_BYTES_MAX
            && !mount.starts_with('$')
            && !mount.contains(['+', '#', '\0']);
        is_one.then_some(mount)
    }
}

impl Default for ListenerSettings {
    fn default() -> Self {
        Self {
            packet_bytes_max: None,
            connections_max: None,
            versions: Versions::ALL,
            mount: None,
            publishes_per_s: None,
            bytes_per_s: None,
        }
    }
}

/// What an operator may set. One value per process; each shard has its own copy.
/// Limits named `..._max` with a per-shard meaning say so.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// Largest control packet accepted, in bytes, its fixed header included (CONNACK: Maximum Packet Size).
    pub packet_bytes_max: u32,
    /// Largest first packet, if that is less: nobody has said yet who asks for the memory.
    pub connect_packet_bytes_max: u32,
    /// A connection that has not sent its whole CONNECT after this time is closed. Milliseconds.
    pub connect_timeout_ms: u32,
    /// How long a connection that the broker has finished may take to close its side. Milliseconds.
    pub linger_ms: u32,
    /// Server Keep Alive: a client that asks for more, or for none, gets this. 0: the client decides. Seconds.
    pub keep_alive_max_s: u16,
    /// Longest session expiry interval granted, in seconds; `u32::MAX` is "never".
    pub session_expiry_max_s: u32,
    /// QoS 1 and 2 messages a client may have unacknowledged towards the broker (CONNACK: Receive Maximum).
    pub receive_maximum: u16,
    /// Most messages in flight towards one client, whatever Receive Maximum it gave.
    pub inflight_max: u16,
    /// Topic aliases a client may use (CONNACK: Topic Alias Maximum).
    pub topic_alias_max: u16,
    /// Most topic aliases the broker uses towards one client.
    pub topic_alias_out_max: u16,
    /// Bytes of the topics that aliases of one connection stand for, in each direction. A client that
    /// needs more is disconnected with 0x97; the broker sends further topics without an alias.
    pub topic_alias_bytes_max: u32,
    /// Messages queued for one session beyond those in flight.
    pub queue_messages_max: u32,
    /// Bytes of the messages kept for one session, queued or in flight: a client that takes messages
    /// and never acknowledges them holds no more. One message always fits.
    pub queue_bytes_max: u64,
    pub overflow: OverflowPolicy,
    /// Bytes waiting for one connection's socket; QoS 0 messages beyond it are dropped, others wait
    /// in the queue. One message always fits.
    pub out_bytes_max: u32,
    /// Packets of one connection that are worked on before everybody else has had a turn. A packet
    /// counts once more for each [`UNIT_BYTES`] of it.
    pub turn_packets_max: u32,
    /// Network connections per shard.
    pub connections_max: u32,
    /// Sessions per shard, connected or not.
    pub sessions_max: u32,
    /// Subscriptions of one session.
    pub subscriptions_max: u32,
    /// Levels of a topic name or filter.
    pub topic_levels_max: u16,
    /// Bytes of a client identifier.
    pub client_id_bytes_max: u16,
    /// Retained messages per shard.
    pub retained_messages_max: u32,
    /// Bytes of the retained messages of one shard: topics, properties and payloads.
    pub retained_bytes_max: u64,
    pub share_strategy: ShareStrategy,
    /// Seconds between updates of `$SYS/broker/...`; 0 is off.
    pub sys_interval_s: u16,
    /// CONNACK: Maximum QoS.
    pub maximum_qos: QoS,
    /// CONNACK: Retain Available.
    pub retain_available: bool,
    /// CONNACK: Wildcard Subscription Available.
    pub wildcard_available: bool,
    /// CONNACK: Subscription Identifiers Available.
    pub subscription_ids_available: bool,
    /// CONNACK: Shared Subscription Available.
    pub shared_available: bool,
    /// Clients may connect with an empty client identifier.
    pub empty_client_id: bool,
    /// Acknowledge QoS 1 and 2 messages for sessions that outlive their connection only when the store
    /// has them.
    pub is_durable: bool,
    /// Bytes of each ring between two shards; rounded up to a power of two.
    pub mailbox_bytes: usize,
    /// What differs by listener ([`crate::origin::Origin::listener`]); one that is not here has the defaults.
    pub listeners: Vec<ListenerSettings>,
}

impl Settings {
    #[must_use]
    pub fn listener(&self, index: u16) -> Option<&ListenerSettings> {
        self.listeners.get(usize::from(index))
    }

    /// The mount point of a listener's clients; empty if they have none.
    #[must_use]
    pub fn mount(&self, listener: u16) -> &str {
        self.listener(listener).and_then(ListenerSettings::mount).unwrap_or_default()
    }
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            packet_bytes_max: 1024 * 1024,
            connect_packet_bytes_max: 64 * 1024,
            connect_timeout_ms: 10_000,
            linger_ms: 2_000,
            keep_alive_max_s: 0,
            session_expiry_max_s: u32::MAX,
            receive_maximum: 1024,
            inflight_max: 1024,
            topic_alias_max: 64,
            topic_alias_out_max: 16,
            topic_alias_bytes_max: 128 * 1024,
            queue_messages_max: 10_000,
            queue_bytes_max: 16 * 1024 * 1024,
            overflow: OverflowPolicy::DropNewest,
            out_bytes_max: 1024 * 1024,
            turn_packets_max: 256,
            connections_max: 1_000_000,
            sessions_max: 1_000_000,
            subscriptions_max: 100_000,
            topic_levels_max: 128,
            client_id_bytes_max: 1024,
            retained_messages_max: 1_000_000,
            retained_bytes_max: 1024 * 1024 * 1024,
            share_strategy: ShareStrategy::RoundRobin,
            sys_interval_s: 10,
            maximum_qos: QoS::ExactlyOnce,
            retain_available: true,
            wildcard_available: true,
            subscription_ids_available: true,
            shared_available: true,
            empty_client_id: true,
            is_durable: false,
            mailbox_bytes: MAILBOX_BYTES,
            listeners: Vec::new(),
        }
    }
}
