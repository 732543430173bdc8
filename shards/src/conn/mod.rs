//! One network connection as the core sees it: how far CONNECT has come, bytes cut off at the end of a
//! receive, bytes waiting to be sent, and why nothing is read. Knows nothing of sockets.

pub mod exchange;
pub mod filing;
pub mod meter;
pub mod pause;

use std::collections::VecDeque;

use bytes::Bytes;

use crate::auth::Grant;
use crate::ids::{ConnId, PacketId, SessionId, Version};
use crate::origin::{Origin, PackedOrigin};
use crate::output::Output;
use crate::reject::ReasonCode;
use crate::session::alias::{AliasesIn, AliasesOut};
use crate::time::Time;
use crate::timers::TimerId;
use exchange::Exchange;
use filing::Filing;
use meter::Meter;
use pause::{PauseReason, Pauses};

/// How far a connection has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    AwaitConnect,
    /// CONNECT is in the backlog; whether it may come in is being asked.
    Authenticating,
    Connected(SessionId),
    /// We have ended it; what still comes in is dropped.
    Closing,
}

/// Bytes received and not yet worked on: a cut packet's head, or what came while the connection was paused.
#[derive(Debug, Default)]
pub struct Backlog {
    pub bytes: Vec<u8>,
    pub start: usize,
}

impl Backlog {
    #[must_use]
    pub fn rest(&self) -> &[u8] {
        &self.bytes[self.start..]
    }

    /// Keeps bytes behind the others.
    pub fn push(&mut self, bytes: &[u8]) {
        // A client that always has something waiting would otherwise make it grow for ever.
        if self.start > self.bytes.len() / 2 {
            self.bytes.drain(..self.start);
            self.start = 0;
        }
        self.bytes.extend_from_slice(bytes);
    }

    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.start == self.bytes.len()
    }
}

/// An acknowledgement that waits for its message to be accepted everywhere. They leave in order.
#[derive(Debug)]
pub struct PendingAck {
    pub packet_id: PacketId,
    pub kind: crate::codec::AckKind,
    /// Which completion decides on `reason`, if that is not known yet.
    pub completion: Option<u64>,
    pub reason: Option<ReasonCode>,
}

/// What only some connections need.
#[derive(Debug, Default)]
pub struct Extras {
    pub aliases_in: AliasesIn,
    pub aliases_out: AliasesOut,
    pub acks: VecDeque<PendingAck>,
    /// The packet that is being worked off; those behind it wait.
    pub filing: Option<Filing>,
    /// The client identifier that was made up for it, while whether it may come in is being asked.
    pub assigned_client_id: Option<String>,
    /// What the transport says who its client is, until the CONNECT is accepted.
    pub identity: Option<Box<str>>,
    /// What a late answer granted, until the CONNECT is accepted.
    pub grant: Option<Grant>,
    /// If the CONNECT named a method.
    pub exchange: Option<Box<Exchange>>,
    /// Ends the connection when what was granted is over.
    pub grant_timer: Option<TimerId>,
    /// If its listener has limits on what a client publishes.
    pub meter: Option<Box<Meter>>,
}

/// Where a connection's output is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sending {
    /// Here, if there is any.
    No,
    /// Here, and the connection is in one of the outbox's lists of sends.
    Listed,
    /// With the shell; what is appended meanwhile is listed when that has gone.
    Out,
}

/// One network connection. Lives on the shard that reads it; moves at most once, before it has a session.
#[derive(Debug)]
pub struct Conn {
    pub id: ConnId,
    origin: PackedOrigin,
    pub state: State,
    pub version: Version,
    pub backlog: Backlog,
    pub output: Output,
    /// Bytes handed to the shell and not yet taken by the transport.
    pub sending_bytes: usize,
    pub sending: Sending,
    /// See [`crate::session::subscriptions::Subscriptions::are_broad`].
    pub wants_everything: bool,
    /// No reason to wait is left, but the backlog is not worked on yet: it comes before new bytes.
    pub is_resumable: bool,
    /// The shell was told to stop receiving.
    pub is_read_paused: bool,
    /// It had more to say than its turn took, and still may have: it gets a smaller share, and is read
    /// one receive at a time, until so many receives have brought little. 0: it is not metered.
    pub metered: u8,
    /// A newer connection of its client waits until what it has sent is worked on.
    pub is_taken_over: bool,
    pub request_problem_information: bool,
    /// It is to be ended because its client is too slow.
    pub is_evicted: bool,
    /// A check that answered late has let it in.
    pub is_admitted: bool,
    pub pauses: Pauses,
    /// What is left of its share of turn number `turn`, in packets ([`crate::limits::UNIT_BYTES`]).
    pub turn_left: u32,
    pub turn: u32,
    pub last_received: Time,
    pub keep_alive_s: u16,
    pub timer: Option<TimerId>,
    /// The peer's Maximum Packet Size.
    pub packet_bytes_max: u32,
    /// Largest control packet that the peer may send, once it has sent CONNECT.
    pub received_bytes_max: u32,
    /// Bytes of the listener's mount point; 0 is none.
    pub mount_bytes: u16,
    /// Operations of the store that are out and must be done before anything more is sent.
    pub fences: u32,
    /// CONNACK has been handed to the shell.
    pub is_welcomed: bool,
    /// The peer's Receive Maximum, or our own bound where that is lower.
    pub window: u16,
    /// Topic aliases that we may use towards the peer.
    pub alias_out_max: u16,
    /// Bytes of the topics that they may stand for.
    pub alias_bytes_max: u32,
    pub extras: Option<Box<Extras>>,
}

const _: () = assert!(size_of::<Conn>() == 192, "an idle client is this and its session");

impl Conn {
    #[must_use]
    pub fn new(id: ConnId, origin: Origin, now: Time) -> Self {
        Self {
            id,
            origin: origin.into(),
            state: State::AwaitConnect,
            version: Version::V311,
            backlog: Backlog::default(),
            output: Output::default(),
            sending_bytes: 0,
            sending: Sending::No,
            wants_everything: false,
            is_resumable: false,
            is_read_paused: false,
            metered: 0,
            is_taken_over: false,
            request_problem_information: true,
            is_evicted: false,
            is_admitted: false,
            pauses: Pauses::default(),
            turn_left: 0,
            turn: 0,
            last_received: now,
            keep_alive_s: 0,
            timer: None,
            packet_bytes_max: u32::MAX,
            received_bytes_max: u32::MAX,
            mount_bytes: 0,
            fences: 0,
            is_welcomed: false,
            window: u16::MAX,
            alias_out_max: 0,
            alias_bytes_max: 0,
            extras: None,
        }
    }

    #[must_use]
    pub fn origin(&self) -> Origin {
        self.origin.into()
    }

    /// That of its origin.
    #[must_use]
    pub fn listener(&self) -> u16 {
        self.origin.listener()
    }

    pub fn set_origin(&mut self, origin: Origin) {
        self.origin = origin.into();
    }

    #[must_use]
    pub fn is_metered(&self) -> bool {
        self.metered > 0
    }

    #[must_use]
    pub fn session(&self) -> Option<SessionId> {
        match self.state {
            State::Connected(session) => Some(session),
            State::AwaitConnect | State::Authenticating | State::Closing => None,
        }
    }

    /// True if there are bytes to work on that wait for nothing but their turn.
    #[must_use]
    pub fn is_behind(&self) -> bool {
        self.state != State::Closing
            && (self.is_resumable || self.pauses.is_only(PauseReason::TurnSpent))
    }

    /// True if there are bytes to work on that wait because their client publishes faster than it may.
    #[must_use]
    pub fn is_late(&self) -> bool {
        let mut others = self.pauses;
        let is_limited = others.remove(PauseReason::RateLimited);
        others.remove(PauseReason::TurnSpent);
        is_limited && !others.any() && self.state != State::Closing
    }

    /// Bytes that the transport has not taken yet.
    #[must_use]
    pub fn out_bytes(&self) -> usize {
        self.output.len() + self.sending_bytes
    }

    pub fn extras_mut(&mut self) -> &mut Extras {
        self.extras.get_or_insert_default()
    }

    #[must_use]
    pub fn exchange(&self) -> Option<&Exchange> {
        self.extras.as_ref().and_then(|extras| extras.exchange.as_deref())
    }

    pub fn exchange_mut(&mut self) -> Option<&mut Exchange> {
        self.extras.as_mut().and_then(|extras| extras.exchange.as_deref_mut())
    }

    /// The CONNECT is accepted: forgets what was only needed until then.
    pub fn drop_credentials(&mut self) {
        let Some(extras) = self.extras.as_mut() else { return };
        extras.grant = None;
        extras.assigned_client_id = None;
        // A connection has nothing else yet.
        if extras.exchange.is_none() && extras.grant_timer.is_none() && extras.meter.is_none() {
            self.extras = None;
        }
    }

    #[must_use]
    #[inline]
    pub fn meter(&self) -> Option<&Meter> {
        self.extras.as_ref().and_then(|extras| extras.meter.as_deref())
    }

    /// What the client may publish, if there are limits.
    pub fn meter_mut(&mut self) -> Option<&mut Meter> {
        self.extras.as_mut().and_then(|extras| extras.meter.as_deref_mut())
    }

    /// Acknowledgements that are still owed: newer ones must wait behind them.
    #[must_use]
    pub fn acks_count(&self) -> usize {
        self.extras.as_ref().map_or(0, |extras| extras.acks.len())
    }
}

/// The connections of one shard, by the numbers that the shell gave them.
#[derive(Debug, Default)]
pub struct Conns {
    chunks: Vec<Vec<Option<Conn>>>,
    count: usize,
    /// By listener.
    counts: Vec<u32>,
}

const CHUNK: usize = 64;

impl Conns {
    #[must_use]
    pub fn count(&self) -> usize {
        self.count
    }

    /// How many came through one listener.
    #[must_use]
    pub fn count_of(&self, listener: u16) -> u32 {
        self.counts.get(usize::from(listener)).copied().unwrap_or(0)
    }

    /// The connection under a number, if it is the one meant.
    pub fn get_mut(&mut self, id: ConnId) -> Option<&mut Conn> {
        self.at_mut(id.index).filter(|conn| conn.id.generation == id.generation)
    }

    #[must_use]
    pub fn get(&self, id: ConnId) -> Option<&Conn> {
        let chunk = self.chunks.get(id.index as usize / CHUNK)?;
        let conn = chunk.get(id.index as usize % CHUNK)?.as_ref()?;
        (conn.id.generation == id.generation).then_some(conn)
    }

    /// The connection under a number, whichever it is.
    pub fn at_mut(&mut self, index: u32) -> Option<&mut Conn> {
        let chunk = self.chunks.get_mut(index as usize / CHUNK)?;
        chunk.get_mut(index as usize % CHUNK)?.as_mut()
    }

    #[must_use]
    pub fn at(&self, index: u32) -> Option<&Conn> {
        let chunk = self.chunks.get(index as usize / CHUNK)?;
        chunk.get(index as usize % CHUNK)?.as_ref()
    }

    /// # Panics
    /// If the number is taken: the shell gave it out twice.
    pub fn insert(&mut self, conn: Conn) {
        let index = conn.id.index as usize;
        let listener = usize::from(conn.listener());
        if self.chunks.len() <= index / CHUNK {
            self.chunks.resize_with(index / CHUNK + 1, Vec::new);
        }
        let chunk = &mut self.chunks[index / CHUNK];
        if chunk.is_empty() {
            chunk.resize_with(CHUNK, || None);
        }
        let place = &mut chunk[index % CHUNK];
        assert!(place.is_none(), "a connection's number is given out once");
        *place = Some(conn);
        self.count += 1;
        if self.counts.len() <= listener {
            self.counts.resize(listener + 1, 0);
        }
        self.counts[listener] += 1;
    }

    pub fn remove(&mut self, id: ConnId) -> Option<Conn> {
        let listener = usize::from(self.get(id)?.listener());
        let chunk = self.chunks.get_mut(id.index as usize / CHUNK)?;
        let conn = chunk.get_mut(id.index as usize % CHUNK)?.take();
        self.count -= 1;
        self.counts[listener] -= 1;
        if chunk.iter().all(Option::is_none) {
            *chunk = Vec::new();
        }
        conn
    }

    pub fn iter(&self) -> impl Iterator<Item = &Conn> {
        self.chunks.iter().flatten().flatten()
    }
}

/// Buffers for output and backlog that are not in use, so that a steady flow allocates nothing.
#[derive(Debug, Default)]
pub struct Pool {
    spare: Vec<Vec<u8>>,
    bytes: usize,
    /// The fewest spare buffers since the last trim: so many were not needed by anybody.
    unused_count: usize,
}

/// Memory that waits for its next use on one shard; what is beyond goes back to the allocator.
const POOL_BYTES_MAX: usize = 8 * 1024 * 1024;
/// A buffer larger than this is not worth keeping: it came from one large packet.
const POOL_BUFFER_BYTES_MAX: usize = 256 * 1024;
/// What a new buffer holds.
const POOL_BUFFER_BYTES: usize = 1024;

impl Pool {
    #[must_use]
    pub fn take(&mut self) -> Vec<u8> {
        let Some(buffer) = self.spare.pop() else { return Vec::with_capacity(POOL_BUFFER_BYTES) };
        self.bytes -= buffer.capacity();
        self.unused_count = self.unused_count.min(self.spare.len());
        buffer
    }

    pub fn give(&mut self, mut buffer: Vec<u8>) {
        let bytes = buffer.capacity();
        if bytes == 0 || bytes > POOL_BUFFER_BYTES_MAX || self.bytes + bytes > POOL_BYTES_MAX {
            return;
        }
        buffer.clear();
        self.bytes += bytes;
        self.spare.push(buffer);
    }

    /// Gives back what nobody needed since the last time, so that a burst is not held for ever and a
    /// steady flow keeps what it uses.
    pub fn trim(&mut self) {
        let keep = self.spare.len() - self.unused_count.min(self.spare.len());
        for buffer in self.spare.drain(keep..) {
            self.bytes -= buffer.capacity();
        }
        if self.spare.capacity() > 2 * keep + 64 {
            self.spare.shrink_to(2 * keep);
        }
        self.unused_count = keep;
    }
}

/// Appends `bytes` to what waits to be sent, with a buffer from the pool.
pub fn append(output: &mut Output, pool: &mut Pool, bytes: &[u8]) {
    if output.bytes.capacity() == 0 {
        output.bytes = pool.take();
    }
    output.bytes.extend_from_slice(bytes);
}

/// Appends a shared payload by reference.
pub fn splice(output: &mut Output, payload: &Bytes) {
    output.splices.push((output.bytes.len(), payload.clone()));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_backlog_that_is_never_empty_stays_small() {
        let mut backlog = Backlog::default();
        backlog.push(&[7; 100]);
        for _ in 0..10_000 {
            backlog.push(&[7; 100]);
            backlog.start += 100;
            assert_eq!(backlog.rest(), [7; 100]);
        }
        assert!(backlog.bytes.len() < 500, "{} bytes", backlog.bytes.len());
    }
}
