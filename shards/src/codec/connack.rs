//! CONNACK (section 3.2).

use super::frame::{Frame, PacketKind};
use super::properties::{self, Property, PropertyReader, UserProperties, write_some};
use super::wire::{self, Reader, Sink};
use crate::ids::{QoS, Version};
use crate::reject::{ReasonCode, Reject};

/// The answer to CONNECT. [`Connack::default`] is a plain success.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Connack<'a> {
    /// MQTT 3.1 has no such flag.
    pub session_present: bool,
    /// MQTT 3 has six return codes in its place: see [`Connack::encode`].
    pub reason: ReasonCode,
    pub session_expiry_s: Option<u32>,
    /// Not 0.
    pub receive_maximum: Option<u16>,
    /// 0 or 1; a server with QoS 2 leaves it out.
    pub maximum_qos: Option<QoS>,
    pub retain_available: Option<bool>,
    /// Maximum Packet Size, not 0.
    pub packet_bytes_max: Option<u32>,
    pub assigned_client_id: Option<&'a str>,
    pub topic_alias_max: Option<u16>,
    pub reason_string: Option<&'a str>,
    pub user_properties: UserProperties<'a>,
    pub wildcard_available: Option<bool>,
    pub subscription_ids_available: Option<bool>,
    pub shared_available: Option<bool>,
    pub server_keep_alive_s: Option<u16>,
    pub response_information: Option<&'a str>,
    pub server_reference: Option<&'a str>,
    pub authentication_method: Option<&'a str>,
    pub authentication_data: Option<&'a [u8]>,
}

impl Default for Connack<'_> {
    fn default() -> Self {
        Self {
            session_present: false,
            reason: ReasonCode::Success,
            session_expiry_s: None,
            receive_maximum: None,
            maximum_qos: None,
            retain_available: None,
            packet_bytes_max: None,
            assigned_client_id: None,
            topic_alias_max: None,
            reason_string: None,
            user_properties: UserProperties::EMPTY,
            wildcard_available: None,
            subscription_ids_available: None,
            shared_available: None,
            server_keep_alive_s: None,
            response_information: None,
            server_reference: None,
            authentication_method: None,
            authentication_data: None,
        }
    }
}

impl<'a> Connack<'a> {
    /// A refusal without more words.
    #[must_use]
    pub fn refused(reason: ReasonCode) -> Self {
        Self { reason, ..Self::default() }
    }

    /// # Errors
    /// Malformed, or a protocol error for a reason code that CONNACK does not have.
    pub fn decode(frame: &Frame<'a>, version: Version) -> Result<Self, Reject> {
        frame.expect_flags(version, 0)?;
        let mut reader = Reader::new(frame.body);
        let flags = reader.u8()?;
        let session_present = match version {
            // Nothing is said about this byte in MQTT 3.1.
            Version::V31 => false,
            Version::V311 | Version::V5 if flags & !SESSION_PRESENT != 0 => {
                return Err(Reject::malformed("reserved acknowledge flags"));
            }
            Version::V311 | Version::V5 => flags & SESSION_PRESENT != 0,
        };
        let reason = reason(reader.u8()?, version)?;
        if session_present && reason != ReasonCode::Success {
            return Err(Reject::protocol("session present in a CONNACK that refuses"));
        }
        let block = reader.property_block(version)?;
        reader.end()?;
        let mut connack = Self { session_present, reason, ..Self::default() };
        connack.read_properties(block)?;
        Ok(connack)
    }

    fn read_properties(&mut self, block: &'a [u8]) -> Result<(), Reject> {
        let mut properties = PropertyReader::new(block);
        while let Some(property) = properties.next()? {
            match property {
                Property::SessionExpiry(seconds) => self.session_expiry_s = Some(seconds),
                Property::ReceiveMaximum(count) => self.receive_maximum = Some(count),
                Property::MaximumQoS(qos) => self.maximum_qos = Some(qos),
                Property::RetainAvailable(flag) => self.retain_available = Some(flag),
                Property::MaximumPacketSize(bytes) => self.packet_bytes_max = Some(bytes),
                Property::AssignedClientId(id) => self.assigned_client_id = Some(id),
                Property::TopicAliasMaximum(count) => self.topic_alias_max = Some(count),
                Property::ReasonString(text) => self.reason_string = Some(text),
                Property::User(..) => {}
                Property::WildcardAvailable(flag) => self.wildcard_available = Some(flag),
                Property::SubscriptionIdsAvailable(flag) => {
                    self.subscription_ids_available = Some(flag);
                }
                Property::SharedAvailable(flag) => self.shared_available = Some(flag),
                Property::ServerKeepAlive(seconds) => self.server_keep_alive_s = Some(seconds),
                Property::ResponseInformation(text) => self.response_information = Some(text),
                Property::ServerReference(text) => self.server_reference = Some(text),
                Property::AuthenticationMethod(name) => self.authentication_method = Some(name),
                Property::AuthenticationData(data) => self.authentication_data = Some(data),
                _ => return Err(properties::misplaced()),
            }
        }
        self.user_properties = properties.user_properties(block);
        Ok(())
    }

    /// Whether the standard has this reason code for CONNACK (MQTT 5.0) [MQTT-3.2.2-8].
    #[must_use]
    pub fn allows(reason: ReasonCode) -> bool {
        use ReasonCode as R;
        matches!(
            reason,
            R::Success
                | R::UnspecifiedError
                | R::MalformedPacket
                | R::ProtocolError
                | R::ImplementationSpecificError
                | R::UnsupportedProtocolVersion
                | R::ClientIdentifierNotValid
                | R::BadUserNameOrPassword
                | R::NotAuthorized
                | R::ServerUnavailable
                | R::ServerBusy
                | R::Banned
                | R::BadAuthenticationMethod
                | R::TopicNameInvalid
                | R::PacketTooLarge
                | R::QuotaExceeded
                | R::PayloadFormatInvalid
                | R::RetainNotSupported
                | R::QoSNotSupported
                | R::UseAnotherServer
                | R::ServerMoved
                | R::ConnectionRateExceeded
        )
    }

    /// Appends the packet; nothing if it would be longer than the protocol has.
    ///
    /// MQTT 3.1 and 3.1.1 have return codes instead of reason codes:
    ///
    /// | reason code | return code |
    /// |---|---|
    /// | Success | 0 |
    /// | `UnsupportedProtocolVersion` | 1 |
    /// | `ClientIdentifierNotValid` | 2 |
    /// | `BadUserNameOrPassword`, `BadAuthenticationMethod` | 4 |
    /// | `NotAuthorized`, `Banned` | 5 |
    /// | all others | 3 (server unavailable) |
    pub fn encode(&self, version: Version, out: &mut Vec<u8>) {
        let first = PacketKind::Connack.first_byte();
        wire::packet(first, out, &|sink| self.body(version, sink));
    }

    /// Bytes of the whole packet; `None` if it is longer than the protocol has.
    #[must_use]
    pub fn encoded_len(&self, version: Version) -> Option<usize> {
        wire::packet_len(&|sink| self.body(version, sink))
    }

    fn body(&self, version: Version, sink: &mut dyn Sink) {
        let session_present = u8::from(self.session_present && version != Version::V31);
        wire::put_u8(sink, session_present);
        if version.is_v5() {
            wire::put_u8(sink, self.reason.byte());
            wire::put_properties(sink, &|sink| self.write_properties(sink));
        } else {
            wire::put_u8(sink, return_code(self.reason));
        }
    }

    fn write_properties(&self, sink: &mut dyn Sink) {
        write_some(sink, self.session_expiry_s.map(Property::SessionExpiry));
        write_some(sink, self.receive_maximum.map(Property::ReceiveMaximum));
        write_some(sink, self.maximum_qos.map(Property::MaximumQoS));
        write_some(sink, self.retain_available.map(Property::RetainAvailable));
        write_some(sink, self.packet_bytes_max.map(Property::MaximumPacketSize));
        write_some(sink, self.assigned_client_id.map(Property::AssignedClientId));
        write_some(sink, self.topic_alias_max.map(Property::TopicAliasMaximum));
        write_some(sink, self.reason_string.map(Property::ReasonString));
        self.user_properties.write(sink);
        write_some(sink, self.wildcard_available.map(Property::WildcardAvailable));
        let subscription_ids = self.subscription_ids_available;
        write_some(sink, subscription_ids.map(Property::SubscriptionIdsAvailable));
        write_some(sink, self.shared_available.map(Property::SharedAvailable));
        write_some(sink, self.server_keep_alive_s.map(Property::ServerKeepAlive));
        write_some(sink, self.response_information.map(Property::ResponseInformation));
        write_some(sink, self.server_reference.map(Property::ServerReference));
        write_some(sink, self.authentication_method.map(Property::AuthenticationMethod));
        write_some(sink, self.authentication_data.map(Property::AuthenticationData));
    }
}

const SESSION_PRESENT: u8 = 0x01;

fn reason(byte: u8, version: Version) -> Result<ReasonCode, Reject> {
    if version.is_v5() {
        return ReasonCode::from_byte(byte).filter(|&reason| Connack::allows(reason)).ok_or(
            Reject {
                reason: ReasonCode::ProtocolError,
                why: "reason code that CONNACK does not have",
            },
        );
    }
    Ok(match byte {
        0 => ReasonCode::Success,
        1 => ReasonCode::UnsupportedProtocolVersion,
        2 => ReasonCode::ClientIdentifierNotValid,
        3 => ReasonCode::ServerUnavailable,
        4 => ReasonCode::BadUserNameOrPassword,
        5 => ReasonCode::NotAuthorized,
        _ => return Err(Reject::malformed("reserved return code in a CONNACK")),
    })
}

fn return_code(reason: ReasonCode) -> u8 {
    match reason {
        ReasonCode::Success => 0,
        ReasonCode::UnsupportedProtocolVersion => 1,
        ReasonCode::ClientIdentifierNotValid => 2,
        ReasonCode::BadUserNameOrPassword | ReasonCode::BadAuthenticationMethod => 4,
        ReasonCode::NotAuthorized | ReasonCode::Banned => 5,
        _ => 3,
    }
}
