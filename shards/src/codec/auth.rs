//! AUTH (section 3.15), only in MQTT 5.0.

use super::frame::{Frame, PacketKind};
use super::properties::{self, Property, PropertyReader, UserProperties, write_some};
use super::wire::{self, Reader, Sink};
use crate::ids::Version;
use crate::reject::{ReasonCode, Reject};

/// A step of enhanced authentication.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Auth<'a> {
    /// Success, continue or re-authenticate.
    pub reason: ReasonCode,
    /// `None` only in the packet without a body, which says Success and no more.
    pub method: Option<&'a str>,
    pub data: Option<&'a [u8]>,
    pub reason_string: Option<&'a str>,
    pub user_properties: UserProperties<'a>,
}

impl<'a> Auth<'a> {
    #[must_use]
    pub fn new(reason: ReasonCode, method: &'a str) -> Self {
        Self { method: Some(method), ..Self::bare(reason) }
    }

    fn bare(reason: ReasonCode) -> Self {
        Self {
            reason,
            method: None,
            data: None,
            reason_string: None,
            user_properties: UserProperties::EMPTY,
        }
    }

    /// # Errors
    /// Malformed, or a protocol error for another reason code or a missing method.
    pub fn decode(frame: &Frame<'a>, version: Version) -> Result<Self, Reject> {
        if !version.is_v5() {
            return Err(Reject::malformed("packet type 15 before MQTT 5.0"));
        }
        frame.expect_flags(version, 0)?;
        let mut reader = Reader::new(frame.body);
        if reader.is_empty() {
            return Ok(Self::bare(ReasonCode::Success));
        }
        let reason = ReasonCode::from_byte(reader.u8()?)
            .filter(|&reason| is_allowed(reason))
            .ok_or(REASON)?;
        let mut auth = Self::bare(reason);
        auth.read_properties(reader.property_block(version)?)?;
        reader.end()?;
        if auth.method.is_none() {
            return Err(Reject::protocol("AUTH without an authentication method"));
        }
        Ok(auth)
    }

    fn read_properties(&mut self, block: &'a [u8]) -> Result<(), Reject> {
        let mut properties = PropertyReader::new(block);
        while let Some(property) = properties.next()? {
            match property {
                Property::AuthenticationMethod(name) => self.method = Some(name),
                Property::AuthenticationData(data) => self.data = Some(data),
                Property::ReasonString(text) => self.reason_string = Some(text),
                Property::User(..) => {}
                _ => return Err(properties::misplaced()),
            }
        }
        self.user_properties = properties.user_properties(block);
        Ok(())
    }

    /// Appends the packet; nothing if it would be longer than the protocol has, or before MQTT 5.0.
    pub fn encode(&self, version: Version, out: &mut Vec<u8>) {
        if version.is_v5() {
            wire::packet(PacketKind::Auth.first_byte(), out, &|sink| self.body(sink));
        }
    }

    /// Bytes of the whole packet; `None` if it is longer than the protocol has.
    #[must_use]
    pub fn encoded_len(&self) -> Option<usize> {
        wire::packet_len(&|sink| self.body(sink))
    }

    fn body(&self, sink: &mut dyn Sink) {
        if *self == Self::bare(ReasonCode::Success) {
            return;
        }
        wire::put_u8(sink, self.reason.byte());
        wire::put_properties(sink, &|sink| {
            write_some(sink, self.method.map(Property::AuthenticationMethod));
            write_some(sink, self.data.map(Property::AuthenticationData));
            write_some(sink, self.reason_string.map(Property::ReasonString));
            self.user_properties.write(sink);
        });
    }
}

const REASON: Reject =
    Reject { reason: ReasonCode::ProtocolError, why: "reason code that AUTH does not have" };

fn is_allowed(reason: ReasonCode) -> bool {
    matches!(
        reason,
        ReasonCode::Success | ReasonCode::ContinueAuthentication | ReasonCode::ReAuthenticate
    )
}
