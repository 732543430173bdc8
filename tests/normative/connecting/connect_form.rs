//! Section 3.1: the form of CONNECT, its flags and the fields of its payload.

use crate::harness::broker::Broker;
use crate::harness::client::Client;
use crate::harness::wire::{self, Connect, Packet, Prop, Publish, packet, prop};
use crate::support::{assert_ended, assert_ends, assert_refused, broker, broker_set, on_versions};

use super::data::ILL_FORMED;
use super::raw::{PASSWORD, RawConnect, USER_NAME, WILL, WILL_RETAIN};

on_versions! {
    fn mqtt_311_3_1_0_1_nothing_comes_before_connect(4),
    fn mqtt_5_3_1_0_1_nothing_comes_before_connect(5) => nothing_comes_before_connect;
    fn mqtt_311_3_1_0_2_a_second_connect_ends_the_connection(4),
    fn mqtt_5_3_1_0_2_a_second_connect_ends_the_connection(5) => second_connect;
    fn mqtt_311_3_1_2_1_another_protocol_is_not_spoken(4),
    fn mqtt_5_3_1_2_1_another_protocol_is_not_spoken(5) => another_protocol;
    fn mqtt_311_3_1_2_3_the_reserved_flag_is_checked(4),
    fn mqtt_5_3_1_2_3_the_reserved_flag_is_checked(5) => reserved_flag;
    fn mqtt_311_3_1_2_9_a_will_has_topic_and_payload(4),
    fn mqtt_5_3_1_2_9_a_will_has_properties_topic_and_payload(5) => will_fields;
    fn mqtt_311_3_1_2_11_no_will_has_no_fields(4) => no_will_has_no_fields;
    fn mqtt_311_3_1_2_13_no_will_has_no_qos(4),
    fn mqtt_5_3_1_2_11_no_will_has_no_qos(5) => no_will_has_no_qos;
    fn mqtt_311_3_1_2_14_no_will_at_qos_3(4),
    fn mqtt_5_3_1_2_12_no_will_at_qos_3(5) => no_will_at_qos_3;
    fn mqtt_311_3_1_2_15_no_will_is_not_retained(4),
    fn mqtt_5_3_1_2_13_no_will_is_not_retained(5) => no_will_is_not_retained;
    fn mqtt_311_3_1_2_18_no_flag_no_user_name(4),
    fn mqtt_5_3_1_2_16_no_flag_no_user_name(5) => no_flag_no_user_name;
    fn mqtt_311_3_1_2_19_a_flag_and_a_user_name(4),
    fn mqtt_5_3_1_2_17_a_flag_and_a_user_name(5) => a_flag_and_a_user_name;
    fn mqtt_311_3_1_2_20_no_flag_no_password(4),
    fn mqtt_5_3_1_2_18_no_flag_no_password(5) => no_flag_no_password;
    fn mqtt_311_3_1_2_21_a_flag_and_a_password(4),
    fn mqtt_5_3_1_2_19_a_flag_and_a_password(5) => a_flag_and_a_password;
    fn mqtt_311_3_1_3_1_fields_come_in_their_order(4),
    fn mqtt_5_3_1_3_1_fields_come_in_their_order(5) => fields_in_order;
    fn mqtt_311_3_1_3_3_the_client_identifier_is_there(4),
    fn mqtt_5_3_1_3_3_the_client_identifier_is_there(5) => client_id_is_there;
    fn mqtt_311_3_1_3_4_the_client_identifier_is_utf8(4),
    fn mqtt_5_3_1_3_4_the_client_identifier_is_utf8(5) => client_id_is_utf8;
    fn mqtt_311_3_1_3_5_plain_client_identifiers_are_taken(4),
    fn mqtt_5_3_1_3_5_plain_client_identifiers_are_taken(5) => plain_client_ids;
    fn mqtt_311_3_1_3_10_the_will_topic_is_utf8(4),
    fn mqtt_5_3_1_3_11_the_will_topic_is_utf8(5) => will_topic_is_utf8;
    fn mqtt_311_3_1_3_11_the_user_name_is_utf8(4),
    fn mqtt_5_3_1_3_12_the_user_name_is_utf8(5) => user_name_is_utf8;
    fn mqtt_311_3_1_4_1_a_connect_of_another_form_is_not_answered(4),
    fn mqtt_5_3_1_4_1_a_connect_of_another_form_ends_the_connection(5) => other_forms;
}

/// The broker takes this CONNECT.
#[track_caller]
fn assert_taken(broker: &Broker, connect: &RawConnect) -> Client {
    let mut client = Client::open(broker, connect.level);
    client.send(&connect.encode());
    let packet = client.recv();
    assert!(matches!(packet, Packet::Connack { code: 0, .. }), "{connect:?}: {packet:02x?}");
    client
}

#[track_caller]
fn assert_malformed(broker: &Broker, connect: &RawConnect) {
    assert_refused(broker, connect.level, &connect.encode(), 0x81);
}

fn nothing_comes_before_connect(version: u8) {
    let broker = broker();
    let mut watcher = Client::plain(&broker, version, "watcher");
    watcher.subscribe("first", 0);
    for bytes in [
        Publish::new("first", "never", 0).encode(version),
        wire::subscribe(version, 1, &[("a", 0)], &[]),
        wire::unsubscribe(version, 1, &["a"]),
        wire::ack(wire::PUBACK, 1),
        wire::ack(wire::PUBREL, 1),
        wire::PINGREQ.to_vec(),
        wire::DISCONNECT.to_vec(),
        packet(0xF0, &[]),
        packet(0x20, &[0, 0]),
    ] {
        let mut client = Client::open(&broker, version);
        // A CONNECT behind it mends nothing.
        client.send_lossy(&[bytes, Connect::new(version, "late").encode()].concat());
        assert_eq!(client.until_end(), []);
    }
    watcher.publish("first", "fence", 0);
    assert_eq!(watcher.message().text(), "fence");
}

fn second_connect(version: u8) {
    let broker = broker();
    let mut watcher = Client::plain(&broker, version, "watcher");
    watcher.subscribe("second", 0);
    for client_id in ["same", "other"] {
        let mut client = Client::plain(&broker, version, "same");
        let publish = Publish::new("second", "never", 0).encode(version);
        client.send_lossy(&[Connect::new(version, client_id).encode(), publish].concat());
        assert_ended(&mut client, version, 0x82);
        Client::plain(&broker, version, "same").publish("second", client_id, 0);
        assert_eq!(watcher.message().text(), client_id);
    }
}

/// Neither a CONNACK nor anything else: whoever speaks another protocol would not understand it.
fn another_protocol(version: u8) {
    let broker = broker();
    for name in [&b""[..], b"mqtt", b"MQT", b"MQTTS", b"MQTX", b"HTTP", b"\xFF"] {
        let mut client = Client::open(&broker, version);
        client.send_lossy(&RawConnect::new(version, "name").name(name).encode());
        assert_eq!(client.until_end(), [], "{name:02x?}");
    }
    // The name of 3.1 is none of this version.
    let mut client = Client::open(&broker, 4);
    client.send(&RawConnect::new(version, "name").name(b"MQIsdp").encode());
    assert_eq!(client.until_end(), [Packet::Connack { present: false, code: 1, props: vec![] }]);
    assert_taken(&broker, &RawConnect::new(version, "name"));
}

#[test]
fn mqtt_311_3_1_2_2_another_level_is_refused_with_1() {
    let broker = broker();
    for level in [0, 1, 2, 3, 0x83, 0x84] {
        let mut client = Client::open(&broker, 4);
        let connect = RawConnect::new(4, "level").level(level);
        client.send(&connect.encode());
        let refusal = Packet::Connack { present: false, code: 1, props: vec![] };
        assert_eq!(client.until_end(), [refusal], "level {level}");
    }
    assert_taken(&broker, &RawConnect::new(4, "level"));
}

#[test]
fn mqtt_5_3_1_2_2_another_level_is_refused_with_0x84() {
    let broker = broker();
    for level in [6, 7, 0x7F, 0x85, 0xFF] {
        let connect = RawConnect::new(5, "level").level(level);
        assert_refused(&broker, 5, &connect.encode(), 0x84);
    }
    assert_taken(&broker, &RawConnect::new(5, "level"));
}

fn reserved_flag(version: u8) {
    let broker = broker();
    assert_malformed(&broker, &RawConnect::new(version, "flag").flags(0x01));
    let with_will = RawConnect::new(version, "flag").will("t", "gone");
    assert_malformed(&broker, &with_will.clone().flags(0x01));
    assert_taken(&broker, &with_will);
}

fn will_fields(version: u8) {
    let broker = broker();
    let flagged = || RawConnect::new(version, "fields").flags(WILL);
    assert_malformed(&broker, &flagged());
    assert_malformed(&broker, &flagged().will_props(&[]));
    assert_malformed(&broker, &flagged().will_props(&[]).field("t"));
    if version == 5 {
        // The topic's length would be taken for that of the properties.
        assert_malformed(&broker, &flagged().field("t").field("gone"));
    }
    assert_taken(&broker, &flagged().will_props(&[]).field("t").field("gone"));
}

fn no_will_has_no_fields(version: u8) {
    let broker = broker();
    let plain = || RawConnect::new(version, "none");
    assert_malformed(&broker, &plain().field("t").field("gone"));
    assert_malformed(&broker, &plain().flags(0x08));
    assert_malformed(&broker, &plain().flags(WILL_RETAIN));
    assert_taken(&broker, &plain());
}

fn no_will_has_no_qos(version: u8) {
    let broker = broker();
    for qos in [0x08, 0x10, 0x18] {
        assert_malformed(&broker, &RawConnect::new(version, "qos").flags(qos));
    }
    assert_taken(&broker, &RawConnect::new(version, "qos"));
}

fn no_will_at_qos_3(version: u8) {
    let broker = broker();
    let with_will = || RawConnect::new(version, "qos").will("t", "gone");
    for qos in [0, 0x08, 0x10] {
        assert_taken(&broker, &with_will().flags(qos));
    }
    assert_malformed(&broker, &with_will().flags(0x18));
}

fn no_will_is_not_retained(version: u8) {
    let broker = broker();
    assert_malformed(&broker, &RawConnect::new(version, "retain").flags(WILL_RETAIN));
    assert_taken(&broker, &RawConnect::new(version, "retain").will("t", "").flags(WILL_RETAIN));
}

fn no_flag_no_user_name(version: u8) {
    let broker = broker();
    assert_malformed(&broker, &RawConnect::new(version, "user").field("name"));
    assert_taken(&broker, &RawConnect::new(version, "user"));
}

fn a_flag_and_a_user_name(version: u8) {
    let broker = broker();
    assert_malformed(&broker, &RawConnect::new(version, "user").flags(USER_NAME));
    assert_taken(&broker, &RawConnect::new(version, "user").flags(USER_NAME).field("name"));
    assert_taken(&broker, &RawConnect::new(version, "user").flags(USER_NAME).field(""));
}

fn no_flag_no_password(version: u8) {
    let broker = broker();
    let named = || RawConnect::new(version, "password").flags(USER_NAME).field("name");
    assert_malformed(&broker, &named().field("secret"));
    assert_taken(&broker, &named());
}

fn a_flag_and_a_password(version: u8) {
    let broker = broker();
    let named = || RawConnect::new(version, "password").flags(USER_NAME).field("name");
    assert_malformed(&broker, &named().flags(PASSWORD));
    // Bytes of any kind.
    assert_taken(&broker, &named().flags(PASSWORD).field(b"\xFF\0"));
    if version == 5 {
        let alone = RawConnect::new(5, "password").flags(PASSWORD);
        assert_malformed(&broker, &alone);
        assert_taken(&broker, &alone.field("secret"));
    }
}

#[test]
fn mqtt_311_3_1_2_22_no_password_without_a_user_name() {
    let broker = broker();
    let connect = RawConnect::new(4, "password").flags(PASSWORD).field("secret");
    assert_malformed(&broker, &connect);
    assert_taken(&broker, &connect.flags(USER_NAME).field("and a name before it"));
}

/// All fields; what each of them is shows in what it does.
fn fields_in_order(version: u8) {
    let broker = broker();
    let mut watcher = Client::plain(&broker, version, "watcher");
    watcher.subscribe("will/+", 0);
    let content = if version == 5 { vec![Prop::text(prop::CONTENT_TYPE, "c")] } else { vec![] };
    let connect = RawConnect::new(version, "ordered")
        .flags(WILL | USER_NAME | PASSWORD)
        .will_props(&content)
        .field("will/topic")
        .field("will payload")
        .field("user")
        .field(b"\xFFpassword");
    let mut first = assert_taken(&broker, &connect);
    // It is the first field that names the client: this one takes over, and the will is due.
    Client::plain(&broker, version, "ordered").ping();
    assert_ended(&mut first, version, 0x8E);
    let message = watcher.message();
    assert_eq!((message.topic.as_str(), message.text()), ("will/topic", "will payload"));
    assert_eq!(message.props, content);
    // A payload in the topic's place, a password in the user name's.
    let swapped = RawConnect::new(version, "swapped").will("no/#/topic", "will/topic");
    assert_malformed(&broker, &swapped);
    let swapped = RawConnect::new(version, "swapped").flags(USER_NAME | PASSWORD);
    assert_malformed(&broker, &swapped.field(b"\xFFpassword").field("user"));
}

fn client_id_is_there(version: u8) {
    let broker = broker();
    assert_malformed(&broker, &RawConnect::bare(version));
    // The will's topic is taken for it, and then something is missing at the end.
    assert_malformed(&broker, &RawConnect::bare(version).will("t", "gone"));
    assert_taken(&broker, &RawConnect::new(version, "there"));
}

fn client_id_is_utf8(version: u8) {
    let broker = broker();
    for bytes in ILL_FORMED {
        assert_malformed(&broker, &RawConnect::bare(version).field(bytes));
    }
    assert_taken(&broker, &RawConnect::new(version, "\u{10FFFF} \u{E9}"));
}

/// Every character that must be taken, every length, also where the limit is as low as it can be.
fn plain_client_ids(version: u8) {
    let broker = broker_set(&["limits.client_id_bytes_max=23"]);
    let letters = "0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ";
    for (begin, length) in (0..=39).zip((1..=23).cycle()) {
        let client_id = &letters[begin..begin + length];
        assert_taken(&broker, &RawConnect::new(version, client_id));
    }
}

fn will_topic_is_utf8(version: u8) {
    let broker = broker();
    for bytes in ILL_FORMED {
        assert_malformed(&broker, &RawConnect::new(version, "will").will(bytes, "gone"));
    }
    assert_taken(&broker, &RawConnect::new(version, "will").will("a/\u{10FFFF}", "gone"));
}

fn user_name_is_utf8(version: u8) {
    let broker = broker();
    let named = || RawConnect::new(version, "user").flags(USER_NAME);
    for bytes in ILL_FORMED {
        assert_malformed(&broker, &named().field(bytes));
    }
    assert_taken(&broker, &named().field("\u{10FFFF}"));
}

/// Cut anywhere, one byte too many, what no will topic can be; in 5.0 also properties.
fn other_forms(version: u8) {
    let broker = broker();
    let whole = RawConnect::new(version, "form").will("t", "gone").flags(USER_NAME).field("name");
    let bytes = whole.encode();
    let body = &bytes[2..];
    // A body that ends before the level does not say which version could answer.
    for cut in 7..body.len() {
        assert_refused(&broker, version, &packet(0x10, &body[..cut]), 0x81);
    }
    for cut in 0..7 {
        let mut client = Client::open(&broker, version);
        client.send_lossy(&packet(0x10, &body[..cut]));
        assert_eq!(client.until_end(), [], "cut at {cut}");
    }
    assert_refused(&broker, version, &packet(0x10, &[body, &[0]].concat()), 0x81);
    assert_taken(&broker, &whole);
    if version == 5 {
        for (property, reason) in [
            (Prop::two(prop::RECEIVE_MAXIMUM, 0), 0x82),
            (Prop::four(prop::MAXIMUM_PACKET_SIZE, 0), 0x82),
            (Prop::byte(prop::REQUEST_PROBLEM_INFORMATION, 2), 0x82),
            (Prop::byte(prop::REQUEST_RESPONSE_INFORMATION, 2), 0x82),
            (Prop::binary(prop::AUTHENTICATION_DATA, b"alone"), 0x82),
            (Prop::two(prop::TOPIC_ALIAS, 1), 0x81),
            (Prop::byte(0x7F, 1), 0x81),
        ] {
            let connect = RawConnect::new(5, "form").prop(property);
            assert_refused(&broker, 5, &connect.encode(), reason);
        }
        let twice = RawConnect::new(5, "form").prop(Prop::four(prop::SESSION_EXPIRY, 1));
        let twice = twice.prop(Prop::four(prop::SESSION_EXPIRY, 1));
        assert_refused(&broker, 5, &twice.encode(), 0x82);
    }
    // After the CONNACK the same lack of form has the same end.
    assert_ends(&broker, version, &packet(0x82, &[0]), 0x81);
}
