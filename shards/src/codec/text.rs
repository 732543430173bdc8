//! UTF-8 strings and topic names as the standards restrict them.
//!
//! Both must be well-formed UTF-8 without U+0000. U+FEFF is an ordinary character and stays
//! [MQTT-1.5.4-3]; control characters and non-characters, which the standards only advise against,
//! pass. The two length bytes in front bound every string to 65,535 bytes.

use crate::reject::Reject;

/// A UTF-8 string.
///
/// # Errors
/// Malformed if it is not well-formed UTF-8 [MQTT-1.5.4-1] or holds U+0000 [MQTT-1.5.4-2].
#[inline]
pub fn string(bytes: &[u8]) -> Result<&str, Reject> {
    let text = str::from_utf8(bytes).map_err(|_| Reject::malformed("string that is not UTF-8"))?;
    if bytes.contains(&0) {
        return Err(Reject::malformed("string with U+0000"));
    }
    Ok(text)
}

/// A topic name, empty or not: a string without wildcard characters [MQTT-3.3.2-2].
///
/// # Errors
/// Malformed if it is no string, or has a wildcard.
#[inline]
pub fn topic_name(bytes: &[u8]) -> Result<&str, Reject> {
    let text = str::from_utf8(bytes).map_err(|_| Reject::malformed("topic that is not UTF-8"))?;
    if has_forbidden(bytes) {
        return Err(Reject::malformed("topic name with a wildcard or U+0000"));
    }
    Ok(text)
}

/// True if `text` has a wildcard character anywhere.
#[must_use]
pub fn has_wildcard(text: &str) -> bool {
    text.bytes().any(|byte| byte == b'+' || byte == b'#')
}

/// True if there is a wildcard character or U+0000, eight bytes at a time.
#[inline]
fn has_forbidden(bytes: &[u8]) -> bool {
    let (words, _) = bytes.as_chunks::<8>();
    match bytes.last_chunk::<8>() {
        // The last eight bytes overlap the words before them, so that no byte is left over.
        Some(&last) => {
            let hits = words.iter().fold(hits(last), |found, &word| found | hits(word));
            hits != 0
        }
        None => bytes.iter().any(|&byte| byte == 0 || byte == b'+' || byte == b'#'),
    }
}

/// Not 0 if one of eight bytes is forbidden.
#[inline]
fn hits(word: [u8; 8]) -> u64 {
    let word = u64::from_ne_bytes(word);
    zeros(word) | zeros(word ^ PLUS) | zeros(word ^ HASH)
}

/// Not 0 if one of eight bytes is 0: only such a byte, or one above it, borrows into its highest
/// bit without having had it.
#[inline]
fn zeros(word: u64) -> u64 {
    word.wrapping_sub(ONES) & !word & (ONES << 7)
}

const ONES: u64 = 0x0101_0101_0101_0101;
const PLUS: u64 = u64::from_ne_bytes([b'+'; 8]);
const HASH: u64 = u64::from_ne_bytes([b'#'; 8]);

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(bytes: &[u8], as_string: bool, as_topic: bool) {
        assert_eq!(string(bytes).is_ok(), as_string, "string {bytes:02x?}");
        assert_eq!(topic_name(bytes).is_ok(), as_topic, "topic {bytes:02x?}");
    }

    #[test]
    fn mqtt_1_5_4_1_only_well_formed_utf8() {
        check("a/ä/€/𝄞".as_bytes(), true, true);
        check(&[0xED, 0xA0, 0x80], false, false);
        check(&[0xED, 0xBF, 0xBF], false, false);
        check(&[0xC0, 0x80], false, false);
        check(&[0xC3], false, false);
        check(&[0xF4, 0x90, 0x80, 0x80], false, false);
        check(&[0xFF], false, false);
    }

    #[test]
    fn mqtt_1_5_4_2_no_nul() {
        check(b"a\0b", false, false);
        check(b"\0", false, false);
        check(b"a\x01\x7f", true, true);
    }

    #[test]
    fn mqtt_1_5_4_3_feff_is_kept() {
        assert_eq!(string(&[0xEF, 0xBB, 0xBF, b'a']), Ok("\u{FEFF}a"));
        assert_eq!(topic_name(&[0xEF, 0xBB, 0xBF]), Ok("\u{FEFF}"));
        check("\u{FFFE}\u{FFFF}".as_bytes(), true, true);
    }

    #[test]
    fn mqtt_3_3_2_2_no_wildcards_in_a_topic_name() {
        check(b"a/+/b", true, false);
        check(b"a/#", true, false);
        check(b"", true, true);
    }

    #[test]
    fn forbidden_bytes_are_found_wherever_they_are() {
        for count in 0..40 {
            for filler in [1, b'a', b'"', b'$', b'*', b',', 0x7F] {
                let mut bytes = vec![filler; count];
                check(&bytes, true, true);
                for index in 0..count {
                    for (forbidden, as_string) in [(0, false), (b'+', true), (b'#', true)] {
                        bytes[index] = forbidden;
                        check(&bytes, as_string, false);
                    }
                    bytes[index] = filler;
                }
            }
        }
    }
}
