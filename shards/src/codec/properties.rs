//! The properties of MQTT 5.0: one table of identifiers and types (section 2.2.2.2), reading,
//! writing, and the user properties that most packets have.
//!
//! A packet's decoder matches the properties it may have; all others are malformed there. Values
//! that no packet allows (a Receive Maximum of 0, say) are refused here, duplicates as well.

use super::text;
use super::wire::{self, Reader, Sink};
use crate::ids::{QoS, SubscriptionId};
use crate::reject::{ReasonCode, Reject};

/// One property with its value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Property<'a> {
    /// Payload Format Indicator: true for UTF-8.
    PayloadFormat(bool),
    MessageExpiry(u32),
    ContentType(&'a str),
    ResponseTopic(&'a str),
    CorrelationData(&'a [u8]),
    SubscriptionId(SubscriptionId),
    SessionExpiry(u32),
    AssignedClientId(&'a str),
    ServerKeepAlive(u16),
    AuthenticationMethod(&'a str),
    AuthenticationData(&'a [u8]),
    RequestProblemInformation(bool),
    WillDelay(u32),
    RequestResponseInformation(bool),
    ResponseInformation(&'a str),
    ServerReference(&'a str),
    ReasonString(&'a str),
    /// Not 0.
    ReceiveMaximum(u16),
    TopicAliasMaximum(u16),
    /// Not 0.
    TopicAlias(u16),
    /// 0 or 1.
    MaximumQoS(QoS),
    RetainAvailable(bool),
    User(&'a str, &'a str),
    /// Not 0.
    MaximumPacketSize(u32),
    WildcardAvailable(bool),
    SubscriptionIdsAvailable(bool),
    SharedAvailable(bool),
}

impl<'a> Property<'a> {
    #[must_use]
    pub fn id(&self) -> u8 {
        match self {
            Self::PayloadFormat(_) => 0x01,
            Self::MessageExpiry(_) => 0x02,
            Self::ContentType(_) => 0x03,
            Self::ResponseTopic(_) => 0x08,
            Self::CorrelationData(_) => 0x09,
            Self::SubscriptionId(_) => SUBSCRIPTION_ID,
            Self::SessionExpiry(_) => 0x11,
            Self::AssignedClientId(_) => 0x12,
            Self::ServerKeepAlive(_) => 0x13,
            Self::AuthenticationMethod(_) => 0x15,
            Self::AuthenticationData(_) => 0x16,
            Self::RequestProblemInformation(_) => 0x17,
            Self::WillDelay(_) => 0x18,
            Self::RequestResponseInformation(_) => 0x19,
            Self::ResponseInformation(_) => 0x1A,
            Self::ServerReference(_) => 0x1C,
            Self::ReasonString(_) => 0x1F,
            Self::ReceiveMaximum(_) => 0x21,
            Self::TopicAliasMaximum(_) => 0x22,
            Self::TopicAlias(_) => 0x23,
            Self::MaximumQoS(_) => 0x24,
            Self::RetainAvailable(_) => 0x25,
            Self::User(..) => USER,
            Self::MaximumPacketSize(_) => 0x27,
            Self::WildcardAvailable(_) => 0x28,
            Self::SubscriptionIdsAvailable(_) => 0x29,
            Self::SharedAvailable(_) => 0x2A,
        }
    }

    /// Appends identifier and value, to build the properties of a message by hand.
    pub fn encode_into(&self, out: &mut Vec<u8>) {
        self.write(out);
    }

    pub(super) fn write(&self, sink: &mut dyn Sink) {
        wire::put_u8(sink, self.id());
        match *self {
            Self::PayloadFormat(flag)
            | Self::RequestProblemInformation(flag)
            | Self::RequestResponseInformation(flag)
            | Self::RetainAvailable(flag)
            | Self::WildcardAvailable(flag)
            | Self::SubscriptionIdsAvailable(flag)
            | Self::SharedAvailable(flag) => wire::put_u8(sink, u8::from(flag)),
            Self::MaximumQoS(qos) => wire::put_u8(sink, qos.bits()),
            Self::ServerKeepAlive(value)
            | Self::ReceiveMaximum(value)
            | Self::TopicAliasMaximum(value)
            | Self::TopicAlias(value) => wire::put_u16(sink, value),
            Self::MessageExpiry(value)
            | Self::SessionExpiry(value)
            | Self::WillDelay(value)
            | Self::MaximumPacketSize(value) => wire::put_u32(sink, value),
            Self::SubscriptionId(id) => wire::put_varint(sink, id.value()),
            Self::ContentType(text)
            | Self::ResponseTopic(text)
            | Self::AssignedClientId(text)
            | Self::AuthenticationMethod(text)
            | Self::ResponseInformation(text)
            | Self::ServerReference(text)
            | Self::ReasonString(text) => wire::put_string(sink, text),
            Self::CorrelationData(bytes) | Self::AuthenticationData(bytes) => {
                wire::put_binary(sink, bytes);
            }
            Self::User(name, value) => {
                wire::put_string(sink, name);
                wire::put_string(sink, value);
            }
        }
    }

    #[inline]
    fn read(reader: &mut Reader<'a>) -> Result<Self, Reject> {
        Ok(match reader.u8()? {
            0x01 => Self::PayloadFormat(flag(reader)?),
            0x02 => Self::MessageExpiry(reader.u32()?),
            0x03 => Self::ContentType(reader.string()?),
            0x08 => Self::ResponseTopic(response_topic(reader)?),
            0x09 => Self::CorrelationData(reader.binary()?),
            SUBSCRIPTION_ID => Self::SubscriptionId(subscription_id(reader)?),
            0x11 => Self::SessionExpiry(reader.u32()?),
            0x12 => Self::AssignedClientId(reader.string()?),
            0x13 => Self::ServerKeepAlive(reader.u16()?),
            0x15 => Self::AuthenticationMethod(reader.string()?),
            0x16 => Self::AuthenticationData(reader.binary()?),
            0x17 => Self::RequestProblemInformation(flag(reader)?),
            0x18 => Self::WillDelay(reader.u32()?),
            0x19 => Self::RequestResponseInformation(flag(reader)?),
            0x1A => Self::ResponseInformation(reader.string()?),
            0x1C => Self::ServerReference(reader.string()?),
            0x1F => Self::ReasonString(reader.string()?),
            0x21 => Self::ReceiveMaximum(receive_maximum(reader)?),
            0x22 => Self::TopicAliasMaximum(reader.u16()?),
            0x23 => Self::TopicAlias(topic_alias(reader)?),
            0x24 => Self::MaximumQoS(maximum_qos(reader)?),
            0x25 => Self::RetainAvailable(flag(reader)?),
            USER => Self::User(reader.string()?, reader.string()?),
            0x27 => Self::MaximumPacketSize(packet_bytes_max(reader)?),
            0x28 => Self::WildcardAvailable(flag(reader)?),
            0x29 => Self::SubscriptionIdsAvailable(flag(reader)?),
            0x2A => Self::SharedAvailable(flag(reader)?),
            // Identifiers are variable byte integers, but all that exist take one byte.
            _ => return Err(Reject::malformed("unknown property")),
        })
    }
}

const SUBSCRIPTION_ID: u8 = 0x0B;
const USER: u8 = 0x26;

fn flag(reader: &mut Reader<'_>) -> Result<bool, Reject> {
    match reader.u8()? {
        0 => Ok(false),
        1 => Ok(true),
        _ => Err(Reject::protocol("property value neither 0 nor 1")),
    }
}

fn maximum_qos(reader: &mut Reader<'_>) -> Result<QoS, Reject> {
    Ok(if flag(reader)? { QoS::AtLeastOnce } else { QoS::AtMostOnce })
}

fn subscription_id(reader: &mut Reader<'_>) -> Result<SubscriptionId, Reject> {
    SubscriptionId::new(reader.varint()?)
        .ok_or(Reject { reason: ReasonCode::ProtocolError, why: "subscription identifier 0" })
}

fn topic_alias(reader: &mut Reader<'_>) -> Result<u16, Reject> {
    match reader.u16()? {
        0 => Err(Reject { reason: ReasonCode::TopicAliasInvalid, why: "topic alias 0" }),
        alias => Ok(alias),
    }
}

fn receive_maximum(reader: &mut Reader<'_>) -> Result<u16, Reject> {
    match reader.u16()? {
        0 => Err(Reject::protocol("Receive Maximum 0")),
        value => Ok(value),
    }
}

fn packet_bytes_max(reader: &mut Reader<'_>) -> Result<u32, Reject> {
    match reader.u32()? {
        0 => Err(Reject::protocol("Maximum Packet Size 0")),
        value => Ok(value),
    }
}

fn response_topic<'a>(reader: &mut Reader<'a>) -> Result<&'a str, Reject> {
    let topic = reader.string()?;
    if text::has_wildcard(topic) {
        return Err(Reject::protocol("response topic with a wildcard"));
    }
    if topic.is_empty() {
        return Err(Reject::protocol("empty response topic"));
    }
    Ok(topic)
}

/// Reads a property block that comes from the network. Duplicates are refused.
#[derive(Debug)]
pub(super) struct PropertyReader<'a> {
    reader: Reader<'a>,
    /// Bit `id`: a property that may come once only has come.
    seen: u64,
    /// Bit `id`: may come any number of times.
    repeatable: u64,
}

impl<'a> PropertyReader<'a> {
    #[inline]
    pub(super) fn new(block: &'a [u8]) -> Self {
        Self { reader: Reader::new(block), seen: 0, repeatable: 1 << USER }
    }

    /// For PUBLISH, which has one subscription identifier for each subscription it was sent for.
    #[inline]
    pub(super) fn with_subscription_ids(block: &'a [u8]) -> Self {
        let repeatable = 1 << USER | 1 << SUBSCRIPTION_ID;
        Self { reader: Reader::new(block), seen: 0, repeatable }
    }

    /// `None` at the end.
    #[inline]
    pub(super) fn next(&mut self) -> Result<Option<Property<'a>>, Reject> {
        if self.reader.is_empty() {
            return Ok(None);
        }
        let property = Property::read(&mut self.reader)?;
        let bit = 1_u64 << property.id();
        if self.seen & bit & !self.repeatable != 0 {
            return Err(Reject::protocol("property given twice"));
        }
        self.seen |= bit;
        Ok(Some(property))
    }

    /// The user properties of what was read; `block` is what this reader was made of.
    pub(super) fn user_properties(&self, block: &'a [u8]) -> UserProperties<'a> {
        let has_any = self.seen & 1 << USER != 0;
        UserProperties { wire: if has_any { block } else { &[] }, pairs: &[] }
    }
}

/// For the arm of a decoder that is left when all properties of its packet are dealt with.
#[cold]
pub(super) fn misplaced() -> Reject {
    Reject::malformed("property that this packet does not have")
}

/// The properties of a block that was checked, in their order.
#[derive(Clone, Debug)]
pub struct PropertyIter<'a> {
    reader: Reader<'a>,
}

impl<'a> PropertyIter<'a> {
    pub(super) fn new(block: &'a [u8]) -> Self {
        Self { reader: Reader::new(block) }
    }

    /// The next property and the bytes that it stands in.
    pub(super) fn next_with_bytes(&mut self) -> Option<(Property<'a>, &'a [u8])> {
        let before = self.reader.rest();
        // A checked block has no errors; one that has ends here.
        let property = Property::read(&mut self.reader).ok()?;
        let count = before.len() - self.reader.rest().len();
        Some((property, &before[..count]))
    }
}

impl<'a> Iterator for PropertyIter<'a> {
    type Item = Property<'a>;

    fn next(&mut self) -> Option<Property<'a>> {
        self.next_with_bytes().map(|(property, _)| property)
    }
}

/// The user properties of one packet, in their order.
#[derive(Clone, Copy, Debug, Default)]
pub struct UserProperties<'a> {
    /// A checked property block; other properties in it are passed over.
    wire: &'a [u8],
    pairs: &'a [(&'a str, &'a str)],
}

impl<'a> UserProperties<'a> {
    pub const EMPTY: Self = Self { wire: &[], pairs: &[] };

    /// To send.
    #[must_use]
    pub fn new(pairs: &'a [(&'a str, &'a str)]) -> Self {
        Self { wire: &[], pairs }
    }

    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.wire.is_empty() && self.pairs.is_empty()
    }

    pub fn iter(&self) -> impl Iterator<Item = (&'a str, &'a str)> + Clone + use<'a> {
        let received = PropertyIter::new(self.wire).filter_map(|property| match property {
            Property::User(name, value) => Some((name, value)),
            _ => None,
        });
        received.chain(self.pairs.iter().copied())
    }

    pub(super) fn write(&self, sink: &mut dyn Sink) {
        for (name, value) in self.iter() {
            Property::User(name, value).write(sink);
        }
    }
}

impl PartialEq for UserProperties<'_> {
    fn eq(&self, other: &Self) -> bool {
        self.iter().eq(other.iter())
    }
}

impl Eq for UserProperties<'_> {}

/// Reason String and User Properties: all that the answers to PUBLISH, SUBSCRIBE and UNSUBSCRIBE
/// have.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Remarks<'a> {
    pub(super) reason_string: Option<&'a str>,
    pub(super) user_properties: UserProperties<'a>,
}

impl<'a> Remarks<'a> {
    pub(super) fn read(block: &'a [u8]) -> Result<Self, Reject> {
        let mut properties = PropertyReader::new(block);
        let mut reason_string = None;
        while let Some(property) = properties.next()? {
            match property {
                Property::ReasonString(text) => reason_string = Some(text),
                Property::User(..) => {}
                _ => return Err(misplaced()),
            }
        }
        Ok(Self { reason_string, user_properties: properties.user_properties(block) })
    }

    pub(super) fn is_empty(&self) -> bool {
        self.reason_string.is_none() && self.user_properties.is_empty()
    }

    pub(super) fn write(&self, sink: &mut dyn Sink) {
        write_some(sink, self.reason_string.map(Property::ReasonString));
        self.user_properties.write(sink);
    }
}

/// Writes what is there.
pub(super) fn write_some(sink: &mut dyn Sink, property: Option<Property<'_>>) {
    if let Some(property) = property {
        property.write(sink);
    }
}
