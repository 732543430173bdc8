//! The server's outgoing PUBLISH is what a client reads, and what [`Publish::encode`] writes.

use shards::codec::{Layout, MessageProperties, Packet, Property, Publish, patch_packet_id};
use shards::ids::{PacketId, QoS, SubscriptionId, Version};

use crate::chance::Chance;
use crate::read;

const PLAIN: Layout<'_> = Layout {
    version: Version::V5,
    dup: false,
    qos: QoS::AtMostOnce,
    retain: false,
    topic: "a/b",
    properties: &[],
    message_expiry_s: None,
    subscription_ids: &[],
    alias: None,
    alias_known: false,
    payload_len: 0,
};

/// Renders behind bytes that are there already, as in an out buffer.
#[track_caller]
fn check(layout: Layout<'_>, id: Option<PacketId>, want_head: &[u8], want_offset: Option<usize>) {
    let mut out = b"before".to_vec();
    let offset = layout.head_into(id, &mut out);
    assert_eq!(out.strip_prefix(b"before"), Some(want_head));
    assert_eq!(offset, want_offset);
    assert_eq!(layout.packet_len(), Some(want_head.len() + layout.payload_len));
}

#[test]
fn heads_byte_for_byte() {
    let id = PacketId::new(0x0102);
    check(PLAIN, None, b"\x30\x06\x00\x03a/b\x00", None);
    let old = Layout { version: Version::V311, payload_len: 2, ..PLAIN };
    check(old, None, b"\x30\x07\x00\x03a/b", None);
    let again = Layout { qos: QoS::ExactlyOnce, dup: true, retain: true, ..old };
    check(again, id, b"\x3d\x09\x00\x03a/b\x01\x02", Some(7));
    check(again, None, b"\x3d\x09\x00\x03a/b\x00\x00", Some(7));
    let new = Layout { qos: QoS::AtLeastOnce, message_expiry_s: Some(9), ..PLAIN };
    check(new, id, b"\x32\x0d\x00\x03a/b\x01\x02\x05\x02\x00\x00\x00\x09", Some(7));
    let alias = Layout { alias: Some(5), ..PLAIN };
    check(alias, None, b"\x30\x09\x00\x03a/b\x03\x23\x00\x05", None);
    check(Layout { alias_known: true, ..alias }, None, b"\x30\x06\x00\x00\x03\x23\x00\x05", None);
}

#[test]
fn mqtt_3_gets_nothing_of_mqtt_5() {
    let ids = [SubscriptionId::new(1).unwrap()];
    let layout = Layout {
        version: Version::V311,
        properties: &[1, 1],
        message_expiry_s: Some(1),
        subscription_ids: &ids,
        alias: Some(1),
        alias_known: true,
        ..PLAIN
    };
    check(layout, None, b"\x30\x05\x00\x03a/b", None);
}

#[test]
fn copies_differ_in_their_packet_identifier() {
    let layout = Layout { qos: QoS::AtLeastOnce, payload_len: 200, ..PLAIN };
    let mut copy = Vec::new();
    let offset = layout.head_into(None, &mut copy).unwrap();
    copy.extend_from_slice(&[b'x'; 200]);
    for value in [1, 0x1234, u16::MAX] {
        patch_packet_id(&mut copy, offset, PacketId::new(value).unwrap());
        let Ok(Packet::Publish(publish)) = read(&copy, Version::V5) else { panic!("refused") };
        assert_eq!(publish.packet_id, PacketId::new(value));
        assert_eq!(publish.payload, [b'x'; 200]);
    }
}

#[test]
fn length_to_the_last_byte() {
    let room = 268_435_455 - 6;
    let largest = Layout { payload_len: room, ..PLAIN };
    assert_eq!(largest.packet_len(), Some(268_435_460));
    for payload_len in [room + 1, usize::MAX] {
        let above = Layout { payload_len, ..PLAIN };
        assert_eq!(above.packet_len(), None);
        let mut out = Vec::new();
        assert_eq!(above.head_into(None, &mut out), None);
        assert!(out.is_empty());
    }
    let topic = "a".repeat(65_536);
    assert_eq!(Layout { topic: &topic, ..PLAIN }.packet_len(), None);
    assert!(Layout { topic: &topic[1..], ..PLAIN }.packet_len().is_some());
}

/// Everything that was rendered comes out again.
#[test]
fn clients_read_what_is_rendered() {
    let mut chance = Chance::new(11);
    let topic = "t".repeat(200);
    let mut properties = Vec::new();
    Property::ContentType("text").encode_into(&mut properties);
    Property::User("k", &topic).encode_into(&mut properties);
    let ids = [1, 127, 128, 16_384, 268_435_455].map(|id| SubscriptionId::new(id).unwrap());
    for _ in 0..20_000 {
        let qos = chance.pick(&[QoS::AtMostOnce, QoS::AtLeastOnce, QoS::ExactlyOnce]);
        let alias = chance.some(|chance| chance.u16().max(1));
        let layout = Layout {
            version: chance.pick(&[Version::V31, Version::V311, Version::V5]),
            dup: qos != QoS::AtMostOnce && chance.flip(),
            qos,
            retain: chance.flip(),
            topic: &topic[..=chance.below(199)],
            properties: if chance.flip() { &properties } else { &[] },
            message_expiry_s: chance.some(Chance::u32),
            subscription_ids: &ids[..chance.below(ids.len() + 1)],
            alias,
            alias_known: chance.flip(),
            payload_len: chance.below(300),
        };
        check_read(&layout, PacketId::new(chance.u16()).unwrap_or(PacketId::MIN));
    }
}

#[track_caller]
fn check_read(layout: &Layout<'_>, id: PacketId) {
    let id = (layout.qos != QoS::AtMostOnce).then_some(id);
    let mut packet = Vec::new();
    let offset = layout.head_into(id, &mut packet);
    assert_eq!(offset.is_some(), id.is_some());
    packet.resize(packet.len() + layout.payload_len, b'p');
    assert_eq!(layout.packet_len(), Some(packet.len()));
    let Ok(Packet::Publish(got)) = read(&packet, layout.version) else { panic!("{layout:?}") };

    let is_v5 = layout.version.is_v5();
    let has_topic = !(is_v5 && layout.alias.is_some() && layout.alias_known);
    let want = Publish {
        dup: layout.dup,
        qos: layout.qos,
        retain: layout.retain,
        topic: if has_topic { layout.topic } else { "" },
        packet_id: id,
        properties: got.properties,
        payload: &vec![b'p'; layout.payload_len],
    };
    assert_eq!(got, want);
    if !is_v5 {
        assert_eq!(got.properties, MessageProperties::EMPTY);
        return;
    }
    assert_eq!(got.properties.message_expiry_s, layout.message_expiry_s);
    assert_eq!(got.properties.topic_alias, layout.alias);
    assert!(got.properties.subscription_ids().eq(layout.subscription_ids.iter().copied()));
    let mut forwarded = Vec::new();
    got.properties.forward_into(&mut forwarded);
    assert_eq!(forwarded, layout.properties);
    let mut written = Vec::new();
    got.encode(layout.version, &mut written);
    assert_eq!(written, packet);
}
