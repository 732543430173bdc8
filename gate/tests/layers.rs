//! All layers at once, and what a connection can make them keep.
#![expect(clippy::unwrap_used, reason = "in a test, a panic is the report")]

mod tls_side;

use std::sync::Arc;

use gate::transport::proxy::{HEADER_BYTES_MAX, ProxyPolicy};
use gate::transport::tls::{
    Application, ClientAuth, HANDSHAKE_BYTES_MAX, IdentitySource, Pem, TlsMaterial,
};
use gate::transport::ws::{REQUEST_BYTES_MAX, WsPolicy};
use gate::transport::{Passage, Stack, StackConfig};
use tls_side::{Authority, Client, config, exchange};

const HEADER: &[u8] = b"PROXY TCP4 192.0.2.1 192.0.2.2 1000 443\r\n";
const REQUEST: &[u8] = b"GET /mqtt HTTP/1.1\r\nHost: broker.test\r\nConnection: Upgrade\r\n\
    Upgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\
    Sec-WebSocket-Protocol: mqtt\r\n\r\n";
/// A masked frame with a CONNECT's first byte in it.
const FRAME: &[u8] = &[0x82, 0x81, 1, 2, 3, 4, 0x10 ^ 1];

fn all_layers(ca: &Authority) -> StackConfig {
    let tls = TlsMaterial {
        certificates: vec![ca.server("broker.test")],
        client_auth: ClientAuth::Required,
        client_ca: Some(Pem::new("ca.pem", ca.pem())),
        identity: IdentitySource::CommonName,
        application: Application::WebSocket,
        ..TlsMaterial::default()
    };
    StackConfig {
        proxy: Some(Arc::new(ProxyPolicy { networks: vec!["127.0.0.1/32".parse().unwrap()] })),
        tls: Some(Arc::new(tls.policy().unwrap())),
        ws: Some(Arc::new(WsPolicy::default())),
    }
}

fn stack(config: &StackConfig) -> Stack {
    config.stack(Some("127.0.0.1:50000".parse().unwrap())).unwrap()
}

fn client(ca: &Authority) -> Client {
    Client::new(config(ca, rustls::ALL_VERSIONS, Some(ca.client("anna"))), "broker.test")
}

/// What the client's bytes come to, and what it reads of the answers.
fn deliver(client: &mut Client, stack: &mut Stack, piece_bytes: usize) -> (Passage, Vec<u8>) {
    let mut out = Passage::default();
    for piece in client.take_wire().chunks(piece_bytes) {
        // Later pieces of what ended it change nothing.
        let _is_over = stack.receive(piece, &mut out).is_err();
    }
    let read = client.read(&out.wire);
    (out, read)
}

#[test]
fn all_layers_at_once_in_any_pieces() {
    let ca = Authority::new("ca");
    let config = all_layers(&ca);
    for piece_bytes in [1, 50, usize::MAX] {
        let (mut stack, mut client) = (stack(&config), client(&ca));
        let mut out = Passage::default();
        HEADER.chunks(piece_bytes).for_each(|piece| stack.receive(piece, &mut out).unwrap());
        assert!(exchange(&mut client, &mut stack, piece_bytes).unwrap().is_empty());
        assert!(!stack.is_established(), "the WebSocket is not open");
        client.write(REQUEST);
        let (_, answer) = deliver(&mut client, &mut stack, piece_bytes);
        assert!(answer.starts_with(b"HTTP/1.1 101 "));
        assert!(stack.is_established());
        assert_eq!(stack.peer().address, Some("192.0.2.1:1000".parse().unwrap()));
        assert_eq!(stack.peer().identity.as_deref(), Some("anna"));

        client.write(FRAME);
        let (out, _) = deliver(&mut client, &mut stack, piece_bytes);
        assert_eq!(out.plain, [0x10]);
        let mut wire = Vec::new();
        stack.send([&b"\x20\x02"[..], &b"\x00\x00"[..]].into_iter(), &mut wire);
        assert_eq!(client.read(&wire), [0x82, 4, 0x20, 2, 0, 0]);
        // A ping and its answer.
        client.write(&[0x89, 0x81, 0, 0, 0, 0, 7]);
        assert_eq!(deliver(&mut client, &mut stack, piece_bytes).1, [0x8A, 1, 7]);

        let mut wire = Vec::new();
        stack.finish(&mut wire);
        assert_eq!(client.read(&wire), [0x88, 2, 0x03, 0xE8]);
        assert!(client.has_ended());
    }
}

#[test]
fn what_breaks_a_layer_is_answered_through_those_below() {
    let ca = Authority::new("ca");
    let config = all_layers(&ca);
    let check = |bytes: &[u8], is_open: bool, want: &[u8]| {
        let (mut stack, mut client) = (stack(&config), client(&ca));
        stack.receive(HEADER, &mut Passage::default()).unwrap();
        exchange(&mut client, &mut stack, usize::MAX).unwrap();
        if is_open {
            client.write(REQUEST);
            deliver(&mut client, &mut stack, usize::MAX);
        }
        client.write(bytes);
        let (out, answer) = deliver(&mut client, &mut stack, usize::MAX);
        assert!(answer.starts_with(want), "{answer:?}");
        assert!(client.has_ended() && out.plain.is_empty());
        let mut later = Vec::new();
        stack.send([&b"x"[..]].into_iter(), &mut later);
        stack.finish(&mut later);
        assert!(later.is_empty());
    };
    check(b"\x10\x0c\x00\x04MQTT", false, b"HTTP/1.1 400 ");
    check(b"GET / HTTP/1.1\r\n\r\n", false, b"HTTP/1.1 404 ");
    check(&[0x81, 0x80, 0, 0, 0, 0], true, &[0x88, 2, 0x03, 0xEB]);
    // The client closes.
    check(&[0x88, 0x82, 0, 0, 0, 0, 0x03, 0xE9], true, &[0x88, 2, 0x03, 0xE9]);
}

/// How many bytes a stack takes of an endless beginning before it gives up.
fn taken(mut stack: Stack, beginning: &[u8], mut more: impl FnMut() -> Vec<u8>) -> usize {
    let mut out = Passage::default();
    stack.receive(beginning, &mut out).unwrap();
    let mut taken = beginning.len();
    loop {
        let piece = more();
        taken += piece.len();
        let is_over = stack.receive(&piece, &mut out).is_err();
        assert!(out.plain.is_empty());
        if is_over {
            return taken;
        }
        assert!(taken < 1 << 20, "a megabyte was taken");
    }
}

/// Nobody keeps more than it is told, however long a client talks before it is let in.
#[test]
fn what_is_kept_before_handshakes_are_over_is_bounded() {
    let ca = Authority::new("ca");
    let all = all_layers(&ca);
    let only = |change: fn(&mut StackConfig)| {
        let mut config = all.clone();
        change(&mut config);
        stack(&config)
    };
    let proxied = only(|_| {});
    let line = taken(proxied, b"PROXY UNKNOWN ", || vec![b'x'; 10]);
    assert!(line <= HEADER_BYTES_MAX, "{line} bytes of a line");

    let tls = only(|config| config.proxy = None);
    // A ClientHello of 65,535 bytes in records of 100.
    let hello = [0x16, 3, 1, 0, 4, 1, 0, 0xFF, 0xFF];
    let hello = taken(tls, &hello, || [&[0x16, 3, 1, 0, 100][..], &[0; 100]].concat());
    assert!(hello <= HANDSHAKE_BYTES_MAX, "{hello} bytes of a handshake message");

    let ws = only(|config| (config.proxy, config.tls) = (None, None));
    let request = taken(ws, b"GET /mqtt HTTP/1.1\r\n", || b"X: y\r\n".to_vec());
    assert!(request <= REQUEST_BYTES_MAX + 6, "{request} bytes of a request");
}
