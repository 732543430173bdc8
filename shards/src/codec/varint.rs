//! Variable byte integers: 7 bits a byte, least significant first, at most 4 bytes.

use crate::limits::REMAINING_LENGTH_MAX;
use crate::reject::Reject;

/// Most bytes of one integer.
pub const BYTES_MAX: usize = 4;

/// The integer at the start of `bytes` and how many bytes it takes; `None` if it is cut.
///
/// # Errors
/// Malformed if a fourth byte announces a fifth, or if fewer bytes would do [MQTT-1.5.5-1].
#[inline]
pub fn decode(bytes: &[u8]) -> Result<Option<(u32, usize)>, Reject> {
    match bytes.first() {
        None => Ok(None),
        Some(&byte) if byte < 0x80 => Ok(Some((u32::from(byte), 1))),
        Some(_) => decode_long(bytes),
    }
}

fn decode_long(bytes: &[u8]) -> Result<Option<(u32, usize)>, Reject> {
    let mut value = 0;
    let mut shift = 0;
    for (index, &byte) in bytes.iter().take(BYTES_MAX).enumerate() {
        value |= u32::from(byte & 0x7F) << shift;
        shift += 7;
        if byte == 0 {
            return Err(Reject::malformed("variable byte integer in more bytes than it needs"));
        }
        if byte < 0x80 {
            return Ok(Some((value, index + 1)));
        }
    }
    if bytes.len() < BYTES_MAX {
        return Ok(None);
    }
    Err(Reject::malformed("variable byte integer longer than 4 bytes"))
}

/// How many bytes `value` takes.
#[must_use]
#[inline]
pub fn encoded_len(value: u32) -> usize {
    match value {
        0..=0x7F => 1,
        0x80..=0x3FFF => 2,
        0x4000..=0x1F_FFFF => 3,
        _ => 4,
    }
}

/// `value` in the fewest bytes; the caller has checked that it is at most
/// [`REMAINING_LENGTH_MAX`].
#[must_use]
#[inline]
pub fn encode(value: u32) -> ([u8; BYTES_MAX], usize) {
    debug_assert!(value <= REMAINING_LENGTH_MAX);
    let groups = [value, value >> 7, value >> 14, value >> 21];
    let mut bytes = groups.map(|group| group.to_le_bytes()[0] & 0x7F);
    let count = encoded_len(value);
    for byte in &mut bytes[..count - 1] {
        *byte |= 0x80;
    }
    (bytes, count)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(value: u32, want: &[u8]) {
        let (bytes, count) = encode(value);
        assert_eq!(&bytes[..count], want);
        assert_eq!(encoded_len(value), want.len());
        assert_eq!(decode(want), Ok(Some((value, want.len()))));
        for cut in 0..want.len() {
            assert_eq!(decode(&want[..cut]), Ok(None));
        }
    }

    #[test]
    fn mqtt_5_1_5_5_1_fewest_bytes_at_every_edge() {
        check(0, &[0x00]);
        check(127, &[0x7F]);
        check(128, &[0x80, 0x01]);
        check(16_383, &[0xFF, 0x7F]);
        check(16_384, &[0x80, 0x80, 0x01]);
        check(2_097_151, &[0xFF, 0xFF, 0x7F]);
        check(2_097_152, &[0x80, 0x80, 0x80, 0x01]);
        check(REMAINING_LENGTH_MAX, &[0xFF, 0xFF, 0xFF, 0x7F]);
    }

    #[test]
    fn mqtt_5_1_5_5_1_more_bytes_than_needed_is_malformed() {
        for bytes in
            [&[0x80, 0x00][..], &[0xFF, 0x00], &[0x80, 0x80, 0x00], &[0xFF, 0xFF, 0x80, 0x00]]
        {
            assert_eq!(
                decode(bytes).unwrap_err().why,
                "variable byte integer in more bytes than it needs"
            );
        }
    }

    #[test]
    fn fifth_byte_is_malformed_before_it_comes() {
        assert!(decode(&[0x80, 0x80, 0x80]).unwrap().is_none());
        assert!(decode(&[0x80, 0x80, 0x80, 0x80]).is_err());
        assert!(decode(&[0xFF, 0xFF, 0xFF, 0xFF, 0x7F]).is_err());
    }
}
