//! WebSocket on the server's side: MQTT's bytes in binary messages.
//!
//! A stream of packets is cut into messages anywhere, so payloads are unmasked and handed on as they
//! come, and no message is ever put together: after the handshake this layer keeps a frame's header and a
//! control frame's payload, 125 bytes at most. Requests are parsed by `tungstenite`, frame headers too; its
//! own stream is not used because it keeps whole messages.

mod frames;
mod handshake;

use std::io::IoSlice;
use std::sync::Arc;

use frames::Frames;
use handshake::Request;
use tungstenite::protocol::frame::coding::CloseCode;

pub use handshake::REQUEST_BYTES_MAX;

use super::TransportError;

const LAYER: &str = "WebSocket";

/// What a listener asks of WebSocket clients.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WsPolicy {
    /// Where MQTT is; anything else is not found.
    pub path: String,
    /// Pages that may connect: `*`, or origins such as `https://example.org`. Clients that are no
    /// browsers send no origin and are not held up by it.
    pub origins: Vec<String>,
    /// Bytes of one message; it may hold many packets.
    pub message_bytes_max: u64,
}

impl Default for WsPolicy {
    fn default() -> Self {
        // The largest packet of MQTT and its header.
        let message_bytes_max = 268_435_455 + 5;
        Self { path: "/mqtt".into(), origins: vec!["*".into()], message_bytes_max }
    }
}

/// One connection's WebSocket.
#[derive(Debug)]
pub(super) struct Ws {
    policy: Arc<WsPolicy>,
    state: State,
}

#[derive(Debug)]
enum State {
    Asking(Request),
    Open(Frames),
    /// A close frame was sent; no frame may follow it.
    Closed,
}

impl Ws {
    pub(super) fn new(policy: &Arc<WsPolicy>) -> Self {
        Self { policy: Arc::clone(policy), state: State::Asking(Request::default()) }
    }

    /// Takes bytes: what they carry goes to `plain`, what is to be answered to `wire`. True if the peer
    /// has closed.
    pub(super) fn receive(
        &mut self,
        bytes: &[u8],
        plain: &mut Vec<u8>,
        wire: &mut Vec<u8>,
    ) -> Result<bool, TransportError> {
        match &mut self.state {
            State::Asking(request) => {
                let Some(rest) = request.receive(bytes, &self.policy, wire)? else {
                    return Ok(false);
                };
                self.state = State::Open(Frames::new(self.policy.message_bytes_max));
                if rest.is_empty() { Ok(false) } else { self.receive(rest, plain, wire) }
            }
            State::Open(frames) => {
                let end = frames.receive(bytes, plain, wire);
                let is_ended = end.map_err(|(code, problem)| {
                    frames::close(code, wire);
                    TransportError::broken(LAYER, problem)
                });
                if is_ended != Ok(false) {
                    self.state = State::Closed;
                }
                is_ended
            }
            // Only the peer's answer could be of interest, and nobody waits for it.
            State::Closed => Ok(false),
        }
    }

    /// The header of a binary frame that holds so many bytes. `None` if no frame may be sent.
    pub(super) fn header(&self, pieces: &[IoSlice<'_>]) -> Option<FrameHeader> {
        let count: usize = pieces.iter().map(|piece| piece.len()).sum();
        (self.is_established() && count > 0).then(|| frames::binary(count))
    }

    pub(super) fn finish(&mut self, wire: &mut Vec<u8>) {
        if self.is_established() {
            frames::close(CloseCode::Normal, wire);
            self.state = State::Closed;
        }
    }

    pub(super) fn is_established(&self) -> bool {
        match &self.state {
            State::Open(_) => true,
            State::Asking(_) | State::Closed => false,
        }
    }
}

/// The bytes before a frame's payload.
pub(super) type FrameHeader = frames::Written;
