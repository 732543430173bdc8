//! The request that opens a WebSocket, and its answers.

use tungstenite::error::{Error, ProtocolError};
use tungstenite::handshake::machine::TryParse;
use tungstenite::handshake::server;
use tungstenite::http::HeaderValue;
use tungstenite::http::header::{ORIGIN, SEC_WEBSOCKET_PROTOCOL};

use super::{LAYER, WsPolicy};
use crate::transport::TransportError;

/// The largest request, and so what a connection keeps before it is open.
pub const REQUEST_BYTES_MAX: usize = 8 * 1024;

/// What MQTT is called; the second by clients of version 3.1.
const PROTOCOLS: [&str; 2] = ["mqtt", "mqttv3.1"];

const METHOD: &[u8] = b"GET ";
const END: &[u8] = b"\r\n\r\n";

/// A request that is not whole yet.
#[derive(Debug, Default)]
pub(super) struct Request {
    kept: Vec<u8>,
}

/// How a request is refused.
#[derive(Clone, Copy, Debug)]
enum Refusal {
    Unreadable,
    TooLarge,
    NotFound,
    Foreign,
    NoProtocol,
    NoUpgrade,
    Broken,
}

impl Request {
    /// Takes bytes until the request is whole and answers it. If that opens the WebSocket, what is behind
    /// the request is given back.
    pub(super) fn receive<'a>(
        &mut self,
        bytes: &'a [u8],
        policy: &WsPolicy,
        wire: &mut Vec<u8>,
    ) -> Result<Option<&'a [u8]>, TransportError> {
        let answered = self.answer(bytes, policy, wire);
        answered.map_err(|refusal| {
            self.kept = Vec::new();
            refusal.write(wire);
            TransportError::broken(LAYER, refusal.problem())
        })
    }

    fn answer<'a>(
        &mut self,
        bytes: &'a [u8],
        policy: &WsPolicy,
        wire: &mut Vec<u8>,
    ) -> Result<Option<&'a [u8]>, Refusal> {
        let before = self.kept.len();
        let room = REQUEST_BYTES_MAX.saturating_sub(before);
        self.kept.extend_from_slice(&bytes[..room.min(bytes.len())]);
        let count = self.kept.len().min(METHOD.len());
        if self.kept[..count] != METHOD[..count] {
            return Err(Refusal::Unreadable);
        }
        // The end may have begun in what was there already.
        let start = before.saturating_sub(END.len() - 1);
        let end = self.kept[start..].windows(END.len()).position(|window| window == END);
        let Some(end) = end.map(|end| start + end + END.len()) else {
            let is_full = self.kept.len() == REQUEST_BYTES_MAX;
            return if is_full { Err(Refusal::TooLarge) } else { Ok(None) };
        };
        let response = respond(&self.kept[..end], policy)?;
        server::write_response(&mut *wire, &response).map_err(|_| Refusal::Broken)?;
        self.kept = Vec::new();
        Ok(Some(bytes.get(end.saturating_sub(before)..).unwrap_or_default()))
    }
}

fn respond(bytes: &[u8], policy: &WsPolicy) -> Result<server::Response, Refusal> {
    let Ok(Some((used, request))) = server::Request::try_parse(bytes) else {
        return Err(Refusal::Unreadable);
    };
    if used != bytes.len() {
        return Err(Refusal::Unreadable);
    }
    if request.uri().path() != policy.path {
        return Err(Refusal::NotFound);
    }
    let mut response = server::create_response(&request).map_err(|error| match error {
        Error::Protocol(
            ProtocolError::MissingConnectionUpgradeHeader
            | ProtocolError::MissingUpgradeWebSocketHeader
            | ProtocolError::MissingSecWebSocketVersionHeader,
        ) => Refusal::NoUpgrade,
        _ => Refusal::Broken,
    })?;
    if !request.headers().get_all(ORIGIN).iter().all(|origin| is_welcome(origin, policy)) {
        return Err(Refusal::Foreign);
    }
    let offers = request.headers().get_all(SEC_WEBSOCKET_PROTOCOL);
    let mut offers = offers.iter().filter_map(|offer| offer.to_str().ok());
    let chosen = offers.find_map(chosen).ok_or(Refusal::NoProtocol)?;
    response.headers_mut().insert(SEC_WEBSOCKET_PROTOCOL, HeaderValue::from_static(chosen));
    Ok(response)
}

/// The first that we speak of a list.
fn chosen(offer: &str) -> Option<&'static str> {
    let mut names = offer.split(',').map(str::trim);
    names.find_map(|name| PROTOCOLS.into_iter().find(|known| *known == name))
}

fn is_welcome(origin: &HeaderValue, policy: &WsPolicy) -> bool {
    let is_it =
        |known: &String| known == "*" || known.as_bytes().eq_ignore_ascii_case(origin.as_bytes());
    policy.origins.iter().any(is_it)
}

impl Refusal {
    fn status(self) -> &'static str {
        match self {
            Self::Unreadable | Self::TooLarge | Self::NoProtocol | Self::Broken => {
                "400 Bad Request"
            }
            Self::NotFound => "404 Not Found",
            Self::Foreign => "403 Forbidden",
            Self::NoUpgrade => "426 Upgrade Required",
        }
    }

    fn problem(self) -> &'static str {
        match self {
            Self::Unreadable => "the request is not HTTP/1.1's GET",
            Self::TooLarge => "the request is larger than 8 KiB",
            Self::NotFound => "the request's path is not that of MQTT here",
            Self::Foreign => "pages of this origin may not connect",
            Self::NoProtocol => "the client does not offer the subprotocol mqtt",
            Self::NoUpgrade => "the request does not ask for WebSocket, version 13",
            Self::Broken => "the request's WebSocket headers are wrong",
        }
    }

    /// Nothing of what the client sent is in the answer.
    fn write(self, wire: &mut Vec<u8>) {
        let (status, problem) = (self.status(), self.problem());
        let upgrade = match self {
            Self::NoUpgrade => "Upgrade: websocket\r\nSec-WebSocket-Version: 13\r\n",
            _ => "",
        };
        let answer = format!(
            "HTTP/1.1 {status}\r\n{upgrade}Content-Type: text/plain\r\nContent-Length: {}\r\n\
             Connection: close\r\n\r\n{problem}\n",
            problem.len() + 1
        );
        wire.extend_from_slice(answer.as_bytes());
    }
}
