//! The layers between a socket's bytes and MQTT packets, from outside in: PROXY header, TLS, WebSocket.
//!
//! A [`Stack`] belongs to one connection and moves with it from shard to shard. It turns bytes of the
//! socket into bytes of packets and back, and answers what its layers ask (handshakes, pings) by itself.
//! A plain connection has none. What a listener wants is a [`StackConfig`], shared by its connections and
//! replaced on a reload: stacks that exist keep what they began with.

pub mod tls;

use std::fmt;
use std::io::IoSlice;
use std::net::SocketAddr;
use std::sync::Arc;

use tls::{Tls, TlsPolicy};

/// Why a connection's transport ends.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TransportError {
    /// The peer broke the rules of a layer. What is in [`Passage::wire`] (an alert, a close frame) is
    /// still to be sent.
    #[error("{layer}: {problem}")]
    Broken { layer: &'static str, problem: String },
}

impl TransportError {
    fn broken(layer: &'static str, problem: impl Into<String>) -> Self {
        Self::Broken { layer, problem: problem.into() }
    }
}

/// What came out of a stack. Reused from call to call; whoever reads it clears it.
#[derive(Debug, Default)]
pub struct Passage {
    /// Bytes of MQTT packets, in order.
    pub plain: Vec<u8>,
    /// Bytes for the socket, in order.
    pub wire: Vec<u8>,
    /// The peer ended a layer in an orderly way: no more `plain` will come.
    pub is_ended: bool,
}

/// What a connection's layers found out about its peer.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Peer {
    /// The client's address, if a trusted proxy announced another than the socket's.
    pub address: Option<SocketAddr>,
    /// Who the client is by its certificate.
    pub identity: Option<Box<str>>,
}

/// Which layers a listener's connections have.
#[derive(Clone, Debug, Default)]
pub struct StackConfig {
    pub tls: Option<Arc<TlsPolicy>>,
}

impl StackConfig {
    /// True if a connection needs no stack: its bytes are those of packets.
    #[must_use]
    pub fn is_plain(&self) -> bool {
        self.tls.is_none()
    }

    /// The layers of one more connection. `socket` is the address that the socket knows, `None` for a
    /// unix socket.
    ///
    /// # Errors
    /// If the connection is to be closed before a byte is read or written.
    pub fn stack(&self, _socket: Option<SocketAddr>) -> Result<Stack, TransportError> {
        let tls = self.tls.as_ref().map(Tls::new).transpose()?.map(Box::new);
        Ok(Stack { tls, ..Stack::default() })
    }
}

/// The layers of one connection.
#[derive(Default)]
pub struct Stack {
    peer: Peer,
    tls: Option<Box<Tls>>,
    /// A layer was broken or ended by the peer; what else comes is not looked at.
    is_over: bool,
}

impl Stack {
    /// Takes bytes that came from the socket.
    ///
    /// # Errors
    /// If the peer broke the rules of a layer. The connection ends after `out.wire` is sent.
    pub fn receive(&mut self, bytes: &[u8], out: &mut Passage) -> Result<(), TransportError> {
        if self.is_over {
            return Ok(());
        }
        let end = self.pass(bytes, out);
        self.is_over = end.as_ref().is_ok_and(|is_ended| *is_ended) || end.is_err();
        out.is_ended |= end?;
        Ok(())
    }

    /// Takes the bytes of packets, piece after piece, and appends what the socket should send. They are
    /// one WebSocket frame, and share TLS records as far as these hold them. Nothing is sent before the
    /// handshakes are over: no packet is an answer to anything then.
    pub fn send<'a>(&mut self, pieces: impl Iterator<Item = &'a [u8]>, wire: &mut Vec<u8>) {
        if !self.is_established() {
            return;
        }
        let Some(tls) = &mut self.tls else {
            return pieces.for_each(|piece| wire.extend_from_slice(piece));
        };
        let mut slices: Vec<IoSlice<'a>> = pieces.map(IoSlice::new).collect();
        tls.send(&mut slices, wire);
    }

    /// Ends our side of each layer in an orderly way (a close frame, a close alert).
    pub fn finish(&mut self, wire: &mut Vec<u8>) {
        if let Some(tls) = &mut self.tls {
            tls.finish(wire);
        }
    }

    /// True when all layers have ended their handshakes, so that [`Self::peer`] is complete.
    #[must_use]
    pub fn is_established(&self) -> bool {
        self.tls.as_ref().is_none_or(|tls| tls.is_established())
    }

    #[must_use]
    pub fn peer(&self) -> &Peer {
        &self.peer
    }

    /// Carries bytes through all layers. True if the peer ended one of them.
    fn pass(&mut self, bytes: &[u8], out: &mut Passage) -> Result<bool, TransportError> {
        let Some(tls) = &mut self.tls else {
            out.plain.extend_from_slice(bytes);
            return Ok(false);
        };
        let plain = &mut out.plain;
        let is_ended = tls.receive(bytes, &mut out.wire, |chunk| {
            plain.extend_from_slice(chunk);
            Ok(())
        })?;
        if let Some(identity) = tls.take_identity() {
            self.peer.identity = Some(identity);
        }
        Ok(is_ended)
    }
}

impl fmt::Debug for Stack {
    /// Without what the layers hold: keys and bytes of packets are nobody's business.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Stack")
            .field("peer", &self.peer)
            .field("has_tls", &self.tls.is_some())
            .field("is_over", &self.is_over)
            .finish()
    }
}
