//! Sessions that outlive connections: what is queued, resent and forgotten.

use crate::harness::broker::Broker;
use crate::harness::client::Client;
use crate::harness::on_shards;
use crate::harness::wire::{self, Connect, Packet, Prop, Publish, Will, prop};

on_shards!(
    messages_wait_for_an_absent_session,
    a_clean_start_forgets,
    an_expired_session_is_gone,
    an_unacknowledged_message_is_sent_again,
    an_unfinished_release_is_sent_again,
    a_repeated_publish_is_taken_once,
);

fn messages_wait_for_an_absent_session(broker: &Broker) {
    for version in [3, 4, 5] {
        let mut publisher = Client::plain(broker, version, "absent-from");
        for number in 0..8 {
            let connect = Connect::new(version, &format!("absent-{version}-{number}")).persistent();
            let topic = format!("absent/{number}");
            let mut client = Client::connect(broker, &connect);
            assert!(!client.present);
            client.subscribe(&topic, 2);
            if number % 2 == 0 {
                client.disconnect()
            } else {
                client.vanish()
            }
            for index in 0..40 {
                publisher.publish(&topic, index.to_string(), 1 + index % 2);
            }
            let mut client = Client::connect(broker, &connect);
            assert_eq!(client.present, version > 3);
            for index in 0..40 {
                let message = client.message();
                assert_eq!((message.text(), message.qos), (&*index.to_string(), 1 + index % 2));
                assert!(!message.dup, "sent for the first time");
            }
            publisher.publish(&topic, "live", 0);
            assert_eq!(client.message().text(), "live");
            client.disconnect();
        }
    }
}

fn a_clean_start_forgets(broker: &Broker) {
    let mut publisher = Client::plain(broker, 4, "forget-from");
    for version in [3, 4, 5] {
        for number in 0..8 {
            let id = format!("forget-{version}-{number}");
            let connect = Connect::new(version, &id).persistent();
            let mut client = Client::connect(broker, &connect);
            client.subscribe("forget", 1);
            client.disconnect();
            publisher.publish("forget", "lost", 1);
            let clean = Client::plain(broker, version, &id);
            assert!(!clean.present);
            clean.disconnect();
            let mut again = Client::connect(broker, &connect);
            assert!(!again.present);
            again.subscribe("fence", 1);
            publisher.publish("forget", "no longer subscribed", 1);
            publisher.publish("fence", "fence", 1);
            assert_eq!(again.message().text(), "fence");
        }
    }
}

/// A delayed will comes with the end of the session: that is how the scenario learns of it.
fn an_expired_session_is_gone(broker: &Broker) {
    let mut watcher = Client::plain(broker, 5, "expired-watcher");
    watcher.subscribe("expired", 0);
    let mut will = Will::new("expired", "now");
    will.props.push(Prop::four(prop::WILL_DELAY, 100));
    let mut connect = Connect::new(5, "expired");
    connect.clean = false;
    let connect = connect.with(Prop::four(prop::SESSION_EXPIRY, 1)).will(will);
    let mut client = Client::connect(broker, &connect);
    client.subscribe("something", 1);
    client.vanish();
    assert_eq!(watcher.message().text(), "now");
    assert!(!Client::connect(broker, &connect).present);
}

fn an_unacknowledged_message_is_sent_again(broker: &Broker) {
    for version in [4, 5] {
        let mut publisher = Client::plain(broker, version, "again-from");
        for qos in [1, 2] {
            let connect = Connect::new(version, &format!("again-{version}-{qos}")).persistent();
            let mut client = Client::connect(broker, &connect);
            client.subscribe("again", qos);
            for text in ["a", "b", "c"] {
                publisher.publish("again", text, qos);
            }
            let first: Vec<Publish> = (0..3).map(|_| client.message_unacked()).collect();
            client.acknowledge(&first[0]);
            client.ping();
            client.reset();
            let mut client = Client::connect(broker, &connect);
            assert!(client.present);
            for before in &first[1..] {
                let again = client.message();
                assert!(again.dup && !before.dup);
                assert_eq!(again.id, before.id, "the packet identifier stays");
                assert_eq!(again.payload, before.payload);
            }
            publisher.publish("again", "fence", qos);
            assert_eq!(client.message().text(), "fence");
            client.subscribe_with(&[("again", 0)], &[]);
            client.disconnect();
        }
    }
}

/// QoS 2 outbound, cut between PUBREC and PUBCOMP: PUBREL comes again, the message does not.
fn an_unfinished_release_is_sent_again(broker: &Broker) {
    for version in [4, 5] {
        let mut publisher = Client::plain(broker, version, "release-from");
        let connect = Connect::new(version, &format!("release-{version}")).persistent();
        let mut client = Client::connect(broker, &connect);
        client.subscribe("release", 2);
        publisher.publish("release", "once", 2);
        let message = client.message_unacked();
        client.send(&wire::ack(wire::PUBREC, message.id));
        client.wait_for(|p| matches!(p, Packet::Pubrel { id, .. } if *id == message.id));
        client.reset();
        let mut client = Client::connect(broker, &connect);
        assert_eq!(client.recv(), Packet::Pubrel { id: message.id, code: 0 });
        client.send(&wire::ack(wire::PUBCOMP, message.id));
        publisher.publish("release", "fence", 2);
        assert_eq!(client.message().text(), "fence");
    }
}

/// QoS 2 inbound: the same packet identifier before PUBREL is the same message, also after a new
/// connection; after PUBREL it is a new one.
fn a_repeated_publish_is_taken_once(broker: &Broker) {
    for version in [4, 5] {
        let mut watcher = Client::plain(broker, version, "repeat-watcher");
        watcher.subscribe("repeat", 2);
        let connect = Connect::new(version, &format!("repeat-{version}")).persistent();
        let mut publish = Publish::new("repeat", "once", 2);
        publish.id = 9;
        let mut client = Client::connect(broker, &connect);
        client.send(&publish.encode(version));
        client.wait_for(|p| matches!(p, Packet::Pubrec { id: 9, .. }));
        publish.dup = true;
        client.send(&publish.encode(version));
        client.wait_for(|p| matches!(p, Packet::Pubrec { id: 9, .. }));
        client.reset();
        let mut client = Client::connect(broker, &connect);
        client.send(&publish.encode(version));
        client.wait_for(|p| matches!(p, Packet::Pubrec { id: 9, .. }));
        client.send(&wire::ack(wire::PUBREL, 9));
        client.wait_for(|p| matches!(p, Packet::Pubcomp { id: 9, .. }));
        publish.dup = false;
        publish.payload = b"next".to_vec();
        client.send(&publish.encode(version));
        client.wait_for(|p| matches!(p, Packet::Pubrec { id: 9, .. }));
        client.send(&wire::ack(wire::PUBREL, 9));
        client.wait_for(|p| matches!(p, Packet::Pubcomp { id: 9, .. }));
        assert_eq!(watcher.message().text(), "once");
        assert_eq!(watcher.message().text(), "next");
    }
}
