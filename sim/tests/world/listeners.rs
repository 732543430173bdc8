//! What an operator has settled for one listener holds there and nowhere else.

use shards::codec::Connect;
use shards::ids::{QoS, Version};
use shards::limits::{ListenerSettings, Settings, Versions};
use shards::reject::ReasonCode;

use sim::drive::{Post, VERSIONS, everywhere, plain};
use sim::world::World;

/// The first listener has the defaults, the second these.
fn with(second: ListenerSettings) -> Settings {
    Settings { listeners: vec![ListenerSettings::default(), second], ..plain() }
}

fn connect_through(
    world: &mut World,
    listener: u16,
    name: &'static str,
    version: Version,
) -> usize {
    world.listener = listener;
    world.connect(name, version)
}

#[test]
fn packets_are_as_large_as_the_listener_allows() {
    let second = ListenerSettings { packet_bytes_max: Some(100), ..ListenerSettings::default() };
    everywhere(&with(second), |world| {
        let payload = "x".repeat(100);
        world.listener = 1;
        let (_, welcome) = world.connect_with(&Connect::new(Version::V5, "told"));
        assert_eq!(welcome.packet_bytes_max, Some(100));
        for version in VERSIONS {
            let small = connect_through(world, 1, "small", version);
            // With its fixed header, topic and, in 5.0, properties.
            world.publish(small, "a", &payload[..93], QoS::AtMostOnce);
            world.expect_alive(small);
            world.say(small, &Post::new("a", &payload, QoS::AtMostOnce));
            world.settle();
            world.expect_end(small, ReasonCode::PacketTooLarge);
            let other = connect_through(world, 0, "other", version);
            world.publish(other, "a", &payload, QoS::AtMostOnce);
            world.expect_alive(other);
            // The first packet is no exception.
            world.listener = 1;
            let first = world.open("", version);
            let name = "n".repeat(100);
            world.say_connect(first, &Connect::new(version, &name));
            world.settle();
            assert!(world.clients[first].is_ended && world.clients[first].got.is_empty());
        }
    });
}

#[test]
fn a_listener_may_allow_more_than_the_others() {
    let second = ListenerSettings { packet_bytes_max: Some(4000), ..ListenerSettings::default() };
    let settings = Settings { packet_bytes_max: 100, ..with(second) };
    everywhere(&settings, |world| {
        let payload = "x".repeat(3000);
        let large = connect_through(world, 1, "large", Version::V311);
        world.publish(large, "a", &payload, QoS::AtLeastOnce);
        let small = connect_through(world, 0, "small", Version::V311);
        world.say(small, &Post::new("a", &payload, QoS::AtMostOnce));
        world.settle();
        world.expect_end(small, ReasonCode::PacketTooLarge);
    });
}

#[test]
fn versions_that_a_listener_does_not_speak_are_refused() {
    let versions = Versions::of(&[Version::V311]);
    let second = ListenerSettings { versions, ..ListenerSettings::default() };
    everywhere(&with(second), |world| {
        for version in VERSIONS {
            connect_through(world, 0, "all", version);
            world.listener = 1;
            let client = world.open("some", version);
            let welcome = world.greet(client, &Connect::new(version, "some"));
            if version == Version::V311 {
                assert_eq!(welcome.reason, ReasonCode::Success);
            } else {
                assert_eq!(welcome.reason, ReasonCode::UnsupportedProtocolVersion);
                assert!(world.clients[client].is_ended);
            }
        }
        assert_eq!(world.snapshot().counters.connects_refused, 2);
    });
}

/// Each shard has its share of the connections, so the first shard's is looked at here.
#[test]
fn a_listener_takes_no_more_connections_than_it_may() {
    let second = ListenerSettings { connections_max: Some(2), ..ListenerSettings::default() };
    for seed in [None, Some(1), Some(2)] {
        let mut world = World::new(1, seed, &with(second.clone()));
        let first = connect_through(&mut world, 1, "first", Version::V5);
        connect_through(&mut world, 1, "second", Version::V5);
        let third = world.open("third", Version::V5);
        world.settle();
        assert!(world.clients[third].is_ended && world.clients[third].got.is_empty());
        assert_eq!(world.snapshot().counters.connections_refused, 1);
        // Other listeners are not concerned, and a place that is left is free.
        connect_through(&mut world, 0, "other", Version::V5);
        world.disconnect(first);
        connect_through(&mut world, 1, "third", Version::V5);
        world.end();
    }
}
