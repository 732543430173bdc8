//! Shared subscriptions, section 4.8 of 5.0.

use crate::harness::broker::Broker;
use crate::harness::client::Client;
use crate::harness::wire::{self, Connect, Packet, Prop, Publish, packet, prop};
use crate::support::broker;

const FILTER: &str = "$share/group/t";

/// A member of the group whose session is kept for so long.
#[track_caller]
fn member(broker: &Broker, name: &str, qos: u8, expiry_s: u32) -> (Client, Connect) {
    let mut connect = Connect::new(5, name).with(Prop::four(prop::SESSION_EXPIRY, expiry_s));
    connect.clean = false;
    let mut client = Client::connect(broker, &connect);
    assert_eq!(client.subscribe(FILTER, qos), qos);
    (client, connect)
}

/// What comes before a message that is published to all now.
#[track_caller]
fn until_fence(client: &mut Client, broker: &Broker) -> Vec<Publish> {
    client.subscribe("fence", 2);
    Client::plain(broker, 5, "fence").publish("fence", "fence", 2);
    let mut got = Vec::new();
    loop {
        let message = client.message();
        if message.topic == "fence" {
            return got;
        }
        got.push(message);
    }
}

/// The SUBSCRIBE is answered with 0x8F, and nothing is delivered for it.
#[track_caller]
fn assert_refused(filters: &[&str]) {
    let broker = broker();
    let mut client = Client::plain(&broker, 5, "subscriber");
    for filter in filters {
        assert_eq!(client.subscribe(filter, 1), 0x8F, "{filter:?}");
    }
    let mut publisher = Client::plain(&broker, 5, "publisher");
    publisher.publish("t", "no", 1);
    assert_eq!(until_fence(&mut client, &broker), []);
}

#[test]
fn mqtt_5_4_8_2_1_a_share_name_of_at_least_one_character() {
    assert_refused(&["$share//t", "$share/", "$share//", "$share//#"]);
    let broker = broker();
    let (mut client, _) = member(&broker, "member", 1, 0);
    client.subscribe("$share/漢/other", 1);
    // Without the prefix it is an ordinary filter.
    client.subscribe("$shared/group/t", 1);
    let mut publisher = Client::plain(&broker, 5, "publisher");
    for topic in ["t", "other", "$shared/group/t"] {
        publisher.publish(topic, "yes", 1);
        assert_eq!(client.message().topic, topic);
    }
}

#[test]
fn mqtt_5_4_8_2_2_a_share_name_without_wildcards_and_a_filter_behind_it() {
    let wrong = ["$share/+/t", "$share/#", "$share/a+/t", "$share/#a/t", "$share/g", "$share/g/"];
    assert_refused(&wrong);
    let broker = broker();
    let mut client = Client::plain(&broker, 5, "member");
    for (filter, topic) in [("$share/g/+/x", "a/x"), ("$share/g//", "/"), ("$share/g/#", "b")] {
        assert_eq!(client.subscribe(filter, 1), 1, "{filter:?}");
        Client::plain(&broker, 5, "publisher").publish(topic, "yes", 1);
        assert_eq!(client.message().topic, topic);
        client.unsubscribe(&[filter]);
    }
}

#[test]
fn mqtt_5_4_8_2_3_at_no_more_than_the_granted_qos() {
    let broker = broker();
    let mut members: Vec<Client> =
        (0..3).map(|qos| member(&broker, &format!("member-{qos}"), qos, 0).0).collect();
    let mut publisher = Client::plain(&broker, 5, "publisher");
    for qos in [0, 1, 2] {
        for _ in 0..30 {
            publisher.publish("t", qos.to_string(), qos);
        }
    }
    let mut count = 0;
    for (granted, client) in members.iter_mut().enumerate() {
        let got = until_fence(client, &broker);
        assert!(!got.is_empty(), "everybody has a share");
        count += got.len();
        for message in got {
            let published: usize = message.text().parse().expect("a QoS");
            assert_eq!(usize::from(message.qos), published.min(granted));
        }
    }
    assert_eq!(count, 90);
}

/// Two members; the one that has the only message, unacknowledged, comes first.
#[track_caller]
fn delivered_to_one(
    broker: &Broker,
    qos: u8,
    expiry_s: u32,
) -> (Client, Connect, Publish, Client, Client) {
    let (mut first, connect) = member(broker, "first", qos, expiry_s);
    let mut publisher = Client::plain(broker, 5, "publisher");
    // It is the only member, so the message is its own.
    publisher.publish("t", "job", qos);
    let message = first.message_unacked();
    assert_eq!(message.text(), "job");
    let (second, _) = member(broker, "second", qos, 0);
    (first, connect, message, second, publisher)
}

#[test]
fn mqtt_5_4_8_2_4_a_qos_2_delivery_is_finished_with_its_member() {
    let broker = broker();
    let (mut first, connect, message, mut second, mut publisher) =
        delivered_to_one(&broker, 2, 3600);
    first.ping();
    first.reset();
    // What is published meanwhile goes to the one who is there; the begun delivery waits.
    assert_eq!(until_fence(&mut second, &broker), []);
    publisher.publish("t", "another", 2);
    assert_eq!(second.message().text(), "another");
    let mut first = Client::connect(&broker, &connect);
    assert!(first.present);
    assert_eq!(first.message(), Publish { dup: true, ..message });
    assert_eq!(until_fence(&mut second, &broker), []);
}

/// The session ends in three ways; the other member is sent what comes after, on the same path.
#[test]
fn mqtt_5_4_8_2_5_the_end_of_the_session_sends_it_to_nobody_else() {
    for way in ["disconnect", "expiry", "clean start"] {
        let broker = broker();
        let expiry_s = if way == "clean start" { 3600 } else { 0 };
        let (mut first, _, _, mut second, mut publisher) = delivered_to_one(&broker, 2, expiry_s);
        first.ping();
        match way {
            "disconnect" => first.disconnect(),
            "expiry" => first.vanish(),
            _ => {
                first.reset();
                assert!(!Client::plain(&broker, 5, "first").present);
            }
        }
        publisher.publish("t", "next", 2);
        let got = until_fence(&mut second, &broker);
        assert!(got.iter().map(Publish::text).eq(["next"]), "{way}: {got:?}");
    }
}

#[test]
fn mqtt_5_4_8_2_6_an_error_of_a_member_discards_the_message() {
    for (qos, kind) in [(1, wire::PUBACK), (2, wire::PUBREC)] {
        let broker = broker();
        let (mut first, _, message, mut second, mut publisher) =
            delivered_to_one(&broker, qos, 3600);
        let [high, low] = message.id.to_be_bytes();
        for code in [0x80, 0x87, 0x97] {
            first.send(&packet(kind, &[high, low, code]));
        }
        first.ping();
        assert_eq!(until_fence(&mut second, &broker), []);
        // Nor when its member leaves for good.
        first.disconnect();
        let mut again = Client::plain(&broker, 5, "first");
        again.send(&wire::PINGREQ);
        assert_eq!(again.recv(), Packet::Pingresp);
        publisher.publish("t", "next", qos);
        let got = until_fence(&mut second, &broker);
        assert!(got.iter().map(Publish::text).eq(["next"]), "{got:?}");
    }
}
