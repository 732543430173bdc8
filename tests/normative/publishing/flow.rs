//! Flow control, sections 3.3.4 and 4.9: the receive maximum in both directions.

use crate::harness::broker::Broker;
use crate::harness::client::Client;
use crate::harness::wire::{self, Connect, Packet, Prop, Publish, find, prop};
use crate::publishing::steps::{pair, publish_id};
use crate::support::{broker, broker_set};

/// A subscriber of `t` that takes so many messages unacknowledged, after `count` were published.
#[track_caller]
fn flooded(broker: &Broker, receive_maximum: u16, count: u32, qos: u8) -> (Client, Client) {
    let maximum = Prop::two(prop::RECEIVE_MAXIMUM, receive_maximum);
    let mut client = Client::connect(broker, &Connect::new(5, "limited").with(maximum));
    client.subscribe("t", qos);
    let mut publisher = Client::plain(broker, 5, "publisher");
    for number in 0..count {
        publisher.publish("t", number.to_string(), qos);
    }
    (client, publisher)
}

/// Retain Handling 2: while retained messages are under way, QoS 0 too waits, behind what the quota holds.
const NOT_RETAINED: u8 = 0x20;

/// Nothing above QoS 0 comes to `client`: QoS 0 on the same path does not wait for the quota.
#[track_caller]
fn assert_held(client: &mut Client, publisher: &mut Client) {
    client.subscribe("open", NOT_RETAINED);
    publisher.publish("open", "open", 0);
    client.wait_for(|p| matches!(p, Packet::Publish(publish) if publish.topic == "open"));
    // What the wait has set aside comes first.
    client.send(&wire::PINGREQ);
    assert_eq!(client.recv(), Packet::Pingresp, "and nothing beyond the quota");
}

#[test]
fn mqtt_5_3_3_4_7_a_client_keeps_to_the_receive_maximum() {
    // QoS 1 is acknowledged at once; QoS 2 keeps its place until its PUBREL.
    for qos in [1, 2] {
        let broker = broker_set(&["session.receive_maximum=2"]);
        let mut client = Client::plain(&broker, 5, "greedy");
        let announced = find(&client.props, prop::RECEIVE_MAXIMUM).map(Prop::number);
        assert_eq!(announced, Some(2));
        for id in 1..=2 {
            client.send(&publish_id("t", "text", 2, id).encode(5));
            client.wait_for(|p| matches!(p, Packet::Pubrec { id: of, .. } if *of == id));
        }
        let mut beside = Client::plain(&broker, 5, "beside");
        client.send(&publish_id("t", "text", qos, 3).encode(5));
        let last = client.until_end();
        assert!(matches!(last.as_slice(), [Packet::Disconnect { code: 0x93, .. }]), "{last:?}");
        beside.ping();
    }
}

#[test]
fn mqtt_5_3_3_4_9_never_more_than_the_receive_maximum() {
    let broker = broker();
    for (maximum, qos) in [(1, 1), (1, 2), (3, 1), (3, 2)] {
        let (mut client, mut publisher) = flooded(&broker, maximum, 10, qos);
        let mut open: Vec<Publish> = (0..maximum).map(|_| client.message_unacked()).collect();
        for next in u32::from(maximum)..10 {
            assert_held(&mut client, &mut publisher);
            let first = open.remove(0);
            client.acknowledge(&first);
            let message = client.wait_for(|p| matches!(p, Packet::Publish(p) if p.qos > 0));
            let Packet::Publish(message) = message else { unreachable!("matched above") };
            assert_eq!(message.text(), next.to_string());
            assert!(open.iter().all(|other| other.id != message.id), "an identifier of its own");
            open.push(message);
        }
        client.disconnect();
    }
}

/// QoS 2 holds its place until the PUBCOMP, also once the message itself is acknowledged.
#[test]
fn mqtt_5_4_9_0_2_no_publish_while_the_quota_is_0() {
    let broker = broker();
    let (mut client, mut publisher) = flooded(&broker, 1, 2, 2);
    let first = client.message_unacked();
    assert_held(&mut client, &mut publisher);
    client.send(&wire::ack(wire::PUBREC, first.id));
    client.wait_for(|p| matches!(p, Packet::Pubrel { id, .. } if *id == first.id));
    assert_held(&mut client, &mut publisher);
    client.send(&wire::ack(wire::PUBCOMP, first.id));
    assert_eq!(client.wait_for(is_second), Packet::Publish(publish_id("t", "1", 2, 2)));
    // A PUBREC with an error gives the place back at once.
    publisher.publish("t", "2", 2);
    assert_held(&mut client, &mut publisher);
    client.send(&wire::packet(wire::PUBREC, &[0, 2, 0x80]));
    let third = client.wait_for(|p| matches!(p, Packet::Publish(p) if p.qos > 0));
    assert!(matches!(third, Packet::Publish(p) if p.text() == "2"));
}

fn is_second(packet: &Packet) -> bool {
    matches!(packet, Packet::Publish(publish) if publish.qos > 0)
}

#[test]
fn mqtt_5_4_9_0_1_the_quota_begins_between_1_and_the_maximum() {
    let broker = broker();
    for maximum in [1, 2, 20] {
        let (mut client, mut publisher) = flooded(&broker, maximum, 30, 1);
        for number in 0..maximum {
            assert_eq!(client.message_unacked().text(), number.to_string());
        }
        assert_held(&mut client, &mut publisher);
        client.disconnect();
    }
    // None named: 65,535, of which the broker uses as many as it likes, and at least one.
    let (mut client, mut publisher) = pair(&broker, 5, "t", 1);
    publisher.publish("t", "text", 1);
    assert_eq!(client.message_unacked().text(), "text");
    // 0 is none.
    let wrong = Connect::new(5, "none").with(Prop::two(prop::RECEIVE_MAXIMUM, 0));
    let (_, code) = Client::offer(&broker, &wrong);
    assert_eq!(code, 0x82);
}

/// Every request that a client can make is answered while nothing more can be published to it.
#[track_caller]
fn assert_all_answered(qos: u8) {
    let broker = broker();
    let (mut client, _publisher) = flooded(&broker, 1, 3, qos);
    let open = client.message_unacked();
    for (request, answer) in [
        (wire::PINGREQ.to_vec(), Packet::Pingresp),
        (wire::subscribe(5, 100, &[("other", 2)], &[]), Packet::Suback { id: 100, codes: vec![2] }),
        (publish_id("x", "1", 1, 101).encode(5), Packet::Puback { id: 101, code: 0x10 }),
        (publish_id("x", "2", 2, 102).encode(5), Packet::Pubrec { id: 102, code: 0x10 }),
        (wire::ack(wire::PUBREL, 102), Packet::Pubcomp { id: 102, code: 0 }),
        (wire::unsubscribe(5, 103, &["other"]), Packet::Unsuback { id: 103, codes: vec![0] }),
    ] {
        client.send(&request);
        assert_eq!(client.recv(), answer);
    }
    client.acknowledge(&open);
    assert_eq!(client.message().text(), "1");
}

#[test]
fn mqtt_5_3_3_4_10_a_full_quota_holds_back_nothing_else() {
    assert_all_answered(1);
}

#[test]
fn mqtt_5_4_9_0_3_other_packets_are_handled_with_the_quota_at_0() {
    assert_all_answered(2);
}
