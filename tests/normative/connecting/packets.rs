//! Section 2: the fixed header, packet identifiers, properties.

use std::collections::BTreeSet;

use crate::harness::client::Client;
use crate::harness::wire::{self, Connect, Packet, Publish, packet};
use crate::support::{assert_ends, assert_refused, broker, broker_set, on_versions};

use super::raw::RawConnect;

on_versions! {
    fn mqtt_311_2_2_2_1_reserved_flags_are_as_the_table_has_them(4) => reserved_flags_are_sent;
    fn mqtt_311_2_2_2_2_other_flags_end_the_connection(4) => other_flags_end_the_connection;
    fn mqtt_311_2_3_1_1_identifier_0_ends_the_connection(4),
    fn mqtt_5_2_2_1_3_identifier_0_ends_the_connection(5) => identifier_0_ends_the_connection;
    fn mqtt_311_2_3_1_4_identifiers_in_use_are_not_given_again(4),
    fn mqtt_5_2_2_1_4_identifiers_in_use_are_not_given_again(5) => identifiers_in_use;
    fn mqtt_311_2_3_1_5_no_identifier_at_qos_0(4),
    fn mqtt_5_2_2_1_2_no_identifier_at_qos_0(5) => no_identifier_at_qos_0;
    fn mqtt_311_2_3_1_6_acknowledgements_bear_the_identifier(4),
    fn mqtt_5_2_2_1_5_acknowledgements_bear_the_identifier(5) => acknowledgements;
    fn mqtt_311_2_3_1_7_suback_and_unsuback_bear_the_identifier(4),
    fn mqtt_5_2_2_1_6_suback_and_unsuback_bear_the_identifier(5) => subacks;
}

/// Identifiers that a mistake in the order of bytes or in the width would change.
const IDENTIFIERS: [u16; 5] = [1, 255, 256, 32_768, 65_535];

#[test]
fn mqtt_5_2_1_3_1_reserved_flags_are_as_the_table_has_them() {
    reserved_flags_are_sent(5);
    other_flags_end_the_connection(5);
}

fn reserved_flags_are_sent(version: u8) {
    let broker = broker();
    let mut client = Client::open(&broker, version);
    let publish = |qos, id| {
        let mut publish = Publish::new("t", "x", qos);
        publish.id = id;
        publish.encode(version)
    };
    let mut first = |bytes: &[u8]| {
        client.send(bytes);
        client.recv_bytes()[0]
    };
    assert_eq!(first(&Connect::new(version, "flags").encode()), 0x20);
    assert_eq!(first(&wire::subscribe(version, 1, &[("t", 2)], &[])), 0x90);
    assert_eq!(first(&wire::PINGREQ), 0xD0);
    // At QoS 2 to itself: PUBREC and PUBLISH in either order, then what follows from them.
    let both = BTreeSet::from([first(&publish(2, 2)), first(&[])]);
    assert_eq!(both, BTreeSet::from([0x34, 0x50]));
    assert_eq!(first(&wire::ack(wire::PUBREL, 2)), 0x70);
    assert_eq!(first(&wire::ack(wire::PUBREC, 1)), 0x62);
    assert_eq!(first(&[&wire::ack(wire::PUBCOMP, 1)[..], &wire::PINGREQ].concat()), 0xD0);
    assert_eq!(first(&wire::unsubscribe(version, 3, &["t"])), 0xB0);
    assert_eq!(first(&publish(1, 4)), 0x40);
}

fn other_flags_end_the_connection(version: u8) {
    let broker = broker();
    let mut packets = vec![
        (0x82, wire::subscribe(version, 1, &[("t", 0)], &[])),
        (0xA2, wire::unsubscribe(version, 1, &["t"])),
        (wire::PUBREL, wire::ack(wire::PUBREL, 1)),
        (wire::PUBACK, wire::ack(wire::PUBACK, 1)),
        (wire::PUBREC, wire::ack(wire::PUBREC, 1)),
        (wire::PUBCOMP, wire::ack(wire::PUBCOMP, 1)),
        (0xC0, wire::PINGREQ.to_vec()),
        (0xE0, wire::DISCONNECT.to_vec()),
    ];
    if version == 5 {
        packets.push((0xF0, packet(0xF0, &[])));
    }
    for (right, mut bytes) in packets {
        for flags in (0..16).filter(|flags| *flags != right & 0x0F) {
            bytes[0] = right & 0xF0 | flags;
            assert_ends(&broker, version, &bytes, 0x81);
        }
    }
    for flags in 1..16 {
        let mut bytes = RawConnect::new(version, "flags").encode();
        bytes[0] |= flags;
        assert_refused(&broker, version, &bytes, 0x81);
    }
}

fn identifier_0_ends_the_connection(version: u8) {
    let broker = broker();
    for bytes in [
        wire::subscribe(version, 0, &[("t", 0)], &[]),
        wire::unsubscribe(version, 0, &["t"]),
        Publish::new("t", "x", 1).encode(version),
        Publish::new("t", "x", 2).encode(version),
    ] {
        assert_ends(&broker, version, &bytes, 0x81);
    }
}

/// A server could take it for nothing but a new message if it came with another identifier.
#[test]
fn mqtt_311_2_3_1_3_a_repetition_is_known_by_its_identifier() {
    let broker = broker();
    let mut watcher = Client::plain(&broker, 4, "watcher");
    watcher.subscribe("t", 0);
    let connect = Connect::new(4, "repeats").persistent();
    let mut client = Client::connect(&broker, &connect);
    let mut publish = Publish::new("t", "once", 2);
    publish.id = 7;
    client.send(&publish.encode(4));
    assert_eq!(client.recv(), Packet::Pubrec { id: 7, code: 0 });
    client.vanish();
    let mut client = Client::connect(&broker, &connect);
    publish.dup = true;
    client.send(&publish.encode(4));
    assert_eq!(client.recv(), Packet::Pubrec { id: 7, code: 0 });
    (publish.id, publish.payload) = (8, b"other".to_vec());
    client.send(&publish.encode(4));
    assert_eq!(client.recv(), Packet::Pubrec { id: 8, code: 0 });
    assert_eq!(watcher.message().text(), "once");
    assert_eq!(watcher.message().text(), "other");
}

/// Some messages stay unacknowledged while all 65,535 identifiers come round; none of theirs is given
/// to another message. On the next connection they come back with the identifiers that they had.
fn identifiers_in_use(version: u8) {
    const HELD: u32 = 100;
    const ROUND: u32 = 66_000;
    let broker = broker_set(&["session.queue_messages_max=100000"]);
    let connect = Connect::new(version, "holds").persistent();
    let mut client = Client::connect(&broker, &connect);
    client.subscribe("t", 2);
    let mut publisher = Client::plain(&broker, version, "publisher");
    let publisher = std::thread::spawn(move || publisher.publish_window("t", HELD + ROUND, 1, 200));
    let mut held = Vec::new();
    for _ in 0..HELD {
        let message = client.message_unacked();
        assert!(message.id > 0 && !message.dup);
        assert!(!held.contains(&message.id), "identifier {} twice", message.id);
        held.push(message.id);
    }
    let mut acks = Vec::new();
    for _ in 0..ROUND {
        let message = client.message_unacked();
        assert!(message.id > 0 && !held.contains(&message.id), "{} is in use", message.id);
        acks.extend(wire::ack(wire::PUBACK, message.id));
        // Many at a time: it is a long way round.
        if acks.len() == 64 * 4 {
            client.send(&std::mem::take(&mut acks));
        }
    }
    client.send(&acks);
    publisher.join().expect("the publisher is done");
    client.ping();
    client.vanish();
    let mut client = Client::connect(&broker, &connect);
    let again: Vec<u16> = (0..HELD).map(|_| client.message_unacked().id).collect();
    assert_eq!(again, held);
}

/// What follows the topic is payload, whatever it looks like.
fn no_identifier_at_qos_0(version: u8) {
    let broker = broker();
    let mut client = Client::plain(&broker, version, "none");
    client.subscribe("t", 2);
    let payload = [0, 7, 0, 1];
    client.send(&Publish::new("t", payload, 0).encode(version));
    let properties: &[u8] = if version == 5 { &[0] } else { &[] };
    let body = [&[0, 1, b't'][..], properties, &payload].concat();
    assert_eq!(client.recv_bytes(), packet(0x30, &body));
}

fn acknowledgements(version: u8) {
    let broker = broker();
    let mut client = Client::plain(&broker, version, "acks");
    for qos in [1, 2] {
        for id in IDENTIFIERS {
            let mut publish = Publish::new("nobody", "x", qos);
            publish.id = id;
            client.send(&publish.encode(version));
        }
        // Nobody subscribed: 5.0 says so.
        let code = if version == 5 { 0x10 } else { 0 };
        for id in IDENTIFIERS {
            let want = match qos {
                1 => Packet::Puback { id, code },
                _ => Packet::Pubrec { id, code },
            };
            assert_eq!(client.recv(), want);
        }
    }
    for id in IDENTIFIERS {
        client.send(&wire::ack(wire::PUBREL, id));
        assert_eq!(client.recv(), Packet::Pubcomp { id, code: 0 });
    }
    // The other direction: PUBREL bears the identifier that the broker chose.
    client.subscribe("own", 2);
    for _ in 0..3 {
        client.send(&Publish::new("own", "x", 0).encode(version));
        client.message();
        client.publish("own", "x", 2);
        let message = client.message_unacked();
        client.send(&wire::ack(wire::PUBREC, message.id));
        assert_eq!(client.recv(), Packet::Pubrel { id: message.id, code: 0 });
        client.send(&wire::ack(wire::PUBCOMP, message.id));
    }
}

fn subacks(version: u8) {
    let broker = broker();
    let mut client = Client::plain(&broker, version, "subacks");
    let mut bytes = Vec::new();
    for id in IDENTIFIERS {
        bytes.extend(wire::subscribe(version, id, &[("t", 0)], &[]));
        bytes.extend(wire::unsubscribe(version, id, &["t"]));
    }
    client.send(&bytes);
    let found = if version == 5 { vec![0] } else { vec![] };
    for id in IDENTIFIERS {
        assert_eq!(client.recv(), Packet::Suback { id, codes: vec![0] });
        assert_eq!(client.recv(), Packet::Unsuback { id, codes: found.clone() });
    }
}

#[test]
fn mqtt_5_2_2_2_1_no_properties_are_a_length_of_0() {
    let broker = broker();
    let mut client = Client::plain(&broker, 5, "bare");
    client.send(&wire::subscribe(5, 1, &[("t", 1)], &[]));
    assert_eq!(client.recv_bytes(), [0x90, 4, 0, 1, 0, 1]);
    client.send(&Publish::new("t", "x", 0).encode(5));
    assert_eq!(client.recv_bytes(), [0x30, 5, 0, 1, b't', 0, b'x']);
    client.send(&wire::unsubscribe(5, 2, &["t"]));
    assert_eq!(client.recv_bytes(), [0xB0, 4, 0, 2, 0, 0]);
    // Without the length itself.
    assert_ends(&broker, 5, &packet(0x30, &[0, 1, b't']), 0x81);
    assert_ends(&broker, 5, &packet(0x82, &[0, 1]), 0x81);
    assert_ends(&broker, 5, &packet(0xA2, &[0, 1]), 0x81);
    let connect = [&[0, 4][..], b"MQTT", &[5, 2, 0, 0]].concat();
    assert_refused(&broker, 5, &packet(0x10, &connect), 0x81);
}
