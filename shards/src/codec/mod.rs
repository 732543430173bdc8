//! MQTT 3.1, 3.1.1 and 5.0 on the wire: all 15 control packets, both directions.
//!
//! [`frame()`] cuts a packet out of a byte stream, [`decode`] reads it in place: what it returns
//! borrows from the bytes, nothing is allocated. No input makes it panic. A packet that decodes has
//! the form that the standard gives it, as far as one packet alone can tell; what depends on the
//! session, the direction or the settings is for the connection to check. Encoding writes the
//! shortest form; packets longer than the protocol has are not written at all, strings longer than
//! 65,535 bytes are cut there (but a PUBLISH whose topic name is too long is not written). The codec
//! keeps no state and belongs to nobody.

pub mod ack;
pub mod auth;
pub mod connack;
pub mod connect;
pub mod disconnect;
pub mod frame;
pub mod message;
pub mod properties;
pub mod publish;
pub mod render;
pub mod run;
pub mod suback;
pub mod subscribe;
pub mod text;
pub mod unsuback;
pub mod unsubscribe;
pub mod varint;
mod wire;

pub use ack::{Ack, AckKind, puback_into};
pub use auth::Auth;
pub use connack::Connack;
pub use connect::{Connect, Will, refused_version};
pub use disconnect::Disconnect;
pub use frame::{Frame, Framed, PacketKind, frame};
pub use message::MessageProperties;
pub use properties::{Property, PropertyIter, UserProperties};
pub use publish::Publish;
pub use render::{Layout, patch_packet_id};
pub use run::Run;
pub use suback::Suback;
pub use subscribe::{RetainHandling, Subscribe, SubscribeFilters, SubscribeOptions};
pub use unsuback::Unsuback;
pub use unsubscribe::{Unsubscribe, UnsubscribeFilters};

use crate::ids::Version;
use crate::reject::Reject;

/// The whole PINGREQ.
pub const PINGREQ: [u8; 2] = [0xC0, 0];

/// The whole PINGRESP.
pub const PINGRESP: [u8; 2] = [0xD0, 0];

/// Any control packet, borrowing from the bytes that it was read from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Packet<'a> {
    Connect(Connect<'a>),
    Connack(Connack<'a>),
    Publish(Publish<'a>),
    Puback(Ack<'a>),
    Pubrec(Ack<'a>),
    Pubrel(Ack<'a>),
    Pubcomp(Ack<'a>),
    Subscribe(Subscribe<'a>),
    Suback(Suback<'a>),
    Unsubscribe(Unsubscribe<'a>),
    Unsuback(Unsuback<'a>),
    Pingreq,
    Pingresp,
    Disconnect(Disconnect<'a>),
    Auth(Auth<'a>),
}

/// Reads the packet in `frame`. `version` is ignored for CONNECT, which says its own.
///
/// # Errors
/// What is wrong with it: malformed (0x81), a protocol error (0x82), or a code of its own.
#[inline]
pub fn decode<'a>(frame: &Frame<'a>, version: Version) -> Result<Packet<'a>, Reject> {
    let Some(kind) = frame.kind() else {
        return Err(Reject::malformed("packet type 0"));
    };
    let ack = |kind| Ack::decode(kind, frame, version);
    Ok(match kind {
        PacketKind::Publish => Packet::Publish(Publish::decode(frame, version)?),
        PacketKind::Puback => Packet::Puback(ack(AckKind::Puback)?),
        PacketKind::Pubrec => Packet::Pubrec(ack(AckKind::Pubrec)?),
        PacketKind::Pubrel => Packet::Pubrel(ack(AckKind::Pubrel)?),
        PacketKind::Pubcomp => Packet::Pubcomp(ack(AckKind::Pubcomp)?),
        PacketKind::Connect => Packet::Connect(Connect::decode(frame)?),
        PacketKind::Connack => Packet::Connack(Connack::decode(frame, version)?),
        PacketKind::Subscribe => Packet::Subscribe(Subscribe::decode(frame, version)?),
        PacketKind::Suback => Packet::Suback(Suback::decode(frame, version)?),
        PacketKind::Unsubscribe => Packet::Unsubscribe(Unsubscribe::decode(frame, version)?),
        PacketKind::Unsuback => Packet::Unsuback(Unsuback::decode(frame, version)?),
        PacketKind::Pingreq => {
            frame.expect_bare(version)?;
            Packet::Pingreq
        }
        PacketKind::Pingresp => {
            frame.expect_bare(version)?;
            Packet::Pingresp
        }
        PacketKind::Disconnect => Packet::Disconnect(Disconnect::decode(frame, version)?),
        PacketKind::Auth => Packet::Auth(Auth::decode(frame, version)?),
    })
}

impl Packet<'_> {
    #[must_use]
    pub fn kind(&self) -> PacketKind {
        match self {
            Self::Connect(_) => PacketKind::Connect,
            Self::Connack(_) => PacketKind::Connack,
            Self::Publish(_) => PacketKind::Publish,
            Self::Puback(_) => PacketKind::Puback,
            Self::Pubrec(_) => PacketKind::Pubrec,
            Self::Pubrel(_) => PacketKind::Pubrel,
            Self::Pubcomp(_) => PacketKind::Pubcomp,
            Self::Subscribe(_) => PacketKind::Subscribe,
            Self::Suback(_) => PacketKind::Suback,
            Self::Unsubscribe(_) => PacketKind::Unsubscribe,
            Self::Unsuback(_) => PacketKind::Unsuback,
            Self::Pingreq => PacketKind::Pingreq,
            Self::Pingresp => PacketKind::Pingresp,
            Self::Disconnect(_) => PacketKind::Disconnect,
            Self::Auth(_) => PacketKind::Auth,
        }
    }

    /// Appends the packet. `version` is ignored for CONNECT. Nothing is appended for a packet that
    /// would be longer than the protocol has, and for AUTH before MQTT 5.0.
    pub fn encode(&self, version: Version, out: &mut Vec<u8>) {
        match self {
            Self::Connect(connect) => connect.encode(out),
            Self::Connack(connack) => connack.encode(version, out),
            Self::Publish(publish) => publish.encode(version, out),
            Self::Puback(ack) => ack.encode(AckKind::Puback, version, out),
            Self::Pubrec(ack) => ack.encode(AckKind::Pubrec, version, out),
            Self::Pubrel(ack) => ack.encode(AckKind::Pubrel, version, out),
            Self::Pubcomp(ack) => ack.encode(AckKind::Pubcomp, version, out),
            Self::Subscribe(subscribe) => subscribe.encode(version, out),
            Self::Suback(suback) => suback.encode(version, out),
            Self::Unsubscribe(unsubscribe) => unsubscribe.encode(version, out),
            Self::Unsuback(unsuback) => unsuback.encode(version, out),
            Self::Pingreq => out.extend_from_slice(&PINGREQ),
            Self::Pingresp => out.extend_from_slice(&PINGRESP),
            Self::Disconnect(disconnect) => disconnect.encode(version, out),
            Self::Auth(auth) => auth.encode(version, out),
        }
    }
}
