//! The text of one level of a filter as nodes keep it, and as lookups want it.

use super::hash::Seeded;

/// Longest level that lies in its node.
pub(super) const SHORT_BYTES_MAX: usize = 11;

/// In place of a length: the level lies elsewhere.
const LONG: u8 = u8::MAX;

/// A level of up to 11 bytes, or the number of a longer one.
///
/// The bytes from the first on, filled up with zeros, and last the length: equal levels are equal
/// words.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Text {
    /// Two words and not one: nodes are packed to four bytes.
    head: [u32; 2],
    tail: u32,
}

impl Text {
    pub(super) const PLUS: Self = Self { head: [b'+' as u32, 0], tail: 1 << 24 };
    pub(super) const HASH: Self = Self { head: [b'#' as u32, 0], tail: 1 << 24 };

    /// `None` if the level is too long.
    pub(super) fn short(level: &[u8]) -> Option<Self> {
        let count = u32::try_from(level.len()).ok().filter(|&count| count <= 11)?;
        let length = count << 24;
        let (first, last) = (level.first_chunk::<4>(), level.last_chunk::<4>());
        let (Some(first), Some(last)) = (first, last) else {
            return Some(Self { head: [tiny(level), 0], tail: length });
        };
        // The last four bytes overlap those before them, and where they do they are the same.
        let last = u32::from_le_bytes(*last);
        match level.first_chunk::<8>() {
            None => {
                let first = u32::from_le_bytes(*first);
                let second = last.checked_shr(8 * (8 - count)).unwrap_or(0);
                Some(Self { head: [first, second], tail: length })
            }
            Some([a, b, c, d, e, f, g, h]) => {
                let first = u32::from_le_bytes([*a, *b, *c, *d]);
                let second = u32::from_le_bytes([*e, *f, *g, *h]);
                let tail = last.checked_shr(8 * (12 - count)).unwrap_or(0);
                Some(Self { head: [first, second], tail: length | tail })
            }
        }
    }

    pub(super) fn long(number: u32) -> Self {
        Self { head: [number, 0], tail: u32::from(LONG) << 24 }
    }

    /// The number of a level that is too long.
    pub(super) fn long_number(self) -> Option<u32> {
        let [.., count] = self.tail.to_le_bytes();
        let [number, _] = self.head;
        (count == LONG).then_some(number)
    }

    /// The level's bytes and how many they are. Not for a long one.
    pub(super) fn bytes(self) -> ([u8; SHORT_BYTES_MAX], usize) {
        let [first, second] = self.head;
        let [a, b, c, d] = first.to_le_bytes();
        let [e, f, g, h] = second.to_le_bytes();
        let [i, j, k, count] = self.tail.to_le_bytes();
        ([a, b, c, d, e, f, g, h, i, j, k], usize::from(count).min(SHORT_BYTES_MAX))
    }

    fn hash(self, keys: Seeded) -> u64 {
        let [first, second] = self.head.map(u64::from);
        keys.half_pair(second << 32 | first, u64::from(self.tail))
    }
}

/// Up to three bytes.
fn tiny(level: &[u8]) -> u32 {
    u32::from_le_bytes(match *level {
        [] => [0; 4],
        [a] => [a, 0, 0, 0],
        [a, b] => [a, b, 0, 0],
        [a, b, c, ..] => [a, b, c, 0],
    })
}

/// One level and all that looking for it needs, made once per level of a topic.
#[derive(Clone, Copy, Debug)]
pub(super) struct LevelKey<'a> {
    pub(super) level: &'a [u8],
    pub(super) digest: LevelDigest,
}

/// What remains of a [`LevelKey`] without the level itself.
#[derive(Clone, Copy, Debug)]
pub(super) struct LevelDigest {
    /// As a node has it; `None`: it is long.
    pub(super) text: Option<Text>,
    pub(super) hash: u64,
}

impl<'a> LevelKey<'a> {
    pub(super) fn new(keys: Seeded, level: &'a [u8]) -> Self {
        Self { level, digest: LevelDigest::new(keys, level) }
    }
}

impl LevelDigest {
    fn new(keys: Seeded, level: &[u8]) -> Self {
        let text = Text::short(level);
        let hash = text.map_or_else(|| keys.bytes(level), |text| text.hash(keys));
        Self { text, hash }
    }

    pub(super) fn is_wildcard(self) -> bool {
        self.text == Some(Text::PLUS) || self.text == Some(Text::HASH)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn short_levels_survive() {
        let all = b"abcdefghijkl";
        for count in 0..=SHORT_BYTES_MAX {
            let level = &all[..count];
            let text = Text::short(level).unwrap();
            let (bytes, bytes_count) = text.bytes();
            assert_eq!(&bytes[..bytes_count], level);
            assert_eq!(text.long_number(), None);
        }
        assert_eq!(Text::short(all), None);
        assert_eq!(Text::long(77).long_number(), Some(77));
        assert_eq!(Text::short(b"+"), Some(Text::PLUS));
        assert_eq!(Text::short(b"#"), Some(Text::HASH));
        assert_ne!(Text::short(b"a"), Text::short(b"a\0"));
    }
}
