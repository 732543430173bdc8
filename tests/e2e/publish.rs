//! Application messages from one client to another: every version, every QoS, every shard.

use crate::harness::broker::Broker;
use crate::harness::client::Client;
use crate::harness::on_shards;

on_shards!(every_qos_to_every_qos, payloads_of_many_sizes, wildcards_match);

/// The lower of the two QoS arrives, once, whatever the versions on both sides.
fn every_qos_to_every_qos(broker: &Broker) {
    for from in [3, 4, 5] {
        let mut publisher = Client::plain(broker, from, &format!("from-{from}"));
        for to in [3, 4, 5] {
            for wanted in [0, 1, 2] {
                let id = format!("to-{from}-{to}-{wanted}");
                let mut subscriber = Client::plain(broker, to, &id);
                let topic = format!("qos/{id}");
                assert_eq!(subscriber.subscribe(&topic, wanted), wanted);
                for sent in [0, 1, 2] {
                    publisher.publish(&topic, format!("{sent}"), sent);
                    let message = subscriber.message();
                    assert_eq!(message.text(), format!("{sent}"));
                    assert_eq!(message.qos, wanted.min(sent), "{id}: sent with QoS {sent}");
                    assert!(!message.retain && !message.dup);
                }
            }
        }
    }
}

/// Sizes around the places where a length grows by a byte or a buffer ends.
fn payloads_of_many_sizes(broker: &Broker) {
    let mut publisher = Client::plain(broker, 5, "sizes-from");
    let mut subscriber = Client::plain(broker, 4, "sizes-to");
    subscriber.subscribe("sizes", 2);
    let edges = [0, 1, 127, 128, 4096, 8192, 16_384, 65_536, 262_144, 900_000];
    for (round, size) in (0_u8..).zip(edges.iter().flat_map(|edge| [*edge, edge + 1, edge + 13])) {
        let payload: Vec<u8> = (0..size).map(|i: u32| i.to_le_bytes()[0] ^ round).collect();
        publisher.publish("sizes", &payload, round % 3);
        let message = subscriber.message();
        assert_eq!(message.payload.len(), payload.len());
        assert!(message.payload == payload, "payload of {size} bytes arrived changed");
    }
}

fn wildcards_match(broker: &Broker) {
    let mut publisher = Client::plain(broker, 4, "wild-from");
    let cases: [(&str, &[&str]); 6] = [
        ("w/+/c", &["w/b/c", "w//c"]),
        ("w/#", &["w", "w/b/c", "w//c", "w/b", "w/b/c/d"]),
        ("+/b", &["w/b"]),
        ("w", &["w"]),
        ("#", &["w", "w/b/c", "w//c", "w/b", "w/b/c/d", "/x"]),
        ("/+", &["/x"]),
    ];
    let mut subscribers: Vec<(Client, &[&str])> = cases
        .iter()
        .enumerate()
        .map(|(index, (filter, want))| {
            let mut client = Client::plain(broker, 4, &format!("wild-{index}"));
            client.subscribe_with(&[(filter, 0), ("fence", 0)], &[]);
            (client, *want)
        })
        .collect();
    for topic in ["w", "w/b/c", "$w/b", "w//c", "w/b", "w/b/c/d", "/x"] {
        publisher.publish(topic, topic, 1);
    }
    publisher.publish("fence", "fence", 1);
    for (client, want) in &mut subscribers {
        let mut got = Vec::new();
        loop {
            let message = client.message();
            if message.text() == "fence" {
                break;
            }
            got.push(message.topic);
        }
        assert_eq!(got, *want);
    }
}
