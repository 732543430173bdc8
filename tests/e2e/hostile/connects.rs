//! Connections that begin and do not go on, end in every way, come twice, come in storms.

use std::thread;

use super::siege::Siege;
use super::{besieged, sized};
use crate::harness::broker::{Broker, Options};
use crate::harness::client::Client;
use crate::harness::wire::{self, Connect, Packet, Publish, Will};

besieged!(
    a_connect_that_never_becomes_whole_ends_at_the_timeout,
    a_publish_that_comes_byte_by_byte_ends_at_the_keep_alive,
    resets_and_half_closed_connections_leave_nothing,
    packets_behind_the_last_one_have_no_effect,
    a_storm_of_take_overs_leaves_one,
    wills_of_many_that_are_cut_at_once_all_come,
);

fn id(number: usize) -> String {
    format!("hostile-{number}")
}

/// Sends a byte to each until the broker has closed them all, or `packet` is nearly at its end. The
/// bystanders' messages set the pace.
fn drip(siege: &Siege, clients: &mut [Client], packet: &[u8], pace: usize) {
    for byte in &packet[..packet.len() - 1] {
        let mut open = 0;
        for client in clients.iter_mut().filter(|client| !client.has_news()) {
            client.send_lossy(&[*byte]);
            open += 1;
        }
        if open == 0 {
            return;
        }
        siege.served(pace);
    }
}

fn a_connect_that_never_becomes_whole_ends_at_the_timeout(shards: u8) {
    let mut options = Options::new(shards.into());
    options.connect_timeout_ms = Some(1000);
    let mut siege = Siege::lay(shards, options);
    let count = sized(1000, 100);
    let will = Will::new("slow/will", &"x".repeat(40_000));
    let connect = Connect::new(5, "slow").will(will).encode();
    siege.attack("CONNECT byte by byte", |siege| {
        let mut clients: Vec<Client> = (0..count).map(|_| Client::open(&siege.broker, 5)).collect();
        drip(siege, &mut clients, &connect, 20);
        for client in &mut clients {
            assert_eq!(client.until_end(), [], "no CONNACK for half a CONNECT");
        }
    });
    siege.expect(&[("connect_timeouts", count as u64), ("connects_refused", 0)]);
    siege.attack("CONNECT never finished", |siege| {
        let mut clients: Vec<Client> = (0..5 * count)
            .map(|number| {
                let mut client = Client::open(&siege.broker, 5);
                // Nothing at all, half a header, half a CONNECT.
                client.send(&connect[..[0, 3, 20_000][number % 3]]);
                client
            })
            .collect();
        for client in &mut clients {
            assert_eq!(client.until_end(), []);
        }
    });
    siege.expect(&[("connect_timeouts", 6 * count as u64), ("wills_published", 0)]);
    siege.lift();
}

fn a_publish_that_comes_byte_by_byte_ends_at_the_keep_alive(shards: u8) {
    let mut siege = Siege::plain(shards);
    let count = sized(1000, 100);
    // Fewer bytes than count as a sign of life.
    let packet = Publish::new("slow", vec![b'x'; 900], 0).encode(4);
    siege.attack("PUBLISH byte by byte", |siege| {
        let mut clients: Vec<Client> = (0..count)
            .map(|number| {
                let version = if number % 2 == 0 { 4 } else { 5 };
                let connect = Connect::new(version, &id(number)).keep_alive(1);
                Client::connect(&siege.broker, &connect)
            })
            .collect();
        drip(siege, &mut clients, &packet, 20);
        for (number, client) in clients.iter_mut().enumerate() {
            match client.until_end().as_slice() {
                [] if number % 2 == 0 => {}
                [Packet::Disconnect { code: 0x8D, .. }] if number % 2 == 1 => {}
                other => panic!("client {number}: {other:?}"),
            }
        }
    });
    siege.expect(&[("keep_alive_timeouts", count as u64)]);
    siege.lift();
}

/// Connects and goes, in one of several ways.
fn come_and_go(broker: &Broker, number: usize) {
    let connect = Connect::new(if number.is_multiple_of(2) { 4 } else { 5 }, &id(number));
    match number % 4 {
        0 => Client::open(broker, 4).reset(),
        1 => {
            let mut client = Client::open(broker, 5);
            client.send(&connect.encode());
            client.reset();
        }
        2 => Client::connect(broker, &connect).reset(),
        _ => {
            let mut client = Client::connect(broker, &connect);
            client.subscribe("gone/#", 1);
            // The broker closes its half too.
            client.vanish();
        }
    }
}

fn resets_and_half_closed_connections_leave_nothing(shards: u8) {
    let mut siege = Siege::plain(shards);
    let count = sized(100_000, 2000);
    siege.attack("connects and resets", |siege| {
        let broker = &siege.broker;
        thread::scope(|scope| {
            for part in 0..4 {
                scope.spawn(move || {
                    (part..count).step_by(4).for_each(|number| come_and_go(broker, number));
                });
            }
        });
    });
    siege.attack("half-closed connections", |siege| {
        let mut clients: Vec<Client> = (0..sized(2000, 200))
            .map(|number| Client::plain(&siege.broker, 5, &id(number)))
            .collect();
        clients.iter().for_each(Client::finish_writing);
        for client in &mut clients {
            assert_eq!(client.until_end(), []);
        }
    });
    siege.lift();
}

fn packets_behind_the_last_one_have_no_effect(shards: u8) {
    let mut siege = Siege::plain(shards);
    let count = sized(2000, 200);
    let mut witness = Client::plain(&siege.broker, 4, "witness");
    witness.subscribe("behind/#", 0);
    let behind = |version| {
        let mut bytes = Publish::new("behind/last", "x", 0).retained().encode(version);
        bytes.extend(wire::subscribe(version, 9, &[("behind/other", 0)], &[]));
        bytes.extend(Connect::new(version, "behind-again").encode());
        bytes.extend(wire::PINGREQ);
        bytes
    };
    siege.attack("packets behind the last", |siege| {
        for number in 0..count {
            let version = if number % 8 < 4 { 4 } else { 5 };
            // Leaves; breaks a rule; comes twice; sends what cannot be parsed.
            let (last, code) = match number % 4 {
                0 => (wire::DISCONNECT.to_vec(), None),
                1 => (Publish::new("behind/#", "x", 0).encode(version), Some(0x81)),
                2 => (Connect::new(version, &id(number)).encode(), Some(0x82)),
                _ => (vec![0xC1, 0], Some(0x81)),
            };
            let mut client = Client::plain(&siege.broker, version, &id(number));
            client.send_lossy(&[last, behind(version)].concat());
            match (client.until_end().as_slice(), code) {
                ([], None) => {}
                ([], Some(_)) if version == 4 => {}
                ([Packet::Disconnect { code, .. }], Some(want)) if *code == want => {}
                (other, _) => panic!("{number}: {other:?}"),
            }
        }
    });
    Client::plain(&siege.broker, 4, "after").publish("behind/last", "end", 1);
    assert_eq!(witness.message().text(), "end", "nothing that came behind was published");
    siege.expect_retained(0);
    let count = count as u64 / 4;
    siege.expect(&[("rejected_protocol", count), ("rejected_malformed", 2 * count)]);
    witness.disconnect();
    siege.lift();
}

fn a_storm_of_take_overs_leaves_one(shards: u8) {
    let mut siege = Siege::plain(shards);
    let (threads, each) = (4, sized(2000, 150));
    let ended = siege.attack("take-over storm", |siege| {
        let broker = &siege.broker;
        let clients: Vec<Client> = thread::scope(|scope| {
            let storm: Vec<_> = (0..threads)
                .map(|_| {
                    scope.spawn(move || {
                        let connect = Connect::new(5, "same").persistent();
                        (0..each).map(|_| Client::connect(broker, &connect)).collect::<Vec<_>>()
                    })
                })
                .collect();
            storm.into_iter().flat_map(|t| t.join().expect("all are let in")).collect()
        });
        siege.served(50);
        // The survivor is the one that answers.
        let mut ended = 0;
        for mut client in clients {
            client.send_lossy(&wire::PINGREQ);
            match client.recv_or_end() {
                Some(Packet::Disconnect { code: 0x8E, .. }) => {
                    assert_eq!(client.until_end(), []);
                    ended += 1;
                }
                Some(Packet::Pingresp) => client.disconnect(),
                other => panic!("{other:?}"),
            }
        }
        ended
    });
    let all = threads * each;
    assert_eq!(ended, all - 1, "one is left");
    siege.expect(&[("sessions_taken_over", all as u64 - 1)]);
    Client::plain(&siege.broker, 5, "same").disconnect();
    siege.lift();
}

fn wills_of_many_that_are_cut_at_once_all_come(shards: u8) {
    let mut siege = Siege::plain(shards);
    let count = sized(5000, 500);
    let mut witness = Client::plain(&siege.broker, 4, "witness");
    witness.subscribe("wills/#", 1);
    siege.attack("wills of cut connections", |siege| {
        let clients: Vec<Client> = (0..count)
            .map(|number| {
                let mut will = Will::new(&format!("wills/{number}"), "gone");
                will.qos = 1;
                Client::connect(&siege.broker, &Connect::new(5, &id(number)).will(will))
            })
            .collect();
        clients.into_iter().for_each(Client::reset);
        let mut seen: Vec<String> = (0..count).map(|_| witness.message().topic).collect();
        seen.sort();
        seen.dedup();
        assert_eq!(seen.len(), count, "each will once");
        witness.assert_no_message();
    });
    siege.expect(&[("wills_published", count as u64), ("wills_dropped", 0)]);
    witness.disconnect();
    siege.lift();
}
