//! CONNECT and what may follow it at once: versions, client identifiers, keep alive, take-over.

use std::time::{Duration, Instant};

use crate::harness::broker::Broker;
use crate::harness::client::Client;
use crate::harness::on_shards;
use crate::harness::wire::{self, Connect, Packet, Prop, Value, find, prop};

on_shards!(
    every_version_is_welcome,
    an_empty_client_id_is_assigned,
    an_unknown_protocol_level_is_refused,
    a_second_connect_ends_the_connection,
    a_packet_before_connect_ends_the_connection,
    silence_beyond_keep_alive_ends_the_connection,
    a_ping_keeps_the_connection,
    a_new_connection_takes_over,
);

fn every_version_is_welcome(broker: &Broker) {
    for version in [3, 4, 5] {
        for number in 0..8 {
            let mut client = Client::plain(broker, version, &format!("welcome-{version}-{number}"));
            assert!(!client.present);
            client.ping();
            client.disconnect();
        }
    }
}

fn an_empty_client_id_is_assigned(broker: &Broker) {
    let one = Client::plain(broker, 5, "");
    let two = Client::plain(broker, 5, "");
    let assigned = |client: &Client| match find(&client.props, prop::ASSIGNED_CLIENT_ID) {
        Some(Prop { value: Value::Text(id), .. }) => id.clone(),
        other => panic!("no assigned client identifier but {other:?}"),
    };
    assert!(!assigned(&one).is_empty());
    assert_ne!(assigned(&one), assigned(&two));

    // The identifier is the client's from now on: with it, it takes its own session over.
    let again = Client::plain(broker, 5, &assigned(&one));
    assert_eq!(find(&again.props, prop::ASSIGNED_CLIENT_ID), None);
    drop(one);

    Client::plain(broker, 4, "").disconnect();
    let mut kept = Connect::new(4, "");
    kept.clean = false;
    let (mut refused, code) = Client::offer(broker, &kept);
    assert_eq!(code, 2, "3.1.1: an empty client identifier cannot keep a session");
    assert_eq!(refused.until_end(), []);
}

/// 3.1.1 answers with return code 1, 5.0 with 0x84, and both close. A broker that knows neither may
/// close without an answer.
fn an_unknown_protocol_level_is_refused(broker: &Broker) {
    for level in [0, 1, 2, 6, 127, 255] {
        let mut client = Client::open(broker, 4);
        let mut body = Vec::new();
        wire::put_text(&mut body, "MQTT");
        body.extend([level, 0x02, 0, 0]);
        wire::put_text(&mut body, "level");
        client.send(&wire::packet(0x10, &body));
        for packet in client.until_end() {
            let Packet::Connack { present: false, code, .. } = packet else {
                panic!("level {level}: {packet:?}");
            };
            assert!(code == 0x01 || code == 0x84, "level {level}: code 0x{code:02x}");
        }
    }
    Client::plain(broker, 4, "after").ping();
}

fn a_second_connect_ends_the_connection(broker: &Broker) {
    for version in [3, 4, 5] {
        let connect = Connect::new(version, &format!("twice-{version}"));
        let mut client = Client::connect(broker, &connect);
        client.send(&connect.encode());
        match client.until_end().as_slice() {
            [] => {}
            [Packet::Disconnect { code: 0x82, .. }] if version == 5 => {}
            other => panic!("version {version}: {other:?}"),
        }
    }
}

fn a_packet_before_connect_ends_the_connection(broker: &Broker) {
    for bytes in [&wire::PINGREQ[..], &wire::DISCONNECT, &wire::subscribe(4, 1, &[("a", 0)], &[])] {
        let mut client = Client::open(broker, 4);
        client.send(bytes);
        assert_eq!(client.until_end(), [], "after {bytes:02x?}");
    }
}

/// MQTT-3.1.2-22 (5.0): one and a half times the keep alive time without a packet. The lower bound is
/// the promise to the client; the upper one only says that the broker does not forget.
fn silence_beyond_keep_alive_ends_the_connection(broker: &Broker) {
    for version in [3, 4, 5] {
        let connect = Connect::new(version, &format!("silent-{version}")).keep_alive(1);
        let begin = Instant::now();
        let mut client = Client::connect(broker, &connect);
        let last_words = client.until_end();
        let silent = begin.elapsed();
        assert!(silent >= Duration::from_millis(1500), "closed after {silent:?}");
        assert!(silent < Duration::from_secs(15), "closed only after {silent:?}");
        match last_words.as_slice() {
            [] => {}
            [Packet::Disconnect { code: 0x8D, .. }] if version == 5 => {}
            other => panic!("version {version}: {other:?}"),
        }
    }
}

/// Two clients with the same keep alive; the one that keeps talking outlives the other.
fn a_ping_keeps_the_connection(broker: &Broker) {
    let mut talking = Client::connect(broker, &Connect::new(4, "talking").keep_alive(2));
    let silent = Client::connect(broker, &Connect::new(4, "silent").keep_alive(2));
    let mut silent = silent;
    let end = std::thread::spawn(move || silent.until_end());
    while !end.is_finished() {
        talking.ping();
        // Paces the pings; nothing is inferred from the time.
        std::thread::park_timeout(Duration::from_millis(200));
    }
    assert_eq!(end.join().expect("the silent client waits in peace"), []);
    talking.ping();
}

fn a_new_connection_takes_over(broker: &Broker) {
    for version in [3, 4, 5] {
        for number in 0..16 {
            let connect = Connect::new(version, &format!("taken-{version}-{number}")).persistent();
            let mut first = Client::connect(broker, &connect);
            first.subscribe("taken/#", 1);
            let mut second = Client::connect(broker, &connect);
            assert_eq!(second.present, version > 3);
            match first.until_end().as_slice() {
                [] if version < 5 || broker.deviates("2.0.11 takes over without 0x8E") => {}
                [Packet::Disconnect { code: 0x8E, .. }] if version == 5 => {}
                other => panic!("version {version}: {other:?}"),
            }
            second.publish("taken/over", "still subscribed", 1);
            assert_eq!(second.message().text(), "still subscribed");
        }
    }
}
