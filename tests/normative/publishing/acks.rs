//! PUBACK, PUBREC, PUBREL and PUBCOMP: sections 3.4 to 3.7.

use crate::harness::broker::Broker;
use crate::harness::client::Client;
use crate::harness::wire::{self, Connect, Packet, Prop, Publish, packet, prop};
use crate::publishing::steps::publish_id;
use crate::support::{assert_ends, broker, on_versions};

on_versions! {
    fn mqtt_311_3_6_1_1_pubrel_has_flags_0010(4),
    fn mqtt_5_3_6_1_1_pubrel_has_flags_0010(5) => pubrel_flags;
}

fn pubrel_flags(version: u8) {
    let broker = broker();
    for flags in (0..=15).filter(|flags| *flags != 2) {
        assert_ends(&broker, version, &packet(0x60 | flags, &[0, 1]), 0x81);
    }
    let mut client = Client::plain(&broker, version, "right");
    client.send(&publish_id("t", "text", 2, 1).encode(version));
    client.wait_for(|p| matches!(p, Packet::Pubrec { id: 1, .. }));
    client.send(&packet(0x62, &[0, 1]));
    assert_eq!(client.recv(), Packet::Pubcomp { id: 1, code: 0 });
}

/// The acknowledgements that have a list of reason codes of their own.
const FOR_PUBLISH: [u8; 9] = [0x00, 0x10, 0x80, 0x83, 0x87, 0x90, 0x91, 0x97, 0x99];
const FOR_RELEASE: [u8; 2] = [0x00, 0x92];

/// `kind` is taken with each of the reason codes of its list, and is an error with any other.
#[track_caller]
fn assert_codes_taken(kind: u8, listed: &[u8]) {
    let broker = broker();
    for code in 0..=255 {
        let bytes = packet(kind, &[0, 1, code]);
        if listed.contains(&code) {
            // Nothing is open under this identifier: it changes nothing.
            let mut client = Client::plain(&broker, 5, "listed");
            client.send(&bytes);
            client.ping();
        } else {
            assert_ends(&broker, 5, &bytes, 0x82);
        }
    }
}

/// What the broker says for a PUBLISH of this QoS: to subscribers, to none, where it may not go.
#[track_caller]
fn assert_codes_sent(qos: u8) {
    let broker = broker();
    let mut subscriber = Client::plain(&broker, 5, "subscriber");
    subscriber.subscribe("t", qos);
    let mut publisher = Client::plain(&broker, 5, "publisher");
    for (topic, want) in [("t", 0x00), ("nobody", 0x10), ("$SYS/broker", 0x87)] {
        assert_eq!(publisher.publish_as(Publish::new(topic, "text", qos)), want, "{topic}");
        assert!(FOR_PUBLISH.contains(&want));
    }
}

#[test]
fn mqtt_5_3_4_2_1_listed_codes_in_puback() {
    assert_codes_sent(1);
    assert_codes_taken(wire::PUBACK, &FOR_PUBLISH);
}

#[test]
fn mqtt_5_3_5_2_1_listed_codes_in_pubrec() {
    assert_codes_sent(2);
    assert_codes_taken(wire::PUBREC, &FOR_PUBLISH);
}

#[test]
fn mqtt_5_3_6_2_1_listed_codes_in_pubrel() {
    let broker = broker();
    let mut client = Client::plain(&broker, 5, "client");
    client.subscribe("t", 2);
    Client::plain(&broker, 5, "publisher").publish("t", "text", 2);
    let id = client.message_unacked().id;
    client.send(&wire::ack(wire::PUBREC, id));
    assert_eq!(client.recv(), Packet::Pubrel { id, code: 0 });
    client.send(&wire::ack(wire::PUBREC, id + 1));
    assert_eq!(client.recv(), Packet::Pubrel { id: id + 1, code: 0x92 });
    assert_codes_taken(wire::PUBREL, &FOR_RELEASE);
}

#[test]
fn mqtt_5_3_7_2_1_listed_codes_in_pubcomp() {
    let broker = broker();
    let mut client = Client::plain(&broker, 5, "client");
    client.send(&publish_id("t", "text", 2, 1).encode(5));
    client.wait_for(|p| matches!(p, Packet::Pubrec { id: 1, .. }));
    for (id, code) in [(1, 0), (1, 0x92), (2, 0x92)] {
        client.send(&wire::ack(wire::PUBREL, id));
        assert_eq!(client.recv(), Packet::Pubcomp { id, code });
    }
    assert_codes_taken(wire::PUBCOMP, &FOR_RELEASE);
}

const REASON_STRING: u8 = 0x1F;

/// Which of the two optional properties.
#[derive(Clone, Copy)]
enum Remark {
    ReasonString,
    User,
}

/// A client with room for the CONNACK, and little more.
fn narrow(broker: &Broker) -> Client {
    let limit = Prop::four(prop::MAXIMUM_PACKET_SIZE, 64);
    Client::connect(broker, &Connect::new(5, "narrow").with(limit))
}

/// What the broker sends as `kind`, with an error in it where there is one, has neither a Reason String
/// nor User Properties, so that it is never longer for them. It takes both from a client.
#[track_caller]
fn assert_remarks(kind: u8, remark: Remark) {
    let broker = broker();
    let wide = Client::plain(&broker, 5, "wide");
    for mut client in [narrow(&broker), wide] {
        let (request, code) = match kind {
            wire::PUBACK => (publish_id("$SYS/x", "no", 1, 1).encode(5), 0x87),
            wire::PUBREC => (publish_id("$SYS/x", "no", 2, 1).encode(5), 0x87),
            wire::PUBREL => (wire::ack(wire::PUBREC, 1), 0x92),
            _ => (wire::ack(wire::PUBREL, 1), 0x92),
        };
        client.send(&request);
        assert_eq!(client.recv_bytes(), [kind, 3, 0, 1, code]);
        let props = match remark {
            Remark::ReasonString => vec![Prop::text(REASON_STRING, &"why ".repeat(20))],
            Remark::User => vec![Prop::user("a", "b"), Prop::user("a", &"c".repeat(80))],
        };
        let mut body = vec![0, 9, code];
        wire::put_props(&mut body, 5, &props);
        client.send(&packet(kind, &body));
        client.ping();
    }
}

/// Not seen from outside: the broker has no words of its own to put into a PUBACK, so none is too long.
#[test]
fn mqtt_5_3_4_2_2_no_reason_string_beyond_the_limit_in_puback() {
    assert_remarks(wire::PUBACK, Remark::ReasonString);
}

/// Not seen from outside: the broker has no User Properties of its own to put into a PUBACK, so none is too long.
#[test]
fn mqtt_5_3_4_2_3_no_user_properties_beyond_the_limit_in_puback() {
    assert_remarks(wire::PUBACK, Remark::User);
}

/// Not seen from outside: the broker has no words of its own to put into a PUBREC, so none is too long.
#[test]
fn mqtt_5_3_5_2_2_no_reason_string_beyond_the_limit_in_pubrec() {
    assert_remarks(wire::PUBREC, Remark::ReasonString);
}

/// Not seen from outside: the broker has no User Properties of its own to put into a PUBREC, so none is too long.
#[test]
fn mqtt_5_3_5_2_3_no_user_properties_beyond_the_limit_in_pubrec() {
    assert_remarks(wire::PUBREC, Remark::User);
}

/// Not seen from outside: the broker has no words of its own to put into a PUBREL, so none is too long.
#[test]
fn mqtt_5_3_6_2_2_no_reason_string_beyond_the_limit_in_pubrel() {
    assert_remarks(wire::PUBREL, Remark::ReasonString);
}

/// Not seen from outside: the broker has no User Properties of its own to put into a PUBREL, so none is too long.
#[test]
fn mqtt_5_3_6_2_3_no_user_properties_beyond_the_limit_in_pubrel() {
    assert_remarks(wire::PUBREL, Remark::User);
}

/// Not seen from outside: the broker has no words of its own to put into a PUBCOMP, so none is too long.
#[test]
fn mqtt_5_3_7_2_2_no_reason_string_beyond_the_limit_in_pubcomp() {
    assert_remarks(wire::PUBCOMP, Remark::ReasonString);
}

/// Not seen from outside: the broker has no User Properties of its own to put into a PUBCOMP, so none is too long.
#[test]
fn mqtt_5_3_7_2_3_no_user_properties_beyond_the_limit_in_pubcomp() {
    assert_remarks(wire::PUBCOMP, Remark::User);
}
