//! Packets of one topic that come together are routed together, and nobody can tell: each subscriber
//! gets what it would have got of them one by one, and the counters say the same.

use shards::codec::{Connect, Publish, SubscribeOptions};
use shards::ids::{QoS, Version};
use shards::limits::Settings;

use sim::drive::{everywhere, keeping, plain};
use sim::world::World;

/// Who listens beside a plain subscriber of the publisher's own protocol.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Other {
    Nobody,
    /// MQTT 5.0 and 3.1.1.
    Protocol(Version),
    Aliases,
    SmallPackets,
    SubscriptionId,
    TheSameTwice,
    NoLocalPublisher,
    Publisher,
    Offline,
    SharedGroup,
}

const OTHERS: [Other; 11] = [
    Other::Nobody,
    Other::Protocol(Version::V311),
    Other::Protocol(Version::V5),
    Other::Aliases,
    Other::SmallPackets,
    Other::SubscriptionId,
    Other::TheSameTwice,
    Other::NoLocalPublisher,
    Other::Publisher,
    Other::Offline,
    Other::SharedGroup,
];

const TOPIC: &str = "a/b";

/// Lengths differ, and the long one is too large for some.
fn payloads() -> Vec<String> {
    ["0", "", "22", &"3".repeat(200), "4"].map(str::to_owned).to_vec()
}

/// The other client, which may be the publisher, if it looks at what comes.
fn other(world: &mut World, other: Other, publisher: usize) -> Option<usize> {
    let v5 = Connect::new(Version::V5, "other");
    let options = SubscribeOptions::new(QoS::AtLeastOnce);
    let connect = match other {
        Other::Nobody => return None,
        Other::Publisher | Other::NoLocalPublisher => {
            let no_local = other == Other::NoLocalPublisher;
            let options = SubscribeOptions { no_local, ..options };
            world.subscribe_with(publisher, None, &[(TOPIC, options)]);
            return Some(publisher);
        }
        Other::Offline => {
            let (client, _) = world.connect_with(&keeping(Version::V5, "other", 100));
            world.subscribe(client, TOPIC, QoS::AtMostOnce);
            world.cut(client);
            return None;
        }
        Other::Protocol(version) => Connect::new(version, "other"),
        Other::Aliases => Connect { topic_alias_max: 3, ..v5 },
        Other::SmallPackets => Connect { packet_bytes_max: Some(100), ..v5 },
        Other::SubscriptionId | Other::TheSameTwice | Other::SharedGroup => v5,
    };
    let (client, _) = world.connect_with(&connect);
    let id = (other == Other::SubscriptionId).then_some(7);
    let filter = if other == Other::SharedGroup { "$share/g/a/+" } else { TOPIC };
    world.subscribe_with(client, id, &[(filter, options)]);
    if other == Other::TheSameTwice {
        world.subscribe_with(client, None, &[("a/#", options)]);
    }
    Some(client)
}

/// What everybody got and what was counted.
fn outcome(world: &mut World, version: Version, kind: Other, is_together: bool) -> String {
    let publisher = world.connect("publisher", version);
    let subscriber = world.connect("subscriber", version);
    world.subscribe(subscriber, TOPIC, QoS::AtMostOnce);
    let other = other(world, kind, publisher);
    let before = world.snapshot().counters;
    let mut packets: Vec<Vec<u8>> = Vec::new();
    for payload in payloads() {
        let mut packet = Vec::new();
        Publish::new(TOPIC, payload.as_bytes()).encode(version, &mut packet);
        packets.push(packet);
    }
    if is_together {
        packets = vec![packets.concat()];
    }
    for bytes in packets {
        world.write(publisher, |out| out.extend_from_slice(&bytes));
        world.settle();
    }
    let after = world.snapshot().counters;
    let mut told = format!("{:?}", world.take_texts(subscriber));
    if let Some(other) = other {
        for message in world.take_messages(other) {
            told += &format!("\n{} {:?} {:?}", message.text(), message.ids, message.alias);
        }
    }
    let counted = [
        after.packets_received - before.packets_received,
        after.messages_received - before.messages_received,
        after.messages_sent - before.messages_sent,
        after.messages_unmatched - before.messages_unmatched,
        after.dropped_offline - before.dropped_offline,
        after.dropped_too_large - before.dropped_too_large,
    ];
    for client in [publisher, subscriber].into_iter().chain(other.filter(|&it| it != publisher)) {
        world.disconnect(client);
    }
    world.settle();
    format!("{told}\n{counted:?}")
}

#[test]
fn nobody_can_tell_packets_that_came_together() {
    for version in [Version::V311, Version::V5] {
        for kind in OTHERS {
            if version != Version::V5 && kind == Other::NoLocalPublisher {
                continue;
            }
            everywhere(&plain(), |world| {
                let singly = outcome(world, version, kind, false);
                let together = outcome(world, version, kind, true);
                assert_eq!(together, singly, "{version:?} {kind:?}");
                assert!(singly.contains("b=22\", \"a/b=333"), "{singly}");
            });
        }
    }
}

#[test]
fn a_topic_without_subscribers_counts_each_packet() {
    everywhere(&plain(), |world| {
        let publisher = world.connect("publisher", Version::V311);
        let mut packet = Vec::new();
        Publish::new(TOPIC, b"x").encode(Version::V311, &mut packet);
        world.write(publisher, |out| out.extend_from_slice(&packet.repeat(9)));
        world.settle();
        let counters = world.snapshot().counters;
        assert_eq!((counters.messages_received, counters.messages_unmatched), (9, 9));
    });
}

#[test]
fn what_a_stalled_subscriber_loses_is_counted_message_by_message() {
    let settings = Settings { out_bytes_max: 2000, ..plain() };
    everywhere(&settings, |world| {
        let stalled = world.connect("stalled", Version::V311);
        let quick = world.connect("quick", Version::V311);
        world.subscribe(stalled, TOPIC, QoS::AtMostOnce);
        world.subscribe(quick, TOPIC, QoS::AtMostOnce);
        world.stall(stalled);
        let publisher = world.connect("publisher", Version::V311);
        let payload = "x".repeat(100);
        let mut packet = Vec::new();
        Publish::new(TOPIC, payload.as_bytes()).encode(Version::V311, &mut packet);
        let mut sent = 0;
        for count in [2, 3, 5, 8, 13] {
            world.write(publisher, |out| out.extend_from_slice(&packet.repeat(count)));
            sent += count;
            world.settle();
        }
        assert_eq!(world.take_texts(quick).len(), sent, "the others are not held up");
        world.unstall(stalled);
        world.settle();
        let got = world.take_texts(stalled).len();
        let dropped = world.snapshot().counters.dropped_output_full;
        assert!(dropped > 0 && got > 0, "{got} came, {dropped} were dropped");
        assert_eq!(got as u64 + dropped, sent as u64);
    });
}

#[test]
fn a_run_takes_no_more_than_its_share_of_a_turn() {
    let settings = Settings { turn_packets_max: 4, ..plain() };
    everywhere(&settings, |world| {
        let subscriber = world.connect("subscriber", Version::V311);
        world.subscribe(subscriber, TOPIC, QoS::AtMostOnce);
        let publisher = world.connect("publisher", Version::V311);
        let mut packet = Vec::new();
        Publish::new(TOPIC, b"x").encode(Version::V311, &mut packet);
        let before = world.snapshot().counters;
        world.write(publisher, |out| out.extend_from_slice(&packet.repeat(100)));
        let mut most = 0;
        let mut received = before.packets_received;
        while world.take_texts(subscriber).len() < 100 && received < before.packets_received + 100 {
            world.stir(1);
            let now = world.snapshot().counters.packets_received;
            most = most.max(now - received);
            received = now;
        }
        // A share when bytes come, and one when that ends the batch.
        assert!((1..=8).contains(&most), "{most} packets in one step");
        world.settle();
        assert!(world.snapshot().counters.paused_turn_spent >= 100 / 4);
    });
}
