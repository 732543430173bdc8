//! Packets made at random, written and read again.

use shards::codec::{
    Ack, Auth, Connack, Connect, Disconnect, MessageProperties, Packet, Property, Publish,
    RetainHandling, Suback, Subscribe, SubscribeOptions, Unsuback, Unsubscribe, UserProperties,
    Will,
};
use shards::ids::{PacketId, QoS, SubscriptionId, Version};
use shards::reject::ReasonCode;

use crate::chance::Chance;
use crate::{read, summary};

const TEXTS: [&str; 6] = ["", "a", "sensor/1/temperature", "ä/€/𝄞", "\u{FEFF}", LONG];
const TOPICS: [&str; 4] = ["a", "sensor/1/temperature", "/", LONG];
const LONG: &str = "0123456789/0123456789/0123456789/0123456789/0123456789/0123456789/0123456789/\
                    0123456789/0123456789/0123456789/0123456789/0123456789/0123456789/0123456789";
const BLOBS: [&[u8]; 4] = [&[], &[0], &[0xFF, 0x00, 0x80], &[b'x'; 300]];
const USERS: &[(&str, &str)] = &[("", ""), ("k", "v"), ("k", "w"), ("é", LONG)];
const QOS: [QoS; 3] = [QoS::AtMostOnce, QoS::AtLeastOnce, QoS::ExactlyOnce];

#[track_caller]
fn check(packet: &Packet<'_>, version: Version) {
    let mut out = Vec::new();
    packet.encode(version, &mut out);
    assert_eq!(encoded_len(packet, version), Some(out.len()), "{}", summary::of(packet));
    assert_eq!(read(&out, version).as_ref(), Ok(packet), "{}", summary::of(packet));
}

fn encoded_len(packet: &Packet<'_>, version: Version) -> Option<usize> {
    match packet {
        Packet::Connect(connect) => connect.encoded_len(),
        Packet::Connack(connack) => connack.encoded_len(version),
        Packet::Publish(publish) => publish.encoded_len(version),
        Packet::Puback(ack) | Packet::Pubrec(ack) | Packet::Pubrel(ack) | Packet::Pubcomp(ack) => {
            ack.encoded_len(version)
        }
        Packet::Subscribe(subscribe) => subscribe.encoded_len(version),
        Packet::Suback(suback) => suback.encoded_len(version),
        Packet::Unsubscribe(unsubscribe) => unsubscribe.encoded_len(version),
        Packet::Unsuback(unsuback) => unsuback.encoded_len(version),
        Packet::Pingreq | Packet::Pingresp => Some(2),
        Packet::Disconnect(disconnect) => disconnect.encoded_len(version),
        Packet::Auth(auth) => auth.encoded_len(),
    }
}

fn each(mut test: impl FnMut(&mut Chance, Version)) {
    let mut chance = Chance::new(7);
    for _ in 0..2_000 {
        for version in [Version::V31, Version::V311, Version::V5] {
            test(&mut chance, version);
        }
    }
}

fn users(chance: &mut Chance, version: Version) -> UserProperties<'static> {
    let count = if version.is_v5() { chance.below(USERS.len() + 1) } else { 0 };
    UserProperties::new(&USERS[..count])
}

/// `Some` half of the time, if the version has it.
fn v5<T>(chance: &mut Chance, version: Version, make: impl FnOnce(&mut Chance) -> T) -> Option<T> {
    if version.is_v5() { chance.some(make) } else { None }
}

fn text(chance: &mut Chance) -> &'static str {
    chance.pick(&TEXTS)
}

fn blob(chance: &mut Chance) -> &'static [u8] {
    chance.pick(&BLOBS)
}

fn packet_id(chance: &mut Chance) -> PacketId {
    PacketId::new(chance.u16()).unwrap_or(PacketId::MIN)
}

fn subscription_id(chance: &mut Chance) -> SubscriptionId {
    let shift = chance.pick(&[4, 11, 18, 25]);
    SubscriptionId::new((chance.u32() >> shift).max(1)).expect("at most 28 bits")
}

fn reason(chance: &mut Chance, version: Version, choices: &[ReasonCode]) -> ReasonCode {
    if version.is_v5() { chance.pick(choices) } else { ReasonCode::Success }
}

/// Property bytes of a message; `is_will` decides which.
fn message(chance: &mut Chance, version: Version, is_will: bool, raw: &mut Vec<u8>) {
    if !version.is_v5() {
        return;
    }
    let mut choices = vec![
        Property::PayloadFormat(chance.flip()),
        Property::MessageExpiry(chance.u32()),
        Property::ContentType(text(chance)),
        Property::ResponseTopic(chance.pick(&TOPICS)),
        Property::CorrelationData(blob(chance)),
        Property::User("k", text(chance)),
        Property::User("k", "w"),
    ];
    if is_will {
        choices.push(Property::WillDelay(chance.u32()));
    } else {
        choices.push(Property::TopicAlias(chance.u16().max(1)));
        choices.push(Property::SubscriptionId(subscription_id(chance)));
        choices.push(Property::SubscriptionId(subscription_id(chance)));
    }
    for property in choices {
        if chance.flip() {
            property.encode_into(raw);
        }
    }
}

#[test]
fn connect() {
    each(|chance, version| {
        let mut connect = Connect::new(version, text(chance));
        connect.clean_start = chance.flip();
        connect.keep_alive_s = chance.u16();
        if chance.flip() {
            let mut will = Will::new(chance.pick(&TOPICS), blob(chance));
            will.qos = chance.pick(&QOS);
            will.retain = chance.flip();
            connect.will = Some(will);
        }
        connect.user_name = chance.some(text);
        if connect.user_name.is_some() || version.is_v5() {
            connect.password = chance.some(blob);
        }
        if version.is_v5() {
            connect.session_expiry_s = chance.some(Chance::u32);
            connect.receive_maximum = chance.some(|chance| chance.u16().max(1));
            connect.packet_bytes_max = chance.some(|chance| chance.u32().max(1));
            connect.topic_alias_max = chance.u16() / 2;
            connect.request_response_information = chance.flip();
            connect.request_problem_information = chance.flip();
            connect.authentication_method = chance.some(text);
            if connect.authentication_method.is_some() {
                connect.authentication_data = chance.some(blob);
            }
            connect.user_properties = users(chance, version);
        }
        check(&Packet::Connect(connect), version);
    });
}

#[test]
fn properties_of_a_will() {
    each(|chance, version| {
        let mut raw = Vec::new();
        message(chance, version, true, &mut raw);
        let mut will = Will::new("w", b"bye");
        let (properties, delay_s) =
            MessageProperties::parse_will(&raw).expect("made of parts that are legal");
        will.properties = properties;
        let has_own_delay = properties.iter().any(|property| property.id() == 0x18);
        will.delay_s = if version.is_v5() && !has_own_delay { chance.u32() } else { delay_s };
        let mut connect = Connect::new(version, "c");
        connect.will = Some(will);
        let mut out = Vec::new();
        connect.encode(&mut out);
        let Ok(Packet::Connect(got)) = read(&out, version) else { panic!("{out:02x?}") };
        let got = got.will.expect("a will was sent");
        assert_eq!(got.delay_s, will.delay_s);
        assert_eq!(got.properties.message_expiry_s, will.properties.message_expiry_s);
        let (mut sent, mut received) = (Vec::new(), Vec::new());
        will.properties.forward_into(&mut sent);
        got.properties.forward_into(&mut received);
        assert_eq!(sent, received);
    });
}

#[test]
fn connack() {
    let codes = [ReasonCode::Success, ReasonCode::ServerUnavailable, ReasonCode::NotAuthorized];
    each(|chance, version| {
        let mut connack = Connack::refused(chance.pick(&codes));
        let is_refused = connack.reason != ReasonCode::Success;
        connack.session_present = !is_refused && version != Version::V31 && chance.flip();
        if version.is_v5() {
            connack.session_expiry_s = chance.some(Chance::u32);
            connack.receive_maximum = chance.some(|chance| chance.u16().max(1));
            connack.maximum_qos = chance.some(|chance| chance.pick(&QOS[..2]));
            connack.retain_available = chance.some(Chance::flip);
            connack.packet_bytes_max = chance.some(|chance| chance.u32().max(1));
            connack.assigned_client_id = chance.some(text);
            connack.topic_alias_max = chance.some(Chance::u16);
            connack.reason_string = chance.some(text);
            connack.user_properties = users(chance, version);
            connack.wildcard_available = chance.some(Chance::flip);
            connack.subscription_ids_available = chance.some(Chance::flip);
            connack.shared_available = chance.some(Chance::flip);
            connack.server_keep_alive_s = chance.some(Chance::u16);
            connack.response_information = chance.some(text);
            connack.server_reference = chance.some(text);
            connack.authentication_method = chance.some(text);
            connack.authentication_data = chance.some(blob);
        }
        check(&Packet::Connack(connack), version);
    });
}

#[test]
fn publish() {
    each(|chance, version| {
        let mut raw = Vec::new();
        message(chance, version, false, &mut raw);
        let mut publish = Publish::new(chance.pick(&TOPICS), blob(chance));
        publish.properties = MessageProperties::parse(&raw).expect("made of parts that are legal");
        if publish.properties.topic_alias.is_some() && chance.flip() {
            publish.topic = "";
        }
        publish.qos = chance.pick(&QOS);
        publish.retain = chance.flip();
        if publish.qos != QoS::AtMostOnce {
            publish.dup = chance.flip();
            publish.packet_id = Some(packet_id(chance));
        }
        check(&Packet::Publish(publish), version);
        let mut out = Vec::new();
        publish.encode(version, &mut out);
        assert_eq!(&out[publish.payload_offset(out.len())..], publish.payload);
    });
}

#[test]
fn acknowledgements() {
    let publish_codes =
        [ReasonCode::Success, ReasonCode::NoMatchingSubscribers, ReasonCode::QuotaExceeded];
    let release_codes = [ReasonCode::Success, ReasonCode::PacketIdentifierNotFound];
    each(|chance, version| {
        let mut ack = Ack::new(packet_id(chance), reason(chance, version, &publish_codes));
        ack.reason_string = v5(chance, version, text);
        ack.user_properties = users(chance, version);
        check(&Packet::Puback(ack), version);
        check(&Packet::Pubrec(ack), version);
        ack.reason = reason(chance, version, &release_codes);
        check(&Packet::Pubrel(ack), version);
        check(&Packet::Pubcomp(ack), version);
    });
}

#[test]
fn subscribe_and_unsubscribe() {
    let handlings = [RetainHandling::Always, RetainHandling::IfNew, RetainHandling::Never];
    each(|chance, version| {
        let count = 1 + chance.below(4);
        let filters: Vec<(&str, SubscribeOptions)> = (0..count)
            .map(|_| {
                let mut options = SubscribeOptions::new(chance.pick(&QOS));
                if version.is_v5() {
                    options.no_local = chance.flip();
                    options.retain_as_published = chance.flip();
                    options.retain_handling = chance.pick(&handlings);
                }
                (chance.pick(&["#", "a/+/b", "$SYS/#", LONG]), options)
            })
            .collect();
        let mut subscribe = Subscribe::new(packet_id(chance), &filters);
        subscribe.subscription_id = v5(chance, version, subscription_id);
        subscribe.user_properties = users(chance, version);
        check(&Packet::Subscribe(subscribe), version);

        let names: Vec<&str> = filters.iter().map(|&(filter, _)| filter).collect();
        let mut unsubscribe = Unsubscribe::new(packet_id(chance), &names);
        unsubscribe.user_properties = users(chance, version);
        check(&Packet::Unsubscribe(unsubscribe), version);
    });
}

#[test]
fn suback_and_unsuback() {
    each(|chance, version| {
        let codes: &[u8] = if version.is_v5() { &[0, 1, 2, 0x87, 0xA2] } else { &[0, 1, 2, 0x80] };
        let reasons: Vec<u8> = (0..=chance.below(4)).map(|_| chance.pick(codes)).collect();
        let mut suback = Suback::new(packet_id(chance), &reasons);
        suback.reason_string = v5(chance, version, text);
        suback.user_properties = users(chance, version);
        check(&Packet::Suback(suback), version);

        let reasons: &[u8] = if version.is_v5() { &[0, 0x11, 0x8F] } else { &[] };
        let mut unsuback = Unsuback::new(packet_id(chance), reasons);
        unsuback.reason_string = v5(chance, version, text);
        unsuback.user_properties = users(chance, version);
        check(&Packet::Unsuback(unsuback), version);
    });
}

#[test]
fn disconnect_auth_and_pings() {
    let ends = [ReasonCode::Success, ReasonCode::SessionTakenOver, ReasonCode::ServerMoved];
    let steps =
        [ReasonCode::Success, ReasonCode::ContinueAuthentication, ReasonCode::ReAuthenticate];
    each(|chance, version| {
        let mut disconnect = Disconnect::new(reason(chance, version, &ends));
        disconnect.session_expiry_s = v5(chance, version, Chance::u32);
        disconnect.reason_string = v5(chance, version, text);
        disconnect.server_reference = v5(chance, version, text);
        disconnect.user_properties = users(chance, version);
        check(&Packet::Disconnect(disconnect), version);
        if version.is_v5() {
            let mut auth = Auth::new(chance.pick(&steps), text(chance));
            auth.data = chance.some(blob);
            auth.reason_string = chance.some(text);
            auth.user_properties = users(chance, version);
            check(&Packet::Auth(auth), version);
        }
        check(&Packet::Pingreq, version);
        check(&Packet::Pingresp, version);
    });
}

#[test]
fn mqtt_3_refusals_have_return_codes() {
    let cases = [
        (ReasonCode::Success, 0),
        (ReasonCode::UnsupportedProtocolVersion, 1),
        (ReasonCode::ClientIdentifierNotValid, 2),
        (ReasonCode::ServerUnavailable, 3),
        (ReasonCode::ServerBusy, 3),
        (ReasonCode::QuotaExceeded, 3),
        (ReasonCode::BadUserNameOrPassword, 4),
        (ReasonCode::NotAuthorized, 5),
        (ReasonCode::Banned, 5),
    ];
    for (reason, code) in cases {
        for version in [Version::V31, Version::V311] {
            let mut out = Vec::new();
            Connack::refused(reason).encode(version, &mut out);
            assert_eq!(out, [0x20, 2, 0, code], "{reason:?}");
        }
    }
}

#[test]
fn mqtt_3_suback_knows_one_failure() {
    let mut out = Vec::new();
    Suback::new(PacketId::MIN, &[1, 0x87, 0xA2]).encode(Version::V311, &mut out);
    assert_eq!(out, [0x90, 5, 0, 1, 1, 0x80, 0x80]);
}

#[test]
fn what_is_too_long_for_the_wire_is_cut_or_not_written() {
    let long = "ä".repeat(40_000);
    let mut out = Vec::new();
    Connect::new(Version::V5, &long).encode(&mut out);
    let Ok(Packet::Connect(connect)) = read(&out, Version::V5) else { panic!("refused") };
    assert_eq!(connect.client_id.len(), 65_534);

    let payload = vec![0; 268_435_455 - 3 + 1];
    out.clear();
    let mut publish = Publish::new("a", &payload);
    assert_eq!(publish.encoded_len(Version::V311), None);
    publish.encode(Version::V311, &mut out);
    assert!(out.is_empty());
    publish.payload = &payload[1..];
    assert_eq!(publish.encoded_len(Version::V311), Some(268_435_460));
}
