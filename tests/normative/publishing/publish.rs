//! PUBLISH, section 3.3: the fixed header, the topic name, and what is done with a message.

use crate::harness::client::Client;
use crate::harness::wire::{self, Connect, Packet, Prop, Publish, packet, prop};
use crate::publishing::steps::{pair, publish_id};
use crate::support::{assert_ends, broker, on_versions};

on_versions! {
    fn mqtt_311_3_3_1_1_what_is_sent_again_has_dup(4),
    fn mqtt_5_3_3_1_1_what_is_sent_again_has_dup(5) => resent_has_dup;
    fn mqtt_311_3_3_1_2_no_dup_at_qos_0(4),
    fn mqtt_5_3_3_1_2_no_dup_at_qos_0(5) => no_dup_at_qos_0;
    fn mqtt_311_3_3_1_3_dup_tells_of_one_delivery_only(4),
    fn mqtt_5_3_3_1_3_dup_tells_of_one_delivery_only(5) => dup_is_not_passed_on;
    fn mqtt_311_3_3_1_4_qos_3_ends_the_connection(4),
    fn mqtt_5_3_3_1_4_qos_3_ends_the_connection(5) => qos_3;
    fn mqtt_311_3_3_2_1_topic_first_and_in_utf8(4),
    fn mqtt_5_3_3_2_1_topic_first_and_in_utf8(5) => topic_first_and_in_utf8;
    fn mqtt_311_3_3_2_2_no_wildcards_in_a_topic_name(4),
    fn mqtt_5_3_3_2_2_no_wildcards_in_a_topic_name(5) => no_wildcards;
    fn mqtt_311_3_3_2_3_the_topic_matches_the_filter(4),
    fn mqtt_5_3_3_2_3_the_topic_matches_the_filter(5) => topic_matches_the_filter;
    fn mqtt_311_3_3_4_1_answered_as_the_qos_asks(4),
    fn mqtt_5_3_3_4_1_answered_as_the_qos_asks(5) => answered_as_the_qos_asks;
    fn mqtt_311_3_3_5_1_highest_qos_of_overlapping_subscriptions(4),
    fn mqtt_5_3_3_4_2_highest_qos_of_overlapping_subscriptions(5) => highest_qos;
    fn mqtt_311_3_3_5_2_what_is_not_allowed_is_acknowledged(4) => not_allowed;
}

fn resent_has_dup(version: u8) {
    let broker = broker();
    for qos in [1, 2] {
        let connect = Connect::new(version, &format!("resent-{qos}")).persistent();
        let mut client = Client::connect(&broker, &connect);
        client.subscribe("t", qos);
        Client::plain(&broker, version, "publisher").publish("t", "text", qos);
        let first = client.message_unacked();
        assert!(!first.dup, "sent for the first time");
        client.reset();
        let mut client = Client::connect(&broker, &connect);
        assert_eq!(client.message(), Publish { dup: true, ..first });
    }
}

fn no_dup_at_qos_0(version: u8) {
    let broker = broker();
    let (mut subscriber, mut publisher) = pair(&broker, version, "t", 0);
    // DUP of what came says nothing about what goes.
    let repeated = Publish { dup: true, ..publish_id("t", "one", 1, 7) };
    publisher.send(&repeated.encode(version));
    publisher.wait_for(|p| matches!(p, Packet::Puback { id: 7, .. }));
    let message = subscriber.message();
    assert_eq!((message.qos, message.dup, message.text()), (0, false, "one"));
    let wrong = Publish { dup: true, ..Publish::new("t", "two", 0) };
    assert_ends(&broker, version, &wrong.encode(version), 0x81);
    publisher.publish("t", "fence", 1);
    assert_eq!(subscriber.message().text(), "fence");
}

fn dup_is_not_passed_on(version: u8) {
    let broker = broker();
    let (mut subscriber, mut publisher) = pair(&broker, version, "t", 2);
    for (qos, dup) in [(1, true), (1, false), (2, true), (2, false)] {
        publisher.publish_as(Publish { dup, ..Publish::new("t", "text", qos) });
        let message = subscriber.message();
        assert_eq!((message.qos, message.dup), (qos, false));
    }
}

fn qos_3(version: u8) {
    let broker = broker();
    let (mut subscriber, mut publisher) = pair(&broker, version, "t", 2);
    assert_ends(&broker, version, &publish_id("t", "no", 3, 1).encode(version), 0x81);
    publisher.publish("t", "fence", 1);
    assert_eq!(subscriber.message().text(), "fence");
}

fn topic_first_and_in_utf8(version: u8) {
    let broker = broker();
    let (mut subscriber, mut publisher) = pair(&broker, version, "#", 0);
    for topic in ["a", "é/漢/😀", "\u{FEFF}x"] {
        publisher.publish(topic, "text", 1);
        let bytes = subscriber.recv_bytes();
        assert_eq!(bytes[2..4], u16::try_from(topic.len()).expect("short").to_be_bytes());
        assert_eq!(&bytes[4..4 + topic.len()], topic.as_bytes());
    }
    for topic in [&b"\xFF"[..], b"a\xC3", b"\xC0\xAF", b"\xED\xA0\x80", b"\xF4\x90\x80\x80"] {
        let mut body = Vec::new();
        wire::put_binary(&mut body, topic);
        wire::put_props(&mut body, version, &[]);
        assert_ends(&broker, version, &packet(0x30, &body), 0x81);
    }
    publisher.publish("fence", "fence", 1);
    assert_eq!(subscriber.message().text(), "fence");
}

fn no_wildcards(version: u8) {
    let broker = broker();
    let (mut subscriber, mut publisher) = pair(&broker, version, "#", 0);
    for topic in ["#", "+", "a/#", "a/+/b", "a+", "a#b"] {
        for qos in [0, 1, 2] {
            let publish = Publish { id: u16::from(qos > 0), ..Publish::new(topic, "no", qos) };
            assert_ends(&broker, version, &publish.encode(version), 0x81);
        }
    }
    publisher.publish("a/b", "fence", 1);
    assert_eq!(subscriber.message().text(), "fence");
}

fn topic_matches_the_filter(version: u8) {
    let broker = broker();
    let mut publisher = Client::plain(&broker, version, "publisher");
    for (filter, want) in [("a/b", "a/b"), ("a/+", "a/b"), ("#", "x/y"), ("+/y", "x/y")] {
        let mut subscriber = Client::plain(&broker, version, "subscriber");
        subscriber.subscribe(filter, 1);
        for topic in ["A/b", "a", "/a/b", want] {
            publisher.publish(topic, topic, 1);
        }
        loop {
            let message = subscriber.message();
            assert_eq!(message.text(), message.topic, "under the name it was published with");
            if message.topic == want {
                break;
            }
            assert!(filter == "#", "{message:?} for {filter}");
        }
    }
}

fn answered_as_the_qos_asks(version: u8) {
    let broker = broker();
    let (mut subscriber, mut publisher) = pair(&broker, version, "t", 2);
    let mut bytes = Publish::new("t", "0", 0).encode(version);
    bytes.extend(publish_id("t", "1", 1, 11).encode(version));
    bytes.extend(publish_id("t", "2", 2, 12).encode(version));
    publisher.send(&bytes);
    assert_eq!(publisher.recv(), Packet::Puback { id: 11, code: 0 });
    assert_eq!(publisher.recv(), Packet::Pubrec { id: 12, code: 0 });
    publisher.send(&wire::ack(wire::PUBREL, 12));
    assert_eq!(publisher.recv(), Packet::Pubcomp { id: 12, code: 0 });
    publisher.send(&wire::PINGREQ);
    assert_eq!(publisher.recv(), Packet::Pingresp, "and nothing else");
    for qos in [0, 1, 2] {
        let message = subscriber.message();
        assert_eq!((message.qos, message.text()), (qos, &*qos.to_string()));
    }
}

fn highest_qos(version: u8) {
    let broker = broker();
    let (mut subscriber, mut publisher) = pair(&broker, version, "fence", 0);
    subscriber.subscribe_with(&[("o/#", 0), ("o/+", 2), ("o/a", 1)], &[]);
    for (published, want) in [(2, 2), (1, 1), (0, 0)] {
        publisher.publish("o/a", "text", published);
        publisher.publish("fence", "fence", 0);
        let mut highest = 0;
        loop {
            let message = subscriber.message();
            if message.topic == "fence" {
                break;
            }
            highest = highest.max(message.qos);
        }
        assert_eq!(highest, want, "published at QoS {published}");
    }
    // What the highest grant is of no more counts: the next one does.
    subscriber.unsubscribe(&["o/+"]);
    publisher.publish("o/a", "text", 2);
    assert_eq!(subscriber.message().qos, 1);
}

/// Nobody but the broker publishes below `$SYS`.
fn not_allowed(version: u8) {
    let broker = broker();
    let (mut subscriber, mut publisher) = pair(&broker, version, "$SYS/mine", 2);
    subscriber.subscribe("fence", 0);
    for (number, qos) in [0, 1, 2].into_iter().enumerate() {
        publisher.publish("$SYS/mine", number.to_string(), qos);
    }
    publisher.publish("fence", "fence", 1);
    assert_eq!(subscriber.message().text(), "fence");
}

#[test]
fn mqtt_5_3_3_4_3_subscription_identifiers_come_along() {
    let broker = broker();
    let mut client = Client::plain(&broker, 5, "subscriber");
    client.subscribe_with(&[("a/+", 1)], &[Prop::subscription_id(1)]);
    client.subscribe_with(&[("a/b", 1)], &[]);
    client.subscribe_with(&[("#", 1)], &[Prop::subscription_id(268_435_455)]);
    let mut publisher = Client::plain(&broker, 4, "publisher");
    publisher.publish("a/b", "both", 1);
    assert_eq!(sorted_ids(&client.message()), [1, 268_435_455]);
    publisher.publish("c", "one", 1);
    assert_eq!(sorted_ids(&client.message()), [268_435_455]);
    client.unsubscribe(&["a/+", "#"]);
    publisher.publish("a/b", "none", 1);
    let message = client.message();
    assert_eq!((message.text(), sorted_ids(&message)), ("none", vec![]));
}

#[test]
fn mqtt_5_3_3_4_4_one_copy_has_all_identifiers() {
    let broker = broker();
    let mut client = Client::plain(&broker, 5, "subscriber");
    for (number, filter) in ["a/+", "a/b", "#"].into_iter().enumerate() {
        let id = u32::try_from(number + 1).expect("small");
        client.subscribe_with(&[(filter, 1)], &[Prop::subscription_id(id)]);
    }
    // The same identifier twice: the standard lets it come once or twice.
    client.subscribe_with(&[("+/b", 1)], &[Prop::subscription_id(3)]);
    let mut publisher = Client::plain(&broker, 5, "publisher");
    publisher.publish("a/b", "one copy", 1);
    publisher.publish("c", "fence", 1);
    let mut ids = sorted_ids(&client.message());
    ids.dedup();
    assert_eq!(ids, [1, 2, 3]);
    assert_eq!(client.message().text(), "fence", "one copy");
}

/// A shared subscription is served on its own, so it is what brings a second copy here.
#[test]
fn mqtt_5_3_3_4_5_each_copy_has_its_own_identifier() {
    let broker = broker();
    let mut client = Client::plain(&broker, 5, "subscriber");
    client.subscribe_with(&[("$share/g/a", 1)], &[Prop::subscription_id(1)]);
    client.subscribe_with(&[("a", 1)], &[Prop::subscription_id(2)]);
    let mut publisher = Client::plain(&broker, 5, "publisher");
    publisher.publish("a", "two copies", 1);
    let mut got = [sorted_ids(&client.message()), sorted_ids(&client.message())];
    got.sort();
    assert_eq!(got, [[1], [2]]);
    publisher.publish("a", "fence", 1);
    assert_eq!(client.message().text(), "fence", "no third one");
}

#[test]
fn mqtt_5_3_3_4_6_a_client_sends_no_subscription_identifier() {
    let broker = broker();
    let (mut subscriber, mut publisher) = pair(&broker, 5, "t", 0);
    let publish = Publish::new("t", "no", 0).with(Prop::subscription_id(1));
    assert_ends(&broker, 5, &publish.encode(5), 0x82);
    publisher.publish("t", "fence", 1);
    assert_eq!(subscriber.message().text(), "fence");
}

fn sorted_ids(message: &Publish) -> Vec<u32> {
    let of = message.props.iter().filter(|p| p.id == prop::SUBSCRIPTION_ID);
    let mut ids: Vec<u32> = of.map(Prop::number).collect();
    ids.sort_unstable();
    ids
}
