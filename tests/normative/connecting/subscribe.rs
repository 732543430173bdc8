//! Sections 3.8 and 3.9: SUBSCRIBE and SUBACK.

use crate::harness::broker::Broker;
use crate::harness::client::Client;
use crate::harness::wire::{self, Connect, Packet, Prop, Publish, find, packet, prop};
use crate::support::{assert_ended, assert_ends, broker, broker_set, on_versions};

use super::data::ILL_FORMED;

on_versions! {
    fn mqtt_311_3_8_1_1_other_flags_end_the_connection(4),
    fn mqtt_5_3_8_1_1_other_flags_end_the_connection(5) => other_flags;
    fn mqtt_311_3_8_3_1_filters_are_utf8(4),
    fn mqtt_5_3_8_3_1_filters_are_utf8(5) => filters_are_utf8;
    fn mqtt_311_3_8_3_3_there_is_a_filter(4),
    fn mqtt_5_3_8_3_2_there_is_a_filter(5) => there_is_a_filter;
    fn mqtt_311_3_8_3_4_reserved_bits_end_the_connection(4),
    fn mqtt_5_3_8_3_5_reserved_bits_end_the_connection(5) => reserved_bits;
    fn mqtt_311_3_8_4_1_subscribe_is_answered_with_suback(4),
    fn mqtt_5_3_8_4_1_subscribe_is_answered_with_suback(5) => answered_with_suback;
    fn mqtt_311_3_8_4_2_suback_bears_the_identifier(4),
    fn mqtt_5_3_8_4_2_suback_bears_the_identifier(5) => suback_bears_the_identifier;
    fn mqtt_311_3_8_4_3_the_same_filter_replaces_a_subscription(4),
    fn mqtt_5_3_8_4_3_the_same_filter_replaces_a_subscription(5),
    fn mqtt_5_3_8_4_4_replacement_brings_retained_messages_and_loses_none(5) => replacement;
    fn mqtt_311_3_8_4_4_many_filters_are_as_many_packets(4),
    fn mqtt_5_3_8_4_5_many_filters_are_as_many_packets(5) => many_filters;
    fn mqtt_311_3_8_4_5_each_filter_has_its_code(4),
    fn mqtt_5_3_8_4_6_each_filter_has_its_code(5),
    fn mqtt_5_3_8_4_7_a_code_tells_the_qos_or_a_failure(5) => each_filter_has_its_code;
    fn mqtt_311_3_8_4_6_the_lower_qos_counts(4),
    fn mqtt_5_3_8_4_8_the_lower_qos_counts(5) => the_lower_qos_counts;
    fn mqtt_311_3_9_3_1_codes_are_in_the_order_of_the_filters(4),
    fn mqtt_5_3_9_3_1_codes_are_in_the_order_of_the_filters(5) => codes_in_order;
}

const NO_LOCAL: u8 = 0x04;
const RETAIN_AS_PUBLISHED: u8 = 0x08;

/// The answer to a filter that is none: 3.1.1 knows one failure.
fn invalid(version: u8) -> u8 {
    if version == 5 { 0x8F } else { 0x80 }
}

fn other_flags(version: u8) {
    let broker = broker();
    let mut bytes = wire::subscribe(version, 1, &[("t", 0)], &[]);
    for flags in (0..16).filter(|flags| *flags != 2) {
        bytes[0] = 0x80 | flags;
        assert_ends(&broker, version, &bytes, 0x81);
    }
    let mut client = Client::plain(&broker, version, "right");
    assert_eq!(client.subscribe("t", 0), 0);
}

fn filters_are_utf8(version: u8) {
    let broker = broker();
    for filter in ILL_FORMED {
        // The first of two filters, and the last.
        for is_first in [true, false] {
            let mut body = vec![0, 1];
            wire::put_props(&mut body, version, &[]);
            let (one, two) = if is_first { (filter, &b"t"[..]) } else { (&b"t"[..], filter) };
            for text in [one, two] {
                wire::put_binary(&mut body, text);
                body.push(0);
            }
            assert_ends(&broker, version, &packet(0x82, &body), 0x81);
        }
    }
    assert_eq!(Client::plain(&broker, version, "utf8").subscribe("\u{10FFFF}/+", 1), 1);
}

#[test]
fn mqtt_311_3_8_3_2_wildcards_are_refused_where_there_are_none() {
    let broker = broker_set(&["mqtt.wildcard_available=false"]);
    let mut client = Client::plain(&broker, 4, "wild");
    let filters = ["#", "a/#", "+", "a/+/b", "+/b", "a/b"].map(|filter| (filter, 1));
    assert_eq!(client.subscribe_with(&filters, &[]), [0x80, 0x80, 0x80, 0x80, 0x80, 1]);
    client.publish("a/x/b", "never", 1);
    client.publish("a/b", "fence", 1);
    assert_eq!(client.message().text(), "fence");
}

fn there_is_a_filter(version: u8) {
    let broker = broker();
    assert_ends(&broker, version, &wire::subscribe(version, 1, &[], &[]), 0x82);
    // A filter without its options is none either.
    let whole = wire::subscribe(version, 1, &[("t", 0)], &[]);
    let cut = packet(0x82, &whole[2..whole.len() - 1]);
    assert_ends(&broker, version, &cut, 0x81);
}

/// What a client publishes itself does not come back, also from another shard; all else does.
#[test]
fn mqtt_5_3_8_3_3_no_local_keeps_ones_own_messages_away() {
    let broker = broker();
    for number in 0..8 {
        let mut client = Client::plain(&broker, 5, &format!("local-{number}"));
        let mut other = Client::plain(&broker, 5, &format!("other-{number}"));
        client.subscribe("t", 1 | NO_LOCAL);
        other.subscribe("t", 1);
        client.publish("t", "own", 1);
        assert_eq!(other.message().text(), "own");
        other.publish("t", "foreign", 1);
        assert_eq!(client.message().text(), "foreign");
        // Once it is replaced, they do come back.
        client.subscribe("t", 1);
        client.publish("t", "now wanted", 1);
        assert_eq!(client.message().text(), "now wanted");
    }
}

#[test]
fn mqtt_5_3_8_3_4_no_local_on_a_shared_subscription_ends_the_connection() {
    let broker = broker();
    for filters in [&[("$share/g/t", 1 | NO_LOCAL)][..], &[("t", 0), ("$share/g/t", NO_LOCAL)]] {
        assert_ends(&broker, 5, &wire::subscribe(5, 1, filters, &[]), 0x82);
    }
    let mut client = Client::plain(&broker, 5, "shared");
    assert_eq!(client.subscribe("$share/g/t", 1), 1);
}

fn reserved_bits(version: u8) {
    let broker = broker();
    let reserved = if version == 5 { 0xC0 } else { 0xFC };
    for bit in (0..8).map(|bit| 1_u8 << bit).filter(|bit| bit & reserved > 0) {
        for qos in 0..=2 {
            let bytes = wire::subscribe(version, 1, &[("t", bit | qos)], &[]);
            assert_ends(&broker, version, &bytes, 0x81);
        }
    }
    // No bit is reserved in these, but the value is.
    assert_ends(&broker, version, &wire::subscribe(version, 1, &[("t", 3)], &[]), 0x82);
    if version == 5 {
        assert_ends(&broker, 5, &wire::subscribe(5, 1, &[("t", 0x30)], &[]), 0x82);
        let mut client = Client::plain(&broker, 5, "all");
        assert_eq!(client.subscribe("t", 0x20 | RETAIN_AS_PUBLISHED | NO_LOCAL | 2), 2);
    }
}

/// One answer each, in order, also to those that grant nothing and to many at once.
fn answered_with_suback(version: u8) {
    let broker = broker();
    let mut client = Client::plain(&broker, version, "answers");
    let filters = ["a", "a/#", "a", "#/a", "$share/g/a"];
    let mut bytes = Vec::new();
    for (id, filter) in (1..).zip(filters) {
        bytes.extend(wire::subscribe(version, id, &[(filter, 1)], &[]));
    }
    client.send(&bytes);
    for (id, filter) in (1..).zip(filters) {
        let code = if filter == "#/a" { invalid(version) } else { 1 };
        assert_eq!(client.recv(), Packet::Suback { id, codes: vec![code] });
    }
    client.send(&wire::PINGREQ);
    assert_eq!(client.recv(), Packet::Pingresp);
}

fn suback_bears_the_identifier(version: u8) {
    let broker = broker();
    let mut client = Client::plain(&broker, version, "bears");
    for id in [7, 1, 0x0100, 0xFFFF, 7] {
        client.send(&wire::subscribe(version, id, &[("t", 0)], &[]));
        let bytes = client.recv_bytes();
        assert_eq!((bytes[0], &bytes[2..4]), (0x90, &id.to_be_bytes()[..]));
    }
}

/// One copy at the new QoS, with retained messages again each time, while messages stream in: none is
/// lost, none comes twice, and they come in order.
fn replacement(version: u8) {
    const COUNT: u32 = 2_000;
    let broker = broker();
    let mut publisher = Client::plain(&broker, version, "publisher");
    publisher.publish_as(Publish::new("stream/kept", "kept", 1).retained());
    let mut client = Client::plain(&broker, version, "replaces");
    client.subscribe("stream/+", 2);
    assert!(client.message().retain);
    let publisher = std::thread::spawn(move || {
        publisher.publish_window("stream/live", COUNT, 1, 20);
        publisher
    });
    let mut next = 0_u32;
    for number in 0..20_u8 {
        let id = client.next_id();
        client.send(&wire::subscribe(version, id, &[("stream/+", 1 + number % 2)], &[]));
        let (mut is_answered, mut is_retained) = (false, false);
        while !(is_answered && is_retained) {
            match client.recv() {
                Packet::Suback { codes, .. } => {
                    assert_eq!(codes, [1 + number % 2]);
                    is_answered = true;
                }
                Packet::Publish(message) if message.retain => {
                    client.acknowledge(&message);
                    assert_eq!(message.text(), "kept");
                    is_retained = true;
                }
                Packet::Publish(message) => {
                    client.acknowledge(&message);
                    assert_eq!(message.payload, next.to_be_bytes());
                    next += 1;
                }
                other => panic!("{other:?}"),
            }
        }
    }
    while next < COUNT {
        assert_eq!(client.message().payload, next.to_be_bytes());
        next += 1;
    }
    let mut publisher = publisher.join().expect("the publisher is done");
    for qos in [2, 0, 1] {
        assert_eq!(client.subscribe("stream/+", qos), qos);
        assert!(client.message().retain);
        publisher.publish("stream/live", "one copy", 2);
        publisher.publish("stream/live", "fence", 2);
        let message = client.message();
        assert_eq!((message.text(), message.qos), ("one copy", qos));
        assert_eq!(client.message().text(), "fence");
    }
}

/// The whole of it: the options of each, retained messages for each, one SUBACK.
fn many_filters(version: u8) {
    let broker = broker();
    let mut publisher = Client::plain(&broker, version, "publisher");
    for topic in ["m/1", "m/3"] {
        publisher.publish_as(Publish::new(topic, "kept", 1).retained());
    }
    let mut many = Client::plain(&broker, version, "many");
    let mut single = Client::plain(&broker, version, "single");
    let filters = [("m/1", 0), ("m/2", 1), ("m/3", 2), ("#/wrong", 1), ("m/1", 1)];
    let codes = many.subscribe_with(&filters, &[]);
    let one_by_one: Vec<u8> =
        filters.iter().map(|(filter, qos)| single.subscribe(filter, *qos)).collect();
    assert_eq!(codes, one_by_one);
    assert_eq!(codes, [0, 1, 2, invalid(version), 1]);
    for topic in ["m/1", "m/2", "m/3"] {
        publisher.publish(topic, topic, 2);
    }
    // One packet may bring a retained message once for the two filters that are the same.
    for (client, count) in [(&mut many, 2..=3), (&mut single, 3..=3)] {
        let mut retained = 0;
        let mut live = Vec::new();
        while live.len() < 3 {
            let message = client.message();
            if message.retain {
                retained += 1;
            } else {
                live.push((message.topic.clone(), message.qos));
            }
        }
        assert!(count.contains(&retained), "{retained} retained messages");
        assert_eq!(live, [("m/1".into(), 1), ("m/2".into(), 1), ("m/3".into(), 2)]);
    }
}

fn each_filter_has_its_code(version: u8) {
    let broker = broker();
    let mut client = Client::plain(&broker, version, "codes");
    let no = invalid(version);
    for (filters, want) in [
        (&[("a", 0)][..], &[0][..]),
        (&[("a/#/b", 0)], &[no]),
        (&[("a", 2), ("a+", 2), ("b", 1), ("", 0), ("c", 0)], &[2, no, 1, no, 0]),
    ] {
        assert_eq!(client.subscribe_with(filters, &[]), want);
    }
    // And the code says the truth.
    for (topic, qos) in [("a", 2), ("b", 1), ("c", 0)] {
        client.publish(topic, topic, 2);
        let message = client.message();
        assert_eq!((message.topic.as_str(), message.qos), (topic, qos));
    }
    let filters: Vec<String> = (0..500).map(|number| format!("many/{number}")).collect();
    let filters: Vec<(&str, u8)> = filters.iter().map(|filter| (filter.as_str(), 1)).collect();
    assert_eq!(client.subscribe_with(&filters, &[]), vec![1; 500]);
}

fn the_lower_qos_counts(version: u8) {
    let broker = broker();
    let mut publisher = Client::plain(&broker, version, "publisher");
    for granted in [0, 1, 2] {
        let mut client = Client::plain(&broker, version, &format!("granted-{granted}"));
        assert_eq!(client.subscribe("t", granted), granted);
        for published in [0, 1, 2] {
            publisher.publish("t", "x", published);
            assert_eq!(client.message().qos, granted.min(published));
        }
        for published in [0, 1, 2] {
            publisher.publish_as(Publish::new("r", "x", published).retained());
            assert_eq!(client.subscribe("r", granted), granted);
            assert_eq!(client.message().qos, granted.min(published));
            client.unsubscribe(&["r"]);
        }
    }
}

fn codes_in_order(version: u8) {
    let broker = broker();
    let mut client = Client::plain(&broker, version, "order");
    let no = invalid(version);
    let all = [("z", 2), ("#/no", 2), ("a", 0), ("m/+", 1)];
    let codes = [2, no, 0, 1];
    for turn in 0..all.len() {
        let (mut filters, mut want) = (all, codes);
        filters.rotate_left(turn);
        want.rotate_left(turn);
        assert_eq!(client.subscribe_with(&filters, &[]), want);
    }
}

/// Each code that can be had from outside; the unit tests know the others.
#[test]
fn mqtt_5_3_9_3_2_only_reason_codes_of_suback() {
    let broker = broker_set(&[
        "mqtt.wildcard_available=false",
        "share.available=false",
        "limits.subscriptions_max=3",
    ]);
    let mut client = Client::plain(&broker, 5, "codes");
    let filters =
        [("a", 0), ("b", 1), ("c", 2), ("a/b+", 0), ("$share/g/a", 0), ("a/+", 0), ("d", 0)];
    assert_eq!(client.subscribe_with(&filters, &[]), [0, 1, 2, 0x8F, 0x9E, 0xA2, 0x97]);
    // One that is refused is no subscription.
    client.publish("d", "never", 0);
    client.publish("a", "fence", 0);
    assert_eq!(client.message().text(), "fence");
}

#[test]
fn mqtt_311_3_9_3_2_only_four_return_codes() {
    let broker = broker_set(&[
        "mqtt.wildcard_available=false",
        "share.available=false",
        "limits.subscriptions_max=3",
    ]);
    let mut client = Client::plain(&broker, 4, "codes");
    let filters =
        [("a", 0), ("b", 1), ("c", 2), ("a/b+", 0), ("$share/g/a", 0), ("a/+", 0), ("d", 0)];
    assert_eq!(client.subscribe_with(&filters, &[]), [0, 1, 2, 0x80, 0x80, 0x80, 0x80]);
}

/// SUBACK for failures, at a client that takes no byte more than the bare packet.
#[track_caller]
fn assert_bare_suback(broker: &Broker) {
    let limit = Prop::four(prop::MAXIMUM_PACKET_SIZE, 60);
    let mut client = Client::connect(broker, &Connect::new(5, "bare").with(limit));
    let filters = [("#/no", 0); 55];
    client.send(&wire::subscribe(5, 1, &filters[..54], &[Prop::user("n", "v")]));
    let bytes = client.recv_bytes();
    assert_eq!((bytes.len(), bytes[4]), (59, 0), "no properties");
    client.send(&wire::subscribe(5, 2, &filters, &[]));
    assert_eq!(client.recv_bytes().len(), 60);
    // One code more than there is room for: no answer is a lie, so the connection ends.
    client.send(&wire::subscribe(5, 3, &[("#/no", 0); 56], &[]));
    assert_ended(&mut client, 5, 0x95);
}

/// Not seen from outside: the broker gives no reason in words here, so none is too long.
#[test]
fn mqtt_5_3_9_2_1_no_reason_string_that_makes_suback_too_long() {
    let broker = broker();
    assert_bare_suback(&broker);
    let mut client = Client::plain(&broker, 5, "roomy");
    client.send(&wire::subscribe(5, 1, &[("#/no", 0)], &[]));
    assert_eq!(client.recv_bytes(), [0x90, 4, 0, 1, 0, 0x8F]);
}

/// Not seen from outside: the broker has no user properties of its own to send, so none is too long.
#[test]
fn mqtt_5_3_9_2_2_no_user_properties_that_make_suback_too_long() {
    let broker = broker();
    assert_bare_suback(&broker);
    let mut client = Client::plain(&broker, 5, "roomy");
    client.send(&wire::subscribe(5, 1, &[("t", 0)], &[Prop::user("n", "v")]));
    assert_eq!(client.recv_bytes(), [0x90, 4, 0, 1, 0, 0]);
}

/// A subscription identifier belongs to the subscription that is replaced with it.
#[test]
fn mqtt_5_3_8_4_3_a_replacement_has_its_own_options() {
    let broker = broker();
    let mut client = Client::plain(&broker, 5, "options");
    let mut publisher = Client::plain(&broker, 5, "publisher");
    let mut publish = || {
        publisher.publish_as(Publish::new("t", "x", 0).retained());
    };
    client.subscribe_with(&[("t", RETAIN_AS_PUBLISHED)], &[Prop::subscription_id(1)]);
    publish();
    let message = client.message();
    assert_eq!(find(&message.props, prop::SUBSCRIPTION_ID).map(Prop::number), Some(1));
    assert!(message.retain);
    client.subscribe_with(&[("t", 0x20)], &[Prop::subscription_id(2)]);
    publish();
    let message = client.message();
    assert_eq!(find(&message.props, prop::SUBSCRIPTION_ID).map(Prop::number), Some(2));
    assert!(!message.retain);
    client.subscribe_with(&[("t", 0x20)], &[]);
    publish();
    assert_eq!(client.message().props, []);
}
