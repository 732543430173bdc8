//! Where two mechanisms meet: hand-over and pipelining, identifiers that wrap, retained and live
//! messages that race.

use std::collections::BTreeMap;

use shards::codec::{AckKind, Connect, SubscribeOptions};
use shards::ids::{PacketId, QoS, ShardId, Version};
use shards::limits::Settings;
use shards::reject::ReasonCode;
use shards::slots::owner_of;
use shards::topic::topic_hash;

use sim::client::{Answers, Got};
use sim::drive::{Post, VERSIONS, everywhere, keeping, plain};
use sim::world::World;

#[test]
fn a_connection_moves_to_the_shard_of_its_session_with_all_that_was_sent() {
    everywhere(&plain(), |world| {
        let shards = u8::try_from(world.shard_count()).unwrap();
        let watcher = world.connect("watcher", Version::V5);
        world.subscribe(watcher, "a", QoS::AtMostOnce);
        for version in VERSIONS {
            for bytes in [1, 3000, 5000, 50_000] {
                let client = world.open("client", version);
                world.say_connect(client, &Connect::new(version, "client"));
                let payload = "x".repeat(bytes);
                let first = world.say(client, &Post::new("a", &payload, QoS::AtLeastOnce));
                let second = world.say(client, &Post::new("a", "2", QoS::AtLeastOnce));
                world.settle();
                assert_eq!(world.expect_welcome(client).reason, ReasonCode::Success);
                world.expect_ack(client, AckKind::Puback, first);
                world.expect_ack(client, AckKind::Puback, second);
                let messages = world.take_messages(watcher);
                assert_eq!(messages[0].payload.len(), bytes);
                assert_eq!(messages[1].text(), "2");
                let owner = owner_of(topic_hash(b"client"), shards);
                let at = world.shard_of(client).map(|at| ShardId(u8::try_from(at).unwrap()));
                assert_eq!(at, Some(owner));
                world.disconnect(client);
            }
        }
    });
}

#[test]
fn identifiers_wrap_around_one_that_stays_in_flight() {
    for shards in [1, 2] {
        let mut world = World::new(shards, None, &plain());
        let subscriber = world.connect("subscriber", Version::V5);
        world.subscribe(subscriber, "a", QoS::AtLeastOnce);
        let publisher = world.connect("publisher", Version::V311);
        world.answer(subscriber, Answers::None);
        world.publish(publisher, "a", "held", QoS::AtLeastOnce);
        let held = world.expect_publish(subscriber, "a", "held").packet_id.unwrap();
        world.answer(subscriber, Answers::All);
        let mut came = 0;
        for _ in 0..66 {
            for _ in 0..1000 {
                world.say(publisher, &Post::new("a", "x", QoS::AtLeastOnce));
            }
            world.settle();
            let messages = world.take_messages(subscriber);
            assert!(messages.iter().all(|message| message.packet_id != Some(held)));
            came += messages.len();
            world.clients[publisher].got.clear();
        }
        assert_eq!(came, 66_000);
        world.end();
    }
}

#[test]
fn an_answer_larger_than_the_client_takes_ends_the_connection() {
    everywhere(&plain(), |world| {
        let connect = Connect { packet_bytes_max: Some(40), ..Connect::new(Version::V5, "client") };
        let (client, _) = world.connect_with(&connect);
        let options = SubscribeOptions::new(QoS::AtLeastOnce);
        world.say_subscribe(client, None, &[("a", options); 60]);
        world.settle();
        world.expect_end(client, ReasonCode::PacketTooLarge);
        // Not even the CONNACK fits: the connection ends without one [MQTT-3.1.2-24].
        let client = world.open("tiny", Version::V5);
        let connect = Connect { packet_bytes_max: Some(4), ..Connect::new(Version::V5, "tiny") };
        world.say_connect(client, &connect);
        world.settle();
        assert!(world.clients[client].is_ended);
        assert!(world.clients[client].got.is_empty());
    });
}

/// Publishers set retained values while a slow subscriber arrives. Per topic live values rise, a
/// retained copy never comes behind a live one that is newer, and the last to come is the newest.
/// A retained copy may be ahead of live messages that are still on their way from another shard.
#[test]
fn a_subscriber_that_arrives_in_the_middle_ends_with_the_newest_values() {
    const TOPICS: [&str; 6] = ["r/0", "r/1", "r/2", "r/3", "r/4", "r/5"];
    for out_bytes_max in [60, 1 << 20] {
        let settings = Settings { out_bytes_max, mailbox_bytes: 128, ..plain() };
        everywhere(&settings, |world| {
            let names = ["p0", "p1", "p2"];
            let publishers = names.map(|name| world.connect(name, Version::V5));
            let mut values: BTreeMap<&str, u32> = BTreeMap::new();
            for round in 0..12 {
                let subscriber = world.connect("subscriber", Version::V5);
                let options = SubscribeOptions::new(QoS::AtLeastOnce);
                for step in 0..40 {
                    let topic = TOPICS[world.below(TOPICS.len())];
                    let at: usize = usize::from(topic.as_bytes()[2]);
                    let value = values.entry(topic).or_default();
                    *value += 1;
                    let payload = format!("{value}");
                    let post = Post::retained(topic, &payload, QoS::AtLeastOnce);
                    world.say(publishers[at % 3], &post);
                    if step == 20 {
                        let filter = if round % 2 == 0 { "r/#" } else { "r/+" };
                        world.say_subscribe(subscriber, None, &[(filter, options)]);
                    }
                    let count = world.below(8);
                    world.stir(count);
                }
                world.settle();
                let mut seen: BTreeMap<String, u32> = BTreeMap::new();
                let mut live: BTreeMap<String, u32> = BTreeMap::new();
                for message in world.take_messages(subscriber) {
                    let value = message.text().parse().unwrap();
                    seen.insert(message.topic.clone(), value);
                    let before = live.get(&message.topic).copied();
                    assert!(before < Some(value), "{}: {value} behind {before:?}", message.topic);
                    if !message.retain {
                        live.insert(message.topic, value);
                    }
                }
                for (topic, value) in &values {
                    assert_eq!(seen.get(*topic), Some(value), "{topic}");
                }
                world.clients[subscriber].got.clear();
                world.disconnect(subscriber);
            }
            for publisher in publishers {
                let acks = world.clients[publisher].got.drain(..);
                assert!(acks.into_iter().all(|got| matches!(got, Got::Ack(..))));
            }
        });
    }
}

/// PUBREC with an error ends the exchange: the place in the window is free, nothing is released.
#[test]
fn a_pubrec_with_an_error_ends_the_exchange() {
    everywhere(&plain(), |world| {
        let connect = Connect { receive_maximum: Some(1), ..keeping(Version::V5, "picky", 100) };
        let (picky, _) = world.connect_with(&connect);
        world.subscribe(picky, "a", QoS::ExactlyOnce);
        let publisher = world.connect("publisher", Version::V5);
        world.answer(picky, Answers::None);
        for payload in ["1", "2"] {
            world.publish(publisher, "a", payload, QoS::ExactlyOnce);
        }
        let id = world.expect_publish(picky, "a", "1").packet_id.and_then(PacketId::new).unwrap();
        let mut bytes = Vec::new();
        // Completes it for the model; what goes out is the PUBREC.
        world.clients[picky].complete(id, &mut bytes);
        bytes.clear();
        let reason = ReasonCode::PayloadFormatInvalid;
        world.clients[picky].ack(AckKind::Pubrec, id, reason, &mut bytes);
        world.write(picky, |out| out.extend_from_slice(&bytes));
        world.settle();
        world.expect_publish(picky, "a", "2");
        assert!(world.clients[picky].got.is_empty(), "no PUBREL for an exchange that has ended");
    });
}

#[test]
fn a_client_gets_its_own_messages() {
    everywhere(&plain(), |world| {
        for version in VERSIONS {
            let client = world.connect("client", version);
            world.subscribe(client, "#", QoS::ExactlyOnce);
            for qos in sim::drive::QOS {
                world.publish(client, "a", "x", qos);
                assert_eq!(world.expect_publish(client, "a", "x").qos, qos);
            }
            world.disconnect(client);
        }
    });
}
