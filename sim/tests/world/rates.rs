//! Clients that publish faster than they may wait, and lose nothing.

use shards::codec::{self, Connect};
use shards::ids::{QoS, Version};
use shards::limits::{ListenerSettings, Settings};

use sim::client::Got;
use sim::drive::{Post, QOS, VERSIONS, everywhere, plain, seconds};
use sim::world::World;

/// The second listener has these limits.
fn limited(publishes_per_s: Option<u32>, bytes_per_s: Option<u32>) -> Settings {
    let second = ListenerSettings { publishes_per_s, bytes_per_s, ..ListenerSettings::default() };
    Settings { listeners: vec![ListenerSettings::default(), second], ..plain() }
}

fn connect_limited(world: &mut World, name: &'static str, version: Version) -> usize {
    world.listener = 1;
    let client = world.connect(name, version);
    world.listener = 0;
    client
}

fn say_many(world: &mut World, sender: usize, numbers: std::ops::Range<u32>, qos: QoS) {
    for number in numbers {
        world.say(sender, &Post::new("a", &number.to_string(), qos));
    }
    world.settle();
}

fn count(world: &mut World, client: usize) -> usize {
    world.take_messages(client).len()
}

/// Long after everything has been worked on: the bucket is full again.
fn rest(world: &mut World) {
    world.advance(seconds(60));
}

#[test]
fn a_seconds_worth_comes_at_once_and_the_rest_at_its_rate() {
    everywhere(&limited(Some(4), None), |world| {
        for version in VERSIONS {
            for qos in QOS {
                let watcher = world.connect("watcher", Version::V5);
                world.subscribe(watcher, "a", QoS::AtLeastOnce);
                let fast = connect_limited(world, "fast", version);
                say_many(world, fast, 0..14, qos);
                let mut all = world.take_messages(watcher);
                assert_eq!(all.len(), 4);
                // One after a quarter of a second, or up to a tick of the clock later.
                world.advance(seconds(1) / 4 - seconds(1) / 1000);
                world.expect_nothing(watcher);
                world.advance(seconds(1) / 50);
                all.extend(world.take_messages(watcher));
                assert_eq!(all.len(), 5);
                world.advance(seconds(1));
                all.extend(world.take_messages(watcher));
                assert_eq!(all.len(), 9);
                world.advance(seconds(2));
                all.extend(world.take_messages(watcher));
                let texts: Vec<_> = all.iter().map(|message| message.text()).collect();
                let expected: Vec<_> = (0..14).map(|number| number.to_string()).collect();
                assert_eq!(texts, expected, "in order, and none is lost");
                rest(world);
                world.clients[fast].got.clear();
                world.expect_alive(fast);
                world.disconnect(fast);
                world.disconnect(watcher);
            }
        }
    });
}

/// Packets of one topic behind each other count one by one.
#[test]
fn a_run_is_cut_where_the_limit_is() {
    everywhere(&limited(Some(100), None), |world| {
        let watcher = world.connect("watcher", Version::V311);
        world.subscribe(watcher, "a", QoS::AtMostOnce);
        let fast = connect_limited(world, "fast", Version::V311);
        say_many(world, fast, 0..250, QoS::AtMostOnce);
        assert_eq!(count(world, watcher), 100);
        world.advance(seconds(1));
        let more = count(world, watcher);
        assert!((98..=100).contains(&more), "{more}: a few ticks of the clock at most");
        world.advance(seconds(1));
        assert_eq!(more + count(world, watcher), 150);
        assert!(world.snapshot().counters.paused_rate_limited > 0);
    });
}

#[test]
fn bytes_are_counted_as_well() {
    everywhere(&limited(None, Some(1000)), |world| {
        let watcher = world.connect("watcher", Version::V311);
        world.subscribe(watcher, "a", QoS::AtMostOnce);
        let fast = connect_limited(world, "fast", Version::V311);
        // 105 bytes each: nine, and then one in a little more than a tenth of a second.
        let payload = "x".repeat(100);
        for _ in 0..20 {
            world.say(fast, &Post::new("a", &payload, QoS::AtMostOnce));
        }
        world.settle();
        assert_eq!(count(world, watcher), 9);
        world.advance(seconds(1));
        let more = count(world, watcher);
        assert!((8..=10).contains(&more), "{more}");
        rest(world);
        assert_eq!(count(world, watcher), 11 - more);
        // One that is larger than all that may come in a second comes alone, and others wait for it.
        let large = "x".repeat(9000);
        world.say(fast, &Post::new("a", &large, QoS::AtMostOnce));
        world.say(fast, &Post::new("a", "after", QoS::AtMostOnce));
        world.settle();
        assert_eq!(count(world, watcher), 1);
        world.advance(seconds(8));
        world.expect_nothing(watcher);
        world.advance(seconds(1));
        world.expect_publish(watcher, "a", "after");
    });
}

/// A packet in pieces waits as a whole one does.
#[test]
fn a_cut_packet_waits_too() {
    everywhere(&limited(Some(1), None), |world| {
        let watcher = world.connect("watcher", Version::V5);
        world.subscribe(watcher, "a", QoS::AtLeastOnce);
        let fast = connect_limited(world, "fast", Version::V5);
        world.publish(fast, "a", "0", QoS::AtLeastOnce);
        count(world, watcher);
        let mut bytes = Vec::new();
        let payload = "x".repeat(9000);
        codec::Publish::new("a", payload.as_bytes()).encode(Version::V5, &mut bytes);
        codec::Publish::new("a", b"last").encode(Version::V5, &mut bytes);
        let (head, tail) = bytes.split_at(5000);
        world.write(fast, |out| out.extend_from_slice(head));
        world.settle();
        world.write(fast, |out| out.extend_from_slice(tail));
        world.settle();
        world.expect_nothing(watcher);
        world.advance(seconds(1) + seconds(1) / 50);
        let messages = world.take_messages(watcher);
        assert_eq!(messages.len(), 1);
        assert_eq!(messages[0].payload.len(), 9000);
        world.advance(seconds(1) + seconds(1) / 50);
        world.expect_publish(watcher, "a", "last");
    });
}

/// Who waits is not taken for gone, whether what it sends is read or waits in its socket.
#[test]
fn keep_alive_is_not_over_while_the_broker_does_not_listen() {
    everywhere(&limited(Some(1), None), |world| {
        for (payload_bytes, name) in [(10, "small"), (4000, "large")] {
            let payload = "x".repeat(payload_bytes);
            world.listener = 1;
            let connect = Connect { keep_alive_s: 4, ..Connect::new(Version::V5, name) };
            let (fast, _) = world.connect_with(&connect);
            for _ in 0..30 {
                world.say(fast, &Post::new("a", &payload, QoS::AtMostOnce));
            }
            // It goes on saying that it is there.
            for _ in 0..40 {
                world.write(fast, |out| out.extend_from_slice(&codec::PINGREQ));
                world.advance(seconds(1));
            }
            assert!(!world.clients[fast].is_ended, "{name}");
            let got = std::mem::take(&mut world.clients[fast].got);
            assert_eq!(got.iter().filter(|got| **got == Got::Pingresp).count(), 40);
            // And is gone when it does not.
            world.advance(seconds(10));
            assert!(world.clients[fast].is_ended, "{name}");
            world.clients[fast].got.clear();
        }
    });
}

#[test]
fn others_do_not_notice_and_answers_come() {
    everywhere(&limited(Some(1), None), |world| {
        let watcher = world.connect("watcher", Version::V5);
        world.subscribe(watcher, "#", QoS::AtMostOnce);
        let fast = connect_limited(world, "fast", Version::V5);
        let other = connect_limited(world, "other", Version::V5);
        let free = world.connect("free", Version::V5);
        world.subscribe(fast, "b", QoS::AtLeastOnce);
        say_many(world, fast, 0..10, QoS::AtMostOnce);
        world.publish(other, "b", "1", QoS::AtLeastOnce);
        for _ in 0..50 {
            world.publish(free, "b", "2", QoS::AtLeastOnce);
        }
        assert_eq!(count(world, watcher), 1 + 1 + 50);
        assert_eq!(count(world, fast), 51, "it is sent to all the same");
        assert_eq!(world.snapshot().counters.paused_rate_limited, 1);
    });
}

/// What a client has sent before its end counts, however long it takes.
#[test]
fn nothing_is_lost_when_the_client_says_good_bye() {
    everywhere(&limited(Some(10), None), |world| {
        let watcher = world.connect("watcher", Version::V5);
        world.subscribe(watcher, "a", QoS::AtMostOnce);
        for is_polite in [true, false] {
            let fast = connect_limited(world, "fast", Version::V311);
            say_many(world, fast, 0..50, QoS::AtMostOnce);
            if is_polite {
                world.disconnect(fast);
            }
            world.cut(fast);
            assert_eq!(count(world, watcher), 10);
            rest(world);
            assert_eq!(count(world, watcher), 40);
            assert_eq!(world.snapshot().gauges.connections, 1);
        }
    });
}

/// A newer connection of the client does not wait for that.
#[test]
fn a_take_over_does_not_wait() {
    everywhere(&limited(Some(1), None), |world| {
        let fast = connect_limited(world, "fast", Version::V5);
        say_many(world, fast, 0..50, QoS::AtMostOnce);
        let newer = connect_limited(world, "fast", Version::V5);
        world.expect_alive(newer);
        assert!(world.clients[fast].is_ended);
        rest(world);
        world.expect_alive(newer);
    });
}

#[test]
fn the_log_is_told_once_for_each_burst() {
    everywhere(&limited(Some(2), None), |world| {
        let fast = connect_limited(world, "fast", Version::V311);
        say_many(world, fast, 0..10, QoS::AtMostOnce);
        world.advance(seconds(3));
        assert_eq!(world.rate_note_count, 1);
        rest(world);
        say_many(world, fast, 0..10, QoS::AtMostOnce);
        rest(world);
        assert_eq!(world.rate_note_count, 2);
    });
}
