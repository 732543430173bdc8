//! UTF-8 strings and topic names as the standards restrict them.
//!
//! Both must be well-formed UTF-8 without U+0000. U+FEFF is an ordinary character and stays
//! [MQTT-1.5.4-3]; control characters and non-characters, which the standards only advise against,
//! pass. The two length bytes in front bound every string to 65,535 bytes.

use crate::reject::Reject;

/// Above this, a string is looked at in blocks.
const LONG_BYTES: usize = 256;

/// A UTF-8 string.
///
/// # Errors
/// Malformed if it is not well-formed UTF-8 [MQTT-1.5.4-1] or holds U+0000 [MQTT-1.5.4-2].
#[inline]
pub fn string(bytes: &[u8]) -> Result<&str, Reject> {
    let text = str::from_utf8(bytes).map_err(|_| Reject::malformed("string that is not UTF-8"))?;
    if any(bytes, zeros, |byte| byte == 0) {
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
    let is_forbidden = |byte| byte == 0 || byte == b'+' || byte == b'#';
    if any(bytes, |word| zeros(word) | wildcards(word), is_forbidden) {
        return Err(Reject::malformed("topic name with a wildcard or U+0000"));
    }
    Ok(text)
}

/// True if `text` has a wildcard character anywhere.
#[must_use]
pub fn has_wildcard(text: &str) -> bool {
    text.bytes().any(|byte| byte == b'+' || byte == b'#')
}

/// True if one of `bytes` is what `hits` looks for in eight bytes at a time and `is_hit` in one.
#[inline]
fn any(bytes: &[u8], hits: impl Fn(u64) -> u64, is_hit: impl Fn(u8) -> bool) -> bool {
    let Some(&last) = bytes.last_chunk::<8>() else {
        return bytes.iter().any(|&byte| is_hit(byte));
    };
    if bytes.len() > LONG_BYTES {
        return any_in_blocks(bytes, is_hit);
    }
    // The last eight bytes overlap the words before them, so that no byte is left over. No early
    // exit: nearly every string is good.
    let (words, _) = bytes.as_chunks::<8>();
    let found = words.iter().fold(hits(u64::from_ne_bytes(last)), |found, &word| {
        found | hits(u64::from_ne_bytes(word))
    });
    found != 0
}

/// [`any`] for many bytes: the compiler compares as many at once as the processor can.
#[inline(never)]
fn any_in_blocks(bytes: &[u8], is_hit: impl Fn(u8) -> bool) -> bool {
    let (blocks, rest) = bytes.as_chunks::<64>();
    let in_block = |block: &[u8; 64]| block.iter().fold(false, |any, &byte| any | is_hit(byte));
    blocks.iter().any(in_block) || rest.iter().any(|&byte| is_hit(byte))
}

/// Not 0 if one of eight bytes is 0: only such a byte, or one above it, borrows into its highest
/// bit without having had it.
#[inline]
fn zeros(word: u64) -> u64 {
    word.wrapping_sub(each(1)) & !word & each(0x80)
}

/// Not 0 if one of eight bytes is `+` (0x2B) or `#` (0x23), which differ in one bit.
#[inline]
fn wildcards(word: u64) -> u64 {
    zeros((word | each(0x08)) ^ each(0x2B))
}

const fn each(byte: u8) -> u64 {
    u64::from_ne_bytes([byte; 8])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(bytes: &[u8], as_string: bool, as_topic: bool) {
        assert_eq!(string(bytes).is_ok(), as_string, "string {bytes:02x?}");
        assert_eq!(topic_name(bytes).is_ok(), as_topic, "topic {bytes:02x?}");
    }

    #[test]
    fn mqtt_5_1_5_4_1_only_well_formed_utf8() {
        check("a/ä/€/𝄞".as_bytes(), true, true);
        check(&[0xED, 0xA0, 0x80], false, false);
        check(&[0xED, 0xBF, 0xBF], false, false);
        check(&[0xC0, 0x80], false, false);
        check(&[0xC3], false, false);
        check(&[0xF4, 0x90, 0x80, 0x80], false, false);
        check(&[0xFF], false, false);
    }

    #[test]
    fn mqtt_5_1_5_4_2_no_nul() {
        check(b"a\0b", false, false);
        check(b"\0", false, false);
        check(b"a\x01\x7f", true, true);
    }

    #[test]
    fn mqtt_5_1_5_4_3_feff_is_kept() {
        assert_eq!(string(&[0xEF, 0xBB, 0xBF, b'a']), Ok("\u{FEFF}a"));
        assert_eq!(topic_name(&[0xEF, 0xBB, 0xBF]), Ok("\u{FEFF}"));
        check("\u{FFFE}\u{FFFF}".as_bytes(), true, true);
    }

    #[test]
    fn mqtt_5_3_3_2_2_no_wildcards_in_a_topic_name() {
        check(b"a/+/b", true, false);
        check(b"a/#", true, false);
        check(b"", true, true);
    }

    #[test]
    fn forbidden_bytes_are_found_wherever_they_are() {
        for count in (0..40).chain([LONG_BYTES, LONG_BYTES + 1, LONG_BYTES + 64, LONG_BYTES + 67]) {
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
