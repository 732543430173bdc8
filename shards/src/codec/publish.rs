//! PUBLISH (section 3.3): the packet that decides the broker's speed. Decoded in place.

use super::frame::{Frame, PacketKind};
use super::message::MessageProperties;
use super::render::Layout;
use super::text;
use super::wire::Reader;
use crate::ids::{PacketId, QoS, Version};
use crate::reject::Reject;

/// An application message on its way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Publish<'a> {
    pub dup: bool,
    pub qos: QoS,
    pub retain: bool,
    /// No wildcards. Empty only with a topic alias.
    pub topic: &'a str,
    /// There exactly for QoS 1 and 2.
    pub packet_id: Option<PacketId>,
    /// None before MQTT 5.0.
    pub properties: MessageProperties<'a>,
    /// Always the tail of the packet: it begins at [`Self::payload_offset`].
    pub payload: &'a [u8],
}

impl<'a> Publish<'a> {
    /// At QoS 0, to send.
    #[must_use]
    pub fn new(topic: &'a str, payload: &'a [u8]) -> Self {
        Self {
            dup: false,
            qos: QoS::AtMostOnce,
            retain: false,
            topic,
            packet_id: None,
            properties: MessageProperties::EMPTY,
            payload,
        }
    }

    /// # Errors
    /// Malformed, a protocol error, or 0x94 for topic alias 0. A subscription identifier is no
    /// error here, since clients receive them: a server looks at
    /// [`MessageProperties::has_subscription_ids`].
    #[inline]
    pub fn decode(frame: &Frame<'a>, version: Version) -> Result<Self, Reject> {
        let Some(qos) = QoS::from_bits(frame.first >> 1 & 0b11) else {
            return Err(Reject::malformed("PUBLISH with QoS 3"));
        };
        let dup = frame.first & DUP != 0;
        if dup && qos == QoS::AtMostOnce {
            return Err(Reject::malformed("PUBLISH with DUP at QoS 0"));
        }
        let mut reader = Reader::new(frame.body);
        let topic = text::topic_name(reader.binary()?)?;
        let packet_id = match qos {
            QoS::AtMostOnce => None,
            QoS::AtLeastOnce | QoS::ExactlyOnce => Some(reader.packet_id()?),
        };
        let properties = MessageProperties::parse(reader.property_block(version)?)?;
        if topic.is_empty() && properties.topic_alias.is_none() {
            return Err(no_topic(version));
        }
        let retain = frame.first & RETAIN != 0;
        Ok(Self { dup, qos, retain, topic, packet_id, properties, payload: reader.rest() })
    }

    /// Where the payload begins in the packet of `packet_len` bytes that this was decoded from.
    #[must_use]
    #[inline]
    pub fn payload_offset(&self, packet_len: usize) -> usize {
        packet_len.saturating_sub(self.payload.len())
    }

    /// Appends the packet; nothing if it, or its topic name, is longer than the protocol has.
    /// Without its packet identifier a QoS 1 or 2 packet gets a 0 in its place, which nobody
    /// accepts.
    pub fn encode(&self, version: Version, out: &mut Vec<u8>) {
        let layout = self.layout(version);
        if layout.packet_len().is_some() {
            layout.head_into(self.packet_id, out);
            out.extend_from_slice(self.payload);
        }
    }

    /// Bytes of the whole packet; `None` if the protocol cannot say that.
    #[must_use]
    pub fn encoded_len(&self, version: Version) -> Option<usize> {
        self.layout(version).packet_len()
    }

    /// Alias, expiry and subscription identifiers stay among the raw properties.
    fn layout(&self, version: Version) -> Layout<'a> {
        Layout {
            version,
            dup: self.dup,
            qos: self.qos,
            retain: self.retain,
            topic: self.topic,
            properties: self.properties.raw(),
            message_expiry_s: None,
            subscription_ids: &[],
            alias: None,
            alias_known: false,
            payload_len: self.payload.len(),
        }
    }
}

/// The first byte of a PUBLISH.
#[inline]
pub(super) fn first_byte(dup: bool, qos: QoS, retain: bool) -> u8 {
    let dup = if dup { DUP } else { 0 };
    let retain = if retain { RETAIN } else { 0 };
    PacketKind::Publish.first_byte() | dup | qos.bits() << 1 | retain
}

/// The first byte at QoS 0 without RETAIN.
pub(super) const PLAIN_PUBLISH: u8 = 0x30;

const DUP: u8 = 0b1000;
const RETAIN: u8 = 0b0001;

#[cold]
fn no_topic(version: Version) -> Reject {
    if version.is_v5() {
        Reject::protocol("PUBLISH with neither topic name nor topic alias")
    } else {
        Reject::malformed("PUBLISH with an empty topic name")
    }
}
