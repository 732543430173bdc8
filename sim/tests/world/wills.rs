//! Wills: when they are published and when not.

use shards::codec::{Connect, Disconnect, MessageProperties, PINGREQ, Will};
use shards::ids::{QoS, Version};
use shards::limits::Settings;
use shards::reject::ReasonCode;

use sim::drive::{QOS, VERSIONS, everywhere, keeping, plain, seconds};
use sim::world::World;

fn will(delay_s: u32) -> Will<'static> {
    Will { qos: QoS::AtLeastOnce, delay_s, ..Will::new("will/x", b"gone") }
}

/// A client with a will, and somebody who waits for it.
fn with_will(world: &mut World, connect: &Connect<'static>) -> (usize, usize) {
    let watcher = world.connect("watcher", Version::V5);
    world.subscribe(watcher, "will/+", QoS::ExactlyOnce);
    (world.connect_with(connect).0, watcher)
}

#[test]
fn a_lost_connection_publishes_the_will() {
    everywhere(&plain(), |world| {
        for version in VERSIONS {
            for qos in QOS {
                for retain in [false, true] {
                    let will = Will { qos, retain, ..will(0) };
                    let connect = Connect { will: Some(will), ..Connect::new(version, "mortal") };
                    let (mortal, watcher) = with_will(world, &connect);
                    world.cut(mortal);
                    assert_eq!(world.expect_publish(watcher, "will/x", "gone").qos, qos);
                    let kept = world.snapshot().gauges.retained_messages;
                    assert_eq!(kept, u64::from(retain));
                    if retain {
                        world.retain(watcher, "will/x", "");
                        world.take_messages(watcher);
                    }
                    world.disconnect(watcher);
                }
            }
        }
    });
}

#[test]
fn disconnect_drops_the_will_unless_it_says_otherwise() {
    everywhere(&plain(), |world| {
        for version in VERSIONS {
            let connect = Connect { will: Some(will(0)), ..Connect::new(version, "mortal") };
            let (mortal, watcher) = with_will(world, &connect);
            world.disconnect(mortal);
            world.expect_nothing(watcher);
            world.disconnect(watcher);
        }
        let connect = Connect { will: Some(will(0)), ..Connect::new(Version::V5, "mortal") };
        let (mortal, watcher) = with_will(world, &connect);
        world.disconnect_with(mortal, &Disconnect::new(ReasonCode::DisconnectWithWill));
        world.expect_publish(watcher, "will/x", "gone");
    });
}

#[test]
fn a_protocol_error_publishes_the_will() {
    everywhere(&plain(), |world| {
        let connect = Connect { will: Some(will(0)), ..Connect::new(Version::V5, "mortal") };
        let (mortal, watcher) = with_will(world, &connect);
        world.write(mortal, |out| out.extend_from_slice(&[0xD0, 0]));
        world.settle();
        world.expect_end(mortal, ReasonCode::ProtocolError);
        world.expect_publish(watcher, "will/x", "gone");
    });
}

#[test]
fn a_delayed_will_waits() {
    everywhere(&plain(), |world| {
        let connect = Connect { will: Some(will(10)), ..keeping(Version::V5, "mortal", 100) };
        let (mortal, watcher) = with_will(world, &connect);
        world.cut(mortal);
        world.advance(seconds(9));
        world.expect_nothing(watcher);
        world.advance(seconds(2));
        world.expect_publish(watcher, "will/x", "gone");
        world.advance(seconds(200));
        world.expect_nothing(watcher);
    });
}

#[test]
fn a_new_connection_to_the_session_cancels_a_delayed_will() {
    everywhere(&plain(), |world| {
        let connect = Connect { will: Some(will(10)), ..keeping(Version::V5, "mortal", 100) };
        let (mortal, watcher) = with_will(world, &connect);
        world.cut(mortal);
        world.advance(seconds(9));
        let without = keeping(Version::V5, "mortal", 100);
        assert!(world.reconnect(mortal, &without).session_present);
        world.advance(seconds(100));
        world.expect_nothing(watcher);
        world.cut(mortal);
        world.advance(seconds(200));
        world.expect_nothing(watcher);
    });
}

#[test]
fn the_end_of_the_session_publishes_a_will_before_its_delay() {
    everywhere(&plain(), |world| {
        let connect = Connect { will: Some(will(100)), ..keeping(Version::V5, "mortal", 10) };
        let (mortal, watcher) = with_will(world, &connect);
        world.cut(mortal);
        world.advance(seconds(9));
        world.expect_nothing(watcher);
        world.advance(seconds(2));
        world.expect_publish(watcher, "will/x", "gone");
        // A session without expiry ends at once.
        let connect = Connect { will: Some(will(100)), ..Connect::new(Version::V5, "mortal") };
        let (mortal, _) = world.connect_with(&connect);
        world.cut(mortal);
        world.expect_publish(watcher, "will/x", "gone");
        // A clean start ends the one that waits.
        let connect = Connect { will: Some(will(100)), ..keeping(Version::V5, "mortal", 1000) };
        let (mortal, _) = world.connect_with(&connect);
        world.cut(mortal);
        world.expect_nothing(watcher);
        world.connect("mortal", Version::V5);
        world.expect_publish(watcher, "will/x", "gone");
    });
}

/// MQTT 5.0 section 3.1.4: the four cases of a take-over.
#[test]
fn a_take_over_publishes_the_will_unless_it_is_delayed_and_the_session_goes_on() {
    everywhere(&plain(), |world| {
        for (delay_s, expiry_s, clean_start, comes) in [
            (0, 100, false, true),
            (0, 0, false, true),
            (10, 100, false, false),
            (10, 100, true, true),
            (10, 0, false, true),
        ] {
            let connect =
                Connect { will: Some(will(delay_s)), ..keeping(Version::V5, "mortal", expiry_s) };
            let (_, watcher) = with_will(world, &connect);
            let next = Connect { clean_start, ..keeping(Version::V5, "mortal", 0) };
            let (second, _) = world.connect_with(&next);
            let messages = world.take_messages(watcher);
            assert_eq!(messages.len(), usize::from(comes), "{delay_s} {expiry_s} {clean_start}");
            world.advance(seconds(200));
            world.expect_nothing(watcher);
            world.disconnect(second);
            world.disconnect(watcher);
        }
    });
}

#[test]
fn a_will_carries_its_properties_but_not_its_delay() {
    everywhere(&plain(), |world| {
        let raw = &[2, 0, 0, 0, 9, 3, 0, 1, b'c'];
        let (properties, _) = MessageProperties::parse_will(raw).unwrap();
        let will = Will { properties, ..will(4) };
        let connect = Connect { will: Some(will), ..keeping(Version::V5, "mortal", 100) };
        let (mortal, watcher) = with_will(world, &connect);
        world.cut(mortal);
        world.advance(seconds(5));
        // Its expiry counts from its publication.
        assert_eq!(world.expect_publish(watcher, "will/x", "gone").expiry_s, Some(9));
    });
}

#[test]
fn a_will_that_may_not_be_published_refuses_the_connection() {
    everywhere(&plain(), |world| {
        for topic in ["forbidden/x", "$SYS/x"] {
            let client = world.open("mortal", Version::V5);
            let will = Will { topic, ..will(0) };
            let connect = Connect { will: Some(will), ..Connect::new(Version::V5, "mortal") };
            let welcome = world.greet(client, &connect);
            assert_eq!(welcome.reason, ReasonCode::NotAuthorized);
            assert!(world.clients[client].is_ended);
        }
    });
}

/// What a client says last holds, even if the broker was not listening to it when the connection ended.
#[test]
fn a_disconnect_behind_a_pause_drops_the_will() {
    let settings = Settings { out_bytes_max: 1, ..plain() };
    everywhere(&settings, |world| {
        for version in VERSIONS {
            let connect = Connect { will: Some(will(0)), ..Connect::new(version, "mortal") };
            let (mortal, watcher) = with_will(world, &connect);
            world.stall(mortal);
            for _ in 0..4 {
                world.write(mortal, |out| out.extend_from_slice(&PINGREQ));
                world.settle();
            }
            assert!(world.snapshot().counters.paused_output_full > 0);
            world.write(mortal, |out| {
                Disconnect::new(ReasonCode::Success).encode(version, out);
            });
            world.cut(mortal);
            world.unstall(mortal);
            world.expect_nothing(watcher);
            assert_eq!(world.snapshot().gauges.clients_connected, 1);
            world.disconnect(watcher);
        }
    });
}
