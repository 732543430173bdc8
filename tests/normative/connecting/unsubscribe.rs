//! Sections 3.10 to 3.13: UNSUBSCRIBE, UNSUBACK and pings.

use crate::harness::broker::Broker;
use crate::harness::client::Client;
use crate::harness::wire::{self, Connect, Packet, Prop, packet, prop};
use crate::support::{assert_ended, assert_ends, broker, on_versions};

use super::data::ILL_FORMED;

on_versions! {
    fn mqtt_311_3_10_1_1_other_flags_end_the_connection(4),
    fn mqtt_5_3_10_1_1_other_flags_end_the_connection(5) => other_flags;
    fn mqtt_311_3_10_3_1_filters_are_utf8_one_behind_the_other(4),
    fn mqtt_5_3_10_3_1_filters_are_utf8(5) => filters_are_utf8;
    fn mqtt_311_3_10_3_2_there_is_a_filter(4),
    fn mqtt_5_3_10_3_2_there_is_a_filter(5) => there_is_a_filter;
    fn mqtt_311_3_10_4_1_filters_are_compared_byte_for_byte(4),
    fn mqtt_5_3_10_4_1_filters_are_compared_byte_for_byte(5) => byte_for_byte;
    fn mqtt_311_3_10_4_2_nothing_new_comes_afterwards(4),
    fn mqtt_5_3_10_4_2_nothing_new_comes_afterwards(5) => nothing_new;
    fn mqtt_311_3_10_4_3_deliveries_that_have_begun_are_finished(4),
    fn mqtt_5_3_10_4_3_deliveries_that_have_begun_are_finished(5) => begun_is_finished;
    fn mqtt_311_3_10_4_4_unsubscribe_is_answered_with_its_identifier(4),
    fn mqtt_5_3_10_4_4_unsubscribe_is_answered_with_unsuback(5) => answered;
    fn mqtt_311_3_10_4_5_it_is_answered_if_nothing_was_deleted(4),
    fn mqtt_5_3_10_4_5_it_is_answered_if_nothing_was_deleted(5) => answered_if_nothing_was_deleted;
    fn mqtt_311_3_10_4_6_many_filters_are_as_many_packets(4),
    fn mqtt_5_3_10_4_6_many_filters_are_as_many_packets(5) => many_filters;
    fn mqtt_311_3_12_4_1_pingreq_is_answered_with_pingresp(4),
    fn mqtt_5_3_12_4_1_pingreq_is_answered_with_pingresp(5) => pings;
}

/// The codes of an UNSUBACK, which 3.1.1 does not have.
fn codes(version: u8, codes: &[u8]) -> Vec<u8> {
    if version == 5 { codes.to_vec() } else { Vec::new() }
}

fn other_flags(version: u8) {
    let broker = broker();
    let mut bytes = wire::unsubscribe(version, 1, &["t"]);
    for flags in (0..16).filter(|flags| *flags != 2) {
        bytes[0] = 0xA0 | flags;
        assert_ends(&broker, version, &bytes, 0x81);
    }
    let mut client = Client::plain(&broker, version, "right");
    assert_eq!(client.unsubscribe(&["t"]), codes(version, &[0x11]));
}

fn filters_are_utf8(version: u8) {
    let broker = broker();
    for filter in ILL_FORMED {
        for [one, two] in [[filter, b"t"], [b"t", filter]] {
            let mut body = vec![0, 1];
            wire::put_props(&mut body, version, &[]);
            wire::put_binary(&mut body, one);
            wire::put_binary(&mut body, two);
            assert_ends(&broker, version, &packet(0xA2, &body), 0x81);
        }
    }
    // With something between them they are not packed, and the last one is cut.
    let mut body = vec![0, 1];
    wire::put_props(&mut body, version, &[]);
    wire::put_text(&mut body, "t");
    body.push(0);
    wire::put_text(&mut body, "u");
    assert_ends(&broker, version, &packet(0xA2, &body), 0x81);
    let mut client = Client::plain(&broker, version, "packed");
    client.subscribe_with(&[("t", 0), ("\u{10FFFF}/+", 0), ("fence", 0)], &[]);
    assert_eq!(client.unsubscribe(&["t", "\u{10FFFF}/+"]), codes(version, &[0, 0]));
    for topic in ["t", "\u{10FFFF}/x", "fence"] {
        client.publish(topic, topic, 0);
    }
    assert_eq!(client.message().topic, "fence");
}

fn there_is_a_filter(version: u8) {
    let broker = broker();
    assert_ends(&broker, version, &wire::unsubscribe(version, 1, &[]), 0x82);
}

/// Filters that match the same topics, or that differ in case, in a slash, in how a character is made.
fn byte_for_byte(version: u8) {
    let broker = broker();
    let mut client = Client::plain(&broker, version, "bytes");
    client.subscribe_with(&[("a/+", 0), ("caf\u{E9}", 0), ("$share/g/s", 0), ("fence", 0)], &[]);
    let others = [
        "a/b",
        "a/#",
        "#",
        "+/+",
        "A/+",
        "a/+/",
        "/a/+",
        "a/",
        "cafe\u{301}",
        "s",
        "$share/h/s",
        "$share/g/S",
    ];
    assert_eq!(client.unsubscribe(&others), codes(version, &[0x11; 12]));
    for topic in ["a/b", "caf\u{E9}", "s"] {
        client.publish(topic, topic, 0);
        assert_eq!(client.message().topic, topic);
    }
    // Of another client's subscription, which stays.
    let mut other = Client::plain(&broker, version, "other");
    assert_eq!(other.unsubscribe(&["a/+"]), codes(version, &[0x11]));
    client.publish("a/b", "still", 0);
    assert_eq!(client.message().text(), "still");
    let own = ["a/+", "caf\u{E9}", "$share/g/s"];
    assert_eq!(client.unsubscribe(&own), codes(version, &[0; 3]));
    for topic in ["a/b", "caf\u{E9}", "s", "fence"] {
        client.publish(topic, topic, 0);
    }
    assert_eq!(client.message().topic, "fence");
}

/// From a publisher on any shard; other subscriptions of the client go on.
fn nothing_new(version: u8) {
    let broker = broker();
    for number in 0..8 {
        let mut client = Client::plain(&broker, version, &format!("client-{number}"));
        let mut publisher = Client::plain(&broker, version, &format!("publisher-{number}"));
        client.subscribe_with(&[("n/1", 2), ("n/2", 2)], &[]);
        for qos in [0, 1, 2] {
            publisher.publish("n/1", "before", qos);
            assert_eq!(client.message().text(), "before");
        }
        client.unsubscribe(&["n/1"]);
        for qos in [0, 1, 2] {
            publisher.publish("n/1", "after", qos);
        }
        publisher.publish("n/2", "fence", 2);
        assert_eq!(client.message().text(), "fence");
        // Overlapping ones are each for themselves.
        client.subscribe("n/+", 1);
        client.unsubscribe(&["n/2"]);
        publisher.publish("n/2", "by the other", 2);
        let message = client.message();
        assert_eq!((message.text(), message.qos), ("by the other", 1));
    }
}

/// The QoS 2 exchange goes on, and what was not acknowledged comes again on the next connection.
fn begun_is_finished(version: u8) {
    let broker = broker();
    let connect = Connect::new(version, "begun").persistent();
    let mut client = Client::connect(&broker, &connect);
    client.subscribe("t", 2);
    let mut publisher = Client::plain(&broker, version, "publisher");
    for (text, qos) in [("two", 2), ("one", 1), ("again", 2)] {
        publisher.publish("t", text, qos);
    }
    let two = client.message_unacked();
    let one = client.message_unacked();
    let again = client.message_unacked();
    client.unsubscribe(&["t"]);
    client.acknowledge(&two);
    client.vanish();
    let mut client = Client::connect(&broker, &connect);
    assert!(client.present);
    for begun in [one, again] {
        let message = client.message();
        assert_eq!((message.id, message.dup), (begun.id, true));
        assert_eq!((message.text(), message.qos), (begun.text(), begun.qos));
    }
    client.subscribe("fence", 2);
    publisher.publish("t", "never", 2);
    publisher.publish("fence", "fence", 2);
    assert_eq!(client.message().text(), "fence");
}

fn answered(version: u8) {
    let broker = broker();
    let mut client = Client::plain(&broker, version, "answers");
    client.subscribe("t", 0);
    for id in [7, 1, 0x0100, 0xFFFF, 7] {
        client.send(&wire::unsubscribe(version, id, &["t"]));
        let bytes = client.recv_bytes();
        assert_eq!((bytes[0], &bytes[2..4]), (0xB0, &id.to_be_bytes()[..]));
        let has_codes = version == 5;
        assert_eq!(bytes.len(), if has_codes { 6 } else { 4 });
    }
}

fn answered_if_nothing_was_deleted(version: u8) {
    let broker = broker();
    let mut client = Client::plain(&broker, version, "nothing");
    for id in [3, 0xFFFE] {
        client.send(&wire::unsubscribe(version, id, &["none", "no/ne"]));
        let codes = codes(version, &[0x11, 0x11]);
        assert_eq!(client.recv(), Packet::Unsuback { id, codes });
    }
}

fn many_filters(version: u8) {
    let broker = broker();
    let mut client = Client::plain(&broker, version, "many");
    client.subscribe_with(&[("m/1", 0), ("m/2", 0), ("m/3", 0)], &[]);
    // The second time a filter is named, its subscription is gone.
    client.send(&wire::unsubscribe(version, 9, &["m/3", "m/4", "m/1", "m/3"]));
    let codes = codes(version, &[0, 0x11, 0, 0x11]);
    assert_eq!(client.recv(), Packet::Unsuback { id: 9, codes });
    for topic in ["m/1", "m/3", "m/2"] {
        client.publish(topic, topic, 0);
    }
    assert_eq!(client.message().topic, "m/2");
}

#[test]
fn mqtt_5_3_11_3_1_codes_are_in_the_order_of_the_filters() {
    let broker = broker();
    let mut client = Client::plain(&broker, 5, "order");
    let all = ["z", "#/no", "none", "a"];
    let codes = [0, 0x8F, 0x11, 0];
    for turn in 0..all.len() {
        client.subscribe_with(&[("a", 0), ("z", 0)], &[]);
        let (mut filters, mut want) = (all, codes);
        filters.rotate_left(turn);
        want.rotate_left(turn);
        assert_eq!(client.unsubscribe(&filters), want);
    }
}

/// Each code that can be had from outside, one for each filter.
#[test]
fn mqtt_5_3_11_3_2_only_reason_codes_of_unsuback() {
    let broker = broker();
    let mut client = Client::plain(&broker, 5, "codes");
    client.subscribe_with(&[("a", 2), ("$share/g/a", 1)], &[]);
    for (filters, want) in [
        (&["a"][..], &[0x00][..]),
        (&["a", "$share/g/a"], &[0x11, 0x00]),
        (&["a/#/b", "", "$share//a", "$share/g", "a+"], &[0x8F; 5]),
    ] {
        assert_eq!(client.unsubscribe(filters), want);
    }
}

/// UNSUBACK at a client that takes no byte more than the bare packet.
#[track_caller]
fn assert_bare_unsuback(broker: &Broker) {
    let limit = Prop::four(prop::MAXIMUM_PACKET_SIZE, 60);
    let mut client = Client::connect(broker, &Connect::new(5, "bare").with(limit));
    client.send(&wire::unsubscribe(5, 1, &["#/no"; 54]));
    let bytes = client.recv_bytes();
    assert_eq!((bytes.len(), bytes[4]), (59, 0), "no properties");
    client.send(&wire::unsubscribe(5, 2, &["#/no"; 55]));
    assert_eq!(client.recv_bytes().len(), 60);
    client.send(&wire::unsubscribe(5, 3, &["#/no"; 56]));
    assert_ended(&mut client, 5, 0x95);
}

/// Not seen from outside: the broker gives no reason in words here, so none is too long.
#[test]
fn mqtt_5_3_11_2_1_no_reason_string_that_makes_unsuback_too_long() {
    let broker = broker();
    assert_bare_unsuback(&broker);
    let mut client = Client::plain(&broker, 5, "roomy");
    client.send(&wire::unsubscribe(5, 1, &["#/no"]));
    assert_eq!(client.recv_bytes(), [0xB0, 4, 0, 1, 0, 0x8F]);
}

/// Not seen from outside: the broker has no user properties of its own to send, so none is too long.
#[test]
fn mqtt_5_3_11_2_2_no_user_properties_that_make_unsuback_too_long() {
    let broker = broker();
    assert_bare_unsuback(&broker);
    let mut client = Client::plain(&broker, 5, "roomy");
    client.send(&wire::unsubscribe(5, 1, &["none"]));
    assert_eq!(client.recv_bytes(), [0xB0, 4, 0, 1, 0, 0x11]);
}

/// As many answers as questions, in order with the other answers.
fn pings(version: u8) {
    let broker = broker();
    let mut client = Client::plain(&broker, version, "pings");
    client.send(&wire::PINGREQ);
    assert_eq!(client.recv_bytes(), [0xD0, 0]);
    let unsubscribe = wire::unsubscribe(version, 1, &["t"]);
    client.send(&[&wire::PINGREQ[..], &wire::PINGREQ, &unsubscribe, &wire::PINGREQ].concat());
    assert_eq!(client.recv(), Packet::Pingresp);
    assert_eq!(client.recv(), Packet::Pingresp);
    let codes = codes(version, &[0x11]);
    assert_eq!(client.recv(), Packet::Unsuback { id: 1, codes });
    assert_eq!(client.recv(), Packet::Pingresp);
    // One with a body is none.
    assert_ends(&broker, version, &[0xC0, 1, 0], 0x81);
}
