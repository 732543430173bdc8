//! Cutting the byte stream of a network connection into control packets.

use super::varint;
use crate::ids::Version;
use crate::reject::{ReasonCode, Reject};

/// A whole control packet, in place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Frame<'a> {
    /// Packet type and flags.
    pub first: u8,
    /// Variable header and payload.
    pub body: &'a [u8],
    /// Bytes of the whole packet, its fixed header included.
    pub len: usize,
}

impl Frame<'_> {
    /// `None` for packet type 0, which no version has.
    #[must_use]
    #[inline]
    pub fn kind(&self) -> Option<PacketKind> {
        PacketKind::from_nibble(self.first >> 4)
    }

    /// The flags must be as the standard fixes them [MQTT-2.1.3-1]. MQTT 3.1 has DUP in re-sent
    /// PUBREL, SUBSCRIBE and UNSUBSCRIBE packets, the three whose flags are 0010.
    #[inline]
    pub(super) fn expect_flags(&self, version: Version, want: u8) -> Result<(), Reject> {
        let is_dup_allowed = version == Version::V31 && want == FLAGS_QOS_1;
        let flags = if is_dup_allowed { self.first & 0x07 } else { self.first & 0x0F };
        if flags == want {
            Ok(())
        } else {
            Err(Reject::malformed("reserved flags of the fixed header"))
        }
    }

    /// PINGREQ and PINGRESP: nothing but the fixed header.
    ///
    /// # Errors
    /// Malformed: flags that are not 0, or a body.
    pub fn expect_bare(&self, version: Version) -> Result<(), Reject> {
        self.expect_flags(version, 0)?;
        self.expect_empty()
    }

    pub(super) fn expect_empty(&self) -> Result<(), Reject> {
        if self.body.is_empty() { Ok(()) } else { Err(Reject::malformed("packet with a body")) }
    }
}

/// Fixed header flags of PUBREL, SUBSCRIBE and UNSUBSCRIBE.
pub(super) const FLAGS_QOS_1: u8 = 0b0010;

/// What [`frame`] found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Framed<'a> {
    Whole(Frame<'a>),
    /// More bytes are needed. `needed`: bytes of the whole packet, once the fixed header is there.
    Cut {
        needed: Option<usize>,
    },
}

/// The packet at the start of `bytes`.
///
/// # Errors
/// 0x95 if the packet, cut or not, is longer than `packet_bytes_max`; malformed if its length is.
#[inline]
pub fn frame(bytes: &[u8], packet_bytes_max: u32) -> Result<Framed<'_>, Reject> {
    let Some((&first, behind)) = bytes.split_first() else {
        return Ok(Framed::Cut { needed: None });
    };
    let Some((remaining, count)) = varint::decode(behind)? else {
        return Ok(Framed::Cut { needed: None });
    };
    let Some(len) = usize::try_from(remaining).ok().and_then(|body| body.checked_add(1 + count))
    else {
        return Err(TOO_LARGE);
    };
    if u32::try_from(len).map_or(true, |len| len > packet_bytes_max) {
        return Err(TOO_LARGE);
    }
    match bytes.get(1 + count..len) {
        Some(body) => Ok(Framed::Whole(Frame { first, body, len })),
        None => Ok(Framed::Cut { needed: Some(len) }),
    }
}

const TOO_LARGE: Reject =
    Reject { reason: ReasonCode::PacketTooLarge, why: "packet above the maximum packet size" };

/// The type of a control packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum PacketKind {
    Connect = 1,
    Connack = 2,
    Publish = 3,
    Puback = 4,
    Pubrec = 5,
    Pubrel = 6,
    Pubcomp = 7,
    Subscribe = 8,
    Suback = 9,
    Unsubscribe = 10,
    Unsuback = 11,
    Pingreq = 12,
    Pingresp = 13,
    Disconnect = 14,
    Auth = 15,
}

impl PacketKind {
    /// From the upper four bits of a packet's first byte. `None` for 0 and above 15.
    #[must_use]
    #[inline]
    pub fn from_nibble(nibble: u8) -> Option<Self> {
        Some(match nibble {
            1 => Self::Connect,
            2 => Self::Connack,
            3 => Self::Publish,
            4 => Self::Puback,
            5 => Self::Pubrec,
            6 => Self::Pubrel,
            7 => Self::Pubcomp,
            8 => Self::Subscribe,
            9 => Self::Suback,
            10 => Self::Unsubscribe,
            11 => Self::Unsuback,
            12 => Self::Pingreq,
            13 => Self::Pingresp,
            14 => Self::Disconnect,
            15 => Self::Auth,
            _ => return None,
        })
    }

    /// The first byte of a packet of this type, with the flags that the standard fixes; PUBLISH has
    /// flags of its own, 0 here.
    #[must_use]
    #[inline]
    pub fn first_byte(self) -> u8 {
        let flags = match self {
            Self::Pubrel | Self::Subscribe | Self::Unsubscribe => FLAGS_QOS_1,
            Self::Connect
            | Self::Connack
            | Self::Publish
            | Self::Puback
            | Self::Pubrec
            | Self::Pubcomp
            | Self::Suback
            | Self::Unsuback
            | Self::Pingreq
            | Self::Pingresp
            | Self::Disconnect
            | Self::Auth => 0,
        };
        (self as u8) << 4 | flags
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn header_and_body_in_pieces() {
        let bytes = [0x30, 0x03, 0x00, 0x01, b'a', 0xC0];
        assert_eq!(frame(&bytes[..0], 100), Ok(Framed::Cut { needed: None }));
        assert_eq!(frame(&bytes[..1], 100), Ok(Framed::Cut { needed: None }));
        for cut in 2..5 {
            assert_eq!(frame(&bytes[..cut], 100), Ok(Framed::Cut { needed: Some(5) }));
        }
        let whole = Frame { first: 0x30, body: &[0, 1, b'a'], len: 5 };
        assert_eq!(frame(&bytes[..5], 100), Ok(Framed::Whole(whole)));
        assert_eq!(frame(&bytes, 5), Ok(Framed::Whole(whole)));
    }

    #[test]
    fn too_large_is_told_from_the_header_alone() {
        assert_eq!(frame(&[0x30, 0x03], 4), Err(TOO_LARGE));
        assert_eq!(frame(&[0x30, 0xFF, 0xFF, 0xFF, 0x7F], 268_435_459), Err(TOO_LARGE));
        assert_eq!(
            frame(&[0x30, 0xFF, 0xFF, 0xFF, 0x7F], 268_435_460),
            Ok(Framed::Cut { needed: Some(268_435_460) })
        );
    }

    #[test]
    fn kinds_and_their_first_bytes() {
        for nibble in 1..=15 {
            let kind = PacketKind::from_nibble(nibble).unwrap();
            assert_eq!(kind.first_byte() >> 4, nibble);
        }
        assert_eq!(PacketKind::from_nibble(0), None);
        assert_eq!(PacketKind::Subscribe.first_byte(), 0x82);
    }
}
