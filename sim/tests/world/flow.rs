//! How much may be on its way: windows, queues and their overflow, durable acknowledgement, expiry,
//! aliases and packet sizes.

use shards::codec::{AckKind, Connect, Property};
use shards::ids::{PacketId, QoS, Version};
use shards::limits::{OverflowPolicy, Settings};
use shards::reject::ReasonCode;
use shards::store::StoreOutcome;

use sim::client::{Answers, Got};
use sim::drive::{Post, VERSIONS, everywhere, keeping, plain, seconds};
use sim::world::World;

#[test]
fn the_window_is_the_smaller_of_both_sides() {
    let settings = Settings { inflight_max: 4, ..plain() };
    everywhere(&settings, |world| {
        for (asked, want) in [(None, 4), (Some(1), 1), (Some(3), 3), (Some(100), 4)] {
            let connect =
                Connect { receive_maximum: asked, ..Connect::new(Version::V5, "subscriber") };
            let (subscriber, _) = world.connect_with(&connect);
            world.answer(subscriber, Answers::None);
            world.subscribe(subscriber, "a", QoS::ExactlyOnce);
            let publisher = world.connect("publisher", Version::V5);
            for n in 0..20 {
                let qos = if n % 3 == 0 { QoS::ExactlyOnce } else { QoS::AtLeastOnce };
                world.publish(publisher, "a", &format!("{n}"), qos);
            }
            let messages = world.take_messages(subscriber);
            assert_eq!(messages.len(), want);
            // Acknowledged one by one, the others follow in order.
            let mut texts: Vec<_> = messages.iter().map(|m| m.text().to_owned()).collect();
            let mut left: std::collections::VecDeque<_> = messages.into();
            world.answer(subscriber, Answers::All);
            while let Some(message) = left.pop_front() {
                let id = PacketId::new(message.packet_id.unwrap()).unwrap();
                let kind = match message.qos {
                    QoS::ExactlyOnce => AckKind::Pubrec,
                    QoS::AtMostOnce | QoS::AtLeastOnce => AckKind::Puback,
                };
                let mut reply = Vec::new();
                match kind {
                    AckKind::Puback => world.clients[subscriber].acknowledge(id, &mut reply),
                    _ => {
                        let ok = ReasonCode::Success;
                        world.clients[subscriber].ack(kind, id, ok, &mut reply);
                    }
                }
                world.write(subscriber, |out| out.extend_from_slice(&reply));
                world.settle();
                texts.extend(world.take_messages(subscriber).iter().map(|m| m.text().to_owned()));
            }
            let all: Vec<_> = (0..20).map(|n| n.to_string()).collect();
            assert_eq!(texts, all);
            world.disconnect(subscriber);
            world.disconnect(publisher);
        }
    });
}

#[test]
fn more_than_the_receive_maximum_ends_the_connection() {
    let settings = Settings { receive_maximum: 3, ..plain() };
    everywhere(&settings, |world| {
        let publisher = world.connect("publisher", Version::V5);
        world.answer(publisher, Answers::None);
        for n in 0..3 {
            world.say(publisher, &Post::new("a", &format!("{n}"), QoS::ExactlyOnce));
        }
        world.settle();
        world.expect_alive(publisher);
        // QoS 0 is not counted.
        world.publish(publisher, "a", "x", QoS::AtMostOnce);
        world.expect_alive(publisher);
        world.say(publisher, &Post::new("a", "3", QoS::AtLeastOnce));
        world.settle();
        world.expect_end(publisher, ReasonCode::ReceiveMaximumExceeded);
        assert_eq!(world.snapshot().counters.rejected_receive_maximum, 1);
        // Before 5.0 there is none.
        let old = world.connect("old", Version::V311);
        world.answer(old, Answers::None);
        for n in 0..10 {
            world.say(old, &Post::new("a", &format!("{n}"), QoS::ExactlyOnce));
        }
        world.settle();
        world.expect_ack(old, AckKind::Pubrec, 10);
    });
}

#[test]
fn a_full_queue_drops_by_its_policy() {
    for (overflow, want) in [
        (OverflowPolicy::DropOldest, ["7", "8", "9"]),
        (OverflowPolicy::DropNewest, ["0", "1", "2"]),
        (OverflowPolicy::Disconnect, ["0", "1", "2"]),
    ] {
        let settings = Settings { queue_messages_max: 3, overflow, ..plain() };
        everywhere(&settings, |world| {
            let connect = keeping(Version::V5, "subscriber", 100);
            let (subscriber, _) = world.connect_with(&connect);
            world.subscribe(subscriber, "a", QoS::AtLeastOnce);
            world.cut(subscriber);
            let publisher = world.connect("publisher", Version::V5);
            for n in 0..10 {
                let payload = format!("{n}");
                let reason = world.post(publisher, &Post::new("a", &payload, QoS::AtLeastOnce));
                assert_eq!(reason, ReasonCode::Success);
            }
            world.reconnect(subscriber, &connect);
            let messages = world.take_messages(subscriber);
            let texts: Vec<_> = messages.iter().map(|message| message.text()).collect();
            assert_eq!(texts, want, "{overflow:?}");
            let counters = world.snapshot().counters;
            assert_eq!(counters.dropped_queue_oldest + counters.dropped_queue_newest, 7);
        });
    }
}

#[test]
fn the_queue_is_bounded_in_bytes_too() {
    let settings =
        Settings { queue_bytes_max: 100, overflow: OverflowPolicy::DropOldest, ..plain() };
    everywhere(&settings, |world| {
        let connect = keeping(Version::V5, "subscriber", 100);
        let (subscriber, _) = world.connect_with(&connect);
        world.subscribe(subscriber, "a", QoS::AtLeastOnce);
        world.cut(subscriber);
        let publisher = world.connect("publisher", Version::V5);
        for n in 0..10 {
            let payload = format!("{n}{}", "x".repeat(38));
            world.publish(publisher, "a", &payload, QoS::AtLeastOnce);
        }
        world.reconnect(subscriber, &connect);
        let messages = world.take_messages(subscriber);
        assert_eq!(messages.len(), 2);
        assert!(messages[1].text().starts_with('9'));
    });
}

#[test]
fn a_subscriber_that_is_too_slow_is_disconnected() {
    let settings = Settings {
        queue_messages_max: 3,
        overflow: OverflowPolicy::Disconnect,
        inflight_max: 1,
        ..plain()
    };
    everywhere(&settings, |world| {
        let connect = keeping(Version::V5, "subscriber", 100);
        let (subscriber, _) = world.connect_with(&connect);
        world.subscribe(subscriber, "a", QoS::AtLeastOnce);
        world.answer(subscriber, Answers::None);
        let publisher = world.connect("publisher", Version::V5);
        for n in 0..10 {
            world.publish(publisher, "a", &format!("{n}"), QoS::AtLeastOnce);
        }
        world.expect_end(subscriber, ReasonCode::QuotaExceeded);
        assert_eq!(world.snapshot().counters.slow_subscribers_disconnected, 1);
        world.take_messages(subscriber);
        world.answer(subscriber, Answers::All);
        assert!(world.reconnect(subscriber, &connect).session_present);
        assert_eq!(world.take_texts(subscriber), ["a=0", "a=1", "a=2", "a=3"]);
    });
}

#[test]
fn a_refused_message_is_said_in_the_acknowledgement_and_their_order_is_kept() {
    let settings = Settings { queue_messages_max: 2, overflow: OverflowPolicy::Refuse, ..plain() };
    everywhere(&settings, |world| {
        for version in VERSIONS {
            let connect = keeping(Version::V5, "subscriber", 100);
            let (subscriber, _) = world.connect_with(&connect);
            world.subscribe(subscriber, "full", QoS::ExactlyOnce);
            world.cut(subscriber);
            let publisher = world.connect("publisher", version);
            let mut want = Vec::new();
            for n in 0..8 {
                let qos = if n % 4 < 2 { QoS::AtLeastOnce } else { QoS::ExactlyOnce };
                let kind = if n % 4 < 2 { AckKind::Puback } else { AckKind::Pubrec };
                for topic in ["full", "nobody"] {
                    let id = world.say(publisher, &Post::new(topic, "x", qos));
                    let reason = match (topic, n) {
                        _ if !version.is_v5() => ReasonCode::Success,
                        ("full", 0 | 1) => ReasonCode::Success,
                        ("full", _) => ReasonCode::QuotaExceeded,
                        _ => ReasonCode::NoMatchingSubscribers,
                    };
                    want.push(Got::Ack(kind, id, reason));
                }
            }
            world.settle();
            let mut acks: Vec<_> = world.clients[publisher].got.drain(..).collect();
            acks.retain(|got| !matches!(got, Got::Ack(AckKind::Pubcomp, ..)));
            assert_eq!(acks, want);
            world.expect_alive(publisher);
            world.reconnect(subscriber, &Connect::new(Version::V5, "subscriber"));
            world.disconnect(subscriber);
            world.disconnect(publisher);
        }
        assert_eq!(world.snapshot().counters.refused_queue_full, 18);
    });
}

#[test]
fn a_durable_message_is_acknowledged_when_the_store_has_it() {
    let settings = Settings { is_durable: true, ..plain() };
    everywhere(&settings, |world| {
        let subscribers: Vec<_> = ["s0", "s1", "s2"]
            .into_iter()
            .map(|name| {
                let (client, _) = world.connect_with(&keeping(Version::V5, name, 100));
                world.subscribe(client, "a", QoS::ExactlyOnce);
                world.cut(client);
                client
            })
            .collect();
        let publisher = world.connect("publisher", Version::V5);
        world.is_store_held = true;
        for (outcome, reason) in [
            (StoreOutcome::Durable, ReasonCode::Success),
            (StoreOutcome::Failed, ReasonCode::UnspecifiedError),
        ] {
            let first = world.say(publisher, &Post::new("a", "1", QoS::AtLeastOnce));
            let second = world.say(publisher, &Post::new("a", "2", QoS::ExactlyOnce));
            // Not for anybody, but its turn comes later.
            let third = world.say(publisher, &Post::new("b", "3", QoS::AtLeastOnce));
            world.settle();
            assert_eq!(world.pending_store_count(), 6);
            world.expect_nothing(publisher);
            world.finish_stores(outcome);
            let got: Vec<_> = world.clients[publisher].got.drain(..).take(3).collect();
            let none = ReasonCode::NoMatchingSubscribers;
            assert_eq!(
                got,
                [
                    Got::Ack(AckKind::Puback, first, reason),
                    Got::Ack(AckKind::Pubrec, second, reason),
                    Got::Ack(AckKind::Puback, third, none),
                ]
            );
            world.clients[publisher].got.clear();
        }
        drop(subscribers);
    });
}

/// The publisher's connection is lost while the store works: a repeated QoS 2 message must not be
/// acknowledged before the store has it either.
#[test]
fn a_repeated_durable_message_waits_for_the_store_as_well() {
    let settings = Settings { is_durable: true, ..plain() };
    everywhere(&settings, |world| {
        let (subscriber, _) = world.connect_with(&keeping(Version::V5, "subscriber", 100));
        world.subscribe(subscriber, "a", QoS::ExactlyOnce);
        world.cut(subscriber);
        let connect = keeping(Version::V5, "publisher", 100);
        let (publisher, _) = world.connect_with(&connect);
        world.is_store_held = true;
        let id = world.say(publisher, &Post::new("a", "x", QoS::ExactlyOnce));
        world.settle();
        world.cut(publisher);
        let wire = world.dial(publisher);
        world.clients[publisher].renew(wire);
        world.say_connect(publisher, &connect);
        world.write(publisher, |out| {
            shards::codec::Publish {
                qos: QoS::ExactlyOnce,
                dup: true,
                packet_id: PacketId::new(id),
                ..shards::codec::Publish::new("a", b"x")
            }
            .encode(Version::V5, out);
        });
        world.settle();
        world.expect_nothing(publisher);
        world.finish_stores(StoreOutcome::Durable);
        let got = world.clients[publisher].got.pop_front();
        assert!(matches!(got, Some(Got::Connack(welcome)) if welcome.session_present));
        let reason = world.expect_ack(publisher, AckKind::Pubrec, id);
        assert_eq!(reason, ReasonCode::Success);
        world.clients[publisher].got.clear();
        world.is_store_held = false;
        world.reconnect(subscriber, &keeping(Version::V5, "subscriber", 100));
        world.expect_publish(subscriber, "a", "x");
    });
}

#[test]
fn a_message_that_waits_loses_its_time() {
    everywhere(&plain(), |world| {
        let connect = keeping(Version::V5, "subscriber", 1000);
        let (subscriber, _) = world.connect_with(&connect);
        world.subscribe(subscriber, "a", QoS::AtLeastOnce);
        let publisher = world.connect("publisher", Version::V5);
        let say = |world: &mut World, secs| {
            let properties = &[Property::MessageExpiry(secs)];
            let post = Post { properties, ..Post::new("a", "x", QoS::AtLeastOnce) };
            world.post(publisher, &post);
        };
        say(world, 10);
        assert_eq!(world.expect_publish(subscriber, "a", "x").expiry_s, Some(10));
        world.cut(subscriber);
        say(world, 10);
        say(world, 30);
        world.advance(seconds(12));
        world.reconnect(subscriber, &connect);
        assert_eq!(world.expect_publish(subscriber, "a", "x").expiry_s, Some(18));
        assert_eq!(world.snapshot().counters.dropped_expired, 1);
    });
}

#[test]
fn aliases_of_a_client_stand_for_its_topics() {
    let settings = Settings { topic_alias_max: 5, ..plain() };
    everywhere(&settings, |world| {
        let subscriber = world.connect("subscriber", Version::V5);
        world.subscribe(subscriber, "#", QoS::AtLeastOnce);
        let connect = Connect::new(Version::V5, "publisher");
        let (publisher, welcome) = world.connect_with(&connect);
        assert_eq!(welcome.topic_alias_max, Some(5));
        for (alias, topic, want) in
            [(5, "a", "a"), (5, "", "a"), (1, "b", "b"), (5, "c", "c"), (1, "", "b"), (5, "", "c")]
        {
            let properties = &[Property::TopicAlias(alias)];
            let post = Post { properties, ..Post::new(topic, "x", QoS::AtLeastOnce) };
            assert_eq!(world.post(publisher, &post), ReasonCode::Success);
            let message = world.expect_publish(subscriber, want, "x");
            assert_eq!(message.alias, None);
        }
        // They end with the connection.
        for (alias, reason) in [(5, ReasonCode::ProtocolError), (6, ReasonCode::TopicAliasInvalid)]
        {
            world.cut(publisher);
            world.reconnect(publisher, &connect);
            let properties = &[Property::TopicAlias(alias)];
            world.say(publisher, &Post { properties, ..Post::new("", "x", QoS::AtMostOnce) });
            world.settle();
            world.expect_end(publisher, reason);
        }
    });
}

#[test]
fn the_broker_uses_as_many_aliases_as_both_sides_allow() {
    let settings = Settings { topic_alias_out_max: 3, ..plain() };
    everywhere(&settings, |world| {
        let publisher = world.connect("publisher", Version::V311);
        for (asked, want) in [(0, 0), (2, 2), (9, 3)] {
            let connect =
                Connect { topic_alias_max: asked, ..Connect::new(Version::V5, "subscriber") };
            let (subscriber, _) = world.connect_with(&connect);
            world.subscribe(subscriber, "#", QoS::AtMostOnce);
            for round in 0..3 {
                for n in 0..5 {
                    world.publish(publisher, &format!("t/{n}"), "x", QoS::AtLeastOnce);
                    let message = world.expect_publish(subscriber, &format!("t/{n}"), "x");
                    let alias = (n < want).then_some((n + 1, round == 0));
                    assert_eq!(message.alias, alias);
                }
            }
            world.disconnect(subscriber);
        }
    });
}

#[test]
fn what_is_larger_than_a_client_takes_is_not_sent_to_it() {
    everywhere(&plain(), |world| {
        let connect =
            Connect { packet_bytes_max: Some(100), ..keeping(Version::V5, "subscriber", 100) };
        let (subscriber, _) = world.connect_with(&connect);
        let other = world.connect("other", Version::V5);
        let publisher = world.connect("publisher", Version::V5);
        for client in [subscriber, other] {
            world.subscribe(client, "a", QoS::AtLeastOnce);
        }
        let large = "x".repeat(100);
        for qos in [QoS::AtMostOnce, QoS::AtLeastOnce] {
            world.publish(publisher, "a", &large, qos);
            world.publish(publisher, "a", "small", qos);
            world.expect_publish(subscriber, "a", "small");
            assert_eq!(world.take_messages(other).len(), 2);
        }
        // In the queue, and among the retained messages.
        world.cut(subscriber);
        world.publish(publisher, "a", &large, QoS::AtLeastOnce);
        world.publish(publisher, "a", "small", QoS::AtLeastOnce);
        world.retain(publisher, "a", &large);
        world.reconnect(subscriber, &connect);
        world.expect_publish(subscriber, "a", "small");
        world.subscribe(subscriber, "a", QoS::AtLeastOnce);
        world.expect_nothing(subscriber);
        // One that comes alone, from the shard that keeps it, leaves nothing to send.
        world.post(publisher, &Post::retained("b", &large, QoS::AtMostOnce));
        world.subscribe(subscriber, "b", QoS::AtMostOnce);
        world.expect_nothing(subscriber);
        assert_eq!(world.snapshot().counters.dropped_too_large, 6);
    });
}

#[test]
fn what_is_larger_than_the_broker_takes_ends_the_connection() {
    let settings = Settings { packet_bytes_max: 200, ..plain() };
    everywhere(&settings, |world| {
        let (client, welcome) = world.connect_with(&Connect::new(Version::V5, "client"));
        assert_eq!(welcome.packet_bytes_max, Some(200));
        world.publish(client, "a", &"x".repeat(190), QoS::AtMostOnce);
        world.expect_alive(client);
        world.say(client, &Post::new("a", &"x".repeat(200), QoS::AtMostOnce));
        world.settle();
        world.expect_end(client, ReasonCode::PacketTooLarge);
        assert_eq!(world.snapshot().counters.rejected_packet_too_large, 1);
    });
}

/// Behind a retained stream QoS 0 waits in the queue; one that comes when the stream is over but
/// the window is full must not pass it.
#[test]
fn qos_0_messages_of_one_publisher_stay_in_order() {
    let settings = Settings { inflight_max: 1, ..plain() };
    everywhere(&settings, |world| {
        let publisher = world.connect("publisher", Version::V5);
        for n in 0..3 {
            world.retain(publisher, &format!("r/{n}"), "kept");
        }
        let subscriber = world.connect("subscriber", Version::V5);
        world.answer(subscriber, Answers::None);
        world.subscribe(subscriber, "a", QoS::AtLeastOnce);
        world.subscribe(subscriber, "r/+", QoS::AtLeastOnce);
        // One retained message fills the window; the others hold what is live.
        world.publish(publisher, "a", "1", QoS::AtLeastOnce);
        world.publish(publisher, "a", "2", QoS::AtLeastOnce);
        world.publish(publisher, "a", "first", QoS::AtMostOnce);
        let first = world.take_messages(subscriber);
        assert_eq!(first.len(), 1);
        let mut ids: Vec<_> = first.iter().filter_map(|message| message.packet_id).collect();
        let mut texts = Vec::new();
        for n in 0..6 {
            let Some(id) = ids.pop().and_then(PacketId::new) else { break };
            let mut reply = Vec::new();
            world.clients[subscriber].acknowledge(id, &mut reply);
            world.write(subscriber, |out| out.extend_from_slice(&reply));
            world.settle();
            if n == 2 {
                // The stream is over, QoS 1 is in flight and QoS 0 behind it.
                world.publish(publisher, "a", "second", QoS::AtMostOnce);
            }
            for message in world.take_messages(subscriber) {
                ids.extend(message.packet_id);
                texts.push(message.text().to_owned());
            }
        }
        let qos_0: Vec<_> = texts.iter().filter(|text| text.len() > 4).collect();
        assert_eq!(qos_0, ["first", "second"]);
    });
}

/// PUBREL waits until the store has both noted the release and let go of the message: were only the end
/// of the exchange kept, the message would come again after a crash.
#[test]
fn pubrel_waits_until_the_message_is_gone_from_the_store() {
    let settings = Settings { is_durable: true, ..plain() };
    let mut world = World::new(1, None, &settings);
    let (subscriber, _) = world.connect_with(&keeping(Version::V5, "subscriber", 100));
    world.subscribe(subscriber, "a", QoS::ExactlyOnce);
    world.answer(subscriber, Answers::None);
    let publisher = world.connect("publisher", Version::V5);
    world.publish(publisher, "a", "x", QoS::ExactlyOnce);
    let id = world.expect_publish(subscriber, "a", "x").packet_id.and_then(PacketId::new);
    let id = id.expect("QoS 2 has an identifier");
    world.is_store_held = true;
    let mut pubrec = Vec::new();
    world.clients[subscriber].ack(AckKind::Pubrec, id, ReasonCode::Success, &mut pubrec);
    world.write(subscriber, |out| out.extend_from_slice(&pubrec));
    world.settle();
    assert_eq!(world.pending_store_count(), 2);
    world.is_store_held = false;
    world.stir(1);
    world.is_store_held = true;
    world.settle();
    assert_eq!(world.pending_store_count(), 1);
    assert!(world.clients[subscriber].got.is_empty(), "PUBREL went before the message was gone");
    world.is_store_held = false;
    world.settle();
    let got = world.clients[subscriber].got.pop_front();
    assert!(matches!(got, Some(Got::Ack(AckKind::Pubrel, ..))), "{got:?}");
}
