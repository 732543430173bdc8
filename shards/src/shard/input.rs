//! Everything that can happen to a shard.

use std::net::SocketAddr;

use crate::auth::{Authenticate, Authorise, Verdict};
use crate::ids::{ConnId, ShardId, StoreTicket};
use crate::origin::Origin;
use crate::store::StoreOutcome;

/// How a network connection ended, as the shell saw it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CloseCause {
    /// The peer closed its side.
    Eof,
    /// The transport failed.
    Failed,
    /// The core asked for it ([`crate::shard::Closing`]).
    Asked,
}

/// Everything that can happen to a shard.
#[derive(Debug)]
pub enum Input<'a> {
    /// A network connection was accepted here, or adopted from another shard.
    Opened { conn: ConnId, origin: Origin },
    /// What the transport found out about a connection, after `Opened` and before the bytes of CONNECT:
    /// the peer that a proxy announced, the identity from a certificate or from the peer's credentials.
    /// Given again after a hand-over.
    Identified { conn: ConnId, peer: Option<SocketAddr>, identity: Option<&'a str> },
    /// Bytes came in. Read in place; only the head of a cut packet is kept.
    Received { conn: ConnId, bytes: &'a [u8] },
    /// The transport took everything that [`crate::Shard::take_output`] handed out last.
    Drained { conn: ConnId },
    /// The connection is gone. The last input with this `conn`, told exactly once for each `Opened`
    /// that was not followed by a hand-over.
    Closed { conn: ConnId, cause: CloseCause },
    /// The answer to a check that said [`Verdict::Later`]. Passed over if nothing waits for one.
    Authenticated { conn: ConnId, verdict: Verdict },
    /// There may be mail from `from`: take a bounded batch. The shell gives this for every other
    /// shard in every turn; an empty ring costs one load.
    Mail { from: ShardId },
    /// A durable operation ended.
    Stored { ticket: StoreTicket, outcome: StoreOutcome },
    /// `next_deadline` has come (or may have come).
    Deadline,
    /// The share of the last second in which this shard was busy; for `$SYS`.
    Load { busy_permille: u16 },
    /// New rules in place of the old ones. All sessions are checked by them, some in each turn.
    Rules { authenticate: Box<dyn Authenticate>, authorise: Box<dyn Authorise> },
    /// Take no new connections, publish wills, disconnect everybody. [`crate::shard::Outbox::stopped`]
    /// says when nothing is left.
    Stop,
}
