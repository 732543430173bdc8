//! Section 3.2: CONNACK.

use crate::harness::broker::Broker;
use crate::harness::client::Client;
use crate::harness::wire::{self, Connect, Packet, Prop, Publish, Will, find, prop};
use crate::support::{assert_ended, assert_refused, broker, broker_set, on_versions};

use super::raw::RawConnect;

on_versions! {
    fn mqtt_311_3_2_0_1_connack_is_the_first_packet(4),
    fn mqtt_5_3_2_0_1_connack_is_the_first_packet(5),
    fn mqtt_5_3_2_0_2_there_is_one_connack(5) => connack_comes_first_and_once;
    fn mqtt_311_3_2_2_1_session_present_is_0_after_a_clean_session(4),
    fn mqtt_5_3_2_2_2_session_present_is_0_after_a_clean_start(5) => clean_means_not_present;
    fn mqtt_311_3_2_2_2_session_present_is_1_for_a_stored_session(4),
    fn mqtt_311_3_2_2_3_session_present_is_0_without_one(4),
    fn mqtt_5_3_2_2_3_session_present_says_whether_there_was_one(5) => present_says_whether;
    fn mqtt_311_3_2_2_4_a_refusal_has_no_session_present(4),
    fn mqtt_5_3_2_2_6_a_refusal_has_no_session_present(5) => refusal_has_no_session_present;
    fn mqtt_311_3_2_2_5_the_connection_is_closed_after_a_refusal(4),
    fn mqtt_5_3_2_2_7_the_connection_is_closed_after_a_refusal(5) => closed_after_a_refusal;
}

/// With a session that has messages waiting, and requests sent right behind the CONNECT.
fn connack_comes_first_and_once(version: u8) {
    let broker = broker();
    for number in 0..8 {
        let connect = Connect::new(version, &format!("first-{number}")).persistent();
        let mut client = Client::connect(&broker, &connect);
        client.subscribe("t", 1);
        client.disconnect();
        Client::plain(&broker, version, "publisher").publish("t", "queued", 1);
        let mut client = Client::open(&broker, version);
        let subscribe = wire::subscribe(version, 1, &[("u", 0)], &[]);
        let bytes = [connect.encode(), subscribe, wire::PINGREQ.to_vec()].concat();
        client.send(&bytes);
        let first = client.recv();
        assert!(matches!(first, Packet::Connack { present: true, code: 0, .. }), "{first:?}");
        client.wait_for(|p| matches!(p, Packet::Pingresp));
        assert_eq!(client.message().text(), "queued");
        client.send(&wire::DISCONNECT);
        let rest = client.until_end();
        assert!(!rest.iter().any(|p| matches!(p, Packet::Connack { .. })), "{rest:?}");
    }
}

/// How the broker answers a CONNECT of a client that has a session or has none, connected or away.
fn clean_means_not_present(version: u8) {
    let broker = broker();
    let kept = Connect::new(version, "clean").persistent();
    let clean = Connect { clean: true, ..kept.clone() };
    assert!(!Client::connect(&broker, &clean).present);
    Client::connect(&broker, &kept).disconnect();
    assert!(!Client::connect(&broker, &clean).present);
    let mut there = Client::connect(&broker, &kept);
    assert!(!Client::connect(&broker, &clean).present);
    assert_ended(&mut there, version, 0x8E);
}

fn present_says_whether(version: u8) {
    let broker = broker();
    for number in 0..8 {
        let kept = Connect::new(version, &format!("kept-{number}")).persistent();
        let mut client = Client::connect(&broker, &kept);
        assert!(!client.present);
        let there = Client::connect(&broker, &kept);
        assert!(there.present);
        assert_ended(&mut client, version, 0x8E);
        there.disconnect();
        // Without any subscription it is a session all the same.
        assert!(Client::connect(&broker, &kept).present);
        Client::plain(&broker, version, &kept.client_id).disconnect();
        assert!(!Client::connect(&broker, &kept).present);
    }
}

/// CONNECTs of `client_id` that are understood and refused, with their codes.
fn refused(version: u8, client_id: &str) -> Vec<(Connect, u8)> {
    let mut connect = Connect::new(version, client_id);
    connect.clean = false;
    let reserved = connect.clone().will(Will::new("$SYS/will", "gone"));
    if version < 5 {
        return vec![(reserved, 5)];
    }
    let method = Prop::text(prop::AUTHENTICATION_METHOD, "none such");
    vec![(reserved, 0x87), (connect.with(method), 0x8C)]
}

fn refusal_has_no_session_present(version: u8) {
    let broker = broker();
    let kept = Connect::new(version, "kept").persistent();
    let mut client = Client::connect(&broker, &kept);
    client.subscribe("t", 1);
    for (connect, code) in refused(version, "kept") {
        let (mut client, got) = Client::offer(&broker, &connect);
        assert_eq!((got, client.present), (code, false));
        assert_eq!(client.until_end(), []);
    }
    // Nor does the refused client end the one that was let in, or its session.
    client.publish("t", "unharmed", 1);
    assert_eq!(client.message().text(), "unharmed");
    client.disconnect();
    assert!(Client::connect(&broker, &kept).present);
}

fn closed_after_a_refusal(version: u8) {
    let broker = broker();
    for (connect, code) in refused(version, "closed") {
        let (mut client, got) = Client::offer(&broker, &connect);
        assert_eq!(got, code);
        assert_eq!(client.until_end(), []);
    }
    let level = if version == 5 { 0x7F } else { 0 };
    let mut client = Client::open(&broker, version);
    client.send(&RawConnect::new(version, "closed").level(level).encode());
    assert!(matches!(client.recv(), Packet::Connack { code: 1 | 0x84, .. }));
    assert_eq!(client.until_end(), []);
}

/// Success with and without a session, and a refusal.
#[test]
fn mqtt_5_3_2_2_1_the_other_acknowledge_flags_are_0() {
    let broker = broker();
    let kept = Connect::new(5, "flags").persistent();
    let (method, _) = refused(5, "flags").remove(1);
    for (connect, flags) in [(&kept, 0), (&kept, 1), (&method, 0)] {
        let mut client = Client::open(&broker, 5);
        client.send(&connect.encode());
        let bytes = client.recv_bytes();
        assert_eq!((bytes[0], bytes[2]), (0x20, flags));
        client.vanish();
    }
}

/// All refusals that can be had from outside, some for errors that other packets have codes for.
#[test]
fn mqtt_5_3_2_2_8_only_reason_codes_of_connack() {
    const LISTED: [u8; 22] = [
        0x00, 0x80, 0x81, 0x82, 0x83, 0x84, 0x85, 0x86, 0x87, 0x88, 0x89, 0x8A, 0x8C, 0x90, 0x95,
        0x97, 0x99, 0x9A, 0x9B, 0x9C, 0x9D, 0x9F,
    ];
    let broker = broker_set(&[
        "limits.client_id_bytes_max=23",
        "limits.topic_levels_max=4",
        "mqtt.maximum_qos=0",
        "retained.available=false",
    ]);
    let plain = || RawConnect::new(5, "codes");
    let will = |topic: &str| plain().will(topic, "gone");
    let prop = |property| plain().prop(property);
    for (connect, want) in [
        (plain(), 0x00),
        (plain().level(6), 0x84),
        (plain().flags(0x01), 0x81),
        (RawConnect::new(5, "123456789012345678901234"), 0x85),
        (will("$SYS/t"), 0x87),
        (will("a/b/c/d/e"), 0x90),
        (will("t").flags(0x08), 0x9B),
        (will("t").flags(0x20), 0x9A),
        (prop(Prop::text(prop::AUTHENTICATION_METHOD, "none such")), 0x8C),
        (prop(Prop::two(prop::RECEIVE_MAXIMUM, 0)), 0x82),
        (prop(Prop::two(prop::TOPIC_ALIAS, 0)), 0x80),
        (prop(Prop::text(prop::RESPONSE_TOPIC, "a/#")), 0x82),
    ] {
        let mut client = Client::open(&broker, 5);
        client.send(&connect.encode());
        let Packet::Connack { code, .. } = client.recv() else { panic!("{connect:?}") };
        assert_eq!(code, want, "{connect:?}");
        assert!(LISTED.contains(&code));
    }
}

/// None of the six codes is for a CONNECT that is not understood.
#[test]
fn mqtt_311_3_2_2_6_no_code_no_connack() {
    let broker = broker();
    for connect in [
        RawConnect::new(4, "none").flags(0x01),
        RawConnect::new(4, "none").will("t", "gone").flags(0x18),
        RawConnect::new(4, "none").field("left over"),
        RawConnect::bare(4),
    ] {
        let mut client = Client::open(&broker, 4);
        client.send_lossy(&connect.encode());
        assert_eq!(client.until_end(), [], "{connect:?}");
    }
}

/// The broker says a maximum if it has one, and `None` if not.
#[track_caller]
fn told(broker: &Broker, id: u8) -> Option<u32> {
    find(&Client::plain(broker, 5, "told").props, id).map(Prop::number)
}

#[test]
fn mqtt_5_3_2_2_9_a_maximum_qos_is_told() {
    for (maximum, want) in [(0, Some(0)), (1, Some(1)), (2, None)] {
        let broker = broker_set(&[&format!("mqtt.maximum_qos={maximum}")]);
        assert_eq!(told(&broker, prop::MAXIMUM_QOS), want);
    }
}

/// What is granted is what the broker can do.
#[test]
fn mqtt_5_3_2_2_10_subscriptions_may_ask_for_any_qos() {
    for maximum in [0, 1] {
        let broker = broker_set(&[&format!("mqtt.maximum_qos={maximum}")]);
        let mut client = Client::plain(&broker, 5, "asks");
        for qos in [0, 1, 2] {
            assert_eq!(client.subscribe("t", qos), qos.min(maximum));
            client.publish("t", "x", maximum);
            assert_eq!(client.message().qos, qos.min(maximum));
        }
    }
}

#[test]
fn mqtt_5_3_2_2_11_a_publish_above_the_maximum_qos_ends_the_connection() {
    for maximum in [0, 1] {
        let broker = broker_set(&[&format!("mqtt.maximum_qos={maximum}")]);
        let mut watcher = Client::plain(&broker, 5, "watcher");
        watcher.subscribe("t", 0);
        for qos in maximum + 1..=2 {
            let mut client = Client::plain(&broker, 5, "above");
            let mut publish = Publish::new("t", "never", qos);
            publish.id = 1;
            client.send(&publish.encode(5));
            assert_ended(&mut client, 5, 0x9B);
        }
        watcher.publish("t", "fence", maximum);
        assert_eq!(watcher.message().text(), "fence");
    }
}

#[test]
fn mqtt_5_3_2_2_12_a_will_above_the_maximum_qos_is_refused() {
    for maximum in [0_u8, 1] {
        let broker = broker_set(&[&format!("mqtt.maximum_qos={maximum}")]);
        let with_will = |qos: u8| RawConnect::new(5, "will").will("t", "gone").flags(qos << 3);
        for qos in maximum + 1..=2 {
            assert_refused(&broker, 5, &with_will(qos).encode(), 0x9B);
        }
        let mut client = Client::open(&broker, 5);
        client.send(&with_will(maximum).encode());
        assert!(matches!(client.recv(), Packet::Connack { code: 0, .. }));
    }
}

#[test]
fn mqtt_5_3_2_2_13_a_retained_will_is_refused_if_nothing_is_retained() {
    let broker = broker_set(&["retained.available=false"]);
    let with_will = |flags| RawConnect::new(5, "will").will("t", "gone").flags(flags).encode();
    assert_refused(&broker, 5, &with_will(0x20), 0x9A);
    let mut client = Client::open(&broker, 5);
    client.send(&with_will(0));
    assert!(matches!(client.recv(), Packet::Connack { code: 0, .. }));
}

#[test]
fn mqtt_5_3_2_2_14_retain_ends_the_connection_if_nothing_is_retained() {
    let broker = broker_set(&["retained.available=false"]);
    assert_eq!(told(&broker, prop::RETAIN_AVAILABLE), Some(0));
    let mut watcher = Client::plain(&broker, 5, "watcher");
    watcher.subscribe("t", 0);
    let mut client = Client::plain(&broker, 5, "retains");
    client.send(&Publish::new("t", "never", 0).retained().encode(5));
    assert_ended(&mut client, 5, 0x9A);
    watcher.publish("t", "fence", 0);
    assert_eq!(watcher.message().text(), "fence");
}

#[test]
fn mqtt_5_3_2_2_15_a_packet_above_the_maximum_ends_the_connection() {
    let broker = broker_set(&["limits.packet_bytes_max=4096"]);
    assert_eq!(told(&broker, prop::MAXIMUM_PACKET_SIZE), Some(4096));
    let mut client = Client::plain(&broker, 5, "large");
    client.subscribe("large", 0);
    // Three bytes of header, the topic with its length, no properties.
    let most = 4096 - 3 - 7 - 1;
    client.send(&Publish::new("large", vec![b'x'; most], 0).encode(5));
    assert_eq!(client.message().payload.len(), most);
    client.send(&Publish::new("large", vec![b'x'; most + 1], 0).encode(5));
    assert_ended(&mut client, 5, 0x95);
    Client::plain(&broker, 5, "after").ping();
}

/// Each alias up to the maximum that CONNACK gave is taken; `above` is not.
#[track_caller]
fn assert_aliases(broker: &Broker, maximum: u16) {
    let mut watcher = Client::plain(broker, 5, "watcher");
    watcher.subscribe("t", 0);
    let mut client = Client::plain(broker, 5, "aliases");
    let with_alias = |topic, payload, alias| {
        Publish::new(topic, payload, 0).with(Prop::two(prop::TOPIC_ALIAS, alias))
    };
    for alias in 1..=maximum {
        client.publish_as(with_alias("t", "set", alias));
        client.publish_as(with_alias("", "used", alias));
        assert_eq!(watcher.message().text(), "set");
        assert_eq!(watcher.message().text(), "used");
    }
    client.send(&with_alias("t", "never", maximum + 1).encode(5));
    assert_ended(&mut client, 5, 0x94);
    watcher.publish("t", "fence", 0);
    assert_eq!(watcher.message().text(), "fence");
}

#[test]
fn mqtt_5_3_2_2_17_an_alias_above_the_maximum_ends_the_connection() {
    let broker = broker_set(&["session.topic_alias_max=5"]);
    assert_eq!(told(&broker, prop::TOPIC_ALIAS_MAXIMUM), Some(5));
    assert_aliases(&broker, 5);
}

#[test]
fn mqtt_5_3_2_2_18_without_a_maximum_any_alias_ends_the_connection() {
    let broker = broker_set(&["session.topic_alias_max=0"]);
    assert!(matches!(told(&broker, prop::TOPIC_ALIAS_MAXIMUM), None | Some(0)));
    assert_aliases(&broker, 0);
}

/// A refusal in words, and the same one for a client that takes too little for them: without the words
/// if there is room for the rest, not at all if there is none.
#[test]
fn mqtt_5_3_2_2_19_no_reason_string_that_makes_connack_too_long() {
    let broker = broker();
    let (connect, reason) = refused(5, "words").remove(1);
    let (client, code) = Client::offer(&broker, &connect);
    assert_eq!(code, reason);
    assert!(find(&client.props, prop::REASON_STRING).is_some());
    let mut client = Client::open(&broker, 5);
    client.send(&connect.encode());
    let whole = u32::try_from(client.recv_bytes().len()).expect("a short packet");
    let limited = |limit| {
        let mut client = Client::open(&broker, 5);
        let property = Prop::four(prop::MAXIMUM_PACKET_SIZE, limit);
        client.send(&connect.clone().with(property).encode());
        client
    };
    assert_eq!(limited(whole).recv_bytes().len(), usize::try_from(whole).expect("small"));
    for limit in [whole - 1, 5] {
        let mut client = limited(limit);
        assert_eq!(client.recv_bytes(), [0x20, 3, 0, reason, 0]);
        assert_eq!(client.until_end(), []);
    }
    assert_eq!(limited(4).until_end(), []);
}

/// Not seen from outside: the broker has no user properties of its own to send, so none is too long.
#[test]
fn mqtt_5_3_2_2_20_no_user_properties_that_make_connack_too_long() {
    let broker = broker();
    let limit = Prop::four(prop::MAXIMUM_PACKET_SIZE, 40);
    let pairs = Connect::new(5, "pairs").with(Prop::user("n", "v")).with(limit);
    let (refusal, code) = refused(5, "pairs").remove(1);
    for (connect, code) in [(pairs, 0), (refusal, code)] {
        let (client, got) = Client::offer(&broker, &connect);
        assert_eq!(got, code);
        assert_eq!(find(&client.props, prop::USER_PROPERTY), None);
    }
}
