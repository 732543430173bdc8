//! Connections with layers between their sockets and their packets: a PROXY header, TLS, WebSocket.
//!
//! A shard's own. An entry exists for as long as its connection is open here and has layers, so a plain
//! connection has no part in this; the entry follows the connection to another shard. Guarantees that
//! wire bytes go out in the order in which the layers made them, with at most one send in flight, and that
//! the core hears of the end of a send when all that it led to is with the kernel.

use std::net::SocketAddr;
use std::sync::Arc;

use gate::transport::{Stack, StackConfig, TransportError};
use shards::ids::ConnId;
use shards::shard::Origin;

/// Bytes that a connection's layers may make by themselves while the peer does not take what is in flight.
/// Handshakes need far less; pongs to a peer that does not read them must not add up.
pub(super) const OWN_BYTES_MAX: usize = 64 * 1024;

/// Empty wire buffers kept for the next sends.
const SPARE_BUFFERS_MAX: usize = 64;

/// A buffer that has grown beyond this is not kept.
const SPARE_BYTES_MAX: usize = 64 * 1024;

/// One connection's layers, and what is on its way through them.
#[derive(Debug)]
pub(super) struct Layered {
    pub(super) stack: Stack,
    pub(super) origin: Origin,
    /// Waits for the socket.
    pub(super) wire: Vec<u8>,
    /// How much of `wire` no send of the core led to.
    pub(super) own_bytes: usize,
    /// Bytes of packets that came before the handshake's output had left. Until CONNECT the connection may
    /// move, and it must not move with a send in flight.
    pub(super) held: Vec<u8>,
    /// The core waits for the end of a send.
    pub(super) is_core_sending: bool,
    /// The core knows who the layers say is there.
    pub(super) is_told: bool,
    /// Our side of the layers has ended: nothing may be sent through them.
    pub(super) is_ended: bool,
    /// The peer has ended its side of the layers, behind what is held.
    pub(super) has_peer_ended: bool,
}

impl Layered {
    pub(super) fn new(stack: Stack, origin: Origin) -> Self {
        Self {
            stack,
            origin,
            wire: Vec::new(),
            own_bytes: 0,
            held: Vec::new(),
            is_core_sending: false,
            is_told: false,
            is_ended: false,
            has_peer_ended: false,
        }
    }

    /// The address that counts: the one that a proxy announced, or else the socket's.
    pub(super) fn peer(&self) -> SocketAddr {
        self.stack.peer().address.unwrap_or(self.origin.peer)
    }
}

/// The layered connections of one shard, by index.
#[derive(Debug, Default)]
pub(super) struct Layers {
    /// As long as the highest index of a layered connection makes it: nothing on a shard without any.
    entries: Vec<Option<Box<Layered>>>,
    spare: Vec<Vec<u8>>,
}

impl Layers {
    pub(super) fn insert(&mut self, conn: ConnId, layered: Box<Layered>) {
        let index = conn.index as usize;
        if self.entries.len() <= index {
            self.entries.resize_with(index + 1, || None);
        }
        if let Some(entry) = self.entries.get_mut(index) {
            debug_assert!(entry.is_none(), "{conn:?} has layers already");
            *entry = Some(layered);
        }
    }

    pub(super) fn find(&mut self, conn: ConnId) -> Option<&mut Layered> {
        self.entries.get_mut(conn.index as usize)?.as_deref_mut()
    }

    /// The same, with a buffer for wire bytes.
    pub(super) fn find_with_buffer(&mut self, conn: ConnId) -> Option<&mut Layered> {
        let layered = self.entries.get_mut(conn.index as usize)?.as_deref_mut()?;
        if layered.wire.capacity() == 0 {
            layered.wire = self.spare.pop().unwrap_or_default();
        }
        Some(layered)
    }

    pub(super) fn remove(&mut self, conn: ConnId) -> Option<Box<Layered>> {
        self.entries.get_mut(conn.index as usize)?.take()
    }

    /// Keeps the buffer of a send that has ended.
    pub(super) fn keep(&mut self, mut buffer: Vec<u8>) {
        if self.spare.len() < SPARE_BUFFERS_MAX && buffer.capacity() <= SPARE_BYTES_MAX {
            buffer.clear();
            self.spare.push(buffer);
        }
    }
}

/// Which layers the connections of each listener have, by the listener's position in the configuration.
/// Shared by all shards, and replaced as a whole: connections that are open keep what they have.
#[derive(Clone, Debug, Default)]
pub struct Transports(Arc<[StackConfig]>);

impl Transports {
    #[must_use]
    pub fn new(listeners: Vec<StackConfig>) -> Self {
        Self(listeners.into())
    }

    /// The layers of a new connection; `None` if its listener is plain.
    pub(super) fn stack(
        &self,
        listener: u16,
        socket: SocketAddr,
    ) -> Result<Option<Stack>, TransportError> {
        match self.0.get(usize::from(listener)) {
            Some(config) if !config.is_plain() => config.stack(Some(socket)).map(Some),
            Some(_) | None => Ok(None),
        }
    }

    /// True if a proxy says where the connections of this listener come from.
    pub(super) fn has_proxy(&self, listener: u16) -> bool {
        self.0.get(usize::from(listener)).is_some_and(|config| config.proxy.is_some())
    }
}
