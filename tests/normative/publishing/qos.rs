//! Quality of service, section 4.3, both as sender and as receiver, and what is sent again, section 4.4.

use crate::harness::broker::Broker;
use crate::harness::client::Client;
use crate::harness::wire::{self, Connect, Packet, Prop, Publish, find, packet, prop};
use crate::publishing::steps::{let_pass, pair, publish_id};
use crate::support::{broker, on_versions};

on_versions! {
    fn mqtt_311_4_3_1_1_qos_0_is_sent_with_qos_0_and_no_dup(4),
    fn mqtt_5_4_3_1_1_qos_0_is_sent_with_qos_0_and_no_dup(5) => qos_0;
    fn mqtt_311_4_3_2_1_sender_at_qos_1(4) => sender_at_qos_1;
    fn mqtt_5_4_3_2_1_an_unused_identifier_at_qos_1(5) => unused_identifier_at_qos_1;
    fn mqtt_5_4_3_2_2_first_sent_without_dup_at_qos_1(5) => first_without_dup_at_qos_1;
    fn mqtt_5_4_3_2_3_unacknowledged_until_puback(5) => sender_at_qos_1;
    fn mqtt_311_4_3_2_2_receiver_at_qos_1(4) => receiver_at_qos_1;
    fn mqtt_5_4_3_2_4_puback_with_the_identifier(5) => puback_with_the_identifier;
    fn mqtt_5_4_3_2_5_after_puback_it_is_a_new_message(5) => receiver_at_qos_1;
    fn mqtt_311_4_3_3_1_sender_at_qos_2(4) => sender_at_qos_2;
    fn mqtt_5_4_3_3_1_an_unused_identifier_at_qos_2(5) => unused_identifier_at_qos_2;
    fn mqtt_5_4_3_3_2_first_sent_without_dup_at_qos_2(5) => first_without_dup_at_qos_2;
    fn mqtt_5_4_3_3_3_unacknowledged_until_pubrec(5) => unacknowledged_until_pubrec;
    fn mqtt_5_4_3_3_4_pubrec_is_answered_with_pubrel(5) => pubrel_with_the_identifier;
    fn mqtt_5_4_3_3_5_pubrel_is_unacknowledged_until_pubcomp(5) => unacknowledged_until_pubcomp;
    fn mqtt_5_4_3_3_6_no_publish_after_pubrel(5) => sender_at_qos_2;
    fn mqtt_311_4_3_3_2_receiver_at_qos_2(4) => receiver_at_qos_2;
    fn mqtt_5_4_3_3_8_pubrec_with_the_identifier(5) => pubrec_with_the_identifier;
    fn mqtt_5_4_3_3_10_until_pubrel_it_is_delivered_once(5) => delivered_once_until_pubrel;
    fn mqtt_5_4_3_3_11_pubrel_is_answered_with_pubcomp(5) => pubcomp_with_the_identifier;
    fn mqtt_5_4_3_3_12_after_pubcomp_it_is_a_new_message(5) => receiver_at_qos_2;
    fn mqtt_311_4_4_0_1_unacknowledged_packets_are_sent_again(4),
    fn mqtt_5_4_4_0_1_unacknowledged_packets_are_sent_again(5) => sent_again;
}

/// A kept session with a subscription of `t` at this QoS.
#[track_caller]
fn kept(broker: &Broker, version: u8, qos: u8) -> (Client, Connect) {
    let connect = Connect::new(version, "kept").persistent();
    let mut client = Client::connect(broker, &connect);
    client.subscribe("t", qos);
    (client, connect)
}

/// The connection breaks, the client comes back to the session it had.
#[track_caller]
fn again(broker: &Broker, client: Client, connect: &Connect) -> Client {
    // A round trip, so that what was sent last is not lost with the connection.
    let mut client = client;
    client.ping();
    client.reset();
    let client = Client::connect(broker, connect);
    assert!(client.present, "the session was kept");
    client
}

/// Sends `bytes`, and this is what comes back first.
#[track_caller]
fn assert_answer(client: &mut Client, bytes: &[u8], answer: Packet) {
    client.send(bytes);
    assert_eq!(client.recv(), answer);
}

fn qos_0(version: u8) {
    let broker = broker();
    let (mut subscriber, mut publisher) = pair(&broker, version, "t", 0);
    let mut willing = Client::plain(&broker, version, "willing");
    willing.subscribe("t", 2);
    // Nothing to answer, so nothing is said.
    publisher.send(&Publish::new("t", "x", 0).encode(version));
    assert_answer(&mut publisher, &wire::PINGREQ, Packet::Pingresp);
    for client in [&mut willing, &mut subscriber] {
        assert_eq!(client.recv_bytes()[0], 0x30);
    }
    for qos in [1, 2] {
        publisher.publish_as(Publish { dup: true, ..Publish::new("t", "x", qos) });
        assert_eq!(subscriber.recv_bytes()[0], 0x30, "published at QoS {qos}");
    }
}

fn sender_at_qos_1(version: u8) {
    let broker = broker();
    unused_identifier(&broker, version, 1);
    first_without_dup(&broker, version, 1);
    let (mut client, connect) = kept(&broker, version, 1);
    let mut publisher = Client::plain(&broker, version, "publisher");
    publisher.publish("t", "text", 1);
    let first = client.message_unacked();
    for _ in 0..2 {
        client = again(&broker, client, &connect);
        assert_eq!(client.recv(), Packet::Publish(Publish { dup: true, ..first.clone() }));
    }
    client.acknowledge(&first);
    client = again(&broker, client, &connect);
    publisher.publish("t", "fence", 1);
    assert_eq!(client.message().text(), "fence", "acknowledged, so it does not come again");
}

fn unused_identifier_at_qos_1(version: u8) {
    unused_identifier(&broker(), version, 1);
}

fn unused_identifier_at_qos_2(version: u8) {
    unused_identifier(&broker(), version, 2);
}

/// While some exchanges stay open, others come and go: no identifier is in use twice.
#[track_caller]
fn unused_identifier(broker: &Broker, version: u8, qos: u8) {
    let (mut client, mut publisher) = pair(broker, version, "t", qos);
    let mut open: Vec<u16> = Vec::new();
    for number in 0..300 {
        publisher.publish("t", number.to_string(), qos);
        let message = client.message_unacked();
        assert!(message.id != 0 && !open.contains(&message.id), "{} is in use", message.id);
        assert_eq!((message.text(), message.qos), (&*number.to_string(), qos));
        if number % 3 == 0 {
            open.push(message.id);
        } else {
            client.acknowledge(&message);
        }
    }
}

fn first_without_dup_at_qos_1(version: u8) {
    first_without_dup(&broker(), version, 1);
}

fn first_without_dup_at_qos_2(version: u8) {
    first_without_dup(&broker(), version, 2);
}

#[track_caller]
fn first_without_dup(broker: &Broker, version: u8, qos: u8) {
    let (mut client, mut publisher) = pair(broker, version, "t", qos);
    publisher.publish_as(Publish { dup: true, ..Publish::new("t", "text", qos) });
    let bytes = client.recv_bytes();
    assert_eq!(bytes[0], 0x30 | qos << 1, "DUP 0, this QoS, RETAIN 0");
    assert_ne!(bytes[5..7], [0, 0], "with an identifier");
}

fn puback_with_the_identifier(version: u8) {
    let broker = broker();
    let (mut subscriber, mut publisher) = pair(&broker, version, "t", 1);
    for id in [1, 300, u16::MAX, 2] {
        let text = id.to_string();
        let puback = Packet::Puback { id, code: 0 };
        assert_answer(&mut publisher, &publish_id("t", &text, 1, id).encode(version), puback);
        assert_eq!(subscriber.message().text(), text, "it was the broker's to deliver");
    }
}

fn receiver_at_qos_1(version: u8) {
    puback_with_the_identifier(version);
    let broker = broker();
    let (mut subscriber, mut publisher) = pair(&broker, version, "t", 1);
    for (text, dup) in [("one", false), ("two", false), ("three", true), ("four", true)] {
        let publish = Publish { dup, ..publish_id("t", text, 1, 7) };
        let puback = Packet::Puback { id: 7, code: 0 };
        assert_answer(&mut publisher, &publish.encode(version), puback);
        assert_eq!(subscriber.message().text(), text, "the identifier was free again");
    }
}

fn sender_at_qos_2(version: u8) {
    let broker = broker();
    if version < 5 {
        // In 5.0 these are statements of their own.
        unused_identifier(&broker, version, 2);
        first_without_dup(&broker, version, 2);
        unacknowledged_until_pubrec(version);
    }
    unacknowledged_until_pubcomp(version);
    let (mut client, connect) = kept(&broker, version, 2);
    let mut publisher = Client::plain(&broker, version, "publisher");
    publisher.publish("t", "once", 2);
    let id = client.message_unacked().id;
    let pubrel = Packet::Pubrel { id, code: 0 };
    // However often the client says so, and on whichever connection.
    for _ in 0..2 {
        assert_answer(&mut client, &wire::ack(wire::PUBREC, id), pubrel.clone());
        client = again(&broker, client, &connect);
        assert_eq!(client.recv(), pubrel);
    }
    client.send(&wire::ack(wire::PUBCOMP, id));
    publisher.publish("t", "fence", 2);
    assert_eq!(client.message().text(), "fence");
}

fn unacknowledged_until_pubrec(version: u8) {
    let broker = broker();
    let (mut client, connect) = kept(&broker, version, 2);
    Client::plain(&broker, version, "publisher").publish("t", "text", 2);
    let first = client.message_unacked();
    for _ in 0..2 {
        client = again(&broker, client, &connect);
        assert_eq!(client.recv(), Packet::Publish(Publish { dup: true, ..first.clone() }));
    }
    let pubrel = Packet::Pubrel { id: first.id, code: 0 };
    assert_answer(&mut client, &wire::ack(wire::PUBREC, first.id), pubrel.clone());
    client = again(&broker, client, &connect);
    assert_eq!(client.recv(), pubrel, "and not the message");
}

fn pubrel_with_the_identifier(version: u8) {
    let broker = broker();
    let (mut client, mut publisher) = pair(&broker, version, "t", 2);
    for text in ["a", "b", "c"] {
        publisher.publish("t", text, 2);
    }
    let open: Vec<Publish> = (0..3).map(|_| client.message_unacked()).collect();
    for message in [&open[2], &open[0], &open[1]] {
        let pubrel = Packet::Pubrel { id: message.id, code: 0 };
        assert_answer(&mut client, &wire::ack(wire::PUBREC, message.id), pubrel);
    }
    // Below 0x80 is no error, whatever it says.
    publisher.publish("t", "d", 2);
    let id = client.message_unacked().id;
    let [high, low] = id.to_be_bytes();
    let pubrec = packet(wire::PUBREC, &[high, low, 0x10]);
    assert_answer(&mut client, &pubrec, Packet::Pubrel { id, code: 0 });
}

fn unacknowledged_until_pubcomp(version: u8) {
    let broker = broker();
    let (mut client, connect) = kept(&broker, version, 2);
    Client::plain(&broker, version, "publisher").publish("t", "text", 2);
    let id = client.message_unacked().id;
    let pubrel = Packet::Pubrel { id, code: 0 };
    assert_answer(&mut client, &wire::ack(wire::PUBREC, id), pubrel.clone());
    for _ in 0..2 {
        client = again(&broker, client, &connect);
        assert_eq!(client.recv(), pubrel);
    }
    client.send(&wire::ack(wire::PUBCOMP, id));
    client = again(&broker, client, &connect);
    assert_answer(&mut client, &wire::PINGREQ, Packet::Pingresp);
}

#[test]
fn mqtt_5_4_3_3_7_what_was_sent_at_qos_2_does_not_expire() {
    let broker = broker();
    let (mut client, connect) = kept(&broker, 5, 2);
    let expiry = Prop::four(prop::MESSAGE_EXPIRY, 1);
    let mut publisher = Client::plain(&broker, 5, "publisher");
    publisher.publish_as(Publish::new("t", "text", 2).with(expiry));
    let first = client.message_unacked();
    client.ping();
    client.reset();
    let_pass(&broker, 2);
    let mut client = Client::connect(&broker, &connect);
    let message = client.message();
    assert_eq!((message.id, message.dup, message.text()), (first.id, true, "text"));
    // No more than was there, and no number below 0.
    let left = find(&message.props, prop::MESSAGE_EXPIRY).map_or(0, Prop::number);
    assert!(left <= 1, "{left} seconds left of 1");
}

fn pubrec_with_the_identifier(version: u8) {
    let broker = broker();
    let (mut subscriber, mut publisher) = pair(&broker, version, "t", 2);
    for id in [1, 300, u16::MAX, 2] {
        let text = id.to_string();
        let pubrec = Packet::Pubrec { id, code: 0 };
        assert_answer(&mut publisher, &publish_id("t", &text, 2, id).encode(version), pubrec);
        assert_eq!(subscriber.message().text(), text, "it was the broker's to deliver");
    }
}

#[test]
fn mqtt_5_4_3_3_9_after_an_error_it_is_a_new_message() {
    let broker = broker();
    let (mut subscriber, mut publisher) = pair(&broker, 5, "t", 2);
    let denied = publish_id("$SYS/no", "no", 2, 7).encode(5);
    for text in ["one", "two"] {
        assert_answer(&mut publisher, &denied, Packet::Pubrec { id: 7, code: 0x87 });
        let publish = publish_id("t", text, 2, 7).encode(5);
        assert_answer(&mut publisher, &publish, Packet::Pubrec { id: 7, code: 0 });
        assert_eq!(subscriber.message().text(), text);
        let pubcomp = Packet::Pubcomp { id: 7, code: 0 };
        assert_answer(&mut publisher, &wire::ack(wire::PUBREL, 7), pubcomp);
    }
    // Nothing is left of the one that was refused.
    assert_answer(&mut publisher, &denied, Packet::Pubrec { id: 7, code: 0x87 });
    let pubcomp = Packet::Pubcomp { id: 7, code: 0x92 };
    assert_answer(&mut publisher, &wire::ack(wire::PUBREL, 7), pubcomp);
}

fn delivered_once_until_pubrel(version: u8) {
    let broker = broker();
    let mut subscriber = Client::plain(&broker, version, "subscriber");
    subscriber.subscribe("t", 2);
    let connect = Connect::new(version, "publisher").persistent();
    let mut publisher = Client::connect(&broker, &connect);
    let pubrec = Packet::Pubrec { id: 7, code: 0 };
    for round in 0..3 {
        for dup in [false, true] {
            let publish = Publish { dup, ..publish_id("t", "once", 2, 7) };
            assert_answer(&mut publisher, &publish.encode(version), pubrec.clone());
        }
        if round < 2 {
            publisher = again(&broker, publisher, &connect);
        }
    }
    publisher.publish("t", "fence", 2);
    assert_eq!(subscriber.message().text(), "once");
    assert_eq!(subscriber.message().text(), "fence");
}

fn pubcomp_with_the_identifier(version: u8) {
    let broker = broker();
    let mut publisher = Client::plain(&broker, version, "publisher");
    for id in [1, 300, u16::MAX] {
        publisher.send(&publish_id("t", "text", 2, id).encode(version));
        publisher.wait_for(|p| matches!(p, Packet::Pubrec { id: of, .. } if *of == id));
    }
    for id in [300, u16::MAX, 1] {
        let pubcomp = Packet::Pubcomp { id, code: 0 };
        assert_answer(&mut publisher, &wire::ack(wire::PUBREL, id), pubcomp);
    }
}

fn receiver_at_qos_2(version: u8) {
    if version < 5 {
        // In 5.0 these are statements of their own.
        pubrec_with_the_identifier(version);
        delivered_once_until_pubrel(version);
        pubcomp_with_the_identifier(version);
    }
    let broker = broker();
    let (mut subscriber, mut publisher) = pair(&broker, version, "t", 2);
    for (text, dup) in [("one", false), ("two", false), ("three", true)] {
        let publish = Publish { dup, ..publish_id("t", text, 2, 7) };
        let pubrec = Packet::Pubrec { id: 7, code: 0 };
        assert_answer(&mut publisher, &publish.encode(version), pubrec);
        let pubcomp = Packet::Pubcomp { id: 7, code: 0 };
        assert_answer(&mut publisher, &wire::ack(wire::PUBREL, 7), pubcomp);
        assert_eq!(subscriber.message().text(), text);
    }
}

#[test]
fn mqtt_5_4_3_3_13_an_exchange_outlives_the_message() {
    let broker = broker();
    let (mut subscriber, mut publisher) = pair(&broker, 5, "t", 2);
    let expiry = Prop::four(prop::MESSAGE_EXPIRY, 1);
    let publish = publish_id("t", "text", 2, 7).with(expiry).encode(5);
    let pubrec = Packet::Pubrec { id: 7, code: 0 };
    assert_answer(&mut publisher, &publish, pubrec.clone());
    let delivered = subscriber.message_unacked();
    let_pass(&broker, 2);
    // As receiver: a copy is still a copy, and the PUBREL is answered.
    assert_answer(&mut publisher, &publish, pubrec);
    let pubcomp = Packet::Pubcomp { id: 7, code: 0 };
    assert_answer(&mut publisher, &wire::ack(wire::PUBREL, 7), pubcomp);
    // As sender: the PUBREC is answered with success.
    let pubrel = Packet::Pubrel { id: delivered.id, code: 0 };
    assert_answer(&mut subscriber, &wire::ack(wire::PUBREC, delivered.id), pubrel);
    subscriber.send(&wire::ack(wire::PUBCOMP, delivered.id));
    publisher.publish("t", "fence", 2);
    assert_eq!(subscriber.message().text(), "fence");
}

/// A PUBLISH of each QoS and a PUBREL are open. They come again on the next connection and, while one
/// lasts, never.
fn sent_again(version: u8) {
    let broker = broker();
    let (mut client, connect) = kept(&broker, version, 2);
    let mut publisher = Client::plain(&broker, version, "publisher");
    for (text, qos) in [("done", 1), ("one", 1), ("two", 2), ("released", 2)] {
        publisher.publish("t", text, qos);
    }
    let open: Vec<Publish> = (0..4).map(|_| client.message_unacked()).collect();
    client.acknowledge(&open[0]);
    let pubrel = Packet::Pubrel { id: open[3].id, code: 0 };
    assert_answer(&mut client, &wire::ack(wire::PUBREC, open[3].id), pubrel.clone());
    for _ in 0..2 {
        client = again(&broker, client, &connect);
        let mut got: Vec<Packet> = (0..3).map(|_| client.recv()).collect();
        got.sort_by_key(|packet| packet == &pubrel);
        let repeated = |n: usize| Packet::Publish(Publish { dup: true, ..open[n].clone() });
        assert_eq!(got, [repeated(1), repeated(2), pubrel.clone()]);
        assert_answer(&mut client, &wire::PINGREQ, Packet::Pingresp);
    }
    let_pass(&broker, 1);
    assert_answer(&mut client, &wire::PINGREQ, Packet::Pingresp);
    client.disconnect();
    let mut clean = Client::plain(&broker, version, "kept");
    assert_answer(&mut clean, &wire::PINGREQ, Packet::Pingresp);
}

#[test]
fn mqtt_5_4_4_0_2_an_error_settles_the_message() {
    let broker = broker();
    for (qos, kind) in [(1, wire::PUBACK), (2, wire::PUBREC)] {
        let (mut client, connect) = kept(&broker, 5, qos);
        let mut publisher = Client::plain(&broker, 5, "publisher");
        publisher.publish("t", "unwanted", qos);
        publisher.publish("t", "open", qos);
        let unwanted = client.message_unacked();
        let open = client.message_unacked();
        let [high, low] = unwanted.id.to_be_bytes();
        client.send(&packet(kind, &[high, low, 0x80]));
        let mut client = again(&broker, client, &connect);
        assert_eq!(client.recv(), Packet::Publish(Publish { dup: true, ..open.clone() }));
        client.acknowledge(&open);
        publisher.publish("t", "fence", qos);
        assert_eq!(client.message().text(), "fence");
        client.unsubscribe(&["t"]);
        client.disconnect();
    }
}
