//! Transports: section 4.2 of 5.0, section 7 of 3.1.1, and WebSocket, section 6 of both.

use std::io::Read;

use crate::harness::client::Client;
use crate::harness::wire::{self, Connect, Packet, Publish};
use crate::publishing::steps::{pair, publish_id};
use crate::support::{broker, on_versions};

on_versions! {
    fn mqtt_311_7_1_1_1_a_lossless_ordered_byte_stream(4),
    fn mqtt_5_4_2_0_1_a_lossless_ordered_byte_stream(5) => byte_stream;
    fn mqtt_311_7_0_0_2_no_extension_is_needed(4) => no_extension;
    /// Not offered: there is no WebSocket listener. A frame of any kind is no CONNECT and ends the connection.
    fn mqtt_311_6_0_0_1_a_frame_is_no_packet(4),
    /// Not offered: there is no WebSocket listener. A frame of any kind is no CONNECT and ends the connection.
    fn mqtt_5_6_0_0_1_a_frame_is_no_packet(5) => frames;
    /// Not offered: there is no WebSocket listener. That packets may be cut anywhere is shown over TCP.
    fn mqtt_311_6_0_0_2_packets_may_be_cut_anywhere(4),
    /// Not offered: there is no WebSocket listener. That packets may be cut anywhere is shown over TCP.
    fn mqtt_5_6_0_0_2_packets_may_be_cut_anywhere(5) => byte_stream;
    /// Not offered: there is no WebSocket listener. A handshake is not answered, so no subprotocol is chosen.
    fn mqtt_311_6_0_0_4_no_subprotocol_is_chosen(4),
    /// Not offered: there is no WebSocket listener. A handshake is not answered, so no subprotocol is chosen.
    fn mqtt_5_6_0_0_4_no_subprotocol_is_chosen(5) => handshake;
}

/// Packets one byte at a time, many packets in one write, and 256 KiB in pieces of odd lengths.
fn byte_stream(version: u8) {
    let broker = broker();
    let mut client = Client::open(&broker, version);
    let mut bytes = Connect::new(version, "client").encode();
    bytes.extend(wire::subscribe(version, 1, &[("t", 1)], &[]));
    bytes.extend(publish_id("t", "small", 1, 2).encode(version));
    bytes.extend(wire::PINGREQ);
    for byte in bytes.chunks(1) {
        client.send(byte);
    }
    client.wait_for(|p| matches!(p, Packet::Connack { code: 0, .. }));
    client.wait_for(|p| matches!(p, Packet::Suback { id: 1, .. }));
    client.wait_for(|p| matches!(p, Packet::Puback { id: 2, .. }));
    client.wait_for(|p| matches!(p, Packet::Pingresp));
    assert_eq!(client.message().text(), "small");

    let large: Vec<u8> =
        (0_u32..65_536).flat_map(|n| n.wrapping_mul(2_654_435_761).to_le_bytes()).collect();
    let mut bytes = Vec::new();
    for number in 0..100 {
        bytes.extend(Publish::new("t", number.to_string(), 0).encode(version));
    }
    bytes.extend(Publish::new("t", &large, 0).encode(version));
    for chunk in bytes.chunks(997) {
        client.send(chunk);
    }
    for number in 0..100 {
        assert_eq!(client.message().text(), number.to_string());
    }
    assert!(client.message().payload == large, "256 KiB arrived changed");
}

/// The least that a client can say, byte for byte as the standard has it, is enough for all that it wants.
fn no_extension(version: u8) {
    let broker = broker();
    let (mut subscriber, mut publisher) = pair(&broker, version, "a/b", 0);
    let mut client = Client::open(&broker, version);
    client.send(b"\x10\x0D\x00\x04MQTT\x04\x02\x00\x00\x00\x01c");
    assert_eq!(client.recv_bytes(), [0x20, 2, 0, 0]);
    client.send(b"\x82\x08\x00\x01\x00\x03a/b\x00");
    assert_eq!(client.recv_bytes(), [0x90, 3, 0, 1, 0]);
    client.send(b"\x32\x09\x00\x03a/b\x00\x02hi");
    let mut got = [client.recv_bytes(), client.recv_bytes()];
    got.sort();
    assert_eq!(got, [b"\x30\x07\x00\x03a/bhi".to_vec(), b"\x40\x02\x00\x02".to_vec()]);
    assert_eq!(subscriber.message().text(), "hi");
    client.send(b"\xA2\x07\x00\x03\x00\x03a/b");
    assert_eq!(client.recv_bytes(), [0xB0, 2, 0, 3]);
    publisher.publish("a/b", "no longer", 1);
    client.send(b"\xC0\x00");
    assert_eq!(client.recv_bytes(), [0xD0, 0]);
    client.send(b"\xE0\x00");
    assert_eq!(client.until_end(), []);
}

/// Not offered: the broker connects to no other one.
#[test]
fn mqtt_311_7_0_0_1_no_bridge() {
    let broker = broker();
    // A bridge of another broker announces itself with the highest bit of the protocol level, which no
    // version of the standard has: what is not offered is refused, and is not taken for a client.
    let mut bridge = Connect::new(4, "bridge").encode();
    bridge[8] |= 0x80;
    let mut client = Client::open(&broker, 4);
    client.send(&bridge);
    assert_eq!(client.recv(), Packet::Connack { present: false, code: 1, props: vec![] });
    assert_eq!(client.until_end(), []);
}

/// Everything the broker says to `bytes` as the first of a connection.
#[track_caller]
fn answer_to(bytes: &[u8]) -> Vec<u8> {
    let broker = broker();
    let mut client = Client::open(&broker, 4);
    client.send_lossy(bytes);
    let mut answer = Vec::new();
    // It may end with a reset, as there may be more that the broker did not read.
    let _ = client.stream().read_to_end(&mut answer);
    Client::plain(&broker, 4, "beside").ping();
    answer
}

/// A masked frame of every kind, the binary one with a CONNECT of this version in it.
fn frames(version: u8) {
    let connect = Connect::new(version, "framed").encode();
    for kind in [0x0, 0x1, 0x2, 0x8, 0x9, 0xA] {
        let length = u8::try_from(connect.len()).expect("a short packet");
        let mut frame = vec![0x80 | kind, 0x80 | length, 0, 0, 0, 0];
        frame.extend(&connect);
        assert_eq!(answer_to(&frame), b"", "frame of type {kind}");
    }
}

fn handshake(version: u8) {
    let protocol = if version < 5 { "mqttv3.1" } else { "mqtt" };
    for protocol in ["mqtt", protocol, "chat"] {
        let request = format!(
            "GET /mqtt HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
             Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\nSec-WebSocket-Version: 13\r\n\
             Sec-WebSocket-Protocol: {protocol}\r\n\r\n"
        );
        assert_eq!(answer_to(request.as_bytes()), b"");
    }
}
