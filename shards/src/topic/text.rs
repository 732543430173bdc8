//! The text of one level of a filter as nodes keep it, and as lookups want it.

use super::hash::Seeded;

/// Longest level that lies in its node.
pub(super) const SHORT_BYTES_MAX: usize = 11;

/// In place of a length: the level lies elsewhere.
const LONG: u8 = u8::MAX;

/// Bytes of a topic that are looked at together.
const WINDOW: usize = 16;

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
        let mut window = [b'/'; WINDOW];
        let room = window.get_mut(..level.len()).filter(|room| room.len() <= SHORT_BYTES_MAX)?;
        room.copy_from_slice(level);
        Self::cut(&window)
    }

    /// The level that ends before the first `/` of the window; `None` if it is too long, or there
    /// is no window. Without a loop over bytes: nobody could predict how often it runs.
    #[inline]
    fn cut(window: &[u8]) -> Option<Self> {
        let (head, tail) = window.split_first_chunk()?;
        let [head, tail] = [head, tail.first_chunk()?].map(|half| u64::from_le_bytes(*half));
        if let Some(count) = bytes_before_slash(head) {
            return Some(Self::of(head & low_bytes(count), 0, count));
        }
        let count = bytes_before_slash(tail).filter(|&count| count <= 3)?;
        Some(Self::of(head, tail & low_bytes(count), 8 + count))
    }

    #[inline]
    #[expect(clippy::cast_possible_truncation, reason = "cut in words")]
    fn of(head: u64, tail: u64, count: u32) -> Self {
        Self { head: [head as u32, (head >> 32) as u32], tail: tail as u32 | count << 24 }
    }

    pub(super) fn long(number: u32) -> Self {
        Self { head: [number, 0], tail: u32::from(LONG) << 24 }
    }

    /// The number of a level that is too long.
    pub(super) fn long_number(self) -> Option<u32> {
        let [number, _] = self.head;
        (self.count() == LONG).then_some(number)
    }

    /// The level's bytes and how many they are. Not for a long one.
    pub(super) fn bytes(self) -> ([u8; SHORT_BYTES_MAX], usize) {
        let [first, second] = self.head;
        let [a, b, c, d] = first.to_le_bytes();
        let [e, f, g, h] = second.to_le_bytes();
        let [i, j, k, _] = self.tail.to_le_bytes();
        let count = usize::from(self.count()).min(SHORT_BYTES_MAX);
        ([a, b, c, d, e, f, g, h, i, j, k], count)
    }

    /// How many bytes a short level has.
    fn count(self) -> u8 {
        let [.., count] = self.tail.to_le_bytes();
        count
    }

    fn hash(self, keys: Seeded) -> u64 {
        let [first, second] = self.head.map(u64::from);
        keys.half_pair(second << 32 | first, u64::from(self.tail))
    }
}

/// How many of the eight bytes come before the first `/`.
#[inline]
fn bytes_before_slash(word: u64) -> Option<u32> {
    const ONES: u64 = u64::from_le_bytes([1; 8]);
    const HIGH_BITS: u64 = ONES << 7;
    const SLASHES: u64 = u64::from_le_bytes([b'/'; 8]);
    let differs = word ^ SLASHES;
    // The lowest bit set here is the high one of the first byte of `differs` that is zero.
    let slashes = differs.wrapping_sub(ONES) & !differs & HIGH_BITS;
    (slashes != 0).then(|| slashes.trailing_zeros() / 8)
}

/// Words of a level that are looked at one by one.
const NEAR_WORDS: usize = 4;

/// Where the first `/` is, in words and, where a level is long, in blocks: it may have 65,535 bytes. What is
/// behind the last whole word is not looked at; a window of `/` stands there.
#[inline]
pub(super) fn slash(bytes: &[u8]) -> Option<usize> {
    let (words, _) = bytes.as_chunks::<8>();
    let (near, far) = words.split_at(words.len().min(NEAR_WORDS));
    slash_in_words(near).or_else(|| Some(8 * NEAR_WORDS + slash_far_off(far)?))
}

fn slash_in_words(words: &[[u8; 8]]) -> Option<usize> {
    let before = |word: &[u8; 8]| bytes_before_slash(u64::from_le_bytes(*word));
    let (at, count) =
        words.iter().map(before).enumerate().find_map(|(at, found)| Some((at, found?)))?;
    Some(8 * at + count as usize)
}

/// Passes over blocks of 64 bytes, which the compiler compares all at once.
#[inline(never)]
fn slash_far_off(words: &[[u8; 8]]) -> Option<usize> {
    let (blocks, _) = words.as_chunks::<8>();
    let has_none = |block: &&[[u8; 8]; 8]| {
        !block.as_flattened().iter().fold(false, |found, &byte| found | (byte == b'/'))
    };
    let passed = 8 * blocks.iter().take_while(has_none).count();
    Some(8 * passed + slash_in_words(words.get(passed..)?)?)
}

/// A mask for up to seven bytes.
#[inline]
fn low_bytes(count: u32) -> u64 {
    (1_u64 << (8 * count)) - 1
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
        Self { level, digest: LevelDigest::new(keys, level, Text::short(level)) }
    }
}

impl LevelDigest {
    #[inline]
    fn new(keys: Seeded, level: &[u8], text: Option<Text>) -> Self {
        let hash = match text {
            Some(text) => text.hash(keys),
            None => keys.bytes(level),
        };
        Self { text, hash }
    }

    pub(super) fn is_wildcard(self) -> bool {
        self.text == Some(Text::PLUS) || self.text == Some(Text::HASH)
    }
}

/// The keys of a topic's levels, one after the other.
#[derive(Debug)]
pub(super) struct TopicKeys<'a> {
    keys: Seeded,
    /// From the level that is next, with a window of `/` behind the last one.
    rest: &'a [u8],
}

impl<'a> TopicKeys<'a> {
    /// `room` takes a copy of the topic.
    #[inline(always)]
    pub(super) fn new(keys: Seeded, topic: &str, room: &'a mut Vec<u8>) -> Self {
        room.clear();
        room.reserve(topic.len() + WINDOW);
        room.extend_from_slice(topic.as_bytes());
        room.extend_from_slice(&[b'/'; WINDOW]);
        Self { keys, rest: room }
    }

    /// Those from a byte of `room` on, where a level begins; [`Self::new`] has filled it.
    pub(super) fn resume(keys: Seeded, room: &'a [u8], at: usize) -> Self {
        Self { keys, rest: room.get(at..).unwrap_or_default() }
    }

    /// How many bytes of the room are left.
    pub(super) fn rest_bytes(&self) -> usize {
        self.rest.len()
    }
}

impl<'a> Iterator for TopicKeys<'a> {
    type Item = LevelKey<'a>;

    #[inline(always)]
    fn next(&mut self) -> Option<LevelKey<'a>> {
        // Behind the `/` that ends the last level there is less than a window.
        let text = Text::cut(self.rest.first_chunk::<WINDOW>()?);
        let count = match text {
            Some(text) => usize::from(text.count()),
            None => slash(self.rest)?,
        };
        let (level, rest) = self.rest.split_at_checked(count)?;
        self.rest = rest.get(1..)?;
        Some(LevelKey { level, digest: LevelDigest::new(self.keys, level, text) })
    }
}

#[cfg(test)]
mod tests {
    use super::super::name::levels;
    use super::super::tests::Random;
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
        assert_eq!(Text::short(&[b'x'; 17]), None);
        assert_eq!(Text::long(77).long_number(), Some(77));
        assert_eq!(Text::short(b"+"), Some(Text::PLUS));
        assert_eq!(Text::short(b"#"), Some(Text::HASH));
        assert_ne!(Text::short(b"a"), Text::short(b"a\0"));
    }

    #[test]
    fn slashes_are_found_wherever_they_are() {
        for count in (0..400).step_by(8) {
            for at in 0..=count {
                let mut bytes = vec![b'.'; count];
                for later in (at..count).step_by(5) {
                    bytes[later] = b'/';
                }
                assert_eq!(slash(&bytes), (at < count).then_some(at), "{at} of {count}");
            }
        }
    }

    /// Bytes beside `/` in value, and levels of every length around those that matter.
    #[test]
    fn keys_of_a_topic_are_those_of_its_levels() {
        let keys = Seeded::new(3);
        let mut random = Random(3);
        let mut room = Vec::new();
        for _ in 0..20_000 {
            let bytes = ['/', '/', '.', '0', '\u{1}', '\u{80}', '\u{7ff}', 'x'];
            let longest = 1 + random.below(40);
            let mut topic = String::new();
            for _ in 0..1 + random.below(80) {
                let place = random.below(bytes.len() as u64 + longest);
                topic.push(*bytes.get(usize::try_from(place).unwrap()).unwrap_or(&'y'));
            }
            let got = TopicKeys::new(keys, &topic, &mut room);
            let got = got.map(|key| (key.level.to_vec(), key.digest.text, key.digest.hash));
            let want = levels(&topic).map(|level| LevelKey::new(keys, level.as_bytes()));
            let want = want.map(|key| (key.level.to_vec(), key.digest.text, key.digest.hash));
            assert!(got.eq(want), "{topic:?}");
        }
    }
}
