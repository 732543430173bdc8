//! Shutdown: wills first, then everybody is told, then nothing is left to do.

use shards::codec::{Connect, Will};
use shards::ids::{QoS, Version};
use shards::reject::ReasonCode;

use sim::client::Got;
use sim::drive::{VERSIONS, everywhere, plain, seconds};

#[test]
fn everybody_is_told_after_the_wills() {
    everywhere(&plain(), |world| {
        let watchers: Vec<_> = VERSIONS
            .into_iter()
            .zip(["w0", "w1", "w2"])
            .map(|(version, name)| {
                let watcher = world.connect(name, version);
                world.subscribe(watcher, "will/+", QoS::AtLeastOnce);
                watcher
            })
            .collect();
        for name in ["m0", "m1", "m2", "m3"] {
            let will = Will { qos: QoS::AtLeastOnce, ..Will::new("will/x", b"gone") };
            world.connect_with(&Connect { will: Some(will), ..Connect::new(Version::V5, name) });
        }
        let early = world.open("early", Version::V5);
        world.settle();
        world.stop();
        world.settle();
        assert!(world.is_stopped());
        for watcher in watchers {
            assert_eq!(world.take_messages(watcher).len(), 4, "{watcher}");
            world.expect_end(watcher, ReasonCode::ServerShuttingDown);
        }
        assert!(world.clients[early].is_ended);
        assert!(world.clients[early].got.is_empty());
        let late = world.open("late", Version::V5);
        world.settle();
        assert!(world.clients[late].is_ended);
        assert_eq!(world.snapshot().gauges.connections, 0);
        assert_eq!(world.snapshot().counters.wills_published, 4);
    });
}

#[test]
fn a_client_that_does_not_read_does_not_hold_the_stop_up() {
    everywhere(&plain(), |world| {
        let stalled = world.connect("stalled", Version::V5);
        let wire = world.clients[stalled].wire;
        world.wires[wire].is_stalled = true;
        world.stop();
        world.settle();
        assert!(!world.is_stopped());
        world.advance(seconds(3));
        assert!(world.is_stopped());
    });
}

#[test]
fn stopping_under_load_comes_to_an_end() {
    everywhere(&plain(), |world| {
        let names = ["c0", "c1", "c2", "c3", "c4", "c5"];
        let clients: Vec<_> = names
            .into_iter()
            .map(|name| {
                let client = world.connect(name, Version::V5);
                world.subscribe(client, "#", QoS::ExactlyOnce);
                client
            })
            .collect();
        for (n, &client) in clients.iter().enumerate() {
            for _ in 0..20 {
                let post = sim::drive::Post::new("a", "x", [QoS::AtLeastOnce; 6][n]);
                world.say(client, &post);
            }
        }
        world.stir(30);
        world.stop();
        world.settle();
        assert!(world.is_stopped());
        for client in clients {
            let last = world.clients[client].got.back().cloned();
            assert_eq!(last, Some(Got::Disconnect(ReasonCode::ServerShuttingDown)));
        }
    });
}
