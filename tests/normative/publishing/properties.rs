//! Properties of PUBLISH, section 3.3.2.3, on their way through the broker.

use crate::harness::client::Client;
use crate::harness::wire::{Connect, Prop, Publish, Value, find, prop};
use crate::publishing::steps::{let_pass, pair};
use crate::support::{assert_ends, broker};

/// Subscribers that are there, that come back, and that come later all see `props` as they were sent.
#[track_caller]
fn assert_forwarded(props: &[Prop]) {
    let broker = broker();
    let (mut present, mut publisher) = pair(&broker, 5, "t", 2);
    let connect = Connect::new(5, "absent").persistent();
    let mut absent = Client::connect(&broker, &connect);
    absent.subscribe("t", 2);
    absent.disconnect();
    let publish = Publish { props: props.to_vec(), ..Publish::new("t", "text", 1).retained() };
    publisher.publish_as(publish);
    let mut late = Client::plain(&broker, 5, "late");
    late.subscribe("t", 2);
    for mut client in [present, Client::connect(&broker, &connect), late] {
        assert_eq!(client.message().props, props);
    }
    present = Client::plain(&broker, 4, "older");
    present.subscribe("t", 2);
    assert_eq!(present.message().text(), "text", "without properties before 5.0");
}

/// A PUBLISH with this property is an error, for which its sender alone is disconnected.
#[track_caller]
fn assert_not_taken(property: Prop, reason: u8) {
    let broker = broker();
    let (mut subscriber, mut publisher) = pair(&broker, 5, "t", 0);
    let publish = Publish::new("t", "no", 0).with(property);
    assert_ends(&broker, 5, &publish.encode(5), reason);
    publisher.publish("t", "fence", 1);
    assert_eq!(subscriber.message().text(), "fence");
}

fn not_utf8(id: u8) -> Prop {
    Prop { id, value: Value::Binary(b"a\xFF".to_vec()) }
}

#[test]
fn mqtt_5_3_3_2_4_payload_format_unchanged() {
    assert_forwarded(&[Prop::byte(prop::PAYLOAD_FORMAT, 1)]);
    assert_forwarded(&[Prop::byte(prop::PAYLOAD_FORMAT, 0)]);
    assert_forwarded(&[]);
}

#[test]
fn mqtt_5_3_3_2_5_no_delivery_begins_after_the_expiry() {
    let broker = broker();
    let connect = Connect::new(5, "absent").persistent();
    let mut client = Client::connect(&broker, &connect);
    client.subscribe("t", 1);
    client.disconnect();
    let mut publisher = Client::plain(&broker, 5, "publisher");
    for (text, seconds) in [("short", 1), ("long", 1000), ("short", 1), ("longer", 2000)] {
        let expiry = Prop::four(prop::MESSAGE_EXPIRY, seconds);
        publisher.publish_as(Publish::new("t", text, 1).with(expiry));
    }
    let expiry = Prop::four(prop::MESSAGE_EXPIRY, 1);
    publisher.publish_as(Publish::new("t/kept", "short", 1).retained().with(expiry));
    let_pass(&broker, 2);
    let mut client = Client::connect(&broker, &connect);
    assert_eq!(client.message().text(), "long");
    assert_eq!(client.message().text(), "longer");
    client.subscribe("t/kept", 1);
    publisher.publish("t/kept", "fence", 1);
    assert_eq!(client.message().text(), "fence", "a retained message expires too");
}

#[test]
fn mqtt_5_3_3_2_6_the_time_that_a_message_waited_is_taken_off() {
    let broker = broker();
    let connect = Connect::new(5, "absent").persistent();
    let mut client = Client::connect(&broker, &connect);
    client.subscribe("t", 1);
    client.disconnect();
    let mut publisher = Client::plain(&broker, 5, "publisher");
    let expiry = Prop::four(prop::MESSAGE_EXPIRY, 1000);
    publisher.publish_as(Publish::new("t", "text", 1).retained().with(expiry));
    let_pass(&broker, 1);
    let mut late = Client::plain(&broker, 5, "late");
    late.subscribe("t", 1);
    for mut client in [Client::connect(&broker, &connect), late] {
        let message = client.message();
        let left = find(&message.props, prop::MESSAGE_EXPIRY).map(Prop::number);
        // A minute for a machine that is held up.
        assert!(left.is_some_and(|left| (940..=999).contains(&left)), "{left:?} of 1000 s left");
    }
}

#[test]
fn mqtt_5_3_3_2_7_aliases_end_with_the_connection() {
    let broker = broker();
    let (mut subscriber, mut publisher) = pair(&broker, 5, "t", 1);
    let alias = || Prop::two(prop::TOPIC_ALIAS, 1);
    publisher.publish_as(Publish::new("t", "set", 1).with(alias()));
    publisher.publish_as(Publish::new("", "used", 1).with(alias()));
    assert_eq!(subscriber.message().topic, "t");
    let used = subscriber.message();
    assert_eq!((used.topic.as_str(), used.text()), ("t", "used"));
    publisher.disconnect();
    // Nobody has set it on this connection, nor on another one of the same client.
    let wrong = Publish::new("", "no", 0).with(alias()).encode(5);
    assert_ends(&broker, 5, &wrong, 0x82);

    let connect =
        Connect::new(5, "aliased").persistent().with(Prop::two(prop::TOPIC_ALIAS_MAXIMUM, 5));
    let mut client = Client::connect(&broker, &connect);
    client.subscribe("long/enough/for/an/alias", 1);
    let mut publisher = Client::plain(&broker, 5, "publisher");
    for _ in 0..2 {
        let mut topics = Vec::new();
        for _ in 0..3 {
            publisher.publish("long/enough/for/an/alias", "text", 1);
            topics.push(client.message().topic);
        }
        assert_eq!(topics, ["long/enough/for/an/alias", "", ""], "named once for a connection");
        client.disconnect();
        client = Client::connect(&broker, &connect);
    }
}

#[test]
fn mqtt_5_3_3_2_8_alias_0_does_not_exist() {
    assert_not_taken(Prop::two(prop::TOPIC_ALIAS, 0), 0x94);
}

#[test]
fn mqtt_5_3_3_2_9_an_alias_above_the_maximum_is_an_error() {
    let broker = broker();
    let client = Client::plain(&broker, 5, "asking");
    let maximum = find(&client.props, prop::TOPIC_ALIAS_MAXIMUM).map_or(0, Prop::number);
    let above = u16::try_from(maximum + 1).expect("the default is small");
    for alias in [above, u16::MAX] {
        let publish = Publish::new("t", "no", 0).with(Prop::two(prop::TOPIC_ALIAS, alias));
        assert_ends(&broker, 5, &publish.encode(5), 0x94);
    }
}

#[test]
fn mqtt_5_3_3_2_11_no_alias_above_the_maximum_of_the_client() {
    let broker = broker();
    let mut publisher = Client::plain(&broker, 5, "publisher");
    for maximum in [0, 1, 3] {
        let mut connect = Connect::new(5, &format!("up-to-{maximum}"));
        if maximum > 0 {
            connect = connect.with(Prop::two(prop::TOPIC_ALIAS_MAXIMUM, maximum));
        }
        let mut client = Client::connect(&broker, &connect);
        client.subscribe("t/#", 1);
        let mut highest = 0;
        for number in 0..20 {
            publisher.publish(&format!("t/{}", number % 5), "text", 1);
            let message = client.message();
            let alias = find(&message.props, prop::TOPIC_ALIAS).map_or(0, Prop::number);
            assert!(alias > 0 || !message.topic.is_empty(), "neither topic nor alias");
            highest = highest.max(alias);
        }
        assert_eq!(highest, u32::from(maximum), "all that it allows, and none beyond");
    }
}

#[test]
fn mqtt_5_3_3_2_12_every_alias_up_to_the_maximum() {
    let broker = broker();
    let (mut subscriber, mut publisher) = pair(&broker, 5, "t/#", 1);
    let maximum = find(&publisher.props, prop::TOPIC_ALIAS_MAXIMUM).map_or(0, Prop::number);
    assert!(maximum > 0, "the broker takes aliases");
    let alias = |n: u32| Prop::two(prop::TOPIC_ALIAS, u16::try_from(n).expect("16 bits"));
    for n in 1..=maximum {
        publisher.publish_as(Publish::new(&format!("t/{n}"), "set", 1).with(alias(n)));
        assert_eq!(subscriber.message().topic, format!("t/{n}"));
    }
    for n in (1..=maximum).rev() {
        publisher.publish_as(Publish::new("", "used", 1).with(alias(n)));
        let message = subscriber.message();
        assert_eq!((message.topic, message.payload), (format!("t/{n}"), b"used".to_vec()));
    }
}

#[test]
fn mqtt_5_3_3_2_13_a_response_topic_is_utf8() {
    assert_not_taken(not_utf8(prop::RESPONSE_TOPIC), 0x81);
}

#[test]
fn mqtt_5_3_3_2_14_no_wildcards_in_a_response_topic() {
    assert_not_taken(Prop::text(prop::RESPONSE_TOPIC, "answers/#"), 0x82);
    assert_not_taken(Prop::text(prop::RESPONSE_TOPIC, "answers/+/x"), 0x82);
}

#[test]
fn mqtt_5_3_3_2_15_response_topic_unchanged() {
    assert_forwarded(&[Prop::text(prop::RESPONSE_TOPIC, "answers/à/漢")]);
}

#[test]
fn mqtt_5_3_3_2_16_correlation_data_unchanged() {
    assert_forwarded(&[Prop::binary(prop::CORRELATION_DATA, &[0, 1, 127, 128, 255])]);
    assert_forwarded(&[Prop::binary(prop::CORRELATION_DATA, &[])]);
}

#[test]
fn mqtt_5_3_3_2_17_user_properties_unchanged() {
    assert_forwarded(&[Prop::user("name", "value"), Prop::user("", ""), Prop::user("é", "漢")]);
}

#[test]
fn mqtt_5_3_3_2_18_user_properties_in_order() {
    let names = ["z", "a", "z", "m", "a", "z"];
    let props: Vec<Prop> =
        names.iter().enumerate().map(|(n, name)| Prop::user(name, &n.to_string())).collect();
    assert_forwarded(&props);
}

#[test]
fn mqtt_5_3_3_2_19_a_content_type_is_utf8() {
    assert_not_taken(not_utf8(prop::CONTENT_TYPE), 0x81);
}

#[test]
fn mqtt_5_3_3_2_20_content_type_unchanged() {
    assert_forwarded(&[Prop::text(prop::CONTENT_TYPE, "text/plain; charset=utf-8")]);
}
