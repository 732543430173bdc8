//! The seam to durable storage: what must survive a crash, as records under keys.
//!
//! A shard with [`crate::limits::Settings::is_durable`] asks for operations; the store answers each with
//! [`crate::shard::Input::Stored`]. What the shell owes the core:
//!
//! - An operation has its whole effect or none. Operations of one shard take effect in their order. A crash keeps a beginning of them, which holds
//!   at least those that were answered with [`StoreOutcome::Durable`]; nothing in the middle is missing
//!   but what was answered with [`StoreOutcome::Failed`].
//! - Answers come in the order of the operations. One answer stands for its operation and all earlier
//!   ones that have none yet, so a group commit is one input.
//! - After a crash each record is given back to the shard that [`StoreKey::owner`] names, which may be
//!   another one than before if their number has changed, through [`crate::Shard::restore`].

pub mod record;

use crate::ids::{PacketId, ShardId};
use crate::slots::owner_of;
use crate::topic::topic_hash;

/// What a record is about. Records are given back in ascending order of their keys.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum StoreKey {
    /// A session ([`record::SessionRecord`]).
    Session { client_id: Box<str> },
    /// A subscription of a session, under the filter as it was subscribed to, `$share` included
    /// ([`record::SubscriptionRecord`]).
    Subscription { client_id: Box<str>, filter: Box<str> },
    /// A message that a session is owed ([`record::MessageRecord`]). Numbers ascend in the order of
    /// delivery.
    Message { client_id: Box<str>, number: u64 },
    /// A delivery to this client that has begun ([`record::ExchangeRecord`]).
    Exchange { client_id: Box<str>, packet_id: PacketId },
    /// A QoS 2 message of this client that was taken and not released yet (an empty record).
    Inbound { client_id: Box<str>, packet_id: PacketId },
    /// The retained message of a topic ([`record::MessageRecord`]).
    Retained { topic: Box<str> },
}

impl StoreKey {
    /// The shard that a record belongs to when there are so many.
    #[must_use]
    pub fn owner(&self, shards: u8) -> ShardId {
        let text = match self {
            Self::Session { client_id }
            | Self::Subscription { client_id, .. }
            | Self::Message { client_id, .. }
            | Self::Exchange { client_id, .. }
            | Self::Inbound { client_id, .. } => client_id,
            Self::Retained { topic } => topic,
        };
        owner_of(topic_hash(text.as_bytes()), shards)
    }

    /// The client whose session a record belongs to; none for a retained message.
    #[must_use]
    pub fn client_id(&self) -> Option<&str> {
        match self {
            Self::Session { client_id }
            | Self::Subscription { client_id, .. }
            | Self::Message { client_id, .. }
            | Self::Exchange { client_id, .. }
            | Self::Inbound { client_id, .. } => Some(client_id),
            Self::Retained { .. } => None,
        }
    }
}

/// What should be made durable.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum StoreOp {
    /// Keeps a record in place of an older one under the same key.
    Put { key: StoreKey, record: Vec<u8> },
    /// Removes the record under a key, if there is one.
    Delete { key: StoreKey },
    /// Removes every record of a client and keeps these, all at once.
    Replace { client_id: Box<str>, records: Vec<(StoreKey, Vec<u8>)> },
}

/// How a durable operation ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StoreOutcome {
    /// It survives a crash from here on.
    Durable,
    /// It could not be written and has no effect; the message is not accepted, the connection that
    /// waits for it ends.
    Failed,
}
