//! What a run is to do, fully resolved: every client, every topic, the pace and the times.

mod names;
mod scenarios;

use std::net::Ipv4Addr;
use std::time::Duration;

use clap::ValueEnum;
use serde::{Deserialize, Serialize};
use shards::ids::{QoS, Version};

pub(crate) use scenarios::{WireKind, plan};

use crate::cli::Knobs;

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Scenario {
    /// Pairs of one publisher and one subscriber, saturating
    Stream,
    /// Pairs, one topic each, at a fixed rate
    P2p,
    /// Each message to many subscribers
    Fanout,
    /// Many publishers to a few subscribers that share one subscription
    Fanin,
    /// A storm of connections, which then stay idle
    Connect,
    /// Retained messages, delivered to those who subscribe
    Retained,
    /// Messages matched against many filters with wildcards
    Wildcards,
    /// QoS 1 and sessions that are kept, subscribers come and go
    Persistent,
    /// 1.5 times what the broker can do, and a subscriber that does not read
    Overload,
}

impl Scenario {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Stream => "stream",
            Self::P2p => "p2p",
            Self::Fanout => "fanout",
            Self::Fanin => "fanin",
            Self::Connect => "connect",
            Self::Retained => "retained",
            Self::Wildcards => "wildcards",
            Self::Persistent => "persistent",
            Self::Overload => "overload",
        }
    }
}

/// Where publishers and subscribers of the same messages live.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Cross {
    /// On the same shard
    Local,
    /// Wherever their names put them
    Mixed,
    /// Never on the same shard
    All,
}

/// What is spoken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Wire {
    Mqtt(Version),
    /// PUBLISH packets only, behind the floors' greeting.
    Floor,
}

/// When publishers send.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Pace {
    /// So many messages a second, of all publishers together, whatever comes back.
    Open { per_s: f64 },
    /// As long as fewer than so many messages of a publisher are outstanding.
    Closed { window: u32 },
}

/// What happens beyond publishers that send and subscribers that receive.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Course {
    Steady,
    /// No messages: all connect, then all are held.
    Connect {
        hold: Duration,
    },
    /// Each subscriber subscribes, waits for all retained messages, unsubscribes, and again.
    Retained {
        messages: u32,
    },
    /// Every `period` the next subscriber's connection is cut, and comes back `away` later.
    Persistent {
        period: Duration,
        away: Duration,
    },
    /// The warm-up finds out what the broker can do (closed, with the window of the plan); then
    /// `factor` times that is offered, and the first subscriber does not read.
    Overload {
        factor: f64,
    },
}

/// One network connection.
#[derive(Clone, Debug)]
pub(crate) struct ClientPlan {
    pub(crate) id: String,
    pub(crate) filters: Vec<String>,
    /// The publishers whose messages it gets, as (first, count).
    pub(crate) heard: (u32, u32),
    /// The same for a floor, by channel (one for each publisher).
    pub(crate) channels: Vec<u32>,
    pub(crate) source: Ipv4Addr,
}

#[derive(Clone, Debug)]
pub(crate) struct PublisherPlan {
    /// Position among the clients.
    pub(crate) client: usize,
    pub(crate) topic: String,
    pub(crate) numbered: Option<Numbered>,
}

/// Clients that nothing is expected of but that they keep the broker busy; positions among all.
#[derive(Clone, Debug)]
pub(crate) struct Disturbance {
    pub(crate) publisher: usize,
    pub(crate) subscriber: usize,
    /// A subscriber that does not read.
    pub(crate) stalled: usize,
    pub(crate) topic: String,
}

/// How many they are.
pub(crate) const DISTURBERS: usize = 3;

/// Topics that differ in a number, which is written into the packet for each message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Numbered {
    /// Where the number's `NUMBER_DIGITS` digits begin in the topic.
    pub(crate) offset: usize,
    /// Numbers from 0 to below this, all in turn, neighbours far apart.
    pub(crate) count: u32,
}

/// Digits of all numbers in topics, so that all topics of a run have the same length.
pub(crate) const NUMBER_DIGITS: usize = 7;

#[derive(Clone, Copy, Debug)]
pub(crate) struct Times {
    /// Connecting and subscribing, all together.
    pub(crate) setup_max: Duration,
    pub(crate) warm_up: Duration,
    pub(crate) measure: Duration,
    /// Without any delivery, after the last send.
    pub(crate) drain_max: Duration,
    /// Between two turns of the load loop, if there is nothing left to do.
    pub(crate) tick: Duration,
}

/// See the module's documentation.
#[derive(Clone, Debug)]
pub(crate) struct Plan {
    pub(crate) scenario: Scenario,
    pub(crate) wire: Wire,
    pub(crate) qos: QoS,
    /// Subscribers first, then publishers, then those of a disturbance.
    pub(crate) clients: Vec<ClientPlan>,
    pub(crate) publishers: Vec<PublisherPlan>,
    pub(crate) disturbance: Option<Disturbance>,
    /// Deliveries of each message.
    pub(crate) fanout: u32,
    /// Each message goes to one of the subscribers.
    pub(crate) is_shared: bool,
    /// The broker may drop messages: more is offered than it can deliver.
    pub(crate) may_lose: bool,
    pub(crate) payload_bytes: usize,
    pub(crate) pace: Pace,
    /// QoS 1 and 2: unacknowledged messages of a publisher.
    pub(crate) inflight: u32,
    /// Connections that are being made at the same time.
    pub(crate) connecting_max: usize,
    pub(crate) course: Course,
    pub(crate) times: Times,
    /// System calls are counted, nothing else.
    pub(crate) is_traced: bool,
    pub(crate) knobs: Knobs,
}

impl Plan {
    /// Sessions survive their connections.
    pub(crate) fn keeps_sessions(&self) -> bool {
        matches!(self.course, Course::Persistent { .. })
    }

    pub(crate) fn subscribers(&self) -> usize {
        let disturbers = if self.disturbance.is_some() { DISTURBERS } else { 0 };
        self.clients.len() - self.publishers.len() - disturbers
    }

    /// QoS of PUBLISH packets and subscriptions; a floor acknowledges nothing, so there is none.
    pub(crate) fn acknowledges(&self) -> bool {
        self.wire != Wire::Floor && self.qos != QoS::AtMostOnce
    }

    pub(crate) fn version(&self) -> Version {
        match self.wire {
            Wire::Mqtt(version) => version,
            Wire::Floor => Version::V311,
        }
    }
}
