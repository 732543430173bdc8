//! DISCONNECT, section 3.14, and what an error ends: section 4.8 of 3.1.1, 4.13 of 5.0.

use rustix::process::Signal;

use crate::harness::broker::Broker;
use crate::harness::client::Client;
use crate::harness::wire::{self, Connect, Packet, Prop, Publish, Will, packet, prop};
use crate::publishing::steps::pair;
use crate::support::{assert_ended, assert_ends, broker, broker_set, on_versions};

on_versions! {
    fn mqtt_311_3_14_1_1_disconnect_has_no_flags(4),
    fn mqtt_5_3_14_1_1_disconnect_has_no_flags(5) => disconnect_has_no_flags;
    fn mqtt_311_3_14_4_1_the_broker_closes_after_disconnect(4),
    fn mqtt_5_3_14_4_2_who_sends_disconnect_closes(5) => closes_after_disconnect;
    fn mqtt_311_3_14_4_2_nothing_counts_after_disconnect(4),
    fn mqtt_5_3_14_4_1_nothing_after_disconnect(5) => nothing_after_disconnect;
    fn mqtt_311_3_14_4_3_disconnect_drops_the_will(4),
    fn mqtt_5_3_14_4_3_disconnect_drops_the_will(5) => disconnect_drops_the_will;
    fn mqtt_311_4_8_0_1_a_violation_ends_the_connection(4),
    fn mqtt_5_4_13_1_1_an_error_ends_the_connection(5) => violations_end_the_connection;
}

const SESSION_EXPIRY: u8 = prop::SESSION_EXPIRY;
const REASON_STRING: u8 = 0x1F;

/// Its will on `will`, with this text.
fn with_will(version: u8, text: &str) -> Connect {
    Connect::new(version, "willed").will(Will::new("will", text))
}

fn disconnect_has_no_flags(version: u8) {
    let broker = broker();
    let mut watcher = Client::plain(&broker, version, "watcher");
    watcher.subscribe("will", 0);
    for flags in 1..=15 {
        let text = flags.to_string();
        let mut client = Client::connect(&broker, &with_will(version, &text));
        client.send(&packet(0xE0 | flags, &[]));
        assert_ended(&mut client, version, 0x81);
        assert_eq!(watcher.message().text(), text, "that was no DISCONNECT");
    }
}

fn closes_after_disconnect(version: u8) {
    let broker = broker();
    let mut client = Client::plain(&broker, version, "client");
    client.subscribe("t", 0);
    client.send(&wire::DISCONNECT);
    assert_eq!(client.until_end(), []);
    // Where the broker has the word, it closes behind it.
    assert_ends(&broker, version, &packet(0x36, &[]), 0x81);
}

fn nothing_after_disconnect(version: u8) {
    let broker = broker();
    let (mut subscriber, mut publisher) = pair(&broker, version, "t", 0);
    let mut client = Client::plain(&broker, version, "client");
    let mut bytes = Publish::new("t", "before", 0).encode(version);
    bytes.extend(wire::DISCONNECT);
    bytes.extend(Publish::new("t", "behind", 0).encode(version));
    bytes.extend(wire::PINGREQ);
    client.send(&bytes);
    assert_eq!(client.until_end(), [], "no answer to what came behind");
    // The same with an error, which the broker answers with its last word.
    let mut wrong = packet(0x36, &[]);
    wrong.extend(Publish::new("t", "behind", 0).encode(version));
    wrong.extend(wire::PINGREQ);
    assert_ends(&broker, version, &wrong, 0x81);
    publisher.publish("t", "fence", 1);
    assert_eq!(subscriber.message().text(), "before");
    assert_eq!(subscriber.message().text(), "fence");
}

/// The client comes back under the same identifier and its next will is published, so the first would
/// have come before that.
fn disconnect_drops_the_will(version: u8) {
    let broker = broker();
    let mut watcher = Client::plain(&broker, version, "watcher");
    watcher.subscribe("will", 0);
    let mut normal = vec![wire::DISCONNECT.to_vec()];
    if version == 5 {
        normal.push(packet(0xE0, &[0x00]));
        normal.push(packet(0xE0, &[0x00, 0]));
    }
    for disconnect in normal {
        let mut client = Client::connect(&broker, &with_will(version, "dropped"));
        client.send(&disconnect);
        assert_eq!(client.until_end(), []);
        Client::connect(&broker, &with_will(version, "due")).vanish();
        assert_eq!(watcher.message().text(), "due");
    }
    if version == 5 {
        let mut client = Client::connect(&broker, &with_will(version, "asked for"));
        client.send(&packet(0xE0, &[0x04]));
        assert_eq!(client.until_end(), []);
        assert_eq!(watcher.message().text(), "asked for");
    }
}

/// What no client may send, and the reason code.
fn violations(version: u8) -> Vec<(Vec<u8>, u8)> {
    let tail: &[u8] = if version == 5 { &[0] } else { &[] };
    let mut list = vec![
        (Connect::new(version, "second").encode(), 0x82),
        (packet(0x20, &[&[0, 0], tail].concat()), 0x82),
        (packet(0x90, &[&[0, 1], tail, &[0]].concat()), 0x82),
        (packet(0xB0, &[&[0, 1], tail, tail].concat()), 0x82),
        (packet(0xD0, &[]), 0x82),
        (packet(0x00, &[]), 0x81),
        (packet(0xC0, &[0]), 0x81),
        (vec![0x30, 0xFF, 0xFF, 0xFF, 0xFF], 0x81),
        (wire::subscribe(version, 1, &[], &[]), 0x82),
        (wire::unsubscribe(version, 1, &[]), 0x82),
        (wire::subscribe(version, 0, &[("t", 0)], &[]), 0x81),
        (wire::subscribe(version, 1, &[("t", 3)], &[]), 0x82),
        (Publish::new("", "no", 0).encode(version), 0x82),
    ];
    if version < 5 {
        list.push((packet(0xF0, &[]), 0x81));
    } else {
        let twice = || Prop::byte(prop::PAYLOAD_FORMAT, 1);
        list.push((Publish::new("t", "no", 0).with(twice()).with(twice()).encode(5), 0x82));
        list.push((Publish::new("t", "no", 0).with(Prop::byte(0x7F, 0)).encode(5), 0x81));
        let misplaced = Prop::two(prop::RECEIVE_MAXIMUM, 1);
        list.push((Publish::new("t", "no", 0).with(misplaced).encode(5), 0x81));
        let wrong_id = [Prop::subscription_id(0)];
        list.push((wire::subscribe(5, 1, &[("t", 0)], &wrong_id), 0x82));
    }
    list
}

fn violations_end_the_connection(version: u8) {
    let broker = broker();
    let (mut subscriber, mut publisher) = pair(&broker, version, "#", 0);
    for (bytes, reason) in violations(version) {
        assert_ends(&broker, version, &bytes, reason);
    }
    publisher.publish("t", "fence", 1);
    assert_eq!(subscriber.message().text(), "fence", "none of it had an effect");
}

/// Not seen from outside: nothing that a client sends makes the broker fail for a while. What comes
/// nearest is a packet that is longer than the broker has room for.
#[test]
fn mqtt_311_4_8_0_2_what_cannot_be_handled_ends_its_connection() {
    let broker = broker_set(&["limits.packet_bytes_max=1000"]);
    let (mut subscriber, mut publisher) = pair(&broker, 4, "t", 0);
    assert_ends(&broker, 4, &Publish::new("t", vec![b'x'; 1000], 0).encode(4), 0x95);
    publisher.publish("t", vec![b'x'; 900], 1);
    assert_eq!(subscriber.message().payload.len(), 900);
}

#[test]
fn mqtt_5_3_14_0_1_no_disconnect_before_a_connack() {
    let broker = broker();
    let mut wrong_version = Connect::new(5, "wrong").encode();
    wrong_version[8] = 6;
    let mut reserved_flag = Connect::new(5, "wrong").encode();
    reserved_flag[9] |= 1;
    let method = Connect::new(5, "wrong").with(Prop::text(0x15, "unknown")).encode();
    for first in [
        wire::PINGREQ.to_vec(),
        wire::DISCONNECT.to_vec(),
        Publish::new("t", "no", 0).encode(5),
        packet(0xF0, &[]),
        packet(0x36, &[]),
        b"GET / HTTP/1.1\r\n\r\n".to_vec(),
        vec![0x10, 0xFF, 0xFF, 0xFF, 0xFF],
        wrong_version,
        reserved_flag,
        method,
    ] {
        let mut client = Client::open(&broker, 5);
        client.send_lossy(&first);
        match client.until_end().as_slice() {
            [] => {}
            [Packet::Connack { present: false, code, .. }] if *code >= 0x80 => {}
            other => panic!("{first:02x?}: {other:?}"),
        }
    }
    // With a CONNACK before it, an error is answered.
    assert_ends(&broker, 5, &packet(0x36, &[]), 0x81);
}

/// Reason codes of a DISCONNECT that a client may send, and codes that nobody may.
const FROM_CLIENTS: [u8; 14] =
    [0x00, 0x04, 0x80, 0x81, 0x82, 0x83, 0x90, 0x93, 0x94, 0x95, 0x96, 0x97, 0x98, 0x99];
const FROM_NOBODY: [u8; 14] =
    [0x01, 0x02, 0x03, 0x10, 0x11, 0x18, 0x19, 0x7F, 0x84, 0x85, 0x86, 0x8A, 0x91, 0x92];

#[test]
fn mqtt_5_3_14_2_1_listed_codes_in_disconnect() {
    let broker = broker();
    for code in FROM_CLIENTS {
        let mut client = Client::plain(&broker, 5, "listed");
        client.send(&packet(0xE0, &[code]));
        assert_eq!(client.until_end(), [], "0x{code:02x}");
    }
    for code in FROM_NOBODY {
        assert_ends(&broker, 5, &packet(0xE0, &[code]), 0x82);
    }
    for (code, props) in disconnects_of_the_broker() {
        let listed = [0x81, 0x82, 0x8B, 0x8D, 0x8E, 0x94, 0x95];
        assert!(listed.contains(&code), "0x{code:02x} {props:?}");
    }
}

#[test]
fn mqtt_5_3_14_2_2_no_session_expiry_from_the_broker() {
    for (code, props) in disconnects_of_the_broker() {
        assert!(props.iter().all(|p| p.id != SESSION_EXPIRY), "0x{code:02x} {props:?}");
    }
}

/// The DISCONNECT packets of a broker for all reasons that it has without being asked long.
fn disconnects_of_the_broker() -> Vec<(u8, Vec<Prop>)> {
    let broker = broker_set(&["limits.packet_bytes_max=1000"]);
    let connect = |name: &str| Client::connect(&broker, &Connect::new(5, name).persistent());
    let alias = Publish::new("t", "no", 0).with(Prop::two(prop::TOPIC_ALIAS, 0));
    let mut ended = Vec::new();
    for (name, bytes) in [
        ("malformed", packet(0x36, &[])),
        ("violation", Connect::new(5, "second").encode()),
        ("alias", alias.encode(5)),
        ("too-large", Publish::new("t", vec![0; 1000], 0).encode(5)),
    ] {
        let mut client = connect(name);
        client.send_lossy(&bytes);
        ended.push(client);
    }
    ended.push(connect("taken-over"));
    let stays = connect("taken-over");
    let silent = Connect::new(5, "silent").persistent().keep_alive(1);
    ended.push(Client::connect(&broker, &silent));
    let codes = [0x81, 0x82, 0x94, 0x95, 0x8E, 0x8D];
    let mut got: Vec<(u8, Vec<Prop>)> = ended.into_iter().map(last_word).collect();
    assert!(got.iter().map(|(code, _)| *code).eq(codes), "{got:?}");
    broker.signal(Signal::TERM);
    got.push(last_word(stays));
    assert_eq!(got.last().map(|(code, _)| *code), Some(0x8B));
    got
}

fn last_word(mut client: Client) -> (u8, Vec<Prop>) {
    match client.until_end().pop() {
        Some(Packet::Disconnect { code, props }) => (code, props),
        other => panic!("the last is {other:?}"),
    }
}

/// The DISCONNECT, byte for byte, for a client that takes packets of this length.
#[track_caller]
fn disconnect_for(broker: &Broker, limit: Option<u32>) -> Vec<u8> {
    let mut connect = Connect::new(5, "narrow");
    connect.props.extend(limit.map(|limit| Prop::four(prop::MAXIMUM_PACKET_SIZE, limit)));
    let mut client = Client::connect(broker, &connect);
    let above = Prop::two(prop::TOPIC_ALIAS, u16::MAX);
    client.send(&Publish::new("t", "no", 0).with(above).encode(5));
    let bytes = client.recv_bytes();
    assert_eq!(client.until_end(), []);
    bytes
}

#[test]
fn mqtt_5_3_14_2_3_no_reason_string_beyond_the_limit() {
    let broker = broker();
    let whole = disconnect_for(&broker, None);
    assert_eq!((whole[0], whole[2], whole[4]), (0xE0, 0x94, REASON_STRING));
    let length = u32::try_from(whole.len()).expect("short");
    assert_eq!(disconnect_for(&broker, Some(length)), whole);
    assert_eq!(disconnect_for(&broker, Some(length - 1)), packet(0xE0, &[0x94]));
}

/// Not seen from outside: the broker has no User Properties to send. There are none, room or not.
#[test]
fn mqtt_5_3_14_2_4_no_user_properties_beyond_the_limit() {
    let broker = broker();
    let whole = disconnect_for(&broker, None);
    let text_bytes = usize::from(u16::from_be_bytes([whole[5], whole[6]]));
    assert_eq!(whole.len(), 7 + text_bytes, "nothing behind the Reason String");
    let limit = u32::try_from(whole.len() - 1).expect("short");
    assert!(disconnect_for(&broker, Some(limit)).len() < whole.len());
}

#[test]
fn mqtt_5_4_13_2_1_a_code_of_0x80_or_more_ends_the_connection() {
    let broker = broker();
    let mut wrong_version = Connect::new(5, "wrong").encode();
    wrong_version[8] = 6;
    let refused = [
        (wrong_version, 0x84),
        (Connect::new(5, "wrong").with(Prop::text(0x15, "unknown")).encode(), 0x8C),
        (Connect::new(5, "wrong").with(Prop::byte(0x17, 2)).encode(), 0x82),
    ];
    for (connect, reason) in refused {
        let mut client = Client::open(&broker, 5);
        client.send(&connect);
        let got = client.until_end();
        let [Packet::Connack { code, present: false, .. }] = got.as_slice() else {
            panic!("{got:?}");
        };
        assert_eq!(*code, reason);
    }
    // Not even a DISCONNECT of three bytes fits: it closes without.
    let limit = Prop::four(prop::MAXIMUM_PACKET_SIZE, 2);
    let mut client = Client::open(&broker, 5);
    client.send(&Connect::new(5, "no-room").with(limit).encode());
    assert_eq!(client.until_end(), []);
    assert_ends(&broker, 5, &packet(0x36, &[]), 0x81);
    // The client says so: the broker closes, and the will is due.
    let mut watcher = Client::plain(&broker, 5, "watcher");
    watcher.subscribe("will", 0);
    let mut client = Client::connect(&broker, &with_will(5, "due"));
    client.send(&packet(0xE0, &[0x80]));
    assert_eq!(client.until_end(), []);
    assert_eq!(watcher.message().text(), "due");
}
