//! SUBSCRIBE (section 3.8).
//!
//! All filters are checked as strings when the packet is decoded, so that walking them cannot fail.
//! Their grammar is for the topic module to check.

use super::frame::{FLAGS_QOS_1, Frame, PacketKind};
use super::properties::{self, Property, PropertyReader, UserProperties, write_some};
use super::wire::{self, Reader, Sink};
use crate::ids::{PacketId, QoS, SubscriptionId, Version};
use crate::reject::Reject;

/// A client's request for subscriptions.
#[derive(Clone, Copy, Debug)]
pub struct Subscribe<'a> {
    pub packet_id: PacketId,
    pub subscription_id: Option<SubscriptionId>,
    pub user_properties: UserProperties<'a>,
    /// As received and checked; empty in a packet to send.
    wire: &'a [u8],
    /// To send; empty in a received packet.
    list: &'a [(&'a str, SubscribeOptions)],
}

impl<'a> Subscribe<'a> {
    /// To send. The standard wants at least one filter.
    #[must_use]
    pub fn new(packet_id: PacketId, filters: &'a [(&'a str, SubscribeOptions)]) -> Self {
        Self {
            packet_id,
            subscription_id: None,
            user_properties: UserProperties::EMPTY,
            wire: &[],
            list: filters,
        }
    }

    /// # Errors
    /// Malformed or a protocol error.
    pub fn decode(frame: &Frame<'a>, version: Version) -> Result<Self, Reject> {
        frame.expect_flags(version, FLAGS_QOS_1)?;
        let mut reader = Reader::new(frame.body);
        let mut subscribe = Self::new(reader.packet_id()?, &[]);
        subscribe.read_properties(reader.property_block(version)?)?;
        if reader.is_empty() {
            return Err(no_filter(version));
        }
        subscribe.wire = reader.rest();
        while !reader.is_empty() {
            let filter = reader.string()?;
            let options = SubscribeOptions::parse(reader.u8()?, version)?;
            if options.no_local && filter.starts_with("$share/") {
                return Err(Reject::protocol("No Local on a shared subscription"));
            }
        }
        Ok(subscribe)
    }

    fn read_properties(&mut self, block: &'a [u8]) -> Result<(), Reject> {
        let mut properties = PropertyReader::new(block);
        while let Some(property) = properties.next()? {
            match property {
                Property::SubscriptionId(id) => self.subscription_id = Some(id),
                Property::User(..) => {}
                _ => return Err(properties::misplaced()),
            }
        }
        self.user_properties = properties.user_properties(block);
        Ok(())
    }

    /// The filters with their options, in their order; at least one in a received packet.
    pub fn filters(&self) -> impl Iterator<Item = (&'a str, SubscribeOptions)> + Clone + use<'a> {
        self.received().chain(self.list.iter().copied())
    }

    /// The filters of a received packet; empty for one to send.
    #[must_use]
    pub fn received(&self) -> SubscribeFilters<'a> {
        SubscribeFilters::resume(self.wire)
    }

    /// Appends the packet; nothing if it would be longer than the protocol has. Before MQTT 5.0 an
    /// option is its QoS alone.
    pub fn encode(&self, version: Version, out: &mut Vec<u8>) {
        let first = PacketKind::Subscribe.first_byte();
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
            wire::put_properties(sink, &|sink| {
                write_some(sink, self.subscription_id.map(Property::SubscriptionId));
                self.user_properties.write(sink);
            });
        }
        for (filter, options) in self.filters() {
            wire::put_string(sink, filter);
            wire::put_u8(sink, options.byte(version));
        }
    }
}

impl PartialEq for Subscribe<'_> {
    fn eq(&self, other: &Self) -> bool {
        self.packet_id == other.packet_id
            && self.subscription_id == other.subscription_id
            && self.user_properties == other.user_properties
            && self.filters().eq(other.filters())
    }
}

impl Eq for Subscribe<'_> {}

/// Walks checked filters, with a rest stop wherever one is wanted.
#[derive(Clone, Debug)]
pub struct SubscribeFilters<'a> {
    reader: Reader<'a>,
}

impl<'a> SubscribeFilters<'a> {
    /// Goes on where another walk has left off.
    #[must_use]
    pub fn resume(rest: &'a [u8]) -> Self {
        Self { reader: Reader::new(rest) }
    }

    /// What is still to be walked.
    #[must_use]
    pub fn rest(&self) -> &'a [u8] {
        self.reader.rest()
    }
}

impl<'a> Iterator for SubscribeFilters<'a> {
    type Item = (&'a str, SubscribeOptions);

    fn next(&mut self) -> Option<Self::Item> {
        // Checked when the packet was decoded; the only error left is the end. Bits that MQTT 3
        // does not have were 0.
        let filter = self.reader.string().ok()?;
        let options = SubscribeOptions::parse(self.reader.u8().ok()?, Version::V5).ok()?;
        Some((filter, options))
    }
}

/// How a subscription wants its messages.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct SubscribeOptions {
    /// The most the client wants.
    pub qos: QoS,
    /// Not what the same client published.
    pub no_local: bool,
    /// RETAIN as the publisher set it, not always 0.
    pub retain_as_published: bool,
    pub retain_handling: RetainHandling,
}

/// Which retained messages a new SUBSCRIBE is answered with.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum RetainHandling {
    /// All that match.
    Always = 0,
    /// All that match, if the subscription did not exist.
    IfNew = 1,
    Never = 2,
}

impl SubscribeOptions {
    /// What MQTT 3 has: a QoS.
    #[must_use]
    pub fn new(qos: QoS) -> Self {
        Self {
            qos,
            no_local: false,
            retain_as_published: false,
            retain_handling: RetainHandling::Always,
        }
    }

    /// # Errors
    /// Malformed for reserved bits, and before MQTT 5.0 for QoS 3; otherwise that is a protocol
    /// error, as is retain handling 3.
    pub fn parse(bits: u8, version: Version) -> Result<Self, Reject> {
        let reserved = if version.is_v5() { RESERVED } else { RESERVED_V3 };
        if bits & reserved != 0 {
            return Err(Reject::malformed("reserved bits in the subscription options"));
        }
        let Some(qos) = QoS::from_bits(bits & 0b11) else {
            return Err(if version.is_v5() {
                Reject::protocol("subscription with QoS 3")
            } else {
                Reject::malformed("subscription with QoS 3")
            });
        };
        let retain_handling = match bits >> RETAIN_HANDLING_SHIFT & 0b11 {
            0 => RetainHandling::Always,
            1 => RetainHandling::IfNew,
            2 => RetainHandling::Never,
            _ => return Err(Reject::protocol("subscription with retain handling 3")),
        };
        Ok(Self {
            qos,
            no_local: bits & NO_LOCAL != 0,
            retain_as_published: bits & RETAIN_AS_PUBLISHED != 0,
            retain_handling,
        })
    }

    /// The byte on the wire.
    #[must_use]
    pub fn byte(self, version: Version) -> u8 {
        if !version.is_v5() {
            return self.qos.bits();
        }
        let no_local = if self.no_local { NO_LOCAL } else { 0 };
        let as_published = if self.retain_as_published { RETAIN_AS_PUBLISHED } else { 0 };
        let handling = (self.retain_handling as u8) << RETAIN_HANDLING_SHIFT;
        self.qos.bits() | no_local | as_published | handling
    }
}

const NO_LOCAL: u8 = 0x04;
const RETAIN_AS_PUBLISHED: u8 = 0x08;
const RETAIN_HANDLING_SHIFT: u8 = 4;
const RESERVED: u8 = 0xC0;
const RESERVED_V3: u8 = 0xFC;

/// SUBSCRIBE and UNSUBSCRIBE have at least one filter [MQTT-3.8.3-2] [MQTT-3.10.3-2].
pub(super) fn no_filter(version: Version) -> Reject {
    if version.is_v5() {
        Reject::protocol("no topic filter")
    } else {
        Reject::malformed("no topic filter")
    }
}
