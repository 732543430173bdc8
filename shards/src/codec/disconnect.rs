//! DISCONNECT (section 3.14). Before MQTT 5.0 only clients send it, and it is two bytes.

use super::frame::{Frame, PacketKind};
use super::properties::{self, Property, PropertyReader, UserProperties, write_some};
use super::wire::{self, Reader, Sink};
use crate::ids::Version;
use crate::reject::{ReasonCode, Reject};

/// The last packet of a network connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Disconnect<'a> {
    pub reason: ReasonCode,
    /// Only a client may send it [MQTT-3.14.2-2]; the decoder does not know who did.
    pub session_expiry_s: Option<u32>,
    pub reason_string: Option<&'a str>,
    pub server_reference: Option<&'a str>,
    pub user_properties: UserProperties<'a>,
}

impl<'a> Disconnect<'a> {
    #[must_use]
    pub fn new(reason: ReasonCode) -> Self {
        Self {
            reason,
            session_expiry_s: None,
            reason_string: None,
            server_reference: None,
            user_properties: UserProperties::EMPTY,
        }
    }

    /// # Errors
    /// Malformed, or a protocol error for a reason code that DISCONNECT does not have.
    pub fn decode(frame: &Frame<'a>, version: Version) -> Result<Self, Reject> {
        frame.expect_flags(version, 0)?;
        let mut disconnect = Self::new(ReasonCode::Success);
        if !version.is_v5() {
            frame.expect_empty()?;
            return Ok(disconnect);
        }
        let mut reader = Reader::new(frame.body);
        if reader.is_empty() {
            return Ok(disconnect);
        }
        disconnect.reason = ReasonCode::from_byte(reader.u8()?)
            .filter(|&reason| is_allowed(reason))
            .ok_or(Reject {
                reason: ReasonCode::ProtocolError,
                why: "reason code that DISCONNECT does not have",
            })?;
        if !reader.is_empty() {
            disconnect.read_properties(reader.property_block(version)?)?;
        }
        reader.end()?;
        Ok(disconnect)
    }

    fn read_properties(&mut self, block: &'a [u8]) -> Result<(), Reject> {
        let mut properties = PropertyReader::new(block);
        while let Some(property) = properties.next()? {
            match property {
                Property::SessionExpiry(seconds) => self.session_expiry_s = Some(seconds),
                Property::ReasonString(text) => self.reason_string = Some(text),
                Property::ServerReference(text) => self.server_reference = Some(text),
                Property::User(..) => {}
                _ => return Err(properties::misplaced()),
            }
        }
        self.user_properties = properties.user_properties(block);
        Ok(())
    }

    /// Appends the packet, in its shortest form; nothing if it would be longer than the protocol
    /// has.
    pub fn encode(&self, version: Version, out: &mut Vec<u8>) {
        let first = PacketKind::Disconnect.first_byte();
        wire::packet(first, out, &|sink| self.body(version, sink));
    }

    /// Bytes of the whole packet; `None` if it is longer than the protocol has.
    #[must_use]
    pub fn encoded_len(&self, version: Version) -> Option<usize> {
        wire::packet_len(&|sink| self.body(version, sink))
    }

    fn body(&self, version: Version, sink: &mut dyn Sink) {
        let has_properties = self.session_expiry_s.is_some()
            || self.reason_string.is_some()
            || self.server_reference.is_some()
            || !self.user_properties.is_empty();
        if !version.is_v5() || (self.reason == ReasonCode::Success && !has_properties) {
            return;
        }
        wire::put_u8(sink, self.reason.byte());
        if has_properties {
            wire::put_properties(sink, &|sink| {
                write_some(sink, self.session_expiry_s.map(Property::SessionExpiry));
                write_some(sink, self.reason_string.map(Property::ReasonString));
                self.user_properties.write(sink);
                write_some(sink, self.server_reference.map(Property::ServerReference));
            });
        }
    }
}

fn is_allowed(reason: ReasonCode) -> bool {
    use ReasonCode as R;
    matches!(
        reason,
        R::Success
            | R::DisconnectWithWill
            | R::UnspecifiedError
            | R::MalformedPacket
            | R::ProtocolError
            | R::ImplementationSpecificError
            | R::NotAuthorized
            | R::ServerBusy
            | R::ServerShuttingDown
            // Not in the table of section 3.14, but section 2.4 lists it for DISCONNECT.
            | R::BadAuthenticationMethod
            | R::KeepAliveTimeout
            | R::SessionTakenOver
            | R::TopicFilterInvalid
            | R::TopicNameInvalid
            | R::ReceiveMaximumExceeded
            | R::TopicAliasInvalid
            | R::PacketTooLarge
            | R::MessageRateTooHigh
            | R::QuotaExceeded
            | R::AdministrativeAction
            | R::PayloadFormatInvalid
            | R::RetainNotSupported
            | R::QoSNotSupported
            | R::UseAnotherServer
            | R::ServerMoved
            | R::SharedSubscriptionsNotSupported
            | R::ConnectionRateExceeded
            | R::MaximumConnectTime
            | R::SubscriptionIdentifiersNotSupported
            | R::WildcardSubscriptionsNotSupported
    )
}
