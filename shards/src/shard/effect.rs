//! Everything a shard can ask for.
//!
//! `handle` appends to an [`Outbox`]; the shell applies it after a bounded number of inputs and
//! clears it, so the lists keep their memory. Order: releases and
//! adoptions first, then reads, then sends, then closes, then one doorbell per target.

use crate::ids::{ConnId, ShardId, StoreTicket};
use crate::origin::Origin;
use crate::reject::Reject;
use crate::store::StoreOp;

/// What the shell should do about a connection's incoming bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reading {
    /// One receive, then wait to be asked again (before CONNECT, when the connection may still move
    /// to another shard).
    Once,
    /// Receive for as long as bytes come.
    Stream,
    /// Stop receiving. Bytes already on their way may still be given as `Received`.
    Pause,
}

/// How the shell should end a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Closing {
    /// Send what is in the out buffer, then end our side (FIN) and drop whatever still comes in until
    /// the peer closes too. The core sets a deadline for that, and then asks for `Abort`.
    Finish,
    /// End it now. Bytes not yet sent are lost.
    Abort,
}

/// A connection that comes from another shard. The shell gives it a [`ConnId`] of its own, then
/// `Input::Opened` with `origin`, then `Input::Received` with `bytes`.
#[derive(Debug)]
pub struct Adopt {
    pub origin: Origin,
    pub bytes: Vec<u8>,
}

/// Something for the log. `conn` may be gone when it is written.
#[derive(Debug)]
pub struct Note {
    pub origin: Origin,
    /// Empty before CONNECT.
    pub client_id: String,
    /// Who the client is, or says that it is; empty if it says nothing.
    pub user: String,
    /// The topic or filter that was denied; the connection goes on then, as it does for
    /// `MessageRateTooHigh`. Else empty.
    pub topic: String,
    pub reject: Reject,
}

/// What a batch of inputs led to. Owned by the shell, reused for ever.
#[derive(Debug, Default)]
pub struct Outbox {
    pub stores: Vec<(StoreTicket, StoreOp)>,
    /// Connections that have moved to another shard: the shell forgets them without touching their
    /// transports. What it knows of a transport beyond [`Origin::handle`] it sends there itself. No
    /// `Closed` follows.
    pub releases: Vec<(ConnId, ShardId)>,
    pub adopts: Vec<Adopt>,
    pub reads: Vec<(ConnId, Reading)>,
    /// Connections whose out buffer has bytes: call `take_output` once for each. A connection is
    /// listed only while nothing of it is being sent.
    pub sends: Vec<ConnId>,
    /// The same for connections whose client has subscribed to everything (a filter that begins with a
    /// wildcard). The shell may let them wait for the others.
    pub bulk_sends: Vec<ConnId>,
    /// Some clients want much and others wait that want little: the shell may let the former wait too.
    pub is_contended: bool,
    pub closes: Vec<(ConnId, Closing)>,
    /// Shards that were given mail, each once.
    pub doorbells: Vec<ShardId>,
    pub notes: Vec<Note>,
    /// After `Input::Stop`: every connection was told, every will was published.
    pub stopped: bool,
}

impl Outbox {
    /// Forgets all effects, keeps the memory. `stopped` stays.
    pub fn clear(&mut self) {
        self.stores.clear();
        self.releases.clear();
        self.adopts.clear();
        self.reads.clear();
        self.sends.clear();
        self.bulk_sends.clear();
        self.closes.clear();
        self.doorbells.clear();
        self.notes.clear();
    }
}
