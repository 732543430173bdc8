//! Packets of every kind and version: what is decoded can be written, and means the same again.
//!
//! Input: the version, the first byte of the packet (its upper half is replaced by the target's
//! kind), and what stands behind the remaining length.

use shards::codec::{Frame, Framed, Packet, PacketKind, decode, frame, refused_version};
use shards::ids::Version;
use shards::limits::REMAINING_LENGTH_MAX;

use crate::version_of;

/// As large as the protocol allows.
const LARGEST: u32 = REMAINING_LENGTH_MAX + 5;

macro_rules! targets {
    ($($name:ident: $kind:ident,)*) => {
        $(
            #[doc = concat!("Checks a ", stringify!($kind), " packet.")]
            pub fn $name(data: &[u8]) {
                check(PacketKind::$kind, data);
            }
        )*
    };
}

targets! {
    connect: Connect,
    connack: Connack,
    publish: Publish,
    puback: Puback,
    pubrec: Pubrec,
    pubrel: Pubrel,
    pubcomp: Pubcomp,
    subscribe: Subscribe,
    suback: Suback,
    unsubscribe: Unsubscribe,
    unsuback: Unsuback,
    pingreq: Pingreq,
    pingresp: Pingresp,
    disconnect: Disconnect,
    auth: Auth,
}

fn check(kind: PacketKind, data: &[u8]) {
    let &[version, flags, ref body @ ..] = data else { return };
    let version = version_of(version);
    let first = (kind as u8) << 4 | flags & 0x0F;
    let whole = Frame { first, body, len: 2 + body.len() };
    let answer_version = refused_version(&whole);
    let Ok(packet) = decode(&whole, version) else { return };
    assert_eq!(packet.kind(), kind);
    if let Packet::Connect(connect) = &packet {
        assert_eq!(answer_version, Some(connect.version), "refused in another version");
    }
    read_everything(&packet);
    let once = encode(&packet, version);
    assert_eq!(read(&once, version), packet, "written and read again");
    assert_eq!(encode(&read(&once, version), version), once, "written twice");
    if let Packet::Publish(publish) = &packet {
        assert_eq!(&once[publish.payload_offset(once.len())..], publish.payload);
    }
    check_damage(&once, version);
}

/// Encodes behind bytes that are there already, as in an out buffer.
fn encode(packet: &Packet<'_>, version: Version) -> Vec<u8> {
    let mut out = b"before".to_vec();
    packet.encode(version, &mut out);
    let encoded = out.strip_prefix(b"before").expect("encode appends").to_vec();
    assert_eq!(encoded_len(packet, version), Some(encoded.len()), "another length was announced");
    encoded
}

fn read(bytes: &[u8], version: Version) -> Packet<'_> {
    match frame(bytes, LARGEST) {
        Ok(Framed::Whole(frame)) => {
            assert_eq!(frame.len, bytes.len(), "bytes behind the packet");
            decode(&frame, version).unwrap_or_else(|reject| panic!("{reject}: {bytes:02x?}"))
        }
        other => panic!("{other:?}: {bytes:02x?}"),
    }
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

/// Walks through what is only decoded when it is asked for.
fn read_everything(packet: &Packet<'_>) {
    let text = format!("{packet:?}");
    assert!(!text.is_empty());
    match packet {
        Packet::Connect(connect) => {
            assert!(connect.user_properties.iter().count() <= text.len());
            if let Some(will) = &connect.will {
                check_message(&will.properties);
            }
        }
        Packet::Publish(publish) => check_message(&publish.properties),
        Packet::Subscribe(subscribe) => {
            assert!(subscribe.filters().count() > 0, "SUBSCRIBE without a filter");
        }
        Packet::Unsubscribe(unsubscribe) => {
            assert!(unsubscribe.filters().count() > 0, "UNSUBSCRIBE without a filter");
        }
        Packet::Connack(_)
        | Packet::Puback(_)
        | Packet::Pubrec(_)
        | Packet::Pubrel(_)
        | Packet::Pubcomp(_)
        | Packet::Suback(_)
        | Packet::Unsuback(_)
        | Packet::Pingreq
        | Packet::Pingresp
        | Packet::Disconnect(_)
        | Packet::Auth(_) => {}
    }
}

/// What goes on to subscribers is legal in a PUBLISH again.
fn check_message(properties: &shards::codec::MessageProperties<'_>) {
    let mut forwarded = Vec::new();
    properties.forward_into(&mut forwarded);
    let again = shards::codec::MessageProperties::parse(&forwarded)
        .unwrap_or_else(|reject| panic!("{reject}: forwarded {forwarded:02x?}"));
    let mut twice = Vec::new();
    again.forward_into(&mut twice);
    assert_eq!(forwarded, twice, "forwarded twice");
}

/// A good packet whose body ends early is refused, or is a packet all the same: nothing is read
/// beyond its end.
fn check_damage(good: &[u8], version: Version) {
    let Ok(Framed::Whole(whole)) = frame(good, LARGEST) else { return };
    // The last bytes and a few places between: each cut costs as much as the packet.
    let count = whole.body.len();
    let cuts = (0..count.min(8)).map(|back| count - 1 - back).chain([count / 2, count / 4]);
    for cut in cuts.filter(|&cut| cut < count) {
        let short = Frame { first: whole.first, body: &whole.body[..cut], len: 2 + cut };
        let Ok(packet) = decode(&short, version) else { continue };
        let again = encode(&packet, version);
        assert_eq!(read(&again, version), packet, "cut after {cut} bytes");
    }
}
