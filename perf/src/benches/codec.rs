//! Reading and writing of the packets that a broker handles most.

use std::hint::black_box;

use shards::codec::{
    self, Ack, AckKind, Connect, Framed, Layout, MessageProperties, Packet, Publish, Will,
};
use shards::ids::{PacketId, QoS, SubscriptionId, Version};
use shards::reject::ReasonCode;

use super::{Bench, Loop, Size};

const TOPIC: &str = "site/12/device/3456/temperature";
const PAYLOAD: [u8; 64] = [b'x'; 64];
const PACKET_BYTES_MAX: u32 = 1024 * 1024;

/// Payload format, response topic and a user property, as a PUBLISH carries them.
const PROPERTIES: &[u8] = b"\x01\x01\x08\x00\x05reply\x26\x00\x04unit\x00\x07celsius";

pub(super) const PUBLISH_DECODE_V311: Bench = Bench {
    name: "codec/publish-decode-v311",
    operation: "frame and decode a PUBLISH: MQTT 3.1.1, QoS 0, 31 bytes of topic, 64 of payload",
    budget_operations: 10_000,
    achieves: 64,
    make: |_: Size| {
        let mut bytes = Vec::new();
        Publish::new(TOPIC, &PAYLOAD).encode(Version::V311, &mut bytes);
        Loop::new(move || decode(&bytes, Version::V311, payload_bytes))
    },
};

pub(super) const PUBLISH_DECODE_V5: Bench = Bench {
    name: "codec/publish-decode-v5",
    operation: "the same at QoS 1 in MQTT 5.0, with three properties",
    budget_operations: 10_000,
    achieves: 64,
    make: |_: Size| {
        let mut bytes = Vec::new();
        let properties = MessageProperties::parse(PROPERTIES).expect("written by hand to parse");
        let packet_id = Some(PacketId::MIN);
        let qos = QoS::AtLeastOnce;
        let publish = Publish { properties, packet_id, qos, ..Publish::new(TOPIC, &PAYLOAD) };
        publish.encode(Version::V5, &mut bytes);
        Loop::new(move || decode(&bytes, Version::V5, payload_bytes))
    },
};

pub(super) const PUBLISH_ENCODE_V311: Bench = Bench {
    name: "codec/publish-encode-v311",
    operation: "encode that PUBLISH, payload included, into a buffer that is there",
    budget_operations: 10_000,
    achieves: 99,
    make: |_: Size| {
        let mut out = Vec::with_capacity(256);
        Loop::new(move || {
            out.clear();
            black_box(Publish::new(TOPIC, &PAYLOAD)).encode(Version::V311, &mut out);
            bytes_count(&out)
        })
    },
};

pub(super) const PUBLISH_ENCODE_V5: Bench = Bench {
    name: "codec/publish-encode-v5",
    operation: "render the head of a QoS 1 delivery in MQTT 5.0 with three properties and a \
                subscription identifier, and patch its packet identifier",
    budget_operations: 10_000,
    achieves: 68,
    make: |_: Size| {
        let mut out = Vec::with_capacity(256);
        let ids = [SubscriptionId::new(300).expect("not 0")];
        Loop::new(move || {
            out.clear();
            let layout = Layout {
                version: Version::V5,
                dup: false,
                qos: QoS::AtLeastOnce,
                retain: false,
                topic: TOPIC,
                properties: PROPERTIES,
                message_expiry_s: None,
                subscription_ids: &ids,
                alias: None,
                alias_known: false,
                payload_len: PAYLOAD.len(),
            };
            if let Some(offset) = black_box(layout).head_into(None, &mut out) {
                codec::patch_packet_id(&mut out, offset, PacketId::MIN);
            }
            bytes_count(&out)
        })
    },
};

pub(super) const PUBACK_DECODE: Bench = Bench {
    name: "codec/puback-decode",
    operation: "frame and decode a PUBACK of 4 bytes",
    budget_operations: 10_000,
    achieves: 1,
    make: |_: Size| {
        let mut bytes = Vec::new();
        let ack = Ack::new(PacketId::MIN, ReasonCode::Success);
        ack.encode(AckKind::Puback, Version::V311, &mut bytes);
        Loop::new(move || decode(&bytes, Version::V311, acked_id))
    },
};

pub(super) const PUBREL_DECODE_V5: Bench = Bench {
    name: "codec/pubrel-decode-v5",
    operation: "frame and decode a PUBREL of MQTT 5.0 with a reason code",
    budget_operations: 10_000,
    achieves: 1,
    make: |_: Size| {
        let mut bytes = Vec::new();
        let ack = Ack::new(PacketId::MIN, ReasonCode::PacketIdentifierNotFound);
        ack.encode(AckKind::Pubrel, Version::V5, &mut bytes);
        Loop::new(move || decode(&bytes, Version::V5, acked_id))
    },
};

pub(super) const PUBACK_ENCODE: Bench = Bench {
    name: "codec/puback-encode",
    operation: "encode a PUBACK of 4 bytes",
    budget_operations: 10_000,
    achieves: 4,
    make: |_: Size| {
        let mut out = Vec::with_capacity(16);
        Loop::new(move || {
            out.clear();
            let (version, id) = black_box((Version::V5, PacketId::MIN));
            codec::puback_into(version, AckKind::Puback, id, ReasonCode::Success, &mut out);
            bytes_count(&out)
        })
    },
};

pub(super) const CONNECT_DECODE: Bench = Bench {
    name: "codec/connect-decode",
    operation: "frame and decode a CONNECT of MQTT 5.0 with a will, user name and password",
    budget_operations: 10_000,
    achieves: 15,
    make: |_: Size| {
        let mut bytes = Vec::new();
        let will = Will {
            qos: QoS::AtLeastOnce,
            retain: true,
            topic: "site/12/device/3456/status",
            payload: b"offline",
            delay_s: 30,
            properties: MessageProperties::EMPTY,
        };
        let connect = Connect {
            will: Some(will),
            user_name: Some("device"),
            password: Some(b"secret"),
            session_expiry_s: Some(3600),
            receive_maximum: Some(100),
            keep_alive_s: 60,
            ..Connect::new(Version::V5, "site-12-device1")
        };
        connect.encode(&mut bytes);
        Loop::new(move || decode(&bytes, Version::V5, client_id_bytes))
    },
};

/// Decodes the packet at the beginning of `bytes`, of which the compiler knows nothing, and looks at it
/// where it lies: a packet that is moved costs more than one that is decoded.
#[inline]
fn decode(bytes: &[u8], version: Version, achieved: impl FnOnce(&Packet<'_>) -> u64) -> u64 {
    let (bytes, version) = black_box((bytes, version));
    let Ok(Framed::Whole(frame)) = codec::frame(bytes, PACKET_BYTES_MAX) else { return 0 };
    match &codec::decode(&frame, version) {
        Ok(packet) => achieved(black_box(packet)),
        Err(_) => 0,
    }
}

fn payload_bytes(packet: &Packet<'_>) -> u64 {
    match packet {
        Packet::Publish(publish) => bytes_count(publish.payload),
        _ => 0,
    }
}

fn acked_id(packet: &Packet<'_>) -> u64 {
    match packet {
        Packet::Puback(ack) | Packet::Pubrel(ack) => u64::from(ack.packet_id.value()),
        _ => 0,
    }
}

fn client_id_bytes(packet: &Packet<'_>) -> u64 {
    match packet {
        Packet::Connect(connect) => bytes_count(connect.client_id.as_bytes()),
        _ => 0,
    }
}

fn bytes_count(bytes: &[u8]) -> u64 {
    black_box(bytes).len() as u64
}
