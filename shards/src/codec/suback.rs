//! SUBACK (section 3.9): one reason code for each filter of the SUBSCRIBE.

use super::frame::{Frame, PacketKind};
use super::properties::{Remarks, UserProperties};
use super::wire::{self, Reader, Sink};
use crate::ids::{PacketId, Version};
use crate::reject::{ReasonCode, Reject};

/// The answer to SUBSCRIBE.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Suback<'a> {
    pub packet_id: PacketId,
    /// Bytes of [`ReasonCode`]s: granted QoS or failure, in the order of the filters.
    pub reasons: &'a [u8],
    pub reason_string: Option<&'a str>,
    pub user_properties: UserProperties<'a>,
}

impl<'a> Suback<'a> {
    #[must_use]
    pub fn new(packet_id: PacketId, reasons: &'a [u8]) -> Self {
        Self { packet_id, reasons, reason_string: None, user_properties: UserProperties::EMPTY }
    }

    /// # Errors
    /// Malformed, or a protocol error for reason codes that SUBACK does not have.
    pub fn decode(frame: &Frame<'a>, version: Version) -> Result<Self, Reject> {
        frame.expect_flags(version, 0)?;
        let mut reader = Reader::new(frame.body);
        let packet_id = reader.packet_id()?;
        let remarks = Remarks::read(reader.property_block(version)?)?;
        let reasons = reader.rest();
        if reasons.is_empty() {
            return Err(Reject::malformed("SUBACK without a reason code"));
        }
        if !reasons.iter().all(|&byte| is_allowed(byte, version)) {
            return Err(Reject::protocol("reason code that SUBACK does not have"));
        }
        let Remarks { reason_string, user_properties } = remarks;
        Ok(Self { packet_id, reasons, reason_string, user_properties })
    }

    /// Appends the packet; nothing if it would be longer than the protocol has. Before MQTT 5.0
    /// every failure is 0x80.
    pub fn encode(&self, version: Version, out: &mut Vec<u8>) {
        let first = PacketKind::Suback.first_byte();
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
        } else {
            for &byte in self.reasons {
                wire::put_u8(sink, byte.min(ReasonCode::UnspecifiedError.byte()));
            }
        }
    }
}

fn is_allowed(byte: u8, version: Version) -> bool {
    use ReasonCode as R;
    let Some(reason) = R::from_byte(byte) else { return false };
    match reason {
        R::Success | R::GrantedQoS1 | R::GrantedQoS2 | R::UnspecifiedError => true,
        R::ImplementationSpecificError
        | R::NotAuthorized
        | R::TopicFilterInvalid
        | R::PacketIdentifierInUse
        | R::QuotaExceeded
        | R::SharedSubscriptionsNotSupported
        | R::SubscriptionIdentifiersNotSupported
        | R::WildcardSubscriptionsNotSupported => version.is_v5(),
        _ => false,
    }
}
