//! PUBACK, PUBREC, PUBREL and PUBCOMP (sections 3.4 to 3.7): one shape, four meanings.

use super::frame::{Frame, PacketKind};
use super::properties::{Remarks, UserProperties};
use super::wire::{self, Reader, Sink};
use crate::ids::{PacketId, Version};
use crate::reject::{ReasonCode, Reject};

/// Which of the four.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum AckKind {
    Puback,
    Pubrec,
    Pubrel,
    Pubcomp,
}

impl AckKind {
    #[must_use]
    #[inline]
    pub fn packet_kind(self) -> PacketKind {
        match self {
            Self::Puback => PacketKind::Puback,
            Self::Pubrec => PacketKind::Pubrec,
            Self::Pubrel => PacketKind::Pubrel,
            Self::Pubcomp => PacketKind::Pubcomp,
        }
    }

    /// Whether the standard has this reason code for this packet (MQTT 5.0).
    #[must_use]
    pub fn allows(self, reason: ReasonCode) -> bool {
        use ReasonCode as R;
        match self {
            Self::Puback | Self::Pubrec => matches!(
                reason,
                R::Success
                    | R::NoMatchingSubscribers
                    | R::UnspecifiedError
                    | R::ImplementationSpecificError
                    | R::NotAuthorized
                    | R::TopicNameInvalid
                    | R::PacketIdentifierInUse
                    | R::QuotaExceeded
                    | R::PayloadFormatInvalid
            ),
            Self::Pubrel | Self::Pubcomp => {
                matches!(reason, R::Success | R::PacketIdentifierNotFound)
            }
        }
    }
}

/// One step of a QoS 1 or 2 exchange.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ack<'a> {
    pub packet_id: PacketId,
    /// Success before MQTT 5.0.
    pub reason: ReasonCode,
    pub reason_string: Option<&'a str>,
    pub user_properties: UserProperties<'a>,
}

impl<'a> Ack<'a> {
    #[must_use]
    pub fn new(packet_id: PacketId, reason: ReasonCode) -> Self {
        Self { packet_id, reason, reason_string: None, user_properties: UserProperties::EMPTY }
    }

    /// # Errors
    /// Malformed, or a protocol error for a reason code that this kind of packet does not have.
    #[inline]
    pub fn decode(kind: AckKind, frame: &Frame<'a>, version: Version) -> Result<Self, Reject> {
        frame.expect_flags(version, kind.packet_kind().first_byte() & 0x0F)?;
        let mut reader = Reader::new(frame.body);
        let mut ack = Self::new(reader.packet_id()?, ReasonCode::Success);
        if reader.is_empty() {
            return Ok(ack);
        }
        if !version.is_v5() {
            reader.end()?;
        }
        ack.reason = ReasonCode::from_byte(reader.u8()?)
            .filter(|&reason| kind.allows(reason))
            .ok_or(REASON)?;
        if !reader.is_empty() {
            let remarks = Remarks::read(reader.property_block(version)?)?;
            ack.reason_string = remarks.reason_string;
            ack.user_properties = remarks.user_properties;
        }
        reader.end()?;
        Ok(ack)
    }

    /// Appends the packet, in its shortest form.
    pub fn encode(&self, kind: AckKind, version: Version, out: &mut Vec<u8>) {
        wire::packet(kind.packet_kind().first_byte(), out, &|sink| self.body(version, sink));
    }

    /// Bytes of the whole packet; `None` if it is longer than the protocol has.
    #[must_use]
    pub fn encoded_len(&self, version: Version) -> Option<usize> {
        wire::packet_len(&|sink| self.body(version, sink))
    }

    fn body(&self, version: Version, sink: &mut dyn Sink) {
        wire::put_u16(sink, self.packet_id.value());
        let remarks =
            Remarks { reason_string: self.reason_string, user_properties: self.user_properties };
        if !version.is_v5() || (self.reason == ReasonCode::Success && remarks.is_empty()) {
            return;
        }
        wire::put_u8(sink, self.reason.byte());
        if !remarks.is_empty() {
            wire::put_properties(sink, &|sink| remarks.write(sink));
        }
    }
}

const REASON: Reject = Reject {
    reason: ReasonCode::ProtocolError,
    why: "reason code that this acknowledgement does not have",
};

/// Appends an acknowledgement without properties: what [`Ack::encode`] would, for the hot path.
#[inline]
pub fn puback_into(
    version: Version,
    kind: AckKind,
    id: PacketId,
    reason: ReasonCode,
    out: &mut Vec<u8>,
) {
    let first = kind.packet_kind().first_byte();
    let [high, low] = id.value().to_be_bytes();
    if version.is_v5() && reason != ReasonCode::Success {
        out.extend_from_slice(&[first, 3, high, low, reason.byte()]);
    } else {
        out.extend_from_slice(&[first, 2, high, low]);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hot_path_writes_what_encode_writes() {
        let kinds = [AckKind::Puback, AckKind::Pubrec, AckKind::Pubrel, AckKind::Pubcomp];
        let id = PacketId::new(0x1234).unwrap();
        for version in [Version::V31, Version::V311, Version::V5] {
            for kind in kinds {
                for reason in [ReasonCode::Success, ReasonCode::PacketIdentifierNotFound] {
                    let (mut fast, mut whole) = (Vec::new(), Vec::new());
                    puback_into(version, kind, id, reason, &mut fast);
                    Ack::new(id, reason).encode(kind, version, &mut whole);
                    assert_eq!(fast, whole, "{kind:?} {reason:?}");
                }
            }
        }
    }
}
