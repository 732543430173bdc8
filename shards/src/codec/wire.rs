//! Reading fields from a packet's body and writing them to a buffer. Private to the codec.
//!
//! A [`Reader`] never reads past its end: what is missing is malformed, since the body is whole by
//! the time it is read. Writing goes through [`Sink`], so that the same code counts and writes.

use super::varint;
use crate::ids::{PacketId, Version};
use crate::limits::REMAINING_LENGTH_MAX;
use crate::reject::Reject;

/// The bytes of a body, or of a part of it, that are still to be read.
#[derive(Clone, Copy, Debug)]
pub(super) struct Reader<'a> {
    rest: &'a [u8],
}

impl<'a> Reader<'a> {
    #[inline]
    pub(super) fn new(bytes: &'a [u8]) -> Self {
        Self { rest: bytes }
    }

    #[inline]
    pub(super) fn rest(&self) -> &'a [u8] {
        self.rest
    }

    #[inline]
    pub(super) fn is_empty(&self) -> bool {
        self.rest.is_empty()
    }

    /// All of it must have been read.
    #[inline]
    pub(super) fn end(&self) -> Result<(), Reject> {
        if self.rest.is_empty() {
            Ok(())
        } else {
            Err(Reject::malformed("bytes left over at the end of the packet"))
        }
    }

    #[inline]
    pub(super) fn u8(&mut self) -> Result<u8, Reject> {
        let (&byte, rest) = self.rest.split_first().ok_or(SHORT)?;
        self.rest = rest;
        Ok(byte)
    }

    #[inline]
    pub(super) fn u16(&mut self) -> Result<u16, Reject> {
        self.chunk().map(u16::from_be_bytes)
    }

    #[inline]
    pub(super) fn u32(&mut self) -> Result<u32, Reject> {
        self.chunk().map(u32::from_be_bytes)
    }

    #[inline]
    pub(super) fn varint(&mut self) -> Result<u32, Reject> {
        let (value, count) = varint::decode(self.rest)?.ok_or(SHORT)?;
        self.take(count)?;
        Ok(value)
    }

    /// Bytes behind their two length bytes.
    #[inline]
    pub(super) fn binary(&mut self) -> Result<&'a [u8], Reject> {
        let count = self.u16()?;
        self.take(usize::from(count))
    }

    #[inline]
    pub(super) fn string(&mut self) -> Result<&'a str, Reject> {
        super::text::string(self.binary()?)
    }

    /// A packet identifier, never 0.
    #[inline]
    pub(super) fn packet_id(&mut self) -> Result<PacketId, Reject> {
        PacketId::new(self.u16()?).ok_or(Reject {
            reason: crate::reject::ReasonCode::MalformedPacket,
            why: "packet identifier 0",
        })
    }

    /// The properties behind their length; none before MQTT 5.0.
    #[inline]
    pub(super) fn property_block(&mut self, version: Version) -> Result<&'a [u8], Reject> {
        if !version.is_v5() {
            return Ok(&[]);
        }
        let count = usize::try_from(self.varint()?).map_err(|_| SHORT)?;
        self.take(count)
    }

    #[inline]
    pub(super) fn take(&mut self, count: usize) -> Result<&'a [u8], Reject> {
        let (taken, rest) = self.rest.split_at_checked(count).ok_or(SHORT)?;
        self.rest = rest;
        Ok(taken)
    }

    #[inline]
    fn chunk<const N: usize>(&mut self) -> Result<[u8; N], Reject> {
        let (&chunk, rest) = self.rest.split_first_chunk().ok_or(SHORT)?;
        self.rest = rest;
        Ok(chunk)
    }
}

const SHORT: Reject = Reject {
    reason: crate::reject::ReasonCode::MalformedPacket,
    why: "field goes past the end of the packet",
};

/// Where encoded bytes go.
pub(super) trait Sink {
    fn put(&mut self, bytes: &[u8]);
}

impl Sink for Vec<u8> {
    fn put(&mut self, bytes: &[u8]) {
        self.extend_from_slice(bytes);
    }
}

/// Counts and forgets.
#[derive(Debug, Default)]
pub(super) struct Count(usize);

impl Sink for Count {
    fn put(&mut self, bytes: &[u8]) {
        self.0 = self.0.saturating_add(bytes.len());
    }
}

/// Writes a part of a packet.
pub(super) type Part<'p> = &'p dyn Fn(&mut dyn Sink);

/// How many bytes `part` writes.
pub(super) fn count(part: Part<'_>) -> usize {
    let mut count = Count::default();
    part(&mut count);
    count.0
}

/// Bytes of the packet with this body; `None` beyond the longest that the protocol has.
pub(super) fn packet_len(body: Part<'_>) -> Option<usize> {
    let remaining = u32::try_from(count(body)).ok().filter(|&len| len <= REMAINING_LENGTH_MAX)?;
    let body_len = usize::try_from(remaining).ok()?;
    Some(1 + varint::encoded_len(remaining) + body_len)
}

/// Appends fixed header and body; nothing if the packet would be longer than the protocol has.
pub(super) fn packet(first: u8, out: &mut Vec<u8>, body: Part<'_>) {
    let Ok(remaining) = u32::try_from(count(body)) else { return };
    if remaining > REMAINING_LENGTH_MAX {
        return;
    }
    out.push(first);
    put_varint(out, remaining);
    body(out);
}

/// The property length and the properties.
pub(super) fn put_properties(sink: &mut dyn Sink, properties: Part<'_>) {
    // Beyond the maximum the packet is refused as a whole; any length will do while counting.
    let count = u32::try_from(count(properties)).unwrap_or(REMAINING_LENGTH_MAX);
    put_varint(sink, count.min(REMAINING_LENGTH_MAX));
    properties(sink);
}

pub(super) fn put_varint(sink: &mut dyn Sink, value: u32) {
    let (bytes, count) = varint::encode(value);
    sink.put(&bytes[..count]);
}

pub(super) fn put_u8(sink: &mut dyn Sink, value: u8) {
    sink.put(&[value]);
}

pub(super) fn put_u16(sink: &mut dyn Sink, value: u16) {
    sink.put(&value.to_be_bytes());
}

pub(super) fn put_u32(sink: &mut dyn Sink, value: u32) {
    sink.put(&value.to_be_bytes());
}

/// Bytes beyond 65,535 are cut off.
pub(super) fn put_binary(sink: &mut dyn Sink, bytes: &[u8]) {
    let count = u16::try_from(bytes.len()).unwrap_or(u16::MAX);
    put_u16(sink, count);
    sink.put(&bytes[..usize::from(count)]);
}

/// Whole characters beyond 65,535 bytes are cut off.
pub(super) fn put_string(sink: &mut dyn Sink, text: &str) {
    let end = text.floor_char_boundary(usize::from(u16::MAX));
    put_binary(sink, &text.as_bytes()[..end]);
}
