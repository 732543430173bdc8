//! UNSUBACK (section 3.11): one reason code for each filter of the UNSUBSCRIBE; none before
//! MQTT 5.0.

use super::frame::{Frame, PacketKind};
use super::properties::{Remarks, UserProperties};
use super::wire::{self, Reader, Sink};
use crate::ids::{PacketId, Version};
use crate::reject::{ReasonCode, Reject};

/// The answer to UNSUBSCRIBE.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Unsuback<'a> {
    pub packet_id: PacketId,
    /// Bytes of [`ReasonCode`]s, in the order of the filters. Empty before MQTT 5.0.
    pub reasons: &'a [u8],
    pub reason_string: Option<&'a str>,
    pub user_properties: UserProperties<'a>,
}

impl<'a> Unsuback<'a> {
    #[must_use]
    pub fn new(packet_id: PacketId, reasons: &'a [u8]) -> Self {
        Self { packet_id, reasons, reason_string: None, user_properties: UserProperties::EMPTY }
    }

    /// # Errors
    /// Malformed, or a protocol error for reason codes that UNSUBACK does not have.
    pub fn decode(frame: &Frame<'a>, version: Version) -> Result<Self, Reject> {
        frame.expect_flags(version, 0)?;
        let mut reader = Reader::new(frame.body);
        let packet_id = reader.packet_id()?;
        if !version.is_v5() {
            reader.end()?;
            return Ok(Self::new(packet_id, &[]));
        }
        let remarks = Remarks::read(reader.property_block(version)?)?;
        let reasons = reader.rest();
        if reasons.is_empty() {
            return Err(Reject::malformed("UNSUBACK without a reason code"));
        }
        if !reasons.iter().all(|&byte| is_allowed(byte)) {
            return Err(Reject::protocol("reason code that UNSUBACK does not have"));
        }
        let Remarks { reason_string, user_properties } = remarks;
        Ok(Self { packet_id, reasons, reason_string, user_properties })
    }

    /// Appends the packet; nothing if it would be longer than the protocol has.
    pub fn encode(&self, version: Version, out: &mut Vec<u8>) {
        let first = PacketKind::Unsuback.first_byte();
        wire::packet(first, out, &|sink| self.body(version, sink));
    }

    /// Bytes of the whole packet; `None` if it is longer than the protocol has.
    #[must_use]
    pub fn encoded_len(&self, version: Version) -> Option<usize> {
        wire::packet_len(&|sink| self.body(version, sink))
    }

    fn body(&self, version: Version, sink: &mut dyn Sink) {
        wire::put_u16(sink, self.packet_id.value());
        if version.is_v5() {
            let Self { reason_string, user_properties, .. } = *self;
            let remarks = Remarks { reason_string, user_properties };
            wire::put_properties(sink, &|sink| remarks.write(sink));
            sink.put(self.reasons);
        }
    }
}

fn is_allowed(byte: u8) -> bool {
    use ReasonCode as R;
    R::from_byte(byte).is_some_and(|reason| {
        matches!(
            reason,
            R::Success
                | R::NoSubscriptionExisted
                | R::UnspecifiedError
                | R::ImplementationSpecificError
                | R::NotAuthorized
                | R::TopicFilterInvalid
                | R::PacketIdentifierInUse
        )
    })
}
