//! Clients that take more than their share: each ends at a bound that has a name, and holds no more
//! memory than it.

use shards::codec::{Connect, Property, Publish, SubscribeOptions};
use shards::ids::{PacketId, QoS, Version};
use shards::limits::{OverflowPolicy, Settings};
use shards::reject::ReasonCode;

use sim::client::Answers;
use sim::drive::{Post, VERSIONS, everywhere, plain, seconds};

/// A CONNECT of exactly `bytes` bytes, by means of its password.
fn connect_of(version: Version, bytes: usize) -> Vec<u8> {
    let password = vec![b'x'; bytes];
    let encode = |count: usize| {
        let connect = Connect {
            user_name: Some("user"),
            password: Some(&password[..count]),
            ..Connect::new(version, "client")
        };
        let mut out = Vec::new();
        connect.encode(&mut out);
        out
    };
    let over = encode(bytes).len() - bytes;
    let connect = encode(bytes - over);
    assert_eq!(connect.len(), bytes, "the length of the remaining length is the same");
    connect
}

#[test]
fn the_first_packet_has_a_bound_of_its_own() {
    let settings = Settings { connect_packet_bytes_max: 1000, ..plain() };
    everywhere(&settings, |world| {
        for version in VERSIONS {
            let fits = world.open("client", version);
            world.write(fits, |out| out.extend(connect_of(version, 1000)));
            world.settle();
            assert_eq!(world.expect_welcome(fits).reason, ReasonCode::Success);
            // Later packets may be larger.
            world.say(fits, &Post::new("a", &"x".repeat(5000), QoS::AtMostOnce));
            world.settle();
            world.expect_alive(fits);
            world.disconnect(fits);
            // What is announced is enough: nothing waits for the rest.
            let large = world.open("client", version);
            world.write(large, |out| out.extend_from_slice(&connect_of(version, 1001)[..5]));
            world.settle();
            assert!(world.clients[large].is_ended);
            assert!(world.clients[large].got.is_empty());
        }
        assert_eq!(world.snapshot().counters.rejected_packet_too_large, 3);
    });
}

/// Forty bytes each, with their topic.
fn numbered(n: u32) -> String {
    format!("{n}{}", "x".repeat(38))
}

#[test]
fn what_is_not_acknowledged_counts_against_the_bound_in_bytes() {
    for overflow in [OverflowPolicy::DropNewest, OverflowPolicy::DropOldest, OverflowPolicy::Refuse]
    {
        let settings = Settings { queue_bytes_max: 100, overflow, ..plain() };
        everywhere(&settings, |world| {
            let publisher = world.connect("publisher", Version::V5);
            for qos in [QoS::AtLeastOnce, QoS::ExactlyOnce] {
                let subscriber = world.connect("subscriber", Version::V5);
                world.subscribe(subscriber, "a", qos);
                world.answer(subscriber, Answers::None);
                for n in 0..5 {
                    let reason = world.post(publisher, &Post::new("a", &numbered(n), qos));
                    let is_refused = n >= 2 && overflow == OverflowPolicy::Refuse;
                    assert_eq!(reason == ReasonCode::QuotaExceeded, is_refused, "{n}: {reason:?}");
                }
                let gauges = world.snapshot().gauges;
                assert_eq!((gauges.messages_kept, gauges.messages_kept_bytes), (2, 80));
                // Small ones still find room behind those in flight.
                world.publish(publisher, "a", "small", qos);
                let messages = world.take_messages(subscriber);
                let texts: Vec<_> = messages.iter().map(|message| message.text()).collect();
                assert_eq!(texts, [&numbered(0), &numbered(1), "small"]);
                world.disconnect(subscriber);
            }
            let counters = world.snapshot().counters;
            let dropped = counters.dropped_queue_newest + counters.refused_queue_full;
            assert_eq!((dropped, counters.dropped_queue_oldest), (6, 0));
        });
    }
}

#[test]
fn retained_messages_wait_for_acknowledgements_at_the_bound_in_bytes() {
    let settings = Settings { queue_bytes_max: 100, ..plain() };
    everywhere(&settings, |world| {
        let publisher = world.connect("publisher", Version::V5);
        for n in 0..9 {
            world.retain(publisher, &format!("r/{n}"), &numbered(n));
        }
        let subscriber = world.connect("subscriber", Version::V5);
        world.answer(subscriber, Answers::None);
        let options = SubscribeOptions::new(QoS::AtLeastOnce);
        world.subscribe_with(subscriber, None, &[("r/+", options)]);
        let first = world.take_messages(subscriber);
        assert_eq!(first.len(), 2);
        world.answer(subscriber, Answers::All);
        for message in &first {
            let id = message.packet_id.and_then(PacketId::new).expect("QoS 1");
            let mut reply = Vec::new();
            world.clients[subscriber].acknowledge(id, &mut reply);
            world.write(subscriber, |out| out.extend(reply));
        }
        world.settle();
        assert_eq!(world.take_messages(subscriber).len(), 7);
        for n in 0..9 {
            world.retain(publisher, &format!("r/{n}"), "");
        }
    });
}

#[test]
fn aliases_are_bounded_by_the_bytes_of_their_topics() {
    let settings = Settings { topic_alias_bytes_max: 20, topic_alias_out_max: 9, ..plain() };
    everywhere(&settings, |world| {
        let connect = Connect { topic_alias_max: 9, ..Connect::new(Version::V5, "subscriber") };
        let (subscriber, _) = world.connect_with(&connect);
        world.subscribe(subscriber, "#", QoS::AtLeastOnce);
        let publisher = world.connect("publisher", Version::V5);
        // The third topic is beyond the bound, until another alias has made room for it. Towards the
        // subscriber an alias stays with its topic for good.
        let eight = ["a-345678", "b-345678", "c-345678", "d-345678"];
        for (alias, topic, want) in [
            (1, eight[0], Some((1, true))),
            (2, eight[1], Some((2, true))),
            (2, eight[2], None),
            (1, eight[3], None),
            (1, eight[1], Some((2, false))),
            (2, "e", Some((3, true))),
            (3, eight[0], Some((1, false))),
        ] {
            let properties = &[Property::TopicAlias(alias)];
            let post = Post { properties, ..Post::new(topic, "x", QoS::AtLeastOnce) };
            assert_eq!(world.post(publisher, &post), ReasonCode::Success);
            assert_eq!(world.expect_publish(subscriber, topic, "x").alias, want, "{topic}");
        }
        let properties = &[Property::TopicAlias(4)];
        world.say(publisher, &Post { properties, ..Post::new("1234", "x", QoS::AtMostOnce) });
        world.settle();
        world.expect_end(publisher, ReasonCode::QuotaExceeded);
        assert_eq!(world.snapshot().counters.rejected_quota, 1);
        world.expect_nothing(subscriber);
    });
}

/// The keep alive asks for packets, not for bytes [MQTT-3.1.2-22].
#[test]
fn a_packet_that_comes_byte_by_byte_is_silence() {
    everywhere(&plain(), |world| {
        let mut packet = Vec::new();
        let publish = Publish::new("a", &[b'x'; 8000]);
        publish.encode(Version::V5, &mut packet);
        for (pieces, is_heard) in [(1, false), (300, false), (1024, true), (2500, true)] {
            let connect = Connect { keep_alive_s: 10, ..Connect::new(Version::V5, "client") };
            let (client, _) = world.connect_with(&connect);
            for piece in packet.chunks(pieces).take(3) {
                world.write(client, |out| out.extend_from_slice(piece));
                world.settle();
                world.advance(seconds(7));
            }
            assert_eq!(world.clients[client].is_ended, !is_heard, "pieces of {pieces} bytes");
            if is_heard {
                world.write(client, |out| out.extend_from_slice(&packet[3 * pieces..]));
                world.settle();
                world.expect_alive(client);
                world.disconnect(client);
            } else {
                world.expect_end(client, ReasonCode::KeepAliveTimeout);
            }
        }
        assert_eq!(world.snapshot().counters.keep_alive_timeouts, 2);
    });
}
