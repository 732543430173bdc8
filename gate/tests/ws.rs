//! WebSocket stacks in memory, against tungstenite's client.
#![expect(clippy::unwrap_used, reason = "in a test, a panic is the report")]

use std::io::{self, Read, Write};
use std::sync::Arc;

use gate::transport::ws::{REQUEST_BYTES_MAX, WsPolicy};
use gate::transport::{Passage, Stack, StackConfig, TransportError};
use tungstenite::protocol::frame::coding::{CloseCode, Data, OpCode};
use tungstenite::protocol::frame::{CloseFrame, Frame};
use tungstenite::protocol::{Role, WebSocket, WebSocketConfig};
use tungstenite::{Error, Message};

/// What a browser asks with.
const REQUEST: &str = "GET /mqtt HTTP/1.1\r\nHost: broker.test\r\nConnection: keep-alive, Upgrade\r\n\
    Upgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\
    Sec-WebSocket-Protocol: mqtt\r\nOrigin: https://pages.test\r\n\r\n";

fn stack(policy: WsPolicy) -> Stack {
    let config = StackConfig { ws: Some(Arc::new(policy)), ..StackConfig::default() };
    config.stack(None).unwrap()
}

fn open() -> Stack {
    let mut stack = stack(WsPolicy::default());
    let mut out = Passage::default();
    stack.receive(REQUEST.as_bytes(), &mut out).unwrap();
    assert!(stack.is_established() && out.wire.starts_with(b"HTTP/1.1 101 "));
    stack
}

/// The client's socket: bytes of the server wait in it, its own are kept.
#[derive(Debug, Default)]
struct Pipe {
    incoming: Vec<u8>,
    outgoing: Vec<u8>,
}

impl Read for Pipe {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = buffer.len().min(self.incoming.len());
        if count == 0 {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        buffer[..count].copy_from_slice(&self.incoming[..count]);
        self.incoming.drain(..count);
        Ok(count)
    }
}

impl Write for Pipe {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.outgoing.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

type Client = WebSocket<Pipe>;

fn client() -> Client {
    let config = WebSocketConfig::default().write_buffer_size(0);
    Client::from_raw_socket(Pipe::default(), Role::Client, Some(config))
}

/// What these frames of a client come to, in pieces of some length.
fn deliver(
    stack: &mut Stack,
    client: &mut Client,
    piece_bytes: usize,
) -> Result<Passage, TransportError> {
    let mut out = Passage::default();
    for piece in std::mem::take(&mut client.get_mut().outgoing).chunks(piece_bytes) {
        stack.receive(piece, &mut out)?;
    }
    Ok(out)
}

#[track_caller]
fn check_answer(policy: &WsPolicy, request: &str, status: &str, body: &str) {
    for piece_bytes in [1, 7, usize::MAX] {
        let mut stack = stack(policy.clone());
        let mut out = Passage::default();
        let mut pieces = request.as_bytes().chunks(piece_bytes);
        let end = pieces.try_for_each(|piece| stack.receive(piece, &mut out));
        let answer = String::from_utf8(out.wire).unwrap();
        assert!(answer.starts_with(&format!("HTTP/1.1 {status} ")), "{answer}");
        assert!(answer.contains(body), "{answer}");
        assert_eq!(end.is_ok(), status == "101");
        assert_eq!(stack.is_established(), status == "101");
        assert!(out.plain.is_empty());
        if let Some((head, body)) =
            answer.split_once("\r\n\r\n").filter(|(_, body)| !body.is_empty())
        {
            assert!(head.contains(&format!("Content-Length: {}", body.len())), "{answer}");
        }
    }
}

#[test]
fn requests_are_answered() {
    let any = WsPolicy::default();
    check_answer(&any, REQUEST, "101", "sec-websocket-accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=");
    check_answer(&any, REQUEST, "101", "sec-websocket-protocol: mqtt\r\n");
    let old = REQUEST.replace("Protocol: mqtt", "Protocol: x, mqttv3.1");
    check_answer(&any, &old, "101", "sec-websocket-protocol: mqttv3.1\r\n");
    let two = REQUEST.replace("Protocol: mqtt", "Protocol: x\r\nSec-WebSocket-Protocol: mqtt");
    check_answer(&any, &two, "101", "sec-websocket-protocol: mqtt\r\n");
    let query = REQUEST.replace("/mqtt HTTP", "/mqtt?a=b HTTP");
    check_answer(&any, &query, "101", "");

    check_answer(&any, &REQUEST.replace("/mqtt ", "/ "), "404", "path");
    check_answer(&any, &REQUEST.replace("Protocol: mqtt", "Protocol: wamp"), "400", "subprotocol");
    check_answer(&any, &REQUEST.replace("Sec-WebSocket-Protocol: mqtt\r\n", ""), "400", "mqtt");
    check_answer(&any, &REQUEST.replace("Upgrade: websocket\r\n", ""), "426", "Version: 13\r\n");
    check_answer(&any, &REQUEST.replace("Version: 13", "Version: 8"), "426", "Version: 13\r\n");
    check_answer(&any, &REQUEST.replace("ZQ==", "ZQ="), "400", "WebSocket headers");
    check_answer(&any, &REQUEST.replace("GET", "POST"), "400", "GET");
    check_answer(&any, &REQUEST.replace("HTTP/1.1", "HTTP/1.0"), "400", "HTTP/1.1");
    check_answer(&any, &REQUEST.replace("Host:", "Ho st:"), "400", "HTTP/1.1");
    check_answer(&any, &REQUEST.replace("broker.test\r\n", "broker.test\n\n"), "400", "HTTP/1.1");
    check_answer(&any, "\u{10}\u{c}\0\u{4}MQTT\u{4}", "400", "GET");
}

#[test]
fn pages_of_other_origins_are_sent_away() {
    let origins = vec!["https://PAGES.test".into(), "https://more.test".into()];
    let policy = WsPolicy { path: "/".into(), origins, ..WsPolicy::default() };
    let request = REQUEST.replace("/mqtt ", "/ ");
    check_answer(&policy, &request, "101", "");
    check_answer(&policy, &request.replace("pages.test", "pages.test.evil"), "403", "origin");
    check_answer(&policy, &request.replace("https:", "http:"), "403", "origin");
    // A client that is no browser.
    check_answer(&policy, &request.replace("Origin: https://pages.test\r\n", ""), "101", "");
}

#[test]
fn requests_are_bounded() {
    let mut stack = stack(WsPolicy::default());
    let mut out = Passage::default();
    let endless = format!("GET /mqtt HTTP/1.1\r\nX: {}", "x".repeat(2 * REQUEST_BYTES_MAX));
    let mut taken = 0;
    let end = endless.as_bytes().chunks(100).try_for_each(|piece| {
        taken += piece.len();
        stack.receive(piece, &mut out)
    });
    assert!(end.unwrap_err().to_string().contains("8 KiB"));
    assert!(out.wire.starts_with(b"HTTP/1.1 400 "));
    assert!(taken <= REQUEST_BYTES_MAX + 100, "{taken} bytes were taken");
}

#[test]
fn frames_may_come_with_the_request() {
    let mut client = client();
    client.send(Message::binary(&b"\x10\x00"[..])).unwrap();
    let input = [REQUEST.as_bytes(), &client.get_ref().outgoing].concat();
    for piece_bytes in [1, 100, usize::MAX] {
        let mut stack = stack(WsPolicy::default());
        let mut out = Passage::default();
        input.chunks(piece_bytes).for_each(|piece| stack.receive(piece, &mut out).unwrap());
        assert_eq!(out.plain, b"\x10\x00");
    }
}

#[test]
fn messages_are_a_stream_in_any_pieces() {
    let content: Vec<u8> = (0..=u8::MAX).cycle().take(70_000).collect();
    for piece_bytes in [1, 2, 3, 5, 8, 1_000, usize::MAX] {
        let (mut stack, mut client) = (open(), client());
        for length in [0, 1, 2, 3, 7, 8, 9, 125, 126, 127, 65_535, 65_536, 70_000] {
            client.send(Message::binary(content[..length].to_vec())).unwrap();
            let out = deliver(&mut stack, &mut client, piece_bytes).unwrap();
            assert_eq!(out.plain, content[..length], "{length} bytes in pieces of {piece_bytes}");
            assert!(out.wire.is_empty() && !out.is_ended);
        }
    }
}

#[test]
fn what_is_sent_is_one_frame() {
    let (mut stack, mut client) = (open(), client());
    for length in [1, 125, 126, 65_535, 65_536] {
        let content = vec![5; length];
        let mut wire = Vec::new();
        stack.send(content.chunks(1_000), &mut wire);
        client.get_mut().incoming = wire;
        assert_eq!(client.read().unwrap(), Message::binary(content), "{length} bytes");
        assert!(client.get_ref().incoming.is_empty());
    }
    let mut wire = Vec::new();
    stack.send([&b""[..]].into_iter(), &mut wire);
    assert!(wire.is_empty(), "no frame for nothing");
}

#[test]
fn fragments_are_joined_and_pings_between_them_answered() {
    for piece_bytes in [1, 3, usize::MAX] {
        let (mut stack, mut client) = (open(), client());
        let mut send = |message| client.send(message).unwrap();
        let fragment = |opcode, bytes: &'static [u8], is_final| {
            Message::Frame(Frame::message(bytes, OpCode::Data(opcode), is_final))
        };
        send(fragment(Data::Binary, b"ab", false));
        send(Message::Ping("hello".into()));
        send(fragment(Data::Continue, b"", false));
        send(Message::Pong("unasked".into()));
        send(fragment(Data::Continue, b"cde", true));
        send(fragment(Data::Binary, b"f", true));
        let out = deliver(&mut stack, &mut client, piece_bytes).unwrap();
        assert_eq!(out.plain, b"abcdef");
        client.get_mut().incoming = out.wire;
        assert_eq!(client.read().unwrap(), Message::Pong("hello".into()));
    }
}

#[test]
fn a_close_is_answered_with_its_code() {
    for frame in [None, Some(CloseFrame { code: CloseCode::Away, reason: "bye".into() })] {
        let (mut stack, mut client) = (open(), client());
        let code = frame.as_ref().map(|frame| frame.code);
        client.close(frame).unwrap();
        let out = deliver(&mut stack, &mut client, 1).unwrap();
        assert!(out.is_ended);
        client.get_mut().incoming = out.wire;
        let Message::Close(answer) = client.read().unwrap() else { panic!("no close frame") };
        assert_eq!(answer.map(|frame| frame.code), code);
        // Nothing follows a close frame.
        let mut wire = Vec::new();
        stack.send([&b"late"[..]].into_iter(), &mut wire);
        stack.finish(&mut wire);
        assert!(wire.is_empty());
    }
}

#[test]
fn we_close_once() {
    let (mut stack, mut client) = (open(), client());
    let mut wire = Vec::new();
    stack.finish(&mut wire);
    let once = wire.len();
    stack.finish(&mut wire);
    stack.send([&b"late"[..]].into_iter(), &mut wire);
    assert_eq!(wire.len(), once);
    client.get_mut().incoming = wire;
    let Message::Close(Some(frame)) = client.read().unwrap() else { panic!("no close frame") };
    assert_eq!(frame.code, CloseCode::Normal);
    assert!(matches!(client.read().unwrap_err(), Error::Io(_)));
    let out = deliver(&mut stack, &mut client, usize::MAX).unwrap();
    assert!(out.wire.is_empty() && out.plain.is_empty());
}

/// Bytes that break a rule, and the code of the close frame that answers them.
#[track_caller]
fn check_broken(bytes: &[u8], code: u16) {
    for piece_bytes in [1, usize::MAX] {
        let mut stack = stack(WsPolicy { message_bytes_max: 10, ..WsPolicy::default() });
        let mut out = Passage::default();
        stack.receive(REQUEST.as_bytes(), &mut out).unwrap();
        out.wire.clear();
        let end = bytes.chunks(piece_bytes).try_for_each(|piece| stack.receive(piece, &mut out));
        end.unwrap_err();
        assert_eq!(out.wire, [&[0x88, 2], &code.to_be_bytes()[..]].concat(), "{bytes:02x?}");
    }
}

#[test]
fn broken_rules_are_answered_with_their_code() {
    // Not masked.
    check_broken(&[0x82, 1, 7], 1002);
    // Text, whole and as a first fragment.
    check_broken(&[0x81, 0x80, 0, 0, 0, 0], 1003);
    check_broken(&[0x01, 0x80, 0, 0, 0, 0], 1003);
    // A reserved bit, reserved opcodes.
    check_broken(&[0xC2, 0x80, 0, 0, 0, 0], 1002);
    check_broken(&[0x83, 0x80, 0, 0, 0, 0], 1002);
    check_broken(&[0x8B, 0x80, 0, 0, 0, 0], 1002);
    // A continuation of nothing, a beginning within a message.
    check_broken(&[0x80, 0x80, 0, 0, 0, 0], 1002);
    check_broken(&[0x02, 0x80, 0, 0, 0, 0, 0x82, 0x80, 0, 0, 0, 0], 1002);
    // Control frames in fragments, or with too much in them.
    check_broken(&[0x09, 0x80, 0, 0, 0, 0], 1002);
    check_broken(&[0x89, 0xFE, 0, 126, 0, 0, 0, 0], 1002);
    // Half a code, a code that is never sent, a reason that is not UTF-8.
    check_broken(&[0x88, 0x81, 0, 0, 0, 0, 3], 1002);
    check_broken(&[0x88, 0x82, 0, 0, 0, 0, 0x03, 0xED], 1002);
    check_broken(&[0x88, 0x83, 0, 0, 0, 0, 0x03, 0xE8, 0xFF], 1007);
    // Too large: announced, and by its fragments.
    check_broken(&[0x82, 0x8B, 0, 0, 0, 0], 1009);
    check_broken(&[0x82, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0, 0, 0, 0], 1009);
    let fragments = [&[0x02, 0x88, 0, 0, 0, 0][..], &[9; 8], &[0x80, 0x83, 0, 0, 0, 0]].concat();
    check_broken(&fragments, 1009);
}
