//! Small numbers with meaning: which shard, which network connection, which packet.

use std::fmt;
use std::num::{NonZeroU16, NonZeroU32};

/// One core's share of the broker, `0..shards`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ShardId(pub u8);

impl ShardId {
    /// Position in per-shard tables.
    #[must_use]
    pub fn index(self) -> usize {
        usize::from(self.0)
    }
}

impl fmt::Display for ShardId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)
    }
}

/// One network connection of one shard. The shell hands out the number; `generation` tells a reused
/// `index` from its earlier owner, so a late input finds nobody instead of the wrong one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ConnId {
    pub index: u32,
    pub generation: u32,
}

/// Packet identifier of an exchange, never 0 (MQTT 5.0 section 2.2.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PacketId(NonZeroU16);

impl PacketId {
    pub const MIN: Self = Self(NonZeroU16::MIN);

    /// `None` for 0.
    #[must_use]
    pub fn new(value: u16) -> Option<Self> {
        NonZeroU16::new(value).map(Self)
    }

    #[must_use]
    pub fn value(self) -> u16 {
        self.0.get()
    }

    /// The next identifier; 65,535 is followed by 1.
    #[must_use]
    pub fn next(self) -> Self {
        Self(self.0.checked_add(1).unwrap_or(NonZeroU16::MIN))
    }
}

/// Subscription identifier, 1 to 268,435,455 (MQTT 5.0 section 3.8.2.1.2).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SubscriptionId(NonZeroU32);

impl SubscriptionId {
    pub const MAX: u32 = 268_435_455;

    /// `None` for 0 and for what a variable byte integer cannot hold.
    #[must_use]
    pub fn new(value: u32) -> Option<Self> {
        if value > Self::MAX { None } else { NonZeroU32::new(value).map(Self) }
    }

    #[must_use]
    pub fn value(self) -> u32 {
        self.0.get()
    }
}

/// Index of a session on its shard. Valid while the session lives; the shard clears all uses at its end.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SessionId(pub u32);

/// A pending durable operation; the store answers with it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct StoreTicket(pub u64);

/// Quality of service of a delivery.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum QoS {
    AtMostOnce = 0,
    AtLeastOnce = 1,
    ExactlyOnce = 2,
}

impl QoS {
    /// `None` above 2.
    #[must_use]
    pub fn from_bits(bits: u8) -> Option<Self> {
        match bits {
            0 => Some(Self::AtMostOnce),
            1 => Some(Self::AtLeastOnce),
            2 => Some(Self::ExactlyOnce),
            _ => None,
        }
    }

    #[must_use]
    pub fn bits(self) -> u8 {
        self as u8
    }
}

/// Protocol of a network connection, from CONNECT's protocol name and level.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Version {
    /// `MQIsdp`, level 3.
    V31,
    /// `MQTT`, level 4.
    V311,
    /// `MQTT`, level 5.
    V5,
}

impl Version {
    #[must_use]
    pub fn is_v5(self) -> bool {
        matches!(self, Self::V5)
    }
}
