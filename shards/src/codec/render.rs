//! The server's outgoing PUBLISH: rendered once for all subscribers that get the same bytes.
//!
//! Copies differ in their packet identifier only, which [`patch_packet_id`] writes. The payload is
//! not part of it: the caller copies it behind the head, or sends it by reference.

use super::publish;
use super::varint;
use crate::ids::{PacketId, QoS, SubscriptionId, Version};
use crate::limits::REMAINING_LENGTH_MAX;

/// All that the bytes in front of the payload depend on, but the packet identifier.
#[derive(Clone, Copy, Debug)]
pub struct Layout<'a> {
    pub version: Version,
    pub dup: bool,
    pub qos: QoS,
    pub retain: bool,
    /// At most 65,535 bytes.
    pub topic: &'a str,
    /// What [`super::MessageProperties::forward_into`] gives. MQTT 5.0 only, like the next four.
    pub properties: &'a [u8],
    pub message_expiry_s: Option<u32>,
    pub subscription_ids: &'a [SubscriptionId],
    /// Not 0.
    pub alias: Option<u16>,
    /// The subscriber knows what `alias` means, so the topic is left out.
    pub alias_known: bool,
    pub payload_len: usize,
}

impl Layout<'_> {
    /// Bytes of the whole packet, its payload included; `None` if the protocol cannot say that.
    #[must_use]
    #[inline]
    pub fn packet_len(&self) -> Option<usize> {
        let Lengths { remaining, .. } = self.lengths()?;
        usize::try_from(remaining).ok()?.checked_add(1 + varint::encoded_len(remaining))
    }

    /// Appends everything but the payload. Returns where the packet identifier is, counted from the
    /// start of what was appended; `None` at QoS 0.
    ///
    /// `packet_id` is `Some` for QoS 1 and 2; `None` leaves room for [`patch_packet_id`]. Appends
    /// nothing if [`Self::packet_len`] is `None`.
    #[inline]
    pub fn head_into(&self, packet_id: Option<PacketId>, out: &mut Vec<u8>) -> Option<usize> {
        let lengths = self.lengths()?;
        let start = out.len();
        let (len, count) = varint::encode(lengths.remaining);
        // One append for all that is short: each looks at the buffer's capacity.
        let mut fixed = [0; 1 + varint::BYTES_MAX + 2];
        fixed[0] = publish::first_byte(self.dup, self.qos, self.retain);
        fixed[1..=varint::BYTES_MAX].copy_from_slice(&len);
        fixed[1 + count..3 + count].copy_from_slice(&lengths.topic.to_be_bytes());
        out.extend_from_slice(&fixed[..3 + count]);
        out.extend_from_slice(self.topic_sent().as_bytes());
        let id_offset = match self.qos {
            QoS::AtMostOnce => None,
            QoS::AtLeastOnce | QoS::ExactlyOnce => {
                let offset = out.len() - start;
                out.extend_from_slice(&packet_id.map_or(0, PacketId::value).to_be_bytes());
                Some(offset)
            }
        };
        match lengths.properties {
            None => {}
            Some(0) => out.push(0),
            Some(len) => self.properties_into(len, out),
        }
        id_offset
    }

    fn properties_into(&self, len: u32, out: &mut Vec<u8>) {
        put_varint(len, out);
        if let Some(seconds) = self.message_expiry_s {
            out.push(0x02);
            out.extend_from_slice(&seconds.to_be_bytes());
        }
        if let Some(alias) = self.alias {
            out.push(0x23);
            out.extend_from_slice(&alias.to_be_bytes());
        }
        for id in self.subscription_ids {
            out.push(0x0B);
            put_varint(id.value(), out);
        }
        out.extend_from_slice(self.properties);
    }

    /// The topic name that goes on the wire.
    #[inline]
    fn topic_sent(&self) -> &str {
        let has_alias = self.version.is_v5() && self.alias.is_some();
        if has_alias && self.alias_known { "" } else { self.topic }
    }

    fn properties_len(&self) -> usize {
        let expiry = if self.message_expiry_s.is_some() { 5 } else { 0 };
        let alias = if self.alias.is_some() { 3 } else { 0 };
        let ids = self.subscription_ids.iter().map(|id| 1 + varint::encoded_len(id.value()));
        expiry + alias + ids.sum::<usize>() + self.properties.len()
    }

    /// `None` if the topic or the whole is too long.
    #[inline]
    fn lengths(&self) -> Option<Lengths> {
        let topic = u16::try_from(self.topic_sent().len()).ok()?;
        let id_len = if self.qos == QoS::AtMostOnce { 0 } else { 2 };
        let mut remaining = (2 + usize::from(topic) + id_len).checked_add(self.payload_len)?;
        let properties = if self.version.is_v5() {
            let len = self.properties_len();
            let said = u32::try_from(len).ok().filter(|&len| len <= REMAINING_LENGTH_MAX)?;
            remaining = remaining.checked_add(len)?.checked_add(varint::encoded_len(said))?;
            Some(said)
        } else {
            None
        };
        let remaining = u32::try_from(remaining).ok().filter(|&len| len <= REMAINING_LENGTH_MAX)?;
        Some(Lengths { remaining, topic, properties })
    }
}

/// What a head says about lengths.
#[derive(Debug)]
struct Lengths {
    remaining: u32,
    topic: u16,
    /// None before MQTT 5.0.
    properties: Option<u32>,
}

fn put_varint(value: u32, out: &mut Vec<u8>) {
    let (bytes, count) = varint::encode(value);
    out.extend_from_slice(&bytes[..count]);
}

/// Writes the packet identifier of one copy; `offset` is what [`Layout::head_into`] returned.
#[inline]
pub fn patch_packet_id(packet: &mut [u8], offset: usize, id: PacketId) {
    let slot = packet.get_mut(offset..).and_then(<[u8]>::first_chunk_mut::<2>);
    debug_assert!(slot.is_some(), "the offset belongs to another packet");
    if let Some(slot) = slot {
        *slot = id.value().to_be_bytes();
    }
}
