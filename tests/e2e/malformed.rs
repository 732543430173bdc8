//! First packets that no client may send: each ends its own connection, and nothing else.

use crate::harness::broker::Broker;
use crate::harness::client::Client;
use crate::harness::on_shards;
use crate::harness::wire::{self, Connect, Packet, Prop, Publish, Value, Will, packet, prop};

on_shards!(
    a_malformed_first_packet_ends_its_connection,
    a_malformed_later_packet_ends_its_connection,
    noise_ends_its_connection,
);

/// The whole CONNECT with one thing wrong, in every version; then bytes of any kind.
fn first_packets() -> Vec<Vec<u8>> {
    let mut list = Vec::new();
    for version in [3, 4, 5] {
        connects_with_wrong_flags(version, &mut list);
        connects_with_wrong_fields(version, &mut list);
    }
    connects_with_wrong_properties(&mut list);
    // Every packet type but CONNECT, with flags that fit and flags that do not.
    for kind in (0..=15_u8).filter(|kind| *kind != 1) {
        for flags in [0, 2, 15] {
            list.push(packet(kind << 4 | flags, &[0, 1]));
        }
    }
    for flags in 1..=15 {
        let mut connect = Connect::new(4, "flags").encode();
        connect[0] |= flags;
        list.push(connect);
    }
    // A remaining length of more than four bytes, or of nothing.
    list.push(vec![0x10, 0xFF, 0xFF, 0xFF, 0xFF, 0x7F]);
    list.push(vec![0x10, 0x80, 0x80, 0x80, 0x80, 0x01]);
    list.push(vec![0x10, 0]);
    list
}

fn connects_with_wrong_flags(version: u8, list: &mut Vec<Vec<u8>>) {
    let name = if version == 3 { "MQIsdp" } else { "MQTT" };
    // Will QoS 3.
    let mut wrong = vec![0x1E, 0x3E];
    if version > 3 {
        // The reserved bit, and what says how the will is when there is none: 3.1 disregards both.
        wrong.extend([0x01, 0x03, 0x0A, 0x12, 0x22, 0x2A, 0x32]);
    }
    if version == 4 {
        // A password without a user name.
        wrong.push(0x42);
    }
    for flags in wrong {
        let mut body = Vec::new();
        wire::put_text(&mut body, name);
        body.extend([version, flags, 0, 0]);
        wire::put_props(&mut body, version, &[]);
        wire::put_text(&mut body, "flags");
        if flags & 0x04 > 0 {
            wire::put_props(&mut body, version, &[]);
            wire::put_text(&mut body, "will");
            wire::put_text(&mut body, "gone");
        }
        if flags & 0x40 > 0 {
            wire::put_text(&mut body, "password");
        }
        list.push(packet(0x10, &body));
    }
}

fn connects_with_wrong_fields(version: u8, list: &mut Vec<Vec<u8>>) {
    let whole = Connect::new(version, "fields").will(Will::new("will/topic", "gone")).encode();
    let body = &whole[2..];
    // Cut anywhere, with a remaining length that agrees; and one byte too many.
    list.extend((0..body.len()).map(|cut| packet(0x10, &body[..cut])));
    list.push(packet(0x10, &[body, &[0]].concat()));
    for name in ["", "MQTX", "mqtt", "MQIsdq", "HTTP/1.1"] {
        let mut body = Vec::new();
        wire::put_text(&mut body, name);
        body.extend([version, 0x02, 0, 0]);
        wire::put_text(&mut body, "name");
        list.push(packet(0x10, &body));
    }
    // Not UTF-8, a surrogate, an overlong form, U+0000.
    for id in [&b"\xFF"[..], b"\xED\xA0\x80", b"\xC0\x80", b"a\x00b"] {
        if version == 3 {
            continue;
        }
        let mut body = Vec::new();
        wire::put_text(&mut body, "MQTT");
        body.extend([version, 0x02, 0, 0]);
        wire::put_props(&mut body, version, &[]);
        wire::put_binary(&mut body, id);
        list.push(packet(0x10, &body));
    }
    for topic in ["will/#", "will/+/x"] {
        let connect = Connect::new(version, "will").will(Will::new(topic, "gone"));
        list.push(connect.encode());
    }
}

fn connects_with_wrong_properties(list: &mut Vec<Vec<u8>>) {
    let wrong = [
        // Twice the same, values out of range, properties of other packets, unknown ones.
        vec![Prop::four(prop::SESSION_EXPIRY, 1), Prop::four(prop::SESSION_EXPIRY, 1)],
        vec![Prop::two(prop::RECEIVE_MAXIMUM, 0)],
        vec![Prop::four(prop::MAXIMUM_PACKET_SIZE, 0)],
        vec![Prop::byte(0x17, 2)],
        vec![Prop::byte(0x19, 2)],
        vec![Prop::two(prop::TOPIC_ALIAS, 1)],
        vec![Prop::text(prop::ASSIGNED_CLIENT_ID, "mine")],
        vec![Prop::two(prop::SERVER_KEEP_ALIVE, 1)],
        vec![Prop { id: 0x16, value: Value::Binary(vec![1]) }],
        vec![Prop::byte(0x00, 0)],
        vec![Prop::byte(0x7F, 0)],
    ];
    for props in wrong {
        let mut connect = Connect::new(5, "props");
        connect.props = props;
        list.push(connect.encode());
    }
}

/// In the end the connection is closed; a CONNACK before that says why, and grants nothing. No
/// DISCONNECT comes before a CONNACK that grants (MQTT-3.14.0-1).
#[track_caller]
fn assert_refused(mut client: Client, what: &[u8]) {
    match client.until_end().as_slice() {
        [] => {}
        [Packet::Connack { code, present: false, .. }] if *code > 0 => {}
        other => panic!("{what:02x?}: {other:?}"),
    }
}

fn a_malformed_first_packet_ends_its_connection(broker: &Broker) {
    let list = first_packets();
    assert!(list.len() >= 200, "{} packets", list.len());
    if broker.deviates("2.0.11 takes or awaits some of them") {
        return;
    }
    for bytes in &list {
        // Version 5 only decides how an answer is read; a refusal may come in either form.
        let mut client = Client::open(broker, 5);
        client.send_lossy(bytes);
        client.finish_writing();
        assert_refused(client, bytes);
    }
    Client::plain(broker, 5, "after").ping();
}

fn a_malformed_later_packet_ends_its_connection(broker: &Broker) {
    if broker.deviates("2.0.11 takes some of them") {
        return;
    }
    let topic = |text: &[u8], rest: &[u8]| {
        let mut body = Vec::new();
        wire::put_binary(&mut body, text);
        body.extend_from_slice(rest);
        body
    };
    for version in [4, 5] {
        let mut list = vec![
            packet(0x36, &topic(b"t", &[0, 1])),
            packet(0x32, &topic(b"t", &[0, 0, 0])),
            packet(0x30, &topic(b"t/#", &[0])),
            packet(0x30, &topic(b"t/+", &[0])),
            packet(0x30, &topic(b"\xFF", &[0])),
            packet(0x30, &topic(b"a\x00", &[0])),
            packet(0x38, &topic(b"t", &[0])),
            packet(0x30, &[0]),
            packet(0x82, &[0, 1]),
            packet(0x80, &topic(b"\x00\x01", &[0])),
            wire::subscribe(version, 0, &[("t", 0)], &[]),
            wire::subscribe(version, 1, &[("t", 3)], &[]),
            wire::subscribe(version, 1, &[("t", 0xC0)], &[]),
            wire::unsubscribe(version, 1, &[]),
            wire::unsubscribe(version, 0, &["t"]),
            packet(0x60, &[0, 1]),
            packet(0x40, &[0]),
            packet(0xC1, &[]),
            packet(0xD0, &[]),
            packet(0x20, &[0, 0]),
            packet(0x90, &[0, 1, 0]),
            packet(0x00, &[]),
            Connect::new(version, "later").encode(),
        ];
        if version == 5 {
            let publish = |p: Prop| Publish::new("t", "x", 0).with(p).encode(5);
            list.push(publish(Prop::subscription_id(1)));
            list.push(publish(Prop::byte(prop::PAYLOAD_FORMAT, 2)));
            list.push(publish(Prop::text(prop::RESPONSE_TOPIC, "a/#")));
            list.push(wire::subscribe(5, 1, &[("t", 0)], &[Prop::subscription_id(0)]));
            list.push(wire::subscribe(5, 1, &[("t", 0x30)], &[]));
            list.push(Publish::new("", "x", 0).encode(5));
        }
        for bytes in &list {
            let mut client = Client::plain(broker, version, "later");
            client.send_lossy(bytes);
            match client.until_end().as_slice() {
                [] => {}
                [Packet::Disconnect { code, .. }] if *code >= 0x80 && version == 5 => {}
                other => panic!("version {version}, {bytes:02x?}: {other:?}"),
            }
        }
    }
}

/// A generator with a fixed seed, so that every run says the same.
fn noise_ends_its_connection(broker: &Broker) {
    let mut state = 0x9E37_79B9_7F4A_7C15_u64;
    for _ in 0..200 {
        let mut bytes = Vec::new();
        for _ in 0..64 {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            bytes.extend(state.to_le_bytes());
        }
        let mut client = Client::open(broker, 4);
        client.send_lossy(&bytes);
        client.finish_writing();
        assert_refused(client, &bytes);
    }
    Client::plain(broker, 4, "after").ping();
}
