//! The layers between a socket's bytes and MQTT packets, from outside in: PROXY header, TLS, WebSocket.
//!
//! A [`Stack`] belongs to one connection and moves with it from shard to shard. It turns bytes of the
//! socket into bytes of packets and back, and answers what its layers ask (handshakes, pings) by itself.
//! A plain connection has none. What a listener wants is a [`StackConfig`], shared by its connections and
//! replaced on a reload: stacks that exist keep what they began with.
//!
//! A stack keeps little. Measured with a counting allocator, on the heap per connection: 80 bytes for the
//! stack itself, 96 for an open WebSocket, 7.4 to 8.0 KB for TLS at rest (4 KB of it is rustls's read
//! buffer). Before it is established it keeps at most one unfinished beginning of each layer:
//! [`proxy::HEADER_BYTES_MAX`], [`tls::HANDSHAKE_BYTES_MAX`], [`ws::REQUEST_BYTES_MAX`]. What else it takes
//! is with the caller when the call returns.

pub mod proxy;
pub mod tls;
pub mod ws;

use std::fmt;
use std::io::IoSlice;
use std::net::SocketAddr;
use std::sync::Arc;

use proxy::{Header, ProxyPolicy, Whole};
use tls::{Tls, TlsPolicy};
use ws::{Ws, WsPolicy};

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
    pub proxy: Option<Arc<ProxyPolicy>>,
    pub tls: Option<Arc<TlsPolicy>>,
    pub ws: Option<Arc<WsPolicy>>,
}

impl StackConfig {
    /// True if a connection needs no stack: its bytes are those of packets.
    #[must_use]
    pub fn is_plain(&self) -> bool {
        self.proxy.is_none() && self.tls.is_none() && self.ws.is_none()
    }

    /// The layers of one more connection. `socket` is the address that the socket knows, `None` for a
    /// unix socket.
    ///
    /// # Errors
    /// If the connection is to be closed before a byte is read or written: proxies are expected, and it
    /// comes from elsewhere.
    pub fn stack(&self, socket: Option<SocketAddr>) -> Result<Stack, TransportError> {
        if let Some(policy) = &self.proxy {
            policy.admit(socket)?;
        }
        Ok(Stack {
            peer: Peer::default(),
            proxy: self.proxy.as_ref().map(|_| Box::default()),
            tls: self.tls.as_ref().map(Tls::new).transpose()?.map(Box::new),
            ws: self.ws.as_ref().map(|policy| Box::new(Ws::new(policy))),
            is_over: false,
            is_finished: false,
        })
    }
}

/// The layers of one connection.
#[derive(Default)]
pub struct Stack {
    peer: Peer,
    /// Gone when the header is read.
    proxy: Option<Box<Header>>,
    tls: Option<Box<Tls>>,
    ws: Option<Box<Ws>>,
    /// A layer was broken or ended by the peer; what else comes is not looked at.
    is_over: bool,
    /// Our side of the layers is ended.
    is_finished: bool,
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
        self.is_over = end != Ok(false);
        out.is_ended |= end?;
        Ok(())
    }

    /// Takes the bytes of packets, piece after piece, and appends what the socket should send. They are
    /// one WebSocket frame, and share TLS records as far as these hold them. Nothing is sent before the
    /// handshakes are over: no packet is an answer to anything then.
    pub fn send<'a>(&mut self, pieces: impl Iterator<Item = &'a [u8]>, wire: &mut Vec<u8>) {
        if !self.is_established() || self.is_over || self.is_finished {
            return;
        }
        let Some(ws) = &self.ws else {
            let Some(tls) = &mut self.tls else {
                return pieces.for_each(|piece| wire.extend_from_slice(piece));
            };
            return tls.send(&mut pieces.map(IoSlice::new).collect::<Vec<_>>(), wire);
        };
        let pieces: Vec<IoSlice<'a>> = pieces.map(IoSlice::new).collect();
        let Some(header) = ws.header(&pieces) else { return };
        let header = IoSlice::new(header.as_slice());
        let mut framed: Vec<_> = std::iter::once(header).chain(pieces).collect();
        match &mut self.tls {
            Some(tls) => tls.send(&mut framed, wire),
            None => framed.iter().for_each(|slice| wire.extend_from_slice(slice)),
        }
    }

    /// Ends our side of each layer in an orderly way (a close frame, a close alert). Nothing is sent
    /// after it.
    pub fn finish(&mut self, wire: &mut Vec<u8>) {
        if self.is_finished || self.is_over {
            return;
        }
        self.is_finished = true;
        let mut close = Vec::new();
        if let Some(ws) = &mut self.ws {
            ws.finish(&mut close);
        }
        match &mut self.tls {
            Some(tls) => tls.finish(&close, wire),
            None => wire.append(&mut close),
        }
    }

    /// True when all layers have ended their handshakes, so that [`Self::peer`] is complete.
    #[must_use]
    pub fn is_established(&self) -> bool {
        self.proxy.is_none()
            && self.tls.as_ref().is_none_or(|tls| tls.is_established())
            && self.ws.as_ref().is_none_or(|ws| ws.is_established())
    }

    /// True if bytes pass unchanged from now on: [`Self::peer`] is all that is left to ask for.
    #[must_use]
    pub fn is_transparent(&self) -> bool {
        self.proxy.is_none() && self.tls.is_none() && self.ws.is_none()
    }

    #[must_use]
    pub fn peer(&self) -> &Peer {
        &self.peer
    }

    /// Carries bytes through all layers. True if the peer ended one of them.
    fn pass(&mut self, bytes: &[u8], out: &mut Passage) -> Result<bool, TransportError> {
        let Some(header) = &mut self.proxy else { return self.pass_tls(bytes, out) };
        let Some(Whole { address, rest }) = header.receive(bytes)? else { return Ok(false) };
        self.peer.address = address;
        self.proxy = None;
        if rest.is_empty() { Ok(false) } else { self.pass_tls(rest, out) }
    }

    fn pass_tls(&mut self, bytes: &[u8], out: &mut Passage) -> Result<bool, TransportError> {
        let Some(tls) = &mut self.tls else {
            return pass_ws(self.ws.as_deref_mut(), bytes, &mut out.plain, &mut out.wire);
        };
        let mut answer = Vec::new();
        let mut is_closed = false;
        let decrypted = tls.receive(bytes, &mut out.wire, |chunk| {
            let ws = self.ws.as_deref_mut();
            is_closed |= pass_ws(ws, chunk, &mut out.plain, &mut answer)?;
            Ok(())
        });
        if let Some(identity) = tls.take_identity() {
            self.peer.identity = Some(identity);
        }
        let end = decrypted.map(|is_ended| is_ended || is_closed);
        // What the layer above answers goes before our end of this one.
        if end != Ok(false) {
            tls.finish(&answer, &mut out.wire);
        } else if !answer.is_empty() {
            tls.send(&mut [IoSlice::new(&answer)], &mut out.wire);
        }
        end
    }
}

impl fmt::Debug for Stack {
    /// Without what the layers hold: keys and bytes of packets are nobody's business.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Stack")
            .field("peer", &self.peer)
            .field("waits_for_header", &self.proxy.is_some())
            .field("has_tls", &self.tls.is_some())
            .field("has_ws", &self.ws.is_some())
            .field("is_over", &self.is_over)
            .finish()
    }
}

fn pass_ws(
    ws: Option<&mut Ws>,
    bytes: &[u8],
    plain: &mut Vec<u8>,
    wire: &mut Vec<u8>,
) -> Result<bool, TransportError> {
    let Some(ws) = ws else {
        plain.extend_from_slice(bytes);
        return Ok(false);
    };
    ws.receive(bytes, plain, wire)
}
