//! Back-pressure and the promise behind SUBACK: tiny rings, large payloads, everybody at once.

use shards::codec::SubscribeOptions;
use shards::ids::{QoS, Version};
use shards::limits::{OverflowPolicy, Settings};

use sim::client::Got;
use sim::drive::{Post, QOS, everywhere, keeping, plain};
use sim::world::World;

const NAMES: [&str; 8] = ["n0", "n1", "n2", "n3", "n4", "n5", "n6", "n7"];

/// Rings so small that a handful of messages fill them.
fn tiny() -> Settings {
    Settings { mailbox_bytes: 64, ..plain() }
}

/// A client connected to each of eight shards or fewer, with a subscription.
fn crowd(world: &mut World, filter: &str) -> Vec<usize> {
    NAMES
        .into_iter()
        .map(|name| {
            let client = world.connect(name, Version::V5);
            world.subscribe(client, filter, QoS::ExactlyOnce);
            client
        })
        .collect()
}

#[test]
fn nothing_is_lost_when_everybody_floods_everybody() {
    everywhere(&tiny(), |world| {
        let clients = crowd(world, "#");
        for n in 0..40 {
            for (at, &client) in clients.iter().enumerate() {
                let payload = format!("{n:03}");
                world.say(client, &Post::new(NAMES[at], &payload, QOS[at % 3]));
            }
        }
        world.settle();
        for &client in &clients {
            let messages = world.take_messages(client);
            assert_eq!(messages.len(), 40 * clients.len());
            for name in NAMES {
                let of_one: Vec<_> = messages.iter().filter(|m| m.topic == name).collect();
                let texts: Vec<_> = of_one.iter().map(|message| message.text()).collect();
                let want: Vec<_> = (0..40).map(|n| format!("{n:03}")).collect();
                assert_eq!(texts, want, "what {name} published");
            }
        }
        let paused = world.snapshot().counters.paused_mailbox_full;
        assert_eq!(paused > 0, world.shard_count() > 1, "{paused} pauses");
    });
}

/// Every reason to pause at once: full rings, owed acknowledgements, clients whose output is full.
#[test]
fn all_reasons_to_pause_together_lose_nothing() {
    for is_durable in [false, true] {
        let settings = Settings {
            overflow: OverflowPolicy::Refuse,
            is_durable,
            receive_maximum: 2,
            inflight_max: 2,
            out_bytes_max: 40,
            ..tiny()
        };
        everywhere(&settings, |world| {
            let clients = NAMES.map(|name| {
                let connect = keeping(Version::V311, name, 0);
                let (client, _) = world.connect_with(&connect);
                world.subscribe(client, "#", QoS::ExactlyOnce);
                client
            });
            for n in 0..15 {
                for (at, &client) in clients.iter().enumerate() {
                    let qos = QOS[1 + (at + n) % 2];
                    world.say(client, &Post::new(NAMES[at], &format!("{n:03}"), qos));
                }
                if n % 5 == 0 {
                    world.stall(clients[n % 8]);
                }
                world.stir(20);
            }
            world.settle();
            for &client in &clients {
                world.unstall(client);
            }
            let want: Vec<_> = (0..15).map(|n| format!("{n:03}")).collect();
            for &client in &clients {
                let messages = world.take_messages(client);
                for name in NAMES {
                    let of_one = messages.iter().filter(|m| m.topic == name);
                    let texts: Vec<_> = of_one.map(|message| message.text()).collect();
                    assert_eq!(texts, want, "what {name} published");
                }
                assert!(world.clients[client].sent.is_empty(), "an acknowledgement is owed");
            }
            let counters = world.snapshot().counters;
            assert!(counters.paused_acks_pending > 0 || world.shard_count() == 1 && !is_durable);
            assert!(counters.paused_output_full > 0);
        });
    }
}

#[test]
fn a_paused_publisher_is_not_taken_for_silent() {
    let settings = Settings { receive_maximum: 1, is_durable: true, ..plain() };
    everywhere(&settings, |world| {
        world.is_store_held = true;
        let (subscriber, _) = world.connect_with(&keeping(Version::V5, "subscriber", 10_000));
        world.subscribe(subscriber, "a", QoS::AtLeastOnce);
        world.cut(subscriber);
        let connect = shards::codec::Connect {
            keep_alive_s: 10,
            ..shards::codec::Connect::new(Version::V311, "publisher")
        };
        let (publisher, _) = world.connect_with(&connect);
        let payload = "x".repeat(1000);
        for _ in 0..30 {
            world.say(publisher, &Post::new("a", &payload, QoS::AtLeastOnce));
        }
        for _ in 0..10 {
            world.advance(sim::drive::seconds(9));
            world.write(publisher, |out| out.extend_from_slice(&shards::codec::PINGREQ));
        }
        assert!(!world.clients[publisher].is_ended, "it has sent, and was not listened to");
        world.is_store_held = false;
        world.settle();
        let got: Vec<_> = world.clients[publisher].got.drain(..).collect();
        assert_eq!(got.iter().filter(|got| matches!(got, Got::Ack(..))).count(), 30);
        assert_eq!(got.iter().filter(|got| **got == Got::Pingresp).count(), 10);
    });
}

#[test]
fn large_payloads_cross_shards_whole() {
    for mailbox_bytes in [64, 128 * 1024] {
        let settings = Settings { mailbox_bytes, packet_bytes_max: 4 << 20, ..plain() };
        everywhere(&settings, |world| {
            let clients = crowd(world, "big/#");
            for (n, bytes) in [8191_usize, 8192, 8193, 100_000, 1 << 20].into_iter().enumerate() {
                let payload: String = (b'a'..=b'w').cycle().take(bytes).map(char::from).collect();
                let publisher = clients[n % clients.len()];
                world.publish(publisher, "big/x", &payload, QOS[n % 3]);
                for &client in &clients {
                    let messages = world.take_messages(client);
                    assert_eq!(messages.len(), 1);
                    assert!(messages[0].payload == payload.as_bytes(), "{bytes} bytes differ");
                }
            }
            world.retain(clients[0], "big/kept", &"y".repeat(300_000));
            for &client in &clients {
                world.take_messages(client);
            }
            world.subscribe(clients[7], "big/+", QoS::AtLeastOnce);
            assert_eq!(world.take_messages(clients[7])[0].payload.len(), 300_000);
            world.retain(clients[0], "big/kept", "");
            for &client in &clients {
                world.take_messages(client);
            }
        });
    }
}

/// After SUBACK a publish from anybody on any shard comes.
#[test]
fn after_suback_everything_is_routed() {
    for settings in [plain(), tiny()] {
        everywhere(&settings, |world| {
            let publishers = crowd(world, "elsewhere");
            for round in 0..10 {
                let subscriber = world.connect("subscriber", Version::V5);
                for &publisher in &publishers {
                    world.say(publisher, &Post::new("t", "before", QoS::AtMostOnce));
                }
                let options = SubscribeOptions::new(QoS::AtLeastOnce);
                world.say_subscribe(subscriber, None, &[("t/#", options)]);
                let acked = |world: &World| {
                    let mut got = world.clients[subscriber].got.iter();
                    got.any(|got| matches!(got, Got::Suback(..)))
                };
                while !acked(world) {
                    world.stir(1);
                }
                for (n, &publisher) in publishers.iter().enumerate() {
                    world.say(publisher, &Post::new("t", &format!("{n}"), QOS[(n + round) % 3]));
                }
                world.settle();
                let messages = world.take_messages(subscriber);
                for n in 0..publishers.len() {
                    let count = messages.iter().filter(|m| m.text() == n.to_string()).count();
                    assert_eq!(count, 1, "what publisher {n} sent after SUBACK");
                }
                world.disconnect(subscriber);
                for &publisher in &publishers {
                    world.clients[publisher].got.clear();
                }
            }
        });
    }
}

#[test]
fn a_stalled_subscriber_holds_up_nobody() {
    let settings = Settings { out_bytes_max: 300, queue_messages_max: 50, ..plain() };
    everywhere(&settings, |world| {
        let clients = crowd(world, "a");
        world.stall(clients[0]);
        for n in 0..100 {
            for qos in [QoS::AtMostOnce, QoS::AtLeastOnce] {
                world.publish(clients[1], "a", &format!("{n}"), qos);
            }
        }
        for &client in &clients[1..] {
            assert_eq!(world.take_messages(client).len(), 200);
        }
        let before = world.snapshot().counters;
        assert!(before.dropped_output_full > 0);
        assert!(before.dropped_queue_newest > 0);
        world.unstall(clients[0]);
        let came = u64::try_from(world.take_messages(clients[0]).len()).unwrap();
        assert_eq!(came + before.dropped_output_full + before.dropped_queue_newest, 200);
    });
}

#[test]
fn a_client_that_asks_and_does_not_read_is_not_listened_to() {
    let settings = Settings { out_bytes_max: 200, ..plain() };
    everywhere(&settings, |world| {
        let client = world.connect("client", Version::V5);
        world.stall(client);
        for _ in 0..40 {
            for _ in 0..500 {
                world.write(client, |out| out.extend_from_slice(&shards::codec::PINGREQ));
            }
            world.settle();
        }
        assert!(world.snapshot().counters.paused_output_full > 0);
        let wire = world.clients[client].wire;
        assert!(!world.wires[wire].upward.is_empty(), "the shell still reads");
        world.unstall(client);
        assert_eq!(world.clients[client].got.drain(..).count(), 20_000);
    });
}
