//! What holds between shards: the promise of SUBACK, the order of messages, one slow client among
//! others.

use std::io::{BufReader, Read};
use std::sync::mpsc;
use std::thread;

use crate::harness::broker::{Broker, Options};
use crate::harness::client::Client;
use crate::harness::on_shards;
use crate::harness::wire::{self, Publish, packet};

on_shards!(
    after_suback_every_publish_arrives,
    messages_of_one_publisher_arrive_in_order,
    many_publishers_each_keep_their_order,
    a_half_connect_disturbs_nobody,
);

/// After SUBACK a publish from any connection on any shard is routed here; nothing is missed and
/// nothing waits for the news to spread.
fn after_suback_every_publish_arrives(broker: &Broker) {
    let mut publishers: Vec<Client> =
        (0..20).map(|n| Client::plain(broker, 4, &format!("suback-from-{n}"))).collect();
    for round in 0..100 {
        let mut subscriber = Client::plain(broker, 5, &format!("suback-to-{round}"));
        let filter = match round % 3 {
            0 => format!("suback/{round}"),
            1 => format!("suback/{round}/#"),
            _ => "suback/+".to_owned(),
        };
        subscriber.subscribe(&filter, 0);
        let topic = format!("suback/{round}");
        for (number, publisher) in publishers.iter_mut().enumerate() {
            publisher.publish(&topic, number.to_string(), 0);
        }
        let mut got: Vec<usize> = (0..publishers.len())
            .map(|_| subscriber.message().text().parse().expect("a number"))
            .collect();
        got.sort_unstable();
        assert!(got.into_iter().eq(0..publishers.len()), "round {round}");
        subscriber.disconnect();
    }
}

const ORDERED_COUNT: u32 = 10_000;
const ORDERED_SUBSCRIBERS: usize = 20;

/// 10,000 QoS 1 messages to 20 subscribers: in order, none lost, none doubled.
fn messages_of_one_publisher_arrive_in_order(broker: &Broker) {
    let subscribers: Vec<Client> = (0..ORDERED_SUBSCRIBERS)
        .map(|number| {
            let mut client = Client::plain(broker, 4, &format!("order-to-{number}"));
            client.subscribe("order", 1);
            client
        })
        .collect();
    thread::scope(|scope| {
        for mut client in subscribers {
            scope.spawn(move || {
                for want in 0..ORDERED_COUNT {
                    let message = client.message();
                    assert_eq!(message.payload, want.to_be_bytes());
                    assert!(!message.dup);
                }
                client.ping();
            });
        }
        let mut publisher = Client::plain(broker, 4, "order-from");
        publisher.publish_window("order", ORDERED_COUNT, 1, 100);
    });
}

/// Messages of several publishers mix, but each publisher's own keep their order.
fn many_publishers_each_keep_their_order(broker: &Broker) {
    const COUNT: u32 = 500;
    for qos in [0, 1, 2] {
        let mut subscriber = Client::plain(broker, 4, &format!("mix-to-{qos}"));
        subscriber.subscribe("mix/+", qos);
        thread::scope(|scope| {
            for number in 0..8 {
                scope.spawn(move || {
                    let id = format!("mix-from-{qos}-{number}");
                    let mut publisher = Client::plain(broker, 4, &id);
                    publisher.publish_window(&format!("mix/{number}"), COUNT, qos, 10);
                });
            }
            let mut next = [0_u32; 8];
            for _ in 0..8 * COUNT {
                let message = subscriber.message();
                let number: usize = message.topic[4..].parse().expect("the publisher's number");
                assert_eq!(message.payload, next[number].to_be_bytes());
                next[number] += 1;
            }
            assert_eq!(next, [COUNT; 8]);
        });
    }
}

/// Connections that say half a CONNECT and nothing more; everybody else goes on.
fn a_half_connect_disturbs_nobody(broker: &Broker) {
    let connect = wire::Connect::new(4, "half").encode();
    let mut halves: Vec<Client> = (1..connect.len())
        .map(|cut| {
            let mut half = Client::open(broker, 4);
            half.send(&connect[..cut]);
            half
        })
        .collect();
    let mut subscriber = Client::plain(broker, 4, "whole-to");
    subscriber.subscribe("whole", 1);
    let mut publisher = Client::plain(broker, 4, "whole-from");
    for number in 0..100_u32 {
        publisher.publish("whole", number.to_be_bytes(), 1);
        assert_eq!(subscriber.message().payload, number.to_be_bytes());
    }
    // The other half is still welcome.
    let (cut, half) = (1, &mut halves[0]);
    half.send(&connect[cut..]);
    assert_eq!(half.recv(), wire::Packet::Connack { present: false, code: 0, props: vec![] });
}

/// Half a CONNECT is given up after the connect time-out, and not before.
#[test]
fn a_half_connect_ends_at_the_time_out() {
    for shards in [1, 2, 8] {
        let mut options = Options::new(shards);
        options.connect_timeout_ms = Some(1000);
        let broker = Broker::start_with(&options);
        if broker.deviates("has no connect time-out") {
            return;
        }
        let begin = std::time::Instant::now();
        let mut silent = Client::open(&broker, 4);
        let mut half = Client::open(&broker, 4);
        half.send(&wire::Connect::new(4, "half").encode()[..9]);
        assert_eq!(half.until_end(), []);
        assert_eq!(silent.until_end(), []);
        let waited = begin.elapsed();
        assert!(waited.as_millis() >= 1000, "given up after {waited:?}");
        assert!(waited.as_secs() < 15, "given up only after {waited:?}");
        Client::plain(&broker, 4, "after").ping();
    }
}

/// Messages after which the publisher waits for those who read; fewer than a queue holds.
const FLOOD_STEP: u32 = 40;
const FLOOD_COUNT: u32 = 4000;
const FLOOD_PAYLOAD: usize = 8 * 1024;

/// One subscriber stops reading while a publisher sends 32 MiB. The others receive all of it in
/// order, and what the broker keeps for the one that sleeps is bounded.
#[test]
fn a_subscriber_that_stops_reading_harms_nobody() {
    for (shards, qos) in [(1, 0), (2, 0), (8, 0), (1, 1), (2, 1), (8, 1)] {
        let mut options = Options::new(shards).alone();
        options.queue_messages_max = Some(100);
        options.queue_bytes_max = Some(1024 * 1024);
        let broker = Broker::start_with(&options);
        let connect = |n| Client::plain(&broker, 4, &format!("flood-to-{n}"));
        let mut asleep: Vec<Client> = (0..4).map(connect).collect();
        let awake: Vec<Client> = (4..8).map(connect).collect();
        let mut publisher = Client::plain(&broker, 4, "flood-from");
        let before = broker.rss_bytes();
        for client in &mut asleep {
            client.subscribe("flood", qos);
        }
        let (progress, progressed) = mpsc::channel();
        let awake_count = awake.len();
        thread::scope(|scope| {
            for mut client in awake {
                client.subscribe("flood", 1);
                let progress = progress.clone();
                scope.spawn(move || {
                    for want in 0..FLOOD_COUNT {
                        let message = client.message();
                        assert_eq!(message.payload.len(), FLOOD_PAYLOAD);
                        assert_eq!(message.payload[..4], want.to_be_bytes());
                        if want % FLOOD_STEP == 0 {
                            progress.send(()).expect("the publisher waits for it");
                        }
                    }
                });
            }
            drop(progress);
            for number in 0..FLOOD_COUNT {
                // The queue of those who read is as short as that of the others: a thread that the
                // machine holds up for long must not be outrun.
                if number % FLOOD_STEP == 0 && number > 0 {
                    for _ in 0..awake_count {
                        progressed.recv().expect("everybody reads on");
                    }
                }
                let mut payload = vec![0; FLOOD_PAYLOAD];
                payload[..4].copy_from_slice(&number.to_be_bytes());
                publisher.publish("flood", payload, 1);
            }
        });
        let grown = broker.rss_bytes().saturating_sub(before);
        // Four sleepers with at most 1 MiB queued and 1 MiB of output each, and the rest as slack.
        if !broker.deviates("was told to queue without bound") {
            assert!(grown < 24 * 1024 * 1024, "{shards} shards, QoS {qos}: grew by {grown} bytes");
        }
        publisher.ping();
    }
}

const LARGE: usize = 10 * 1024 * 1024;

/// One message of 10 MiB to subscribers of every QoS; all have it before the next is sent, as what waits
/// for a socket is bounded.
#[test]
fn a_large_message_arrives_whole() {
    for shards in [1, 2, 8] {
        let mut options = Options::new(shards).alone();
        options.packet_bytes_max = Some(16 * 1024 * 1024);
        options.queue_bytes_max = Some(64 * 1024 * 1024);
        let broker = Broker::start_with(&options);
        let payload: Vec<u8> = (0_u32..)
            .flat_map(|n| n.wrapping_mul(2_654_435_761).to_le_bytes())
            .take(LARGE)
            .collect();
        let mut subscribers: Vec<Client> = (0..6)
            .map(|number| {
                let mut client = Client::plain(&broker, 4 + number % 2, &format!("large-{number}"));
                client.subscribe("large", number % 3);
                client
            })
            .collect();
        let mut publisher = Client::plain(&broker, 5, "large-from");
        for qos in [0, 1, 2] {
            thread::scope(|scope| {
                for client in &mut subscribers {
                    let payload = &payload;
                    scope.spawn(move || {
                        let message = client.message();
                        assert!(message.payload == *payload, "QoS {qos} arrived changed");
                    });
                }
                publisher.publish("large", &payload, qos);
            });
        }
    }
}

/// Byte for byte, without the decoder of these tests: what a QoS 0 subscriber of 3.1.1 reads.
#[test]
fn the_bytes_of_a_delivery_are_those_of_the_standard() {
    let broker = Broker::start(2);
    let mut subscriber = Client::plain(&broker, 4, "bytes-to");
    subscriber.subscribe("a/b", 0);
    Client::plain(&broker, 5, "bytes-from").publish_as(Publish::new("a/b", "hi", 1));
    let mut got = [0; 9];
    BufReader::new(subscriber.stream()).read_exact(&mut got).expect("nine bytes");
    assert_eq!(got.as_slice(), packet(0x30, b"\x00\x03a/bhi").as_slice());
}
