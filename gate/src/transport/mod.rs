//! The layers between a socket's bytes and MQTT packets, from outside in: PROXY header, TLS, WebSocket.
//!
//! A [`Stack`] belongs to one connection and moves with it from shard to shard. It turns bytes of the
//! socket into bytes of packets and back, and answers what its layers ask (handshakes, pings) by itself.
//! A plain connection has none.

use std::net::SocketAddr;

/// Why a connection's transport ends.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TransportError {
    /// The peer broke the rules of a layer. What is in [`Passage::wire`] (an alert, a close frame) is
    /// still to be sent.
    #[error("{layer}: {problem}")]
    Broken { layer: &'static str, problem: String },
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

/// The layers of one connection.
#[derive(Debug, Default)]
pub struct Stack {
    peer: Peer,
}

impl Stack {
    /// Takes bytes that came from the socket.
    ///
    /// # Errors
    /// If the peer broke the rules of a layer. The connection ends after `out.wire` is sent.
    pub fn receive(&mut self, bytes: &[u8], out: &mut Passage) -> Result<(), TransportError> {
        out.plain.extend_from_slice(bytes);
        Ok(())
    }

    /// Takes the bytes of packets, piece after piece, and appends what the socket should send.
    pub fn send<'a>(&mut self, pieces: impl Iterator<Item = &'a [u8]>, wire: &mut Vec<u8>) {
        pieces.for_each(|piece| wire.extend_from_slice(piece));
    }

    /// Ends our side of each layer in an orderly way (a close frame, a close alert).
    pub fn finish(&mut self, _wire: &mut Vec<u8>) {}

    /// True when all layers have ended their handshakes, so that [`Self::peer`] is complete.
    #[must_use]
    pub fn is_established(&self) -> bool {
        true
    }

    #[must_use]
    pub fn peer(&self) -> &Peer {
        &self.peer
    }
}
