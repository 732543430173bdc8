//! A SUBSCRIBE or UNSUBSCRIBE with more filters than a turn takes: how far it has come.

use crate::ids::{PacketId, SubscriptionId};
use crate::topic::NodeId;

/// What is done with the filters.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FilingKind {
    Subscribe(Option<SubscriptionId>),
    Unsubscribe,
}

/// A packet whose filters are worked off in pieces. It is answered at the end of all.
#[derive(Debug)]
pub struct Filing {
    pub kind: FilingKind,
    pub packet_id: PacketId,
    /// The filters as received, from the first that was not reached in the first turn.
    pub list: Vec<u8>,
    /// Where in `list` the next one begins.
    pub start: usize,
    /// The reason codes of those that are done.
    pub codes: Vec<u8>,
    /// Where retained messages are due.
    pub retained: Vec<NodeId>,
}

impl Filing {
    #[must_use]
    pub fn new(kind: FilingKind, packet_id: PacketId) -> Self {
        let (codes, retained) = (Vec::new(), Vec::new());
        Self { kind, packet_id, list: Vec::new(), start: 0, codes, retained }
    }
}
