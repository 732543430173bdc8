//! What each listener says for itself: mount points, versions, sizes, connections, rates.

use std::time::Instant;

use crate::harness::broker::{Broker, Options, scratch_file};
use crate::harness::client::Client;
use crate::harness::wire::{Connect, Publish, find, prop};

const CONFIG: &str = r#"
[[listener]]
address = "127.0.0.1:0"

[[listener]]
address = "127.0.0.1:0"
mount_point = "tenants/a/"

[[listener]]
address = "127.0.0.1:0"
mount_point = "tenants/b/"

[[listener]]
address = "127.0.0.1:0"
protocol_versions = ["5.0"]
packet_bytes_max = 300
connections_max = 4

[[listener]]
address = "127.0.0.1:0"
publishes_per_s = 20
"#;

/// Positions of the listeners.
const ALL: usize = 0;
const A: usize = 1;
const B: usize = 2;
const SMALL: usize = 3;
const SLOW: usize = 4;

fn on_shards(scenario: impl Fn(&Broker)) {
    for shards in [1, 2] {
        let options = Options::configured(shards, scratch_file("toml", CONFIG));
        scenario(&Broker::start_with(&options));
    }
}

fn connect(broker: &Broker, at: usize, id: &str) -> Client {
    let connect = Connect::new(5, id);
    let (client, code) = Client::open_at(broker.listeners[at], 5).introduce(&connect);
    assert_eq!(code, 0);
    client
}

#[test]
fn tenants_do_not_see_each_other() {
    on_shards(|broker| {
        let mut all = connect(broker, ALL, "all");
        assert_eq!(all.subscribe("tenants/#", 1), 1);
        let (mut a, mut b) = (connect(broker, A, "a"), connect(broker, B, "b"));
        for client in [&mut a, &mut b] {
            assert_eq!(client.subscribe("#", 1), 1);
            assert_eq!(client.subscribe("$share/g/jobs", 1), 1);
        }
        a.publish_as(Publish::new("lamp", "of a", 1).retained());
        let seen = a.message();
        assert_eq!((&*seen.topic, seen.text()), ("lamp", "of a"));
        assert_eq!(all.message().topic, "tenants/a/lamp");
        b.publish("lamp", "of b", 1);
        // The first that b sees is its own.
        assert_eq!(b.message().text(), "of b");
        assert_eq!(all.message().topic, "tenants/b/lamp");
        // Retained messages as well.
        let mut late = connect(broker, A, "late");
        assert_eq!(late.subscribe("lamp", 1), 1);
        let kept = late.message();
        assert!(kept.retain);
        assert_eq!((&*kept.topic, kept.text()), ("lamp", "of a"));
        // From outside into a tenant.
        all.publish("tenants/b/bell", "ring", 1);
        assert_eq!(b.message().topic, "bell");
    });
}

#[test]
fn versions_sizes_and_numbers() {
    on_shards(|broker| {
        let address = broker.listeners[SMALL];
        let (_, code) = Client::open_at(address, 4).introduce(&Connect::new(4, "old"));
        assert_eq!(code, 1, "unacceptable protocol version");
        let mut client = connect(broker, SMALL, "small");
        let size = find(&client.props, prop::MAXIMUM_PACKET_SIZE).expect("it is told");
        assert_eq!(size.number(), 300);
        assert_eq!(client.publish_as(Publish::new("t", "x".repeat(100), 1)), 0x10);
        client.send(&Publish::new("t", "x".repeat(400), 0).encode(5));
        assert!(
            client.until_end().iter().any(|packet| format!("{packet:?}").contains("code: 149"))
        );
        // The limit is the broker's, of which each shard has its part: no more than four in all.
        let mut clients = Vec::new();
        for n in 0..12 {
            let mut client = Client::open_at(address, 5);
            client.send_lossy(&Connect::new(5, &format!("many-{n}")).encode());
            let answer = client.recv_or_end();
            clients.push((client, answer.is_some()));
        }
        let inside = clients.iter().filter(|(_, is_inside)| *is_inside).count();
        assert!((1..=4).contains(&inside), "{inside} came in");
        broker.logged(&["event=\"limit_hit\"", "connections", "listener=3"]);
    });
}

#[test]
fn a_rate_delays_and_loses_nothing() {
    on_shards(|broker| {
        let mut to = connect(broker, ALL, "to");
        assert_eq!(to.subscribe("fast", 0), 0);
        let mut from = connect(broker, SLOW, "from");
        let start = Instant::now();
        for n in 0..60 {
            from.publish("fast", n.to_string(), 0);
        }
        for n in 0..60 {
            assert_eq!(to.message().text(), n.to_string());
        }
        // 20 at once, then 20 a second.
        assert!(start.elapsed().as_millis() >= 1900, "{:?}", start.elapsed());
        from.ping();
    });
}
