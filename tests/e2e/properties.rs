//! Properties of MQTT 5.0 on their way through the broker, and the limits that they announce.

use std::collections::HashMap;

use crate::harness::broker::{Broker, Options};
use crate::harness::client::Client;
use crate::harness::on_shards;
use crate::harness::wire::{Connect, Packet, Prop, Publish, Value, Will, find, prop};

on_shards!(
    properties_pass_unchanged_and_in_order,
    topic_aliases_of_the_client_are_resolved,
    topic_aliases_of_the_broker_stay_within_the_maximum,
    an_invalid_topic_alias_ends_the_connection,
    an_expired_message_is_not_delivered,
    the_maximum_packet_size_of_a_client_is_honoured,
    the_receive_maximum_of_a_client_is_honoured,
);

fn properties_pass_unchanged_and_in_order(broker: &Broker) {
    let props = vec![
        Prop::byte(prop::PAYLOAD_FORMAT, 1),
        Prop::text(prop::CONTENT_TYPE, "text/plain; charset=utf-8"),
        Prop::text(prop::RESPONSE_TOPIC, "answers/à"),
        Prop::binary(prop::CORRELATION_DATA, &[0, 1, 254, 255]),
        Prop::user("z", "last"),
        Prop::user("a", "first"),
        Prop::user("z", "again"),
        Prop::user("", ""),
    ];
    let mut publisher = Client::plain(broker, 5, "props-from");
    for number in 0..8 {
        let topic = format!("props/{number}");
        let mut new = Client::plain(broker, 5, &format!("props-5-{number}"));
        let mut old = Client::plain(broker, 4, &format!("props-4-{number}"));
        new.subscribe(&topic, 2);
        old.subscribe(&topic, 2);
        for qos in [0, 1, 2] {
            let mut publish = Publish::new(&topic, "text", qos).retained();
            publish.props.clone_from(&props);
            publisher.publish_as(publish);
            assert_eq!(sorted(new.message().props), props);
            assert_eq!(old.message().text(), "text");
        }
        let mut late = Client::plain(broker, 5, &format!("props-late-{number}"));
        late.subscribe(&topic, 0);
        assert_eq!(sorted(late.message().props), props, "as a retained message");
    }
}

/// By identifier; the order of equal ones, the user properties, stays.
fn sorted(mut props: Vec<Prop>) -> Vec<Prop> {
    props.sort_by_key(|p| p.id);
    props
}

fn topic_aliases_of_the_client_are_resolved(broker: &Broker) {
    for number in 0..4 {
        let filter = format!("alias/{number}/+");
        let mut subscriber = Client::plain(broker, 4, &format!("alias-to-{number}"));
        subscriber.subscribe(&filter, 1);
        let mut publisher = Client::plain(broker, 5, &format!("alias-from-{number}"));
        let maximum = find(&publisher.props, prop::TOPIC_ALIAS_MAXIMUM).map_or(0, Prop::number);
        assert!(maximum >= 2, "the broker takes topic aliases");
        let alias = |n| Prop::two(prop::TOPIC_ALIAS, n);
        let topic = |name: &str| format!("alias/{number}/{name}");
        // Set two, use both, point the first elsewhere, use it again.
        let steps = [("a", 1), ("b", 2), ("", 1), ("", 2), ("c", 1), ("", 1), ("", 2)];
        for (name, n) in steps {
            let topic = if name.is_empty() { String::new() } else { topic(name) };
            publisher.publish_as(Publish::new(&topic, "x", 1).with(alias(n)));
        }
        for name in ["a", "b", "a", "b", "c", "c", "b"] {
            assert_eq!(subscriber.message().topic, topic(name));
        }
    }
}

fn topic_aliases_of_the_broker_stay_within_the_maximum(broker: &Broker) {
    let mut publisher = Client::plain(broker, 4, "out-from");
    for maximum in [1, 2, 10] {
        let connect = Connect::new(5, &format!("out-{maximum}"))
            .with(Prop::two(prop::TOPIC_ALIAS_MAXIMUM, maximum));
        let mut subscriber = Client::connect(broker, &connect);
        subscriber.subscribe("out/#", 1);
        let mut topics = HashMap::new();
        for number in 0..40 {
            let topic = format!("out/{}", number % 4);
            publisher.publish(&topic, number.to_string(), 1);
            let message = subscriber.message();
            assert_eq!(message.text(), number.to_string());
            let alias = find(&message.props, prop::TOPIC_ALIAS).map(Prop::number);
            if let Some(alias) = alias {
                assert!((1..=u32::from(maximum)).contains(&alias), "alias {alias} of {maximum}");
                if !message.topic.is_empty() {
                    topics.insert(alias, message.topic.clone());
                }
                assert_eq!(topics[&alias], topic);
            } else {
                assert_eq!(message.topic, topic);
            }
        }
    }
}

fn an_invalid_topic_alias_ends_the_connection(broker: &Broker) {
    for (number, (topic, alias)) in [("t", 0), ("", 1), ("t", 65_535)].into_iter().enumerate() {
        let mut client = Client::plain(broker, 5, &format!("bad-alias-{number}"));
        let maximum = find(&client.props, prop::TOPIC_ALIAS_MAXIMUM).map_or(0, Prop::number);
        if u32::from(alias) <= maximum && !topic.is_empty() && alias > 0 {
            continue;
        }
        let publish = Publish::new(topic, "x", 0).with(Prop::two(prop::TOPIC_ALIAS, alias));
        client.send(&publish.encode(5));
        let last = client.until_end();
        let [Packet::Disconnect { code, .. }] = last.as_slice() else {
            panic!("topic {topic:?}, alias {alias}: {last:?}");
        };
        // An alias that stands for nothing yet is a protocol error.
        let odd = *code == 0x81 && broker.deviates("2.0.11 calls alias 0 malformed");
        assert!([0x94, 0x82].contains(code) || odd, "topic {topic:?}, alias {alias}: 0x{code:02x}");
    }
}

/// The broker's own clock tells when the time has passed: a will that is delayed by more.
fn an_expired_message_is_not_delivered(broker: &Broker) {
    let mut clock = Client::plain(broker, 5, "clock");
    clock.subscribe("clock", 0);
    let mut publisher = Client::plain(broker, 5, "expiry-from");
    let expiry = |seconds| Prop::four(prop::MESSAGE_EXPIRY, seconds);
    let ids: Vec<String> = (0..8).map(|n| format!("expiry-{n}")).collect();
    for id in &ids {
        let mut client = Client::connect(broker, &Connect::new(5, id).persistent());
        client.subscribe("expiry", 1);
        client.disconnect();
    }
    publisher.publish_as(Publish::new("expiry", "short", 1).with(expiry(1)));
    publisher.publish_as(Publish::new("expiry", "long", 1).with(expiry(1000)));
    publisher.publish_as(Publish::new("expiry", "kept", 1).with(expiry(1)).retained());
    let mut will = Will::new("clock", "later");
    will.props.push(Prop::four(prop::WILL_DELAY, 3));
    Client::connect(broker, &Connect::new(5, "ticking").persistent().will(will)).vanish();
    assert_eq!(clock.message().text(), "later");
    for id in &ids {
        let mut client = Client::connect(broker, &Connect::new(5, id).persistent());
        let message = client.message();
        assert_eq!(message.text(), "long");
        let left = find(&message.props, prop::MESSAGE_EXPIRY).map(Prop::number);
        assert!(left.is_some_and(|s| (900..=998).contains(&s)), "the waiting counts: {left:?}");
        client.subscribe("expiry", 1);
        publisher.publish("expiry", "fence", 1);
        assert_eq!(client.message().text(), "fence", "the retained message has expired too");
        client.unsubscribe(&["expiry"]);
    }
}

fn the_maximum_packet_size_of_a_client_is_honoured(broker: &Broker) {
    let excess = if broker.deviates("2.0.11 does not count the first byte") { 2 } else { 1 };
    let mut publisher = Client::plain(broker, 5, "size-from");
    for number in 0..4 {
        let topic = format!("size/{number}");
        let connect = Connect::new(5, &format!("size-{number}"))
            .with(Prop::four(prop::MAXIMUM_PACKET_SIZE, 100));
        let mut small = Client::connect(broker, &connect);
        let mut large = Client::plain(broker, 5, &format!("size-large-{number}"));
        small.subscribe(&topic, 2);
        large.subscribe(&topic, 2);
        // Fixed header 2, topic 2 + 6, properties 1, packet identifier 2 for QoS 1 and 2.
        for (qos, most) in [(0, 89), (1, 87), (2, 87)] {
            publisher.publish(&topic, vec![b'a'; most], qos);
            publisher.publish(&topic, vec![b'b'; most + excess], qos);
            publisher.publish(&topic, vec![b'c'; 5000], qos);
            publisher.publish(&topic, "fence", qos);
            assert_eq!(small.message().payload, vec![b'a'; most], "a packet of 100 bytes passes");
            assert_eq!(small.message().text(), "fence", "QoS {qos}");
            for want in [most, most + excess, 5000, 5] {
                assert_eq!(large.message().payload.len(), want);
            }
        }
    }
}

fn the_receive_maximum_of_a_client_is_honoured(broker: &Broker) {
    if broker.deviates("2.0.11 loses count: the quota is exceeded by one") {
        return;
    }
    let mut publisher = Client::plain(broker, 5, "quota-from");
    for qos in [1, 2] {
        let topic = format!("quota/{qos}");
        let connect = Connect::new(5, &format!("quota-to-{qos}"))
            .with(Prop::two(prop::RECEIVE_MAXIMUM, 3))
            .with(Prop::four(prop::MAXIMUM_PACKET_SIZE, 100));
        let mut client = Client::connect(broker, &connect);
        client.subscribe(&topic, qos);
        for index in 0..30 {
            publisher.publish(&topic, index.to_string(), qos);
            publisher.publish(&topic, [b'x'; 200], qos);
        }
        let mut open: Vec<Publish> = (0..3).map(|_| client.message_unacked()).collect();
        let mut got: Vec<String> = open.iter().map(|m| m.text().to_owned()).collect();
        while got.len() < 30 {
            client.assert_no_message();
            client.acknowledge(&open.remove(0));
            let next = client.message_unacked();
            got.push(next.text().to_owned());
            open.push(next);
        }
        // What is too large for the client takes none of its quota away.
        let want: Vec<String> = (0..30).map(|i| i.to_string()).collect();
        assert_eq!(got, want);
    }
}

#[test]
fn the_receive_maximum_of_the_broker_is_enforced() {
    for shards in [1, 2, 8] {
        let mut options = Options::new(shards);
        options.receive_maximum = Some(5);
        let broker = Broker::start_with(&options);
        for number in 0..4 {
            let mut client = Client::plain(&broker, 5, &format!("exceeds-{number}"));
            assert_eq!(find(&client.props, prop::RECEIVE_MAXIMUM).map(Prop::number), Some(5));
            // QoS 2 counts until PUBREL, so the sixth is one too many whatever the timing.
            for id in 1..=6 {
                let mut publish = Publish::new("exceeds", "x", 2);
                publish.id = id;
                client.send(&publish.encode(5));
            }
            if broker.deviates("2.0.11 refuses the message with 0x97 and goes on") {
                continue;
            }
            let mut packets = client.until_end();
            let last = packets.pop();
            assert!(matches!(last, Some(Packet::Disconnect { code: 0x93, .. })), "{last:?}");
            assert!(packets.len() <= 5, "{packets:?}");
        }
    }
}

#[test]
fn a_packet_beyond_the_maximum_of_the_broker_is_refused() {
    for shards in [1, 2, 8] {
        let mut options = Options::new(shards);
        options.packet_bytes_max = Some(1000);
        let broker = Broker::start_with(&options);
        if broker.deviates("has no such option in its test configuration") {
            return;
        }
        let mut client = Client::plain(&broker, 5, "too-large");
        let announced = find(&client.props, prop::MAXIMUM_PACKET_SIZE);
        assert_eq!(announced.map(|p| &p.value), Some(&Value::Four(1000)));
        client.send_lossy(&Publish::new("large", vec![0; 1000], 0).encode(5));
        let last = client.until_end();
        assert!(matches!(last.as_slice(), [Packet::Disconnect { code: 0x95, .. }]), "{last:?}");
        let mut client = Client::plain(&broker, 4, "too-large-4");
        client.send_lossy(&Publish::new("large", vec![0; 1000], 0).encode(4));
        assert_eq!(client.until_end(), []);
    }
}
