//! UNSUBSCRIBE (section 3.10). Filters are checked as strings, like those of SUBSCRIBE.

use super::frame::{FLAGS_QOS_1, Frame, PacketKind};
use super::properties::{self, Property, PropertyReader, UserProperties};
use super::subscribe::no_filter;
use super::wire::{self, Reader, Sink};
use crate::ids::{PacketId, Version};
use crate::reject::Reject;

/// A client's request to end subscriptions.
#[derive(Clone, Copy, Debug)]
pub struct Unsubscribe<'a> {
    pub packet_id: PacketId,
    pub user_properties: UserProperties<'a>,
    /// As received and checked; empty in a packet to send.
    wire: &'a [u8],
    /// To send; empty in a received packet.
    list: &'a [&'a str],
}

impl<'a> Unsubscribe<'a> {
    /// To send. The standard wants at least one filter.
    #[must_use]
    pub fn new(packet_id: PacketId, filters: &'a [&'a str]) -> Self {
        Self { packet_id, user_properties: UserProperties::EMPTY, wire: &[], list: filters }
    }

    /// # Errors
    /// Malformed or a protocol error.
    pub fn decode(frame: &Frame<'a>, version: Version) -> Result<Self, Reject> {
        frame.expect_flags(version, FLAGS_QOS_1)?;
        let mut reader = Reader::new(frame.body);
        let mut unsubscribe = Self::new(reader.packet_id()?, &[]);
        unsubscribe.read_properties(reader.property_block(version)?)?;
        if reader.is_empty() {
            return Err(no_filter(version));
        }
        unsubscribe.wire = reader.rest();
        while !reader.is_empty() {
            reader.string()?;
        }
        Ok(unsubscribe)
    }

    fn read_properties(&mut self, block: &'a [u8]) -> Result<(), Reject> {
        let mut properties = PropertyReader::new(block);
        while let Some(property) = properties.next()? {
            match property {
                Property::User(..) => {}
                _ => return Err(properties::misplaced()),
            }
        }
        self.user_properties = properties.user_properties(block);
        Ok(())
    }

    /// The filters, in their order; at least one in a received packet.
    pub fn filters(&self) -> impl Iterator<Item = &'a str> + Clone + use<'a> {
        self.received().chain(self.list.iter().copied())
    }

    /// The filters of a received packet; empty for one to send.
    #[must_use]
    pub fn received(&self) -> UnsubscribeFilters<'a> {
        UnsubscribeFilters::resume(self.wire)
    }

    /// Appends the packet; nothing if it would be longer than the protocol has.
    pub fn encode(&self, version: Version, out: &mut Vec<u8>) {
        let first = PacketKind::Unsubscribe.first_byte();
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
            wire::put_properties(sink, &|sink| self.user_properties.write(sink));
        }
        for filter in self.filters() {
            wire::put_string(sink, filter);
        }
    }
}

impl PartialEq for Unsubscribe<'_> {
    fn eq(&self, other: &Self) -> bool {
        self.packet_id == other.packet_id
            && self.user_properties == other.user_properties
            && self.filters().eq(other.filters())
    }
}

impl Eq for Unsubscribe<'_> {}

/// Walks checked filters, with a rest stop wherever one is wanted.
#[derive(Clone, Debug)]
pub struct UnsubscribeFilters<'a> {
    reader: Reader<'a>,
}

impl<'a> UnsubscribeFilters<'a> {
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

impl<'a> Iterator for UnsubscribeFilters<'a> {
    type Item = &'a str;

    fn next(&mut self) -> Option<&'a str> {
        // Checked when the packet was decoded; the only error left is the end.
        self.reader.string().ok()
    }
}
