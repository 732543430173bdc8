//! PROXY headers in memory.
#![expect(clippy::unwrap_used, reason = "in a test, a panic is the report")]

use std::net::SocketAddr;
use std::sync::Arc;

use gate::transport::proxy::{HEADER_BYTES_MAX, ProxyPolicy};
use gate::transport::{Passage, Stack, StackConfig};

const SIGNATURE: &[u8] = b"\r\n\r\n\0\r\nQUIT\n";
/// From 192.0.2.1, port 1000, to 192.0.2.2, port 1883.
const IPV4: &[u8] = &[192, 0, 2, 1, 192, 0, 2, 2, 0x03, 0xE8, 0x07, 0x5B];

fn config(networks: &[&str]) -> StackConfig {
    let networks = networks.iter().map(|network| network.parse().unwrap()).collect();
    StackConfig { proxy: Some(Arc::new(ProxyPolicy { networks })), ..StackConfig::default() }
}

fn stack() -> Stack {
    config(&["127.0.0.0/8"]).stack(Some("127.0.0.1:50000".parse().unwrap())).unwrap()
}

/// A header of version 2 that announces the length of its body.
fn binary(command: u8, family: u8, body: &[u8]) -> Vec<u8> {
    let length = u16::try_from(body.len()).unwrap().to_be_bytes();
    [SIGNATURE, &[command, family], &length, body].concat()
}

/// The announced address; what is behind the header passes unchanged.
#[track_caller]
fn check(header: &[u8], want: Option<&str>) {
    let input = [header, b"\x10\x00PROXY TCP4"].concat();
    for piece_bytes in [1, 2, 5, 13, usize::MAX] {
        let mut stack = stack();
        let mut out = Passage::default();
        for (index, piece) in input.chunks(piece_bytes).enumerate() {
            let is_whole = index * piece_bytes.min(input.len()) >= header.len();
            assert_eq!(stack.is_established(), is_whole, "{header:?}");
            stack.receive(piece, &mut out).unwrap();
        }
        assert_eq!(out.plain, b"\x10\x00PROXY TCP4", "{header:?}");
        assert_eq!(stack.peer().address, want.map(|want| want.parse().unwrap()), "{header:?}");
        assert!(stack.is_transparent() && stack.is_established() && out.wire.is_empty());
    }
}

#[track_caller]
fn check_refused(input: &[u8], want: &str) {
    for piece_bytes in [1, usize::MAX] {
        let mut stack = stack();
        let mut out = Passage::default();
        let end = input.chunks(piece_bytes).try_for_each(|piece| stack.receive(piece, &mut out));
        let error = end.unwrap_err().to_string();
        assert!(error.contains(want), "{error:?} does not say {want:?}");
        assert!(out.plain.is_empty() && out.wire.is_empty() && !stack.is_established());
        assert_eq!(stack.peer().address, None);
    }
}

#[test]
fn headers_of_version_1() {
    check(b"PROXY TCP4 192.0.2.1 192.0.2.2 1000 1883\r\n", Some("192.0.2.1:1000"));
    check(b"PROXY TCP6 2001:db8::1 2001:db8::2 65535 0\r\n", Some("[2001:db8::1]:65535"));
    check(b"PROXY UNKNOWN\r\n", None);
    check(b"PROXY UNKNOWN ffff::1 ffff::2 1 2\r\n", None);
    let longest = "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff";
    let line = format!("PROXY UNKNOWN {longest} {longest} 65535 65535\r\n");
    assert_eq!(line.len(), 107);
    check(line.as_bytes(), None);

    check_refused(b"PROXY TCP4 192.0.2.1 192.0.2.2 1000\r\n", "addresses");
    check_refused(b"PROXY TCP4 192.0.2.1 192.0.2.2 1000 1883 1\r\n", "addresses");
    check_refused(b"PROXY TCP4 192.0.2.1 192.0.2.2 01000 1883\r\n", "addresses");
    check_refused(b"PROXY TCP4 192.0.2.1 192.0.2.2 +1000 1883\r\n", "addresses");
    check_refused(b"PROXY TCP4 192.0.2.1 192.0.2.2 1000 65536\r\n", "addresses");
    check_refused(b"PROXY TCP4 192.0.2.1  192.0.2.2 1000 1883\r\n", "addresses");
    check_refused(b"PROXY TCP4 2001:db8::1 2001:db8::2 1000 1883\r\n", "addresses");
    check_refused(b"PROXY TCP6 192.0.2.1 192.0.2.2 1000 1883\r\n", "addresses");
    check_refused(b"PROXY UDP4 192.0.2.1 192.0.2.2 1000 1883\r\n", "protocol");
    check_refused(b"PROXY \xFF\r\n", "ASCII");
    check_refused(&[b"PROXY UNKNOWN ", &[b'x'; 100][..]].concat(), "no end");
}

#[test]
fn headers_of_version_2() {
    check(&binary(0x21, 0x11, IPV4), Some("192.0.2.1:1000"));
    let mut ipv6 = [0; 36];
    (ipv6[0], ipv6[15], ipv6[32], ipv6[33]) = (0x20, 1, 0x03, 0xE8);
    check(&binary(0x21, 0x21, &ipv6), Some("[2000::1]:1000"));
    // Extensions are skipped.
    let extended = [IPV4, &[0x04, 0, 0], &[0xEA, 0, 2, 7, 7]].concat();
    check(&binary(0x21, 0x11, &extended), Some("192.0.2.1:1000"));
    // Whoever speaks for itself, or for nobody knows whom.
    check(&binary(0x20, 0x00, &[]), None);
    check(&binary(0x20, 0x11, IPV4), None);
    check(&binary(0x21, 0x00, &[9; 7]), None);
    let largest = [IPV4, &[0x04, 0x0F, 0xE1], &[0; 0x0FE1]].concat();
    assert_eq!(16 + largest.len(), HEADER_BYTES_MAX);
    check(&binary(0x21, 0x11, &largest), Some("192.0.2.1:1000"));

    check_refused(&binary(0x31, 0x11, IPV4), "version");
    check_refused(&binary(0x22, 0x11, IPV4), "command");
    check_refused(&binary(0x21, 0x12, IPV4), "family");
    check_refused(&binary(0x21, 0x31, &[0; 216]), "family");
    check_refused(&binary(0x21, 0x11, &IPV4[1..]), "too short");
    check_refused(&binary(0x21, 0x21, IPV4), "too short");
    check_refused(&binary(0x21, 0x11, &[IPV4, &[4, 0]].concat()), "cut short");
    check_refused(&binary(0x21, 0x11, &[IPV4, &[4, 0, 2, 0]].concat()), "cut short");
    check_refused(&[SIGNATURE, &[0x21, 0x11, 0x0F, 0xF1]].concat(), "too long");
}

#[test]
fn a_header_is_required() {
    check_refused(b"\x10\x0c\x00\x04MQTT", "begin");
    check_refused(b"PROXZ", "begin");
    check_refused(b"\r\n\r\n\0\r\nQUIX", "begin");
}

#[test]
fn only_proxies_may_connect() {
    let admits = |networks: &[&str], socket: Option<&str>| {
        let socket: Option<SocketAddr> = socket.map(|socket| socket.parse().unwrap());
        config(networks).stack(socket).is_ok()
    };
    let networks = ["10.0.0.0/8", "2001:db8::/32"];
    assert!(admits(&networks, Some("10.1.2.3:4")));
    assert!(admits(&networks, Some("[2001:db8::5]:4")));
    // How a socket for both families tells the same address.
    assert!(admits(&networks, Some("[::ffff:10.1.2.3]:4")));
    assert!(!admits(&networks, Some("11.1.2.3:4")));
    assert!(!admits(&networks, Some("[::ffff:11.1.2.3]:4")));
    assert!(!admits(&networks, None));
    assert!(!admits(&[], Some("127.0.0.1:4")));
}
