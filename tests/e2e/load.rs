//! Many connections: ten thousand at once, a hundred thousand one after the other. Each scenario has
//! the machine to itself.
//!
//! Churn runs with a tenth of the connections unless `CI=true` or `MURING_E2E_SLOW` is set.

use std::io::Write as _;
use std::thread;
use std::time::Instant;

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use crate::harness::broker::{Broker, Options};
use crate::harness::client::{Client, DEADLINE};
use crate::harness::wire::{self, Connect, Publish, Will};

const MANY: u64 = 10_000;

/// Bytes of resident memory that one more idle connection may cost.
const IDLE_BYTES_MAX: u64 = 1200;

/// Resident memory that may stay behind after the churn: a hundredth of what a leak of one small
/// object per connection would leave.
const CHURN_BYTES_MAX: u64 = 8 * 1024 * 1024;

/// Raises the soft limit of this process, which the broker inherits. False where the hard limit is
/// too low, which is said; in CI that is a failure.
pub(crate) fn descriptors_suffice(count: u64) -> bool {
    let limit = getrlimit(Resource::Nofile);
    if limit.maximum.is_some_and(|maximum| maximum < count) {
        let line = format!("not run: needs a hard limit of {count} descriptors: {limit:?}");
        assert!(std::env::var("CI").as_deref() != Ok("true"), "{line}");
        eprintln!("{line}");
        return false;
    }
    if limit.current.is_some_and(|current| current < count) {
        let raised = Rlimit { current: Some(count), maximum: limit.maximum };
        setrlimit(Resource::Nofile, raised).expect("the soft limit may rise to the hard one");
    }
    true
}

/// Ten thousand clients: each pings, subscribes and gets one message. Before they subscribe, what
/// they cost is measured.
fn ten_thousand_connections(shards: usize) {
    if !descriptors_suffice(MANY + 1000) {
        return;
    }
    let broker = Broker::start_with(&Options::new(shards).alone());
    warm_up(&broker);
    let before = broker.rss_bytes();
    let mut clients: Vec<Client> = (0..MANY)
        .map(|n| Client::plain(&broker, if n % 2 == 0 { 4 } else { 5 }, &format!("many-{n}")))
        .collect();
    for client in &mut clients {
        client.send(&wire::PINGREQ);
    }
    for client in &mut clients {
        client.wait_for(|p| matches!(p, wire::Packet::Pingresp));
    }
    let each = broker.rss_bytes().saturating_sub(before) / MANY;
    eprintln!("{shards} shards: {each} bytes of resident memory per idle connection");
    if !broker.deviates("is not held to muring's bound on memory") {
        assert!(each <= IDLE_BYTES_MAX, "{each} bytes per idle connection on {shards} shards");
    }
    for (number, client) in clients.iter_mut().enumerate() {
        client.subscribe_with(&[(&format!("many/{number}"), 1), ("all", 0)], &[]);
    }
    let mut publisher = Client::plain(&broker, 4, "many-from");
    for number in 0..clients.len() {
        publisher.send(&Publish::new(&format!("many/{number}"), number.to_string(), 0).encode(4));
    }
    publisher.publish("all", "all", 0);
    for (number, client) in clients.iter_mut().enumerate() {
        assert_eq!(client.message().text(), number.to_string());
        assert_eq!(client.message().text(), "all");
    }
}

/// Lets the broker touch what it touches once: receive buffers, thread stacks, first blocks.
fn warm_up(broker: &Broker) {
    let mut clients: Vec<Client> =
        (0..64).map(|n| Client::plain(broker, 4, &format!("warm-{n}"))).collect();
    for _ in 0..100 {
        for client in &mut clients {
            client.send(&wire::PINGREQ);
        }
        for client in &mut clients {
            client.wait_for(|p| matches!(p, wire::Packet::Pingresp));
        }
    }
    for client in clients {
        client.disconnect();
    }
}

#[test]
fn ten_thousand_connections_on_1_shard() {
    ten_thousand_connections(1);
}

#[test]
fn ten_thousand_connections_on_2_shards() {
    ten_thousand_connections(2);
}

#[test]
fn ten_thousand_connections_on_8_shards() {
    ten_thousand_connections(8);
}

/// Where in its life a churning connection is cut off.
const CUTS: u64 = 12;

/// Connects, gets as far as `number` says, and ends with a reset.
fn cut_short(broker: &Broker, thread: u64, number: u64) {
    let version = if number.is_multiple_of(2) { 4 } else { 5 };
    // Some identifiers come back, so that connections are also taken over in every state.
    let id = format!("churn-{}", (thread * 1_000_003 + number * 7919) % 5000);
    let connect =
        Connect::new(version, &id).will(Will::new("churn/will", "gone")).keep_alive(60).encode();
    let subscribe = wire::subscribe(version, 1, &[("churn/+", 1), ("churn/own/#", 2)], &[]);
    let mut publish = Publish::new("churn/own", vec![b'x'; 300], 2);
    publish.id = 5;
    let publish = publish.encode(version);
    // The scenario is full of take-overs: the broker may have ended the connection already, which
    // is as good a cut as any.
    let mut client = Client::open(broker, version);
    let cut = usize::try_from(number / CUTS).unwrap_or(0);
    let first = &connect[..cut % connect.len()];
    match number % CUTS {
        0 => {}
        1 | 2 => client.send_lossy(first),
        3 => client.send_lossy(&connect),
        4 => client.send_lossy(&[&connect[..], &subscribe[..cut % subscribe.len()]].concat()),
        5 => client.send_lossy(&[&connect[..], &subscribe].concat()),
        6 => client.send_lossy(&[&connect[..], &publish[..cut % publish.len()]].concat()),
        7 => client.send_lossy(&[&connect[..], &subscribe, &publish].concat()),
        cut => {
            client.send_lossy(&connect);
            // After CONNACK; in the middle of SUBSCRIBE; after SUBACK; in the middle of QoS 2.
            let steps: &[&[u8]] = match cut {
                8 => &[],
                9 => &[&subscribe],
                10 => &[&subscribe, &publish],
                _ => &[&publish],
            };
            let mut alive = client.recv_or_end().is_some();
            for step in steps {
                if alive {
                    client.send_lossy(step);
                    alive = client.recv_or_end().is_some();
                }
            }
            // Of PUBREL only the first half, now and then.
            if alive && cut == 11 {
                client.send_lossy(&wire::ack(wire::PUBREL, 5)[..2]);
            }
        }
    }
    client.reset();
}

fn churn(broker: &Broker, threads: u64, count: u64) {
    thread::scope(|scope| {
        for thread in 0..threads {
            scope.spawn(move || {
                for number in 0..count / threads {
                    cut_short(broker, thread, number);
                }
            });
        }
    });
}

fn connections_come_and_go(shards: usize, count: u64) {
    let broker = Broker::start_with(&Options::new(shards).alone());
    let mut witness = Client::plain(&broker, 5, "witness");
    witness.subscribe("witness", 1);
    let descriptors = broker.descriptors();
    // What churn costs once: pools, tables at their working size.
    churn(&broker, 4, 5000);
    settle(&broker, &mut witness, descriptors);
    let before = broker.rss_bytes();
    churn(&broker, 4, count);
    settle(&broker, &mut witness, descriptors);
    let grown = broker.rss_bytes().saturating_sub(before);
    eprintln!("{shards} shards: {grown} bytes more after {count} connections");
    assert!(grown <= CHURN_BYTES_MAX, "{grown} bytes stayed behind on {shards} shards");
    for number in 0..50 {
        let mut client = Client::plain(&broker, 4, &format!("after-{number}"));
        client.publish("witness", number.to_string(), 1);
        assert_eq!(witness.message().text(), number.to_string());
    }
}

/// Waits until the broker has closed what its peers have closed; round trips of a client set the pace.
fn settle(broker: &Broker, witness: &mut Client, descriptors: usize) {
    let begin = Instant::now();
    while broker.descriptors() > descriptors {
        witness.ping();
        let waited = begin.elapsed();
        assert!(waited < DEADLINE, "{} descriptors stay open", broker.descriptors() - descriptors);
    }
}

pub(crate) fn is_slow_run() -> bool {
    std::env::var("CI").as_deref() == Ok("true") || std::env::var_os("MURING_E2E_SLOW").is_some()
}

#[test]
fn connections_come_and_go_on_1_shard() {
    connections_come_and_go(1, 10_000);
}

#[test]
fn connections_come_and_go_on_2_shards() {
    connections_come_and_go(2, if is_slow_run() { 100_000 } else { 10_000 });
}

#[test]
fn connections_come_and_go_on_8_shards() {
    connections_come_and_go(8, 10_000);
}

/// What nobody reads: connections that flood the broker with requests and never take an answer. The
/// broker stops reading from them, and others do not notice. Answers to all of it would be 128 MiB.
#[test]
fn requests_without_reading_are_bounded() {
    for shards in [1, 2, 8] {
        let broker = Broker::start_with(&Options::new(shards).alone());
        warm_up(&broker);
        let before = broker.rss_bytes();
        let pings = wire::PINGREQ.repeat(32 * 1024);
        let greedy: Vec<Client> = (0..4)
            .map(|number| {
                let client = Client::plain(&broker, 4, &format!("greedy-{number}"));
                let mut stream = client.stream();
                stream.set_nonblocking(true).expect("a socket option");
                // 32 MiB of requests each, or what the broker and the kernel take of it.
                for _ in 0..512 {
                    if stream.write(&pings).is_err() {
                        break;
                    }
                }
                client
            })
            .collect();
        let mut subscriber = Client::plain(&broker, 4, "modest-to");
        subscriber.subscribe("modest", 1);
        let mut publisher = Client::plain(&broker, 4, "modest-from");
        for number in 0..200 {
            publisher.publish("modest", number.to_string(), 1);
            assert_eq!(subscriber.message().text(), number.to_string());
        }
        let grown = broker.rss_bytes().saturating_sub(before);
        if !broker.deviates("is not held to muring's bounds") {
            eprintln!("{shards} shards: {grown} bytes more");
            // A shard's receive buffers become resident as they are used. A client that does not read
            // costs its output, and what had come in before its receive could be stopped, each at most
            // twice as large as its limit while it grows.
            let receive_buffers = shards as u64 * 256 * 16 * 1024;
            let bound = receive_buffers + 4 * 8 * 1024 * 1024;
            assert!(grown < bound, "{shards} shards: grew by {grown} bytes");
        }
        drop(greedy);
    }
}
