//! Sessions, receipt and order: sections 4.1, 4.2, 4.5 and 4.6.

use std::thread;

use crate::harness::broker::Broker;
use crate::harness::client::Client;
use crate::harness::wire::{self, Connect, Packet, Prop, Publish, prop};
use crate::publishing::steps::{let_pass, pair, publish_id};
use crate::support::{broker, on_versions};

on_versions! {
    fn mqtt_311_4_1_0_1_the_session_is_kept_as_long_as_it_lasts(4) => kept_as_long_as_it_lasts;
    fn mqtt_5_4_1_0_1_the_session_is_kept_while_connected(5),
    fn mqtt_311_4_1_0_2_the_session_lasts_as_the_connection(4) => lasts_as_the_connection;
    fn mqtt_311_4_5_0_1_into_every_matching_session(4),
    fn mqtt_5_4_5_0_1_into_every_matching_session(5) => into_every_matching_session;
    fn mqtt_311_4_6_0_1_sent_again_in_order(4) => sent_again_in_order;
    fn mqtt_311_4_6_0_2_pubacks_in_order(4) => pubacks_in_order;
    fn mqtt_311_4_6_0_3_pubrecs_in_order(4) => pubrecs_in_order;
    fn mqtt_311_4_6_0_4_pubrels_in_order(4) => pubrels_in_order;
    fn mqtt_311_4_6_0_5_every_topic_is_ordered(4),
    fn mqtt_5_4_6_0_6_every_topic_is_ordered(5) => every_topic_is_ordered;
    fn mqtt_311_4_6_0_6_in_the_order_received(4),
    fn mqtt_5_4_6_0_5_in_the_order_received(5) => in_the_order_received;
}

/// Subscriptions, what is unacknowledged in either direction, and what waits.
fn kept_as_long_as_it_lasts(version: u8) {
    let broker = broker();
    let connect = Connect::new(version, "kept").persistent();
    let mut client = Client::connect(&broker, &connect);
    client.subscribe("t", 2);
    let mut publisher = Client::plain(&broker, version, "publisher");
    publisher.publish("t", "unacknowledged", 2);
    let open = client.message_unacked();
    let half = publish_id("t", "half", 2, 7).encode(version);
    client.send(&half);
    client.wait_for(|p| matches!(p, Packet::Pubrec { id: 7, .. }));
    assert_eq!(client.message().text(), "half");
    client.reset();
    publisher.publish("t", "waiting", 1);
    let mut client = Client::connect(&broker, &connect);
    assert!(client.present);
    assert_eq!(client.message(), Publish { dup: true, ..open });
    assert_eq!(client.message().text(), "waiting");
    client.send(&half);
    client.wait_for(|p| matches!(p, Packet::Pubrec { id: 7, .. }));
    publisher.publish("t", "live", 1);
    assert_eq!(client.message().text(), "live", "half a message came once");
}

/// A session that is not to outlive its connection; silence does not end it before.
fn lasts_as_the_connection(version: u8) {
    let broker = broker();
    let (mut client, mut publisher) = pair(&broker, version, "t", 2);
    publisher.publish("t", "open", 2);
    let open = client.message_unacked();
    let half = publish_id("t", "half", 2, 7).encode(version);
    client.send(&half);
    client.wait_for(|p| matches!(p, Packet::Pubrec { id: 7, .. }));
    assert_eq!(client.message().text(), "half");
    let_pass(&broker, 2);
    client.acknowledge(&open);
    client.send(&half);
    client.wait_for(|p| matches!(p, Packet::Pubrec { id: 7, .. }));
    publisher.publish("t", "live", 2);
    assert_eq!(client.message().text(), "live");
    client.disconnect();
    let kept = Connect::new(version, "subscriber").persistent();
    assert!(!Client::connect(&broker, &kept).present, "and ends with it");
}

/// The will delay that tells of the end is longer than the session.
#[test]
fn mqtt_5_4_1_0_2_an_expired_session_is_gone() {
    let broker = broker();
    for (name, seconds) in [("at-once", 0), ("soon", 1), ("later", 1000)] {
        let expiry = Prop::four(prop::SESSION_EXPIRY, seconds);
        let mut client = Client::connect(&broker, &Connect::new(5, name).with(expiry));
        client.subscribe("t", 1);
        client.disconnect();
    }
    let_pass(&broker, 2);
    let mut publisher = Client::plain(&broker, 5, "publisher");
    publisher.publish("t", "text", 1);
    for (name, is_kept) in [("at-once", false), ("soon", false), ("later", true)] {
        let mut client = Client::connect(&broker, &Connect::new(5, name).persistent());
        assert_eq!(client.present, is_kept, "{name}");
        client.subscribe("fence", 1);
        publisher.publish("fence", "fence", 1);
        assert_eq!(client.message().text(), if is_kept { "text" } else { "fence" });
    }
}

fn into_every_matching_session(version: u8) {
    let broker = broker();
    let connect = |n: usize| {
        let connect = Connect::new(version, &format!("client-{n}"));
        if n < 8 { connect.persistent() } else { connect }
    };
    let filters = ["a/b", "a/+", "#", "+/b"];
    let mut present = Vec::new();
    for n in 0..16 {
        let mut client = Client::connect(&broker, &connect(n));
        client.subscribe(filters[n % 4], 2);
        if n < 8 { client.disconnect() } else { present.push(client) }
    }
    let mut publisher = Client::plain(&broker, version, "publisher");
    for qos in [1, 2] {
        publisher.publish("a/b", format!("to all {qos}"), qos);
    }
    let absent = (0..8).map(|n| Client::connect(&broker, &connect(n)));
    for mut client in absent.chain(present) {
        assert_eq!(client.message().text(), "to all 1");
        assert_eq!(client.message().text(), "to all 2");
    }
}

/// Some of each QoS, some of them acknowledged: the rest comes again as it came first.
fn sent_again_in_order(version: u8) {
    let broker = broker();
    let connect = Connect::new(version, "kept").persistent();
    let mut client = Client::connect(&broker, &connect);
    client.subscribe("t", 2);
    let mut publisher = Client::plain(&broker, version, "publisher");
    for number in 0..30_u8 {
        publisher.publish("t", number.to_string(), 1 + number % 2);
    }
    let mut open: Vec<Publish> = (0..30).map(|_| client.message_unacked()).collect();
    for at in [20, 7, 0] {
        let done = open.remove(at);
        client.acknowledge(&done);
    }
    for _ in 0..2 {
        client.ping();
        client.reset();
        client = Client::connect(&broker, &connect);
        for message in &open {
            assert_eq!(client.recv(), Packet::Publish(Publish { dup: true, ..message.clone() }));
        }
    }
}

/// Publishes 100 messages in one write, to subscribers on every shard and to none; the identifiers of
/// the acknowledgements as they come.
#[track_caller]
fn acknowledged(version: u8, qos: u8) -> Vec<Packet> {
    let broker = broker();
    let mut subscribers: Vec<Client> = (0..4)
        .map(|n| {
            let mut client = Client::plain(&broker, version, &format!("subscriber-{n}"));
            client.subscribe(&format!("t/{n}"), qos);
            client
        })
        .collect();
    let mut publisher = Client::plain(&broker, version, "publisher");
    let mut bytes = Vec::new();
    for id in 1..=100_u16 {
        let topic = format!("t/{}", id % 6);
        bytes.extend(publish_id(&topic, "text", qos, id).encode(version));
    }
    publisher.send(&bytes);
    let packets = (0..100).map(|_| publisher.recv()).collect();
    for client in &mut subscribers {
        assert_eq!(client.message().text(), "text");
    }
    packets
}

fn pubacks_in_order(version: u8) {
    let want = (1..=100).map(|id| Packet::Puback { id, code: 0 });
    assert!(acknowledged(version, 1).into_iter().eq(want));
}

fn pubrecs_in_order(version: u8) {
    let want = (1..=100).map(|id| Packet::Pubrec { id, code: 0 });
    assert!(acknowledged(version, 2).into_iter().eq(want));
}

/// PUBRECs in another order than the messages: the PUBRELs follow the PUBRECs, also when they are sent
/// again.
fn pubrels_in_order(version: u8) {
    let broker = broker();
    let connect = Connect::new(version, "kept").persistent();
    let mut client = Client::connect(&broker, &connect);
    client.subscribe("t", 2);
    let mut publisher = Client::plain(&broker, version, "publisher");
    for number in 0..6 {
        publisher.publish("t", number.to_string(), 2);
    }
    let open: Vec<Publish> = (0..6).map(|_| client.message_unacked()).collect();
    let ids: Vec<u16> = [3, 0, 5, 1, 4, 2].map(|at: usize| open[at].id).to_vec();
    let pubrecs: Vec<u8> = ids.iter().flat_map(|id| wire::ack(wire::PUBREC, *id)).collect();
    client.send(&pubrecs);
    for _ in 0..3 {
        for id in &ids {
            assert_eq!(client.recv(), Packet::Pubrel { id: *id, code: 0 });
        }
        client.reset();
        client = Client::connect(&broker, &connect);
    }
}

/// Nothing was configured; topics of every kind, one publisher each, all at once.
fn every_topic_is_ordered(version: u8) {
    let broker = broker();
    let topics = ["a", "/", "a/b/c/d/e/f", "$own/topic", "ü/漢", "fence/"];
    thread::scope(|scope| {
        for topic in topics {
            let broker = &broker;
            scope.spawn(move || assert_ordered(broker, version, topic, 1, 300));
        }
    });
}

fn in_the_order_received(version: u8) {
    let broker = broker();
    for qos in [0, 1, 2] {
        assert_ordered(&broker, version, "t", qos, 1000);
    }
}

/// Two subscribers, most likely on different shards, see the numbers from 0 upward.
#[track_caller]
fn assert_ordered(broker: &Broker, version: u8, topic: &str, qos: u8, count: u32) {
    let subscribers: Vec<Client> = (0..2)
        .map(|n| {
            let mut client = Client::plain(broker, version, &format!("{topic}-{n}"));
            client.subscribe(topic, 2);
            client
        })
        .collect();
    let mut publisher = Client::plain(broker, version, &format!("{topic}-from"));
    thread::scope(|scope| {
        for mut client in subscribers {
            scope.spawn(move || {
                for want in 0..count {
                    let message = client.message();
                    assert_eq!((message.payload, message.qos), (want.to_be_bytes().to_vec(), qos));
                }
            });
        }
        publisher.publish_window(topic, count, qos, 50);
    });
}
