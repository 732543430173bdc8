//! Frames of an open WebSocket, in any pieces.

use std::io::Cursor;

use tungstenite::protocol::frame::FrameHeader;
use tungstenite::protocol::frame::coding::{CloseCode, Control, Data, OpCode};

/// A header is at most this long: two bytes, a length of eight, a mask of four.
const HEADER_BYTES_MAX: usize = 14;

/// By the standard; such frames are not cut into fragments either.
const CONTROL_BYTES_MAX: u64 = 125;

/// Where the stream of frames is.
#[derive(Debug)]
pub(super) struct Frames {
    header: [u8; HEADER_BYTES_MAX],
    header_bytes: usize,
    body: Option<Body>,
    /// Payload of a control frame, as far as it has come.
    control: Vec<u8>,
    message: Option<Message>,
    message_bytes_max: u64,
}

/// A frame whose header is known.
#[derive(Debug)]
struct Body {
    kind: Kind,
    left: u64,
    /// Turned so that its first byte is for the next byte of the payload.
    mask: [u8; 4],
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Data { is_final: bool },
    Ping,
    Pong,
    Close,
}

/// A message of which more fragments are to come.
#[derive(Debug)]
struct Message {
    bytes: u64,
}

/// With what to close, and why.
type Problem = (CloseCode, &'static str);

impl Frames {
    pub(super) fn new(message_bytes_max: u64) -> Self {
        Self {
            header: [0; HEADER_BYTES_MAX],
            header_bytes: 0,
            body: None,
            control: Vec::new(),
            message: None,
            message_bytes_max,
        }
    }

    /// True if the peer has closed; the answer is in `wire`, and what follows is not looked at.
    pub(super) fn receive(
        &mut self,
        mut bytes: &[u8],
        plain: &mut Vec<u8>,
        wire: &mut Vec<u8>,
    ) -> Result<bool, Problem> {
        loop {
            let Some(mut body) = self.body.take() else {
                if bytes.is_empty() {
                    return Ok(false);
                }
                self.body = self.take_header(&mut bytes)?;
                continue;
            };
            let count = usize::try_from(body.left).unwrap_or(usize::MAX).min(bytes.len());
            let (taken, rest) = bytes.split_at(count);
            bytes = rest;
            body.left -= count as u64;
            let target =
                if let Kind::Data { .. } = body.kind { &mut *plain } else { &mut self.control };
            body.unmask(taken, target);
            if body.left > 0 {
                self.body = Some(body);
                return Ok(false);
            }
            if self.end_frame(body.kind, wire)? {
                return Ok(true);
            }
        }
    }

    /// Takes as much of a header as there is; a whole one is checked.
    fn take_header(&mut self, bytes: &mut &[u8]) -> Result<Option<Body>, Problem> {
        while let [first, rest @ ..] = bytes {
            self.header[self.header_bytes] = *first;
            self.header_bytes += 1;
            *bytes = rest;
            let mut cursor = Cursor::new(&self.header[..self.header_bytes]);
            let parsed = FrameHeader::parse(&mut cursor);
            let parsed = parsed.map_err(|_| protocol("a frame's header cannot be read"))?;
            if let Some((header, length)) = parsed {
                self.header_bytes = 0;
                return self.check(&header, length).map(Some);
            }
        }
        Ok(None)
    }

    fn check(&mut self, header: &FrameHeader, length: u64) -> Result<Body, Problem> {
        if header.rsv1 || header.rsv2 || header.rsv3 {
            return Err(protocol("a frame uses an extension that was not agreed upon"));
        }
        let Some(mask) = header.mask else {
            return Err(protocol("a client's frame is not masked"));
        };
        let kind = match header.opcode {
            OpCode::Data(data) => {
                self.check_data(data, length)?;
                Kind::Data { is_final: header.is_final }
            }
            OpCode::Control(_) if !header.is_final || length > CONTROL_BYTES_MAX => {
                return Err(protocol("a control frame is too long or cut into fragments"));
            }
            OpCode::Control(Control::Ping) => Kind::Ping,
            OpCode::Control(Control::Pong) => Kind::Pong,
            OpCode::Control(Control::Close) => Kind::Close,
            OpCode::Control(Control::Reserved(_)) => {
                return Err(protocol("a frame's opcode is unknown"));
            }
        };
        Ok(Body { kind, left: length, mask })
    }

    /// Whether a data frame may come now; counts what its message will hold.
    fn check_data(&mut self, data: Data, length: u64) -> Result<(), Problem> {
        let before = match (data, &self.message) {
            (Data::Binary, None) => 0,
            (Data::Continue, Some(message)) => message.bytes,
            (Data::Text, _) => {
                return Err((CloseCode::Unsupported, "a text frame came; MQTT's are binary"));
            }
            (Data::Continue, None) => return Err(protocol("nothing is to be continued")),
            (Data::Binary, Some(_)) => {
                return Err(protocol("a message begins within another one"));
            }
            (Data::Reserved(_), _) => return Err(protocol("a frame's opcode is unknown")),
        };
        let bytes = before.saturating_add(length);
        if bytes > self.message_bytes_max {
            return Err((CloseCode::Size, "a message is too large"));
        }
        self.message = Some(Message { bytes });
        Ok(())
    }

    fn end_frame(&mut self, kind: Kind, wire: &mut Vec<u8>) -> Result<bool, Problem> {
        match kind {
            Kind::Data { is_final: true } => self.message = None,
            Kind::Data { is_final: false } => {}
            Kind::Ping => control(Control::Pong, &std::mem::take(&mut self.control), wire),
            Kind::Pong => self.control = Vec::new(),
            Kind::Close => {
                let payload = std::mem::take(&mut self.control);
                check_close(&payload)?;
                // The code comes back; the reason need not.
                control(Control::Close, &payload[..payload.len().min(2)], wire);
                return Ok(true);
            }
        }
        Ok(false)
    }
}

impl Body {
    fn unmask(&mut self, bytes: &[u8], target: &mut Vec<u8>) {
        let start = target.len();
        target.extend_from_slice(bytes);
        let mask = u64::from(u32::from_ne_bytes(self.mask));
        let mask = (mask << 32) | mask;
        let (words, rest) = target[start..].as_chunks_mut::<8>();
        for word in words {
            *word = (u64::from_ne_bytes(*word) ^ mask).to_ne_bytes();
        }
        rest.iter_mut().zip(self.mask.iter().cycle()).for_each(|(byte, mask)| *byte ^= mask);
        self.mask.rotate_left(bytes.len() % 4);
    }
}

/// A close frame has nothing in it, or a code and a reason.
fn check_close(payload: &[u8]) -> Result<(), Problem> {
    match payload {
        [] => Ok(()),
        [_] => Err(protocol("a close frame holds half a code")),
        [high, low, reason @ ..] => {
            if !CloseCode::from(u16::from_be_bytes([*high, *low])).is_allowed() {
                return Err(protocol("a close frame's code may not be sent"));
            }
            let reason = str::from_utf8(reason);
            reason
                .map(drop)
                .map_err(|_| (CloseCode::Invalid, "a close frame's reason is not UTF-8"))
        }
    }
}

fn protocol(problem: &'static str) -> Problem {
    (CloseCode::Protocol, problem)
}

/// A header of ours: ten bytes at most, for we do not mask.
#[derive(Clone, Copy, Debug)]
pub(in crate::transport) struct Written {
    bytes: [u8; 10],
    count: usize,
}

impl Written {
    pub(in crate::transport) fn as_slice(&self) -> &[u8] {
        &self.bytes[..self.count]
    }
}

/// The header of a binary message in one frame.
pub(super) fn binary(count: usize) -> Written {
    header(OpCode::Data(Data::Binary), count)
}

pub(super) fn close(code: CloseCode, wire: &mut Vec<u8>) {
    control(Control::Close, &u16::from(code).to_be_bytes(), wire);
}

fn control(kind: Control, payload: &[u8], wire: &mut Vec<u8>) {
    wire.extend_from_slice(header(OpCode::Control(kind), payload.len()).as_slice());
    wire.extend_from_slice(payload);
}

fn header(opcode: OpCode, count: usize) -> Written {
    let header = FrameHeader { opcode, ..FrameHeader::default() };
    let count = count as u64;
    let mut bytes = [0; 10];
    let written = header.format(count, &mut &mut bytes[..]);
    debug_assert!(written.is_ok(), "ten bytes hold any header without a mask");
    Written { bytes, count: header.len(count) }
}
